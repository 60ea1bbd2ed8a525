"""Committed offsets: who may commit what, what is read back, and how far behind a group is."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer_groups.config import GroupConfig
from consumer_groups.errors import (
    GroupIdNotFound,
    GroupSubscribedToTopic,
    InvalidRequest,
    NonEmptyGroup,
    OffsetMetadataTooLarge,
    PartitionNotOwned,
    StaleMemberEpoch,
    UnknownMemberId,
)
from consumer_groups.lag import lags
from consumer_groups.requests import (
    OUTSIDER,
    CommittedOffset,
    Committer,
    OffsetCommit,
    OffsetRange,
    Partition,
    SeekTarget,
    TopicPartitions,
)
from consumer_groups.seeks import find_offsets
from consumer_groups.topics import LOOKS_AT_ONCE
from logstore.errors import StorageFull, UnknownTopicId, UnknownTopicOrPartition
from tests.consumer_groups.fakes import FakeTopics, MemoryJournal, Record
from tests.consumer_groups.harness import World, partition, running, settle, start, turns


async def test_a_commit_is_read_back_with_its_metadata_and_time_also_after_a_restart() -> None:
    async with running() as world:
        a = world.member("a")
        await a.join()
        assert await a.commit(1, 42, metadata="seen") is None
        topic_id, _ = partition(world, 1)
        committed = CommittedOffset("t", topic_id, 1, 42, "seen", world.clock.wall_ms())
        assert await world.coordinator.fetch_offsets("g", None) == [committed]
        await world.restart()
        assert await world.coordinator.fetch_offsets("g", None) == [committed]


async def test_nothing_committed_is_minus_one() -> None:
    async with running() as world:
        for group in ("never-heard-of", "g"):
            (row,) = await world.coordinator.fetch_offsets(group, [TopicPartitions("t", None, (3,))])
            assert (row.partition, row.offset, row.metadata) == (3, -1, "")
            await world.member("a").join()


async def test_all_offsets_of_an_unknown_group_are_an_error() -> None:
    async with running() as world:
        with pytest.raises(GroupIdNotFound):
            await world.coordinator.fetch_offsets("g", None)


async def test_what_is_forgotten_is_gone_for_good_and_the_rest_stays() -> None:
    async with running() as world:
        for number in (0, 1):
            await world.coordinator.commit_offsets("g", OUTSIDER, [OffsetCommit("t", number, 7)])
        refusals = await world.coordinator.delete_offsets("g", [("t", 0), ("t", 2), ("t", 99), ("unknown", 0)])
        assert [type(refusal) for refusal in refusals] == [
            type(None),
            type(None),  # nothing was committed there
            UnknownTopicOrPartition,
            UnknownTopicOrPartition,
        ]
        assert await world.offsets() == {1: 7}
        await world.restart()
        assert await world.offsets() == {1: 7}


async def test_offsets_of_a_topic_that_a_member_reads_are_not_forgotten() -> None:
    async with running() as world:
        a = world.member("a")
        await a.join()
        await a.commit(0, 7)
        [refusal] = await world.coordinator.delete_offsets("g", [("t", 0)])
        assert isinstance(refusal, GroupSubscribedToTopic)
        assert await world.offsets() == {0: 7}
        with pytest.raises(GroupIdNotFound):
            await world.coordinator.delete_offsets("unknown", [("t", 0)])


async def test_only_the_current_epoch_commits() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await a.join()
        await a.acknowledge()
        await b.join()
        await settle(a, b)
        epoch = a.epoch
        for wrong in (epoch - 1, epoch + 1, -1):
            a.epoch = wrong
            with pytest.raises(StaleMemberEpoch):
                await a.commit(0, 7)
        a.epoch = epoch
        assert await a.commit(0, 7) is None
        assert await world.offsets() == {0: 7}


async def test_only_the_owner_commits_and_does_so_until_it_gave_the_partition_up() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await a.join()
        await a.acknowledge()
        await b.join()
        await a.beat()
        assert a.partitions == [0, 1]
        assert await a.commit(2, 5) is None, "it has not said yet that it gave it up"
        assert isinstance(await b.commit(2, 6), PartitionNotOwned)
        await a.acknowledge()
        assert isinstance(await a.commit(2, 7), PartitionNotOwned)
        assert isinstance(await b.commit(2, 8), PartitionNotOwned), "it has not been handed out yet"
        await b.beat()
        assert await b.commit(2, 9) is None


async def test_a_member_past_its_deadline_commits_nothing_even_if_no_timer_has_noticed() -> None:
    async with running() as world:
        a = world.member("a")
        await a.join()
        world.clock.now_ms += 45_000
        with pytest.raises(UnknownMemberId):
            await a.commit(0, 1)


async def test_a_commit_of_several_partitions_reports_each() -> None:
    async with running(GroupConfig(metadata_bytes_max=4)) as world:
        await world.member("a").join()
        other = UUID(int=99)
        results = await world.coordinator.commit_offsets(
            "g",
            Committer("a", 1),
            [
                OffsetCommit("t", 0, 1),
                OffsetCommit("t", 4, 1),
                OffsetCommit("u", 0, 1),
                OffsetCommit("t", 0, -1),
                OffsetCommit("t", 0, 1, "12345"),
                OffsetCommit("t", 0, 1, "ä" * 3),
                OffsetCommit("t", 1, 2, topic_id=other),
                OffsetCommit("t", 2, 3, "ää"),
            ],
        )
        assert [type(result) for result in results] == [
            type(None),
            UnknownTopicOrPartition,
            UnknownTopicOrPartition,
            InvalidRequest,
            OffsetMetadataTooLarge,
            OffsetMetadataTooLarge,
            UnknownTopicId,
            type(None),
        ]
        assert await world.offsets() == {0: 1, 2: 3}


async def test_from_outside_offsets_are_committed_only_while_the_group_is_empty() -> None:
    async with running() as world:
        outside = [OffsetCommit("t", 0, 9)]
        assert await world.coordinator.commit_offsets("g", OUTSIDER, outside) == [None]
        a = world.member("a")
        await a.join()
        with pytest.raises(NonEmptyGroup):
            await world.coordinator.commit_offsets("g", OUTSIDER, outside)
        await a.leave()
        assert await world.coordinator.commit_offsets("g", OUTSIDER, outside) == [None]
        with pytest.raises(InvalidRequest):
            await world.coordinator.commit_offsets("g", Committer("", 3), outside)


async def test_a_topic_made_again_starts_afresh() -> None:
    async with running() as world:
        a = world.member("a")
        await a.join()
        old_id, _ = partition(world, 0)
        await a.commit(0, 42)
        world.topics.delete("t")
        world.coordinator.topics_changed()
        await turns()
        world.topics.create("t", 1)
        world.coordinator.topics_changed()
        await turns()
        assert await world.offsets() == {}
        await a.beat()
        await a.acknowledge()
        await a.beat()
        assert isinstance(await a.commit(0, 50, topic_id=old_id), UnknownTopicId)
        assert await world.offsets() == {}
        await world.restart()
        assert await world.offsets() == {}


async def test_offsets_of_a_topic_deleted_while_the_server_was_down_go() -> None:
    async with running() as world:
        await world.coordinator.commit_offsets("g", OUTSIDER, [OffsetCommit("t", 0, 9)])
        world.topics.delete("t")
        await world.restart()
        world.topics.create("t", 1)
        await world.restart()
        assert world.coordinator.list_groups() == []


async def test_an_empty_group_can_be_deleted_with_its_offsets() -> None:
    async with running() as world:
        a = world.member("a")
        await a.join()
        await a.commit(0, 4)
        with pytest.raises(NonEmptyGroup):
            await world.coordinator.delete_group("g")
        await a.leave()
        await world.coordinator.delete_group("g")
        assert world.coordinator.list_groups() == []
        await world.restart()
        assert world.coordinator.list_groups() == []
        with pytest.raises(GroupIdNotFound):
            await world.coordinator.delete_group("g")
        with pytest.raises(GroupIdNotFound):
            await world.coordinator.describe_group("g")


class SlowJournal(MemoryJournal):
    """Appends become durable when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.under_way: list[asyncio.Event] = []

    async def append(self, records: Sequence[Record]) -> None:
        if self.slow:
            durable = asyncio.Event()
            self.under_way.append(durable)
            await durable.wait()
        await super().append(records)

    def finish(self) -> None:
        for durable in self.under_way:
            durable.set()
        self.under_way.clear()


