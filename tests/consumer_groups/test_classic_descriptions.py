"""A classic group as it is listed and described, and how it is deleted."""

import pytest

from consumer_groups.config import GroupConfig
from consumer_groups.errors import (
    GroupIdNotFound,
    NonEmptyGroup,
    UnknownMemberId,
)
from consumer_groups.member import MemberProtocol
from consumer_groups.requests import (
    OUTSIDER,
    GroupState,
    OffsetCommit,
)
from tests.consumer_groups.classic_client import (
    DELAY_MS,
    Client,
    joined,
    running,
    stable,
    subscription,
    two,
)
from tests.consumer_groups.harness import start, turns


async def test_a_classic_group_is_listed_and_described_as_kafka_has_it() -> None:
    async with running() as world:
        a = Client(world, "a", instance_id="i")
        joining = start(a.join())
        await turns()
        (listed,) = world.coordinator.list_groups()
        assert (listed.is_classic, listed.protocol_type, listed.members_count) == (True, "consumer", 1)
        described = world.coordinator.describe_classic_group("g")
        assert (described.state, described.protocol) == (GroupState.PREPARING_REBALANCE, "")
        assert described.members[0].metadata == b""
        await world.pass_time(DELAY_MS)
        await joining
        await a.go_on()
        described = world.coordinator.describe_classic_group("g")
        assert (described.state, described.protocol_type, described.protocol) == (
            GroupState.STABLE,
            "consumer",
            "range",
        )
        (member,) = described.members
        assert (member.member_id, member.instance_id, member.client_id) == (a.member_id, "i", "a")
        assert (member.metadata, member.assignment) == (subscription("t"), a.data)


async def test_a_classic_group_is_described_to_people_with_what_its_members_read_and_its_lag() -> None:
    async with running() as world:
        a, b = await two(world)
        await a.commit(0, 40)
        described = await world.coordinator.describe_group("g")
        assert (described.state, described.group_epoch, described.assignor) == (GroupState.STABLE, 1, "range")
        read = {member.member_id: member.assignment[0].partitions for member in described.members}
        assert read == {a.member_id: (0, 2), b.member_id: (1, 3)}
        assert {member.subscribed_topics for member in described.members} == {("t",)}
        assert [(row.partition, row.committed_offset, row.lag_records) for row in described.partitions] == [
            (0, 40, 60),
            (1, -1, 100),
            (2, -1, 100),
            (3, -1, 100),
        ]
        assert described.partitions[0].member_id == a.member_id
        joining = start(a.join())
        await turns()
        described = await world.coordinator.describe_group("g")
        assert {member.member_id: member.state for member in described.members} == {
            a.member_id: "stable",
            b.member_id: "rejoining",
        }
        joining.cancel()


async def test_a_group_whose_members_exchange_what_nobody_else_knows_is_described_without_it() -> None:
    async with running() as world:
        worker = Client(world, "w", protocol_type="connect", protocols=(MemberProtocol("eager", b"\xff"),))
        await joined(worker)
        await worker.sync({worker.member_id: b"\x00\x09"})
        described = await world.coordinator.describe_group("g")
        assert (described.members[0].assignment, described.members[0].subscribed_topics) == ((), ())


async def test_groups_that_are_not_classic_are_described_as_far_as_kafka_would() -> None:
    async with running() as world:
        await world.coordinator.commit_offsets("g", OUTSIDER, [OffsetCommit("t", 0, 5)])
        described = world.coordinator.describe_classic_group("g")
        assert (described.state, described.protocol_type, described.members) == (GroupState.EMPTY, "", ())
        await world.member("m").join()
        with pytest.raises(GroupIdNotFound):
            world.coordinator.describe_classic_group("g")
        with pytest.raises(GroupIdNotFound):
            world.coordinator.describe_classic_group("h")


async def test_a_classic_group_is_deleted_when_it_has_no_members() -> None:
    async with running() as world:
        a = Client(world, "a")
        await stable(a)
        with pytest.raises(NonEmptyGroup):
            await world.coordinator.delete_group("g")
        await a.leave()
        await world.coordinator.delete_group("g")
        assert world.coordinator.list_groups() == []
        await world.restart()
        assert world.coordinator.list_groups() == []
        with pytest.raises(UnknownMemberId):
            await a.heartbeat()


async def test_a_classic_group_without_members_for_long_expires_with_its_offsets() -> None:
    async with running(GroupConfig(offsets_retention_ms=600_000)) as world:
        a = Client(world, "a")
        await stable(a)
        await a.commit(0, 5)
        await a.leave()
        await world.restart()
        for _ in range(9):
            await world.pass_time(60_000)
        assert await world.offsets() == {0: 5}
        for _ in range(3):
            await world.pass_time(60_000)
        assert world.coordinator.list_groups() == []
