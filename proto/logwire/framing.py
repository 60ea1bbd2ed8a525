"""Messages that carry batches, and their acknowledgements, written and read by hand: the rest is protobuf's.

Protobuf copies a batch five times on its way into a request and three times on its way out of an answer (0.3 ms for
256 KiB); written here it is copied once (0.007 ms), and read here not at all.

    ProduceStreamRequest   1: request_id   2: acks   4: reads_others   3: partitions, each a
    PartitionRecords       1: topic   2: topic_id   3: partition   4: batch

    ProduceStreamResponse  1: request_id   3: others, each one too   2: acks, each a
    PartitionAck           1: topic   2: partition   3: base_offset   4: duplicate   5: log_start_offset   7: topic_id

    FetchStreamResponse    1: partitions, each a
    PartitionData          1: topic   2: partition   ...   4: batches   5: next_offset   ...

Protobuf lets the fields of a message stand in any order, and concatenated messages merge. So a message without its
batches, as the generated code writes it, and then the batches, is the message.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from google.protobuf.message import DecodeError

from logwire.v1 import records_pb2 as pb

Buffer = bytes | bytearray | memoryview

# A tag is the field's number << 3 | its kind: a varint, or a length and that many bytes.
_REQUEST_ID = b"\x08"
_REQUEST_ACKS = b"\x10"
_REQUEST_PARTITIONS = b"\x1a"
_TOPIC = b"\x0a"
_TOPIC_ID = b"\x12"
_PARTITION = b"\x18"
_BATCH = b"\x22"
_REQUEST_READS_OTHERS = b"\x20"
_REQUEST_TAGS = _REQUEST_ID + _REQUEST_ACKS + _REQUEST_PARTITIONS + _REQUEST_READS_OTHERS
_PART_TAGS = _TOPIC + _TOPIC_ID + _PARTITION + _BATCH
_RESPONSE_ID = b"\x08"
_RESPONSE_ACKS = b"\x12"
_RESPONSE_OTHERS = b"\x1a"
_ACK_BASE_OFFSET = b"\x18"
_ACK_LOG_START_OFFSET = b"\x28"
_RESPONSE_PARTITIONS = b"\x0a"
_BATCHES = b"\x22"

_SHORT_VARINTS = tuple(bytes([value]) for value in range(0x80))

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

#: What names a partition is the same in message after message, so it is encoded and decoded once.
_REMEMBERED = 4096
_REMEMBERED_BYTES_MAX = 512


# Produce: the client's side.


def partition_head(topic: str, topic_id: bytes, partition: int) -> bytes:
    """A PartitionRecords without its batch."""
    return pb.PartitionRecords(topic=topic, topic_id=topic_id, partition=partition).SerializeToString()


def produce_request(request_id: int, acks: pb.Acks.ValueType, parts: Iterable[tuple[bytes, Buffer]]) -> bytes:
    """A ProduceStreamRequest of (head, batch) parts, by a client that reads `others`."""
    rest = pb.ProduceStreamRequest(request_id=request_id, acks=acks, reads_others=True)
    pieces: list[Buffer] = [rest.SerializeToString()]
    for head, batch in parts:
        pieces += _embedded(_REQUEST_PARTITIONS, head, _BATCH, batch)
    return b"".join(pieces)


# Produce: the server's side.


class PartitionHead(NamedTuple):
    topic: str
    topic_id: bytes
    #: None when the sender left it out.
    partition: int | None


class ReceivedBatch(NamedTuple):
    head: PartitionHead
    #: Of the message it came in, unless that was an unusual one.
    batch: Buffer


class ProduceRequest(NamedTuple):
    """A ProduceStreamRequest as it was received. What has no batch is as protobuf read it."""

    request_id: int
    acks: int
    reads_others: bool
    partitions: Sequence[ReceivedBatch | pb.PartitionRecords]


def read_produce_request(message: bytes, *, partitions_max: int) -> ProduceRequest:
    """Raises ValueError for what no ProduceStreamRequest looks like.

    Of a request with more than `partitions_max` partitions so many and one are read, for the caller to refuse: an empty
    one is four bytes, and a hundred times that once it is read.
    """
    try:
        return _read_usual(message, partitions_max) or _read_unusual(message, partitions_max)
    except DecodeError as error:
        raise ValueError(f"{len(message)} bytes that are no ProduceStreamRequest: {error}") from error


def _read_usual(message: bytes, partitions_max: int) -> ProduceRequest | None:
    """A request of batches, each the last field of its part, as generated code writes them too. None for any other."""
    request_id = acks = reads_others = position = 0
    partitions: list[ReceivedBatch | pb.PartitionRecords] = []
    while position < len(message):
        tag = message[position]
        if tag not in _REQUEST_TAGS:
            return None
        value, position = _read_varint(message, position + 1)
        if tag == _REQUEST_PARTITIONS[0]:
            start, position = position, position + value
            received = _read_usual_part(message, start, position) if position <= len(message) else None
            if received is None:
                return None
            partitions.append(received)
            if len(partitions) > partitions_max:
                break
        elif tag == _REQUEST_ID[0]:
            request_id = value
        elif tag == _REQUEST_ACKS[0]:
            acks = value
        else:
            reads_others = value
    if acks > 0x7F or request_id >= 1 << 64:
        return None
    return ProduceRequest(request_id, acks, bool(reads_others), partitions)


def _read_usual_part(message: bytes, start: int, end: int) -> ReceivedBatch | None:
    position = start
    while position < end:
        tag = message[position]
        if tag not in _PART_TAGS:
            return None
        value, content_at = _read_varint(message, position + 1)
        if tag == _BATCH[0]:
            if content_at + value != end:
                return None
            read_head = _remembered_head if position - start <= _REMEMBERED_BYTES_MAX else _read_head
            return ReceivedBatch(read_head(message[start:position]), memoryview(message)[content_at:end])
        position = content_at if tag == _PARTITION[0] else content_at + value
    return None


def _read_head(encoded: bytes) -> PartitionHead:
    return _head(pb.PartitionRecords.FromString(encoded))


_remembered_head = lru_cache(_REMEMBERED)(_read_head)


def _read_unusual(message: bytes, partitions_max: int) -> ProduceRequest:
    request = pb.ProduceStreamRequest.FromString(message)
    partitions = [received(part) for part in islice(request.partitions, partitions_max + 1)]
    return ProduceRequest(request.request_id, request.acks, request.reads_others, partitions)


def received(part: pb.PartitionRecords) -> ReceivedBatch | pb.PartitionRecords:
    """A part as `read_produce_request` gives it."""
    return ReceivedBatch(_head(part), part.batch) if part.WhichOneof("payload") == "batch" else part


def _head(part: pb.PartitionRecords) -> PartitionHead:
    return PartitionHead(part.topic, part.topic_id, part.partition if part.HasField("partition") else None)


def partition_ack(
    topic: str, topic_id: bytes, partition: int, *, base_offset: int, log_start_offset: int, duplicate: bool
) -> bytes:
    """A PartitionAck of what was written."""
    return b"".join(
        (
            _ack_head(topic, topic_id, partition, duplicate),
            _ACK_BASE_OFFSET,
            _varint(base_offset),
            _ACK_LOG_START_OFFSET,
            _varint(log_start_offset),
        )
    )


@lru_cache(_REMEMBERED)
def _ack_head(topic: str, topic_id: bytes, partition: int, duplicate: bool) -> bytes:
    ack = pb.PartitionAck(topic=topic, topic_id=topic_id, partition=partition, duplicate=duplicate)
    return ack.SerializeToString()


def produce_response(answers: Sequence[bytes]) -> bytes:
    """A ProduceStreamResponse of encoded answers: the first, and the others in it."""
    pieces = [answers[0]]
    for other in answers[1:]:
        pieces += _RESPONSE_OTHERS, _varint(len(other)), other
    return b"".join(pieces)


def produce_answer(request_id: int, acks: Iterable[bytes]) -> bytes:
    """The answer to one request, of encoded PartitionAcks."""
    pieces = [_RESPONSE_ID, _varint(request_id)]
    for ack in acks:
        pieces += _RESPONSE_ACKS, _varint(len(ack)), ack
    return b"".join(pieces)


# Fetch.


def fetch_response(parts: Iterable[tuple[pb.PartitionData, Buffer]]) -> bytes:
    """A FetchStreamResponse of (everything but the batches, batches) parts."""
    pieces: list[Buffer] = []
    for data, batches in parts:
        pieces += _embedded(_RESPONSE_PARTITIONS, data.SerializeToString(), _BATCHES, batches)
    return b"".join(pieces)


def read_fetch_response(message: bytes) -> Iterator[tuple[pb.PartitionData, memoryview]]:
    """The parts of a FetchStreamResponse: everything but the batches, and the batches, which are views of the message.

    Raises ValueError for what no FetchStreamResponse looks like.
    """
    view = memoryview(message)
    for tag, start, end in _fields(view):
        if tag == _RESPONSE_PARTITIONS[0]:
            yield _without_batches(view[start:end])


def _without_batches(part: memoryview) -> tuple[pb.PartitionData, memoryview]:
    rest: list[memoryview] = []
    batches = part[:0]
    kept_from = field_at = 0
    for tag, start, end in _fields(part):
        if tag == _BATCHES[0]:
            batches = part[start:end]
            rest.append(part[kept_from:field_at])
            kept_from = end
        field_at = end
    rest.append(part[kept_from:])
    return pb.PartitionData.FromString(b"".join(rest)), batches


def _embedded(tag: bytes, head: bytes, content_tag: bytes, content: Buffer) -> tuple[Buffer, ...]:
    """A message inside another: a head as the generated code wrote it, and one field of bytes behind it."""
    content_size = _varint(len(content))
    size = len(head) + len(content_tag) + len(content_size) + len(content)
    return tag, _varint(size), head, content_tag, content_size, content


def _fields(message: memoryview) -> Iterator[tuple[int, int, int]]:
    """(tag, where the content starts, where it ends) of every field."""
    position = 0
    while position < len(message):
        tag, position = _read_varint(message, position)
        kind = tag & 7
        if kind == _BYTES:
            size, position = _read_varint(message, position)
        elif kind == _VARINT:
            size = _read_varint(message, position)[1] - position
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"a field of the unknown kind {kind} at byte {position}")
        end = position + size
        if end > len(message):
            raise ValueError(f"a field of {size} bytes at byte {position} of {len(message)}")
        yield tag, position, end
        position = end


def _varint(value: int) -> bytes:
    if 0 <= value <= 0x7F:
        return _SHORT_VARINTS[value]
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(0x80 | value & 0x7F)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _read_varint(message: Buffer, position: int) -> tuple[int, int]:
    """(the value, the position behind it)."""
    if position < len(message) and message[position] < 0x80:
        return message[position], position + 1
    value = shift = 0
    while position < len(message) and shift < 70:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError(f"a number that does not end before byte {position}")
