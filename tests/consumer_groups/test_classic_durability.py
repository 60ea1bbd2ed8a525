"""What of a classic group outlives a stop, a restart and a disk that is full."""

import asyncio

import pytest

from consumer_groups.config import GroupConfig
from consumer_groups.errors import (
    FencedInstanceId,
    RebalanceInProgress,
    ShuttingDown,
    UnknownMemberId,
)
from consumer_groups.requests import GroupState
from logstore.errors import StorageFull
from tests.consumer_groups.classic_client import (
    Client,
    protocol,
    rejoined,
    running,
    stable,
    state,
    two,
)
from tests.consumer_groups.harness import start, turns

# Stopping, and a disk that is full.


async def test_a_stop_answers_joins_and_syncs_that_wait() -> None:
    async with running() as world:
        a, b, c = Client(world, "a"), Client(world, "b"), Client(world, "c")
        await stable(a)
        joining = start(b.join())
        await turns()
        await world.coordinator.stop()
        with pytest.raises(ShuttingDown):
            await joining
        with pytest.raises(ShuttingDown):
            await c.join()


async def test_what_a_full_disk_does_not_take_has_not_happened() -> None:
    async with running() as world:
        a, b = await two(world)
        leader, follower = (a, b) if a.leads else (b, a)
        joining = start(leader.join())
        await turns()
        world.journal.full_after = world.journal.appends
        with pytest.raises(StorageFull):
            await follower.join()
        assert not joining.done(), "no generation begins that is not durable"
        world.journal.full_after = None
        await asyncio.gather(joining, follower.join())
        world.journal.full_after = world.journal.appends
        waiting = start(follower.sync())
        await turns()
        with pytest.raises(StorageFull):
            await leader.go_on()
        assert not waiting.done()
        world.journal.full_after = None
        await leader.go_on()
        await waiting
        assert state(world) is GroupState.STABLE


async def test_a_join_phase_that_ends_on_a_full_disk_ends_a_little_later() -> None:
    async with running() as world:
        a, b = await two(world, session_timeout_ms=1_800_000)
        leader = a if a.leads else b
        joining = start(leader.join())
        await turns()
        world.journal.full_after = world.journal.appends
        await world.pass_time(60_000)
        assert not joining.done()
        world.journal.full_after = None
        await world.pass_time(1_000)
        assert (await joining).generation == 2


# A restart.


async def test_a_stable_group_goes_on_after_a_restart_with_whole_sessions() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b", instance_id="i")
        await stable(a, b)
        await world.pass_time(9_999)
        described = world.coordinator.describe_classic_group("g")
        await world.restart()
        assert world.coordinator.describe_classic_group("g") == described
        await world.pass_time(9_999)
        for client in (a, b):
            await client.heartbeat()
            before = client.data
            assert (await client.sync()).assignment == before
            assert await client.commit(client.partitions[0], 9) is None


async def test_no_generation_is_given_out_twice_not_even_by_a_crash_in_the_middle() -> None:
    async with running() as world:
        a, b = await two(world)
        await asyncio.gather(a.join(protocols=(protocol("range", "t", "u"),)), b.join())
        assert a.generation == 2
        waiting = start((b if a.leads else a).sync())
        await turns()
        await world.restart()
        with pytest.raises(ShuttingDown):
            await waiting
        assert state(world) is GroupState.PREPARING_REBALANCE
        for client in (a, b):
            with pytest.raises(RebalanceInProgress):
                await client.heartbeat()
        await rejoined(a, b)
        assert {a.generation, b.generation} == {3}
        assert sorted(a.partitions + b.partitions) == [0, 1, 2, 3]


async def test_who_was_about_to_join_when_the_server_died_joins_anew() -> None:
    async with running() as world:
        a = Client(world, "a")
        await stable(a)
        b = Client(world, "b", requires_member_id=True)
        joining = start(b.join())
        await turns()
        await world.restart()
        with pytest.raises(ShuttingDown):
            await joining
        with pytest.raises(UnknownMemberId):
            await b.join()
        b.member_id = ""
        joining = start(b.join())
        await turns()
        await asyncio.gather(joining, a.join())
        assert b.generation == 2


async def test_a_static_member_that_came_back_is_who_it_is_after_a_restart() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b", instance_id="i")
        await stable(a, b)
        back = Client(world, "b", instance_id="i")
        await back.join()
        await world.restart()
        await back.heartbeat()
        with pytest.raises(FencedInstanceId):
            await b.heartbeat()


async def test_classic_groups_are_in_the_journal_that_is_written_anew() -> None:
    async with running(GroupConfig(journal_records_max=20)) as world:
        a, b = await two(world)
        for number in range(30):
            await a.commit(0, number)
        await turns()
        assert world.journal.forgotten_count > 0
        described = world.coordinator.describe_classic_group("g")
        await world.restart()
        assert world.coordinator.describe_classic_group("g") == described
        await b.heartbeat()


async def test_an_unchanged_assignment_is_not_written_again() -> None:
    async with running() as world:
        a, b = await two(world)
        before = len(world.journal.records)
        await rejoined(a, b)
        assert len(world.journal.records) == before + 2, "a generation begins, and is settled"
