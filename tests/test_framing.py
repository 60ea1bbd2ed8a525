"""What is written and read by hand is what the generated code writes and reads."""

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from logwire.framing import (
    PartitionHead,
    ReceivedBatch,
    fetch_response,
    partition_ack,
    partition_head,
    produce_answer,
    produce_request,
    produce_response,
    read_fetch_response,
    read_produce_request,
)
from logwire.v1 import records_pb2 as pb
from logwire.v1.errors_pb2 import Error

PARTS = st.tuples(
    st.text(max_size=300),
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**31 - 1),
    # The length of a varint changes at 2**7 and 2**14.
    st.one_of(st.binary(max_size=300), st.integers(16_300, 16_400).map(bytes)),
)


@given(
    request_id=st.integers(0, 2**64 - 1),
    acks=st.sampled_from([pb.ACKS_ALL, pb.ACKS_ONE, pb.ACKS_ZERO]),
    parts=st.lists(PARTS, max_size=4),
)
def test_a_request_written_by_hand_reads_as_protobuf_would_write_it(
    request_id: int, acks: pb.Acks.ValueType, parts: list[tuple[str, bytes, int, bytes]]
) -> None:
    expected = pb.ProduceStreamRequest(
        request_id=request_id,
        acks=acks,
        reads_others=True,
        partitions=[
            pb.PartitionRecords(topic=topic, topic_id=topic_id, partition=partition, batch=batch)
            for topic, topic_id, partition, batch in parts
        ],
    )
    written = produce_request(
        request_id,
        acks,
        [(partition_head(topic, topic_id, partition), bytearray(batch)) for topic, topic_id, partition, batch in parts],
    )
    assert pb.ProduceStreamRequest.FromString(written) == expected


PARTITION_RECORDS = st.builds(
    pb.PartitionRecords,
    topic=st.text(max_size=300),
    topic_id=st.binary(max_size=20),
    partition=st.none() | st.integers(-5, 2**31 - 1),
    batch=st.none() | st.binary(max_size=300) | st.integers(16_300, 16_400).map(bytes),
)
PLAIN_RECORDS = st.builds(
    pb.PartitionRecords,
    topic=st.text(max_size=300),
    records=st.builds(pb.RecordList, records=st.lists(st.builds(pb.Record, value=st.binary(max_size=9)), max_size=2)),
)
REQUESTS = st.builds(
    pb.ProduceStreamRequest,
    request_id=st.integers(0, 2**64 - 1),
    acks=st.sampled_from([*pb.Acks.values(), 7]),
    reads_others=st.booleans(),
    partitions=st.lists(PARTITION_RECORDS | PLAIN_RECORDS, max_size=4),
)


def assert_reads_as(message: bytes, expected: pb.ProduceStreamRequest) -> None:
    read = read_produce_request(message, partitions_max=100)
    for name in ("request_id", "acks", "reads_others"):
        assert getattr(read, name) == getattr(expected, name)
    for received, part in zip(read.partitions, expected.partitions, strict=True):
        if part.WhichOneof("payload") != "batch":
            assert received == part
            continue
        assert isinstance(received, ReceivedBatch)
        partition = part.partition if part.HasField("partition") else None
        assert received.head == PartitionHead(part.topic, part.topic_id, partition)
        assert received.batch == part.batch


@given(request=REQUESTS)
def test_a_request_of_any_client_is_read_by_hand(request: pb.ProduceStreamRequest) -> None:
    assert_reads_as(request.SerializeToString(), request)


@given(requests=st.lists(REQUESTS, min_size=1, max_size=3))
def test_what_protobuf_merges_is_merged(requests: list[pb.ProduceStreamRequest]) -> None:
    message = b"".join(request.SerializeToString() for request in requests)
    assert_reads_as(message, pb.ProduceStreamRequest.FromString(message))


@given(parts=st.lists(PARTITION_RECORDS | PLAIN_RECORDS, min_size=2, max_size=3))
def test_the_fields_of_a_part_may_come_twice_and_in_any_order(parts: list[pb.PartitionRecords]) -> None:
    encoded = b"".join(part.SerializeToString() for part in parts)
    expected = pb.ProduceStreamRequest(partitions=[pb.PartitionRecords.FromString(encoded)])
    assert_reads_as(expected.SerializeToString(), expected)
    size = len(encoded)
    assert_reads_as(b"\x1a" + bytes([0x80 | size & 0x7F, 0x80 | size >> 7 & 0x7F, size >> 14]) + encoded, expected)


