"""Topics made, grown, shortened and deleted through the Kafka door, in every version that is spoken."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from kio.schema.errors import ErrorCode

from logserver.config import Address
from logserver.context import SERVER_ITSELF
from logserver.kafka.apis import API_VERSIONS, ApiKey
from logserver.server import Server
from logstore.config import PARTITIONS_MAX
from tests.server.conftest import StartServer
from tests.server.kafka_door.client import KafkaClient
from tests.server.kafka_door.requests import batch, produce


def new(name: str, partitions: int = -1, replicas: int = -1, **settings: str | None) -> dict[str, Any]:
    return {
        "name": name,
        "num_partitions": partitions,
        "replication_factor": replicas,
        "assignments": (),
        "configs": [{"name": name.replace("_", "."), "value": value} for name, value in settings.items()],
    }


def placed(name: str, *assignments: tuple[int, tuple[int, ...]]) -> dict[str, Any]:
    parts = [{"partition_index": number, "broker_ids": brokers} for number, brokers in assignments]
    return new(name) | {"assignments": parts}


async def create(kafka: KafkaClient, *topics: dict[str, Any], version: int | None = None, **more: Any) -> list[Any]:
    answer = await kafka.call(ApiKey.CREATE_TOPICS, version, topics=topics, timeout=1000, **more)
    return list(answer.topics)


async def delete(kafka: KafkaClient, *topics: tuple[str | None, UUID | None], version: int | None = None) -> list[Any]:
    fields = {
        "topic_names": [name for name, _ in topics],
        "topics": [{"name": name, "topic_id": topic_id} for name, topic_id in topics],
    }
    return list((await kafka.call(ApiKey.DELETE_TOPICS, version, timeout=1000, **fields)).responses)


async def grow(kafka: KafkaClient, *topics: dict[str, Any], version: int | None = None, **more: Any) -> list[Any]:
    asked = {"topics": topics, "timeout": 1000, "validate_only": False} | more
    return list((await kafka.call(ApiKey.CREATE_PARTITIONS, version, **asked)).results)


def larger(name: str, count: int, assignments: list[tuple[int, ...]] | None = None) -> dict[str, Any]:
    places = None if assignments is None else [{"broker_ids": brokers} for brokers in assignments]
    return {"name": name, "count": count, "assignments": places}


async def delete_records(
    kafka: KafkaClient, topic: str, *before: tuple[int, int], version: int | None = None
) -> list[tuple[int, ErrorCode, int]]:
    parts = [{"partition_index": partition, "offset": offset} for partition, offset in before]
    topics = [{"name": topic, "partitions": parts}]
    [answer] = (await kafka.call(ApiKey.DELETE_RECORDS, version, topics=topics, timeout=10_000)).topics
    return [(part.partition_index, part.error_code, part.low_watermark) for part in answer.partitions]


def names(door: Server) -> set[str]:
    return {topic.name for topic in door.broker.topics.listed(SERVER_ITSELF, include_internal=False)}


def partitions(door: Server, name: str) -> int:
    return door.broker.store.topic(name).partitions


# Made.


@pytest.mark.parametrize("version", API_VERSIONS[ApiKey.CREATE_TOPICS])
async def test_a_topic_is_created_in_every_version(door: Server, kafka: KafkaClient, version: int) -> None:
    [answer] = await create(kafka, new("t", 3, 1, retention_ms="1000"), version=version)
    assert (answer.name, answer.error_code, answer.error_message) == ("t", ErrorCode.none, None)
    topic = door.broker.store.topic("t")
    assert (topic.partitions, topic.config.retention_ms) == (3, 1000)
    if version >= 5:
        assert (answer.num_partitions, answer.replication_factor) == (3, 1)
        settings = {each.name: each for each in answer.configs}
        assert (settings["retention.ms"].value, settings["retention.ms"].config_source) == ("1000", 1)
        assert (settings["segment.ms"].value, settings["segment.ms"].config_source) == ("604800000", 5)
        assert settings["min.insync.replicas"].read_only
    if version >= 7:
        assert answer.topic_id == topic.topic_id


async def test_a_topic_without_a_number_has_the_servers_default(start_server: StartServer) -> None:
    server = await start_server(kafka_listen=Address("127.0.0.1", 0), default_partitions=4)
    kafka = await KafkaClient.connect(server.kafka_address)
    [answer] = await create(kafka, new("t"))
    assert answer.num_partitions == partitions(server, "t") == 4
    await kafka.close()


async def test_what_is_only_validated_is_not_made(door: Server, kafka: KafkaClient) -> None:
    good, bad = await create(kafka, new("t", 2), new("u", retention_ms="soon"), validate_only=True)
    assert (good.error_code, good.num_partitions, good.topic_id) == (ErrorCode.none, 2, None)
    assert bad.error_code == ErrorCode.invalid_config
    assert names(door) == set()


async def test_partitions_may_be_placed_by_hand_where_the_node_is(door: Server, kafka: KafkaClient) -> None:
    node = door.broker.store.node_id
    [answer] = await create(kafka, placed("t", (1, (node,)), (0, (node,))))
    assert (answer.error_code, answer.num_partitions) == (ErrorCode.none, 2)


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        (new(""), ErrorCode.invalid_topic_exception),
        (new("a b"), ErrorCode.invalid_topic_exception),
        (new("__own"), ErrorCode.invalid_topic_exception),
        (new("is_there"), ErrorCode.invalid_topic_exception),
        (new("is.there"), ErrorCode.topic_already_exists),
        (new("t", 0), ErrorCode.invalid_partitions),
        (new("t", -2), ErrorCode.invalid_partitions),
        (new("t", PARTITIONS_MAX + 1), ErrorCode.invalid_partitions),
        (new("t", 1, 0), ErrorCode.invalid_replication_factor),
        (new("t", 1, 3), ErrorCode.invalid_replication_factor),
        (new("t", retention_ms="soon"), ErrorCode.invalid_config),
        (new("t", retention_ms=None), ErrorCode.invalid_config),
        (new("t", no_such_setting="1"), ErrorCode.invalid_config),
        (new("t", min_insync_replicas="2"), ErrorCode.invalid_config),
        (placed("t", (0, (7,))), ErrorCode.invalid_replica_assignment),
        (placed("t", (0, ())), ErrorCode.invalid_replica_assignment),
        (placed("t", (0, (1, 1))), ErrorCode.invalid_replica_assignment),
        (placed("t", (0, (1,)), (0, (1,))), ErrorCode.invalid_replica_assignment),
        (placed("t", (1, (1,))), ErrorCode.invalid_replica_assignment),
        (placed("t", (0, (1,))) | {"num_partitions": 1}, ErrorCode.invalid_request),
        (placed("t", (0, (1,))) | {"replication_factor": 1}, ErrorCode.invalid_request),
        # Kafka's order: who makes a topic unless it is there is told that it is.
        (new("is.there", 0, 3, retention_ms="soon"), ErrorCode.topic_already_exists),
    ],
)
async def test_a_topic_that_cannot_be_is_refused_and_no_other(
    door: Server, kafka: KafkaClient, topic: dict[str, Any], code: ErrorCode
) -> None:
    assert door.broker.store.node_id == 1
    door.broker.topics.create(SERVER_ITSELF, "is.there", 1, {})
    refused, made = await create(kafka, topic, new("other"))
    assert refused.error_code == code
    assert refused.error_message
    assert (made.name, made.error_code) == ("other", ErrorCode.none)
    assert names(door) == {"is.there", "other"}


async def test_a_topic_named_twice_is_refused_once_and_not_made(door: Server, kafka: KafkaClient) -> None:
    answers = await create(kafka, new("twice"), new("once"), new("twice", 2))
    assert {answer.name: answer.error_code for answer in answers} == {
        "twice": ErrorCode.invalid_request,
        "once": ErrorCode.none,
    }
    assert len(answers) == 2
    assert names(door) == {"once"}


# Deleted.


@pytest.mark.parametrize("version", API_VERSIONS[ApiKey.DELETE_TOPICS])
async def test_a_topic_is_deleted_by_name_in_every_version(door: Server, kafka: KafkaClient, version: int) -> None:
    topic = door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    gone, unknown = await delete(kafka, ("t", None), ("u", None), version=version)
    assert (gone.name, gone.error_code) == ("t", ErrorCode.none)
    assert (unknown.name, unknown.error_code) == ("u", ErrorCode.unknown_topic_or_partition)
    assert names(door) == set()
    if version >= 5:
        assert gone.error_message is None
        assert "'u'" in unknown.error_message
    if version >= 6:
        assert gone.topic_id == topic.topic_id


async def test_a_topic_is_deleted_by_its_id(door: Server, kafka: KafkaClient) -> None:
    topic = door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    other = uuid4()
    gone, unknown = await delete(kafka, (None, topic.topic_id), (None, other))
    assert (gone.name, gone.topic_id, gone.error_code) == ("t", topic.topic_id, ErrorCode.none)
    assert (unknown.name, unknown.topic_id, unknown.error_code) == (None, other, ErrorCode.unknown_topic_id)
    assert names(door) == set()


async def test_a_topic_to_delete_is_named_once_and_in_one_way(door: Server, kafka: KafkaClient) -> None:
    for name in ("twice", "both", "other-id"):
        door.broker.topics.create(SERVER_ITSELF, name, 1, {})
    both, other = (door.broker.store.topic(name).topic_id for name in ("both", "other-id"))
    named = [("twice", None), ("twice", None), ("both", None), (None, both), ("other-id", other), (None, None)]
    answers = await delete(kafka, *named)
    assert {answer.error_code for answer in answers} == {ErrorCode.invalid_request}
    assert all(answer.error_message for answer in answers)
    assert [(answer.name, answer.topic_id) for answer in answers] == named[1:]
    assert names(door) == {"twice", "both", "other-id"}


async def test_the_servers_own_topics_are_left_alone(door: Server, kafka: KafkaClient) -> None:
    own = next(topic for topic in door.broker.topics.listed(SERVER_ITSELF, include_internal=True) if topic.internal)
    [answer] = await delete(kafka, (own.name, None))
    assert answer.error_code == ErrorCode.invalid_topic_exception
    [answer] = await grow(kafka, larger(own.name, own.partitions + 1))
    assert answer.error_code == ErrorCode.invalid_topic_exception
    assert await delete_records(kafka, own.name, (0, -1)) == [(0, ErrorCode.invalid_topic_exception, -1)]


# Grown.


@pytest.mark.parametrize("version", API_VERSIONS[ApiKey.CREATE_PARTITIONS])
async def test_a_topic_gets_more_partitions_in_every_version(door: Server, kafka: KafkaClient, version: int) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    [answer] = await grow(kafka, larger("t", 3), version=version)
    assert (answer.name, answer.error_code, answer.error_message) == ("t", ErrorCode.none, None)
    assert partitions(door, "t") == 3


async def test_growth_that_is_only_validated_does_not_happen(door: Server, kafka: KafkaClient) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    [answer] = await grow(kafka, larger("t", 3), validate_only=True)
    assert answer.error_code == ErrorCode.none
    [answer] = await grow(kafka, larger("t", 1), validate_only=True)
    assert answer.error_code == ErrorCode.invalid_partitions
    assert partitions(door, "t") == 1


async def test_new_partitions_may_be_placed_by_hand_where_the_node_is(door: Server, kafka: KafkaClient) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    [answer] = await grow(kafka, larger("t", 3, [(1,), (1,)]))
    assert answer.error_code == ErrorCode.none
    assert partitions(door, "t") == 3


@pytest.mark.parametrize(
    ("topic", "code"),
    [
        (larger("unknown", 3), ErrorCode.unknown_topic_or_partition),
        (larger("t", 2), ErrorCode.invalid_partitions),
        (larger("t", 1), ErrorCode.invalid_partitions),
        (larger("t", 0), ErrorCode.invalid_partitions),
        (larger("t", -1), ErrorCode.invalid_partitions),
        (larger("t", PARTITIONS_MAX + 1), ErrorCode.invalid_partitions),
        (larger("t", 4, [(1,)]), ErrorCode.invalid_replica_assignment),
        (larger("t", 3, [(2,)]), ErrorCode.invalid_replica_assignment),
        (larger("t", 3, []), ErrorCode.invalid_replica_assignment),
    ],
)
async def test_growth_that_cannot_be_is_refused(
    door: Server, kafka: KafkaClient, topic: dict[str, Any], code: ErrorCode
) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 2, {})
    [answer] = await grow(kafka, topic)
    assert answer.error_code == code
    assert answer.error_message
    assert partitions(door, "t") == 2


async def test_a_topic_to_grow_is_named_once(door: Server, kafka: KafkaClient) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    [answer] = await grow(kafka, larger("t", 2), larger("t", 3))
    assert answer.error_code == ErrorCode.invalid_request
    assert partitions(door, "t") == 1


# Shortened.


@pytest.mark.parametrize("version", API_VERSIONS[ApiKey.DELETE_RECORDS])
async def test_records_are_deleted_in_every_version(door: Server, kafka: KafkaClient, version: int) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 2, {})
    await kafka.call(ApiKey.PRODUCE, 9, **produce("t", batch(b"a", b"b", b"c")))
    assert await delete_records(kafka, "t", (0, 1), (1, -1), version=version) == [
        (0, ErrorCode.none, 1),
        (1, ErrorCode.none, 0),
    ]
    assert await delete_records(kafka, "t", (0, 0), version=version) == [(0, ErrorCode.none, 1)]
    assert await delete_records(kafka, "t", (0, -1), version=version) == [(0, ErrorCode.none, 3)]


async def test_records_that_cannot_be_deleted_are_refused_and_no_others(door: Server, kafka: KafkaClient) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 2, {})
    await kafka.call(ApiKey.PRODUCE, 9, **produce("t", batch(b"a")))
    assert await delete_records(kafka, "t", (0, 1), (1, 1), (2, 0), (-1, 0), (0, -2)) == [
        (0, ErrorCode.none, 1),
        (1, ErrorCode.offset_out_of_range, -1),
        (2, ErrorCode.unknown_topic_or_partition, -1),
        (-1, ErrorCode.unknown_topic_or_partition, -1),
        (0, ErrorCode.offset_out_of_range, -1),
    ]
    assert await delete_records(kafka, "u", (0, 0)) == [(0, ErrorCode.unknown_topic_or_partition, -1)]


async def test_records_of_a_compacted_topic_are_not_deleted_by_offset(door: Server, kafka: KafkaClient) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 1, {"cleanup.policy": "compact"})
    assert await delete_records(kafka, "t", (0, 0)) == [(0, ErrorCode.policy_violation, -1)]
