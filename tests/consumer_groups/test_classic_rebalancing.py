"""Whatever changes in a classic group makes all join again; who does not, or is silent, is out."""

import asyncio

import pytest

from consumer_groups.classic.group import NEW_MEMBER_TIMEOUT_MS
from consumer_groups.errors import (
    IllegalGeneration,
    RebalanceInProgress,
    UnknownMemberId,
)
from consumer_groups.requests import GroupState
from tests.consumer_groups.classic_client import (
    Client,
    joined,
    protocol,
    rejoined,
    running,
    stable,
    state,
    synced,
    two,
)
from tests.consumer_groups.harness import start, turns


async def test_a_new_member_makes_the_others_join_again() -> None:
    async with running() as world:
        a, b = await two(world)
        c = Client(world, "c")
        joining = start(c.join())
        await turns()
        for old in (a, b):
            with pytest.raises(RebalanceInProgress):
                await old.heartbeat()
            with pytest.raises(RebalanceInProgress):
                await old.sync()
        assert not joining.done()
        await asyncio.gather(joining, a.join(), b.join())
        await synced(a, b, c)
        assert {client.generation for client in (a, b, c)} == {2}
        assert sorted(a.partitions + b.partitions + c.partitions) == [0, 1, 2, 3]


async def test_a_member_that_does_not_join_again_in_time_is_out_if_it_is_dynamic() -> None:
    async with running() as world:
        a, b = await two(world, session_timeout_ms=1_800_000)
        joining = start(a.join() if a.leads else b.join())
        await turns()
        await world.pass_time(59_999)
        assert not joining.done()
        await world.pass_time(1)
        reply = await joining
        assert (reply.generation, len(reply.members)) == (2, 1)
        out = b if a.leads else a
        with pytest.raises(UnknownMemberId):
            await out.heartbeat()


async def test_a_static_member_that_does_not_join_again_in_time_keeps_its_place_for_its_session() -> None:
    async with running() as world:
        a = Client(world, "a", session_timeout_ms=1_800_000)
        b = Client(world, "b", instance_id="i", session_timeout_ms=100_000)
        await stable(a, b)
        joining = start(a.join())
        await turns()
        await world.pass_time(60_000)
        reply = await joining
        assert {member.instance_id for member in reply.members} == {"", "i"}, "the leader assigns to it, too"
        await a.go_on()
        with pytest.raises(IllegalGeneration):
            await b.heartbeat()
        await world.pass_time(60_000)
        with pytest.raises(UnknownMemberId):
            await b.heartbeat()


async def test_a_group_of_static_members_none_of_whom_joins_again_waits_until_their_sessions_end() -> None:
    async with running() as world:
        a = Client(world, "a", instance_id="i", session_timeout_ms=100_000, rebalance_timeout_ms=10_000)
        b = Client(world, "b", session_timeout_ms=20_000, rebalance_timeout_ms=10_000)
        await stable(a, b)
        assert await b.leave() is None
        await world.pass_time(90_000)
        assert state(world) is GroupState.PREPARING_REBALANCE
        with pytest.raises(RebalanceInProgress):
            await a.heartbeat()
        await world.pass_time(100_000)
        assert state(world) is GroupState.EMPTY


async def test_a_leader_that_does_not_join_again_is_followed_by_one_who_did() -> None:
    async with running() as world:
        a, b, c = Client(world, "a"), Client(world, "b"), Client(world, "c")
        await stable(a, b)
        assert a.leads
        joining = [start(c.join()), start(b.join())]
        await turns()
        assert not joining[0].done()
        await world.pass_time(10_000)  # the old leader's session ends
        assert [(reply.generation, reply.leader) for reply in await asyncio.gather(*joining)] == [(2, b.member_id)] * 2


async def test_a_static_leader_that_does_not_join_again_keeps_its_place_but_leads_no_more() -> None:
    async with running() as world:
        a, b = Client(world, "a", instance_id="i", session_timeout_ms=100_000), Client(world, "b")
        await stable(a, b)
        assert a.leads
        joining = start(b.join(protocols=(protocol("range", "t", "u"),)))
        await turns()
        await world.pass_time(60_000)
        reply = await joining
        assert reply.leader == b.member_id
        assert {member.member_id for member in reply.members} == {a.member_id, b.member_id}