class SlowWorld(World):
    journal: SlowJournal

    def __init__(self) -> None:
        super().__init__()
        self.journal = SlowJournal()
        self.coordinator = self._new()


async def test_commits_are_under_way_side_by_side_and_a_change_waits_for_them() -> None:
    world = SlowWorld()
    await world.coordinator.start()
    a = world.member("a")
    await a.join()
    world.journal.slow = True
    commits = [start(a.commit(number, 7)) for number in range(4)]
    leave = start(a.leave())
    await turns()
    assert len(world.journal.under_way) == 4
    assert not any(commit.done() for commit in commits), "nothing is answered before it is durable"
    assert [row.offset for row in await world.coordinator.fetch_offsets("g", [TopicPartitions("t", None, (0,))])] == [
        -1
    ]
    world.journal.finish()
    await turns()
    assert [commit.result() for commit in commits] == [None] * 4
    assert len(world.journal.under_way) == 1
    assert not leave.done()
    world.journal.finish()
    await leave
    await world.coordinator.stop()


async def test_a_commit_that_a_newer_one_of_its_member_overtook_is_refused() -> None:
    """As when the member has gone back meanwhile, and committed that."""
    async with running() as world:
        a = world.member("a")
        await a.join()
        assert await a.commit(0, 50, number=4) is None
        assert await a.commit(0, 10, number=6) is None
        with pytest.raises(StaleMemberEpoch, match=r"number 5 .* after number 6"):
            await a.commit(0, 60, number=5)
        assert await world.offsets() == {0: 10}
        assert await a.commit(0, 10, number=6) is None, "the same once more, after an answer that was lost"
        assert await a.commit(0, 11) is None, "not numbered: in the order of arrival"
        await world.restart()
        assert await a.commit(0, 12, number=1) is None
        a.epoch = 0
        with pytest.raises(InvalidRequest, match="negative"):
            await a.commit(0, 12, number=-1)


