"""How far a log file is sound: every batch checked, its header, its offset and its CRC."""

from array import array
from collections.abc import Iterator
from typing import NamedTuple

from logstore.batch import HEADER_SIZE, BatchHeader, Buffer, check_header, crc_matches, read_header
from logstore.disk import Cells, DiskFile
from logstore.errors import CorruptBatch, DataLoss
from logstore.index import COLUMNS, IndexBuilder, RowTable
from logstore.segment import Read

SCAN_BYTES = 1024 * 1024

#: Stands in a row for an append time that only its writer knew.
UNKNOWN_MS = -1


class Scan(NamedTuple):
    """How far a log file is sound, and what its batches say."""

    end_position: int
    next_offset: int
    max_timestamp_ms: int
    cells: Cells  # rows of its index
    scanned_bytes: int
    torn: str | None  # what is wrong at end_position, None at the end of the file
    is_unreadable: bool = False  # the disk says so, which no torn write does
    is_misplaced: bool = False  # these are batches, and not those that were written here


def scan_file(
    file: DiskFile,
    base_offset: int,
    trusted: Cells,
    *,
    interval_bytes: int,
    gaps_allowed: bool = False,
    checkpointed: tuple[int, int] | None = None,
) -> Scan | None:
    """Scan from the batch that the last of the trusted index rows names, or from the first byte without any.

    None if that row is not where such a batch begins: then no row can be trusted. `checkpointed`: (position, offset)
    where one batch ends and the next begins.
    """
    cells = array("q", trusted)
    last_row = RowTable(cells)[len(cells) // COLUMNS - 1] if cells else None
    start = position = last_row.position if last_row else 0
    newest_ms = last_row.max_timestamp_ms if last_row else -1
    expected: int | None = None if last_row else base_offset
    next_offset = base_offset
    builder = IndexBuilder(interval_bytes)
    torn = None
    is_unreadable = False
    try:
        for at, header in check_batches(file.pread, position, file.size(), expected, gaps_allowed=gaps_allowed):
            if expected is None:
                if last_row is None or header.next_offset - base_offset != last_row.relative_next_offset:
                    return None
                expected = header.next_offset
                builder.is_due(header.size)
            else:
                newest_ms = max(newest_ms, header.max_timestamp_ms)
                if builder.is_due(header.size):
                    cells.extend((header.next_offset - base_offset, at, newest_ms, UNKNOWN_MS))
            next_offset = header.next_offset
            position = at + header.size
            if (
                checkpointed is not None
                and at < checkpointed[0] <= position
                and (position, next_offset) != checkpointed
            ):
                why = f"no batch ends at position {checkpointed[0]} with offset {checkpointed[1]} behind it, as one did"
                return Scan(0, base_offset, -1, array("q"), position - start, why, is_misplaced=True)
    except (CorruptBatch, DataLoss) as error:
        torn = str(error)
        is_unreadable = isinstance(error, DataLoss)
    if expected is None:
        return None
    return Scan(position, next_offset, newest_ms, cells, position - start, torn, is_unreadable)


def check_batches(
    read: Read, start: int, end: int, expected_base_offset: int | None, *, gaps_allowed: bool = False
) -> Iterator[tuple[int, BatchHeader]]:
    """Yield (position, header) of the sound batches from start on. CorruptBatch at the first that is not whole."""
    window: Buffer = b""
    window_position = position = start
    while position < end:
        at = position - window_position
        if at + HEADER_SIZE > len(window):
            window, window_position, at = _read_ahead(read, HEADER_SIZE, position, end), position, 0
        header = read_header(window, at)
        check_header(
            header,
            available=end - position,
            expected_base_offset=expected_base_offset,
            gaps_allowed=gaps_allowed,
        )
        if at + header.size > len(window):
            window, window_position, at = _read_ahead(read, header.size, position, end), position, 0
        if at + header.size > len(window) or not crc_matches(window, at, header.size):
            raise CorruptBatch(f"the CRC of the batch at offset {header.base_offset} is wrong", remedy="")
        yield position, header
        position += header.size
        expected_base_offset = header.next_offset


def _read_ahead(read: Read, size: int, position: int, end: int) -> Buffer:
    """Read size bytes and some more; or only size, when there is a block among the others that cannot be read."""
    try:
        return read(max(size, min(SCAN_BYTES, end - position)), position)
    except DataLoss:
        return read(size, position)


def count_sound(read: Read, position: int, end: int) -> int:
    """How many sound batches follow a batch that is not, if its length can be believed."""
    count = 0
    try:
        header = read_header(read(HEADER_SIZE, position))
        check_header(header, available=end - position, expected_base_offset=None)
        for _ in check_batches(read, position + header.size, end, None):
            count += 1
    except (CorruptBatch, DataLoss):
        pass
    return count
