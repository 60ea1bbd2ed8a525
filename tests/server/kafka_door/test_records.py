"""Records in and out, in every version that is spoken."""

import asyncio
from typing import Any
from uuid import UUID

import pytest
from kio.schema.errors import ErrorCode

from logserver.context import SERVER_ITSELF
from logserver.kafka.apis import API_VERSIONS, ApiKey
from logserver.server import Server
from logstore.batch import Compression, Record, decode_batch, encode_batch
from tests.server.kafka_door.client import UNASKED, KafkaClient
from tests.server.kafka_door.conftest import Connect
from tests.server.kafka_door.requests import batch, fetch, produce

CREATING = UNASKED | {"allow_auto_topic_creation": True}


def with_topic(fields: dict[str, Any], name: str, topic_id: UUID) -> dict[str, Any]:
    """Named both ways: of each version the one that it has is sent."""
    topics = [topic | {"name": name, "topic": name, "topic_id": topic_id} for topic in fields[_topics(fields)]]
    return fields | {_topics(fields): topics}


def _topics(fields: dict[str, Any]) -> str:
    return "topic_data" if "topic_data" in fields else "topics"


@pytest.mark.parametrize("version", API_VERSIONS[ApiKey.PRODUCE])
async def test_a_batch_is_written_in_every_version(door: Server, kafka: KafkaClient, version: int) -> None:
    topic = door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    for number in range(2):
        answer = await kafka.call(ApiKey.PRODUCE, version, **with_topic(produce("t", batch(b"v")), "t", topic.topic_id))
        [partition] = answer.responses[0].partition_responses
        assert (partition.error_code, partition.base_offset, partition.index) == (ErrorCode.none, number, 0)


@pytest.mark.parametrize("version", API_VERSIONS[ApiKey.FETCH])
async def test_a_batch_is_read_in_every_version(door: Server, kafka: KafkaClient, version: int) -> None:
    topic = door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    sent = batch(b"one", b"two")
    await kafka.call(ApiKey.PRODUCE, 9, **produce("t", sent))
    answer = await kafka.call(ApiKey.FETCH, version, **with_topic(fetch("t", 1), "t", topic.topic_id))
    [partition] = answer.responses[0].partitions
    assert (partition.error_code, partition.high_watermark, partition.partition_index) == (ErrorCode.none, 2, 0)
    # The whole batch, though the offset is in its middle; but for the leader epoch as it was sent.
    assert bytes(partition.records)[:12] + bytes(partition.records)[16:] == sent[:12] + sent[16:]
    assert [record.value for record in decode_batch(partition.records)] == [b"one", b"two"]


async def test_a_fetch_waits_for_records_and_is_answered_when_they_come(
    door: Server, kafka: KafkaClient, connect: Connect
) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    expected = await kafka.send(ApiKey.FETCH, 12, **fetch("t", 0, max_wait=60_000))
    writer = await connect()
    await asyncio.sleep(0)
    await writer.call(ApiKey.PRODUCE, 9, **produce("t", batch(b"v")))
    answer = await kafka.answer(expected)
    assert answer.responses[0].partitions[0].records


async def test_a_fetch_waits_for_as_many_bytes_as_it_asks_for(
    door: Server, kafka: KafkaClient, connect: Connect
) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    writer = await connect()
    one = batch(bytes(100))
    expected = await kafka.send(ApiKey.FETCH, 12, **fetch("t", 0, max_wait=60_000, min_bytes=3 * len(one)))
    for _ in range(3):
        await writer.call(ApiKey.PRODUCE, 9, **produce("t", one))
    answer = await kafka.answer(expected)
    assert len(answer.responses[0].partitions[0].records) == 3 * len(one)


async def test_a_fetch_gives_up_at_its_time(door: Server, kafka: KafkaClient) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    answer = await kafka.call(ApiKey.FETCH, 12, **fetch("t", 0, max_wait=1))
    [partition] = answer.responses[0].partitions
    assert (partition.error_code, bytes(partition.records or b"")) == (ErrorCode.none, b"")


async def test_an_offset_that_is_not_there_is_out_of_range(door: Server, kafka: KafkaClient) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    for offset in (-1, 1):
        answer = await kafka.call(ApiKey.FETCH, 12, **fetch("t", offset, max_wait=60_000))
        assert answer.responses[0].partitions[0].error_code == ErrorCode.offset_out_of_range


@pytest.mark.parametrize("partition", [1, -1])
async def test_a_partition_that_is_not_there_is_not_read(door: Server, kafka: KafkaClient, partition: int) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    asked = fetch("t", 0, max_wait=60_000)
    asked["topics"][0]["partitions"][0]["partition"] = partition
    answer = await kafka.call(ApiKey.FETCH, 12, **asked)
    assert answer.responses[0].partitions[0].error_code == ErrorCode.unknown_topic_or_partition


