"""The seal: a small file beside a log file, which says that no more will be written and what must be there.

    magic "TRSEAL" | version u16 | base_offset | next_offset | end_position | max_timestamp_ms | first_append_ms
    | last_append_ms | index_rows_count | compacted_offset: i64 each | generation u32 | index_crc u32
    | crc u32 of all before

Written and synced after every byte of the segment is. The seals of a partition form a chain, each one's next_offset the
base_offset of the next segment, so a file that is missing from the middle is seen, also where compaction left gaps.
"""

from dataclasses import dataclass
from pathlib import Path
from struct import Struct

from crc32c import crc32c

from logstore.disk import Disk
from logstore.errors import DataLoss, FormatTooNew, MetadataCorrupt

_MAGIC = b"TRSEAL"
_VERSION = 1
_BODY = Struct(">6sHqqqqqqqqII")
_CRC = Struct(">I")
_VERSION_FIELD = Struct(">6sH")


@dataclass(frozen=True, slots=True)
class Seal:
    base_offset: int
    next_offset: int
    end_position: int
    max_timestamp_ms: int
    first_append_ms: int
    last_append_ms: int
    index_rows_count: int
    index_crc: int
    compacted_offset: int = -1  # what is below has one record a key, here and in the segments before
    generation: int = 0  # of the log file: how often compaction has written it anew

    @property
    def gaps_allowed(self) -> bool:
        return self.generation > 0

    def encode(self) -> bytes:
        body = _BODY.pack(
            _MAGIC,
            _VERSION,
            self.base_offset,
            self.next_offset,
            self.end_position,
            self.max_timestamp_ms,
            self.first_append_ms,
            self.last_append_ms,
            self.index_rows_count,
            self.compacted_offset,
            self.generation,
            self.index_crc,
        )
        return body + _CRC.pack(crc32c(body))


def read_seal(disk: Disk, path: Path) -> Seal:
    """Read a seal. MetadataCorrupt if it is not whole and right, FormatTooNew if a later version wrote it."""
    try:
        data = disk.read_file(path, _BODY.size + _CRC.size)
    except DataLoss as error:
        raise _corrupt(path, str(error)) from error
    if len(data) >= _VERSION_FIELD.size:
        magic, version = _VERSION_FIELD.unpack_from(data)
        if magic == _MAGIC and version > _VERSION and crc32c(data[: -_CRC.size]) == _CRC.unpack(data[-_CRC.size :])[0]:
            raise FormatTooNew(
                f"{path} has format version {version}, and this program knows {_VERSION}",
                remedy="Start the version that wrote it, or a newer one.",
            )
    if len(data) != _BODY.size + _CRC.size:
        raise _corrupt(path, f"it has {len(data)} bytes instead of {_BODY.size + _CRC.size}")
    (crc,) = _CRC.unpack_from(data, _BODY.size)
    if crc32c(data[: _BODY.size]) != crc:
        raise _corrupt(path, "its checksum is wrong")
    magic, _, base, end, size, newest, first, last, rows, compacted, generation, index_crc = _BODY.unpack_from(data)
    if magic != _MAGIC:
        raise _corrupt(path, "it does not begin as a seal does")
    return Seal(base, end, size, newest, first, last, rows, index_crc, compacted, generation)


def _corrupt(path: Path, why: str) -> MetadataCorrupt:
    return MetadataCorrupt(
        f"the seal {path} is damaged: {why}",
        remedy="Keep the partition's files; its segments can still be read and verified one by one.",
    )
