"""Members and their heartbeats, seen through the coordinator."""

from typing import Any

import pytest

from consumer_groups import departures
from consumer_groups.config import GroupConfig
from consumer_groups.errors import (
    FencedInstanceId,
    FencedMemberEpoch,
    GroupError,
    GroupMaxSizeReached,
    InvalidGroupId,
    InvalidRequest,
    Overloaded,
    ShuttingDown,
    UnknownMemberId,
    UnreleasedInstanceId,
    UnsupportedAssignor,
)
from consumer_groups.requests import (
    OUTSIDER,
    Committer,
    GroupState,
    HeartbeatRequest,
    OffsetCommit,
    TopicInfo,
    TopicPartitions,
)
from logstore.errors import StorageFull
from tests.consumer_groups.harness import running, settle, start, turns


async def test_the_first_member_gets_everything_at_once() -> None:
    async with running() as world:
        a = world.member("a")
        reply = await a.join()
        assert (reply.member_id, reply.member_epoch, reply.heartbeat_interval_ms) == ("a", 1, 5_000)
        assert a.partitions == [0, 1, 2, 3]


async def test_a_partition_is_handed_out_only_when_its_owner_gave_it_up() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await a.join()
        await a.acknowledge()
        await b.join()
        assert b.partitions == []
        await a.beat()
        assert (a.epoch, a.partitions) == (1, [0, 1]), "told to give up, in its old epoch"
        await a.beat()
        assert a.epoch == 1, "to say nothing is not to have given up"
        await b.beat()
        assert b.partitions == []
        await a.acknowledge()
        assert a.epoch == 2
        await b.beat()
        assert (b.epoch, b.partitions) == (2, [2, 3])


async def test_what_is_unchanged_is_not_told_again() -> None:
    async with running() as world:
        a = world.member("a")
        await a.join()
        assert (await a.acknowledge()).assignment is None
        assert (await a.beat()).assignment is None


async def test_an_assignment_is_told_until_it_is_acknowledged() -> None:
    async with running() as world:
        a = world.member("a")
        first = await a.join()
        assert (await a.beat()).assignment == first.assignment


async def test_a_full_heartbeat_is_answered_in_full() -> None:
    async with running() as world:
        a = world.member("a")
        first = await a.join()
        reply = await a.beat(subscription=("t",), owned=a.assignment)
        assert reply.assignment == first.assignment


async def test_a_heartbeat_waits_for_news_and_is_woken_by_it() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await a.join()
        await a.acknowledge()
        waiting = start(a.beat(wait_ms=5_000))
        await turns()
        assert not waiting.done()
        appends = world.journal.appends
        await b.join()
        await waiting
        assert a.partitions == [0, 1]
        assert world.journal.appends == appends + 1, "the join, the plan and what the waiting member is told: one write"

        waiting = start(b.beat(wait_ms=5_000))
        await turns()
        assert not waiting.done()
        await a.acknowledge()
        await waiting
        assert b.partitions == [2, 3]


async def test_a_heartbeat_without_news_is_answered_when_its_wait_is_over() -> None:
    async with running() as world:
        a = world.member("a")
        await a.join()
        await a.acknowledge()
        waiting = start(a.beat(wait_ms=60_000))
        await turns()
        await world.pass_time(4_999)
        assert not waiting.done()
        await world.pass_time(1)  # the server caps the wait at the heartbeat interval
        assert waiting.done()
        assert (await waiting).assignment is None


async def test_a_second_heartbeat_of_a_member_releases_the_first() -> None:
    async with running() as world:
        a = world.member("a")
        await a.join()
        await a.acknowledge()
        first = start(a.beat(wait_ms=5_000))
        await turns()
        second = start(a.beat(wait_ms=5_000))
        await turns()
        assert first.done()
        assert not second.done()
        second.cancel()


async def test_a_member_fenced_while_its_heartbeat_waits_is_told_so() -> None:
    async with running(GroupConfig(session_timeout_ms=3_000)) as world:
        a = world.member("a")
        await a.join()
        await a.acknowledge()
        waiting = start(a.beat(wait_ms=5_000))
        await world.pass_time(3_000)
        with pytest.raises(UnknownMemberId):
            await waiting


async def test_a_silent_member_is_fenced_and_its_partitions_go_to_others() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await a.join()
        await b.join()
        await settle(a, b)
        await world.pass_time(44_999)
        await b.beat()
        assert b.partitions == [2, 3]
        await world.pass_time(1)
        await b.beat()
        assert b.partitions == [0, 1, 2, 3]
        with pytest.raises(UnknownMemberId):
            await a.beat()


