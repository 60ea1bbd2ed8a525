"""Group requests that clients do not send, or not on purpose: the classic protocol."""

import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from tests.conformance.brokers import Broker
from tests.conformance.wire import Connection

RANGE = {"name": "range", "metadata": bytes(10)}
STICKY = {"name": "sticky", "metadata": bytes(10)}


pytestmark = pytest.mark.usefixtures("coordinator")


def subscription(user_data: bytes) -> bytes:
    """What a consumer says of itself when it joins: version 0, no topics, and anything."""
    return struct.pack(">hii", 0, 0, len(user_data)) + user_data


class Member:
    """A member with a connection of its own, since a join waits for the others."""

    def __init__(self, broker: Broker, group: str, instance: str | None = None) -> None:
        self.wire = Connection(broker.address)
        self.group = group
        self.instance = instance
        self.id = ""
        self.generation = -1

    def join_request(self, **options: Any) -> dict[str, Any]:
        asked = {
            "group_id": self.group,
            "member_id": self.id,
            "group_instance_id": self.instance,
            "session_timeout": 10_000,
            "rebalance_timeout": 10_000,
            "protocol_type": "consumer",
            "protocols": [RANGE],
        }
        return asked | options

    def join(self, **options: Any) -> Any:
        self.send_join(**options)
        return self.receive_join()

    def send_join(self, **options: Any) -> None:
        if not self.id and self.instance is None:
            required = self.wire.ask("join_group", 7, **self.join_request(**options))
            assert required.error_code == ErrorCode.member_id_required, required
            self.id = required.member_id
        self.wire.send("join_group", 7, **self.join_request(**options))

    def receive_join(self) -> Any:
        answer = self.wire.receive()
        if answer.error_code == 0:
            self.id, self.generation = answer.member_id, answer.generation_id
        return answer

    def identity(self) -> dict[str, Any]:
        return {
            "group_id": self.group,
            "generation_id": self.generation,
            "member_id": self.id,
            "group_instance_id": self.instance,
        }

    def sync(self, assignments: dict[str, bytes] | None = None, **options: Any) -> Any:
        given = [{"member_id": member, "assignment": plan} for member, plan in (assignments or {}).items()]
        return self.wire.ask("sync_group", 3, **self.identity() | {"assignments": given} | options)

    def heartbeat(self, **options: Any) -> int:
        return int(self.wire.ask("heartbeat", 3, **self.identity() | options).error_code)

    def await_rebalance(self) -> None:
        """Until another member's join has arrived: each has its own connection."""
        deadline = time.monotonic() + 20
        while (error := self.heartbeat()) != ErrorCode.rebalance_in_progress:
            assert error == 0
            assert time.monotonic() < deadline, "no rebalance began"

    def commit(self, topic: str, offset: int, *, partition: int = 0, metadata: str = "", **options: Any) -> int:
        identity = self.identity()
        identity["generation_id_or_member_epoch"] = identity.pop("generation_id")
        part = {"partition_index": partition, "committed_offset": offset, "committed_metadata": metadata}
        topics = [{"name": topic, "partitions": [part]}]
        answer = self.wire.ask("offset_commit", 8, **identity | {"topics": topics} | options)
        return int(answer.topics[0].partitions[0].error_code)

    def settle(self) -> None:
        """Join alone, and lead."""
        assert self.join().error_code == 0
        assert self.sync({self.id: b"all"}).error_code == 0


@pytest.fixture
def member(broker: Broker, group: str) -> Iterator[Callable[..., Member]]:
    """Makes members of the group."""
    with ExitStack() as stack:

        def make(instance: str | None = None) -> Member:
            made = Member(broker, group, instance)
            stack.enter_context(made.wire)
            return made

        yield make


def committed(wire: Connection, group: str, topic: str) -> tuple[int, str | None]:
    groups = [{"group_id": group, "topics": [{"name": topic, "partition_indexes": [0]}]}]
    (answer,) = wire.ask("offset_fetch", 8, groups=groups, require_stable=False).groups
    part = answer.topics[0].partitions[0]
    assert (answer.error_code, part.error_code) == (0, 0)
    return int(part.committed_offset), part.metadata


