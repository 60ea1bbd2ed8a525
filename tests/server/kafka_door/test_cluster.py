"""What there is, as consoles and monitoring ask for it: the cluster, partitions by the page, and the disk."""

from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from logserver.context import SERVER_ITSELF
from logserver.kafka.apis import API_VERSIONS, ApiKey
from logserver.kafka.metadata import PARTITIONS_PER_ANSWER_MAX
from logserver.server import Server
from tests.server.kafka_door.client import KafkaClient
from tests.server.kafka_door.requests import batch, produce

NOT_ASKED_FOR = -(2**31)


async def cluster(kafka: KafkaClient, version: int | None = None, **asked: Any) -> Any:
    fields = {"include_cluster_authorized_operations": False, "endpoint_type": 1, "include_fenced_brokers": True}
    return await kafka.call(ApiKey.DESCRIBE_CLUSTER, version, **fields | asked)


@pytest.mark.parametrize("version", API_VERSIONS[ApiKey.DESCRIBE_CLUSTER])
async def test_the_cluster_is_one_broker_in_every_version(door: Server, kafka: KafkaClient, version: int) -> None:
    answer = await cluster(kafka, version)
    store = door.broker.store
    assert (answer.error_code, answer.cluster_id, answer.controller_id) == (
        ErrorCode.none,
        store.cluster_id,
        store.node_id,
    )
    [node] = answer.brokers
    assert (node.broker_id, (node.host, node.port), node.rack) == (store.node_id, door.kafka_address, None)
    assert answer.cluster_authorized_operations == NOT_ASKED_FOR


async def test_operations_are_told_when_asked_for(door: Server, kafka: KafkaClient) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    answer = await cluster(kafka, include_cluster_authorized_operations=True)
    assert answer.cluster_authorized_operations == 0b1_1111_1010_0000
    asked = {"topics": None, "allow_auto_topic_creation": False, "include_cluster_authorized_operations": False}
    metadata = await kafka.call(ApiKey.METADATA, 8, include_topic_authorized_operations=True, **asked)
    assert {topic.topic_authorized_operations for topic in metadata.topics} == {0b1101_1111_1000}
    assert metadata.cluster_authorized_operations == NOT_ASKED_FOR


@pytest.mark.parametrize(
    ("endpoint_type", "code"), [(2, ErrorCode.mismatched_endpoint_type), (3, ErrorCode.unsupported_endpoint_type)]
)
async def test_there_are_no_controllers_to_ask_for(kafka: KafkaClient, endpoint_type: int, code: ErrorCode) -> None:
    answer = await cluster(kafka, endpoint_type=endpoint_type)
    assert (answer.error_code, answer.brokers) == (code, ())
    assert answer.error_message


# Partitions by the page.


async def pages(
    kafka: KafkaClient, *names: str, limit: int = 2000, cursor: tuple[str, int] | None = None
) -> list[list[tuple[str, list[int]]]]:
    """All of them, as they are told from the cursor on."""
    found = []
    while True:
        answer = await page(kafka, *names, limit=limit, cursor=cursor)
        found.append([(topic.name, [part.partition_index for part in topic.partitions]) for topic in answer.topics])
        if answer.next_cursor is None:
            return found
        cursor = answer.next_cursor.topic_name, answer.next_cursor.partition_index


async def page(kafka: KafkaClient, *names: str, limit: int = 2000, cursor: tuple[str, int] | None = None) -> Any:
    return await kafka.call(
        ApiKey.DESCRIBE_TOPIC_PARTITIONS,
        topics=[{"name": name} for name in names],
        response_partition_limit=limit,
        cursor=None if cursor is None else {"topic_name": cursor[0], "partition_index": cursor[1]},
    )


@pytest.fixture
async def topics(door: Server) -> None:
    for name, partitions in (("a", 3), ("b", 2), ("c", 1)):
        door.broker.topics.create(SERVER_ITSELF, name, partitions, {})


async def test_partitions_are_described_with_their_leader(door: Server, kafka: KafkaClient, topics: None) -> None:
    [answer] = (await page(kafka, "b")).topics
    topic = door.broker.store.topic("b")
    assert (answer.name, answer.topic_id, answer.error_code, answer.is_internal) == (
        "b",
        topic.topic_id,
        ErrorCode.none,
        False,
    )
    assert answer.topic_authorized_operations == 0b1101_1111_1000
    first, second = answer.partitions
    assert (first.partition_index, second.partition_index) == (0, 1)
    assert (first.leader_id, first.leader_epoch) == (1, door.broker.store.leader_epoch)
    assert (first.replica_nodes, first.isr_nodes, first.offline_replicas) == ((1,), (1,), ())


