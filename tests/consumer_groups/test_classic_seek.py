"""Sending a classic group elsewhere while it runs: everybody joins again, without what is sought, and once more."""

import asyncio

import pytest

from consumer_groups.errors import (
    AssignmentUnreadable,
    IllegalGeneration,
    PartitionNotOwned,
    RebalanceInProgress,
    SeekInProgress,
    SeekTimedOut,
    ShuttingDown,
)
from consumer_groups.member import MemberProtocol
from consumer_groups.requests import GroupState, SeekTarget, SoughtPartition
from logstore.errors import OffsetOutOfRange, StorageFull
from tests.consumer_groups.classic_client import (
    Client,
    assignment,
    joined,
    protocol,
    rejoined,
    running,
    stable,
    subscription,
    synced,
)
from tests.consumer_groups.harness import World, start, turns


async def two(world: World) -> tuple[Client, Client]:
    """a leads and has 0 and 2, b has 1 and 3; all have committed offset 50."""
    a, b = (Client(world, name, session_timeout_ms=100_000, rebalance_timeout_ms=300_000) for name in "ab")
    await stable(a, b)
    assert (a.leads, a.partitions, b.partitions) == (True, [0, 2], [1, 3])
    for client in (a, b):
        for number in client.partitions:
            assert await client.commit(number, 50) is None
    return a, b


def seek(world: World, offset: int, *partitions: int) -> "asyncio.Task[list[SoughtPartition]]":
    return start(world.coordinator.seek("g", "t", partitions, SeekTarget(offset=offset), False))


async def is_rebalancing(*clients: Client) -> bool:
    for client in clients:
        with pytest.raises(RebalanceInProgress):
            await client.heartbeat()
    return True


async def test_a_running_group_goes_on_at_the_new_place() -> None:
    async with running() as world:
        a, b = await two(world)
        sought = seek(world, 10, 0)
        await turns()
        assert await is_rebalancing(a, b)
        assert await a.commit(0, 60) is None, "what it has read to so far"
        old = a.generation
        await asyncio.gather(a.join(), b.join())
        await a.go_on()
        assert a.partitions == [2]
        await turns()
        assert not sought.done(), "b may still be at work on what it had"
        await b.go_on()
        assert b.partitions == [1, 3], "what is not sought stays where it is"
        assert await sought == [SoughtPartition("t", 0, 60, 10)]

        assert await is_rebalancing(a, b), "to get it back"
        for client in (a, b):
            assert isinstance(await client.commit(0, 70), PartitionNotOwned)
        assert await a.commit(2, 51) is None
        await asyncio.gather(a.join(), b.join())
        await synced(a, b)
        assert (a.partitions, b.partitions) == ([0, 2], [1, 3])
        assert await world.offsets() == {0: 10, 1: 50, 2: 51, 3: 50}
        current, a.generation = a.generation, old
        with pytest.raises(IllegalGeneration):
            await a.commit(0, 61)
        a.generation = current
        assert await a.commit(0, 11) is None
        await a.heartbeat()


async def test_between_the_two_rebalances_nobody_has_or_commits_what_is_sought() -> None:
    async with running() as world:
        a, b = await two(world)
        sought = seek(world, 10)
        await turns()
        await asyncio.gather(a.join(), b.join())
        with pytest.raises(RebalanceInProgress):
            await a.commit(0, 60)
        await a.go_on()
        for client in (a, b):
            for number in range(4):
                assert isinstance(await client.commit(number, 60), PartitionNotOwned)
        described = await world.coordinator.describe_group("g")
        assert {row.member_id for row in described.partitions} == {""}
        await b.go_on()
        await sought
        assert (a.partitions, b.partitions) == ([], [])
        await rejoined(a, b)
        assert await world.offsets() == dict.fromkeys(range(4), 10)
        assert sorted(a.partitions + b.partitions) == [0, 1, 2, 3]


async def test_a_member_that_comes_between_does_not_get_what_is_sought() -> None:
    async with running() as world:
        a, b = await two(world)
        sought = seek(world, 10, 0)
        await turns()
        await asyncio.gather(a.join(), b.join())
        await a.go_on()
        c = Client(world, "c")
        joining = start(c.join())
        await turns()
        assert await is_rebalancing(a, b)
        assert not sought.done(), "b has not been told yet that it has it no more"
        await asyncio.gather(joining, a.join(), b.join())
        await synced(a, b, c)
        assert sorted(a.partitions + b.partitions + c.partitions) == [1, 2, 3]
        await sought
        await rejoined(a, b, c)
        assert sorted(a.partitions + b.partitions + c.partitions) == [0, 1, 2, 3]
        assert (await world.offsets())[0] == 10


