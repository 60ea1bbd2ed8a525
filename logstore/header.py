"""The header of a record batch: 61 bytes that are all the broker reads. Kafka's format v2.

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

The CRC leaves the first 17 bytes out, so one flipped bit in base_offset would move records without a trace. Whoever
reads a batch back checks them on their own: `check_header`, with the offset that has to follow.
"""

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

from crc32c import crc32c

from logstore.compression import Buffer, Compression
from logstore.errors import CorruptBatch

HEADER_SIZE = 61
MAGIC = 2
SEQUENCE_MASK = 0x7FFF_FFFF  # sequences are int32 and begin again at 0
BATCH_LENGTH_MAX = 2**31 - 1

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

LENGTH_FIELD_END = 12  # batch_length counts from here
BATCH_LENGTH_MIN = HEADER_SIZE - LENGTH_FIELD_END
_OFFSET_MAX = 2**63 - 1

RECORD_BYTES_MIN = 7  # seven fields of at least one byte each
INFLATED_BYTES_MAX = 64 * 1024 * 1024

COMPRESSION_MASK = 0x07
LOG_APPEND_TIME = 0x08
TRANSACTIONAL = 0x10
CONTROL = 0x20
DELETE_HORIZON = 0x40
_KNOWN_ATTRIBUTES = 0x7F

_RESEND = "Send the batch again; if it was read from a log, its file is damaged: keep a copy of it."


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
        return LENGTH_FIELD_END + self.batch_length

    @property
    def last_offset(self) -> int:
        return self.base_offset + self.last_offset_delta

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.last_offset_delta + 1

    @property
    def compression(self) -> Compression:
        return Compression(self.attributes & COMPRESSION_MASK)

    @property
    def uncompressed(self) -> "BatchHeader":
        """The same, of a batch whose records are plain. Length and CRC stay those of the compressed one."""
        return self._replace(attributes=self.attributes & ~COMPRESSION_MASK)

    @property
    def has_gaps(self) -> bool:
        """Whether compaction has taken records out."""
        return self.records_count <= self.last_offset_delta

    @property
    def delete_horizon_ms(self) -> int | None:
        """Until when the tombstones of a compacted batch stay, None if that is not decided yet (KIP-534)."""
        return self.base_timestamp_ms if self.attributes & DELETE_HORIZON else None

    @property
    def is_transactional(self) -> bool:
        return bool(self.attributes & TRANSACTIONAL)

    @property
    def is_control(self) -> bool:
        return bool(self.attributes & CONTROL)

    @property
    def last_sequence(self) -> int:
        """Sequence of the last record, or -1 in a batch without a producer's sequences."""
        if self.base_sequence < 0:
            return -1
        return (self.base_sequence + self.last_offset_delta) & SEQUENCE_MASK

    def pack(self) -> bytes:
        return _HEADER.pack(*self)


# Reading headers.


def read_header(buffer: Buffer, position: int = 0) -> BatchHeader:
    """Read the header at `position`, checking nothing but that it is there (`CorruptBatch`)."""
    if not 0 <= position <= len(buffer) - HEADER_SIZE:
        raise CorruptBatch(
            f"{len(buffer) - position} bytes are too few for a batch, whose header alone has {HEADER_SIZE}",
            remedy=_RESEND,
        )
    return BatchHeader._make(_HEADER.unpack_from(buffer, position))