def test_a_member_is_given_its_id_before_it_joins(member: Callable[..., Member], wire: Connection, group: str) -> None:
    joining = member()
    first = joining.wire.ask("join_group", 7, **joining.join_request())
    assert first.error_code == ErrorCode.member_id_required
    assert first.member_id.startswith("conformance-"), "it tells the client"
    assert joining.wire.ask("join_group", 7, **joining.join_request(member_id=first.member_id)).error_code == 0


def test_before_version_4_a_member_joins_at_once(member: Callable[..., Member]) -> None:
    request = member().join_request()
    del request["group_instance_id"]
    answer = member().wire.ask("join_group", 3, **request)
    assert (answer.error_code, answer.generation_id) == (0, 1)
    assert answer.leader == answer.member_id


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"group_id": ""}, ErrorCode.invalid_group_id),
        ({"member_id": "made-up"}, ErrorCode.unknown_member_id),
        ({"session_timeout": 100}, ErrorCode.invalid_session_timeout),
        ({"session_timeout": 3_600_000}, ErrorCode.invalid_session_timeout),
        ({"protocols": []}, ErrorCode.inconsistent_group_protocol),
        ({"protocol_type": ""}, ErrorCode.inconsistent_group_protocol),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_a_join_that_is_wrong_is_refused(member: Callable[..., Member], options: dict[str, Any], error: int) -> None:
    joining = member()
    assert joining.wire.ask("join_group", 7, **joining.join_request(**options)).error_code == error


@pytest.mark.parametrize("options", [{"protocols": [STICKY]}, {"protocol_type": "connect"}])
def test_who_has_no_protocol_in_common_with_the_group_is_refused(
    member: Callable[..., Member], options: dict[str, Any]
) -> None:
    member().settle()
    other = member()
    refused = other.wire.ask("join_group", 7, **other.join_request(**options))
    assert refused.error_code == ErrorCode.inconsistent_group_protocol


def test_the_protocol_is_one_that_all_have(member: Callable[..., Member]) -> None:
    first, second = member(), member()
    first.join(protocols=[STICKY, RANGE])
    first.sync({first.id: b"all"})
    second.send_join(protocols=[RANGE])
    first.await_rebalance()
    joined = first.join(protocols=[STICKY, RANGE])
    assert joined.protocol_name == second.receive_join().protocol_name == "range"


def test_the_leader_sees_all_members_and_the_others_see_none(member: Callable[..., Member]) -> None:
    leader, follower = member(), member()
    leader.settle()
    follower.send_join(protocols=[RANGE | {"metadata": subscription(b"of the follower")}])
    leader.await_rebalance()
    answer = leader.join()
    following = follower.receive_join()
    assert answer.leader == following.leader == leader.id
    assert {each.member_id: each.metadata for each in answer.members} == {
        leader.id: bytes(10),
        follower.id: subscription(b"of the follower"),
    }
    assert following.members == ()
    assert answer.generation_id == following.generation_id == 2


def test_the_assignment_of_the_leader_is_given_untouched(member: Callable[..., Member]) -> None:
    leader, follower = member(), member()
    leader.settle()
    follower.send_join()
    leader.await_rebalance()
    leader.join()
    follower.receive_join()
    waiting = threading.Thread(target=lambda: answers.append(follower.sync()))
    answers: list[Any] = []
    waiting.start()
    assert leader.sync({leader.id: b"one", follower.id: b"\xff\x00two"}).assignment == b"one"
    waiting.join(20)
    assert [answer.assignment for answer in answers] == [b"\xff\x00two"]
    assert follower.sync().assignment == b"\xff\x00two", "and again when it is asked again"


def test_a_sync_of_another_generation_or_member_is_refused(member: Callable[..., Member]) -> None:
    alone = member()
    alone.join()
    assert alone.sync(generation_id=alone.generation + 1).error_code == ErrorCode.illegal_generation
    assert alone.sync(member_id="made-up").error_code == ErrorCode.unknown_member_id
    assert alone.sync({alone.id: b"all"}).assignment == b"all"