async def test_what_a_member_still_claims_when_it_comes_to_get_it_back_is_taken_once_more() -> None:
    """It has missed what it was told: given back what it has, it would go on where it was, and commit over the seek."""
    async with running() as world:
        a, b = await two(world)
        sought = seek(world, 10, 0)
        await turns()
        await rejoined(a, b)
        await sought
        claim = MemberProtocol("range", subscription("t", owned={"t": [0, 2]}))
        await asyncio.gather(a.join(protocols=(claim,)), b.join())
        await synced(a, b)
        assert (a.partitions, b.partitions) == ([2], [1, 3])
        assert isinstance(await a.commit(0, 60), PartitionNotOwned)
        assert await is_rebalancing(a, b)
        await asyncio.gather(a.join(protocols=(protocol(),)), b.join())
        await synced(a, b)
        assert (a.partitions, b.partitions) == ([0, 2], [1, 3])
        assert await a.commit(0, 11) is None
        await a.heartbeat()


async def test_a_member_that_claims_for_ever_what_was_sought_gets_it_in_the_end() -> None:
    async with running() as world:
        claim = MemberProtocol("range", subscription("t", owned={"t": [0, 1, 2, 3]}))
        a = Client(world, "a", protocols=(claim,))
        await stable(a)
        sought = seek(world, 10, 0)
        await turns()
        for _ in range(3):
            await rejoined(a)
        await sought
        assert a.partitions == [0, 1, 2, 3]
        await a.heartbeat()


async def test_a_seek_while_the_leader_assigns_strips_what_it_assigns() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b")
        await joined(a, b)
        sought = seek(world, 10, 0)
        await turns()
        await synced(a, b)
        assert sorted(a.partitions + b.partitions) == [1, 2, 3]
        await sought
        await rejoined(a, b)
        assert sorted(a.partitions + b.partitions) == [0, 1, 2, 3]


async def test_two_seeks_at_once_do_not_get_in_each_others_way() -> None:
    async with running() as world:
        a, b = await two(world)
        first, second = seek(world, 10, 0), seek(world, 20, 1)
        await turns()
        with pytest.raises(SeekInProgress):
            await seek(world, 30, 1)
        await rejoined(a, b)
        await asyncio.gather(first, second)
        await rejoined(a, b)
        assert (a.partitions, b.partitions) == ([0, 2], [1, 3])
        assert await world.offsets() == {0: 10, 1: 20, 2: 50, 3: 50}


async def test_a_seek_that_a_member_does_not_join_again_for_times_out_and_leaves_the_old_offsets() -> None:
    async with running() as world:
        a, b = await two(world)
        sought = seek(world, 10, 0)
        joining = start(a.join())
        await turns()
        await world.pass_time(60_000)
        with pytest.raises(SeekTimedOut, match=f"^{b.member_id} of group 'g' did not give up"):
            await sought
        await asyncio.gather(joining, b.join())
        await synced(a, b)
        assert sorted(a.partitions + b.partitions) == [0, 1, 2, 3], "the rebalance that was begun gives everything out"
        assert await world.offsets() == dict.fromkeys(range(4), 50)
        await a.heartbeat()


async def test_a_seek_that_times_out_after_the_first_rebalance_gives_back_what_was_taken() -> None:
    async with running() as world:
        a, b = await two(world)
        sought = seek(world, 10, 0)
        await turns()
        await asyncio.gather(a.join(), b.join())
        await a.go_on()
        for _ in range(12):
            await world.pass_time(5_000)
        with pytest.raises(SeekTimedOut, match=f"^{b.member_id} of group 'g' did not give up"):
            await sought
        await turns()
        assert await is_rebalancing(a, b)
        await rejoined(a, b)
        assert sorted(a.partitions + b.partitions) == [0, 1, 2, 3]
        assert await world.offsets() == dict.fromkeys(range(4), 50)


