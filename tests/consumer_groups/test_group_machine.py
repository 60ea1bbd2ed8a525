"""Random lives of a group, against what must always hold.

Members live as in test_member_machine. Commits and seeks run beside; topics change, the disk fills, the process dies
before or after any write. Always, beside what holds there:

    a commit is taken exactly from the member that owns the partition, in its current epoch
    what was committed or sought last is what is read, also after a restart
    a seek is never overwritten by a member that got the partition before it
"""

import asyncio
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule, run_state_machine_as_test

from consumer_groups.errors import (
    GroupIdNotFound,
    GroupsUnavailable,
    InvalidRequest,
    NonEmptyGroup,
    PartitionNotOwned,
    SeekInProgress,
    SeekTimedOut,
    ShuttingDown,
    StaleMemberEpoch,
    UnknownMemberId,
)
from consumer_groups.live import RETRY_MS
from consumer_groups.requests import (
    Committer,
    OffsetCommit,
    Partition,
    SeekTarget,
)
from logstore.errors import OffsetOutOfRange, StorageFull, UnknownTopicId, UnknownTopicOrPartition
from tests.consumer_groups.model import ModelMember
from tests.consumer_groups.test_member_machine import CONFIG, SETTINGS, THOROUGH, TOPICS, MemberMachine


class GroupMachine(MemberMachine):
    def __init__(self) -> None:
        # What is committed, with the step of the last seek; and where a crash leaves the choice, what it may be.
        self.offsets: dict[Partition, int] = {}
        self.maybe: list[dict[Partition, int]] = []
        self.sought_step: dict[Partition, int] = {}
        self.seeks: list[tuple[asyncio.Task[Any], set[Partition], SeekTarget]] = []
        super().__init__()

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
    def what_was_committed_is_what_is_read(self) -> None:
        if not self.maybe:
            assert self.fetched() == self.offsets

    def settle_down(self) -> None:
        super().settle_down()
        assert not self.seeks, "every seek ends"
        self.what_was_committed_is_what_is_read()

    # How it is done.

    def notice(self) -> None:
        """See which seeks have ended by now, too."""
        for seek in list(self.seeks):
            if seek[0].done():
                self.seeks.remove(seek)
                self.seek_ended(*seek)
        super().notice()

    def crash(self) -> None:
        pending, self.seeks = self.seeks, []
        for task, _, _ in pending:
            task.cancel()
        super().crash()

    def restart(self) -> None:
        super().restart()
        if self.maybe:
            found = self.fetched()
            assert found in self.maybe, f"{found} is neither of {self.maybe}"
            self.offsets, self.maybe = found, []

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
        results = self.attempt(self.coordinator.commit_offsets("g", Committer(member_id, epoch), [commit]))
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

    def fetched(self) -> dict[Partition, int]:
        try:
            rows = self.run(self.coordinator.fetch_offsets("g", None))
        except GroupIdNotFound:
            return {}
        return {Partition(row.topic_id, row.partition): row.offset for row in rows}


GroupMachine.TestCase.settings = SETTINGS
test_any_life_of_a_group = GroupMachine.TestCase


@pytest.mark.slow
def test_many_lives_of_a_group() -> None:
    run_state_machine_as_test(GroupMachine, settings=THOROUGH)