async def test_a_session_tells_only_what_is_new(door: Server, kafka: KafkaClient) -> None:
    for name in ("a", "b"):
        door.broker.topics.create(SERVER_ITSELF, name, 1, {})
    both = [*fetch("a", 0)["topics"], *fetch("b", 0)["topics"]]
    first = await kafka.call(ApiKey.FETCH, 12, **fetch("a", 0, topics=both, session_epoch=0))
    assert (first.session_id > 0, len(first.responses)) == (True, 2)
    session = {"session_id": first.session_id, "topics": []}
    again = await kafka.call(ApiKey.FETCH, 12, **fetch("a", 0, **session, session_epoch=1))
    assert again.responses == ()
    await kafka.call(ApiKey.PRODUCE, 9, **produce("b", batch(b"v")))
    third = await kafka.call(ApiKey.FETCH, 12, **fetch("a", 0, **session, session_epoch=2))
    assert [each.topic for each in third.responses] == ["b"]


async def test_a_session_that_is_out_of_step_is_refused(door: Server, kafka: KafkaClient) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    first = await kafka.call(ApiKey.FETCH, 12, **fetch("t", 0, session_epoch=0))
    wrong = await kafka.call(ApiKey.FETCH, 12, **fetch("t", 0, session_id=first.session_id, session_epoch=5))
    assert wrong.error_code == ErrorCode.invalid_fetch_session_epoch
    unknown = await kafka.call(ApiKey.FETCH, 12, **fetch("t", 0, session_id=first.session_id + 1, session_epoch=1))
    assert unknown.error_code == ErrorCode.fetch_session_id_not_found


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (produce("t", batch(b"v"), acks=2), ErrorCode.invalid_required_acks),
        (produce("t", batch(b"v")) | {"transactional_id": "x"}, ErrorCode.transactional_id_authorization_failed),
        (produce("t", batch(b"v") * 2), ErrorCode.invalid_record),
        (produce("t", None), ErrorCode.invalid_record),
        (produce("t", b""), ErrorCode.invalid_record),
        (produce("t", batch(b"v")[:-1]), ErrorCode.corrupt_message),
        (produce("t", batch(b"v")[:-1] + b"\1"), ErrorCode.corrupt_message),
        (produce("t", bytes(16) + b"\1" + bytes(100)), ErrorCode.invalid_record),
        (produce("t", batch(bytes(1 << 20))), ErrorCode.message_too_large),
        (produce("t", batch(b"v"), partition=7), ErrorCode.unknown_topic_or_partition),
        (produce("t", batch(b"v"), partition=-1), ErrorCode.unknown_topic_or_partition),
        (produce("no-such", batch(b"v")), ErrorCode.unknown_topic_or_partition),
        (produce("t", (7).to_bytes(8, "big") + batch(b"v")[8:]), ErrorCode.invalid_record),
        (produce("__consumer_offsets", batch(b"v")), ErrorCode.invalid_topic_exception),
    ],
)
async def test_what_cannot_be_written_is_refused_by_kafkas_code(
    door: Server, kafka: KafkaClient, fields: dict[str, Any], code: ErrorCode
) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    await kafka.call(ApiKey.METADATA, 1, topics=[])
    answer = await kafka.call(ApiKey.PRODUCE, 9, **fields)
    [partition] = answer.responses[0].partition_responses
    assert (partition.error_code, partition.base_offset) == (code, -1)
    assert partition.error_message


@pytest.mark.parametrize("version", [3, 13])
@pytest.mark.parametrize("codec", [5, 6, 7])
async def test_a_codec_that_there_is_not_is_damage_in_any_version(
    door: Server, kafka: KafkaClient, version: int, codec: int
) -> None:
    topic = door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    sent = bytearray(batch(b"v"))
    sent[22] |= codec
    answer = await kafka.call(ApiKey.PRODUCE, version, **with_topic(produce("t", bytes(sent)), "t", topic.topic_id))
    assert answer.responses[0].partition_responses[0].error_code == ErrorCode.corrupt_message


async def test_zstd_is_refused_where_the_version_is_older_than_it(door: Server, kafka: KafkaClient) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    sent = bytearray(batch(b"v"))
    sent[22] |= Compression.ZSTD
    answer = await kafka.call(ApiKey.PRODUCE, 6, **produce("t", bytes(sent)))
    assert answer.responses[0].partition_responses[0].error_code == ErrorCode.unsupported_compression_type


async def test_a_batch_of_an_idempotent_producer_is_written_once(door: Server, kafka: KafkaClient) -> None:
    await kafka.make("t")
    identity = await kafka.call(
        ApiKey.INIT_PRODUCER_ID, transactional_id=None, transaction_timeout=0, producer_id=-1, producer_epoch=-1
    )
    assert identity.error_code == ErrorCode.none
    sent = encode_batch([Record(0, 1, None, b"v")], producer_id=identity.producer_id, producer_epoch=0, base_sequence=0)
    answers = [await kafka.call(ApiKey.PRODUCE, 9, **produce("t", sent)) for _ in range(2)]
    offsets = [answer.responses[0].partition_responses[0].base_offset for answer in answers]
    assert offsets == [0, 0]