async def test_a_restart_between_the_rebalances_leaves_the_old_offsets_and_everybody_joins_again() -> None:
    async with running() as world:
        a, b = await two(world)
        sought = seek(world, 10, 0)
        await turns()
        await asyncio.gather(a.join(), b.join())
        await a.go_on()
        await world.restart()
        with pytest.raises(ShuttingDown):
            await sought
        assert world.coordinator.list_groups()[0].state is GroupState.PREPARING_REBALANCE
        assert isinstance(await a.commit(0, 60), PartitionNotOwned), "it was told that it does not have it"
        await rejoined(a, b)
        assert sorted(a.partitions + b.partitions) == [0, 1, 2, 3]
        assert await world.offsets() == dict.fromkeys(range(4), 50)
        await world.restart()
        assert world.coordinator.list_groups()[0].state is GroupState.STABLE


async def test_a_restart_after_the_new_offsets_leaves_them_and_everybody_joins_again() -> None:
    async with running() as world:
        a, b = await two(world)
        sought = seek(world, 10, 0)
        await turns()
        await rejoined(a, b)
        await sought
        await world.restart()
        assert isinstance(await a.commit(0, 60), PartitionNotOwned)
        await rejoined(a, b)
        assert sorted(a.partitions + b.partitions) == [0, 1, 2, 3]
        assert (await world.offsets())[0] == 10


async def test_a_group_all_of_whose_members_go_is_sent_elsewhere_at_once() -> None:
    async with running() as world:
        a, b = await two(world)
        sought = seek(world, 10, 0)
        await turns()
        await a.leave()
        await b.leave()
        assert await sought == [SoughtPartition("t", 0, 50, 10)]
        member = world.member("m")
        await member.join()
        assert member.partitions == [0, 1, 2, 3]


async def test_what_is_sought_stays_so_when_the_group_changes_its_kind() -> None:
    async with running() as world:
        member, a = world.member("m"), Client(world, "a")
        await member.join()
        await member.acknowledge()
        sought = seek(world, 10, 0)
        await turns()
        world.clock.now_ms += 45_000  # it is out, and no timer has noticed
        await joined(a)
        assert await sought == [SoughtPartition("t", 0, -1, 10)]
        await a.go_on()
        assert a.partitions == [0, 1, 2, 3]


@pytest.mark.parametrize("data", [b"\x00\x09what", b"\x00"])
async def test_a_group_whose_assignments_cannot_be_read_is_not_sought(data: bytes) -> None:
    async with running() as world:
        a = Client(world, "a")
        await joined(a)
        await a.sync({a.member_id: data})
        with pytest.raises(AssignmentUnreadable, match="cannot be read"):
            await seek(world, 10, 0)
        await a.heartbeat()
        assert world.coordinator.list_groups()[0].state is GroupState.STABLE


async def test_a_group_of_something_else_than_consumers_is_not_sought() -> None:
    async with running() as world:
        worker = Client(world, "w", protocol_type="connect", protocols=(MemberProtocol("eager", b""),))
        await joined(worker)
        await worker.sync({worker.member_id: assignment({"t": [0]})})
        with pytest.raises(AssignmentUnreadable, match="'connect'"):
            await seek(world, 10, 0)
        await worker.heartbeat()


async def test_a_seek_ends_when_the_leader_assigns_what_cannot_be_read_and_the_members_go_on() -> None:
    async with running() as world:
        a, b = await two(world)
        sought = seek(world, 10, 0)
        await turns()
        await asyncio.gather(a.join(), b.join())
        await asyncio.gather(a.sync({a.member_id: b"\x00\x09?"}), b.sync())
        with pytest.raises(AssignmentUnreadable):
            await sought
        assert a.data == b"\x00\x09?"
        await a.heartbeat()
        assert await a.commit(0, 60) is None


async def test_a_place_outside_of_the_log_is_refused_before_anybody_joins_again() -> None:
    async with running() as world:
        a, _ = await two(world)
        with pytest.raises(OffsetOutOfRange):
            await seek(world, 1_000, 0)
        await a.heartbeat()


async def test_a_full_disk_leaves_the_old_offsets_and_the_partitions_come_back() -> None:
    async with running() as world:
        a, b = await two(world)
        sought = seek(world, 10, 0)
        await turns()
        await asyncio.gather(a.join(), b.join())
        await a.go_on()
        world.journal.full_after = world.journal.appends
        await b.go_on()
        with pytest.raises(StorageFull):
            await sought
        world.journal.full_after = None
        await world.pass_time(1_000)
        await rejoined(a, b)
        assert sorted(a.partitions + b.partitions) == [0, 1, 2, 3]
        assert await world.offsets() == dict.fromkeys(range(4), 50)
