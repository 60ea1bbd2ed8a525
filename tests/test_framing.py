"""What is written and read by hand is what the generated code writes and reads."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logwire.framing import fetch_response, partition_head, produce_request, read_fetch_response
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
