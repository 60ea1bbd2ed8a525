"""The produce request, written by hand: protobuf copies a batch five times on its way into a request's bytes (0.3 ms
for 256 KiB), this once (0.007 ms).

    ProduceStreamRequest   1: request_id   2: acks   3: partitions, each a
    PartitionRecords       1: topic   2: topic_id   3: partition   4: batch

Protobuf defines the bytes of a message as those of its fields in any order, so everything but the batch is left to the
generated code.
"""

from collections.abc import Iterable

from logwire.v1 import records_pb2 as pb

_PARTITIONS_TAG = b"\x1a"  # field 3, length-delimited
_BATCH_TAG = b"\x22"  # field 4, length-delimited


def partition_head(topic: str, topic_id: bytes, partition: int) -> bytes:
    """A PartitionRecords without its batch."""
    return pb.PartitionRecords(topic=topic, topic_id=topic_id, partition=partition).SerializeToString()


def produce_request(request_id: int, acks: pb.Acks.ValueType, parts: Iterable[tuple[bytes, bytearray]]) -> bytes:
    """A ProduceStreamRequest of (head, batch) parts."""
    pieces: list[bytes | bytearray] = [pb.ProduceStreamRequest(request_id=request_id, acks=acks).SerializeToString()]
    for head, batch in parts:
        batch_size = _varint(len(batch))
        size = len(head) + len(_BATCH_TAG) + len(batch_size) + len(batch)
        pieces += (_PARTITIONS_TAG, _varint(size), head, _BATCH_TAG, batch_size, batch)
    return b"".join(pieces)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(0x80 | value & 0x7F)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
