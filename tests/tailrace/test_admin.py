"""Admin, for threads and for asyncio: what it asks of the server, what it makes of the answer, and how it fails."""

import asyncio
import inspect
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tailrace
import tailrace.aio
from logwire.v1 import groups_pb2, topics_pb2
from tailrace import (
    ClusterDescription,
    CommittedOffset,
    ConfigEntry,
    GroupDescription,
    GroupListing,
    ListedOffset,
    MemberDescription,
    Node,
    PartitionDescription,
    PartitionLag,
    SoughtPartition,
    TopicDescription,
    TopicListing,
    TopicPartitions,
    errors,
)
from tests.tailrace.fake_server import FakeServer, wire_error
from tests.tailrace.test_consumer import fill

TOPIC_ID = bytes(range(16))


class AioAdmin:
    """The asyncio admin, called as the other one is: each call is awaited."""

    def __init__(self, **settings: Any) -> None:
        self._admin = tailrace.aio.Admin(**settings)
        self._loop = asyncio.new_event_loop()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._admin, name)

        def call(*arguments: Any, **named: Any) -> Any:
            return self._loop.run_until_complete(method(*arguments, **named))

        return call

    def __enter__(self) -> "AioAdmin":
        self._loop.run_until_complete(self._admin.__aenter__())
        return self

    def __exit__(self, *raised: Any) -> None:
        self._loop.run_until_complete(self._admin.__aexit__(*raised))
        self._loop.close()


