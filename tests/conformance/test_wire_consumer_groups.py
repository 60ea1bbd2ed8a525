"""Group requests by hand: the protocol of KIP-848, where the broker assigns."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from uuid import uuid4

import pytest
from kio.schema.errors import ErrorCode

from tests.conformance.brokers import Broker
from tests.conformance.waiting import eventually
from tests.conformance.wire import Connection

pytestmark = pytest.mark.usefixtures("coordinator")


class Member:
    def __init__(self, broker: Broker, group: str, topic: str, instance: str | None = None) -> None:
        self.wire = Connection(broker.address)
        self.group = group
        self.topic = topic
        self.instance = instance
        self.id = str(uuid4())
        self.epoch = 0
        self.partitions: set[int] = set()

    def beat(self, **options: Any) -> Any:
        """A heartbeat that says no more than it has to."""
        asked = {
            "group_id": self.group,
            "member_id": self.id,
            "member_epoch": self.epoch,
            "instance_id": self.instance,
            "rebalance_timeout": -1,
        }
        answer = self.wire.ask("consumer_group_heartbeat", 0, **asked | options)
        if answer.error_code == 0:
            self.epoch = answer.member_epoch
            if answer.assignment is not None:
                parts = [each.partitions for each in answer.assignment.topic_partitions]
                self.partitions = {partition for each in parts for partition in each}
        return answer

    def join(self, **options: Any) -> Any:
        joining = {"member_epoch": 0, "rebalance_timeout": 10_000, "topic_partitions": []}
        return self.beat(**joining | {"subscribed_topic_names": [self.topic]} | options)

    def beat_owning(self) -> Any:
        """A heartbeat that says which partitions the member has."""
        (described,) = self.wire.ask("metadata", 12, topics=[{"name": self.topic}]).topics
        owned = [{"topic_id": described.topic_id, "partitions": sorted(self.partitions)}] if self.partitions else []
        return self.beat(topic_partitions=owned)

    def commit(self, offset: int, epoch: int) -> int:
        part = {"partition_index": 0, "committed_offset": offset, "committed_metadata": ""}
        answer = self.wire.ask(
            "offset_commit",
            9,
            group_id=self.group,
            generation_id_or_member_epoch=epoch,
            member_id=self.id,
            topics=[{"name": self.topic, "partitions": [part]}],
        )
        return int(answer.topics[0].partitions[0].error_code)


@pytest.fixture
def member(broker: Broker, group: str, four_partitions: str) -> Iterator[Callable[..., Member]]:
    """Makes members of the group, subscribed to a topic of four partitions."""
    with ExitStack() as stack:

        def make(instance: str | None = None) -> Member:
            made = Member(broker, group, four_partitions, instance)
            stack.enter_context(made.wire)
            return made

        yield make


def test_a_member_alone_is_given_all_with_its_first_heartbeat(member: Callable[..., Member]) -> None:
    alone = member()
    answer = alone.join()
    assert (answer.error_code, answer.member_id) == (0, alone.id)
    assert alone.epoch > 0
    assert alone.partitions == {0, 1, 2, 3}
    assert answer.heartbeat_interval.total_seconds() > 0
    assert alone.beat_owning().assignment is None, "what has not changed is not said again"


def test_what_one_member_gives_up_another_gets_and_not_before(member: Callable[..., Member]) -> None:
    first, second = member(), member()
    first.join()
    first.beat_owning()
    second.join()
    assert second.partitions == set()

    def is_taken_from_the_first() -> bool:
        """Until its next heartbeat the first has not given up what it is told to, so the second gets nothing."""
        first.beat_owning()
        assert second.beat_owning().error_code == 0
        assert second.partitions == set()
        return len(first.partitions) == 2

    eventually(is_taken_from_the_first)
    assert second.partitions == set(), "the first has not said yet that it gave them up"
    first.beat_owning()
    eventually(lambda: second.beat_owning().error_code == 0 and len(second.partitions) == 2)
    assert second.partitions == {0, 1, 2, 3} - first.partitions


def test_a_member_that_leaves_frees_its_partitions(member: Callable[..., Member]) -> None:
    first, second = member(), member()
    first.join()
    left = first.beat(member_epoch=-1)
    assert (left.error_code, left.member_epoch) == (0, -1)
    second.join()
    eventually(lambda: second.beat_owning().error_code == 0 and second.partitions == {0, 1, 2, 3})


def test_an_epoch_that_is_not_the_members_is_fenced(member: Callable[..., Member]) -> None:
    alone = member()
    alone.join()
    epoch = alone.epoch
    assert alone.beat(member_epoch=epoch + 1).error_code == ErrorCode.fenced_member_epoch
    if epoch > 2:  # else it would be a join, or a farewell
        old = alone.beat(member_epoch=epoch - 2)
        assert old.error_code in (ErrorCode.fenced_member_epoch, ErrorCode.invalid_request)
    assert alone.beat(member_epoch=epoch).error_code == 0


def test_a_member_that_is_not_there_is_unknown(member: Callable[..., Member]) -> None:
    member().join()
    assert member().beat(member_epoch=5).error_code == ErrorCode.unknown_member_id


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"group_id": ""}, ErrorCode.invalid_request),
        ({"rebalance_timeout": -1}, ErrorCode.invalid_request),
        ({"subscribed_topic_names": None}, ErrorCode.invalid_request),
        ({"topic_partitions": None}, ErrorCode.invalid_request),
        ({"server_assignor": "mine"}, ErrorCode.unsupported_assignor),
        ({"instance_id": ""}, ErrorCode.invalid_request),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_join_that_is_wrong_is_refused(member: Callable[..., Member], options: dict[str, Any], error: int) -> None:
    assert member().join(**options).error_code == error


@pytest.mark.parametrize("assignor", ["uniform", "range"])
def test_a_member_may_choose_an_assignor_of_the_broker(member: Callable[..., Member], assignor: str) -> None:
    alone = member()
    assert alone.join(server_assignor=assignor).error_code == 0
    assert alone.partitions == {0, 1, 2, 3}


def test_a_commit_of_another_epoch_is_refused(member: Callable[..., Member]) -> None:
    alone = member()
    alone.join()
    assert alone.commit(3, alone.epoch) == 0
    assert alone.commit(4, alone.epoch + 1) == ErrorCode.stale_member_epoch
    assert alone.commit(4, alone.epoch - 1) == ErrorCode.stale_member_epoch
    assert member().commit(4, 1) == ErrorCode.unknown_member_id


def test_a_static_member_keeps_its_partitions_while_it_is_away(member: Callable[..., Member]) -> None:
    static, other = member("one"), member("two")
    static.join()
    static.beat_owning()
    assert static.beat(member_epoch=-2).error_code == 0
    other.join()
    back = member("one")
    assert back.join().error_code == 0

    def is_shared() -> bool:
        back.beat_owning()
        other.beat_owning()
        return len(back.partitions) == len(other.partitions) == 2

    eventually(is_shared)
    assert back.partitions | other.partitions == {0, 1, 2, 3}


def test_the_name_of_a_static_member_that_is_there_is_not_given_away(member: Callable[..., Member]) -> None:
    member("one").join()
    assert member("one").join().error_code == ErrorCode.unreleased_instance_id


def test_the_group_is_listed_and_described_as_one_of_the_new_kind(
    member: Callable[..., Member], wire: Connection, group: str
) -> None:
    alone = member()
    alone.join()
    (listed,) = [each for each in wire.ask("list_groups", 5).groups if each.group_id == group]
    assert (listed.group_type, listed.group_state) == ("consumer", "Stable")
    (described,) = wire.ask("consumer_group_describe", 0, group_ids=[group]).groups
    assert (described.error_code, described.group_state, described.assignor_name) == (0, "Stable", "uniform")
    (only,) = described.members
    assert (only.member_id, only.member_epoch) == (alone.id, alone.epoch)
    assert sorted(only.assignment.topic_partitions[0].partitions) == [0, 1, 2, 3]


def test_offsets_are_told_to_a_member_in_its_epoch_and_to_who_looks_on(member: Callable[..., Member]) -> None:
    it = member()
    assert it.join().error_code == ErrorCode.none

    def fetched_by(member_id: str | None, epoch: int, group: str = it.group) -> int:
        asked = [{"name": it.topic, "partition_indexes": [0]}]
        groups = [{"group_id": group, "member_id": member_id, "member_epoch": epoch, "topics": asked}]
        (answer,) = it.wire.ask("offset_fetch", 9, groups=groups, require_stable=False).groups
        return int(answer.error_code)

    assert fetched_by(None, -1) == ErrorCode.none
    assert fetched_by(it.id, it.epoch) == ErrorCode.none
    assert fetched_by(it.id, it.epoch + 1) == ErrorCode.stale_member_epoch
    assert fetched_by("nobody", it.epoch) == ErrorCode.unknown_member_id
    assert fetched_by("nobody", 1, it.group + "-not-there") == ErrorCode.none


def test_a_member_in_its_epoch_may_claim_what_it_does_not_have(member: Callable[..., Member]) -> None:
    first, second = member(), member()
    first.join()
    second.join()
    second.partitions = {0, 1, 2, 3}
    assert second.beat_owning().error_code == ErrorCode.none
