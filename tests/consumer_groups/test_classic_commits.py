"""Who may commit in a classic group, and when."""

import asyncio

import pytest

from consumer_groups.errors import (
    FencedInstanceId,
    IllegalGeneration,
    NonEmptyGroup,
    RebalanceInProgress,
    UnknownMemberId,
)
from consumer_groups.requests import (
    OUTSIDER,
    Committer,
    OffsetCommit,
)
from tests.consumer_groups.classic_client import (
    Client,
    running,
    stable,
    synced,
    two,
)
from tests.consumer_groups.harness import start, turns


async def test_a_commit_is_checked_by_member_generation_and_instance() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b", instance_id="i")
        await stable(a, b)
        assert await a.commit(0, 5, metadata="seen", leader_epoch=3) is None
        assert await b.commit(1, 6) is None
        (row, _) = await world.coordinator.fetch_offsets("g", None)
        assert (row.offset, row.metadata, row.leader_epoch) == (5, "seen", 3)

        for member_id, generation, instance_id, error in (
            (a.member_id, 0, "", IllegalGeneration),
            (a.member_id, 2, "", IllegalGeneration),
            (a.member_id, -1, "", IllegalGeneration),
            ("nobody", 1, "", UnknownMemberId),
            ("", 1, "", UnknownMemberId),
            ("", -1, "", UnknownMemberId),
            (a.member_id, 1, "i", FencedInstanceId),
            (b.member_id, 1, "j", UnknownMemberId),
        ):
            with pytest.raises(error):
                await world.coordinator.commit_offsets(
                    "g", Committer(member_id, generation, instance_id=instance_id), [OffsetCommit("t", 0, 9)]
                )
        assert await world.offsets() == {0: 5, 1: 6}


async def test_what_is_no_consumer_keeps_its_offsets_while_it_runs() -> None:
    async with running() as world:
        await world.coordinator.commit_offsets("g", OUTSIDER, [OffsetCommit("t", 0, 5)])
        worker = Client(world, "worker", protocol_type="connect")
        joining = start(worker.join())
        await turns()
        with pytest.raises(NonEmptyGroup, match="connect"):
            await world.coordinator.delete_offsets("g", [("t", 0)])
        assert await world.offsets() == {0: 5}
        joining.cancel()


async def test_members_commit_until_they_have_joined_again_and_not_while_the_leader_assigns() -> None:
    async with running() as world:
        a, b = await two(world)
        leader, follower = (a, b) if a.leads else (b, a)
        joining = start(leader.join())
        await turns()
        assert await follower.commit(1, 7) is None, "what it has read to so far"
        await asyncio.gather(joining, follower.join())
        with pytest.raises(RebalanceInProgress):
            await follower.commit(1, 8)
        await synced(a, b)
        assert await follower.commit(1, 8) is None


async def test_a_commit_shows_that_its_member_lives() -> None:
    async with running() as world:
        a, b = await two(world)
        await world.pass_time(9_000)
        await a.commit(0, 5)
        await b.heartbeat()
        await world.pass_time(9_000)
        await a.heartbeat()


async def test_who_is_no_member_commits_to_an_empty_group_and_may_read_it_back() -> None:
    async with running() as world:
        simple = [OffsetCommit("t", 0, 5)]
        assert await world.coordinator.commit_offsets("g", OUTSIDER, simple) == [None]
        a = Client(world, "a")
        await stable(a)
        with pytest.raises(UnknownMemberId):
            await world.coordinator.commit_offsets("g", OUTSIDER, simple)
        await a.leave()
        assert await world.coordinator.commit_offsets("g", OUTSIDER, [OffsetCommit("t", 0, 6)]) == [None]
        assert await world.offsets() == {0: 6}
