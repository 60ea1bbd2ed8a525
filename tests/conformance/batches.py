"""Record batches as bytes, also those that no client writes."""

import struct
from collections.abc import Sequence

from crc32c import crc32c

#: Where what is in the header; what the CRC covers begins at the attributes.
MAGIC_AT = 16
CRC_AT = 17
ATTRIBUTES_AT = 21
LAST_OFFSET_DELTA_AT = 23
COUNT_AT = 57


def batch(
    values: Sequence[bytes | None],
    *,
    key: bytes | None = None,
    timestamp_ms: int = 1_000,
    producer_id: int = -1,
    producer_epoch: int = -1,
    base_sequence: int = -1,
    codec: int = 0,
) -> bytes:
    """One batch; record n has the time `timestamp_ms` + n."""
    # Imported when it is used: the import warns, which the marks of a test can filter and a collection cannot.
    from kafka.record.default_records import DefaultRecordBatchBuilder

    builder = DefaultRecordBatchBuilder(2, codec, False, producer_id, producer_epoch, base_sequence, 2**30)
    for n, value in enumerate(values):
        builder.append(n, timestamp_ms + n, key, value, [])
    return bytes(builder.build())


def with_crc(damaged: bytes) -> bytes:
    """The batch with the CRC that its bytes have, so that it is not the CRC that is wrong."""
    return damaged[:CRC_AT] + struct.pack(">I", crc32c(damaged[ATTRIBUTES_AT:])) + damaged[ATTRIBUTES_AT:]


def replaced(whole: bytes, position: int, part: bytes) -> bytes:
    return whole[:position] + part + whole[position + len(part) :]


def offsets(records: bytes | None) -> list[int]:
    """The offsets of all records in batches one after the other; a cut batch at the end is left out."""
    from kafka.record.default_records import DefaultRecordBatch

    found: list[int] = []
    rest = records or b""
    while len(rest) >= 12 and len(rest) >= (size := 12 + struct.unpack_from(">i", rest, 8)[0]):
        found += [record.offset for record in DefaultRecordBatch(rest[:size])]
        rest = rest[size:]
    return found
