"""Sending a group elsewhere: while it runs, while it does not, and when it will not."""

import asyncio

import pytest

from consumer_groups.errors import (
    GroupError,
    GroupIdNotFound,
    InvalidRequest,
    PartitionNotOwned,
    SeekInProgress,
    SeekTimedOut,
    ShuttingDown,
    StaleMemberEpoch,
)
from consumer_groups.requests import GroupState, SeekTarget, SoughtPartition
from logstore.errors import OffsetOutOfRange, StorageFull, UnknownTopicId, UnknownTopicOrPartition
from tests.consumer_groups.harness import Member, World, running, settle, start, turns


async def two_members(world: World) -> tuple[Member, Member]:
    """a has 0 and 1, b has 2 and 3; all have committed offset 50."""
    a, b = world.member("a"), world.member("b")
    await a.join()
    await b.join()
    await settle(a, b)
    for member in (a, b):
        for number in member.partitions:
            assert await member.commit(number, 50) is None
    return a, b


def seek(
    world: World, target: SeekTarget, *partitions: int, dry_run: bool = False
) -> "asyncio.Task[list[SoughtPartition]]":
    return start(world.coordinator.seek("g", "t", partitions, target, dry_run))


async def test_a_running_group_goes_on_at_the_new_place() -> None:
    async with running() as world:
        a, b = await two_members(world)
        old_epoch = a.epoch
        sought = seek(world, SeekTarget(offset=10), 0)
        await turns()
        await a.beat()
        assert a.partitions == [1], "told to give it up"
        assert await a.commit(0, 60) is None, "its owner commits to the last"
        assert isinstance(await b.commit(0, 61), PartitionNotOwned)
        assert not sought.done()
        await a.acknowledge()
        assert await sought == [SoughtPartition("t", 0, 60, 10)]
        assert await world.offsets() == {0: 10, 1: 50, 2: 50, 3: 50}
        between = a.epoch
        await a.beat()
        assert a.partitions == [0, 1], "it goes back to whom it was planned for"
        for stale in (old_epoch, between):
            assert stale != a.epoch
            a.epoch, current = stale, a.epoch
            with pytest.raises(StaleMemberEpoch):
                await a.commit(0, 61)
            a.epoch = current
        assert await world.offsets() == {0: 10, 1: 50, 2: 50, 3: 50}
        assert await a.commit(0, 12) is None


async def test_partitions_that_are_not_sought_do_not_move() -> None:
    async with running() as world:
        a, b = await two_members(world)
        sought = seek(world, SeekTarget(offset=10), 0, 1)
        await turns()
        await settle(a, b)
        assert (a.partitions, b.partitions) == ([0, 1], [2, 3])
        await sought


async def test_a_seek_wakes_heartbeats_that_wait() -> None:
    async with running() as world:
        a, b = await two_members(world)
        waiting = start(a.beat(wait_ms=5_000))
        await turns()
        sought = seek(world, SeekTarget(beginning=True), 0)
        await waiting
        assert a.partitions == [1]
        await a.acknowledge()
        await sought
        await settle(a, b)


async def test_a_fenced_owner_has_given_up() -> None:
    async with running() as world:
        _, b = await two_members(world)
        sought = seek(world, SeekTarget(offset=10), 0)
        await turns()
        await world.pass_time(44_000)
        await b.beat()
        await world.pass_time(1_000)
        assert await sought == [SoughtPartition("t", 0, 50, 10)]
        await settle(b)
        assert b.partitions == [0, 1, 2, 3]


