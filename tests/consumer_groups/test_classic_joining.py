"""Members of the classic protocol come and go: JoinGroup, SyncGroup and LeaveGroup, and what they may say."""

import asyncio
from typing import Any

import pytest

from consumer_groups.classic.requests import JoinRequest, Leaver, SyncReply
from consumer_groups.config import GroupConfig
from consumer_groups.errors import (
    GroupError,
    GroupMaxSizeReached,
    IllegalGeneration,
    InconsistentGroupProtocol,
    InvalidGroupId,
    InvalidRequest,
    InvalidSessionTimeout,
    MemberIdRequired,
    RebalanceInProgress,
    UnknownMemberId,
)
from consumer_groups.member import MemberProtocol
from consumer_groups.requests import GroupState
from tests.consumer_groups import harness
from tests.consumer_groups.classic_client import (
    DELAY_MS,
    Client,
    joined,
    protocol,
    rejoined,
    running,
    stable,
    state,
    subscription,
    two,
)
from tests.consumer_groups.harness import start, turns

# Joining and syncing.


async def test_members_that_join_together_share_the_first_generation_and_one_of_them_leads() -> None:
    async with running() as world:
        a, b = await two(world)
        assert a.joined is not None
        assert b.joined is not None
        assert (a.generation, b.generation) == (1, 1)
        assert a.joined.leader == b.joined.leader == a.member_id
        assert [member.member_id for member in a.joined.members] == [a.member_id, b.member_id]
        assert [member.metadata for member in a.joined.members] == [subscription("t")] * 2
        assert b.joined.members == (), "who is there concerns the leader alone"
        assert (a.partitions, b.partitions) == ([0, 2], [1, 3])
        assert state(world) is GroupState.STABLE


async def test_member_ids_begin_with_the_client_id_or_the_instance_id() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b", instance_id="i")
        await stable(a, b)
        assert a.member_id.startswith("a-")
        assert b.member_id.startswith("i-")


async def test_a_group_passes_through_the_states_of_kafka() -> None:
    async with running() as world:
        a = Client(world, "a")
        joining = start(a.join())
        await turns()
        assert state(world) is GroupState.PREPARING_REBALANCE
        await world.pass_time(DELAY_MS)
        await joining
        assert state(world) is GroupState.COMPLETING_REBALANCE
        await a.go_on()
        assert state(world) is GroupState.STABLE
        await a.leave()
        assert state(world) is GroupState.EMPTY


async def test_the_first_rebalance_waits_for_more_members_as_long_as_they_come() -> None:
    async with harness.running(GroupConfig(initial_rebalance_delay_ms=3_000)) as world:
        a, b = Client(world, "a"), Client(world, "b")
        first = start(a.join())
        await turns()
        await world.pass_time(2_000)
        second = start(b.join())
        await turns()
        await world.pass_time(1_000)
        assert not first.done()
        await world.pass_time(3_000)
        assert (await first).generation == (await second).generation == 1


async def test_the_first_rebalance_waits_no_longer_than_the_rebalance_timeout() -> None:
    async with harness.running(GroupConfig(initial_rebalance_delay_ms=3_000)) as world:
        joins = []
        for number in range(7):
            joins.append(start(Client(world, f"m{number}", rebalance_timeout_ms=7_000).join()))
            await turns()
            assert not any(join.done() for join in joins)
            await world.pass_time(1_000)
        assert {(await join).generation for join in joins} == {1}


async def test_a_member_that_must_have_an_id_gets_one_and_is_waited_for_a_session() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b")
        await stable(a)
        request = JoinRequest(member_id="", requires_member_id=True, **b.fields)
        with pytest.raises(MemberIdRequired) as required:
            await world.coordinator.join_group(request)
        assert required.value.member_id.startswith("b-")
        assert state(world) is GroupState.STABLE, "it is no member yet"

        joining = start(a.join())  # as leader: that makes for a rebalance
        await turns()
        assert not joining.done(), "the one that got an id is waited for"
        b.member_id = required.value.member_id
        await asyncio.gather(joining, b.join())
        assert b.generation == a.generation == 2