async def test_a_member_that_does_not_give_up_in_time_is_fenced() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await a.beat(subscription=("t",), owned=(), rebalance_timeout_ms=10_000)
        await a.acknowledge()
        held = a.assignment
        await b.join()
        await a.beat()
        await world.pass_time(9_999)
        await a.beat(owned=held)
        await world.pass_time(1)
        with pytest.raises(UnknownMemberId):
            await a.beat(owned=held)
        await b.beat()
        assert b.partitions == [0, 1, 2, 3]


async def test_giving_up_one_thing_more_gets_its_own_time() -> None:
    async with running() as world:
        a, b, c = world.member("a"), world.member("b"), world.member("c")
        await a.beat(subscription=("t",), owned=(), rebalance_timeout_ms=10_000)
        await a.acknowledge()
        await b.join()
        await a.beat()
        await world.pass_time(9_000)
        await c.join()
        await a.acknowledge()  # and in the same breath it is told to give up the next
        await world.pass_time(9_000)
        await settle(a, b, c)
        assert a.epoch == 3


async def test_a_member_that_leaves_frees_its_partitions_at_once() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await a.join()
        await b.join()
        await settle(a, b)
        await a.leave()
        await b.beat()
        assert b.partitions == [0, 1, 2, 3]
        with pytest.raises(UnknownMemberId):
            await a.leave()


async def test_a_member_that_missed_its_new_epoch_goes_on_with_a_full_heartbeat() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await a.join()
        await b.join()
        await settle(a, b)
        owned, old_epoch = a.assignment, a.epoch
        await b.leave()
        await a.beat()  # this answer is lost
        assert a.epoch > old_epoch
        reply = await a.beat(member_epoch=old_epoch, subscription=("t",), owned=owned)
        assert reply.member_epoch > old_epoch
        assert a.partitions == [0, 1, 2, 3]


@pytest.mark.parametrize("wrong", ["nothing said", "claims too much", "older still", "newer"])
async def test_a_member_out_of_step_is_fenced(wrong: str) -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await a.join()
        await a.acknowledge()
        everything, first_epoch = a.assignment, a.epoch
        await b.join()
        await settle(a, b)
        assert (first_epoch, a.epoch) == (1, 2)
        cases: dict[str, dict[str, Any]] = {
            "nothing said": {"member_epoch": 1},
            "claims too much": {"member_epoch": 1, "subscription": ("t",), "owned": everything},
            "older still": {"member_epoch": 1, "subscription": ("t",), "owned": ()},
            "newer": {"member_epoch": 9},
        }
        if wrong == "older still":
            await b.leave()
            await a.catch_up()
            assert a.epoch == 3
        with pytest.raises(FencedMemberEpoch):
            await a.beat(**cases[wrong])
        await a.beat()  # refusing changed nothing


async def test_a_member_that_claims_what_it_lost_is_fenced() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await a.join()
        everything = a.assignment
        await a.acknowledge()
        await b.join()
        await settle(a, b)
        with pytest.raises(FencedMemberEpoch, match="claims 2 partitions that it lost"):
            await a.beat(owned=everything)


async def test_a_known_member_may_join_again() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await a.join()
        await b.join()
        await settle(a, b)
        epoch = (await world.coordinator.describe_group("g")).group_epoch
        await a.join()
        assert a.partitions == [0, 1]
        assert (await world.coordinator.describe_group("g")).group_epoch == epoch


async def test_a_static_member_comes_back_to_its_partitions() -> None:
    async with running() as world:
        a, b = world.member("a", instance_id="one"), world.member("b", instance_id="two")
        await a.join()
        await b.join()
        await settle(a, b)
        epoch = b.epoch
        await a.step_away()
        await b.beat()
        assert (b.partitions, b.epoch) == ([2, 3], epoch), "nothing moves while it is away"
        again = world.member("a2", instance_id="one")
        await again.join()
        assert (again.partitions, again.epoch) == ([0, 1], epoch)
        with pytest.raises(FencedInstanceId):
            await a.beat()
        with pytest.raises(UnknownMemberId):
            await world.coordinator.commit_offsets("g", Committer("a", epoch), [])


async def test_a_static_member_that_stays_away_is_out_when_its_session_ends() -> None:
    async with running() as world:
        a, b = world.member("a", instance_id="one"), world.member("b")
        await a.join()
        await b.join()
        await settle(a, b)
        await a.step_away()
        await world.pass_time(44_999)
        await b.beat()
        await world.pass_time(1)
        await b.beat()
        assert b.partitions == [0, 1, 2, 3]


