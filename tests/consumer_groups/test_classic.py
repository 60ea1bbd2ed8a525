"""Members of classic groups, seen through the coordinator: Kafka's JoinGroup, SyncGroup, Heartbeat, LeaveGroup."""

import asyncio
from typing import Any

import pytest

from consumer_groups.classic import NEW_MEMBER_TIMEOUT_MS
from consumer_groups.classic_member import MemberProtocol
from consumer_groups.classic_requests import JoinRequest, Leaver, SyncReply
from consumer_groups.config import GroupConfig
from consumer_groups.errors import (
    FencedInstanceId,
    GroupError,
    GroupIdNotFound,
    GroupMaxSizeReached,
    IllegalGeneration,
    InconsistentGroupProtocol,
    InvalidGroupId,
    InvalidRequest,
    InvalidSessionTimeout,
    MemberIdRequired,
    NonEmptyGroup,
    RebalanceInProgress,
    ShuttingDown,
    UnknownMemberId,
)
from consumer_groups.requests import GroupState, OffsetCommit
from logstore.errors import StorageFull
from tests.consumer_groups import harness
from tests.consumer_groups.classic_client import (
    DELAY_MS,
    Client,
    joined,
    protocol,
    rejoined,
    running,
    stable,
    subscription,
    synced,
)
from tests.consumer_groups.harness import World, start, turns


def state(world: World) -> GroupState:
    (group,) = world.coordinator.list_groups()
    return group.state


async def two(world: World, **fields: Any) -> tuple[Client, Client]:
    a, b = Client(world, "a", **fields), Client(world, "b", **fields)
    await stable(a, b)
    return a, b


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


# Rebalancing.


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


# Static members.


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


# Commits.


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
                    "g", member_id, generation, [OffsetCommit("t", 0, 9)], instance_id=instance_id
                )
        assert await world.offsets() == {0: 5, 1: 6}


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
        assert await world.coordinator.commit_offsets("g", "", -1, simple) == [None]
        a = Client(world, "a")
        await stable(a)
        with pytest.raises(UnknownMemberId):
            await world.coordinator.commit_offsets("g", "", -1, simple)
        await a.leave()
        assert await world.coordinator.commit_offsets("g", "", -1, [OffsetCommit("t", 0, 6)]) == [None]
        assert await world.offsets() == {0: 6}


# One protocol at a time.


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


# Listing, describing, deleting.


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
        await world.coordinator.commit_offsets("g", "", -1, [OffsetCommit("t", 0, 5)])
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
