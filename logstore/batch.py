"""The record batch: the unit of append, of CRC and of compression. Kafka's format v2, on the wire and on disk alike.

    position  field                bytes
           0  base_offset              8   stamped by the log           \\
           8  batch_length             4   bytes that follow this field  |  not covered by the CRC,
          12  leader_epoch             4   stamped by the log            |  so checked on their own
          16  magic                    1   2                            /
          17  crc                      4   CRC32C of everything from attributes on
          21  attributes               2   bits 0-2 compression, 3 log append time, 4 transactional, 5 control,
                                           6 delete horizon (written by compaction)
          23  last_offset_delta        4   last_offset - base_offset
          27  base_timestamp_ms        8
          35  max_timestamp_ms         8
          43  producer_id              8   -1 without one
          51  producer_epoch           2
          53  base_sequence            4
          57  records_count            4
          61  records                      compressed together, without the count, if attributes say so

    record   length, attributes: i8, timestamp_delta, offset_delta, key, value, headers_count, headers
             all lengths, deltas and counts are zigzag varints; key, value and header values are a length, then bytes,
             and null is length -1

The broker never reads past the header. Only `decode_batch` and `encode_batch` do, through aiokafka's codec in C (160 ns
a record to write, 60 to read), imported at first use because it brings asyncio along.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from operator import attrgetter, eq
from struct import Struct
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from crc32c import crc32c

from logstore.compression import Buffer, Compression, deflate, inflate
from logstore.errors import BatchTooLarge, CorruptBatch, InvalidRecord

__all__ = [
    "HEADER_SIZE",
    "BatchBuilder",
    "BatchHeader",
    "Buffer",
    "CodecRecord",
    "Compression",
    "Record",
    "check_batch",
    "check_header",
    "codec_errors",
    "crc_matches",
    "damaged_inside",
    "decode_batch",
    "decode_codec_records",
    "decode_column",
    "encode_batch",
    "iter_headers",
    "open_batch",
    "read_header",
    "stamp",
    "stamp_producer",
    "stamped_prefix",
]

HEADER_SIZE = 61
MAGIC = 2
INFLATED_BYTES_MAX = 64 * 1024 * 1024
SEQUENCE_MASK = 0x7FFF_FFFF  # sequences are int32 and begin again at 0

_HEADER = Struct(">qiibIhiqqqhii")
_PREFIX = Struct(">qii")  # base_offset, batch_length, leader_epoch
_BASE_OFFSET = Struct(">q")
_BATCH_LENGTH = Struct(">i")
_BATCH_LENGTH_AT = 8
_LEADER_EPOCH = Struct(">i")
_LEADER_EPOCH_AT = 12
_CRC = Struct(">I")
_CRC_AT = 17
_ATTRIBUTES = Struct(">h")
_ATTRIBUTES_AT = 21
_PRODUCER = Struct(">qhi")
_PRODUCER_AT = 43

_LENGTH_FIELD_END = 12  # batch_length counts from here
_BATCH_LENGTH_MIN = HEADER_SIZE - _LENGTH_FIELD_END
_BATCH_LENGTH_MAX = 2**31 - 1
_OFFSET_MAX = 2**63 - 1
_RECORD_BYTES_MIN = 7  # seven fields of at least one byte each

_COMPRESSION_MASK = 0x07
_TRANSACTIONAL = 0x10
_CONTROL = 0x20
_KNOWN_ATTRIBUTES = 0x7F

_RESEND = "Send the batch again; if it was read from a log, verify the partition with `logctl segments verify`."


class BatchHeader(NamedTuple):
    """The 61 bytes before the records, as they are. Nothing is checked: see `check_header` and `check_batch`.

    A tuple rather than a dataclass, because one is made for every batch that passes through the broker.
    """

    base_offset: int
    batch_length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp_ms: int
    max_timestamp_ms: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records_count: int

    @property
    def size(self) -> int:
        """Bytes of the whole batch."""
        return _LENGTH_FIELD_END + self.batch_length

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def compression(self) -> Compression:
        return Compression(self.attributes & _COMPRESSION_MASK)

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & _TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & _CONTROL)

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record, or -1 in a batch without a producer's sequences."""
        if self.base_sequence < 0:
            return -1
        return (self.base_sequence + self.last_offset_delta) & SEQUENCE_MASK