async def test_a_seek_that_nobody_gives_way_to_times_out_and_leaves_the_old_offsets() -> None:
    async with running() as world:
        a, b = await two_members(world)
        held = a.assignment
        sought = seek(world, SeekTarget(offset=10), 0)
        await turns()
        for _ in range(59):
            await world.pass_time(1_000)
            await a.beat(owned=held)
            await b.beat()
        assert not sought.done()
        await world.pass_time(1_000)
        with pytest.raises(SeekTimedOut, match="a of group 'g' did not give up"):
            await sought
        assert await world.offsets() == {0: 50, 1: 50, 2: 50, 3: 50}
        await settle(a, b)
        assert (a.partitions, b.partitions) == ([0, 1], [2, 3])
        assert (await world.coordinator.describe_group("g")).state is GroupState.STABLE


async def test_a_restart_in_between_leaves_the_old_offsets_and_frees_the_partitions() -> None:
    async with running() as world:
        a, b = await two_members(world)
        sought = seek(world, SeekTarget(offset=10), 0)
        await turns()
        await a.beat()
        await world.restart()
        with pytest.raises(ShuttingDown):
            await sought
        await settle(a, b)
        assert sorted(a.partitions + b.partitions) == [0, 1, 2, 3]
        assert await world.offsets() == {0: 50, 1: 50, 2: 50, 3: 50}


@pytest.mark.parametrize("given_up_before", [True, False])
async def test_a_member_that_joins_meanwhile_does_not_get_what_is_sought(given_up_before: bool) -> None:
    async with running() as world:
        a, b = await two_members(world)
        sought = seek(world, SeekTarget(offset=10), 0, 1, 2)
        await turns()
        if given_up_before:
            await a.beat()
            await a.acknowledge()
        c = world.member("c")
        await c.join()
        assert not sought.done()
        assert set(c.partitions) <= {3}
        await settle(a, b, c)
        await sought
        assert sorted(a.partitions + b.partitions + c.partitions) == [0, 1, 2, 3]


async def test_an_empty_group_is_moved_at_once() -> None:
    async with running() as world:
        a, b = await two_members(world)
        await a.leave()
        await b.leave()
        rows = await world.coordinator.seek("g", "t", [], SeekTarget(end=True), False)
        assert rows == [SoughtPartition("t", number, 50, 100) for number in range(4)]
        assert await world.offsets() == dict.fromkeys(range(4), 100)


async def test_a_dry_run_tells_and_does_nothing() -> None:
    async with running() as world:
        await two_members(world)
        records = list(world.journal.records)
        rows = await world.coordinator.seek("g", "t", [2], SeekTarget(shift_by=-20), True)
        assert rows == [SoughtPartition("t", 2, 50, 30)]
        assert world.journal.records == records


async def test_a_shift_counts_from_what_is_committed_when_the_partition_is_given_up() -> None:
    async with running() as world:
        a, _ = await two_members(world)
        sought = seek(world, SeekTarget(shift_by=-20), 0)
        await turns()
        await a.beat()
        await a.commit(0, 80)
        await a.acknowledge()
        assert await sought == [SoughtPartition("t", 0, 80, 60)]


async def test_a_time_leads_to_the_first_record_at_or_after_it_and_else_to_the_end() -> None:
    async with running() as world:
        await two_members(world)
        for timestamp_ms, offset in ((30_000, 30), (30_001, 31), (10**12, 100), (-5, 0)):
            rows = await world.coordinator.seek("g", "t", [0], SeekTarget(timestamp_ms=timestamp_ms), True)
            assert rows[0].new_offset == offset


@pytest.mark.parametrize(
    ("target", "error"),
    [
        (SeekTarget(offset=101), OffsetOutOfRange),
        (SeekTarget(offset=19), OffsetOutOfRange),
        (SeekTarget(offset=-1), OffsetOutOfRange),
        (SeekTarget(shift_by=51), OffsetOutOfRange),
        (SeekTarget(), InvalidRequest),
        (SeekTarget(offset=1, end=True), InvalidRequest),
    ],
)
async def test_a_place_that_is_not_there_is_refused_before_anybody_is_disturbed(
    target: SeekTarget, error: type[Exception]
) -> None:
    async with running() as world:
        world.topics.set_range("t", 3, 20, 100)
        await two_members(world)
        records = list(world.journal.records)
        with pytest.raises(error) as caught:
            await world.coordinator.seek("g", "t", [], target, False)
        if error is OffsetOutOfRange:
            assert "to 100" in str(caught.value)
        assert world.journal.records == records