async def test_what_a_member_that_is_away_may_no_longer_have_is_free_at_once() -> None:
    async with running() as world:
        a, b = world.member("a", instance_id="one"), world.member("b")
        await a.join()
        await a.acknowledge()
        await a.step_away()
        await b.join()
        assert b.partitions == [2, 3]


async def test_an_instance_id_in_use_is_not_given_away() -> None:
    async with running() as world:
        a = world.member("a", instance_id="one")
        await a.join()
        with pytest.raises(UnreleasedInstanceId):
            await world.member("b", instance_id="one").join()


async def test_only_a_static_member_can_leave_for_a_while() -> None:
    async with running() as world:
        a = world.member("a")
        await a.join()
        with pytest.raises(InvalidRequest):
            await a.step_away()


async def test_a_changed_subscription_changes_the_assignment() -> None:
    async with running() as world:
        world.topics.create("u", 2)
        a = world.member("a")
        await a.join()
        await a.beat(subscription=("u",))
        assert a.partitions == []
        await a.acknowledge()
        await a.beat()
        assert [(topic.topic, topic.partitions) for topic in a.assignment] == [("u", (0, 1))]


async def test_the_assignor_most_members_ask_for_is_used() -> None:
    async with running() as world:
        world.topics.create("u", 1)
        world.topics.create("v", 1)
        topics = ("t", "u", "v")
        a, b = world.member("a", topics=topics), world.member("b", topics=topics)
        await a.beat(subscription=topics, owned=(), assignor="range")
        await b.beat(subscription=topics, owned=(), assignor="range")
        await settle(a, b)
        assert (await world.coordinator.describe_group("g")).assignor == "range"
        assert (len(a.partitions), len(b.partitions)) == (4, 2), "range gives every first partition to the first"


async def test_a_crowd_that_joins_at_once_is_planned_for_once() -> None:
    async with running(GroupConfig(assignment_interval_ms=200)) as world:
        members = [world.member(f"m{number}") for number in range(4)]
        for member in members:
            await member.join()
        description = await world.coordinator.describe_group("g")
        assert (description.state, description.group_epoch, description.assignment_epoch) == (
            GroupState.ASSIGNING,
            4,
            1,
        )
        await world.pass_time(200)
        assert (await world.coordinator.describe_group("g")).assignment_epoch == 4
        await settle(*members)
        assert (await world.coordinator.describe_group("g")).state is GroupState.STABLE
        assert [len(member.partitions) for member in members] == [1, 1, 1, 1]


async def test_new_partitions_and_new_topics_are_assigned_without_a_word_from_members() -> None:
    async with running() as world:
        a = world.member("a", topics=("t", "later"))
        await a.join()
        await a.acknowledge()
        waiting = start(a.beat(wait_ms=5_000))
        await turns()
        world.topics.add_partitions("t", 6)
        world.coordinator.topics_changed()
        await waiting
        assert a.partitions == [0, 1, 2, 3, 4, 5]
        await a.acknowledge()
        world.topics.create("later", 1)
        world.coordinator.topics_changed()
        await turns()
        await a.beat()
        assert [topic.topic for topic in a.assignment] == ["later", "t"]


async def test_a_change_of_topics_that_is_none_of_the_groups_business_writes_nothing() -> None:
    async with running() as world:
        await world.member("a").join()
        appends = world.journal.appends
        world.topics.create("other", 3)
        world.coordinator.topics_changed()
        await turns()
        assert world.journal.appends == appends


async def test_a_group_has_a_bound() -> None:
    async with running(GroupConfig(members_max=1)) as world:
        a = world.member("a")
        await a.join()
        await a.join()
        with pytest.raises(GroupMaxSizeReached):
            await world.member("b").join()


async def test_the_number_of_groups_has_a_bound() -> None:
    async with running(GroupConfig(groups_max=1)) as world:
        await world.member("a").join()
        with pytest.raises(Overloaded):
            await world.member("a").beat(group="other", subscription=("t",), owned=())


async def test_groups_that_were_named_and_never_came_to_be_take_up_no_room() -> None:
    async with running(GroupConfig(groups_max=2)) as world:
        for number in range(5):
            name = f"named-{number}"
            with pytest.raises(UnsupportedAssignor):
                await world.member("a").beat(group=name, subscription=("t",), owned=(), assignor="none")
            with pytest.raises(UnknownMemberId):
                await world.coordinator.commit_offsets(name, Committer("a", 1), [])
            [refused] = await world.coordinator.commit_offsets(name, OUTSIDER, [OffsetCommit("nothing", 0, 1)])
            assert refused is not None
            world.journal.full_after = world.journal.appends
            with pytest.raises(StorageFull):
                await world.member("a").beat(group=name, subscription=("t",), owned=())
            world.journal.full_after = None
        for name in ("one", "two"):
            await world.member("a").beat(group=name, subscription=("t",), owned=())
        with pytest.raises(Overloaded):
            await world.member("a").beat(group="three", subscription=("t",), owned=())