@pytest.mark.usefixtures("topics")
async def test_partitions_come_by_the_page(kafka: KafkaClient) -> None:
    everything = [("a", [0, 1, 2]), ("b", [0, 1]), ("c", [0])]
    assert await pages(kafka, "c", "a", "b", "a") == [everything]
    assert await pages(kafka, "c", "a", "b", limit=2) == [
        [("a", [0, 1])],
        [("a", [2]), ("b", [0])],
        [("b", [1]), ("c", [0])],
    ]
    assert await pages(kafka, "c", "a", "b", limit=3) == [[("a", [0, 1, 2])], [("b", [0, 1]), ("c", [0])]]
    assert await pages(kafka, "a", limit=0) == [[("a", [0])], [("a", [1])], [("a", [2])]]
    assert await pages(kafka, "a", "b", cursor=("b", 1)) == [[("b", [1])]]


@pytest.mark.usefixtures("topics")
async def test_all_topics_come_where_none_is_named(kafka: KafkaClient) -> None:
    [found] = await pages(kafka)
    assert [entry for entry in found if not entry[0].startswith("__")] == [("a", [0, 1, 2]), ("b", [0, 1]), ("c", [0])]
    # A topic that was deleted between two pages is no reason to begin again.
    [found] = await pages(kafka, cursor=("aa", 1))
    assert found == [("b", [0, 1]), ("c", [0])]


async def test_a_page_has_no_more_than_the_servers_own_limit(door: Server, kafka: KafkaClient) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", PARTITIONS_PER_ANSWER_MAX + 1, {})
    sizes = [len(told[0][1]) for told in await pages(kafka, "t", limit=2**31 - 1)]
    assert sizes == [PARTITIONS_PER_ANSWER_MAX, 1]


@pytest.mark.usefixtures("topics")
async def test_topics_that_are_not_there_are_told_in_their_place(kafka: KafkaClient) -> None:
    answer = await page(kafka, "bb", "a", "a b")
    assert [(topic.name, topic.error_code) for topic in answer.topics] == [
        ("a", ErrorCode.none),
        ("a b", ErrorCode.invalid_topic_exception),
        ("bb", ErrorCode.unknown_topic_or_partition),
    ]


@pytest.mark.usefixtures("topics")
@pytest.mark.parametrize("cursor", [("b", 0), ("a", -1)])
async def test_a_cursor_that_is_none_of_the_topics_is_refused(kafka: KafkaClient, cursor: tuple[str, int]) -> None:
    answer = await page(kafka, "a", "c", cursor=cursor)
    assert [(topic.name, topic.error_code) for topic in answer.topics] == [
        ("a", ErrorCode.invalid_request),
        ("c", ErrorCode.invalid_request),
    ]


# The disk.


async def log_dir(kafka: KafkaClient, topics: Any, version: int | None = None) -> tuple[Any, dict[str, dict[int, int]]]:
    """The directory, and the size of each partition of each topic."""
    [found] = (await kafka.call(ApiKey.DESCRIBE_LOG_DIRS, version, topics=topics)).results
    assert found.error_code == ErrorCode.none
    return found, {
        topic.name: {part.partition_index: part.partition_size for part in topic.partitions} for topic in found.topics
    }


@pytest.mark.parametrize("version", API_VERSIONS[ApiKey.DESCRIBE_LOG_DIRS])
async def test_partitions_have_a_size_in_every_version(door: Server, kafka: KafkaClient, version: int) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 2, {})
    sent = batch(bytes(1000))
    await kafka.call(ApiKey.PRODUCE, 9, **produce("t", sent))
    directory, sizes = await log_dir(kafka, None, version)
    assert sizes["t"] == {0: len(sent), 1: 0}
    assert len(sizes) > 1, "the server's own topics take room, too"
    assert directory.log_dir == str(door.broker.config.data_dir)
    assert {(part.offset_lag, part.is_future_key) for topic in directory.topics for part in topic.partitions} == {
        (0, False)
    }
    if version >= 4:
        assert 0 < directory.usable_bytes <= directory.total_bytes


async def test_only_the_partitions_that_are_asked_for_and_are_there_have_a_size(
    door: Server, kafka: KafkaClient
) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 2, {})
    asked = [
        {"topic": "t", "partitions": [1, 5, -1]},
        {"topic": "unknown", "partitions": [0]},
        {"topic": "t", "partitions": [1]},
    ]
    assert (await log_dir(kafka, asked))[1] == {"t": {1: 0}}
    assert (await log_dir(kafka, []))[1] == {}
