"""What a group has committed outlives its members for a while, and not for ever."""

from dataclasses import replace

import pytest

from consumer_groups.config import GroupConfig
from consumer_groups.errors import GroupIdNotFound
from consumer_groups.expiry import INTERVAL_MS
from consumer_groups.journal_records import GroupEpochs, GroupKey, OffsetKey, OffsetValue, encode_all
from consumer_groups.requests import (
    OUTSIDER,
    OffsetCommit,
)
from tests.consumer_groups.fakes import MemoryJournal
from tests.consumer_groups.harness import World, partition, running

DAY_MS = 86_400_000
WEEK_MS = 7 * DAY_MS
#: Members are heard of as seldom as the days pass here.
CONFIG = GroupConfig(assignment_interval_ms=0, session_timeout_ms=100 * WEEK_MS)


async def commit_from_outside(world: World, number: int, offset: int) -> None:
    assert await world.coordinator.commit_offsets("g", OUTSIDER, [OffsetCommit("t", number, offset)]) == [None]


async def leave_something_behind(world: World) -> None:
    """A group whose only member has committed, and left."""
    a = world.member("a")
    await a.join()
    await a.commit(0, 10)
    await a.leave()


async def expect_nothing_left(world: World) -> None:
    with pytest.raises(GroupIdNotFound):
        await world.offsets()
    assert world.coordinator.list_groups() == []
    await world.restart()
    assert world.coordinator.list_groups() == []


async def test_a_group_that_had_no_members_for_a_week_is_gone_with_its_offsets() -> None:
    async with running(CONFIG) as world:
        await leave_something_behind(world)
        await world.pass_time(WEEK_MS)
        assert await world.offsets() == {0: 10}
        await world.pass_time(INTERVAL_MS)
        await expect_nothing_left(world)


async def test_the_week_begins_when_the_last_member_goes_also_across_restarts() -> None:
    async with running(CONFIG) as world:
        a = world.member("a")
        await a.join()
        await a.commit(0, 10)
        await world.pass_time(2 * WEEK_MS)
        assert await world.offsets() == {0: 10}, "it has a member, however old the commit is"
        await a.leave()
        for _ in range(7):
            await world.pass_time(DAY_MS)
            assert await world.offsets() == {0: 10}
            await world.restart()
        await world.pass_time(INTERVAL_MS)
        await expect_nothing_left(world)


async def test_a_group_that_ran_again_in_between_starts_its_week_anew() -> None:
    async with running(CONFIG) as world:
        await leave_something_behind(world)
        await world.pass_time(WEEK_MS - DAY_MS)
        again = world.member("again")
        await again.join()
        await again.leave()
        await world.pass_time(WEEK_MS - DAY_MS)
        assert await world.offsets() == {0: 10}
        await world.pass_time(2 * DAY_MS)
        await expect_nothing_left(world)


async def test_of_offsets_committed_from_outside_each_goes_in_its_own_time() -> None:
    async with running(CONFIG) as world:
        await commit_from_outside(world, 0, 10)
        await world.pass_time(4 * DAY_MS)
        await commit_from_outside(world, 1, 11)
        await world.pass_time(4 * DAY_MS)
        assert await world.offsets() == {1: 11}
        await world.restart()
        assert await world.offsets() == {1: 11}
        await world.pass_time(4 * DAY_MS)
        await expect_nothing_left(world)


async def test_a_clock_that_jumps_makes_nothing_old() -> None:
    async with running(CONFIG) as world:
        await leave_something_behind(world)
        await commit_from_outside(world, 1, 11)
        world.clock.wall_offset_ms += 10 * WEEK_MS
        for _ in range(6):
            await world.pass_time(DAY_MS)
            assert await world.offsets() == {0: 10, 1: 11}
        await world.pass_time(2 * DAY_MS)
        await expect_nothing_left(world)


async def test_with_a_retention_of_less_than_nothing_offsets_stay() -> None:
    async with running(replace(CONFIG, offsets_retention_ms=-1)) as world:
        await leave_something_behind(world)
        await world.pass_time(100 * WEEK_MS)
        assert await world.offsets() == {0: 10}


async def test_a_group_of_which_a_journal_does_not_say_when_it_was_left_is_kept_for_a_week_from_now() -> None:
    world = World(CONFIG)
    old = OffsetValue(10, "", world.clock.wall_ms() - 10 * WEEK_MS)
    records = encode_all([(GroupKey("g"), GroupEpochs(3, 3)), (OffsetKey("g", partition(world, 0)), old)])
    assert b"emptied_ms" not in (records[0][1] or b"")
    world.journal = MemoryJournal(records)
    await world.restart()
    for _ in range(6):
        await world.pass_time(DAY_MS)
        assert await world.offsets() == {0: 10}
        await world.restart()
    await world.pass_time(2 * DAY_MS + INTERVAL_MS)
    await expect_nothing_left(world)
    await world.coordinator.stop()


async def test_a_full_disk_puts_it_off_to_the_next_look() -> None:
    async with running(CONFIG) as world:
        await leave_something_behind(world)
        world.journal.full_after = world.journal.appends
        await world.pass_time(WEEK_MS + INTERVAL_MS)
        assert await world.offsets() == {0: 10}
        world.journal.full_after = None
        await world.pass_time(INTERVAL_MS)
        await expect_nothing_left(world)