async def test_a_place_that_is_gone_when_it_could_be_reached_is_refused_and_the_group_goes_on() -> None:
    async with running() as world:
        a, b = await two_members(world)
        sought = seek(world, SeekTarget(offset=10), 0)
        await turns()
        world.topics.set_range("t", 0, 20, 100)  # retention
        await a.beat()
        await a.acknowledge()
        with pytest.raises(OffsetOutOfRange, match="goes from 20 to 100"):
            await sought
        await settle(a, b)
        assert (a.partitions, b.partitions) == ([0, 1], [2, 3])
        assert (await world.offsets())[0] == 50


async def test_a_topic_deleted_during_a_seek_ends_it() -> None:
    async with running() as world:
        a, b = await two_members(world)
        sought = seek(world, SeekTarget(offset=10), 0)
        await turns()
        world.topics.delete("t")
        world.coordinator.topics_changed()
        await turns()
        await settle(a, b)
        with pytest.raises(UnknownTopicId):
            await sought


async def test_what_is_being_sought_cannot_be_sought_by_another() -> None:
    async with running() as world:
        a, b = await two_members(world)
        first = seek(world, SeekTarget(offset=10), 0, 1)
        await turns()
        with pytest.raises(SeekInProgress):
            await seek(world, SeekTarget(offset=20), 1, 2)
        other = seek(world, SeekTarget(offset=30), 2)
        await turns()
        await settle(a, b)
        await first
        await other
        await settle(a, b)
        assert await world.offsets() == {0: 10, 1: 10, 2: 30, 3: 50}


async def test_nothing_to_shift_from_is_refused() -> None:
    async with running() as world:
        await world.member("a").join()
        with pytest.raises(InvalidRequest, match="nothing is committed for partition 0"):
            await seek(world, SeekTarget(shift_by=-1), 0)


@pytest.mark.parametrize(
    ("group", "topic", "partitions", "error"),
    [
        ("other", "t", [], GroupIdNotFound),
        ("g", "other", [], UnknownTopicOrPartition),
        ("g", "t", [4], UnknownTopicOrPartition),
        ("g", "t", [-1], UnknownTopicOrPartition),
    ],
)
async def test_what_is_not_there_cannot_be_sought(
    group: str, topic: str, partitions: list[int], error: type[GroupError]
) -> None:
    async with running() as world:
        await two_members(world)
        with pytest.raises(error):
            await world.coordinator.seek(group, topic, partitions, SeekTarget(end=True), False)


async def test_a_full_disk_at_the_end_of_a_seek_leaves_the_old_offsets_and_frees_the_partitions_later() -> None:
    async with running() as world:
        a, b = await two_members(world)
        sought = seek(world, SeekTarget(offset=10), 0)
        await turns()
        await a.beat()
        held = a.assignment
        # Another has to write the release; the seek itself finds the disk full.
        waiting = start(a.beat(owned=held))
        world.journal.full_after = world.journal.appends + 1
        await waiting
        with pytest.raises(StorageFull):
            await sought
        world.journal.full_after = None
        await world.pass_time(1_000)
        await settle(a, b)
        assert (a.partitions, b.partitions) == ([0, 1], [2, 3])
        assert (await world.offsets())[0] == 50


async def test_a_seek_goes_on_without_its_caller() -> None:
    async with running() as world:
        a, _ = await two_members(world)
        sought = seek(world, SeekTarget(offset=10), 0)
        await turns()
        sought.cancel()
        await turns()
        await a.beat()
        await a.acknowledge()
        await turns()
        assert (await world.offsets())[0] == 10
