"""The journal is kept short, and says all that it said: the one of these tests looks, whenever something is let go."""

import asyncio
from collections.abc import Sequence

import pytest

from consumer_groups.config import GroupConfig
from consumer_groups.coordinator import GroupCoordinator
from consumer_groups.requests import (
    OUTSIDER,
    OffsetCommit,
    SeekTarget,
)
from consumer_groups.rewriting import GROUPS_AT_ONCE, RECORDS_AT_ONCE, RECORDS_ON_LOOP
from logstore.errors import StorageFull
from tests.consumer_groups.fakes import MemoryJournal, Record
from tests.consumer_groups.harness import World, running, settle, start, turns

TIDY = GroupConfig(assignment_interval_ms=0, journal_records_max=50)


async def commit(coordinator: GroupCoordinator, group: str, number: int, offset: int) -> None:
    assert await coordinator.commit_offsets(group, OUTSIDER, [OffsetCommit("t", number, offset)]) == [None]


async def test_a_thousand_commits_leave_a_journal_of_as_many_records_as_it_may_have() -> None:
    async with running(TIDY) as world:
        a, b = world.member("a"), world.member("b", instance_id="one")
        await a.join()
        await b.join()
        await settle(a, b)
        longest = 0
        for offset in range(1_000):
            await a.commit(offset % 2, offset)
            await turns()
            longest = max(longest, world.journal.records_count)
        assert world.journal.forgotten_count > 10
        assert 50 <= longest < 100
        before = await world.coordinator.describe_group("g")
        await world.restart()
        assert await world.coordinator.describe_group("g") == before
        assert await world.offsets() == {0: 998, 1: 999}
        await a.beat()
        assert await a.commit(0, 5) is None


async def test_a_long_journal_of_before_is_shortened_at_start() -> None:
    world = World()
    await world.coordinator.start()
    for offset in range(100):
        await commit(world.coordinator, "g", 0, offset)
    await world.coordinator.stop()
    world.config = TIDY
    await world.restart()
    await turns()
    assert world.journal.records_count == 1
    await world.coordinator.stop()


async def test_a_journal_whose_groups_take_more_than_that_is_let_grow_in_proportion() -> None:
    async with running(TIDY) as world:
        for number in range(100):
            await commit(world.coordinator, f"g{number}", 0, 1)
            await turns()
        await turns()
        written = world.journal.appends
        for offset in range(200):
            await commit(world.coordinator, "g0", 0, offset)
            await turns()
        assert world.journal.appends - written <= 200 + 2 * 100, "each record is written at most once more, or so"
        assert world.journal.records_count <= 3 * 100 + 1


async def test_a_large_group_is_written_in_pieces_and_off_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(GroupConfig(assignment_interval_ms=0, journal_records_max=10_000)) as world:
        count = 2 * RECORDS_AT_ONCE + RECORDS_ON_LOOP
        world.topics.create("large", count)
        for offset in (1, 2, 3):
            offsets = [OffsetCommit("large", number, offset) for number in range(count)]
            assert set(await world.coordinator.commit_offsets("g", OUTSIDER, offsets)) == {None}
        async with asyncio.timeout(10):
            while not world.journal.forgotten_count:
                await asyncio.sleep(0)
        assert world.journal.records_count == count
        assert world.journal.appends == 3 + 3
        assert set((await world.offsets()).values()) == {3}


class SlowJournal(MemoryJournal):
    """Takes records at once, and says that they are durable when told."""

    def __init__(self) -> None:
        super().__init__()
        self.slow = False
        self.under_way: list[asyncio.Event] = []

    async def append(self, records: Sequence[Record]) -> None:
        await super().append(records)
        if self.slow:
            durable = asyncio.Event()
            self.under_way.append(durable)
            await durable.wait()

    def finish(self) -> None:
        for durable in self.under_way:
            durable.set()
        self.under_way.clear()


async def slow_world(groups: int = 1) -> World:
    """With so many groups, `g0` and so on, of one record each, and `busy` with the rest of a journal that is just not
    too long yet. From now on it is slow."""
    world = World(TIDY)
    journal = world.journal = SlowJournal()
    world.coordinator = world._new()
    await world.coordinator.start()
    for number in range(groups):
        await commit(world.coordinator, f"g{number}", 0, 7)
    for offset in range(TIDY.journal_records_max - groups):
        await commit(world.coordinator, "busy", 0, offset)
    await turns()
    assert not journal.forgotten_count
    journal.slow = True
    return world


async def begin_rewriting(world: World) -> None:
    """By one commit more, which ends before anything else that is under way."""
    assert isinstance(world.journal, SlowJournal)
    before = list(world.journal.under_way)
    trigger = start(commit(world.coordinator, "busy", 0, 50))
    await turns()
    [durable] = [event for event in world.journal.under_way if event not in before]
    world.journal.under_way.remove(durable)
    durable.set()
    await trigger
    await turns()


async def finish_all(world: World) -> None:
    assert isinstance(world.journal, SlowJournal)
    for _ in range(10):
        world.journal.finish()
        await turns()


async def test_a_group_whose_first_commit_is_under_way_when_it_begins_is_not_let_go() -> None:
    world = await slow_world()
    new = start(commit(world.coordinator, "new", 0, 7))
    await turns()
    await begin_rewriting(world)
    assert not new.done()
    await finish_all(world)
    assert world.journal.forgotten_count == 1
    await world.restart()
    assert (await world.offsets("new"), await world.offsets("busy")) == ({0: 7}, {0: 50})
    await world.coordinator.stop()