def test_a_heartbeat_of_another_generation_or_member_is_refused(member: Callable[..., Member]) -> None:
    alone = member()
    alone.settle()
    assert alone.heartbeat() == 0
    assert alone.heartbeat(generation_id=alone.generation - 1) == ErrorCode.illegal_generation
    assert alone.heartbeat(member_id="made-up") == ErrorCode.unknown_member_id
    assert alone.heartbeat(group_id="no-such-group") == ErrorCode.unknown_member_id


def test_a_member_learns_of_a_rebalance_from_its_heartbeat_and_may_commit_meanwhile(
    member: Callable[..., Member], topic: str
) -> None:
    first, second = member(), member()
    first.settle()
    second.send_join()
    first.await_rebalance()
    assert first.commit(topic, 5) == 0, "what it has done until then is not lost"
    first.join()
    second.receive_join()
    assert first.commit(topic, 6) == ErrorCode.rebalance_in_progress, "between join and sync nobody has the partition"


def test_a_commit_of_an_old_generation_is_refused(
    member: Callable[..., Member], wire: Connection, group: str, topic: str
) -> None:
    alone = member()
    alone.settle()
    assert alone.commit(topic, 3, metadata="mine") == 0
    assert alone.commit(topic, 4, generation_id_or_member_epoch=alone.generation - 1) == ErrorCode.illegal_generation
    assert alone.commit(topic, 4, member_id="made-up") == ErrorCode.unknown_member_id
    assert alone.commit(topic, 4, generation_id_or_member_epoch=-1, member_id="") == ErrorCode.unknown_member_id
    assert committed(wire, group, topic) == (3, "mine")


def test_without_members_anybody_may_commit(
    member: Callable[..., Member], wire: Connection, group: str, topic: str
) -> None:
    nobody = member()
    assert nobody.commit(topic, 8) == 0
    assert committed(wire, group, topic) == (8, "")
    assert nobody.commit(topic, 9, generation_id_or_member_epoch=3, member_id="made-up") in (
        ErrorCode.illegal_generation,
        ErrorCode.unknown_member_id,
    )


def test_metadata_of_a_commit_has_a_limit(member: Callable[..., Member], topic: str) -> None:
    nobody = member()
    assert nobody.commit(topic, 1, metadata="x" * 4096) == 0
    assert nobody.commit(topic, 1, metadata="x" * 4097) == ErrorCode.offset_metadata_too_large


def test_a_commit_for_an_unknown_topic_or_partition_is_refused(member: Callable[..., Member], topic: str) -> None:
    assert member().commit("not-there", 1) == ErrorCode.unknown_topic_or_partition
    assert member().commit(topic, 1, partition=7) == ErrorCode.unknown_topic_or_partition


def test_what_was_never_committed_is_minus_one(wire: Connection, group: str, topic: str) -> None:
    assert committed(wire, group, topic) == (-1, "")
    answer = wire.ask("offset_fetch", 7, group_id=group, topics=None, require_stable=True)
    assert (answer.error_code, answer.topics) == (0, ())


def test_offsets_of_several_groups_come_in_one_answer(
    member: Callable[..., Member], wire: Connection, group: str, topic: str
) -> None:
    member().commit(topic, 4)
    groups = [{"group_id": group, "topics": None}, {"group_id": "not-there", "topics": None}]
    known, unknown = wire.ask("offset_fetch", 8, groups=groups, require_stable=True).groups
    assert (known.group_id, known.topics[0].partitions[0].committed_offset) == (group, 4)
    assert (unknown.group_id, unknown.error_code, unknown.topics) == ("not-there", 0, ())


def test_a_member_that_leaves_is_gone_at_once(member: Callable[..., Member], wire: Connection, group: str) -> None:
    alone = member()
    alone.settle()
    answer = wire.ask("leave_group", 4, group_id=group, members=[{"member_id": alone.id}, {"member_id": "made-up"}])
    assert answer.error_code == 0
    assert [each.error_code for each in answer.members] == [0, ErrorCode.unknown_member_id]
    assert alone.heartbeat() == ErrorCode.unknown_member_id
    (described,) = wire.ask("describe_groups", 5, groups=[group]).groups
    assert (described.group_state, described.members) == ("Empty", ())


