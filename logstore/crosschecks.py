"""What the batches of a segment are checked against as they pass: the rows of its index, and the leader epochs."""

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from logstore import files
from logstore.config import INT64_MAX
from logstore.disk import Cells, Disk
from logstore.errors import DataLoss
from logstore.header import BatchHeader
from logstore.index import (
    COLUMNS,
    ROW_BYTES,
    IndexRow,
    IndexTail,
    RowTable,
    read_active,
    read_rows,
    rows_crc,
)
from logstore.seal import Seal


def read_sealed_index(disk: Disk, path: Path, seal: Seal) -> tuple[Cells, str | None]:
    """The rows of a sealed segment's array as far as they can be rows, and what is wrong with them."""
    cells, is_whole = read_rows(disk, path)
    shape = (seal.index_rows_count, COLUMNS)
    if not disk.exists(path):
        return cells, "it is missing"
    if not is_whole or len(cells) != seal.index_rows_count * COLUMNS:
        count = len(cells) // COLUMNS
        return cells, f"{count} rows can be read, and its seal says {seal.index_rows_count}"
    if rows_crc(cells) != seal.index_crc:
        return cells, f"the CRC of its rows is not {seal.index_crc:08x}, as its seal says"
    if seal.index_rows_count and disk.open_array(path, shape) is None:
        return cells, "the files that say its type and shape do not fit its rows"
    return cells, None


def read_active_index(
    disk: Disk, directory: Path, base_offset: int, tail: IndexTail | None
) -> tuple[Cells, str | None]:
    """The same of the index over a segment that is not sealed."""
    found = read_active(disk, directory, base_offset, tail)
    if found.why is not None:
        return found.all, found.why
    path = files.active_index_path(directory, base_offset)
    if disk.exists(path) and not _has_its_shape(disk, path):
        return found.all, "the files that say its type and shape do not fit its rows"
    return found.all, None


def _has_its_shape(disk: Disk, path: Path) -> bool:
    try:
        count, rest = divmod(len(disk.read_array(path)), ROW_BYTES)
    except (FileNotFoundError, DataLoss):
        return False
    return count > 0 and rest == 0 and disk.open_array(path, (count, COLUMNS)) is not None


class IndexCheck:
    """Compares rows with the batches they name, which pass in order. `why` is the first thing that does not fit."""

    def __init__(self, cells: Cells, base_offset: int, why: str | None) -> None:
        self.why = why
        self._table = RowTable(cells)
        self._base_offset = base_offset
        self._number = 0
        self._position = self._position_of(0)
        self._newest_ms = -1
        self._is_newest_known = True  # not behind damage, where a batch with a larger time may have been

    def is_batch(self, position: int, next_offset: int) -> bool:
        """Whether a row says that a batch begins at position and ends before next_offset."""
        row = self._table.at(position)
        return row is not None and row.relative_next_offset == next_offset - self._base_offset

    def check(self, position: int, header: BatchHeader) -> None:
        if header.max_timestamp_ms > self._newest_ms:
            self._newest_ms = header.max_timestamp_ms
        if position > self._position:
            self._note(f"row {self._number} names position {self._position}, where no batch begins")
            self._skip(position)
        if position == self._position:
            self._compare(self._table[self._number], header)
            self._skip(position + 1)

    def pass_damage(self, end_position: int) -> None:
        """There may have been batches before that position, and nobody can tell where."""
        self._is_newest_known = False
        self._skip(end_position)

    def finish(self, end_position: int) -> None:
        """No batch follows, so no row may name one."""
        if self._position < INT64_MAX:
            self._note(f"row {self._number} names position {self._position}, and the batches end at {end_position}")

    def _compare(self, row: IndexRow, header: BatchHeader) -> None:
        next_offset = self._base_offset + row.relative_next_offset
        if next_offset != header.next_offset:
            self._note(f"row {self._number} says that offset {next_offset} follows, and {header.next_offset} does")
        if not self._is_newest_known:
            self._newest_ms = max(self._newest_ms, row.max_timestamp_ms)
        if row.max_timestamp_ms != self._newest_ms:
            self._note(
                f"row {self._number} says that the largest time is {row.max_timestamp_ms}, and it is {self._newest_ms}"
            )

    def _skip(self, position: int) -> None:
        while self._position < position:
            self._number += 1
            self._position = self._position_of(self._number)

    def _note(self, why: str) -> None:
        self.why = self.why or why

    def _position_of(self, number: int) -> int:
        return self._table[number].position if number < self._table.count else INT64_MAX


class WrongEpoch(NamedTuple):
    why: str
    right: int | None  # what it has to be, or the one before it where it can be none at all; None if nobody knows


class EpochCheck:
    """Leader epochs only rise, and those that the snapshot covers are known."""

    def __init__(self, known: Sequence[tuple[int, int]], known_end: int, epoch_max: int) -> None:
        """`known` are (epoch, start offset) pairs that hold for the offsets below `known_end`."""
        self._known = known
        self._known_end = known_end
        self._epoch_max = epoch_max
        self._last = -1
        self._current = (0, 0, -1)  # (start offset, end offset, epoch) of the last one asked for

    def check(self, header: BatchHeader) -> WrongEpoch | None:
        """What is wrong with the epoch of the batch, if anything."""
        epoch = header.leader_epoch
        known = self._known_at(header.base_offset)
        if known is not None:
            self._last = known
            return None if epoch == known else WrongEpoch(f"leader epoch {epoch} is no epoch of that offset", known)
        if self._last <= epoch <= self._epoch_max:
            self._last = epoch
            return None
        if 0 <= epoch < self._last:  # it may as well be the one before that is wrong
            return WrongEpoch(f"leader epoch {epoch} comes behind {self._last}", None)
        return WrongEpoch(f"leader epoch {epoch} is none that was handed out", max(0, self._last))

    def _known_at(self, offset: int) -> int | None:
        """The epoch that a batch at offset must have, None if nobody knows."""
        start, end, epoch = self._current
        if not start <= offset < end:
            number = bisect_right(self._known, offset, key=itemgetter(1)) - 1
            if offset >= self._known_end or number < 0:
                return None
            epoch, start = self._known[number]
            end = self._known[number + 1][1] if number + 1 < len(self._known) else self._known_end
            self._current = (start, end, epoch)
        return epoch