async def test_a_group_whose_last_offset_went_with_its_topic_takes_up_no_room() -> None:
    async with running(GroupConfig(groups_max=1)) as world:
        await world.coordinator.commit_offsets("g", OUTSIDER, [OffsetCommit("t", 0, 1)])
        world.topics.delete("t")
        world.coordinator.topics_changed()
        await turns()
        world.topics.create("t", 1)
        await world.member("a").beat(group="other", subscription=("t",), owned=())


async def test_many_changes_of_topics_at_once_are_looked_at_once_or_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running() as world:
        looked_up: list[str] = []
        topic = world.topics.topic

        def look_up(name: str) -> TopicInfo | None:
            looked_up.append(name)
            return topic(name)

        monkeypatch.setattr(world.topics, "topic", look_up)
        a = world.member("a")
        await a.join()
        looked_up.clear()
        world.coordinator.topics_changed()
        await turns()
        once = len(looked_up)
        assert once > 0
        looked_up.clear()
        for count in range(5, 55):
            world.topics.add_partitions("t", count)
            world.coordinator.topics_changed()
        await turns()
        assert len(looked_up) <= 2 * once
        await a.beat()
        assert a.partitions == list(range(54)), "and the last of them was seen"


JOIN = {"group": "g", "member_id": "a", "member_epoch": 0, "subscription": ("t",), "owned": ()}


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"group": ""}, InvalidGroupId),
        ({"group": "x" * 250}, InvalidGroupId),
        ({"group": "a\nb"}, InvalidGroupId),
        ({"member_id": ""}, InvalidRequest),
        ({"member_id": "x" * 250}, InvalidRequest),
        ({"member_epoch": -3}, InvalidRequest),
        ({"number": -1}, InvalidRequest),
        ({"subscription": None}, InvalidRequest),
        ({"subscription": ("t",) * 1_001}, InvalidRequest),
        ({"subscription": ("",)}, InvalidRequest),
        ({"owned": (TopicPartitions("t", None, (0,)),)}, InvalidRequest),
        ({"rebalance_timeout_ms": -1}, InvalidRequest),
        ({"assignor": "sticky"}, UnsupportedAssignor),
        ({"instance_id": "x" * 250}, InvalidRequest),
        ({"member_epoch": 1}, UnknownMemberId),
        ({"member_epoch": -1}, UnknownMemberId),
    ],
)
async def test_bad_requests_are_refused_by_name_and_leave_no_trace(
    fields: dict[str, object], error: type[GroupError]
) -> None:
    async with running() as world:
        with pytest.raises(error) as caught:
            await world.coordinator.heartbeat(HeartbeatRequest(**{**JOIN, **fields}), 0)  # type: ignore[arg-type]
        assert caught.value.remedy
        assert world.coordinator.list_groups() == []
        assert world.journal.records == []


async def test_a_stop_answers_the_heartbeats_that_wait() -> None:
    async with running() as world:
        a = world.member("a")
        await a.join()
        await a.acknowledge()
        waiting = start(a.beat(wait_ms=5_000))
        await turns()
        await world.coordinator.stop()
        assert (await waiting).member_epoch == 1
        with pytest.raises(ShuttingDown):
            await a.beat()


async def test_a_heartbeat_that_a_newer_one_overtook_gives_nothing_up() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await a.join()
        before_it_held_anything = a.request(member_epoch=1, subscription=("t",), owned=(), number=2)
        await a.beat(owned=a.assignment, number=3)
        await b.join()
        await a.beat(number=4)
        assert a.partitions == [0, 1], "told to give up the others, and still at work on them"
        reply = await world.coordinator.heartbeat(before_it_held_anything, 0)
        assert reply.member_epoch == 1
        await b.beat()
        assert b.partitions == []
        await a.beat(owned=a.assignment, number=5)
        await b.beat()
        assert b.partitions == [2, 3]


async def test_a_join_that_arrives_once_more_gives_nothing_up() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        join = a.request(subscription=("t",), owned=(), number=1)
        await world.coordinator.heartbeat(join, 0)
        a.epoch = 1
        await a.beat(number=2)
        await b.join()
        assert (await world.coordinator.heartbeat(join, 0)).member_epoch == 1
        await b.beat()
        assert b.partitions == []


