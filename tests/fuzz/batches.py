"""A record batch. Only CorruptBatch may come out, and InvalidRecord of a look for keys.

mode: u8    an odd one: length, magic and CRC are made right first, for what comes after them
batch
"""

from collections.abc import Iterator
from contextlib import suppress
from struct import Struct

from crc32c import crc32c

from logstore.batch import Record, check_keys, decode_batch, decode_column, encode_batch
from logstore.compression import Compression
from logstore.errors import CorruptBatch, InvalidRecord
from logstore.header import HEADER_SIZE, LENGTH_FIELD_END, MAGIC, check_batch, iter_headers

_LENGTH_AND_MAGIC = Struct(">i4xB")
_CRC = Struct(">I")
#: So that a bomb is met by a bound that does not make the search slow.
_INFLATED_BYTES_MAX = 256 << 10


def run(data: bytes) -> bool:
    batch = bytearray(data[1:])
    if data and data[0] % 2 and len(batch) >= HEADER_SIZE:
        _LENGTH_AND_MAGIC.pack_into(batch, 8, len(batch) - LENGTH_FIELD_END, MAGIC)
        _CRC.pack_into(batch, 17, crc32c(memoryview(batch)[21:]))
    with suppress(CorruptBatch):
        for position, header in iter_headers(batch):
            assert position + header.size <= len(batch)
    try:
        header = check_batch(batch, gaps_allowed=True)
        records = decode_batch(batch, inflated_bytes_max=_INFLATED_BYTES_MAX)
    except CorruptBatch:
        return False
    assert len(records) == header.records_count
    assert all(header.base_offset <= record.offset <= header.last_offset for record in records)
    assert decode_column(batch, "key") == [record.key for record in records]
    with suppress(InvalidRecord):
        check_keys(batch)
        assert None not in [record.key for record in records]
    return True


def seeds() -> Iterator[bytes]:
    records = [
        Record(0, 1_000, b"k", b"value " * 20),
        Record(0, 2_000, None, None, (("h", b"x"), ("", None))),
        Record(0, 1_500, b"", b"", ()),
    ]
    for compression in Compression:
        whole = encode_batch(records, compression=compression, producer_id=5, producer_epoch=1, base_sequence=9)
        yield b"\0" + whole
        yield b"\1" + whole
        yield b"\1" + whole[:-3]
        yield b"\1" + encode_batch([Record(0, 0, b"k", bytes(1 << 19))], compression=compression)[:4096]
    yield b"\0" + bytes(HEADER_SIZE)
