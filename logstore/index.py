"""The index: a sparse table over one segment, about a row for every `index.interval.bytes` of log.

    row   relative_next_offset   1 + the last offset of a batch, relative to the segment's base; 0 is an unused row
          position               where that batch begins
          max_timestamp_ms       the largest timestamp in the segment up to and with that batch
          append_time_ms         when it was appended

Four int64. Every column only grows, so each can be searched. The log is the truth and the index a hint: whoever uses a
row checks it against the batch header it names, and a mismatch has the rows made again from the log, never the other
way round.

The active segment's rows that no file has yet are in memory; the others stand in a mmap-ninja array that the sync
thread extends now and then and nobody maps. A sealed segment's array is complete, named by its CRC, and mapped.
"""

from array import array
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from crc32c import crc32c

from logstore.disk import Disk, Rows
from logstore.errors import DataLoss

COLUMNS = 4
ROW_BYTES = COLUMNS * 8

# Rows, one after the other.
if TYPE_CHECKING:
    Cells = array[int]
else:
    Cells = array  # which takes no parameter before Python 3.12

_NEXT_OFFSET, _POSITION, _TIMESTAMP, _APPEND_TIME = range(COLUMNS)


class IndexRow(NamedTuple):
    relative_next_offset: int
    position: int
    max_timestamp_ms: int
    append_time_ms: int


class RowTable:
    """Rows that can be searched: int64 values, four a row."""

    def __init__(self, cells: Cells) -> None:
        self.cells = cells
        self.count = len(cells) // COLUMNS

    def __getitem__(self, number: int) -> IndexRow:
        return IndexRow(*self.cells[number * COLUMNS : (number + 1) * COLUMNS])

    def for_offset(self, relative_offset: int) -> IndexRow | None:
        """The last row whose batch ends at the offset or before: scan from there."""
        return self._at(bisect_right(range(self.count), relative_offset + 1, key=self._column(_NEXT_OFFSET)) - 1)

    def for_timestamp(self, timestamp_ms: int) -> IndexRow | None:
        """The last row up to which every timestamp is smaller: scan from there."""
        return self._at(bisect_left(range(self.count), timestamp_ms, key=self._column(_TIMESTAMP)) - 1)

    def covering(self, relative_offset: int) -> IndexRow | None:
        """The first row whose batch ends at the offset or after."""
        number = bisect_right(range(self.count), relative_offset, key=self._column(_NEXT_OFFSET))
        return self[number] if number < self.count else None

    def _at(self, number: int) -> IndexRow | None:
        return self[number] if number >= 0 else None

    def _column(self, column: int) -> "_Column":
        return _Column(self.cells, column)


class _Column:
    def __init__(self, cells: Cells, column: int) -> None:
        self._cells = cells
        self._column = column

    def __call__(self, number: int) -> int:
        return self._cells[number * COLUMNS + self._column]


