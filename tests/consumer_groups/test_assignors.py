"""The assignors: even, sticky, settled, and for range what Kafka's arithmetic gives."""

from collections.abc import Callable
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer_groups.assignors import ASSIGNORS, Plan, Subscriber, assign_range, assign_uniform
from consumer_groups.requests import Partition

IDS = [UUID(int=number) for number in range(1, 5)]

counts = st.dictionaries(st.sampled_from(IDS), st.integers(1, 8), min_size=1)
member_ids = st.lists(st.sampled_from([f"m{number}" for number in range(8)]), min_size=1, max_size=8, unique=True)


@st.composite
def groups(draw: st.DrawFn, *, same_topics: bool = False) -> tuple[dict[str, Subscriber], dict[UUID, int]]:
    topics = draw(counts)
    names = draw(member_ids)
    # The plan before may be any, also one for topics that have changed since.
    leftover = [Partition(topic_id, number) for topic_id in IDS for number in range(9)]
    owners = draw(st.lists(st.sampled_from([*names, ""]), min_size=len(leftover), max_size=len(leftover)))
    members = {}
    for name in names:
        members[name] = Subscriber(
            topics=frozenset(topics) if same_topics else draw(st.frozensets(st.sampled_from(IDS))),
            instance_id=draw(st.sampled_from(["", f"i-{name}"])),
            previous=frozenset(partition for partition, owner in zip(leftover, owners, strict=True) if owner == name),
        )
    return members, topics


def keep(members: dict[str, Subscriber], plan: Plan) -> dict[str, Subscriber]:
    return {
        name: Subscriber(member.topics, member.instance_id, previous=plan[name]) for name, member in members.items()
    }


@pytest.mark.parametrize("assign", ASSIGNORS.values(), ids=ASSIGNORS)
@given(group=groups())
def test_every_partition_goes_to_one_subscriber(
    assign: Callable[[dict[str, Subscriber], dict[UUID, int]], Plan],
    group: tuple[dict[str, Subscriber], dict[UUID, int]],
) -> None:
    members, topics = group
    plan = assign(members, topics)
    assert plan.keys() == members.keys()
    given_out = [partition for partitions in plan.values() for partition in partitions]
    assert len(given_out) == len(set(given_out))
    read = {topic_id for member in members.values() for topic_id in member.topics}
    assert set(given_out) == {
        Partition(topic_id, number) for topic_id, count in topics.items() if topic_id in read for number in range(count)
    }
    for name, partitions in plan.items():
        assert {partition.topic_id for partition in partitions} <= members[name].topics


@pytest.mark.parametrize("assign", ASSIGNORS.values(), ids=ASSIGNORS)
@given(group=groups())
def test_planning_again_changes_nothing(
    assign: Callable[[dict[str, Subscriber], dict[UUID, int]], Plan],
    group: tuple[dict[str, Subscriber], dict[UUID, int]],
) -> None:
    members, topics = group
    plan = assign(members, topics)
    assert assign(keep(members, plan), topics) == plan


@given(group=groups())
def test_uniform_leaves_no_move_that_would_even_out(group: tuple[dict[str, Subscriber], dict[UUID, int]]) -> None:
    members, topics = group
    plan = assign_uniform(members, topics)
    for giver in members:
        for partition in plan[giver]:
            for receiver in members:
                if partition.topic_id in members[receiver].topics:
                    assert len(plan[giver]) - len(plan[receiver]) <= 1


@given(group=groups(same_topics=True))
def test_uniform_moves_as_few_partitions_as_an_even_plan_allows(
    group: tuple[dict[str, Subscriber], dict[UUID, int]],
) -> None:
    members, topics = group
    plan = assign_uniform(members, topics)
    loads = sorted(len(partitions) for partitions in plan.values())
    assert loads[-1] - loads[0] <= 1

    valid = {
        name: {partition for partition in member.previous if partition.number < topics.get(partition.topic_id, 0)}
        for name, member in members.items()
    }
    kept = sum(len(valid[name] & plan[name]) for name in members)
    # The best an even plan can do: the members that had most are those that may have one more.
    share, extra = divmod(sum(topics.values()), len(members))
    had = sorted((len(partitions) for partitions in valid.values()), reverse=True)
    assert kept == sum(min(count, share + (rank < extra)) for rank, count in enumerate(had))


@given(group=groups())
def test_range_cuts_each_topic_as_kafka_does(group: tuple[dict[str, Subscriber], dict[UUID, int]]) -> None:
    members, topics = group
    plan = assign_range(members, topics)
    static = sorted((m.instance_id, name) for name, m in members.items() if m.instance_id)
    dynamic = sorted(name for name, m in members.items() if not m.instance_id)
    ordered = [name for _, name in static] + dynamic
    for topic_id, count in topics.items():
        subscribers = [name for name in ordered if topic_id in members[name].topics]
        for index, name in enumerate(subscribers):
            per_member, with_extra = count // len(subscribers), count % len(subscribers)
            start = per_member * index + min(index, with_extra)
            length = per_member + (0 if index + 1 > with_extra else 1)
            assert sorted(partition.number for partition in plan[name] if partition.topic_id == topic_id) == list(
                range(start, start + length)
            )


def test_a_static_member_with_a_new_id_keeps_its_range() -> None:
    topics = {IDS[0]: 4}
    before = assign_range({"z": Subscriber(frozenset(IDS), "i0"), "m": Subscriber(frozenset(IDS))}, topics)
    after = assign_range({"a": Subscriber(frozenset(IDS), "i0"), "m": Subscriber(frozenset(IDS))}, topics)
    assert (after["a"], after["m"]) == (before["z"], before["m"])
