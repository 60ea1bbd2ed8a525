"""The four codecs of record batches, with one rule: what damaged or hostile bytes claim is never allocated.

Compressed data says how large it will be, and may lie. So output goes into a buffer that grows step by step up to the
caller's bound; a bomb ends with `CorruptBatch` at the bound and has cost no more memory than that.

gzip, lz4 and zstd are frames, several of which may follow each other. Snappy has two shapes in the wild: one raw block
(librdkafka), or blocks of 32 KiB behind a header of the xerial library (the Java client and most others):

    82 "SNAPPY" 00 | version: i32 | compatible: i32 | (block_length: i32 | raw block) ...
"""

from enum import IntEnum
from struct import Struct
from types import ModuleType

import cramjam

from logstore.errors import CorruptBatch

Buffer = bytes | bytearray | memoryview


class Compression(IntEnum):
    """How the records of a batch are compressed: the lowest three bits of its attributes."""

    NONE = 0
    GZIP = 1
    SNAPPY = 2
    LZ4 = 3
    ZSTD = 4


def deflate(data: bytes, compression: Compression) -> bytes:
    """Compress the records of a batch in the shape that Kafka's clients read. NONE gives `data` back."""
    match compression:
        case Compression.NONE:
            return data
        case Compression.GZIP:
            return bytes(cramjam.gzip.compress(data, level=_GZIP_LEVEL))
        case Compression.SNAPPY:
            return _deflate_snappy(data)
        case Compression.LZ4:
            return _deflate_lz4(data)
        case Compression.ZSTD:
            return bytes(cramjam.zstd.compress(data, level=_ZSTD_LEVEL))


def inflate(data: Buffer, compression: Compression, *, bytes_max: int) -> Buffer:
    """Decompress the records of a batch into at most `bytes_max` bytes. NONE gives `data` back.

    Raises `CorruptBatch` if the data is damaged, or inflates to more than `bytes_max`.
    """
    if compression is Compression.NONE:
        return data
    if compression is Compression.SNAPPY:
        return _inflate_snappy(data, bytes_max)
    return _inflate_frames(data, _FRAMES[compression], compression, bytes_max)


# Frames: gzip, lz4, zstd.

_GZIP_LEVEL = 6  # zlib's default, as in Kafka
_ZSTD_LEVEL = 3  # zstd's default, as in Kafka
_LZ4_LEVEL = 1  # whoever asks for lz4 asks for speed: level 9 is ten times slower for a sixth less

_FRAMES: dict[Compression, ModuleType] = {
    Compression.GZIP: cramjam.gzip,
    Compression.LZ4: cramjam.lz4,
    Compression.ZSTD: cramjam.zstd,
}

# What cramjam says when the output buffer is too small. Any other message means damage, so that damaged bytes cost one
# attempt and not one for every size up to the bound.
_OUTPUT_IS_FULL = "failed to write whole buffer"
_FIRST_OUTPUT_BYTES = 16 * 1024
_GROWTH = 4  # so all failed attempts together cost a third of the last one


def _inflate_frames(data: Buffer, codec: ModuleType, compression: Compression, bytes_max: int) -> Buffer:
    capacity = min(bytes_max, max(_FIRST_OUTPUT_BYTES, _GROWTH * len(data)))
    while True:
        output = bytearray(capacity)
        try:
            size = codec.decompress_into(data, output)
        except cramjam.DecompressionError as error:
            if str(error) != _OUTPUT_IS_FULL:
                raise _damaged(compression, str(error)) from None
            if capacity >= bytes_max:
                raise _too_large(compression, bytes_max) from None
            capacity = min(bytes_max, _GROWTH * capacity)
        else:
            return memoryview(output)[:size]


def _deflate_lz4(data: bytes) -> bytes:
    # Kafka's brokers and clients do not read blocks that lean on the block before (KIP-57).
    compressor = cramjam.lz4.Compressor(level=_LZ4_LEVEL, content_checksum=False, block_linked=False)
    compressor.compress(data)
    return bytes(compressor.finish())


# Snappy.

_XERIAL_MAGIC = b"\x82SNAPPY\x00"
_XERIAL_HEADER = _XERIAL_MAGIC + Struct(">ii").pack(1, 1)
_XERIAL_BLOCK_LENGTH = Struct(">i")
_XERIAL_BLOCK_BYTES = 32 * 1024
# No element of a raw block yields more than 64 bytes from 3, so a larger claim is a lie.
_SNAPPY_RATIO_MAX = 22


def _deflate_snappy(data: bytes) -> bytes:
    view = memoryview(data)
    parts = [_XERIAL_HEADER]
    for start in range(0, len(view), _XERIAL_BLOCK_BYTES):
        block = bytes(cramjam.snappy.compress_raw(view[start : start + _XERIAL_BLOCK_BYTES]))
        parts += (_XERIAL_BLOCK_LENGTH.pack(len(block)), block)
    return b"".join(parts)


def _inflate_snappy(data: Buffer, bytes_max: int) -> Buffer:
    view = memoryview(data)
    # Only the magic is compared: some writers put the two versions in the other byte order.
    if view[: len(_XERIAL_MAGIC)] != _XERIAL_MAGIC:
        return _inflate_snappy_block(view, bytes_max, bytes_max)

    output = bytearray()
    position = len(_XERIAL_HEADER)
    while position < len(view):
        start = position + _XERIAL_BLOCK_LENGTH.size
        if start > len(view):
            raise _damaged(Compression.SNAPPY, f"the data ends inside the length of a block, at byte {len(view)}")
        (length,) = _XERIAL_BLOCK_LENGTH.unpack_from(view, position)
        if not 0 < length <= len(view) - start:
            raise _damaged(Compression.SNAPPY, f"a block claims {length} bytes where {len(view) - start} are left")
        position = start + length
        output += _inflate_snappy_block(view[start:position], bytes_max - len(output), bytes_max)
    return output


def _inflate_snappy_block(block: memoryview, bytes_left: int, bytes_max: int) -> bytearray:
    try:
        claimed: int = cramjam.snappy.decompress_raw_len(block)
        if claimed > _SNAPPY_RATIO_MAX * len(block):
            raise _damaged(Compression.SNAPPY, f"{len(block)} bytes claim to inflate to {claimed}")
        if claimed > bytes_left:
            raise _too_large(Compression.SNAPPY, bytes_max)
        output = bytearray(claimed)
        if cramjam.snappy.decompress_raw_into(block, output) != claimed:
            raise _damaged(Compression.SNAPPY, f"a block inflates to less than the {claimed} bytes it claims")
    except cramjam.DecompressionError as error:
        raise _damaged(Compression.SNAPPY, str(error)) from None
    return output


def _damaged(compression: Compression, detail: str) -> CorruptBatch:
    return CorruptBatch(
        f"the {compression.name.lower()} data of the batch is damaged: {detail}",
        remedy="Send the batch again; if it was read from a log, the producer that wrote it is at fault.",
    )


def _too_large(compression: Compression, bytes_max: int) -> CorruptBatch:
    return CorruptBatch(
        f"the {compression.name.lower()} data of the batch inflates to more than {bytes_max} bytes",
        remedy="Put fewer records into a batch, or raise the bound for inflated batches.",
    )
