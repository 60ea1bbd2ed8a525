"""Produce requests that clients do not send, or not on purpose."""

import struct
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from tests.conformance.batches import ATTRIBUTES_AT, COUNT_AT, LAST_OFFSET_DELTA_AT, MAGIC_AT, batch, replaced, with_crc
from tests.conformance.clients import Client
from tests.conformance.conftest import new_topic
from tests.conformance.waiting import eventually
from tests.conformance.wire import Connection


def produce(
    wire: Connection, topic: str, records: bytes | None, *, acks: int = -1, partition: int = 0, version: int = 9
) -> Any:
    """The answer for the one partition."""
    data = [{"name": topic, "partition_data": [{"index": partition, "records": records}]}]
    answer = wire.ask("produce", version, acks=acks, timeout=10_000, topic_data=data)
    (for_topic,) = answer.responses
    assert for_topic.name == topic
    (for_partition,) = for_topic.partition_responses
    assert for_partition.index == partition
    return for_partition


def end_offset(wire: Connection, topic: str) -> int:
    asked = [{"name": topic, "partitions": [{"partition_index": 0, "timestamp": -1}]}]
    answer = wire.ask("list_offsets", 4, replica_id=-1, topics=asked)
    return int(answer.topics[0].partitions[0].offset)


def new_producer_id(wire: Connection) -> Any:
    """Asks again while the broker has no numbers yet, as clients do."""
    given = wire.ask("init_producer_id", 4, transaction_timeout=60_000)
    deadline = time.monotonic() + 30
    while given.error_code == ErrorCode.coordinator_load_in_progress and time.monotonic() < deadline:
        time.sleep(0.05)
        given = wire.ask("init_producer_id", 4, transaction_timeout=60_000)
    assert given.error_code == 0
    return given


class Idempotent:
    """An idempotent producer that sends the sequences it is told."""

    def __init__(self, wire: Connection, topic: str) -> None:
        self._wire = wire
        self._topic = topic
        given = new_producer_id(wire)
        self.producer_id, self.epoch = given.producer_id, given.producer_epoch

    def send(self, base_sequence: int, count: int = 1, *, epoch: int | None = None, value: bytes = b"value") -> Any:
        records = batch(
            [value] * count,
            producer_id=self.producer_id,
            producer_epoch=self.epoch if epoch is None else epoch,
            base_sequence=base_sequence,
        )
        return produce(self._wire, self._topic, records)


@pytest.fixture
def producer(wire: Connection, topic: str) -> Idempotent:
    return Idempotent(wire, topic)


@pytest.mark.parametrize("version", range(3, 13))
def test_every_version_is_answered_with_offset_and_log_start(wire: Connection, topic: str, version: int) -> None:
    first = produce(wire, topic, batch([b"a", b"b"]), version=version)
    second = produce(wire, topic, batch([b"c"]), version=version)
    assert (first.error_code, first.base_offset, first.log_append_time) == (0, 0, None)
    assert (second.error_code, second.base_offset) == (0, 2)
    if version >= 5:
        assert second.log_start_offset == 0


def test_a_topic_may_be_named_by_its_id(wire: Connection, topic: str) -> None:
    metadata = wire.ask("metadata", 12, topics=[{"name": topic}])
    topic_id = metadata.topics[0].topic_id
    data = [{"topic_id": topic_id, "partition_data": [{"index": 0, "records": batch([b"a"])}]}]
    answer = wire.ask("produce", 13, acks=-1, timeout=10_000, topic_data=data)
    assert answer.responses[0].topic_id == topic_id
    assert answer.responses[0].partition_responses[0].base_offset == 0


def test_an_unknown_topic_id_is_said(wire: Connection) -> None:
    data = [{"topic_id": uuid.uuid4(), "partition_data": [{"index": 0, "records": batch([b"a"])}]}]
    answer = wire.ask("produce", 13, acks=-1, timeout=10_000, topic_data=data)
    assert answer.responses[0].partition_responses[0].error_code == ErrorCode.unknown_topic_id


def test_without_acks_there_is_no_answer(wire: Connection, topic: str) -> None:
    data = [{"name": topic, "partition_data": [{"index": 0, "records": batch([b"a", b"b"])}]}]
    wire.send("produce", 9, answered=False, acks=0, timeout=10_000, topic_data=data)
    assert end_offset(wire, topic) in (0, 2), "the next answer is for the next request"
    # A broker that shows only what is on the disk takes its time.
    eventually(lambda: end_offset(wire, topic) == 2)