async def test_a_member_that_got_an_id_and_does_not_come_is_waited_for_no_longer_than_its_session() -> None:
    async with running() as world:
        a = Client(world, "a")
        await stable(a)
        with pytest.raises(MemberIdRequired) as required:
            await world.coordinator.join_group(
                JoinRequest(member_id="", requires_member_id=True, **Client(world, "b").fields)
            )
        joining = start(a.join())
        await turns()
        await world.pass_time(9_999)
        assert not joining.done()
        await world.pass_time(1)
        assert (await joining).generation == 2
        late = Client(world, "b")
        late.member_id = required.value.member_id
        with pytest.raises(UnknownMemberId):
            await late.join()


async def test_a_group_that_only_gave_an_id_out_is_gone_when_nobody_comes_with_it() -> None:
    async with running() as world:
        with pytest.raises(MemberIdRequired):
            await world.coordinator.join_group(
                JoinRequest(member_id="", requires_member_id=True, **Client(world, "a").fields)
            )
        await world.pass_time(10_000)
        assert world.coordinator.list_groups() == []
        assert world.journal.records == []


async def test_a_follower_waits_with_its_sync_for_the_leader_and_gets_its_own_assignment() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b")
        await joined(a, b)
        follower, leader = (b, a) if a.leads else (a, b)
        waiting = start(follower.sync())
        await turns()
        assert not waiting.done()
        reply = await leader.sync({leader.member_id: b"for the leader", follower.member_id: b"for the follower"})
        assert reply == SyncReply("consumer", "range", b"for the leader")
        assert await waiting == SyncReply("consumer", "range", b"for the follower")


async def test_members_that_the_leader_leaves_out_have_nothing() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b")
        await joined(a, b)
        await asyncio.gather(*(client.sync({a.member_id: b"all"}) for client in (b, a)))
        assert {a.data, b.data} == {b"all", b""}


async def test_what_a_leader_assigns_to_strangers_is_dropped() -> None:
    async with running() as world:
        a = Client(world, "a")
        await joined(a)
        await a.sync({a.member_id: b"mine", "stranger": b"other"})
        assert [member.member_id for member in world.coordinator.describe_classic_group("g").members] == [a.member_id]


async def test_a_sync_in_a_stable_group_is_answered_at_once_and_again() -> None:
    async with running() as world:
        a, _ = await two(world)
        first = a.data
        assert (await a.sync()).assignment == first
        assert (await a.sync({a.member_id: b"other"})).assignment == first, "it is assigned already"


async def test_a_sync_names_the_protocol_of_the_group_or_none() -> None:
    async with running() as world:
        a, _ = await two(world)
        await a.sync(protocol_type="consumer", protocol="range")
        with pytest.raises(InconsistentGroupProtocol):
            await a.sync(protocol_type="connect")
        with pytest.raises(InconsistentGroupProtocol):
            await a.sync(protocol="roundrobin")


async def test_the_protocol_is_the_one_that_all_support_and_most_like_best() -> None:
    async with running() as world:
        likes = [("range", "sticky"), ("sticky", "range", "mine"), ("sticky", "range")]
        clients = [
            Client(world, f"m{number}", protocols=tuple(protocol(name) for name in names))
            for number, names in enumerate(likes)
        ]
        await stable(*clients)
        assert {client.joined.protocol for client in clients if client.joined} == {"sticky"}
        with pytest.raises(InconsistentGroupProtocol, match="none of which all of its members"):
            await Client(world, "d", protocols=(protocol("mine"),)).join()


async def test_a_member_of_another_protocol_type_is_refused_until_the_group_is_empty() -> None:
    async with running() as world:
        a = Client(world, "a")
        await stable(a)
        worker = Client(world, "w", protocol_type="connect", protocols=(MemberProtocol("eager", b"w"),))
        with pytest.raises(InconsistentGroupProtocol):
            await worker.join()
        await a.leave()
        await joined(worker)
        assert worker.generation == 3
        assert world.coordinator.list_groups()[0].protocol_type == "connect"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"session_timeout_ms": 5_999}, InvalidSessionTimeout),
        ({"session_timeout_ms": 1_800_001}, InvalidSessionTimeout),
        ({"protocols": ()}, InconsistentGroupProtocol),
        ({"protocol_type": ""}, InconsistentGroupProtocol),
        ({"protocols": (protocol(), protocol())}, InvalidRequest),
        ({"protocols": tuple(protocol(str(number)) for number in range(101))}, InvalidRequest),
        ({"protocols": (MemberProtocol("range", bytes(262_144)),)}, InvalidRequest),
        ({"rebalance_timeout_ms": -1}, InvalidRequest),
        ({"instance_id": "x" * 250}, InvalidRequest),
        ({"group": ""}, InvalidGroupId),
    ],
)
async def test_a_join_with_an_absurd_field_is_refused(fields: dict[str, Any], error: type[GroupError]) -> None:
    async with running() as world:
        with pytest.raises(error):
            await Client(world, "a", **fields).join()
        assert world.coordinator.list_groups() == []