async def test_a_static_member_that_is_away_is_not_brought_back_by_an_old_join() -> None:
    async with running() as world:
        a = world.member("a", instance_id="one")
        join = a.request(subscription=("t",), owned=(), number=1)
        await world.coordinator.heartbeat(join, 0)
        await world.coordinator.heartbeat(a.request(member_epoch=-2, number=2), 0)
        await world.coordinator.heartbeat(join, 0)
        again = world.member("a2", instance_id="one")
        await again.join()
        assert again.partitions == [0, 1, 2, 3]


async def test_a_join_that_arrives_after_its_member_has_left_brings_nobody_back() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await b.join()
        join = a.request(subscription=("t",), owned=(), number=1)
        await world.coordinator.heartbeat(join, 0)
        await world.coordinator.heartbeat(a.request(member_epoch=-1, number=2), 0)
        await world.pass_time(40_000)
        with pytest.raises(UnknownMemberId, match="'a' left group 'g' after it sent this heartbeat, number 1"):
            await world.coordinator.heartbeat(join, 0)
        assert [member.member_id for member in (await world.coordinator.describe_group("g")).members] == ["b"]
        await a.beat(subscription=("t",), owned=(), number=3)
        assert a.epoch > 0, "it may come back"


async def test_a_first_join_that_its_members_leaving_overtook_makes_no_group() -> None:
    async with running() as world:
        a = world.member("a")
        join = a.request(subscription=("t",), owned=(), number=1)
        for request in (a.request(member_epoch=-1, number=2), join):
            with pytest.raises(UnknownMemberId):
                await world.coordinator.heartbeat(request, 0)
        assert world.coordinator.list_groups() == []
        await world.pass_time(45_000)
        await world.coordinator.heartbeat(join, 0)
        assert world.coordinator.list_groups(), "it is remembered for one session, and not for ever"


async def test_an_old_join_of_a_static_member_takes_no_place_that_is_kept_for_its_successor() -> None:
    async with running() as world:
        a, again = world.member("a", instance_id="one"), world.member("a2", instance_id="one")
        join = a.request(subscription=("t",), owned=(), number=1)
        await world.coordinator.heartbeat(join, 0)
        await world.coordinator.heartbeat(a.request(member_epoch=-2, number=2), 0)
        await again.join()
        await again.step_away()
        with pytest.raises(UnknownMemberId):
            await world.coordinator.heartbeat(join, 0)
        last = world.member("a3", instance_id="one")
        await last.join()
        assert last.partitions == [0, 1, 2, 3]


def test_of_those_who_left_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departures, "LEFT_MAX", 10)
    left = departures.Departures(kept_ms=1_000)
    requests = [HeartbeatRequest("g", f"m{number}", -1, number=5) for number in range(40)]
    for request in requests[:30]:
        left.note(request, 0)
    assert [left.cover(request, 500) for request in requests[:30]] == [False] * 20 + [True] * 10
    for request in requests[30:]:
        left.note(request, 1_000)
    assert len(left) == 10
    left.note(requests[30], 2_000)
    left.note(requests[30], 2_000)
    assert len(left) < 10


async def test_an_overtaken_heartbeat_neither_keeps_a_session_alive_nor_releases_the_newer_one_that_waits() -> None:
    async with running() as world:
        a = world.member("a")
        await a.join()
        old = a.request(number=7)
        waiting = start(a.beat(owned=a.assignment, number=8, wait_ms=5_000))
        await turns()
        await world.pass_time(4_000)
        reply = await world.coordinator.heartbeat(old, 5_000)
        assert reply.assignment == a.assignment, "answered at once, with where the member stands"
        assert not waiting.done()
        await world.pass_time(1_000)
        await waiting
        await world.coordinator.heartbeat(old, 0)
        await world.pass_time(40_000)
        assert not (await world.coordinator.describe_group("g")).members


async def test_members_whose_heartbeats_keep_their_order_need_not_number_them() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        for member in (a, b):
            await member.join()
        await settle(a, b)
        assert (a.partitions, b.partitions) == ([0, 1], [2, 3])


async def test_numbers_may_begin_anywhere_after_a_restart_and_in_a_member_that_takes_a_place_over() -> None:
    async with running() as world:
        a = world.member("a", instance_id="one")
        await a.beat(subscription=("t",), owned=(), number=1_000)
        await world.restart()
        await a.beat(number=1_001)
        await a.beat(member_epoch=-2, number=1_002)
        again = world.member("a2", instance_id="one")
        await again.beat(subscription=("t",), owned=(), number=1)
        await again.beat(owned=again.assignment, number=2)
        assert await again.commit(0, 5) is None
