"""What a connection does with bytes, whole requests, cut ones and wrong ones."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from logserver.kafka.apis import API_VERSIONS, ApiKey
from logserver.kafka.connection import FIRST_REQUEST_BYTES_MAX, Connection
from logserver.server import Server
from tests.server.kafka_door.client import SOFTWARE, KafkaClient, framed
from tests.server.kafka_door.conftest import Connect
from tests.server.kafka_door.held_transport import HeldTransport, receive
from tests.server.kafka_door.requests import batch, produce


async def test_what_is_spoken_is_what_api_versions_says(kafka: KafkaClient) -> None:
    answer = await kafka.call(ApiKey.API_VERSIONS, **SOFTWARE)
    told = {each.api_key: range(each.min_version, each.max_version + 1) for each in answer.api_keys}
    # As Apache Kafka 4 has it: some clients do not compress for who says anything else (KAFKA-18659).
    assert told == dict(API_VERSIONS) | {ApiKey.PRODUCE: range(API_VERSIONS[ApiKey.PRODUCE][-1] + 1)}


async def test_a_client_that_is_newer_learns_the_versions_in_the_oldest_one(kafka: KafkaClient) -> None:
    from kio.schema.api_versions.v0.response import ApiVersionsResponse

    await kafka.send_bytes(b"\x00\x12\x7f\xff\x00\x00\x00\x09\xff\xff")
    answer = await kafka.answer((ApiVersionsResponse, 9))
    assert answer.error_code == ErrorCode.unsupported_version
    assert {each.api_key for each in answer.api_keys} == set(API_VERSIONS)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03",  # TLS
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        (FIRST_REQUEST_BYTES_MAX + 1).to_bytes(4, "big"),
        b"\0\0\0\3\0\x12\0",  # shorter than any request
        b"\0\0\0\x0a\x7f\x00\0\0\0\0\0\1\xff\xff",  # no such API
        b"\0\0\0\x0a\0\3\0\x63\0\0\0\1\xff\xff",  # no such version of Metadata
        b"\0\0\0\x0e\0\3\0\1\0\0\0\1\xff\xff\x7f\xff\xff\xff",  # of so many topics
        b"\0\0\0\x0e\0\3\0\1\0\0\0\1\xff\xff\xff\xff\xff\xf0",  # of less than none
    ],
)
async def test_what_is_no_request_ends_the_connection_and_no_other(
    connect: Connect, kafka: KafkaClient, data: bytes
) -> None:
    wrong = await connect()
    await wrong.send_raw(data)
    assert await wrong.is_closed()
    assert (await kafka.call(ApiKey.API_VERSIONS, **SOFTWARE)).error_code == ErrorCode.none


async def test_a_request_may_come_byte_by_byte(kafka: KafkaClient) -> None:
    for byte in b"\0\0\0\x0a\0\x12\0\0\0\0\0\7\xff\xff":
        await kafka.send_raw(bytes((byte,)))
        await asyncio.sleep(0)
    assert (await kafka.frame())[:4] == b"\0\0\0\7"


async def test_a_connection_that_had_an_answer_may_send_a_large_request(kafka: KafkaClient) -> None:
    await kafka.make("large")
    value = bytes(700 << 10)
    assert len(value) > FIRST_REQUEST_BYTES_MAX
    answer = await kafka.call(ApiKey.PRODUCE, 9, **produce("large", batch(value)))
    assert answer.responses[0].partition_responses[0].error_code == ErrorCode.none


async def test_answers_come_in_the_order_of_their_requests(kafka: KafkaClient) -> None:
    await kafka.make("t")
    sent = []
    for number in range(30):
        if number % 3:
            sent.append(await kafka.send(ApiKey.PRODUCE, 9, **produce("t", batch(b"%d" % number))))
        else:
            sent.append(await kafka.send(ApiKey.LIST_OFFSETS, **latest("t")))
    answers = [await kafka.answer(expected) for expected in sent]
    offsets = [
        answer.topics[0].partitions[0].offset
        if hasattr(answer, "topics")
        else answer.responses[0].partition_responses[0].base_offset
        for answer in answers
    ]
    # Each question sees all that was sent before it.
    assert offsets == [number for group in range(10) for number in (2 * group, 2 * group, 2 * group + 1)]


async def test_a_produce_request_without_acks_gets_no_answer(kafka: KafkaClient) -> None:
    await kafka.make("t")
    await kafka.send(ApiKey.PRODUCE, 9, **produce("t", batch(b"v"), acks=0))
    expected = await kafka.send(ApiKey.LIST_OFFSETS, **latest("t"))
    assert (await kafka.answer(expected)).topics[0].partitions[0].offset >= 0


@pytest.mark.parametrize("timeout_ms", [0, 1, -1])
async def test_who_would_wait_for_no_sync_waits_for_the_one_that_is_due(kafka: KafkaClient, timeout_ms: int) -> None:
    await kafka.make("t")
    await kafka.call(ApiKey.PRODUCE, 9, **produce("t", batch(b"opens the log")))
    answer = await kafka.call(ApiKey.PRODUCE, 9, **produce("t", batch(b"v")) | {"timeout": timeout_ms})
    assert answer.responses[0].partition_responses[0].error_code == ErrorCode.none


async def test_a_refused_batch_without_acks_ends_the_connection(kafka: KafkaClient) -> None:
    await kafka.make("t")
    damaged = bytearray(batch(b"v"))
    damaged[-1] ^= 1
    await kafka.send(ApiKey.PRODUCE, 9, **produce("t", bytes(damaged), acks=0))
    assert await kafka.is_closed()


def latest(topic: str) -> dict[str, Any]:
    partition = {"partition_index": 0, "current_leader_epoch": -1, "timestamp": -1}
    return {
        "replica_id": -1,
        "isolation_level": 0,
        "timeout": 1000,
        "topics": [{"name": topic, "partitions": [partition]}],
    }


@pytest.fixture
async def held(door: Server, kafka: KafkaClient) -> AsyncIterator[tuple[Connection, HeldTransport]]:
    """A connection by itself, to a server that has a topic with one record."""
    await kafka.make("t")
    await kafka.call(ApiKey.PRODUCE, 9, **produce("t", batch(b"opens the log")))
    assert door.kafka is not None
    connection, transport = Connection(door.kafka), HeldTransport()
    connection.connection_made(transport)
    yield connection, transport
    connection.connection_lost(None)


async def test_nothing_is_read_while_a_whole_request_waits_for_its_turn(
    held: tuple[Connection, HeldTransport],
) -> None:
    connection, transport = held
    receive(connection, framed(ApiKey.PRODUCE, 9, **produce("t", batch(b"v"))))
    assert transport.is_reading()
    receive(connection, framed(ApiKey.LIST_OFFSETS, **latest("t")))
    assert not transport.is_reading()  # no sync can have come yet
    connection.resume_writing()
    await asyncio.sleep(0)
    assert transport.written or not transport.is_reading()
    while len(transport.written) < 2:
        await asyncio.sleep(0)
    assert transport.is_reading()


async def test_requests_that_are_answered_at_once_are_taken_once_however_they_are_cut(
    held: tuple[Connection, HeldTransport], door: Server
) -> None:
    connection, transport = held
    requests = b"".join(
        framed(ApiKey.PRODUCE, 9, number, **produce("t", batch(b"%d" % number), acks=1)) for number in range(50)
    )
    for start in range(0, len(requests), 1000):
        while not transport.is_reading():
            await asyncio.sleep(0)
        receive(connection, requests[start : start + 1000])
    while len(transport.written) < 50:
        await asyncio.sleep(0)
    told = [int.from_bytes(answer[4:8], "big") for answer in transport.written]
    assert told == list(range(50))
    assert door.broker.store.log("t", 0).log_end_offset == 51