async def test_a_member_that_is_silent_for_its_session_is_out_and_the_rest_joins_again() -> None:
    async with running() as world:
        a, b = await two(world)
        await world.pass_time(9_999)
        await a.heartbeat()
        await world.pass_time(1)
        with pytest.raises(UnknownMemberId):
            await b.heartbeat()
        with pytest.raises(RebalanceInProgress):
            await a.heartbeat()
        await rejoined(a)
        assert a.partitions == [0, 1, 2, 3]


async def test_a_member_past_its_session_is_out_even_if_no_timer_has_noticed() -> None:
    async with running() as world:
        a, b = await two(world)
        world.clock.now_ms += 10_000
        with pytest.raises(UnknownMemberId):
            await a.heartbeat()
        with pytest.raises(UnknownMemberId):
            await b.commit(0, 1)


async def test_members_that_wait_for_others_are_not_silent() -> None:
    async with running() as world:
        a, b = await two(world)
        joining = start((a if a.leads else b).join())
        await turns()
        await world.pass_time(9_999)
        with pytest.raises(RebalanceInProgress):
            await (b if a.leads else a).heartbeat()
        await world.pass_time(9_999)
        assert not joining.done()
        await (b if a.leads else a).join()
        assert (await joining).generation == 2


async def test_a_new_member_that_waits_for_too_long_is_taken_for_gone() -> None:
    async with running() as world:
        a = Client(world, "a", rebalance_timeout_ms=1_800_000, session_timeout_ms=1_800_000)
        await stable(a)
        joining = start(Client(world, "b").join())
        await turns()
        await world.pass_time(NEW_MEMBER_TIMEOUT_MS)
        with pytest.raises(UnknownMemberId):
            await joining
        assert (await a.join()).generation == 2


async def test_members_that_do_not_sync_in_time_are_out() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b", session_timeout_ms=1_000_000)
        await joined(a, b)
        assert a.leads
        await a.go_on()
        for _ in range(6):
            await world.pass_time(9_000)
            await a.heartbeat()
            await b.heartbeat()
        await world.pass_time(6_000)
        with pytest.raises(UnknownMemberId):
            await b.heartbeat()
        with pytest.raises(RebalanceInProgress):
            await a.heartbeat()


async def test_a_sync_that_waits_for_a_leader_who_goes_is_told_to_join_again() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b")
        await joined(a, b)
        leader, follower = (a, b) if a.leads else (b, a)
        waiting = start(follower.sync())
        await turns()
        assert await leader.leave() is None
        with pytest.raises(RebalanceInProgress):
            await waiting
        assert (await follower.join()).leader == follower.member_id


async def test_a_member_with_another_subscription_makes_for_a_rebalance_and_one_without_for_none() -> None:
    async with running() as world:
        a, b = await two(world)
        follower = b if a.leads else a
        reply = await follower.join()
        assert (reply.generation, state(world)) == (1, GroupState.STABLE), "it missed the answer"
        joining = start(follower.join(protocols=(protocol("range", "t", "u"),)))
        await turns()
        assert state(world) is GroupState.PREPARING_REBALANCE
        await asyncio.gather(joining, (a if a.leads else b).join())


async def test_a_leader_that_joins_again_makes_for_a_rebalance() -> None:
    async with running() as world:
        a, b = await two(world)
        leader, follower = (a, b) if a.leads else (b, a)
        joining = start(leader.join())
        await turns()
        assert not joining.done()
        await asyncio.gather(joining, follower.join())
        assert a.generation == b.generation == 2


async def test_a_join_that_missed_its_answer_gets_it_again_while_the_leader_assigns() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b")
        await joined(a, b)
        leader = a if a.leads else b
        assert leader.joined is not None
        assert await leader.join() == leader.joined
        assert leader.generation == 1


async def test_a_join_that_is_sent_once_more_takes_the_place_of_the_first() -> None:
    async with running() as world:
        a, b = await two(world)
        first = start(a.join(protocols=(protocol("range", "t", "u"),)))
        await turns()
        second = start(a.join())
        await turns()
        with pytest.raises(RebalanceInProgress):
            await first
        await b.join()
        assert (await second).generation == 2


async def test_a_caller_that_gives_up_leaves_its_join_to_be_repeated() -> None:
    async with running() as world:
        a, b = await two(world)
        joining = start(a.join(protocols=(protocol("range", "t", "u"),)))
        await turns()
        joining.cancel()
        await turns()
        again = start(a.join())
        await turns()
        await b.join()
        assert (await again).generation == 2
