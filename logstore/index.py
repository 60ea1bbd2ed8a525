"""The index: a sparse table over one segment, about a row for every `index.interval.bytes` of log.

    row   relative_next_offset   1 + the last offset of a batch, relative to the segment's base; 0 is an unused row
          position               where that batch begins
          max_timestamp_ms       the largest timestamp in the segment up to and with that batch
          append_time_ms         when it was appended

Four int64. Every column only grows, so each can be searched. The log is the truth and the index a hint: whoever uses a
row checks it against the batch header it names, and a mismatch has the rows made again from the log, never the other
way round.

The active segment's rows that no file has yet are in memory; the others stand in a mmap-ninja array that the sync
thread extends now and then and nobody maps. The snapshot that follows says how many these are, and their CRC: an append
time is checked against nothing else. A sealed segment's array is complete, named by its CRC, and mapped.
"""

from array import array
from bisect import bisect_left, bisect_right
from pathlib import Path
from typing import NamedTuple, cast

from crc32c import crc32c

from logstore import files
from logstore.disk import ARRAY_DATA, Cells, Disk
from logstore.errors import DataLoss

COLUMNS = 4
ROW_BYTES = COLUMNS * 8

_NEXT_OFFSET, _POSITION, _TIMESTAMP, _APPEND_TIME = range(COLUMNS)
_LEAST = -(2**63)


class IndexRow(NamedTuple):
    relative_next_offset: int
    position: int
    max_timestamp_ms: int
    append_time_ms: int


class StoredRows(NamedTuple):
    """So many rows an array begins with, and their CRC. What follows in it is of no consequence."""

    rows_count: int
    crc: int


NO_ROWS = StoredRows(0, 0)


class IndexTail(NamedTuple):
    """What a snapshot says of the index over the segment that begins at `base_offset`."""

    base_offset: int
    cells: Cells  # the newest rows
    stored: StoredRows | None = NO_ROWS  # those before them; None: unknown, the snapshot is of format version 1


class ActiveRows(NamedTuple):
    """The rows of a segment that is not sealed, as far as they can be believed."""

    stored: Cells  # in its array
    newest: Cells  # in the snapshot
    why: str | None  # what is wrong with them

    @property
    def all(self) -> Cells:
        return self.stored + self.newest


class RowTable:
    """Rows that can be searched. Those of a sealed segment are its mapped array."""

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

    def at(self, position: int) -> IndexRow | None:
        """The row of the batch that begins there, if it has one."""
        number = bisect_left(range(self.count), position, key=self._column(_POSITION))
        return self[number] if number < self.count and self[number].position == position else None

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