# Leaving.


async def test_a_member_that_leaves_makes_the_others_join_again() -> None:
    async with running() as world:
        a, b = await two(world)
        assert await a.leave() is None
        assert isinstance(await a.leave(), UnknownMemberId)
        with pytest.raises(RebalanceInProgress):
            await b.heartbeat()
        await rejoined(b)
        assert b.partitions == [0, 1, 2, 3]


async def test_several_members_leave_with_one_request_each_with_its_own_result() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b", instance_id="i")
        await stable(a, b)
        results = await world.coordinator.leave_group(
            "g", [Leaver(a.member_id), Leaver("", "i"), Leaver("nobody"), Leaver("", "j"), Leaver("", "")]
        )
        kinds = [type(result) for result in results]
        assert kinds == [type(None), type(None), UnknownMemberId, UnknownMemberId, UnknownMemberId]
        assert state(world) is GroupState.EMPTY


async def test_a_member_that_only_got_an_id_may_leave() -> None:
    async with running() as world:
        a, b = Client(world, "a"), Client(world, "b")
        await stable(a)
        with pytest.raises(MemberIdRequired) as required:
            await world.coordinator.join_group(JoinRequest(member_id="", requires_member_id=True, **b.fields))
        b.member_id = required.value.member_id
        assert await b.leave() is None
        assert (await a.join()).generation == 2, "nobody is waited for"


async def test_of_a_group_that_is_not_there_nobody_is_a_member() -> None:
    async with running() as world:
        a = Client(world, "a")
        a.member_id, a.generation = "a-1", 3
        for call in (a.join, a.sync, a.heartbeat):
            with pytest.raises(UnknownMemberId):
                await call()
        assert isinstance(await a.leave(), UnknownMemberId)
        assert world.coordinator.list_groups() == []


async def test_a_member_with_a_wrong_generation_is_told_so() -> None:
    async with running() as world:
        a, _ = await two(world)
        for generation in (0, 2, -1):
            a.generation = generation
            for call in (a.heartbeat, a.sync):
                with pytest.raises(IllegalGeneration):
                    await call()


# Bounds.


async def test_a_group_has_no_more_members_than_it_may() -> None:
    async with running(GroupConfig(members_max=2)) as world:
        a, b = await two(world)
        with pytest.raises(GroupMaxSizeReached):
            await Client(world, "c").join()
        await rejoined(a, b)
        await a.leave()
        c = Client(world, "c")
        joining = start(c.join())
        await turns()
        assert not joining.done()
        with pytest.raises(GroupMaxSizeReached):
            await asyncio.gather(b.join(), Client(world, "d").join())


async def test_no_more_ids_are_given_out_than_there_may_be_members() -> None:
    async with running(GroupConfig(members_max=3)) as world:
        await stable(Client(world, "a"))
        for _ in range(3):
            with pytest.raises(MemberIdRequired):
                await world.coordinator.join_group(
                    JoinRequest(member_id="", requires_member_id=True, **Client(world, "b").fields)
                )
        with pytest.raises(GroupMaxSizeReached):
            await world.coordinator.join_group(
                JoinRequest(member_id="", requires_member_id=True, **Client(world, "b").fields)
            )


async def test_what_members_say_and_are_given_is_bounded() -> None:
    async with running(GroupConfig(member_bytes_max=100, group_bytes_max=150)) as world:
        a, b = Client(world, "a", protocols=(MemberProtocol("range", bytes(90)),)), Client(world, "b")
        await joined(a)
        with pytest.raises(InvalidRequest):
            await a.sync({a.member_id: bytes(101)})
        await a.sync({a.member_id: bytes(100)})
        with pytest.raises(GroupMaxSizeReached):
            await b.join(protocols=(MemberProtocol("range", bytes(90)),))
        assert (await a.join()).generation == 2, "its own words are not counted twice"
        many = {str(number): b"" for number in range(1_001)}
        with pytest.raises(InvalidRequest):
            await a.sync(many)
        with pytest.raises(InvalidRequest):
            await world.coordinator.leave_group("g", [Leaver(str(number)) for number in range(1_001)])
