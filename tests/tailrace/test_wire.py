from hypothesis import given
from hypothesis import strategies as st

from logwire.v1 import records_pb2 as pb
from tailrace.wire import partition_head, produce_request

PARTS = st.tuples(
    st.text(max_size=300),
    st.binary(min_size=16, max_size=16),
    st.integers(0, 2**31 - 1),
    # The length of a varint changes at 2**7 and 2**14.
    st.one_of(st.binary(max_size=300), st.integers(16_300, 16_400).map(bytes)),
)


@given(
    request_id=st.integers(0, 2**64 - 1),
    acks=st.sampled_from([pb.ACKS_ALL, pb.ACKS_LEADER, pb.ACKS_NONE]),
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