async def test_a_group_that_is_being_deleted_when_it_begins_is_not_written_anew() -> None:
    world = await slow_world()
    deleting = start(world.coordinator.delete_group("g0"))
    await turns()
    await begin_rewriting(world)
    assert not deleting.done()
    await finish_all(world)
    await deleting
    assert world.journal.forgotten_count == 1
    await world.restart()
    assert [listed.group for listed in world.coordinator.list_groups()] == ["busy"]
    await world.coordinator.stop()


async def test_a_full_disk_leaves_the_journal_as_it_is_and_it_is_tried_again() -> None:
    async with running(TIDY) as world:
        for offset in range(50):
            await commit(world.coordinator, "g", 0, offset)
        world.journal.full_after = world.journal.appends + 1
        await commit(world.coordinator, "g", 0, 50)
        await turns()
        with pytest.raises(StorageFull):
            await commit(world.coordinator, "g", 0, 51)
        world.journal.full_after = None
        await commit(world.coordinator, "g", 0, 51)
        await turns()
        assert world.journal.records_count == 52, "a moment later, not with each commit"
        await world.pass_time(1_000)
        await commit(world.coordinator, "g", 0, 52)
        await turns()
        assert world.journal.records_count == 1


async def test_a_stop_in_between_lets_go_of_nothing_and_does_not_wait_for_all_groups() -> None:
    world = await slow_world(groups=GROUPS_AT_ONCE + 5)
    await begin_rewriting(world)
    assert len(world.journal.under_way) == GROUPS_AT_ONCE  # type: ignore[attr-defined]
    appends = world.journal.appends
    stopping = start(world.coordinator.stop())
    await finish_all(world)
    await stopping
    assert world.journal.appends == appends
    assert not world.journal.forgotten_count


async def test_a_seek_that_runs_meanwhile_is_not_undone() -> None:
    async with running(TIDY) as world:
        a = world.member("a")
        await a.join()
        await settle(a)
        for offset in range(40):
            await a.commit(0, offset)
        sought = start(world.coordinator.seek("g", "t", [0], SeekTarget(offset=10), False))
        await turns()
        for offset in range(60):
            await a.beat()
            await a.commit(1, offset)
            await turns()
        assert world.journal.forgotten_count
        await a.acknowledge()
        await sought
        await world.restart()
        assert (await world.offsets())[0] == 10


async def commit_for(world: World, seconds: int) -> None:
    """To two groups, every second."""
    for offset in range(seconds):
        await world.pass_time(1_000)
        await commit(world.coordinator, f"g{offset % 2}", 0, offset)
        await turns()


async def test_on_a_disk_that_stays_nearly_full_it_writes_nothing_and_asks_more_and_more_seldom() -> None:
    async with running(TIDY) as world:
        world.journal.room_bytes = 100
        await commit_for(world, 1_000)
        assert world.journal.appends == 1_000, "nothing but the commits"
        assert 8 <= world.journal.asked_count <= 12
        world.journal.room_bytes = None
        await commit_for(world, 300)
        assert world.journal.forgotten_count
        assert world.journal.records_count <= TIDY.journal_records_max + 1
        assert await world.offsets("g1") == {0: 299}


async def test_it_asks_for_room_for_what_the_groups_take_and_not_for_all_that_is_superseded() -> None:
    async with running(TIDY) as world:
        world.journal.room_bytes = 1_000  # as five records take, of more than fifty
        await commit_for(world, 60)
        assert world.journal.forgotten_count
        assert world.journal.records_count <= TIDY.journal_records_max


async def test_what_failed_tries_have_written_is_not_asked_room_for_again() -> None:
    async with running(TIDY) as world:
        world.journal.room_bytes = 1_000
        for offset in range(200):
            await world.pass_time(1_000)
            if world.journal.records_count >= TIDY.journal_records_max:  # the next is written, and a part anew
                world.journal.full_after = world.journal.appends + 2
            await commit(world.coordinator, f"g{offset % 2}", 0, offset)
            await turns()
            world.journal.full_after = None
        assert not world.journal.forgotten_count
        await commit_for(world, 300)
        assert world.journal.forgotten_count


async def test_a_disk_that_fills_while_it_writes_leaves_the_old_journal_valid() -> None:
    world = await slow_world(groups=GROUPS_AT_ONCE + 5)
    await begin_rewriting(world)
    appends = world.journal.appends
    world.journal.room_bytes = 0
    await finish_all(world)
    assert world.journal.appends == appends, "the rest of the room is left to others"
    assert not world.journal.forgotten_count
    await world.restart()
    listed = {listed.group for listed in world.coordinator.list_groups()}
    assert listed == {"busy", *(f"g{number}" for number in range(GROUPS_AT_ONCE + 5))}
    assert await world.offsets("busy") == {0: 50}
    await world.coordinator.stop()


async def test_each_try_that_a_full_disk_ends_makes_the_next_one_wait_longer() -> None:
    async with running(TIDY) as world:
        for offset in range(50):
            await commit(world.coordinator, "g", 0, offset)
        tries = 0
        for second in range(100):
            world.journal.full_after = world.journal.appends + 1
            await commit(world.coordinator, "g", 0, 50 + second)
            tries += world.journal.asked_count
            world.journal.asked_count = 0
            await turns()
            await world.pass_time(1_000)
        assert 5 <= tries <= 9
        assert not world.journal.forgotten_count
