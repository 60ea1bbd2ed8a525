"""Random lives of members on a network and a disk that cannot be relied on, against what must always hold.

Members join, leave, go away and come back, heartbeat in time or late, lose answers, repeat requests, hold on to what
they should give up. Heartbeats that they have given up on arrive after newer ones, in any order, once or several times.
Always:

    no two members believe to own a partition, or may commit it
    who left by itself is a member no more, whatever of it arrives late
    what is counted of what members bring is what they have brought, also in another group, and no more than may be
    once faults stop, and there is room, every group settles: everything assigned, evenly, and every member knows it
"""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from consumer_groups.config import GroupConfig
from consumer_groups.coordinator import GroupCoordinator
from consumer_groups.errors import (
    FencedInstanceId,
    FencedMemberEpoch,
    GroupError,
    GroupIdNotFound,
    GroupMaxSizeReached,
    GroupsUnavailable,
    Overloaded,
    ShuttingDown,
    UnknownMemberId,
    UnreleasedInstanceId,
)
from consumer_groups.requests import (
    AWAY_EPOCH,
    JOIN_EPOCH,
    LEAVE_EPOCH,
    GroupState,
    HeartbeatReply,
    HeartbeatRequest,
    Partition,
)
from logstore.errors import LogStoreError, StorageFull
from tests.consumer_groups.fakes import FakeClock, FakeTopics, MemoryJournal
from tests.consumer_groups.model import REBALANCE_TIMEOUT_MS, ModelMember, brought_bytes, partitions_of, taken_bytes

Result = TypeVar("Result")
CONFIG = GroupConfig(session_timeout_ms=45_000, rebalance_timeout_ms=REBALANCE_TIMEOUT_MS, members_max=6)
EAGER_CONFIG = replace(CONFIG, assignment_interval_ms=0)
TIDY_CONFIG = replace(CONFIG, journal_records_max=20)
#: For three members or so.
TIGHT_CONFIG = replace(CONFIG, total_bytes_max=1_500)
TOPICS = ("t0", "t1", "t2")
SUBSCRIPTIONS = [("t0",), ("t0", "t1"), ("t1", "t2"), ("t0", "t1", "t2")]
#: More turns of the loop than anything takes here that is not waiting for a time or a heartbeat.
SETTLE_TURNS = 15
OUTCOMES = ["answered", "answered", "answer lost", "request lost", "delayed", "repeated", "duplicated", "duplicated"]
SETTINGS = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


class MemberMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock()
        self.topics = FakeTopics()
        self.journal = MemoryJournal()
        self.members: list[ModelMember] = []
        self.made = 0
        self.step = 0
        self.parked: dict[str, tuple[asyncio.Task[HeartbeatReply], HeartbeatRequest, int]] = {}
        #: Heartbeats that have not arrived yet, or may arrive again. Nobody waits for their answers any more.
        self.on_their_way: list[HeartbeatRequest] = []
        #: Who left by itself, and when the server last heard so.
        self.left_ms: dict[str, int] = {}
        self.config = CONFIG
        self.coordinator = self.new_coordinator()

    @initialize(
        counts=st.lists(st.integers(1, 5), min_size=2, max_size=2),
        config=st.sampled_from([CONFIG, EAGER_CONFIG, TIDY_CONFIG, TIGHT_CONFIG]),
        members=st.lists(st.sampled_from(OUTCOMES), min_size=1, max_size=3),
    )
    def begin(self, counts: list[int], config: GroupConfig, members: list[str]) -> None:
        for name, count in zip(TOPICS, counts, strict=False):
            self.topics.create(name, count)
        self.config = config
        self.restart()
        for outcome in members:
            self.new_member(("t0", "t1"), "", outcome)

    # Members.

    @precondition(lambda self: len(self.members) < 5)
    @rule(
        topics=st.sampled_from(SUBSCRIPTIONS),
        instance=st.sampled_from(["", "", "", "i0", "i1"]),
        outcome=st.sampled_from(OUTCOMES),
    )
    def new_member(self, topics: tuple[str, ...], instance: str, outcome: str) -> None:
        self.made += 1
        member = ModelMember(f"m{self.made}", topics, instance)
        self.members.append(member)
        self.beat(member, outcome)

    @precondition(lambda self: self.members)
    @rule(data=st.data(), outcome=st.sampled_from(OUTCOMES), full=st.booleans())
    def heartbeat(self, data: st.DataObject, outcome: str, full: bool) -> None:
        self.beat(self.draw_member(data), outcome, full=full)

    @precondition(lambda self: self.on_their_way)
    @rule(data=st.data(), again=st.booleans())
    def heartbeats_arrive_late(self, data: st.DataObject, again: bool) -> None:
        arriving = data.draw(st.permutations(self.on_their_way))
        if not again:
            self.on_their_way.clear()
        server = self.coordinator
        for request in arriving:
            if self.coordinator is server:  # Else it died in one of them, and the connections with it.
                self.try_heartbeat(request)

    @precondition(lambda self: self.on_their_way)
    @rule(data=st.data())
    def a_heartbeat_arrives_late_and_others_hear_what_came_of_it(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.on_their_way))
        self.try_heartbeat(request)
        for member in list(self.members):
            if member.member_id != request.member_id:
                self.beat(member, "answered")

    @precondition(lambda self: self.members)
    @rule(outcome=st.sampled_from(["answered", "answered", "answer lost", "duplicated"]))
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

    @precondition(lambda self: len(self.members) > 1)
    @rule(data=st.data(), outcome=st.sampled_from(["answered", "answered", "request lost", "delayed", "duplicated"]))
    def leave(self, data: st.DataObject, outcome: str) -> None:
        member = self.draw_member(data)
        self.forget(member)
        request = HeartbeatRequest("g", member.member_id, LEAVE_EPOCH, number=member.number + 1)
        if outcome in ("delayed", "duplicated"):
            self.on_their_way.append(request)
        if outcome in ("answered", "duplicated"):
            self.try_heartbeat(request)

    @precondition(lambda self: any(member.instance_id for member in self.members))
    @rule(data=st.data(), comes_back=st.booleans())
    def bounce(self, data: st.DataObject, comes_back: bool) -> None:
        member = data.draw(st.sampled_from([member for member in self.members if member.instance_id]))
        self.forget(member)
        away = HeartbeatRequest(
            "g", member.member_id, AWAY_EPOCH, instance_id=member.instance_id, number=member.number + 1
        )
        self.try_heartbeat(away)
        if comes_back:
            self.new_member(member.topics, member.instance_id, "answered")

    @rule(topics=st.sampled_from(SUBSCRIPTIONS), epoch=st.sampled_from([JOIN_EPOCH, JOIN_EPOCH, LEAVE_EPOCH]))
    def somebody_comes_to_another_group_or_leaves_it(self, topics: tuple[str, ...], epoch: int) -> None:
        self.attempt(
            self.coordinator.heartbeat(HeartbeatRequest("other", "o", epoch, subscription=topics, owned=()), 0)
        )

    @rule(ms=st.sampled_from([1, 100, 300, 3_000, 20_000, 44_999, 45_000, 60_000]))
    def time_passes(self, ms: int) -> None:
        self.clock.now_ms += ms
        self.run_timers()

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
    def nobody_who_left_is_back(self) -> None:
        for member_id in self.server_members():
            left_ms = self.left_ms.get(member_id)
            assert left_ms is None or self.clock.now_ms - left_ms >= CONFIG.session_timeout_ms, f"{member_id} is back"

    @invariant()
    def what_is_counted_is_what_members_have_brought(self) -> None:
        assert taken_bytes(self.coordinator) == brought_bytes(self.coordinator) <= self.config.total_bytes_max

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
        self.on_their_way.clear()
        self.config = replace(self.config, total_bytes_max=CONFIG.total_bytes_max)
        if self.journal.crash_after is not None or self.coordinator._config != self.config:
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
        # A static member that another took the place of is out for good.
        self.members = [member for member in self.members if not member.gone]
        if not self.members:
            return
        description = self.run(self.coordinator.describe_group("g"))
        left = {member.member_id for member in description.members} - {member.member_id for member in self.members}
        if left:  # who left without a word, is fenced in time
            for _ in range(50):
                self.clock.now_ms += 1_000
                self.run_timers()
                for member in list(self.members):
                    self.beat(member, "answered")
            description = self.run(self.coordinator.describe_group("g"))
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
        if outcome in ("delayed", "duplicated"):
            self.on_their_way.append(request)
        if outcome in ("request lost", "delayed"):
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
            case StorageFull() | GroupsUnavailable() | ShuttingDown() | GroupMaxSizeReached() | Overloaded():
                member.miss()
            case _:
                raise reply

    def mind_own_session(self, member: ModelMember) -> None:
        if member.epoch > 0 and member.is_out(self.clock.now_ms, CONFIG.session_timeout_ms):
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
        now_ms = self.clock.now_ms
        reply = self.attempt(self.coordinator.heartbeat(request, 0))
        if request.member_epoch == LEAVE_EPOCH:
            # One whose session is over is unknown, and on a full disk still there.
            gone = isinstance(reply, UnknownMemberId) and request.member_id not in self.server_members()
            if gone or isinstance(reply, HeartbeatReply):
                self.left_ms[request.member_id] = now_ms
        return reply

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
        """See which waiting heartbeats have ended by now, and whether the process has."""
        self.step += 1
        for member_id, (task, request, sent_ms) in list(self.parked.items()):
            if task.done():
                del self.parked[member_id]
                member = next(member for member in self.members if member.member_id == member_id)
                error = task.exception()
                self.take_answer(member, request, error if error is not None else task.result(), sent_ms)
        if self.journal.crash_after is not None and self.journal.appends > self.journal.crash_after:
            self.crash()

    def crash(self) -> None:
        """The process is gone, with whatever it was doing; the journal stays."""
        self.journal.full_after = None
        for member_id in list(self.parked):
            self.hang_up(next(member for member in self.members if member.member_id == member_id))
        # Its tasks can write nothing more: the journal they have is not the one that goes on.
        old = self.coordinator
        self.journal = self.journal.after_crash(start_was_synced=self.step % 2 == 0)
        self.run(old.stop())
        self.restart()

    def restart(self) -> None:
        self.on_their_way.clear()  # The connections that they came by are gone.
        self.journal = self.journal.after_crash(start_was_synced=self.step % 2 == 0)
        before = self.coordinator
        self.coordinator = self.new_coordinator()
        if before._groups._failure is None:  # So it had nothing that the journal has not.
            assert taken_bytes(self.coordinator) == taken_bytes(before)
        self.settle()

    def new_coordinator(self) -> GroupCoordinator:
        coordinator = GroupCoordinator(self.journal, self.topics, self.clock, self.config)
        self.run(coordinator.start())
        return coordinator

    def all_partitions(self) -> set[Partition]:
        infos = [info for name in self.topics.names() if (info := self.topics.topic(name)) is not None]
        return {Partition(info.topic_id, number) for info in infos for number in range(info.partitions)}

    def server_members(self) -> dict[str, tuple[int, set[Partition]]]:
        try:
            description = self.run(self.coordinator.describe_group("g"))
        except (GroupIdNotFound, GroupsUnavailable):
            return {}
        return {row.member_id: (row.member_epoch, partitions_of(row.assignment)) for row in description.members}


#: So much shows a bug that somebody makes on most days; this, the rest.
THOROUGH = settings(SETTINGS, max_examples=400)

MemberMachine.TestCase.settings = SETTINGS
test_any_life_of_members = MemberMachine.TestCase


@pytest.mark.slow
def test_many_lives_of_members() -> None:
    run_state_machine_as_test(MemberMachine, settings=THOROUGH)
