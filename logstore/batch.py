"""The record batch: the unit of append, of CRC and of compression. Kafka's format v2, on the wire and on disk alike.

    header: 61, see `header` | records, compressed together if the header says so

    record   length, attributes: i8, timestamp_delta, offset_delta, key, value, headers_count, headers
             all lengths, deltas and counts are zigzag varints; key, value and header values are a length, then bytes,
             and null is length -1

The broker never reads past the header. Only what is here does, through aiokafka's codec in C (120 ns a record to
write, 80 to read), imported at first use because it brings asyncio along. This is the module that clients know, so what
the header has is imported from here too.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from importlib import import_module
from operator import attrgetter, eq, lt
from types import ModuleType
from typing import Any, NamedTuple, Protocol

from logstore.compression import Buffer, Compression, deflate, inflate
from logstore.errors import BatchTooLarge, CorruptBatch, InvalidRecord
from logstore.header import (
    BATCH_LENGTH_MAX,
    DELETE_HORIZON,
    HEADER_SIZE,
    INFLATED_BYTES_MAX,
    MAGIC,
    RECORD_BYTES_MIN,
    BatchHeader,
    check_batch,
    check_header,
    corrupt_batch,
    crc_matches,
    iter_headers,
    read_header,
    stamp,
    stamp_compressed,
    stamp_producer,
    stamped_prefix,
    with_records,
)

__all__ = [
    "HEADER_SIZE",
    "BatchBuilder",
    "BatchHeader",
    "Buffer",
    "CodecRecord",
    "Compression",
    "Contents",
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
    "encode_retained",
    "iter_headers",
    "open_batch",
    "read_header",
    "stamp",
    "stamp_producer",
    "stamped_prefix",
]


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


# Reading records.

_PADDING = bytes(16)
_OFFSET_OF = attrgetter("offset")


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
    if not _are_in_order(header, opened):
        raise corrupt_batch("its records are damaged, though the CRC is right (their offsets do not follow each other)")
    return opened


def _are_in_order(header: BatchHeader, records: list[CodecRecord]) -> bool:
    offsets = map(_OFFSET_OF, records)
    if not header.has_gaps:
        return all(map(eq, offsets, range(header.base_offset, header.next_offset)))
    seen = list(offsets)
    return all(map(lt, seen, seen[1:])) and header.base_offset <= seen[0] and seen[-1] <= header.last_offset


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
    header = check_batch(batch, gaps_allowed=True)
    records = inflate(memoryview(batch)[HEADER_SIZE:], header.compression, bytes_max=inflated_bytes_max)
    if header.records_count * RECORD_BYTES_MIN > len(records):
        raise corrupt_batch(
            f"records_count is {header.records_count}, and {len(records)} bytes cannot hold as many records"
        )

    # The codec trusts a varint to end inside its buffer, and so can read ten bytes too far. The padding behind the view
    # gives it zeros to find there; it ends the varint, and the codec's next look at the bounds ends the rest.
    padded = b"".join((header.uncompressed.pack(), records, _PADDING))
    return header, _codec().DefaultRecordBatch(memoryview(padded)[: -len(_PADDING)])


def decode_batch(batch: Buffer, *, inflated_bytes_max: int = INFLATED_BYTES_MAX) -> list[Record]:
    """`decode_codec_records`, as `Record`s."""
    return [
        Record(record.offset, record.timestamp, record.key, record.value, tuple(record.headers))
        for record in decode_codec_records(batch, inflated_bytes_max=inflated_bytes_max)
    ]


#: Clients fill batches of a mebibyte; to open more than this takes time that others wait for.
CHECKED_BYTES_MAX = 16 << 20


def check_keys(batch: Buffer) -> None:
    """Check that every record of a batch has a key, as a log wants that keeps one record of each.

    Raises `InvalidRecord`, and `CorruptBatch` as `open_batch`.
    """
    keys = decode_column(batch, "key", inflated_bytes_max=CHECKED_BYTES_MAX)
    if None in keys:
        keyless = [index for index, key in enumerate(keys) if key is None]
        raise InvalidRecord(
            f"record {keyless[0]} of the batch has no key, and the topic is compacted: "
            "nobody could say which record replaces it",
            remedy="Give every record a key, or produce to a topic with cleanup.policy=delete.",
            record_indexes=keyless,
        )


# Writing records.


class Contents(NamedTuple):
    """What the header says of the records of a batch."""

    records_count: int
    first_timestamp_ms: int
    max_timestamp_ms: int


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
        #: The codec hands out the very buffer that it goes on to fill; see `build`.
        self._buffer: bytearray = self._builder.build()
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
        self._builder.set_producer_state(producer_id, producer_epoch, base_sequence)

    def build(self, contents: Contents | None = None) -> bytearray:
        """Return the batch, compressed. The builder is then used up.

        A caller that knows what he appended says so, and the header is written here: what the codec would do besides
        is a CRC in software, 1.5 GB/s, which for a record of 100 bytes takes half as long as writing the record. Ours
        takes a thirteenth of that.
        """
        if (
            contents is None or len(self._buffer) != self._builder.size()
        ):  # A codec that fills another buffer after all.
            batch: bytearray = self._builder.build()
        else:
            batch = self._buffer
            self._write_header(contents)
        if self._compression is not Compression.NONE:
            batch[HEADER_SIZE:] = deflate(bytes(batch[HEADER_SIZE:]), self._compression)
            stamp_compressed(batch, self._compression)
        return batch

    def _write_header(self, contents: Contents) -> None:
        header = BatchHeader(
            base_offset=0,
            batch_length=0,
            leader_epoch=-1,
            magic=MAGIC,
            crc=0,
            attributes=0,
            last_offset_delta=contents.records_count - 1,
            base_timestamp_ms=contents.first_timestamp_ms,
            max_timestamp_ms=contents.max_timestamp_ms,
            producer_id=self._builder.producer_id,
            producer_epoch=self._builder.producer_epoch,
            base_sequence=self._builder.base_sequence,
            records_count=contents.records_count,
        )
        self._buffer[:HEADER_SIZE] = header.pack()
        stamp_compressed(self._buffer, Compression.NONE)  # Length and CRC.


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
        bytes_max=BATCH_LENGTH_MAX,
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


def encode_retained(
    header: BatchHeader, records: Sequence[CodecRecord], *, delete_horizon_ms: int | None = None
) -> bytes:
    """Encode what compaction keeps of a batch: some of its records at their old offsets, under its old header.

    With a delete horizon, until when its tombstones stay, the base timestamp says it, and an attribute says that it
    does (KIP-534).
    """
    base_timestamp_ms = records[0].timestamp if delete_horizon_ms is None else delete_horizon_ms
    builder = _codec().DefaultRecordBatchBuilder(MAGIC, Compression.NONE, 0, -1, -1, -1, BATCH_LENGTH_MAX)
    # The codec counts times from its first record: so that is one of its own, which is left out again.
    builder.append(0, base_timestamp_ms, None, None, [])
    start = builder.size()
    for record in records:
        builder.append(record.offset - header.base_offset, record.timestamp, record.key, record.value, record.headers)
    plain = bytes(builder.build()[start:])
    return with_records(
        header._replace(
            attributes=header.attributes | (0 if delete_horizon_ms is None else DELETE_HORIZON),
            base_timestamp_ms=base_timestamp_ms,
            max_timestamp_ms=max(record.timestamp for record in records),
            records_count=len(records),
        ),
        deflate(plain, header.compression),
    )


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
    return corrupt_batch(f"its records are damaged, though the CRC is right ({error})")
