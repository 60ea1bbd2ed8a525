"""What a producer may rely on, through each client."""

import gzip
import random
from collections.abc import Callable

import pytest
from kio.schema.errors import ErrorCode

from tests.conformance.clients import CODECS, Client, Message, Place, Refused
from tests.conformance.waiting import eventually, read

HOUR_MS = 3_600_000


def incompressible(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_records_get_offsets_in_the_order_in_which_they_were_sent(client: Client, topic: str) -> None:
    places = client.produce(topic, [Message(b"%d" % n) for n in range(5)])
    assert places == [Place(0, n) for n in range(5)]
    assert client.produce(topic, [Message(b"next")]) == [Place(0, 5)]


@pytest.mark.parametrize("acks", [0, 1, -1], ids=["acks-0", "acks-1", "acks-all"])
def test_a_record_arrives_with_every_kind_of_acks(client: Client, topic: str, acks: int) -> None:
    client.produce(topic, [Message(b"one"), Message(b"two")], acks=acks)
    with client.consumer() as consumer:
        consumer.assign(topic, 0, 0)
        assert [record.value for record in read(consumer, 2)] == [b"one", b"two"]


def test_an_idempotent_producer_writes_each_record_once_and_in_order(client: Client, topic: str) -> None:
    messages = [Message(b"%d" % n) for n in range(200)]
    assert client.produce(topic, messages, idempotent=True, batch_bytes=500) == [Place(0, n) for n in range(200)]
    with client.consumer() as consumer:
        consumer.assign(topic, 0, 0)
        assert [int(record.value or b"") for record in read(consumer, 200)] == list(range(200))


@pytest.mark.parametrize("codec", CODECS)
def test_a_compressed_batch_is_read_as_it_was_written(client: Client, topic: str, codec: str) -> None:
    values = [b"a line of text, of which there are many: %d" % n for n in range(100)]
    client.produce(topic, [Message(value) for value in values], codec=codec)
    with client.consumer() as consumer:
        consumer.assign(topic, 0, 0)
        assert [record.value for record in read(consumer, 100)] == values


def test_key_value_headers_and_time_arrive_as_they_were_sent(client: Client, topic: str) -> None:
    headers = [("trace", b"\x00\xff"), ("trace", b"again"), ("empty", b"")]
    client.produce(topic, [Message(b"value", b"\x00key", headers, timestamp_ms=1_357_000_000_123)])
    with client.consumer() as consumer:
        consumer.assign(topic, 0, 0)
        (record,) = read(consumer, 1)
    assert (record.key, record.value, list(record.headers)) == (b"\x00key", b"value", headers)
    assert (record.offset, record.timestamp_ms) == (0, 1_357_000_000_123)


def test_null_and_empty_are_two_things(client: Client, topic: str) -> None:
    client.produce(topic, [Message(None, b"deleted"), Message(b"", b"emptied"), Message(b"value", None)])
    with client.consumer() as consumer:
        consumer.assign(topic, 0, 0)
        pairs = [(record.key, record.value) for record in read(consumer, 3)]
    assert pairs == [(b"deleted", None), (b"emptied", b""), (None, b"value")]


def test_batches_of_many_megabytes_are_taken(client: Client, names: Callable[[str], str]) -> None:
    topic = names("topic")
    client.create_topic(topic, config={"max.message.bytes": str(8 * 2**20)})
    values = [incompressible(size) for size in (3_000_000, 2_000_001, 100)]
    client.produce(topic, [Message(v) for v in values], batch_bytes=7 * 2**20, request_bytes_max=8 * 2**20)
    with client.consumer() as consumer:
        consumer.assign(topic, 0, 0)
        assert [record.value for record in read(consumer, 3)] == values


def test_a_record_larger_than_the_topic_takes_is_refused(client: Client, topic: str) -> None:
    large = Message(incompressible(1_200_000))
    with pytest.raises(Refused) as refusal:
        client.produce(topic, [large], request_bytes_max=2_000_000, batch_bytes=2_000_000)
    assert refusal.value.code == ErrorCode.message_too_large
    assert client.produce(topic, [Message(b"small")]) == [Place(0, 0)], "nothing of the large one was kept"


def test_the_limit_of_size_is_the_topics_own(client: Client, names: Callable[[str], str]) -> None:
    topic = names("topic")
    client.create_topic(topic, config={"max.message.bytes": "1000"})
    with pytest.raises(Refused) as refusal:
        client.produce(topic, [Message(incompressible(1000))])
    assert refusal.value.code == ErrorCode.message_too_large


def test_the_limit_of_size_is_for_the_batch_as_it_is_sent(client: Client, names: Callable[[str], str]) -> None:
    topic = names("topic")
    client.create_topic(topic, config={"max.message.bytes": "1000"})
    value = b"compresses well" * 1000
    assert len(gzip.compress(value)) < 900
    assert client.produce(topic, [Message(value)], codec="gzip") == [Place(0, 0)]


def test_a_time_far_in_the_future_is_refused(client: Client, topic: str) -> None:
    with pytest.raises(Refused) as refusal:
        client.produce(topic, [Message(b"late", timestamp_ms=4_000_000_000_000)])
    assert refusal.value.code == ErrorCode.invalid_timestamp


def test_producing_to_an_unknown_topic_creates_it(client: Client, names: Callable[[str], str]) -> None:
    topic = names("created")
    assert client.produce(topic, [Message(b"first")]) == [Place(0, 0)]
    assert client.partitions(topic) == [0]


def test_with_log_append_time_a_record_has_the_brokers_time(client: Client, names: Callable[[str], str]) -> None:
    topic = names("topic")
    client.create_topic(topic, config={"message.timestamp.type": "LogAppendTime"})
    client.produce(topic, [Message(b"old", timestamp_ms=1000)])
    with client.consumer() as consumer:
        consumer.assign(topic, 0, 0)
        (record,) = read(consumer, 1)
    assert record.timestamp_ms > 1000 + HOUR_MS


def test_a_compacted_topic_refuses_a_record_without_a_key(client: Client, names: Callable[[str], str]) -> None:
    topic = names("topic")
    client.create_topic(topic, config={"cleanup.policy": "compact"})
    with pytest.raises(Refused) as refusal:
        client.produce(topic, [Message(b"value", None)])
    assert refusal.value.code in (ErrorCode.invalid_record, -1), "aiokafka does not know the error, and says so"
    assert client.produce(topic, [Message(b"value", b"key")]) == [Place(0, 0)]


def test_a_topic_that_is_created_is_seen_at_once(client: Client, names: Callable[[str], str]) -> None:
    topic = names("topic")
    client.create_topic(topic, partitions=3)
    eventually(lambda: topic in client.topics(), 5)
    assert client.produce(topic, [Message(b"last", partition=2)]) == [Place(2, 0)]