def test_without_acks_an_error_ends_the_connection(wire: Connection, topic: str) -> None:
    data = [{"name": topic, "partition_data": [{"index": 7, "records": batch([b"a"])}]}]
    wire.send("produce", 9, answered=False, acks=0, timeout=10_000, topic_data=data)
    with pytest.raises(ConnectionError):
        wire.receive_bytes()


@pytest.mark.parametrize("acks", [2, -2])
def test_other_acks_are_refused(wire: Connection, topic: str, acks: int) -> None:
    assert produce(wire, topic, batch([b"a"]), acks=acks).error_code == ErrorCode.invalid_required_acks
    assert end_offset(wire, topic) == 0


def test_an_unknown_partition_is_said_and_the_others_are_written(wire: Connection, topic: str) -> None:
    parts = [{"index": index, "records": batch([b"a"])} for index in (1, -1)] + [{"index": 0, "records": batch([b"b"])}]
    data = [
        {"name": topic, "partition_data": parts},
        {"name": "not-there", "partition_data": [{"index": 0, "records": batch([b"c"])}]},
    ]
    answer = wire.ask("produce", 9, acks=-1, timeout=10_000, topic_data=data)
    errors = {
        (each.name, part.index): part.error_code for each in answer.responses for part in each.partition_responses
    }
    assert errors == {
        (topic, 0): 0,
        (topic, 1): ErrorCode.unknown_topic_or_partition,
        (topic, -1): ErrorCode.unknown_topic_or_partition,
        ("not-there", 0): ErrorCode.unknown_topic_or_partition,
    }
    assert end_offset(wire, topic) == 1


def test_a_batch_whose_bytes_do_not_fit_its_crc_is_corrupt(wire: Connection, topic: str) -> None:
    whole = batch([b"value"])
    for position in (ATTRIBUTES_AT + 1, len(whole) - 2):
        damaged = replaced(whole, position, bytes([whole[position] ^ 1]))
        assert produce(wire, topic, damaged).error_code == ErrorCode.corrupt_message
    assert end_offset(wire, topic) == 0


def test_two_batches_for_one_partition_are_refused(wire: Connection, topic: str) -> None:
    assert produce(wire, topic, batch([b"a"]) + batch([b"b"])).error_code == ErrorCode.invalid_record


def test_no_batch_at_all_is_refused(wire: Connection, topic: str) -> None:
    assert produce(wire, topic, b"").error_code == ErrorCode.invalid_record


def test_a_batch_that_gives_itself_an_offset_is_refused(wire: Connection, topic: str) -> None:
    moved = replaced(batch([b"a"]), 0, struct.pack(">q", 77))
    assert produce(wire, topic, moved).error_code == ErrorCode.invalid_record


@pytest.mark.parametrize(
    ("position", "part"),
    [
        pytest.param(COUNT_AT, struct.pack(">i", 2), id="a count greater than the records"),
        pytest.param(COUNT_AT, struct.pack(">i", 0), id="a count of nothing"),
        pytest.param(COUNT_AT, struct.pack(">i", -1), id="a negative count"),
        pytest.param(LAST_OFFSET_DELTA_AT, struct.pack(">i", 5), id="a last offset beyond the records"),
        pytest.param(LAST_OFFSET_DELTA_AT, struct.pack(">i", -1), id="a last offset before the first"),
    ],
)
def test_a_header_that_contradicts_itself_is_refused(wire: Connection, topic: str, position: int, part: bytes) -> None:
    answer = produce(wire, topic, with_crc(replaced(batch([b"value"]), position, part)))
    assert answer.error_code == ErrorCode.invalid_record
    assert end_offset(wire, topic) == 0


def test_a_control_batch_of_a_client_is_refused(wire: Connection, topic: str) -> None:
    control = with_crc(replaced(batch([b"value"]), ATTRIBUTES_AT, struct.pack(">h", 0x20)))
    assert produce(wire, topic, control).error_code == ErrorCode.invalid_record


def test_old_message_formats_are_refused(wire: Connection, topic: str) -> None:
    old = replaced(batch([b"value"]), MAGIC_AT, b"\x01")
    assert produce(wire, topic, old).error_code == ErrorCode.invalid_record