class Record(NamedTuple):
    """One record, as the log numbered it."""

    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class CodecRecord(Protocol):
    """A record as the codec in C makes it: `Record` costs three times as much. Read-only by agreement."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> list[tuple[str, bytes | None]]: ...


# Reading headers.


def read_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """Read the header at `position`, checking nothing but that it is there (`CorruptBatch`)."""
    if not 0 <= position <= len(buffer) - HEADER_SIZE:
        raise CorruptBatch(
            f"{len(buffer) - position} bytes are too few for a batch, whose header alone has {HEADER_SIZE}",
            remedy=_RESEND,
        )
    return BatchHeader._make(_HEADER.unpack_from(buffer, position))


def check_header(header: BatchHeader, *, available: int, expected_base_offset: int | None) -> None:
    """Check what the CRC does not cover, and the counts. Raises `CorruptBatch`.

    `available` is how many bytes there are from the batch's first on. `expected_base_offset` is the offset it must
    have; None in a log that was compacted, and for a batch that no log has numbered yet.
    """
    if header.magic != MAGIC:
        raise _corrupt(f"magic is {header.magic}, and only {MAGIC} is read")
    if not _BATCH_LENGTH_MIN <= header.batch_length <= available - _LENGTH_FIELD_END:
        raise _corrupt(
            f"batch_length is {header.batch_length}, which is not in "
            f"[{_BATCH_LENGTH_MIN}, {available - _LENGTH_FIELD_END}] with {available} bytes there"
        )
    if header.attributes & ~_KNOWN_ATTRIBUTES or header.attributes & _COMPRESSION_MASK > Compression.ZSTD:
        raise _corrupt(f"attributes are {header.attributes:#06x}, with bits that no format we know has")
    if header.records_count < 1 or header.last_offset_delta != header.records_count - 1:
        raise _corrupt(
            f"records_count is {header.records_count} and last_offset_delta {header.last_offset_delta}: "
            "there must be records, and one offset for each"
        )
    if not 0 <= header.base_offset < _OFFSET_MAX - header.last_offset_delta:
        raise _corrupt(f"base_offset is {header.base_offset}, which leaves no room for {header.records_count} offsets")
    if expected_base_offset is not None and header.base_offset != expected_base_offset:
        raise _corrupt(f"base_offset is {header.base_offset} where {expected_base_offset} must follow")


def check_batch(buffer: Buffer, *, bytes_max: int | None) -> BatchHeader:
    """Check that `buffer` is exactly one whole batch: header, length and CRC. The records are not opened.

    Raises `BatchTooLarge` over `bytes_max`, else `CorruptBatch`.
    """
    size = len(buffer)
    if bytes_max is not None and size > bytes_max:
        raise BatchTooLarge(
            f"the batch has {size} bytes, over max.message.bytes = {bytes_max}",
            remedy="Send smaller batches, or raise max.message.bytes of the topic.",
        )
    header = read_header(buffer)
    check_header(header, available=size, expected_base_offset=None)
    if header.size != size:
        raise _corrupt(f"batch_length says that the batch has {header.size} bytes, and {size} are there")
    crc = crc32c(memoryview(buffer)[_ATTRIBUTES_AT:])
    if crc != header.crc:
        raise _corrupt(f"its CRC32C is {crc:#010x}, and its header says {header.crc:#010x}")
    return header


def crc_matches(buffer: Buffer, position: int, size: int) -> bool:
    """Whether the batch of `size` bytes at `position` has the CRC that its header says."""
    (crc,) = _CRC.unpack_from(buffer, position + _CRC_AT)
    return bool(crc32c(memoryview(buffer)[position + _ATTRIBUTES_AT : position + size]) == crc)


def iter_headers(buffer: Buffer) -> Iterator[tuple[int, BatchHeader]]:
    """Yield (position, header) of every batch in a concatenation of whole batches.

    Headers are checked, CRCs are not. Raises `CorruptBatch` at the first that is damaged or not whole.
    """
    position = 0
    while position < len(buffer):
        header = read_header(buffer, position)
        check_header(header, available=len(buffer) - position, expected_base_offset=None)
        yield position, header
        position += header.size


# Stamping what a batch learns after it was built.


def stamp(batch: bytearray | memoryview, base_offset: int, leader_epoch: int) -> None:
    """Write, in place, what the log assigns. Both are outside the CRC."""
    _BASE_OFFSET.pack_into(batch, 0, base_offset)
    _LEADER_EPOCH.pack_into(batch, _LEADER_EPOCH_AT, leader_epoch)


def stamped_prefix(header: BatchHeader, base_offset: int, leader_epoch: int) -> bytes:
    """The first 16 bytes of a batch with what the log assigns, for a batch that must not be touched or copied."""
    return _PREFIX.pack(base_offset, header.batch_length, leader_epoch)


def stamp_producer(batch: bytearray | memoryview, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
    """Write, in place, who sends the batch, and its CRC anew. A batch that is sent under another epoch needs it."""
    _PRODUCER.pack_into(batch, _PRODUCER_AT, producer_id, producer_epoch, base_sequence)
    _seal(batch)


def _seal(batch: bytearray | memoryview) -> None:
    _CRC.pack_into(batch, _CRC_AT, crc32c(memoryview(batch)[_ATTRIBUTES_AT:]))


# Reading records.

_PADDING = bytes(16)


def decode_codec_records(batch: Buffer, *, inflated_bytes_max: int = INFLATED_BYTES_MAX) -> list[CodecRecord]:
    """Check and open one batch, and return its records as the codec makes them.

    Raises `CorruptBatch`: for whatever `check_batch` finds, for data that inflates to more than `inflated_bytes_max`,
    and for damage inside a batch whose CRC is right, which is the work of the producer that wrote it.
    """
    header, records = open_batch(batch, inflated_bytes_max=inflated_bytes_max)
    try:
        opened = list(records)
    except codec_errors() as error:
        raise damaged_inside(error) from None
    if not all(map(eq, map(_OFFSET_OF, opened), range(header.base_offset, header.next_offset))):
        raise _corrupt("its records are damaged, though the CRC is right (their offsets do not follow each other)")
    return opened


def decode_column(batch: Buffer, field: str, *, inflated_bytes_max: int = INFLATED_BYTES_MAX) -> list[Any]:
    """One field of every record of a batch: "key", "value", "timestamp" or "headers". Raises `CorruptBatch`.

    No record outlives its turn, so this takes half the time of `decode_codec_records` where the garbage collector is
    on.
    """
    _, records = open_batch(batch, inflated_bytes_max=inflated_bytes_max)
    try:
        return list(map(attrgetter(field), records))
    except codec_errors() as error:
        raise damaged_inside(error) from None


def open_batch(
    batch: Buffer, *, inflated_bytes_max: int = INFLATED_BYTES_MAX
) -> tuple[BatchHeader, Iterable[CodecRecord]]:
    """Check one batch and return its header and its records, which are decoded one by one as they are asked for.

    Raises `CorruptBatch`. Damage inside a batch whose CRC is right is met on the way, as one of `codec_errors`, which
    `damaged_inside` makes a `CorruptBatch` of.
    """
    header = check_batch(batch, bytes_max=None)
    records = inflate(memoryview(batch)[HEADER_SIZE:], header.compression, bytes_max=inflated_bytes_max)
    if header.records_count * _RECORD_BYTES_MIN > len(records):
        raise _corrupt(f"records_count is {header.records_count}, and {len(records)} bytes cannot hold as many records")

    # The codec trusts a varint to end inside its buffer, and so can read ten bytes too far. The padding behind the view
    # gives it zeros to find there; it ends the varint, and the codec's next look at the bounds ends the rest.
    plain = header._replace(attributes=header.attributes & ~_COMPRESSION_MASK)
    padded = b"".join((_HEADER.pack(*plain), records, _PADDING))
    return header, _codec().DefaultRecordBatch(memoryview(padded)[: -len(_PADDING)])


def decode_batch(batch: Buffer, *, inflated_bytes_max: int = INFLATED_BYTES_MAX) -> list[Record]:
    """`decode_codec_records`, as `Record`s."""
    return [
        Record(record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
        for record in decode_codec_records(batch, inflated_bytes_max=inflated_bytes_max)
    ]


_OFFSET_OF = attrgetter("offset")


# Writing records.


class BatchBuilder:
    """Gathers records into one batch, up to a number of bytes.

    `append_at(relative_offset, timestamp_ms, key, value, headers)` is the codec's own method, for callers that count
    for themselves: relative_offset is how many records were appended before. It returns None when the batch is full.
    The first record always fits. Times are not negative, `headers` is a list of (str, bytes or None).
    """

    def __init__(
        self,
        *,
        bytes_max: int,
        compression: Compression = Compression.NONE,
        producer_id: int = -1,
        producer_epoch: int = -1,
        base_sequence: int = -1,
    ) -> None:
        self._builder = _codec().DefaultRecordBatchBuilder(
            MAGIC, Compression.NONE, 0, producer_id, producer_epoch, base_sequence, bytes_max
        )
        self._compression = compression
        self.append_at: Callable[..., object | None] = self._builder.append
        self.records_count = 0

    @property
    def size_bytes(self) -> int:
        """Bytes so far, before compression."""
        size: int = self._builder.size()
        return size

    def append(
        self,
        timestamp_ms: int,
        key: Buffer | None,
        value: Buffer | None,
        headers: list[tuple[str, bytes | None]],
    ) -> bool:
        """Append a record, or return False because the batch is full."""
        if self.append_at(self.records_count, timestamp_ms, key, value, headers) is None:
            return False
        self.records_count += 1
        return True

    def set_producer(self, producer_id: int, producer_epoch: int, base_sequence: int) -> None:
        """Say who sends the batch, before `build`. Afterwards it is `stamp_producer` on the batch."""
        self._builder.set_producer_state(producer_id, producer_epoch, base_sequence)

    def build(self) -> bytearray:
        """Return the batch, compressed. The builder is then used up."""
        batch: bytearray = self._builder.build()
        if self._compression is not Compression.NONE:
            batch[HEADER_SIZE:] = deflate(bytes(batch[HEADER_SIZE:]), self._compression)
            _BATCH_LENGTH.pack_into(batch, _BATCH_LENGTH_AT, len(batch) - _LENGTH_FIELD_END)
            _ATTRIBUTES.pack_into(batch, _ATTRIBUTES_AT, self._compression)
            _seal(batch)
        return batch


def encode_batch(
    records: Sequence[Record],
    *,
    compression: Compression = Compression.NONE,
    base_offset: int = 0,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    leader_epoch: int = -1,
) -> bytes:
    """Encode records as one batch, numbered from `base_offset` on whatever their own offsets say.

    Raises `InvalidRecord` for no records and for a negative time, `BatchTooLarge` past the 2 GiB a batch can have.
    """
    if not records:
        raise InvalidRecord("a batch without records cannot be written", remedy="Send at least one record.")
    builder = BatchBuilder(
        bytes_max=_BATCH_LENGTH_MAX,
        compression=compression,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
    )
    for _, timestamp_ms, key, value, headers in records:
        if timestamp_ms < 0:
            raise InvalidRecord(
                f"the timestamp {timestamp_ms} is before 1970",
                remedy="Give the time in milliseconds since 1970, or none to take the time of sending.",
            )
        if not builder.append(timestamp_ms, key, value, list(headers)):
            raise BatchTooLarge(f"{len(records)} records do not fit into one batch", remedy="Send fewer at once.")
    batch = builder.build()
    stamp(batch, base_offset, leader_epoch)
    return bytes(batch)


# aiokafka's codec, imported when first needed: it brings asyncio and its whole client along.


@cache
def _codec() -> ModuleType:
    return import_module("aiokafka.record._crecords.default_records")


@cache
def codec_errors() -> tuple[type[Exception], ...]:
    """What the codec raises on damaged bytes.

    A length near 2**63 passes its check of bounds by overflow, and is then stopped by the allocation.
    """
    from aiokafka.errors import CorruptRecordException

    return (CorruptRecordException, UnicodeDecodeError, OverflowError, MemoryError)


def damaged_inside(error: Exception) -> CorruptBatch:
    """What an error of the codec means, whose batch has passed all checks."""
    return _corrupt(f"its records are damaged, though the CRC is right ({error})")


def _corrupt(detail: str) -> CorruptBatch:
    return CorruptBatch(f"not a valid record batch: {detail}", remedy=_RESEND)