def check_header(
    header: BatchHeader, *, available: int, expected_base_offset: int | None, gaps_allowed: bool = False
) -> None:
    """Check what the CRC does not cover, and the counts. Raises `CorruptBatch`.

    `available` is how many bytes there are from the batch's first on. `expected_base_offset` is the offset it must
    have; None for a batch that no log has numbered yet. With `gaps_allowed`, where compaction has taken records and
    batches out, it is the least that it may have, and the batch may have fewer records than offsets.
    """
    if header.magic != MAGIC:
        raise corrupt_batch(f"magic is {header.magic}, and only {MAGIC} is read")
    if not BATCH_LENGTH_MIN <= header.batch_length <= available - LENGTH_FIELD_END:
        raise corrupt_batch(
            f"batch_length is {header.batch_length}, which is not in "
            f"[{BATCH_LENGTH_MIN}, {available - LENGTH_FIELD_END}] with {available} bytes there"
        )
    if header.attributes & ~_KNOWN_ATTRIBUTES or header.attributes & COMPRESSION_MASK > Compression.ZSTD:
        raise corrupt_batch(f"attributes are {header.attributes:#06x}, with bits that no format we know has")
    if header.records_count < 1 or (
        header.last_offset_delta < header.records_count - 1
        if gaps_allowed
        else header.last_offset_delta != header.records_count - 1
    ):
        raise corrupt_batch(
            f"records_count is {header.records_count} and last_offset_delta {header.last_offset_delta}: "
            "there must be records, and one offset for each"
        )
    if not 0 <= header.base_offset < _OFFSET_MAX - header.last_offset_delta:
        raise corrupt_batch(
            f"base_offset is {header.base_offset}, which leaves no room for {header.records_count} offsets"
        )
    if expected_base_offset is not None and (
        header.base_offset < expected_base_offset if gaps_allowed else header.base_offset != expected_base_offset
    ):
        raise corrupt_batch(f"base_offset is {header.base_offset} where {expected_base_offset} must follow")


def check_batch(buffer: Buffer, *, gaps_allowed: bool = False) -> BatchHeader:
    """Check that `buffer` is exactly one whole batch: header, length and CRC. The records are not opened.

    Raises `CorruptBatch`. `gaps_allowed`: see `check_header`.
    """
    size = len(buffer)
    header = read_header(buffer)
    check_header(header, available=size, expected_base_offset=None, gaps_allowed=gaps_allowed)
    if header.size != size:
        raise corrupt_batch(f"batch_length says that the batch has {header.size} bytes, and {size} are there")
    is_plain = header.attributes & COMPRESSION_MASK == Compression.NONE
    room = size - HEADER_SIZE if is_plain else INFLATED_BYTES_MAX
    if header.records_count * RECORD_BYTES_MIN > room:
        raise corrupt_batch(f"records_count is {header.records_count}, which {room} bytes cannot hold")
    crc = crc32c(memoryview(buffer)[_ATTRIBUTES_AT:])
    if crc != header.crc:
        raise corrupt_batch(f"its CRC32C is {crc:#010x}, and its header says {header.crc:#010x}")
    return header


def crc_matches(buffer: Buffer, position: int, size: int) -> bool:
    """Whether the batch of `size` bytes at `position` has the CRC that its header says."""
    (crc,) = _CRC.unpack_from(buffer, position + _CRC_AT)
    return bool(crc32c(memoryview(buffer)[position + _ATTRIBUTES_AT : position + size]) == crc)


def iter_headers(buffer: Buffer) -> Iterator[tuple[int, BatchHeader]]:
    """Yield (position, header) of every batch in a concatenation of whole batches, as they are read from a log.

    Headers are checked, CRCs are not; compaction may have taken records out. Raises `CorruptBatch` at the first that is
    damaged or not whole.
    """
    position = 0
    while position < len(buffer):
        header = read_header(buffer, position)
        check_header(header, available=len(buffer) - position, expected_base_offset=None, gaps_allowed=True)
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


def stamp_compressed(batch: bytearray, compression: Compression) -> None:
    """Write, in place, that the records are compressed, with the length that the batch has now, and its CRC anew."""
    _BATCH_LENGTH.pack_into(batch, _BATCH_LENGTH_AT, len(batch) - LENGTH_FIELD_END)
    _ATTRIBUTES.pack_into(batch, _ATTRIBUTES_AT, compression)
    _seal(batch)


def with_records(header: BatchHeader, records: bytes) -> bytes:
    """The batch of this header and these records, compressed as it says: its length and CRC are made here."""
    batch = bytearray(header._replace(batch_length=BATCH_LENGTH_MIN + len(records)).pack())
    batch += records
    _seal(batch)
    return bytes(batch)


def _seal(batch: bytearray | memoryview) -> None:
    _CRC.pack_into(batch, _CRC_AT, crc32c(memoryview(batch)[_ATTRIBUTES_AT:]))


def corrupt_batch(detail: str) -> CorruptBatch:
    return CorruptBatch(f"not a valid record batch: {detail}", remedy=_RESEND)
