"""Random lives of a group, against what must always hold.

Members join, leave, go away and come back, heartbeat in time or late, lose answers, repeat requests, hold on to what
they should give up; commits and seeks run beside; topics change, the clock jumps, the disk fills, the process dies
before or after any write. Always:

    no two members believe to own a partition, or may commit it
    a commit is taken exactly from the member that owns the partition, in its current epoch
    what was committed or sought last is what is read, also after a restart
    a seek is never overwritten by a member that got the partition before it
    once faults stop, every group settles: everything assigned, evenly, and every member knows it
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from consumer_groups.config import GroupConfig
from consumer_groups.coordinator import GroupCoordinator
from consumer_groups.errors import (
    FencedInstanceId,
    FencedMemberEpoch,
    GroupError,
    GroupIdNotFound,
    GroupMaxSizeReached,
    GroupsUnavailable,
    InvalidRequest,
    NonEmptyGroup,
    PartitionNotOwned,
    SeekInProgress,
    SeekTimedOut,
    ShuttingDown,
    StaleMemberEpoch,
    UnknownMemberId,
    UnreleasedInstanceId,
)
from consumer_groups.live import RETRY_MS
from consumer_groups.requests import (
    AWAY_EPOCH,
    LEAVE_EPOCH,
    GroupState,
    HeartbeatReply,
    HeartbeatRequest,
    OffsetCommit,
    Partition,
    SeekTarget,
)
from logstore.errors import LogStoreError, OffsetOutOfRange, StorageFull, UnknownTopicId, UnknownTopicOrPartition
from tests.consumer_groups.fakes import FakeClock, FakeTopics, MemoryJournal
from tests.consumer_groups.model import REBALANCE_TIMEOUT_MS, ModelMember, partitions_of

Result = TypeVar("Result")
CONFIG = GroupConfig(session_timeout_ms=45_000, rebalance_timeout_ms=REBALANCE_TIMEOUT_MS, members_max=6)
TOPICS = ("t0", "t1", "t2")
SUBSCRIPTIONS = [("t0",), ("t0", "t1"), ("t1", "t2"), ("t0", "t1", "t2")]
#: More turns of the loop than anything takes here that is not waiting for a time or a heartbeat.
SETTLE_TURNS = 15
OUTCOMES = ["answered", "answered", "answered", "answer lost", "request lost", "repeated"]


class GroupMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.topics = FakeTopics()
        self.journal = MemoryJournal()
        self.members: list[ModelMember] = []
        self.made = 0
        self.step = 0
        # What is committed, with the step of the last seek; and where a crash leaves the choice, what it may be.
        self.offsets: dict[Partition, int] = {}
        self.maybe: list[dict[Partition, int]] = []
        self.sought_step: dict[Partition, int] = {}
        self.seeks: list[tuple[asyncio.Task[Any], set[Partition], SeekTarget]] = []
        self.parked: dict[str, tuple[asyncio.Task[HeartbeatReply], HeartbeatRequest, int]] = {}
        self.coordinator = self.new_coordinator()

    @initialize(counts=st.lists(st.integers(1, 5), min_size=2, max_size=2))
    def make_topics(self, counts: list[int]) -> None:
        for name, count in zip(TOPICS, counts, strict=False):
            self.topics.create(name, count)

    # Members.

    @precondition(lambda self: len(self.members) < 5)
    @rule(topics=st.sampled_from(SUBSCRIPTIONS), instance=st.sampled_from(["", "", "", "i0", "i1"]))
    def new_member(self, topics: tuple[str, ...], instance: str) -> None:
        self.made += 1
        member = ModelMember(f"m{self.made}", topics, instance)
        self.members.append(member)
        self.beat(member, "answered")

    @precondition(lambda self: self.members)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES), full=st.booleans())
    def heartbeat(self, data: st.DataObject, outcome: str, full: bool) -> None:
        self.beat(self.draw_member(data), outcome, full=full)

    @precondition(lambda self: self.members)
    @rule(outcome=st.sampled_from(["answered", "answered", "answer lost"]))
    def everyone_heartbeats(self, outcome: str) -> None:
        for member in list(self.members):
            self.beat(member, outcome)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def heartbeat_that_waits(self, data: st.DataObject) -> None:
        member = self.draw_member(data)
        self.hang_up(member)
        self.mind_own_session(member)
        request = member.request()
        task = self.loop.create_task(self.coordinator.heartbeat(request, 5_000))
        self.parked[member.member_id] = task, request, self.clock.now_ms
        self.after()

    @precondition(lambda self: self.parked)
    @rule(data=st.data())
    def hang_up_on_a_waiting_heartbeat(self, data: st.DataObject) -> None:
        member_id = data.draw(st.sampled_from(sorted(self.parked)))
        self.hang_up(next(member for member in self.members if member.member_id == member_id))

    @precondition(lambda self: self.members)
    @rule(data=st.data(), topics=st.sampled_from(SUBSCRIPTIONS))
    def change_subscription(self, data: st.DataObject, topics: tuple[str, ...]) -> None:
        member = self.draw_member(data)
        member.topics = topics
        self.beat(member, "answered", full=True)

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def turn_stubborn(self, data: st.DataObject) -> None:
        self.draw_member(data).stubborn = True

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def come_to_reason(self, data: st.DataObject) -> None:
        member = self.draw_member(data)
        member.stubborn, member.overdue = False, set()

    @precondition(lambda self: self.members)
    @rule(data=st.data(), lost=st.booleans())
    def leave(self, data: st.DataObject, lost: bool) -> None:
        member = self.draw_member(data)
        self.forget(member)
        if not lost:
            self.try_heartbeat(HeartbeatRequest("g", member.member_id, LEAVE_EPOCH))

    @precondition(lambda self: any(member.instance_id for member in self.members))
    @rule(data=st.data(), comes_back=st.booleans())
    def bounce(self, data: st.DataObject, comes_back: bool) -> None:
        member = data.draw(st.sampled_from([member for member in self.members if member.instance_id]))
        self.forget(member)
        self.try_heartbeat(HeartbeatRequest("g", member.member_id, AWAY_EPOCH, instance_id=member.instance_id))
        if comes_back:
            self.new_member(member.topics, member.instance_id)

    # Offsets.

    @precondition(lambda self: self.members and self.topics.names())
    @rule(data=st.data(), offset=st.integers(0, 100))
    def commit(self, data: st.DataObject, offset: int) -> None:
        """Of what it owns, should have given up, or has nothing to do with; sometimes in a wrong epoch."""
        member = self.draw_member(data)
        partition = data.draw(st.sampled_from(sorted(self.all_partitions() | member.owned | member.overdue)))
        epoch = member.epoch + data.draw(st.sampled_from([0, 0, 0, 0, -1, 1]))
        self.try_commit(member.member_id, epoch, partition, offset, member)

    @rule(offset=st.integers(0, 100), epochs_back=st.sampled_from([0, 0, 1, 2]))
    def everyone_commits(self, offset: int, epochs_back: int) -> None:
        for member in list(self.members):
            for partition in sorted(member.owned | member.overdue):
                self.try_commit(member.member_id, member.epoch - epochs_back, partition, offset, member)

    @rule(data=st.data(), offset=st.integers(0, 100))
    def commit_from_outside(self, data: st.DataObject, offset: int) -> None:
        partitions = sorted(self.all_partitions())
        if partitions:
            self.try_commit("", -1, data.draw(st.sampled_from(partitions)), offset, None)

    @rule(data=st.data(), offset=st.integers(0, 110), shift=st.none() | st.integers(-20, 20), dry_run=st.booleans())
    def seek(self, data: st.DataObject, offset: int, shift: int | None, dry_run: bool) -> None:
        if not self.topics.names():
            return
        info = self.topics.topic(data.draw(st.sampled_from(self.topics.names())))
        assert info is not None
        numbers = data.draw(st.sets(st.integers(0, info.partitions - 1)))
        target = SeekTarget(offset=offset) if shift is None else SeekTarget(shift_by=shift)
        before = dict(self.offsets)
        task = self.loop.create_task(self.coordinator.seek("g", info.name, sorted(numbers), target, dry_run))
        self.settle()
        if dry_run:
            assert task.done()
            if task.exception() is None:
                for row in task.result():
                    partition = Partition(info.topic_id, row.partition)
                    assert before.get(partition, -1) == row.old_offset
            return
        chosen = {Partition(info.topic_id, number) for number in numbers or range(info.partitions)}
        self.seeks.append((task, chosen, target))
        self.notice()

    # The world.

    @rule(ms=st.sampled_from([1, 100, 300, 3_000, 20_000, 44_999, 45_000, 60_000]))
    def time_passes(self, ms: int) -> None:
        self.clock.now_ms += ms
        self.run_timers()

    @rule(name=st.sampled_from(TOPICS), count=st.integers(1, 5))
    def topics_change(self, name: str, count: int) -> None:
        info = self.topics.topic(name)
        if info is None:
            self.topics.create(name, count)
        elif count > info.partitions:
            self.topics.add_partitions(name, count)
        else:
            self.topics.delete(name)
            for partition in list(self.offsets):
                if partition.topic_id == info.topic_id:
                    del self.offsets[partition]
        self.call(self.coordinator.topics_changed)

    @rule()
    def the_disk_fills_or_is_emptied(self) -> None:
        self.journal.full_after = None if self.journal.full else self.journal.appends
        if not self.journal.full:  # what could not be written is tried again
            self.clock.now_ms += RETRY_MS
            self.run_timers()

    @rule()
    def the_server_stops_and_starts(self) -> None:
        self.journal.full_after = None
        self.run(self.coordinator.stop())
        self.notice()
        self.restart()

    @rule(kept=st.booleans())
    def the_next_write_is_the_last(self, kept: bool) -> None:
        self.journal.crash_after = self.journal.appends
        self.journal.crash_keeps_last = kept

    @rule()
    def the_server_is_killed(self) -> None:
        self.crash()

    # What must always hold.

    @invariant()
    def no_partition_has_two_believers(self) -> None:
        owners: dict[Partition, str] = {}
        for member in self.members:
            for partition in member.believes(self.clock.now_ms, CONFIG.session_timeout_ms):
                assert partition not in owners, f"{member.member_id} and {owners[partition]} own {partition}"
                owners[partition] = member.member_id

    @invariant()
    def no_partition_has_two_who_may_commit(self) -> None:
        seen: dict[Partition, str] = {}
        for member_id, (_, held) in self.server_members().items():
            for partition in held:
                assert partition not in seen, f"{member_id} and {seen[partition]} may commit {partition}"
                seen[partition] = member_id

    @invariant()
    def what_was_committed_is_what_is_read(self) -> None:
        if not self.maybe:
            assert self.fetched() == self.offsets

    def teardown(self) -> None:
        try:
            if self.topics.names() or self.members:
                self.settle_down()
        finally:
            for task, _, _ in self.parked.values():
                task.cancel()
            self.run(self.coordinator.stop())
            self.loop.close()

    def settle_down(self) -> None:
        """Faults stop: everybody is reasonable and punctual, and soon nothing moves any more."""
        self.journal.full_after = None
        if self.journal.crash_after is not None:
            self.crash()
        for member in list(self.members):
            self.hang_up(member)
            member.stubborn, member.overdue = False, set()
        self.clock.now_ms += CONFIG.seek_timeout_ms
        self.run_timers()
        for _ in range(12):
            for member in list(self.members):
                self.beat(member, "answered")
            self.clock.now_ms += 1_000
            self.run_timers()
            self.no_partition_has_two_believers()
            self.what_was_committed_is_what_is_read()
        # A static member that another took the place of is out for good.
        self.members = [member for member in self.members if not member.gone]
        assert not self.seeks, "every seek ends"
        if not self.members:
            return
        description = self.coordinator.describe_group("g")
        left = {member.member_id for member in description.members} - {member.member_id for member in self.members}
        if left:  # who left without a word, is fenced in time
            for _ in range(50):
                self.clock.now_ms += 1_000
                self.run_timers()
                for member in list(self.members):
                    self.beat(member, "answered")
            description = self.coordinator.describe_group("g")
        assert description.state is GroupState.STABLE
        assert {member.member_id for member in description.members} == {m.member_id for m in self.members}
        self.everything_is_assigned_evenly()

    def everything_is_assigned_evenly(self) -> None:
        subscribed = {name for member in self.members for name in member.topics}
        wanted = {
            Partition(info.topic_id, number)
            for name in subscribed
            if (info := self.topics.topic(name)) is not None
            for number in range(info.partitions)
        }
        assert set().union(*(member.owned for member in self.members)) == wanted
        names = {info.topic_id: name for name in TOPICS if (info := self.topics.topic(name)) is not None}
        for giver in self.members:
            for partition in giver.owned:
                for receiver in self.members:
                    if names[partition.topic_id] in receiver.topics:
                        assert len(giver.owned) - len(receiver.owned) <= 1

    # How it is done.

    def draw_member(self, data: st.DataObject) -> ModelMember:
        return self.members[data.draw(st.integers(0, len(self.members) - 1))]

    def beat(self, member: ModelMember, outcome: str, *, full: bool = False) -> None:
        self.hang_up(member)
        self.mind_own_session(member)
        request = member.request(full=full)
        sent_ms = self.clock.now_ms
        if outcome == "request lost":
            member.miss()
            return
        reply = self.try_heartbeat(request)
        if outcome == "repeated":
            reply = self.try_heartbeat(request)
        if outcome == "answer lost":
            member.miss()
            return
        self.take_answer(member, request, reply, sent_ms)

    def take_answer(
        self, member: ModelMember, request: HeartbeatRequest, reply: HeartbeatReply | BaseException, sent_ms: int
    ) -> None:
        match reply:
            case HeartbeatReply():
                member.answer(request, reply, sent_ms, self.step)
            case FencedMemberEpoch() | UnknownMemberId():
                member.lose_everything()
            case FencedInstanceId() | UnreleasedInstanceId():
                self.forget(member)
            case StorageFull() | GroupsUnavailable() | ShuttingDown() | GroupMaxSizeReached():
                member.miss()
            case _:
                raise reply

    def mind_own_session(self, member: ModelMember) -> None:
        if member.epoch > 0 and self.clock.now_ms - member.answered_ms >= CONFIG.session_timeout_ms:
            member.lose_everything()

    def hang_up(self, member: ModelMember) -> None:
        parked = self.parked.pop(member.member_id, None)
        if parked is not None:
            parked[0].cancel()
            self.settle()
            member.miss()

    def forget(self, member: ModelMember) -> None:
        self.hang_up(member)
        member.lose_everything()
        member.gone = True
        self.members.remove(member)

    def try_heartbeat(self, request: HeartbeatRequest) -> HeartbeatReply | BaseException:
        return self.attempt(self.coordinator.heartbeat(request, 0))

    def try_commit(
        self, member_id: str, epoch: int, partition: Partition, offset: int, member: ModelMember | None
    ) -> None:
        info = self.topics.topic_by_id(partition.topic_id)
        name = "" if info is None else info.name
        # Expected of the server, by what it shows of itself: but first what has run out by now is gone.
        self.run_timers()
        servers = self.server_members()
        commit = OffsetCommit(name, partition.number, offset, topic_id=partition.topic_id)
        if info is not None and member_id and self.journal.crash_after is None and not self.journal.full:
            allowed = member_id in servers and servers[member_id][0] == epoch and partition in servers[member_id][1]
        else:
            allowed = None
        self.maybe = [dict(self.offsets), {**self.offsets, partition: offset}]  # should the process die in it
        results = self.attempt(self.coordinator.commit_offsets("g", member_id, epoch, [commit]))
        self.maybe = []
        outcome = results[0] if isinstance(results, list) else results
        match outcome:
            case None:
                assert info is not None
                assert allowed is not False, "a commit from somebody who does not own the partition was taken"
                if member is not None:
                    assert member.acquired.get(partition, -1) >= self.sought_step.get(partition, -1), (
                        "a seek was overwritten by a member that got the partition before"
                    )
                else:
                    assert not servers, "a commit from outside was taken while the group has members"
                for other in self.members:
                    if other is not member:
                        assert partition not in other.believes(self.clock.now_ms, CONFIG.session_timeout_ms)
                self.offsets[partition] = offset
            case GroupsUnavailable():
                pass  # The restart has told which of the two it is.
            case StorageFull():
                assert self.journal.full
            case UnknownMemberId() | StaleMemberEpoch() | PartitionNotOwned() | NonEmptyGroup():
                assert allowed is not True, "the owner's own commit was refused"
            case UnknownTopicId() | UnknownTopicOrPartition():
                assert info is None
            case _:
                raise AssertionError(outcome)
        self.after()

    def attempt(self, work: Coroutine[Any, Any, Result]) -> Result | BaseException:
        try:
            return self.run(work)
        except (GroupError, LogStoreError) as error:
            return error
        finally:
            self.after()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return self.loop.run_until_complete(work)

    def settle(self) -> None:
        async def settle() -> None:
            for _ in range(SETTLE_TURNS):
                await asyncio.sleep(0)

        self.run(settle())

    def after(self) -> None:
        self.settle()
        self.notice()

    def run_timers(self) -> None:
        self.call(self.coordinator.run_due)

    def call(self, function: Callable[[], None]) -> None:
        """Call what is no coroutine on the loop."""

        async def call() -> None:
            function()

        self.run(call())
        self.after()

    def notice(self) -> None:
        """See which seeks and waiting heartbeats have ended by now, and whether the process has."""
        self.step += 1
        for seek in list(self.seeks):
            if seek[0].done():
                self.seeks.remove(seek)
                self.seek_ended(*seek)
        for member_id, (task, request, sent_ms) in list(self.parked.items()):
            if task.done():
                del self.parked[member_id]
                member = next(member for member in self.members if member.member_id == member_id)
                error = task.exception()
                self.take_answer(member, request, error if error is not None else task.result(), sent_ms)
        if self.journal.crash_after is not None and self.journal.appends > self.journal.crash_after:
            self.crash()

    def seek_ended(self, task: "asyncio.Task[Any]", partitions: set[Partition], target: SeekTarget) -> None:
        error = task.exception()
        if error is None:
            for row in task.result():
                info = self.topics.topic(row.topic)
                assert info is not None
                partition = Partition(info.topic_id, row.partition)
                assert row.old_offset == self.offsets.get(partition, -1)
                assert row.new_offset == self.sought_offset(partition, target)
                self.offsets[partition] = row.new_offset
                self.sought_step[partition] = self.step
        elif isinstance(error, GroupsUnavailable):
            sought = {partition: self.sought_offset(partition, target) for partition in partitions}
            self.maybe = [*(self.maybe or [dict(self.offsets)]), {**self.offsets, **sought}]
        else:
            assert isinstance(
                error,
                (
                    SeekTimedOut,
                    SeekInProgress,
                    ShuttingDown,
                    StorageFull,
                    OffsetOutOfRange,
                    GroupIdNotFound,
                    InvalidRequest,
                    UnknownTopicId,
                    UnknownTopicOrPartition,
                ),
            ), error

    def sought_offset(self, partition: Partition, target: SeekTarget) -> int:
        if target.shift_by is not None:
            return self.offsets.get(partition, -1) + target.shift_by
        assert target.offset is not None
        return target.offset

    def crash(self) -> None:
        """The process is gone, with whatever it was doing; the journal stays."""
        self.journal.full_after = None
        for member_id in list(self.parked):
            self.hang_up(next(member for member in self.members if member.member_id == member_id))
        pending = self.seeks
        self.seeks = []
        for task, _, _ in pending:
            task.cancel()
        # Its tasks can write nothing more: the journal they have is not the one that goes on.
        old = self.coordinator
        self.journal = MemoryJournal(self.journal.records)
        self.run(old.stop())
        self.restart()

    def restart(self) -> None:
        self.journal = MemoryJournal(self.journal.records)
        self.coordinator = self.new_coordinator()
        if self.maybe:
            found = self.fetched()
            assert found in self.maybe, f"{found} is neither of {self.maybe}"
            self.offsets, self.maybe = found, []
        self.settle()

    def new_coordinator(self) -> GroupCoordinator:
        coordinator = GroupCoordinator(self.journal, self.topics, self.clock, CONFIG)
        self.run(coordinator.start())
        return coordinator

    def all_partitions(self) -> set[Partition]:
        infos = [info for name in self.topics.names() if (info := self.topics.topic(name)) is not None]
        return {Partition(info.topic_id, number) for info in infos for number in range(info.partitions)}

    def server_members(self) -> dict[str, tuple[int, set[Partition]]]:
        try:
            description = self.coordinator.describe_group("g")
        except (GroupIdNotFound, GroupsUnavailable):
            return {}
        return {row.member_id: (row.member_epoch, partitions_of(row.assignment)) for row in description.members}

    def fetched(self) -> dict[Partition, int]:
        try:
            rows = self.run(self.coordinator.fetch_offsets("g", None))
        except GroupIdNotFound:
            return {}
        return {Partition(row.topic_id, row.partition): row.offset for row in rows}


GroupMachine.TestCase.settings = settings(
    max_examples=250,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
test_any_life_of_a_group = GroupMachine.TestCase