async def test_a_commit_that_could_not_be_written_may_be_repeated_under_its_number() -> None:
    async with running() as world:
        a = world.member("a")
        await a.join()
        world.journal.full_after = world.journal.appends
        with pytest.raises(StorageFull):
            await a.commit(0, 50, number=4)
        world.journal.full_after = None
        assert await a.commit(0, 50, number=4) is None


async def test_a_commit_that_is_refused_does_not_end_a_group_that_another_is_making() -> None:
    world = SlowWorld()
    await world.coordinator.start()
    world.journal.slow = True
    making = start(world.coordinator.commit_offsets("g", OUTSIDER, [OffsetCommit("t", 0, 7)]))
    await turns()
    [refused] = await world.coordinator.commit_offsets("g", OUTSIDER, [OffsetCommit("nothing", 0, 7)])
    assert isinstance(refused, UnknownTopicOrPartition)
    world.journal.finish()
    assert await making == [None]
    assert await world.offsets() == {0: 7}
    await world.coordinator.stop()


async def test_a_commit_whose_caller_is_gone_is_taken_all_the_same() -> None:
    world = SlowWorld()
    await world.coordinator.start()
    a = world.member("a")
    await a.join()
    world.journal.slow = True
    commit = start(a.commit(0, 7))
    await turns()
    commit.cancel()
    await turns()
    world.journal.finish()
    await turns()
    assert await world.offsets() == {0: 7}
    await world.coordinator.stop()


# Lag.


@given(
    start_offset=st.integers(0, 50),
    records=st.integers(0, 50),
    committed=st.none() | st.integers(0, 150),
    now_ms=st.integers(0, 200_000),
)
def test_lag_counts_what_is_there_and_not_read(
    start_offset: int, records: int, committed: int | None, now_ms: int
) -> None:
    topics = FakeTopics()
    info = topics.create("t", 1, start=start_offset, end=start_offset + records)
    partition = Partition(info.topic_id, 0)
    count, seconds, readable = asyncio.run(lags(topics, {partition: committed}, now_ms))[partition]
    left = [offset for offset in range(start_offset, start_offset + records) if offset >= (committed or 0)]
    assert count == len(left)
    assert readable == asyncio.run(topics.offset_range(*partition))
    # The fake log appended offset n at n seconds.
    assert seconds == (max(0, now_ms - left[0] * 1000) / 1000 if left else 0)


async def test_a_group_is_described_with_its_lag_and_owners() -> None:
    async with running() as world:
        world.clock.wall_offset_ms = -world.clock.now_ms + 200_000
        world.topics.set_range("t", 1, 60, 100)
        a = world.member("a")
        await a.join()
        await a.commit(0, 100)
        await a.commit(1, 50)
        await a.commit(2, 90)
        rows = {row.partition: row for row in (await world.coordinator.describe_group("g")).partitions}
        assert [(rows[n].committed_offset, rows[n].lag_records, rows[n].lag_seconds) for n in range(4)] == [
            (100, 0, 0.0),
            (50, 40, 140.0),  # what retention deleted is not behind
            (90, 10, 110.0),
            (-1, 100, 200.0),
        ]
        assert {row.member_id for row in rows.values()} == {"a"}
        assert (rows[1].log_start_offset, rows[1].high_watermark) == (60, 100)


class LookedAt(FakeTopics):
    """Counts the logs that are looked at before others have their turn."""

    def __init__(self, partitions: int) -> None:
        super().__init__()
        self.looks = 0
        self.looks_longest = 0
        info = self.create("t", partitions)
        self.committed: dict[Partition, int | None] = {
            Partition(info.topic_id, number): 1 for number in range(partitions)
        }

    async def offset_range(self, topic_id: UUID, partition: int) -> OffsetRange:
        self.looks += 1
        self.looks_longest = max(self.looks_longest, self.looks)
        return await super().offset_range(topic_id, partition)

    async def let_others_run(self) -> None:
        while True:
            self.looks = 0
            await asyncio.sleep(0)


@pytest.mark.parametrize("work", ["lags", "seek to the end"])
async def test_a_look_at_thousands_of_partitions_lets_others_run(work: str) -> None:
    topics = LookedAt(1_000)
    other = start(topics.let_others_run())
    await turns()
    if work == "lags":
        read = dict.fromkeys(topics.committed, 100)
        assert len(await lags(topics, read, 0)) == 1_000
    else:
        target = SeekTarget(end=True)
        assert len(await find_offsets(topics, "t", topics.committed, target, topics.committed.get)) == 1_000
    other.cancel()
    assert topics.looks_longest <= 2 * LOOKS_AT_ONCE


async def test_of_a_topic_that_is_deleted_while_its_lag_is_looked_at_nothing_is_said() -> None:
    topics = LookedAt(1_000)
    looking = start(lags(topics, topics.committed, 0))
    while not topics.looks:
        await asyncio.sleep(0)
    topics.delete("t")
    assert await looking == {}