class ActiveIndex:
    """The rows of a segment that is not sealed. The owner thread appends, the sync thread stores, any thread reads."""

    def __init__(self, disk: Disk, path: Path, *, stored: StoredRows = NO_ROWS, in_memory: Cells | None = None) -> None:
        """The rows `stored` are in the array at `path`, and those that follow in memory."""
        self._disk = disk
        self._path = path
        # One assignment, so that a reader in another thread sees rows that belong together.
        self._state: tuple[StoredRows, Cells] = (stored, in_memory if in_memory is not None else array("q"))
        self._stored = stored  # the sync thread's; the state follows with `mark_stored`
        self._is_named = False  # the directories that name the array were synced

    @property
    def count(self) -> int:
        stored, cells = self._state
        return stored.rows_count + len(cells) // COLUMNS

    @property
    def stored(self) -> StoredRows:
        """The rows that are not in memory, as far as the owner thread knows."""
        return self._state[0]

    def append(self, relative_next_offset: int, position: int, max_timestamp_ms: int, append_time_ms: int) -> None:
        self._state[1].extend((relative_next_offset, position, max_timestamp_ms, append_time_ms))

    def in_memory(self) -> RowTable:
        """The newest rows. Enough to answer what they answer: a None from them is a question to `all_rows`."""
        return RowTable(self._state[1])

    def all_rows(self) -> RowTable | None:
        """Every row, those of the array read from it; None if it is not what was stored. May wait for the disk."""
        stored, cells = self._state
        if stored.rows_count == 0:
            return RowTable(cells)
        from_array = read_stored(self._disk, self._path, stored)
        return None if from_array is None else RowTable(from_array + cells)

    def store(self) -> StoredRows:
        """Put the rows that are only in memory into the array; return what it has then. Sync thread only."""
        stored, cells = self._state
        skipped = self._stored.rows_count - stored.rows_count
        count = len(cells) // COLUMNS  # the owner may be appending
        new = cells[skipped * COLUMNS : count * COLUMNS]
        if new:
            stored_count = self._stored.rows_count
            self._disk.extend_array(self._path, new, columns=COLUMNS, count=stored_count)
            self._stored = StoredRows(stored_count + len(new) // COLUMNS, rows_crc(new, self._stored.crc))
        return self._stored

    def sync(self) -> None:
        """Have on the disk what was stored, and the name of the array. Sync thread only."""
        if self._stored.rows_count == 0:
            return
        file = self._disk.open(self._path / ARRAY_DATA, writable=True)
        try:
            file.sync()
        finally:
            file.close()
        if not self._is_named:
            self._disk.sync_dir(self._path)
            self._disk.sync_dir(self._path.parent)
            self._is_named = True

    def mark_stored(self, stored: StoredRows) -> None:
        """Drop from memory what `store` said the array has. Owner thread only."""
        before, cells = self._state
        if stored.rows_count > before.rows_count:
            self._state = (stored, cells[(stored.rows_count - before.rows_count) * COLUMNS :])


def read_stored(disk: Disk, path: Path, stored: StoredRows) -> Cells | None:
    """The rows that the array at `path` begins with; None if they are others, or fewer."""
    cells: Cells = array("q")
    if stored.rows_count == 0:
        return cells
    try:
        data = memoryview(disk.read_array(path))[: stored.rows_count * ROW_BYTES]
    except (FileNotFoundError, DataLoss):
        return None
    if len(data) < stored.rows_count * ROW_BYTES or crc32c(data) != stored.crc:
        return None
    cells.frombytes(data)
    return cells


def read_active(disk: Disk, directory: Path, base_offset: int, tail: IndexTail | None) -> ActiveRows:
    """What there is of the index over a segment that is not sealed: its array, which may be missing, and the newest
    rows, which stand in the snapshot."""
    stored: Cells = array("q")
    newest = tail.cells if tail is not None and tail.base_offset == base_offset else array("q")
    path = files.active_index_path(directory, base_offset)
    if tail is None or (tail.stored is not None and tail.base_offset != base_offset):
        return ActiveRows(stored, newest, None)
    if tail.stored is None:
        stored, is_whole = read_rows(disk, path)
        stored_offset = stored[-COLUMNS] if stored else 0
        follows = next((at for at in range(0, len(newest), COLUMNS) if newest[at] > stored_offset), len(newest))
        why = None if is_whole else f"only the first {len(stored) // COLUMNS} rows of its array are rows"
        return ActiveRows(stored, newest[follows:], why)
    read = read_stored(disk, path, tail.stored)
    if read is None:
        why = f"its array does not begin with the {tail.stored.rows_count} rows whose CRC is {tail.stored.crc:08x}"
        return ActiveRows(stored, array("q"), f"{why}, as the snapshot says")
    return ActiveRows(read, newest, None)


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
    before = (0, 0, _LEAST, _LEAST)
    for number, row in enumerate(zip(*(cells[column::COLUMNS] for column in range(COLUMNS)), strict=True)):
        if row[0] <= before[0] or row[1] < before[1] or row[2] < before[2] or row[3] < before[3]:
            return number
        before = row
    return len(cells) // COLUMNS


def rows_crc(cells: Cells, before: int = 0) -> int:
    """The CRC of rows, or of some and these behind them: `before` is the CRC of those."""
    return int(crc32c(cells, before))


def open_sealed(disk: Disk, path: Path, *, rows_count: int, crc: int) -> RowTable | None:
    """Map a sealed segment's array, or None if it is not the one that the seal describes. May wait for the disk."""
    try:
        data = disk.read_array(path)
    except (FileNotFoundError, DataLoss):
        return None
    if len(data) != rows_count * ROW_BYTES or crc32c(data) != crc:
        return None
    cells = disk.open_array(path, (rows_count, COLUMNS))
    return None if cells is None else RowTable(cast(Cells, cells))  # They answer as an array does, and do not grow.


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