@pytest.fixture(params=[tailrace.Admin, AioAdmin], ids=["threads", "asyncio"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def admin(kind: Any, server: FakeServer) -> Iterator[Any]:
    with kind(server=server.address) as admin:
        yield admin


def test_the_cluster_is_described_with_its_nodes(admin: Any, server: FakeServer) -> None:
    host, port = server.address.split(":")
    assert admin.cluster() == ClusterDescription("fake", (Node(1, host, int(port)),), "")


def test_a_topic_is_created_with_settings_given_as_they_are_said(admin: Any, server: FakeServer) -> None:
    server.answers["CreateTopic"] = topics_pb2.CreateTopicResponse(topic_id=TOPIC_ID, partitions=3)
    created = admin.create_topic("new", 3, {"retention.ms": 3_600_000, "durability": "relaxed"})
    assert created == TopicListing("new", TOPIC_ID.hex(), 3, internal=False)
    assert server.asked["CreateTopic"] == [
        topics_pb2.CreateTopicRequest(
            topic="new", partitions=3, config={"retention.ms": "3600000", "durability": "relaxed"}
        )
    ]


def test_the_number_of_partitions_may_be_left_to_the_server(admin: Any, server: FakeServer) -> None:
    server.answers["CreateTopic"] = topics_pb2.CreateTopicResponse(topic_id=TOPIC_ID, partitions=1)
    assert admin.create_topic("new").partitions == 1
    assert server.asked["CreateTopic"] == [topics_pb2.CreateTopicRequest(topic="new")]


def test_a_topic_is_deleted(admin: Any, server: FakeServer) -> None:
    server.answers["DeleteTopic"] = topics_pb2.DeleteTopicResponse()
    assert admin.delete_topic("old") is None
    assert server.asked["DeleteTopic"] == [topics_pb2.DeleteTopicRequest(topic="old")]


def test_a_topic_is_altered_by_what_is_given(admin: Any, server: FakeServer) -> None:
    server.answers["AlterTopic"] = topics_pb2.AlterTopicResponse()
    admin.alter_topic("t", 8)
    admin.alter_topic("t", set_config={"retention.bytes": -1, "preallocate": False}, unset_config=["retention.ms"])
    assert server.asked["AlterTopic"] == [
        topics_pb2.AlterTopicRequest(topic="t", partitions=8),
        topics_pb2.AlterTopicRequest(
            topic="t", set_config={"retention.bytes": "-1", "preallocate": "false"}, unset_config=["retention.ms"]
        ),
    ]


def test_records_before_an_offset_are_deleted(admin: Any, server: FakeServer) -> None:
    server.answers["DeleteRecords"] = topics_pb2.DeleteRecordsResponse(
        partitions=[
            topics_pb2.DeletedRecords(partition=0, log_start_offset=1500),
            topics_pb2.DeletedRecords(partition=3, log_start_offset=7),
        ]
    )
    assert admin.delete_records("t", {0: 1500, 3: -1}) == {0: 1500, 3: 7}
    assert server.asked["DeleteRecords"] == [
        topics_pb2.DeleteRecordsRequest(
            topic="t",
            partitions=[
                topics_pb2.RecordsToDelete(partition=0, before_offset=1500),
                topics_pb2.RecordsToDelete(partition=3, before_offset=-1),
            ],
        )
    ]


@pytest.mark.parametrize("include_internal", [False, True])
def test_topics_are_listed(admin: Any, server: FakeServer, include_internal: bool) -> None:
    server.answers["ListTopics"] = topics_pb2.ListTopicsResponse(
        topics=[topics_pb2.TopicListing(topic="t", topic_id=TOPIC_ID, partitions=4, internal=include_internal)]
    )
    assert admin.list_topics(include_internal) == [TopicListing("t", TOPIC_ID.hex(), 4, include_internal)]
    assert server.asked["ListTopics"] == [topics_pb2.ListTopicsRequest(include_internal=include_internal)]


def test_a_topic_is_described_with_its_partitions_and_settings(admin: Any, server: FakeServer) -> None:
    server.answers["DescribeTopic"] = topics_pb2.DescribeTopicResponse(
        topic="t",
        topic_id=TOPIC_ID,
        partitions=[
            topics_pb2.PartitionDescription(
                partition=1,
                log_start_offset=2,
                high_watermark=3,
                log_end_offset=4,
                size_bytes=5,
                segments_count=6,
                leader_node_id=7,
                leader_epoch=8,
            )
        ],
        config=[topics_pb2.ConfigEntry(name="retention.ms", value="1", is_default=False, documentation="How long.")],
        internal=True,
    )
    assert admin.describe_topic("t") == TopicDescription(
        "t",
        TOPIC_ID.hex(),
        (PartitionDescription(1, 2, 3, 4, 5, 6, 7, 8),),
        (ConfigEntry("retention.ms", "1", False, "How long."),),
        internal=True,
    )
    assert server.asked["DescribeTopic"] == [topics_pb2.DescribeTopicRequest(topic="t")]


def test_offsets_are_listed_of_ends_and_of_times(admin: Any, server: FakeServer) -> None:
    fill(server, {0: 10, 1: 5})
    both = [("flights", 0), ("flights", 1)]
    assert admin.list_offsets(both, "earliest") == [
        ListedOffset("flights", 0, 0, None),
        ListedOffset("flights", 1, 0, None),
    ]
    assert [listed.offset for listed in admin.list_offsets(both, "latest")] == [10, 5]
    assert [(listed.offset, listed.timestamp_ms) for listed in admin.list_offsets(both, 4500)] == [
        (5, 5000),
        (5, None),
    ]
    assert admin.list_offsets([], "latest") == []


def test_an_offset_that_cannot_be_listed_is_an_error(admin: Any, server: FakeServer) -> None:
    with pytest.raises(errors.UnknownTopicOrPartition, match="partition 9"):
        admin.list_offsets([("flights", 0), ("flights", 9)], "latest")


def test_groups_are_listed(admin: Any, server: FakeServer) -> None:
    server.answers["ListGroups"] = groups_pb2.ListGroupsResponse(
        groups=[groups_pb2.GroupListing(group="g", state="Stable", members_count=2)]
    )
    assert admin.list_groups() == [GroupListing("g", "Stable", 2)]


def test_a_group_is_described_with_its_members_and_lag(admin: Any, server: FakeServer) -> None:
    def assignment(*partitions: int) -> groups_pb2.Assignment:
        part = groups_pb2.TopicPartitions(topic="t", topic_id=TOPIC_ID, partitions=partitions)
        return groups_pb2.Assignment(topic_partitions=[part])

    server.answers["DescribeGroup"] = groups_pb2.DescribeGroupResponse(
        group="g",
        state="Reconciling",
        group_epoch=4,
        assignment_epoch=3,
        assignor="range",
        members=[
            groups_pb2.MemberDescription(
                member_id="m",
                instance_id="i",
                client_id="c",
                client_host="h",
                member_epoch=2,
                state="revoking",
                subscribed_topics=["t", "u"],
                assignment=assignment(0, 1),
                target=assignment(0),
            )
        ],
        partitions=[
            groups_pb2.PartitionLag(
                topic="t",
                partition=1,
                committed_offset=-1,
                log_start_offset=5,
                high_watermark=9,
                lag_records=4,
                lag_seconds=1.5,
                member_id="m",
            )
        ],
    )
    held, meant = (TopicPartitions("t", TOPIC_ID.hex(), numbers) for numbers in ((0, 1), (0,)))
    assert admin.describe_group("g") == GroupDescription(
        "g",
        "Reconciling",
        4,
        3,
        "range",
        (MemberDescription("m", "i", "c", "h", 2, "revoking", ("t", "u"), (held,), (meant,)),),
        (PartitionLag("t", 1, -1, 5, 9, 4, 1.5, "m"),),
    )
    assert server.asked["DescribeGroup"] == [groups_pb2.DescribeGroupRequest(group="g")]


def test_a_group_is_deleted(admin: Any, server: FakeServer) -> None:
    server.answers["DeleteGroup"] = groups_pb2.DeleteGroupResponse()
    assert admin.delete_group("g") is None
    assert server.asked["DeleteGroup"] == [groups_pb2.DeleteGroupRequest(group="g")]


def test_offsets_are_committed_from_outside_and_read_back(admin: Any, server: FakeServer) -> None:
    admin.commit_offsets("g", [CommittedOffset("flights", 0, 7, "so far"), CommittedOffset("flights", 1, 0)])
    [request] = server.commits
    assert (request.group, request.member_id, request.member_epoch) == ("g", "", -1)
    assert [(offset.partition, offset.offset, offset.metadata) for offset in request.offsets] == [
        (0, 7, "so far"),
        (1, 0, ""),
    ]
    assert admin.committed_offsets("g") == [CommittedOffset("flights", 0, 7), CommittedOffset("flights", 1, 0)]


def test_a_commit_that_is_refused_of_one_partition_is_an_error(admin: Any, server: FakeServer) -> None:
    server.commit_script.append("UNKNOWN_TOPIC_OR_PARTITION")
    with pytest.raises(errors.UnknownTopicOrPartition):
        admin.commit_offsets("g", [CommittedOffset("flights", 0, 7)])


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ({"offset": 0}, groups_pb2.SeekTarget(offset=0)),
        ({"timestamp_ms": 0}, groups_pb2.SeekTarget(timestamp_ms=0)),
        ({"to_beginning": True}, groups_pb2.SeekTarget(beginning=True)),
        ({"to_end": True, "to_beginning": False}, groups_pb2.SeekTarget(end=True)),
        ({"shift_by": 0}, groups_pb2.SeekTarget(shift_by=0)),
        ({"shift_by": -5}, groups_pb2.SeekTarget(shift_by=-5)),
    ],
)
def test_a_group_is_sent_to_the_one_place_that_is_given(
    admin: Any, server: FakeServer, place: dict[str, Any], target: groups_pb2.SeekTarget
) -> None:
    server.answers["SeekGroup"] = groups_pb2.SeekGroupResponse(
        partitions=[groups_pb2.SoughtPartition(topic="t", partition=2, old_offset=-1, new_offset=5)]
    )
    assert admin.seek_group("g", "t", partitions=[2], **place) == [SoughtPartition("t", 2, -1, 5)]
    assert admin.seek_group("g", "t", dry_run=True, **place)
    assert server.asked["SeekGroup"] == [
        groups_pb2.SeekGroupRequest(group="g", topic="t", partitions=[2], target=target),
        groups_pb2.SeekGroupRequest(group="g", topic="t", target=target, dry_run=True),
    ]


