"""What a consumer without a group may rely on, through each client."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from kio.schema.errors import ErrorCode

from tests.conformance.clients import Client, Message, Refused
from tests.conformance.waiting import read, read_while_writing


def numbers(first: int, end: int) -> list[Message]:
    return [Message(b"%d" % n) for n in range(first, end)]


@pytest.fixture
def ten(topic: str, maker: Client) -> str:
    """A topic with the numbers 0 to 9 in one batch, so that offsets lie in the middle of it."""
    maker.produce(topic, numbers(0, 10))
    return topic


def test_reading_from_the_beginning_gives_all(client: Client, ten: str) -> None:
    with client.consumer(reset="earliest") as consumer:
        consumer.assign(ten, 0)
        records = read(consumer, 10)
    assert [(record.offset, record.value) for record in records] == [(n, b"%d" % n) for n in range(10)]


def test_reading_from_the_end_gives_what_comes_later(client: Client, ten: str) -> None:
    with client.consumer(reset="latest") as consumer:
        consumer.assign(ten, 0)
        records = read_while_writing(consumer, lambda: client.produce(ten, [Message(b"later")]))
    assert {record.value for record in records} == {b"later"}


def test_an_offset_in_the_middle_of_a_batch_is_where_reading_starts(client: Client, ten: str) -> None:
    with client.consumer() as consumer:
        consumer.assign(ten, 0, 7)
        assert [record.offset for record in read(consumer, 3)] == [7, 8, 9]


def test_seeking_goes_back_and_forth(client: Client, ten: str) -> None:
    with client.consumer() as consumer:
        consumer.assign(ten, 0, 0)
        read(consumer, 10)
        consumer.seek(ten, 0, 2)
        assert [record.offset for record in read(consumer, 8)] == list(range(2, 10))
        consumer.seek(ten, 0, 9)
        assert [record.offset for record in read(consumer, 1)] == [9]


def test_the_position_is_one_past_what_was_read(client: Client, ten: str) -> None:
    with client.consumer() as consumer:
        consumer.assign(ten, 0, 4)
        read(consumer, 6)
        assert consumer.position(ten, 0) == 10


def test_reading_at_the_end_waits_for_what_is_written_next(client: Client, ten: str) -> None:
    with client.consumer() as consumer:
        consumer.assign(ten, 0, 10)
        assert consumer.poll(0.5) == []
        client.produce(ten, numbers(10, 12))
        assert [record.offset for record in read(consumer, 2)] == [10, 11]


@pytest.mark.parametrize("offset", [11, 1000])
def test_an_offset_past_the_end_is_reset_to_the_beginning(client: Client, ten: str, offset: int) -> None:
    with client.consumer(reset="earliest") as consumer:
        consumer.assign(ten, 0, offset)
        assert [record.offset for record in read(consumer, 10)] == list(range(10))


def test_an_offset_past_the_end_is_reset_to_the_end(client: Client, ten: str) -> None:
    with client.consumer(reset="latest") as consumer:
        consumer.assign(ten, 0, 1000)
        records = read_while_writing(consumer, lambda: client.produce(ten, [Message(b"later")]))
    assert {record.value for record in records} == {b"later"}


def test_an_offset_past_the_end_is_an_error_without_a_reset(client: Client, ten: str) -> None:
    with client.consumer(reset="none") as consumer:
        consumer.assign(ten, 0, 11)
        with pytest.raises(Refused) as refusal:
            read(consumer, 1, 10)
    assert refusal.value.code == ErrorCode.offset_out_of_range


def test_an_offset_whose_record_was_deleted_is_reset_to_the_first_that_is_left(
    client: Client, ten: str, maker: Client
) -> None:
    assert maker.delete_records(ten, 0, 6) == 6
    with client.consumer(reset="earliest") as consumer:
        consumer.assign(ten, 0, 2)
        assert [record.offset for record in read(consumer, 4)] == [6, 7, 8, 9]


def test_a_time_leads_to_the_first_record_that_is_not_older(client: Client, topic: str) -> None:
    for n in range(4):
        client.produce(topic, [Message(b"%d" % n, timestamp_ms=1000 + 100 * n)])
    with client.consumer() as consumer:
        consumer.assign(topic, 0, 0)
        found = [consumer.offset_for_time(topic, 0, time_ms) for time_ms in (0, 1100, 1101, 1300)]
    assert found == [0, 1, 2, 3]


def test_a_time_leads_into_the_middle_of_a_batch(client: Client, topic: str, maker: Client) -> None:
    maker.produce(topic, [Message(b"%d" % n, timestamp_ms=5000 + n) for n in range(10)])
    with client.consumer() as consumer:
        consumer.assign(topic, 0, 0)
        assert consumer.offset_for_time(topic, 0, 5006) == 6


def test_a_time_after_all_records_leads_nowhere(client: Client, ten: str) -> None:
    with client.consumer() as consumer:
        consumer.assign(ten, 0, 0)
        assert consumer.offset_for_time(ten, 0, 4_000_000_000_000) in (None, 10), "librdkafka says the end"


def test_a_paused_partition_gives_nothing_until_it_is_resumed(client: Client, ten: str) -> None:
    with client.consumer() as consumer:
        consumer.assign(ten, 0, 0)
        read(consumer, 10)
        consumer.pause(ten, 0)
        client.produce(ten, numbers(10, 13))
        assert consumer.poll(0.5) == []
        consumer.resume(ten, 0)
        assert [record.offset for record in read(consumer, 3)] == [10, 11, 12]


def test_the_range_of_a_log_is_its_start_and_its_end(client: Client, ten: str, maker: Client) -> None:
    with client.consumer() as consumer:
        consumer.assign(ten, 0, 0)
        assert consumer.log_range(ten, 0) == (0, 10)
        maker.delete_records(ten, 0, 3)
        assert consumer.log_range(ten, 0) == (3, 10)


def test_an_unknown_topic_is_not_created_by_a_reader_that_does_not_ask_for_it(
    client: Client, names: Callable[[str], str], group: str
) -> None:
    topic = names("unknown")
    with client.consumer(group=group) as consumer:
        if client.name == "aiokafka":
            pytest.skip("aiokafka always asks for topics to be created")
        if client.name == "kafka-python":
            pytest.skip("kafka-python asks for topics to be created by default")
        consumer.subscribe(topic)
        with pytest.raises(Refused) as refusal:
            read(consumer, 1, 10)
    assert refusal.value.code == ErrorCode.unknown_topic_or_partition
    assert topic not in client.topics()


def test_a_subscriber_reads_a_topic_that_is_created_later(
    client: Client, names: Callable[[str], str], group: str, maker: Client
) -> None:
    topic = names("later")
    with client.consumer(group=group) as consumer:
        consumer.subscribe(topic)
        # librdkafka says once that the topic is unknown, and finds it afterwards.
        with suppress(Refused):
            consumer.poll(1.0)
        maker.produce(topic, [Message(b"first")])
        assert [record.value for record in read(consumer, 1)] == [b"first"]


def test_many_megabytes_are_read_in_more_than_one_answer(client: Client, topic: str, maker: Client) -> None:
    value = bytes(200_000)
    maker.produce(topic, [Message(value) for _ in range(25)])
    with client.consumer() as consumer:
        consumer.assign(topic, 0, 0)
        assert [record.offset for record in read(consumer, 25)] == list(range(25))
