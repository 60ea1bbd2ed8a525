"""A group is of one protocol at a time, and may change while it is empty."""

import pytest

from consumer_groups.config import GroupConfig
from consumer_groups.errors import (
    InconsistentGroupProtocol,
    UnknownMemberId,
)
from tests.consumer_groups.classic_client import (
    Client,
    joined,
    running,
    stable,
)
from tests.consumer_groups.harness import start, turns


async def test_a_classic_member_is_refused_by_a_group_after_kip_848_until_that_is_empty() -> None:
    async with running() as world:
        member = world.member("m")
        await member.join()
        a = Client(world, "a")
        with pytest.raises(InconsistentGroupProtocol, match="KIP-848"):
            await a.join()
        assert await member.commit(0, 5) is None
        await member.leave()
        await stable(a)
        assert a.partitions == [0, 1, 2, 3]
        assert await world.offsets() == {0: 5}, "what was committed stays"


async def test_a_member_after_kip_848_is_refused_by_a_classic_group_until_that_is_empty() -> None:
    async with running() as world:
        a, member = Client(world, "a"), world.member("m")
        await stable(a)
        assert await a.commit(0, 5) is None
        with pytest.raises(InconsistentGroupProtocol, match="classic"):
            await member.join()
        await a.leave()
        await member.join()
        assert member.partitions == [0, 1, 2, 3]
        assert await world.offsets() == {0: 5}
        with pytest.raises(UnknownMemberId):
            await a.commit(0, 6)
        await world.restart()
        assert world.coordinator.list_groups()[0].is_classic is False
        await member.beat()


async def test_a_heartbeat_that_waits_is_answered_when_its_group_becomes_a_classic_one() -> None:
    async with running(GroupConfig(assignment_interval_ms=0, session_timeout_ms=3_000)) as world:
        member = world.member("m")
        await member.join()
        await member.acknowledge()
        waiting = start(member.beat(wait_ms=5_000))
        await turns()
        world.clock.now_ms += 3_000
        a = Client(world, "a")
        await joined(a)
        with pytest.raises(UnknownMemberId):
            await waiting