# Refusals.

#: Every question, as a function of an admin.
QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "GetMetadata": lambda admin: admin.cluster(),
    "CreateTopic": lambda admin: admin.create_topic("t"),
    "DeleteTopic": lambda admin: admin.delete_topic("t"),
    "AlterTopic": lambda admin: admin.alter_topic("t", 2),
    "DeleteRecords": lambda admin: admin.delete_records("t", {0: 1}),
    "ListTopics": lambda admin: admin.list_topics(),
    "DescribeTopic": lambda admin: admin.describe_topic("t"),
    "ListOffsets": lambda admin: admin.list_offsets([("single", 0)], "latest"),
    "ListGroups": lambda admin: admin.list_groups(),
    "DescribeGroup": lambda admin: admin.describe_group("g"),
    "DeleteGroup": lambda admin: admin.delete_group("g"),
    "FetchOffsets": lambda admin: admin.committed_offsets("g"),
    "CommitOffsets": lambda admin: admin.commit_offsets("g", [CommittedOffset("single", 0, 1)]),
    "SeekGroup": lambda admin: admin.seek_group("g", "t", to_end=True),
}


def test_every_method_is_tried_here() -> None:
    methods = {name for name, _ in inspect.getmembers(tailrace.Admin, inspect.isfunction) if name[0] != "_"}
    assert len(QUESTIONS) == len(methods - {"close"})
    assert methods == {name for name, _ in inspect.getmembers(tailrace.aio.Admin, inspect.isfunction) if name[0] != "_"}
    for method in methods:
        parameters = [inspect.signature(getattr(kind, method)) for kind in (tailrace.Admin, tailrace.aio.Admin)]
        assert parameters[0] == parameters[1], "the twins take the same"


