"""Static members of the classic protocol: back under another id, without a rebalance."""

import pytest

from consumer_groups.errors import (
    FencedInstanceId,
    RebalanceInProgress,
    UnknownMemberId,
)
from consumer_groups.member import MemberProtocol
from consumer_groups.requests import GroupState
from tests.consumer_groups.classic_client import (
    Client,
    joined,
    protocol,
    running,
    stable,
    state,
    subscription,
)
from tests.consumer_groups.harness import start, turns


async def test_a_static_member_comes_back_without_a_rebalance_and_fences_its_predecessor() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b", instance_id="i")
        await stable(a, b)
        back = Client(world, "b", instance_id="i")
        reply = await back.join()
        assert (reply.generation, state(world)) == (1, GroupState.STABLE)
        assert back.member_id != b.member_id
        await back.sync()
        assert back.data == b.data
        await a.heartbeat()
        await back.heartbeat()
        for call in (b.heartbeat, b.sync, b.join):
            with pytest.raises(FencedInstanceId):
                await call()
        assert isinstance(await b.leave(), FencedInstanceId)
        with pytest.raises(FencedInstanceId):
            await b.commit(1, 5)


@pytest.mark.parametrize("can_skip", [True, False])
async def test_a_static_leader_that_comes_back_does_not_assign_again(can_skip: bool) -> None:
    async with running() as world:
        a, b = Client(world, "a", instance_id="i"), Client(world, "b")
        await stable(a, b)
        assert a.leads
        back = Client(world, "a", instance_id="i")
        reply = await back.join(can_skip_assignment=can_skip)
        assert reply.skip_assignment == can_skip
        if can_skip:
            assert reply.leader == back.member_id
            assert {member.member_id for member in reply.members} == {back.member_id, b.member_id}
        else:
            assert (reply.leader, reply.members) == (a.member_id, ()), "it takes itself for a follower"
        await back.sync()
        assert back.data == a.data


async def test_a_static_member_that_comes_back_with_other_topics_makes_for_a_rebalance() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b", instance_id="i")
        await stable(a, b)
        joining = start(Client(world, "b", instance_id="i", protocols=(protocol("range", "t", "u"),)).join())
        await turns()
        assert not joining.done()
        await a.join()
        assert (await joining).generation == 2


async def test_a_static_member_that_comes_back_with_other_notes_on_the_same_topics_does_not() -> None:
    async with running() as world:
        a = Client(world, "a", instance_id="i", protocols=(MemberProtocol("sticky", subscription("t")),))
        await stable(a)
        noted = MemberProtocol("sticky", subscription("t", user_data=b"what I had"))
        await Client(world, "a", instance_id="i", protocols=(noted,)).join()
        assert state(world) is GroupState.STABLE


async def test_a_static_member_that_comes_back_while_the_leader_assigns_makes_for_a_rebalance() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b", instance_id="i")
        await joined(a, b)
        waiting = start(b.sync())
        await turns()
        back = Client(world, "b", instance_id="i")
        joining = start(back.join())
        await turns()
        with pytest.raises(FencedInstanceId):
            await waiting
        with pytest.raises(RebalanceInProgress):
            await a.go_on()
        await a.join()
        assert (await joining).generation == 2


async def test_a_static_member_that_is_replaced_while_its_join_waits_is_fenced() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b", instance_id="i", protocols=(protocol(),))
        await stable(a, b)
        first = start(b.join(protocols=(protocol("range", "t", "u"),)))
        await turns()
        back = Client(world, "b", instance_id="i")
        second = start(back.join())
        await turns()
        with pytest.raises(FencedInstanceId):
            await first
        await a.join()
        assert (await second).generation == 2


async def test_a_static_member_with_an_id_that_nobody_has_is_unknown() -> None:
    async with running() as world:
        a = Client(world, "a")
        await stable(a)
        b = Client(world, "b", instance_id="i")
        b.member_id, b.generation = "i-1", 1
        for call in (b.join, b.heartbeat, b.sync):
            with pytest.raises(UnknownMemberId):
                await call()