@pytest.mark.parametrize("version", API_VERSIONS[ApiKey.METADATA])
async def test_topics_are_described_in_every_version(door: Server, kafka: KafkaClient, version: int) -> None:
    topic = door.broker.topics.create(SERVER_ITSELF, "t", 3, {})
    wanted = {"topic_id": None, "name": "t"}
    answer = await kafka.call(ApiKey.METADATA, version, topics=[wanted], **CREATING)
    [described] = answer.topics
    assert (described.name, len(described.partitions)) == ("t", 3)
    assert getattr(described, "topic_id", topic.topic_id) == topic.topic_id
    assert [(node.host, node.port) for node in answer.brokers] == [("127.0.0.1", door.kafka_address.port)]  # type: ignore[union-attr]


async def test_a_topic_is_made_by_asking_for_it_where_the_client_allows_it(door: Server, kafka: KafkaClient) -> None:
    wanted = [{"topic_id": None, "name": "new"}]
    refused = await kafka.call(ApiKey.METADATA, topics=wanted, allow_auto_topic_creation=False, **UNASKED)
    assert refused.topics[0].error_code == ErrorCode.unknown_topic_or_partition
    made = await kafka.call(ApiKey.METADATA, topics=wanted, **CREATING)
    assert (made.topics[0].error_code, len(made.topics[0].partitions)) == (ErrorCode.none, 1)


async def list_offsets(kafka: KafkaClient, topic: str, timestamp: int, *partitions: int, version: int = 7) -> Any:
    """The answers for the partitions."""
    parts = [{"partition_index": number, "current_leader_epoch": -1, "timestamp": timestamp} for number in partitions]
    asked = {"replica_id": -1, "isolation_level": 0, "timeout": 1000}
    answer = await kafka.call(ApiKey.LIST_OFFSETS, version, **asked, topics=[{"name": topic, "partitions": parts}])
    return answer.topics[0].partitions


@pytest.mark.parametrize("version", API_VERSIONS[ApiKey.LIST_OFFSETS])
async def test_offsets_are_found_by_place_and_by_time(door: Server, kafka: KafkaClient, version: int) -> None:
    await kafka.make("t")
    for number in range(3):
        await kafka.call(ApiKey.PRODUCE, 9, **produce("t", batch(b"v", timestamp_ms=1000 * (number + 1))))
    found = []
    for timestamp in (-2, -1, 1, 1001, 3001):
        [partition] = await list_offsets(kafka, "t", timestamp, 0, version=version)
        found.append((partition.offset, partition.timestamp))
    assert found == [(0, -1), (3, -1), (0, 1000), (1, 2000), (-1, -1)]


async def test_a_partition_that_is_not_there_has_no_offsets(door: Server, kafka: KafkaClient) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 1, {})
    parts = await list_offsets(kafka, "t", -1, 1, -1, 0)
    unknown = ErrorCode.unknown_topic_or_partition
    assert [(part.partition_index, part.error_code) for part in parts] == [(1, unknown), (-1, unknown), (0, 0)]


@pytest.mark.parametrize("version", API_VERSIONS[ApiKey.OFFSET_FOR_LEADER_EPOCH])
async def test_where_an_epoch_ended_is_told(door: Server, kafka: KafkaClient, version: int) -> None:
    await kafka.make("t")
    await kafka.call(ApiKey.PRODUCE, 9, **produce("t", batch(b"v")))
    part = {"partition": 0, "current_leader_epoch": -1, "leader_epoch": 0}
    answer = await kafka.call(
        ApiKey.OFFSET_FOR_LEADER_EPOCH, version, replica_id=-1, topics=[{"topic": "t", "partitions": [part]}]
    )
    [told] = answer.topics[0].partitions
    assert (told.error_code, told.leader_epoch, told.end_offset) == (ErrorCode.none, 0, 1)


@pytest.mark.parametrize("version", API_VERSIONS[ApiKey.INIT_PRODUCER_ID])
async def test_a_producer_gets_an_id_in_every_version_and_a_transactional_one_is_refused(
    kafka: KafkaClient, version: int
) -> None:
    fields = {"transaction_timeout": 0, "producer_id": -1, "producer_epoch": -1}
    plain = await kafka.call(ApiKey.INIT_PRODUCER_ID, version, transactional_id=None, **fields)
    assert (plain.error_code, plain.producer_epoch) == (ErrorCode.none, 0)
    refused = await kafka.call(ApiKey.INIT_PRODUCER_ID, version, transactional_id="tx", **fields)
    assert refused.error_code == ErrorCode.transactional_id_authorization_failed
