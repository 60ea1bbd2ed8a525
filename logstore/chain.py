"""The chain of a partition's segments, as the names and the documents in its directory show it.

    retired ][ segment ][ taken in, taken in ][ segment ][ segment ][ active
             ^ log start   by the one before

Recovery makes a log of it and verification tells of it, and both read it here: which log file of a segment counts,
which segments are the log's, and which files are nobody's any more. No log file is opened.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from logstore import files
from logstore.config import INT64_MAX
from logstore.disk import Disk
from logstore.errors import MetadataCorrupt
from logstore.files import SegmentFile
from logstore.losses import Loss, read_loss
from logstore.seal import Seal, read_seal


class Unreadable(NamedTuple):
    """A document that says nothing: its segment is read as one that never had it."""

    name: str
    suffix: str  # SEAL_SUFFIX or LOST_SUFFIX
    why: str


class Chain:
    def __init__(self, disk: Disk, directory: Path, names: Iterable[str], log_start_offset: int) -> None:
        """Raises `FormatTooNew` for files of a later version."""
        self._disk = disk
        self._directory = directory
        self._parsed = [(name, parsed) for name in names if (parsed := files.parse_segment_file(name)) is not None]
        self.unreadable: list[Unreadable] = []
        self.seals = dict(self._read_seals())
        self.losses = dict(self._read_losses())
        #: Base offset: generation of the log file that counts. A seal without its file has none.
        self.generations = dict(self._choose_log_files())
        #: Base offset: where it ends, of a segment wholly below the log start. A removal was cut short.
        self.retired: dict[int, int] = {}
        #: Base offset: that of the segment that has what this one had, by compaction or by a repair.
        self.taken_in: dict[int, int] = {}
        #: Base offsets of the log's segments, in order, with those of which only the seal is there.
        self.bases: list[int] = []
        self._sort_out(log_start_offset)

    def log_path(self, base: int) -> Path:
        return files.log_path(self._directory, base, self.generations.get(base, 0))

    def is_tail(self, bases: Sequence[int], recovery_base: int) -> bool:
        """Whether none of these segments was ever known to be synced: no seal, no recovery point in it or behind."""
        return not any(base in self.seals or base <= recovery_base for base in bases)

    def missing_end(self, number: int) -> int | None:
        """Where the number-th segment ends, if it is a seal without its file; else None."""
        base = self.bases[number]
        if base in self.generations:
            return None
        following = self.bases[number + 1] if number + 1 < len(self.bases) else INT64_MAX
        return min(self.seals[base].next_offset, following)

    def superseded(self) -> Iterator[tuple[str, SegmentFile]]:
        """The files of segments of the log that are not the ones that count: older or newer log files and indexes."""
        for name, parsed in self._parsed:
            base = parsed.base_offset
            if base in self.retired or base in self.taken_in:
                continue
            is_other_log = parsed.suffix == files.LOG_SUFFIX and parsed.generation != self.generations.get(
                base, parsed.generation
            )
            seal = self.seals.get(base)
            is_other_index = parsed.suffix == files.INDEX_SUFFIX and seal is not None and parsed.crc != seal.index_crc
            if is_other_log or is_other_index:
                yield name, parsed

    def leftovers(self) -> list[Path]:
        """All that a compaction has left which was cut short, before it had named its files or after."""
        replaced = [name for name, parsed in self._parsed if self.taken_in.get(parsed.base_offset) in self.seals]
        return [self._directory / name for name in (*replaced, *(name for name, _ in self.superseded()))]

    # Reading.

    def _of(self, suffix: str) -> Iterator[tuple[str, SegmentFile]]:
        return ((name, parsed) for name, parsed in self._parsed if parsed.suffix == suffix)

    def _read_seals(self) -> Iterator[tuple[int, Seal]]:
        for name, parsed in self._of(files.SEAL_SUFFIX):
            try:
                seal = read_seal(self._disk, self._directory / name)
            except MetadataCorrupt as error:
                self.unreadable.append(Unreadable(name, files.SEAL_SUFFIX, str(error)))
                continue
            if seal.base_offset == parsed.base_offset:
                yield seal.base_offset, seal
            else:
                why = f"{name} is the seal of the segment at offset {seal.base_offset}"
                self.unreadable.append(Unreadable(name, files.SEAL_SUFFIX, why))

    def _read_losses(self) -> Iterator[tuple[int, Loss]]:
        for name, parsed in self._of(files.LOST_SUFFIX):
            try:
                yield parsed.base_offset, read_loss(self._disk, self._directory, parsed.base_offset)
            except MetadataCorrupt as error:
                self.unreadable.append(Unreadable(name, files.LOST_SUFFIX, str(error)))

    def _choose_log_files(self) -> Iterator[tuple[int, int]]:
        there: dict[int, set[int]] = defaultdict(set)
        for _, parsed in self._of(files.LOG_SUFFIX):
            there[parsed.base_offset].add(parsed.generation)
        for base, generations in there.items():
            seal = self.seals.get(base)
            if seal is None:
                # Without a seal what was written anew counts for nothing, unless it is all there is.
                yield base, 0 if 0 in generations else max(generations)
            elif seal.generation in generations:
                yield base, seal.generation

    # The chain.

    def _sort_out(self, log_start_offset: int) -> None:
        bases = sorted(self.generations.keys() | self.seals.keys())
        # Removals reach the disk in any order, so a seal may be gone and its segment not: then the next one says it.
        ends = dict(pairwise(bases))
        for base, seal in self.seals.items():
            # A seal may also name a segment that was merged from several, of which retention then took the first ones,
            # with the file: what was not taken is where it was before.
            following = INT64_MAX if base in self.generations else ends.get(base, INT64_MAX)
            ends[base] = min(seal.next_offset, following)
        for base in bases:
            if ends.get(base, INT64_MAX) <= log_start_offset:
                self.retired[base] = ends[base]
            elif self.bases and self._has_taken_in(self.bases[-1], base):
                self.taken_in[base] = self.bases[-1]
            else:
                self.bases.append(base)

    def _has_taken_in(self, before: int, base: int) -> bool:
        """Whether a segment in front, whose file is there, has what this one had."""
        if before not in self.generations:
            return False
        seal = self.seals.get(before)
        if base not in self.generations:
            # Its file went, and its seal was about to: without a seal in front, a repair was there.
            return seal is None or base < seal.next_offset
        return seal is not None and base < seal.next_offset and seal.generation > self.generations[base]