@pytest.mark.parametrize("method", sorted(QUESTIONS.keys() - {"ListOffsets"}))
def test_what_the_server_refuses_is_raised_with_its_facts_and_remedy(
    admin: Any, server: FakeServer, method: str
) -> None:
    server.refusals[method].append(wire_error("INVALID_CONFIG", "that is not how it is done"))
    with pytest.raises(errors.InvalidConfig, match="not how it is done") as refused:
        QUESTIONS[method](admin)
    assert refused.value.remedy == "None: it is a test."
    assert refused.value.code == "INVALID_CONFIG"


NONSENSE: dict[str, Callable[[Any], Any]] = {
    "a topic without partitions": lambda admin: admin.create_topic("t", 0),
    "a topic altered to have none": lambda admin: admin.alter_topic("t", 0),
    "partitions that are no number": lambda admin: admin.create_topic("t", "4"),
    "more partitions than a number holds": lambda admin: admin.alter_topic("t", 1 << 40),
    "a name that is none": lambda admin: admin.describe_topic(7),
    "a group that is none": lambda admin: admin.describe_group(b"\xff"),
    "settings that are a word": lambda admin: admin.create_topic("t", config="retention.ms"),
    "settings to unset that are a word": lambda admin: admin.alter_topic("t", unset_config="retention.ms"),
    "records to delete that are pairs": lambda admin: admin.delete_records("t", [(0, 5)]),
    "records to delete of no partition": lambda admin: admin.delete_records("t", {}),
    "records to delete before a word": lambda admin: admin.delete_records("t", {0: "end"}),
    "a spec that is none": lambda admin: admin.list_offsets([("t", 0)], "middle"),
    "a partition without its number": lambda admin: admin.list_offsets([("t",)], "latest"),
    "topics in the place of partitions": lambda admin: admin.list_offsets(["flights"], "latest"),
    "partitions that are none": lambda admin: admin.list_offsets(5, "latest"),
    "an offset that is a word": lambda admin: admin.commit_offsets("g", [CommittedOffset("t", 0, "5")]),  # type: ignore[arg-type]
    "offsets that are none": lambda admin: admin.commit_offsets("g", [("t", 0, 5)]),
    "no place to go to": lambda admin: admin.seek_group("g", "t"),
    "two places to go to": lambda admin: admin.seek_group("g", "t", offset=1, to_end=True),
    "an offset to seek that is a word": lambda admin: admin.seek_group("g", "t", offset="end"),
    "a seek of partitions that are none": lambda admin: admin.seek_group("g", "t", partitions=7, to_end=True),
    # Left out it means all of them: a program whose list came out empty means none.
    "a seek of no partition": lambda admin: admin.seek_group("g", "t", partitions=[], to_end=True),
}