class SealedRows:
    """The rows of a sealed segment, over its mapped array."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.count = len(rows)

    def __getitem__(self, number: int) -> IndexRow:
        return IndexRow(*self._rows[number].tolist())

    def for_offset(self, relative_offset: int) -> IndexRow | None:
        number = int(np.searchsorted(self._rows[:, _NEXT_OFFSET], relative_offset + 1, "right")) - 1
        return self[number] if number >= 0 else None

    def for_timestamp(self, timestamp_ms: int) -> IndexRow | None:
        number = int(np.searchsorted(self._rows[:, _TIMESTAMP], timestamp_ms, "left")) - 1
        return self[number] if number >= 0 else None

    def covering(self, relative_offset: int) -> IndexRow | None:
        number = int(np.searchsorted(self._rows[:, _NEXT_OFFSET], relative_offset, "right"))
        return self[number] if number < self.count else None


class ActiveIndex:
    """The rows of a segment that is not sealed. The owner thread appends, the sync thread stores, any thread reads."""

    def __init__(self, disk: Disk, path: Path, *, stored_count: int = 0, in_memory: Cells | None = None) -> None:
        """`stored_count` rows are in the array at `path`, and those that follow in memory."""
        self._disk = disk
        self._path = path
        # One assignment, so that a reader in another thread sees rows that belong together.
        self._state: tuple[int, Cells] = (stored_count, in_memory if in_memory is not None else array("q"))
        self._stored_count = stored_count  # the sync thread's count; the state follows with `mark_stored`

    @property
    def count(self) -> int:
        stored_count, cells = self._state
        return stored_count + len(cells) // COLUMNS

    def append(self, relative_next_offset: int, position: int, max_timestamp_ms: int, append_time_ms: int) -> None:
        self._state[1].extend((relative_next_offset, position, max_timestamp_ms, append_time_ms))

    def in_memory(self) -> RowTable:
        """The newest rows. Enough to answer what they answer: a None from them is a question to `all_rows`."""
        return RowTable(self._state[1])

    def all_rows(self) -> RowTable:
        """Every row, those of the array read from it. May wait for the disk."""
        stored_count, cells = self._state
        if stored_count == 0:
            return RowTable(cells)
        stored, _ = read_rows(self._disk, self._path)
        return RowTable(stored[: stored_count * COLUMNS] + cells)

    def store(self) -> int:
        """Put the rows that are only in memory into the array; return how many it has then. Sync thread only."""
        stored_count, cells = self._state
        skipped = self._stored_count - stored_count
        count = len(cells) // COLUMNS  # the owner may be appending
        rows = as_rows(cells[skipped * COLUMNS : count * COLUMNS])
        if len(rows) > 0:
            self._disk.extend_array(self._path, rows, count=self._stored_count)
        self._stored_count += len(rows)
        return self._stored_count

    def mark_stored(self, stored_count: int) -> None:
        """Drop from memory what `store` said the array has. Owner thread only."""
        before, cells = self._state
        self._state = (stored_count, cells[(stored_count - before) * COLUMNS :])


def read_rows(disk: Disk, path: Path) -> tuple[Cells, bool]:
    """The rows of an array as far as they can be rows, and whether that is all of the file.

    It may be missing, cut, or torn by a power cut.
    """
    cells: Cells = array("q")
    try:
        data = disk.read_array(path)
    except (FileNotFoundError, DataLoss):
        return cells, True
    cells.frombytes(data[: len(data) - len(data) % ROW_BYTES])
    count = _count_growing(cells)
    return cells[: count * COLUMNS], count * ROW_BYTES == len(data)


def _count_growing(cells: Cells) -> int:
    """How many rows from the first on have columns that only grow, which an unused row (0) does not."""
    if not cells:
        return 0
    rows = as_rows(cells)
    steps = np.diff(rows, axis=0, prepend=np.zeros((1, COLUMNS), dtype=np.int64))
    steps[0, _POSITION:] = 0
    grows = (steps[:, _NEXT_OFFSET] > 0) & (steps >= 0).all(axis=1) & (rows[:, _POSITION] >= 0)
    return len(rows) if grows.all() else int(grows.argmin())


def as_rows(cells: Cells) -> Rows:
    return np.frombuffer(cells.tobytes(), dtype=np.int64).reshape(-1, COLUMNS)


def rows_crc(rows: Rows) -> int:
    return int(crc32c(rows.tobytes()))


def open_sealed(disk: Disk, path: Path, *, rows_count: int, crc: int) -> SealedRows | None:
    """Map a sealed segment's array, or None if it is not the one that the seal describes. May wait for the disk."""
    try:
        data = disk.read_array(path)
    except (FileNotFoundError, DataLoss):
        return None
    if len(data) != rows_count * ROW_BYTES or crc32c(data) != crc:
        return None
    rows = disk.open_array(path, (rows_count, COLUMNS))
    return None if rows is None else SealedRows(rows)


class IndexBuilder:
    """Decides which batches get a row. The same rule for appends, recovery and rebuilding."""

    def __init__(self, interval_bytes: int) -> None:
        self._interval_bytes = interval_bytes
        self._bytes_since_row = interval_bytes  # the first batch gets one: its append time is when the segment began

    def is_due(self, size: int) -> bool:
        """Whether the batch of that size, the next one, gets a row."""
        due = self._bytes_since_row >= self._interval_bytes
        self._bytes_since_row = size if due else self._bytes_since_row + size
        return due
