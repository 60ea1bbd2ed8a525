"""The names of the files in a partition's directory. Nothing else knows them.

00000000000000004711.log            record batches, the first of which has offset 4711 or is not written yet
00000000000000004711.2.log          the same after compaction has written it anew twice; its seal says which one counts
00000000000000004711.index          rows of the index over it, while it is the active segment (a mmap-ninja array)
00000000000000004711.9f0c33d1.index the same once sealed; the CRC in the name is the one that the seal states
00000000000000004711.seal           no more is written, and this is its end
*.discarded-1                       bytes that recovery cut off or set aside; never read, never removed
00000000000000004711.lost           the records behind its last batch are lost, and an operator has accepted that
snapshot                            what is derived from the log: leader epochs, states of idempotent producers
"""

import re
from pathlib import Path
from typing import NamedTuple

SNAPSHOT = "snapshot"
INDEX_SUFFIX = ".index"

LOG_SUFFIX = ".log"
SEAL_SUFFIX = ".seal"
LOST_SUFFIX = ".lost"
_DISCARDED = ".discarded-"
_TEMPORARY = ".new"
_DIGITS = 20


def log_path(directory: Path, base_offset: int, generation: int = 0) -> Path:
    written_anew = f".{generation}" if generation else ""
    return directory / f"{base_offset:0{_DIGITS}d}{written_anew}{LOG_SUFFIX}"


def seal_path(directory: Path, base_offset: int) -> Path:
    return directory / f"{base_offset:0{_DIGITS}d}{SEAL_SUFFIX}"


def active_index_path(directory: Path, base_offset: int) -> Path:
    return directory / f"{base_offset:0{_DIGITS}d}{INDEX_SUFFIX}"


def sealed_index_path(directory: Path, base_offset: int, crc: int) -> Path:
    return directory / f"{base_offset:0{_DIGITS}d}.{crc:08x}{INDEX_SUFFIX}"


def loss_path(directory: Path, base_offset: int) -> Path:
    return directory / f"{base_offset:0{_DIGITS}d}{LOST_SUFFIX}"


class SegmentFile(NamedTuple):
    """What the name of a segment's file says."""

    base_offset: int
    suffix: str  # LOG_SUFFIX, INDEX_SUFFIX, SEAL_SUFFIX or LOST_SUFFIX
    generation: int = 0  # of a log file
    crc: int | None = None  # of a sealed segment's index


_SEGMENT_FILE = re.compile(
    r"([0-9]{20})(?:(?:\.([1-9][0-9]{0,8}))?(\.log)|(?:\.([0-9a-f]{8}))?(\.index)|(\.seal|\.lost))"
)


def parse_segment_file(name: str) -> SegmentFile | None:
    """Any file of a segment, None for other names."""
    found = _SEGMENT_FILE.fullmatch(name)
    if found is None:
        return None
    base_offset, generation, log, crc, index, other = found.groups()
    return SegmentFile(
        int(base_offset), log or index or other, int(generation or 0), None if crc is None else int(crc, 16)
    )


def prepared_path(path: Path) -> Path:
    """Where a file is written that takes its name only when it is whole. A crash may leave it."""
    return path.with_name(path.name + _TEMPORARY)


def prepared_name(name: str) -> str | None:
    """The name that such a file is to take, None for names of any other kind."""
    return name.removesuffix(_TEMPORARY) if name.endswith(_TEMPORARY) else None


def is_discarded(name: str) -> bool:
    return _DISCARDED in name


def log_base_offset(name: str) -> int | None:
    """The base offset of a log file's name, or None for a name of any other kind."""
    return _base_offset(name, LOG_SUFFIX)


def seal_base_offset(name: str) -> int | None:
    return _base_offset(name, SEAL_SUFFIX)


def belongs_to_segment(name: str, base_offset: int) -> bool:
    """Whether the name is a file of that segment, or one that was to become one; nothing that was set aside."""
    parsed = parse_segment_file(prepared_name(name) or name)
    return parsed is not None and parsed.base_offset == base_offset


def discarded_path(path: Path, taken: list[str]) -> Path:
    """A free name beside `path` for bytes that recovery takes out of it. `taken` is what the directory holds."""
    number = 1
    while f"{path.name}{_DISCARDED}{number}" in taken:
        number += 1
    return path.with_name(f"{path.name}{_DISCARDED}{number}")


def _base_offset(name: str, suffix: str) -> int | None:
    digits = name.removesuffix(suffix)
    if digits == name or len(digits) != _DIGITS or not digits.isascii() or not digits.isdigit():
        return None
    return int(digits)
