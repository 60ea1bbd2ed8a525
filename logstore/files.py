"""The names of the files in a partition's directory. Nothing else knows them.

00000000000000004711.log            record batches, the first of which has offset 4711 or is not written yet
00000000000000004711.2.log          the same after compaction has written it anew twice; its seal says which one counts
00000000000000004711.index          rows of the index over it, while it is the active segment (a mmap-ninja array)
00000000000000004711.9f0c33d1.index the same once sealed; the CRC in the name is the one that the seal states
00000000000000004711.seal           no more is written, and this is its end
*.discarded-1                       bytes that recovery cut off or set aside; never read, never removed
snapshot                            what is derived from the log: leader epochs, states of idempotent producers
"""

from pathlib import Path

SNAPSHOT = "snapshot"
INDEX_SUFFIX = ".index"

LOG_SUFFIX = ".log"
_SEAL = ".seal"
_DISCARDED = ".discarded-"
_DIGITS = 20


def log_path(directory: Path, base_offset: int, generation: int = 0) -> Path:
    written_anew = f".{generation}" if generation else ""
    return directory / f"{base_offset:0{_DIGITS}d}{written_anew}{LOG_SUFFIX}"


def seal_path(directory: Path, base_offset: int) -> Path:
    return directory / f"{base_offset:0{_DIGITS}d}{_SEAL}"


def active_index_path(directory: Path, base_offset: int) -> Path:
    return directory / f"{base_offset:0{_DIGITS}d}{INDEX_SUFFIX}"


def sealed_index_path(directory: Path, base_offset: int, crc: int) -> Path:
    return directory / f"{base_offset:0{_DIGITS}d}.{crc:08x}{INDEX_SUFFIX}"


def log_base_offset(name: str) -> int | None:
    """The base offset of a log file's name, or None for a name of any other kind."""
    return _base_offset(name, LOG_SUFFIX)


def seal_base_offset(name: str) -> int | None:
    return _base_offset(name, _SEAL)


def belongs_to_segment(name: str, base_offset: int) -> bool:
    """Whether the name is a file of that segment, other than bytes set aside."""
    return name.startswith(f"{base_offset:0{_DIGITS}d}.") and _DISCARDED not in name


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