def test_a_group_that_is_left_goes_on_counting_its_generations(member: Callable[..., Member]) -> None:
    first = member()
    first.settle()
    first.wire.ask("leave_group", 4, group_id=first.group, members=[{"member_id": first.id}])
    second = member()
    assert second.join().generation_id > first.generation


def test_a_static_member_needs_no_id_and_keeps_its_generation_when_it_is_back(member: Callable[..., Member]) -> None:
    static = member("one")
    static.settle()
    back = member("one")
    answer = back.join()
    assert (answer.error_code, answer.generation_id) == (0, static.generation)
    assert back.id != static.id
    assert back.sync().assignment == b"all", "without a rebalance"


def test_who_was_replaced_by_a_static_member_of_its_name_is_fenced(
    member: Callable[..., Member], wire: Connection, group: str, topic: str
) -> None:
    static = member("one")
    static.settle()
    member("one").join()
    assert static.heartbeat() == ErrorCode.fenced_instance_id
    assert static.sync().error_code == ErrorCode.fenced_instance_id
    assert static.commit(topic, 5) == ErrorCode.fenced_instance_id
    rejoining = static.wire.ask("join_group", 7, **static.join_request())
    assert rejoining.error_code == ErrorCode.fenced_instance_id
    assert committed(wire, group, topic) == (-1, "")


def test_a_static_member_is_removed_by_its_name(member: Callable[..., Member], wire: Connection, group: str) -> None:
    static = member("one")
    static.settle()
    removed = wire.ask("leave_group", 4, group_id=group, members=[{"member_id": "", "group_instance_id": "one"}])
    assert [each.error_code for each in removed.members] == [0]
    assert static.heartbeat() in (ErrorCode.unknown_member_id, ErrorCode.fenced_instance_id)


def test_a_member_that_does_not_come_back_to_a_rebalance_is_out(
    member: Callable[..., Member], wire: Connection
) -> None:
    first, second = member(), member()
    assert first.join(rebalance_timeout=1000).error_code == 0
    first.sync({first.id: b"all"})
    second.send_join(rebalance_timeout=1000)
    answer = second.receive_join()
    assert (answer.error_code, answer.leader) == (0, second.id)
    assert [each.member_id for each in answer.members] == [second.id]
    assert first.heartbeat() == ErrorCode.unknown_member_id


def test_a_group_is_described_with_its_members(member: Callable[..., Member], wire: Connection, group: str) -> None:
    alone = member("one")
    alone.settle()
    (described,) = wire.ask("describe_groups", 5, groups=[group]).groups
    assert (described.group_state, described.protocol_type, described.protocol_data) == ("Stable", "consumer", "range")
    (only,) = described.members
    assert (only.member_id, only.group_instance_id, only.client_id) == (alone.id, "one", "conformance")
    assert (only.member_metadata, only.member_assignment) == (bytes(10), b"all")
    assert only.client_host


def test_groups_are_listed_by_their_state(member: Callable[..., Member], wire: Connection, group: str) -> None:
    member().settle()
    for states, is_listed in (([], True), (["Stable"], True), (["Empty"], False)):
        listed = wire.ask("list_groups", 4, states_filter=states)
        assert (group in {each.group_id for each in listed.groups}) == is_listed
    (found,) = [each for each in wire.ask("list_groups", 5).groups if each.group_id == group]
    assert (found.group_state, found.group_type, found.protocol_type) == ("Stable", "classic", "consumer")


def test_the_coordinator_of_every_group_is_the_broker(wire: Connection, broker: Broker) -> None:
    old = wire.ask("find_coordinator", 1, key="any", key_type=0)
    assert (old.error_code, f"{old.host}:{old.port}") == (0, broker.address)
    several = wire.ask("find_coordinator", 4, key_type=0, coordinator_keys=["a", "b"]).coordinators
    assert [(each.key, each.error_code, each.node_id) for each in several] == [
        ("a", 0, old.node_id),
        ("b", 0, old.node_id),
    ]