@given(request=REQUESTS, cut=st.integers(min_value=1), damage=st.binary(min_size=1, max_size=9), at=st.integers(0))
def test_a_request_that_is_cut_or_damaged_is_refused_or_is_what_protobuf_takes_it_for(
    request: pb.ProduceStreamRequest, cut: int, damage: bytes, at: int
) -> None:
    whole = request.SerializeToString() or b"\x08"
    at %= len(whole)
    for message in (whole[: -(cut % len(whole)) or None], whole[:at] + damage + whole[at + len(damage) :]):
        try:
            expected = pb.ProduceStreamRequest.FromString(message)
        except DecodeError:
            with pytest.raises(ValueError, match=r"no ProduceStreamRequest|does not end"):
                read_produce_request(message, partitions_max=100)
        else:
            assert_reads_as(message, expected)


@pytest.mark.parametrize("part", [b"\x1a\x02\x22\x00", b"\x1a\x00"])
def test_no_more_partitions_are_read_than_it_takes_to_refuse_them(part: bytes) -> None:
    assert len(read_produce_request(part * 100, partitions_max=100).partitions) == 100
    assert len(read_produce_request(part * 5_000, partitions_max=100).partitions) == 101


ANSWERS = st.builds(
    pb.ProduceStreamResponse,
    request_id=st.integers(0, 2**64 - 1),
    acks=st.lists(
        st.builds(
            pb.PartitionAck,
            topic=st.text(max_size=200),
            topic_id=st.binary(max_size=16),
            partition=st.integers(0, 2**31 - 1),
            base_offset=st.integers(0, 2**63 - 1),
            log_start_offset=st.integers(0, 2**63 - 1),
            duplicate=st.booleans(),
        ),
        max_size=3,
    ),
)


@given(answers=st.lists(ANSWERS, min_size=1, max_size=3))
def test_answers_written_by_hand_read_as_protobuf_would_write_them(answers: list[pb.ProduceStreamResponse]) -> None:
    def written(ack: pb.PartitionAck) -> bytes:
        return partition_ack(
            ack.topic,
            ack.topic_id,
            ack.partition,
            base_offset=ack.base_offset,
            log_start_offset=ack.log_start_offset,
            duplicate=ack.duplicate,
        )

    message = produce_response([produce_answer(answer.request_id, map(written, answer.acks)) for answer in answers])
    expected, *others = answers
    expected.others.extend(others)
    assert pb.ProduceStreamResponse.FromString(message) == expected


DATA = st.builds(
    pb.PartitionData,
    topic=st.text(max_size=20),
    partition=st.integers(0, 2**31 - 1),
    position_id=st.integers(0, 2**64 - 1),
    batches=st.one_of(st.binary(max_size=300), st.integers(16_300, 16_400).map(bytes)),
    next_offset=st.integers(-1, 2**63 - 1),
    high_watermark=st.integers(-1, 2**63 - 1),
    error=st.none() | st.builds(Error, message=st.text(max_size=200)),
)


def without_batches(data: pb.PartitionData) -> pb.PartitionData:
    rest = pb.PartitionData()
    rest.CopyFrom(data)
    rest.ClearField("batches")
    return rest


@given(parts=st.lists(DATA, max_size=4))
def test_an_answer_written_by_hand_reads_as_protobuf_would_write_it(parts: list[pb.PartitionData]) -> None:
    written = fetch_response((without_batches(data), data.batches) for data in parts)
    assert pb.FetchStreamResponse.FromString(written) == pb.FetchStreamResponse(partitions=parts)


@given(parts=st.lists(DATA, max_size=4))
def test_an_answer_of_any_server_is_read_by_hand(parts: list[pb.PartitionData]) -> None:
    read = list(read_fetch_response(pb.FetchStreamResponse(partitions=parts).SerializeToString()))
    assert [(rest, bytes(batches)) for rest, batches in read] == [
        (without_batches(data), data.batches) for data in parts
    ]


@given(parts=st.lists(DATA, min_size=1, max_size=2), cut=st.integers(min_value=1))
def test_an_answer_that_is_cut_is_refused_or_ends_between_two_parts(parts: list[pb.PartitionData], cut: int) -> None:
    whole = pb.FetchStreamResponse(partitions=parts).SerializeToString()
    message = whole[: -(cut % len(whole)) or None]
    try:
        read = list(read_fetch_response(message))
    except ValueError:
        return
    assert pb.FetchStreamResponse(partitions=parts[: len(read)]).SerializeToString() == message


def test_what_is_no_message_is_a_value_error() -> None:
    for garbage in (b"\x0f", b"\x0a", b"\x0a\xff", b"\xff" * 11, b"\x0a\x02\x22\x05"):
        with pytest.raises(ValueError, match=r" at byte | before byte "):
            list(read_fetch_response(garbage))
