"""Reading a range of a log: whole batches, as one run of bytes, of one segment at a time.

What leaves here was checked: the header fields that the CRC leaves out, offsets that follow each other, and the CRC
itself (2 us for 64 KiB). So rot on the disk is DataLoss at the reader that meets it, and never a wrong record.
"""

from collections import OrderedDict
from contextlib import suppress
from typing import NamedTuple

from logstore.batch import HEADER_SIZE, BatchHeader, Buffer, check_header, crc_matches, read_header
from logstore.disk import DiskFile
from logstore.errors import CorruptBatch, DataLoss
from logstore.handles import Handle
from logstore.segment import Read, Segment, WouldWait, waitless

PLACES_MAX = 256


class LogRead(NamedTuple):
    """Whole batches, the first of which holds the offset asked for, or follows where compaction took that out; none at
    the end of what may be read, and of a segment whose last records are gone. Go on at next_offset."""

    batches: Buffer
    next_offset: int


class Places:
    """Where the last reads ended, so that who reads on from there needs no index. A hint: it is checked when used."""

    def __init__(self) -> None:
        self._positions: OrderedDict[int, int] = OrderedDict()  # offset: position in its segment

    def get(self, offset: int) -> int | None:
        return self._positions.get(offset)

    def put(self, offset: int, position: int) -> None:
        self._positions[offset] = position
        if len(self._positions) > PLACES_MAX:
            self._positions.popitem(last=False)


class LogReader:
    """One read, from any thread. It keeps the file of its segment from the first read until `close`."""

    def __init__(self, segment: Segment, places: Places, offset: int, bytes_max: int, end_offset: int) -> None:
        assert offset <= end_offset
        self.segment = segment
        self._places = places
        self.offset = offset
        self._bytes_max = max(bytes_max, HEADER_SIZE)
        self._end_offset = end_offset
        self._end_position = segment.end_position  # after end_offset was taken, so it covers it
        self._handle: Handle | None = None

    def read_nowait(self) -> LogRead | None:
        """Read without waiting for the disk; None if that cannot be."""
        try:
            return self._read(wait=False)
        except WouldWait:
            return None

    def read(self) -> LogRead:
        """Read. DataLoss if the batch at the offset is damaged, OffsetOutOfRange if the segment is gone already."""
        return self._read(wait=True)

    def close(self) -> None:
        if self._handle is not None:
            self._handle.release()
            self._handle = None

    def __enter__(self) -> "LogReader":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read(self, *, wait: bool) -> LogRead:
        if self.offset == self._end_offset:
            return LogRead(b"", self.offset)
        if self._handle is None:
            self._handle = self.segment.acquire(wait=wait)
        file = self._handle.file
        read = file.pread if wait else waitless(file)
        position, base_offset = self._places.get(self.offset), self.offset
        data: Buffer = b"" if position is None else self._read_at(read, position)
        if position is None or not self._begins_at_offset(data):
            found = self.segment.find(self.offset, file, wait=wait)
            if found is None or found.header.base_offset >= self._end_offset:
                return LogRead(b"", min(self.segment.next_offset, self._end_offset))
            position, base_offset = found.position, found.header.base_offset
            data = self._read_at(read, position)
        try:
            first_size = self._header(data, 0, position, None).size
            if first_size > len(data):
                data = read(first_size, position)
            size, next_offset = self._count_whole(data, position)
        except (CorruptBatch, DataLoss) as error:
            raise self._loss(file, position, base_offset, wait=wait) from error
        if wait:
            self.segment.mark_verified(position, size)
        if next_offset < self.segment.next_offset:
            self._places.put(next_offset, position + size)
        return LogRead(data if size == len(data) else memoryview(data)[:size], next_offset)

    def _read_at(self, read: Read, position: int) -> Buffer:
        """As much as is wanted; or only a header, or nothing, where there is a block that cannot be read."""
        for size in (self._bytes_max, HEADER_SIZE):
            with suppress(DataLoss):
                return read(max(0, min(size, self._end_position - position)), position)
        return b""

    def _begins_at_offset(self, data: Buffer) -> bool:
        return len(data) >= HEADER_SIZE and read_header(data).base_offset == self.offset

    def _count_whole(self, data: Buffer, position: int) -> tuple[int, int]:
        """(bytes, next_offset) of the sound batches at the head of data that begin below the end offset."""
        size = 0
        next_offset: int | None = None
        while size + HEADER_SIZE <= len(data):
            try:
                header = self._header(data, size, position, next_offset)
                if size + header.size > len(data) or header.base_offset >= self._end_offset:
                    break
                if not crc_matches(data, size, header.size):
                    raise CorruptBatch("its CRC is wrong", remedy="")
            except CorruptBatch:
                if next_offset is None:
                    raise
                break  # what is before the damage can be had; who comes for the next batch is told
            size += header.size
            next_offset = header.next_offset
        assert next_offset is not None
        return size, next_offset

    def _header(self, data: Buffer, at: int, position: int, expected_base_offset: int | None) -> BatchHeader:
        header = read_header(data, at)
        available = self._end_position - position - at
        gaps_allowed = self.segment.gaps_allowed
        check_header(header, available=available, expected_base_offset=expected_base_offset, gaps_allowed=gaps_allowed)
        begins_in_time = header.base_offset <= self.offset or gaps_allowed
        if expected_base_offset is None and not (begins_in_time and self.offset < header.next_offset):
            raise CorruptBatch(f"the batch holds {header.base_offset} to {header.last_offset}", remedy="")
        return header

    def _loss(self, file: DiskFile, position: int, base_offset: int, *, wait: bool) -> DataLoss:
        """Of the batch at position, which begins with that offset."""
        if not wait:
            raise WouldWait
        damage = self.segment.examine(file, position, base_offset, up_to=position)
        return self.segment.vanished(position) if damage is None else self.segment.loss(damage)