@pytest.mark.parametrize("nonsense", NONSENSE.values(), ids=NONSENSE.keys())
def test_nonsense_is_refused_before_anything_is_asked(
    admin: Any, server: FakeServer, nonsense: Callable[[Any], Any]
) -> None:
    with pytest.raises(errors.InvalidRequest) as refused:
        nonsense(admin)
    assert refused.value.remedy
    assert not server.asked
    assert not server.commits


def test_a_number_of_partitions_that_is_none_is_named(admin: Any) -> None:
    with pytest.raises(errors.InvalidRequest, match="cannot have partitions='4'") as refused:
        admin.create_topic("t", "4")
    assert "an int of 1 or more" in refused.value.remedy


@pytest.mark.parametrize("address", ["nowhere", "host:", ":70", "host:0", "host:x"])
def test_an_address_that_is_none_is_refused_at_once(kind: Any, address: str) -> None:
    with pytest.raises(errors.InvalidRequest, match="not the address"):
        kind(server=address)


# Outages.


def test_a_server_that_is_not_there_is_told_within_the_time(kind: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # And nobody listens.
        with kind(server=f"127.0.0.1:{taken.getsockname()[1]}", connect_timeout=0.2) as admin:
            began = time.monotonic()
            with pytest.raises(errors.ServerUnreachable) as told:
                admin.list_topics()
            assert time.monotonic() - began < 5
    assert "logserver" in told.value.remedy
    assert told.value.retriable


READS = {
    "ListTopics": topics_pb2.ListTopicsResponse(),
    "DescribeTopic": topics_pb2.DescribeTopicResponse(),
    "ListGroups": groups_pb2.ListGroupsResponse(),
    "DescribeGroup": groups_pb2.DescribeGroupResponse(),
}
CHANGES = {
    "CreateTopic": topics_pb2.CreateTopicResponse(),
    "DeleteTopic": topics_pb2.DeleteTopicResponse(),
    "AlterTopic": topics_pb2.AlterTopicResponse(),
    "DeleteRecords": topics_pb2.DeleteRecordsResponse(),
    "DeleteGroup": groups_pb2.DeleteGroupResponse(),
    "SeekGroup": groups_pb2.SeekGroupResponse(),
}


@pytest.mark.parametrize("method", READS)
def test_a_question_is_asked_again_when_the_server_went_away_meanwhile(
    admin: Any, server: FakeServer, method: str
) -> None:
    server.answers[method] = READS[method]
    server.breaks[method] = 2
    QUESTIONS[method](admin)
    assert len(server.asked[method]) == 3


@pytest.mark.parametrize("method", CHANGES)
def test_a_change_is_asked_for_once_since_it_may_have_been_made(admin: Any, server: FakeServer, method: str) -> None:
    server.answers[method] = CHANGES[method]
    server.breaks[method] = 1
    with pytest.raises(errors.ServerUnavailable):
        QUESTIONS[method](admin)
    assert len(server.asked[method]) == 1
    QUESTIONS[method](admin)


def test_a_seek_that_only_looks_is_asked_again(admin: Any, server: FakeServer) -> None:
    server.answers["SeekGroup"] = groups_pb2.SeekGroupResponse()
    server.breaks["SeekGroup"] = 1
    assert admin.seek_group("g", "t", to_end=True, dry_run=True) == []


def test_a_restart_of_the_server_is_ridden_out(admin: Any, server: FakeServer) -> None:
    server.answers["ListTopics"] = topics_pb2.ListTopicsResponse()
    admin.list_topics()
    server.stop()
    restart = threading.Timer(0.1, server.start)
    restart.start()
    admin.list_topics()
    restart.join()


# The end.


def test_a_closed_admin_says_so_and_may_be_closed_again(kind: Any, server: FakeServer) -> None:
    with kind(server=server.address) as admin:
        admin.cluster()
        admin.close()
        admin.close()
        for ask in QUESTIONS.values():
            with pytest.raises(errors.ClientClosed):
                ask(admin)
    assert not server.asked


def test_an_admin_that_never_connected_is_closed_without_a_server(kind: Any) -> None:
    with kind(server="127.0.0.1:1"):
        pass


def test_an_admin_may_be_shared_by_threads(server: FakeServer) -> None:
    found = []
    with tailrace.Admin(server=server.address) as admin:
        threads = [threading.Thread(target=lambda: found.append(admin.cluster().cluster_id)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == ["fake"] * 8