def test_a_refusal_names_the_record(wire: Connection, maker: Client, names: Callable[[str], str]) -> None:
    topic = new_topic(maker, names("topic"), config={"cleanup.policy": "compact"})
    answer = produce(wire, topic, batch([b"a", b"b"]))
    assert answer.error_code == ErrorCode.invalid_record
    assert [each.batch_index for each in answer.record_errors] == [0, 1]
    assert answer.error_message


def test_a_batch_sent_again_is_answered_with_its_first_offset(
    producer: Idempotent, wire: Connection, topic: str
) -> None:
    assert producer.send(0, 3).base_offset == 0
    assert producer.send(3, 2).base_offset == 3
    again = producer.send(0, 3)
    assert (again.error_code, again.base_offset) == (0, 0)
    assert producer.send(5).base_offset == 5


def test_a_batch_sent_again_is_known_by_its_sequence_and_not_by_its_content(producer: Idempotent) -> None:
    producer.send(0, value=b"first")
    assert producer.send(0, value=b"other").base_offset == 0
    assert producer.send(1).base_offset == 1


def test_the_last_five_batches_of_a_producer_are_remembered(producer: Idempotent, wire: Connection, topic: str) -> None:
    for sequence in range(6):
        producer.send(sequence)
    assert [producer.send(sequence).base_offset for sequence in range(1, 6)] == [1, 2, 3, 4, 5]
    forgotten = producer.send(0)
    # The latter: a duplicate whose offset is forgotten.
    assert forgotten.error_code in (ErrorCode.out_of_order_sequence_number, ErrorCode.duplicate_sequence_number)
    assert end_offset(wire, topic) == 6


def test_a_gap_in_the_sequence_is_refused(producer: Idempotent, wire: Connection, topic: str) -> None:
    producer.send(0, 2)
    assert producer.send(3).error_code == ErrorCode.out_of_order_sequence_number
    assert producer.send(2).base_offset == 2
    assert end_offset(wire, topic) == 3


def test_a_batch_that_overlaps_an_earlier_one_is_refused(producer: Idempotent) -> None:
    producer.send(0, 3)
    assert producer.send(2, 2).error_code == ErrorCode.out_of_order_sequence_number


def test_a_producer_that_is_not_known_may_begin_anywhere(producer: Idempotent) -> None:
    assert producer.send(5).error_code == 0
    assert producer.send(6).error_code == 0


def test_an_old_epoch_is_refused(producer: Idempotent, wire: Connection, topic: str) -> None:
    producer.send(0, epoch=producer.epoch + 1)
    assert producer.send(1).error_code == ErrorCode.invalid_producer_epoch
    assert end_offset(wire, topic) == 1


def test_a_new_epoch_begins_at_sequence_0(producer: Idempotent) -> None:
    producer.send(0, 3)
    assert producer.send(3, epoch=producer.epoch + 1).error_code == ErrorCode.out_of_order_sequence_number
    assert producer.send(0, epoch=producer.epoch + 1).base_offset == 3


def test_the_sequence_goes_on_at_0_after_the_greatest(producer: Idempotent) -> None:
    assert producer.send(2**31 - 2, 2).error_code == 0
    assert producer.send(0).base_offset == 2


def test_a_sequence_may_wrap_within_a_batch(producer: Idempotent) -> None:
    assert producer.send(2**31 - 1, 3).error_code == 0
    assert producer.send(2).base_offset == 3
    assert producer.send(2**31 - 1, 3).base_offset == 0


def test_producer_ids_are_given_out_once(wire: Connection) -> None:
    given = [new_producer_id(wire) for _ in range(5)]
    assert len({each.producer_id for each in given}) == 5
    assert {each.producer_epoch for each in given} == {0}


def test_a_producer_may_ask_for_its_next_epoch(producer: Idempotent, wire: Connection) -> None:
    asked = {"producer_id": producer.producer_id, "producer_epoch": producer.epoch}
    given = wire.ask("init_producer_id", 4, transaction_timeout=60_000, **asked)
    assert given.error_code == 0
    assert given.producer_id != producer.producer_id, "without a transactional id it is a new producer"


def test_each_producer_has_its_own_sequence(wire: Connection, topic: str) -> None:
    first, second = Idempotent(wire, topic), Idempotent(wire, topic)
    assert [each.send(n).base_offset for n in range(2) for each in (first, second)] == [0, 1, 2, 3]
