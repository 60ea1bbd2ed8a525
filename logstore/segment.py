"""A segment: one log file of batches, and the index over it.

    log    batch batch batch ... | reserved, not part of the file yet      (end_position is at the bar)

An offset in this segment is >= base_offset and >= the next_offset of the segment before. Single writer, any number of
readers, each bounded by the end that it was given. The life of a segment: active (appended to), rolled (its successor
is the active one), sealed (synced, and its seal says what it must hold), removed (readers that hold it read on).
"""

import threading
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from logstore import files
from logstore.batch import HEADER_SIZE, BatchHeader, Buffer, check_header, read_header
from logstore.disk import Cells, Disk, DiskFile, FileMap
from logstore.errors import CorruptBatch, DataLoss, OffsetOutOfRange, StorageFull
from logstore.handles import Handle, Handles
from logstore.index import (
    COLUMNS,
    ActiveIndex,
    IndexBuilder,
    IndexRow,
    RowTable,
    open_sealed,
    rows_crc,
)
from logstore.seal import Seal
from logstore.walk import Damage, SoundBatch, Walk, is_misplaced

POSITION_MAX = 2**31 - 1  # Kafka's positions and relative offsets are int32, and its tools read our files
RESERVE_BYTES_MIN = 64 * 1024
RESERVE_BYTES_MAX = 16 * 1024 * 1024
FIND_BYTES = 8 * 1024
REBUILD_BYTES = 256 * 1024
VERIFIED_RANGES_MAX = 64
#: Headers over so many bytes are looked at on the event loop; whoever has to walk further does it in a thread.
NOWAIT_BYTES_MAX = 256 * 1024
#: So many damages are remembered of one segment. One that is forgotten is looked at again.
MET_MAX = 64

Read = Callable[[int, int], Buffer]


class WouldWait(Exception):
    """The answer is not in memory. Caught within this package: a thread asks again and waits."""


class Segment:
    def __init__(
        self,
        directory: Path,
        base_offset: int,
        *,
        handles: Handles,
        index_interval_bytes: int,
        next_offset: int | None = None,
        end_position: int = 0,
        max_timestamp_ms: int = -1,
        first_append_ms: int = -1,
        last_append_ms: int = -1,
        index: ActiveIndex | None = None,
        seal: Seal | None = None,
        has_file: bool = False,
        generation: int = 0,
        damaged: tuple[Damage, ...] = (),
        lost_offset: int | None = None,
    ) -> None:
        self.directory = directory
        self.path = files.log_path(directory, base_offset, generation)
        self.base_offset = base_offset
        self.next_offset = base_offset if next_offset is None else next_offset
        self.end_position = end_position
        self.max_timestamp_ms = max_timestamp_ms
        self.first_append_ms = first_append_ms
        self.last_append_ms = last_append_ms
        self.seal = seal
        self.has_file = has_file
        self.generation = generation  # how often compaction has written it
        #: Then offsets may be missing between two batches, and inside of one.
        self.gaps_allowed = generation > 0
        self.is_rolled = seal is not None
        # Whether the directory that names the file was synced since it was made. Of an empty one that was found nobody
        # knows: it was made for an append for which there was no room, and a clean stop found nothing in it to sync.
        self.is_named = has_file and end_position > 0
        self.damaged = damaged  # what recovery found that is no sound batch, in order
        # What `examine` found since, by where it began, and the end of the file then. Guarded by the lock.
        self._met: dict[tuple[int, int], tuple[Damage, int]] = {}
        self._examining = threading.Lock()
        #: From here on its records are lost, which somebody has accepted: a gap, up to where the next one begins.
        self.lost_offset = lost_offset
        self._handles = handles
        self._interval_bytes = index_interval_bytes
        self.index = index or ActiveIndex(handles.disk, files.active_index_path(directory, base_offset))
        self._builder = IndexBuilder(index_interval_bytes)
        self._pin: Handle | None = None
        self._reserved_position = end_position
        self._reserve_bytes = RESERVE_BYTES_MIN
        self._index_is_wrong = False
        self._rebuilt: RowTable | None = None
        self._is_own = False  # the file was seen to be the one that the seal speaks of
        self._verified: tuple[tuple[int, int], ...] = ()

    # Writing. Owner thread.

    @property
    def is_pinned(self) -> bool:
        return self._pin is not None

    @property
    def is_empty(self) -> bool:
        return self.end_position == 0

    def pin(self) -> None:
        """Hold the file open for appends and their sync, made if it is the first time. StorageFull."""
        assert self._pin is None
        assert not self.is_rolled
        if self.has_file:
            self._pin = self._handles.acquire(self.path, writable=True)
        else:
            self._pin = self._handles.create(self.path)
            self.has_file = True

    def unpin(self) -> None:
        if self._pin is not None:
            self._pin.release()
            self._pin = None

    def must_roll(self, size: int, last_offset: int, age_ms: int, *, bytes_max: int, age_ms_max: int) -> bool:
        if self.end_position == 0:
            return False  # one batch larger than a segment has it to itself
        return (
            self.end_position + size > bytes_max
            or age_ms >= age_ms_max
            or self.end_position + size > POSITION_MAX
            or last_offset - self.base_offset > POSITION_MAX
        )

    def append(
        self, buffers: Sequence[Buffer], size: int, last_offset: int, max_timestamp_ms: int, now_ms: int, bytes_max: int
    ) -> None:
        """Append one batch that was checked and stamped, given in parts. StorageFull or StorageFailed."""
        assert self._pin is not None
        position = self.end_position
        end_position = position + size
        if end_position > self._reserved_position:
            self._reserve(end_position, bytes_max)
        self._pin.file.pwritev(buffers, position)

        if max_timestamp_ms > self.max_timestamp_ms:
            self.max_timestamp_ms = max_timestamp_ms
        if position == 0:
            self.first_append_ms = now_ms
        self.last_append_ms = max(self.last_append_ms, now_ms)  # an earlier process may have stamped the future
        next_offset = last_offset + 1
        if self._builder.is_due(size):
            self.index.append(next_offset - self.base_offset, position, self.max_timestamp_ms, now_ms)
        # Publish last: a reader that sees the new end also sees the whole batch.
        self.end_position = end_position
        self.next_offset = next_offset

    def _reserve(self, end_position: int, bytes_max: int) -> None:
        assert self._pin is not None
        start = self._reserved_position
        wanted = max(end_position, min(start + self._reserve_bytes, bytes_max))
        try:
            self._pin.file.reserve(start, wanted - start)
        except StorageFull:
            if wanted == end_position:
                raise
            wanted = end_position  # the last room on the disk may still take this batch
            self._pin.file.reserve(start, wanted - start)
        self._reserved_position = wanted
        self._reserve_bytes = min(self._reserve_bytes * 2, RESERVE_BYTES_MAX)

    # Syncing and sealing. Sync thread.

    def sync(self) -> None:
        """Sync the file, held by a count of our own: the owner may unpin it meanwhile, for an earlier round."""
        handle = self._handles.acquire(self.path, writable=True)
        try:
            handle.file.sync()
        finally:
            handle.release()

    def write_seal(self) -> None:
        """Seal a rolled segment, all of whose bytes are synced. StorageFull leaves it rolled."""
        assert self.is_rolled
        disk = self._handles.disk
        handle = self._handles.acquire(self.path, writable=True)
        try:
            handle.file.truncate(self.end_position)  # gives back what was reserved past the end
            table = self.index.all_rows()
            if self._index_is_wrong or table is None or not self._first_and_last_match(table, handle.file):
                with suppress(DataLoss):
                    table = self._rebuild(handle.file)
        finally:
            handle.release()
        table = table or RowTable(array("q"))
        crc = rows_crc(table.cells)
        seal = Seal(
            base_offset=self.base_offset,
            next_offset=self.next_offset,
            end_position=self.end_position,
            max_timestamp_ms=self.max_timestamp_ms,
            first_append_ms=self.first_append_ms,
            last_append_ms=self.last_append_ms,
            index_rows_count=table.count,
            index_crc=crc,
            generation=self.generation,
        )
        path = files.sealed_index_path(self.directory, self.base_offset, crc)
        disk.write_array(path, table.cells, columns=COLUMNS)
        disk.replace_file(files.seal_path(self.directory, self.base_offset), seal.encode())
        self._handles.forget(self.path)  # from now on it is opened for reading only
        self.seal = seal
        self.index = ActiveIndex(disk, files.active_index_path(self.directory, self.base_offset))
        disk.remove_tree(files.active_index_path(self.directory, self.base_offset))

    def remove_files(self) -> None:
        """Remove the segment from the disk. Whoever holds its handle or a slice of its map reads on."""
        disk = self._handles.disk
        self._handles.forget(self.path)
        self._handles.maps.forget(self.path)
        # The seal goes last: as long as it is there, a restart knows that the rest is to be removed too.
        names = [name for name in disk.list_dir(self.directory) if files.belongs_to_segment(name, self.base_offset)]
        for name in sorted(names, key=lambda name: name == files.seal_path(self.directory, self.base_offset).name):
            self._handles.arrays.forget(self.directory / name)
            remove_file(disk, self.directory / name)

    # Reading. Any thread.

    def acquire(self, *, wait: bool) -> Handle:
        """A counted handle of the file, to be released. OffsetOutOfRange if it was removed."""
        handle = self._handles.acquire_open(self.path)
        if handle is not None:
            return handle
        if not wait:
            raise WouldWait
        try:
            return self._handles.acquire(self.path, writable=self.seal is None)
        except FileNotFoundError:
            raise OffsetOutOfRange(
                f"offsets [{self.base_offset}, {self.next_offset}) were just deleted by retention",
                remedy="Read from the log's start, or keep records longer with retention.ms or retention.bytes.",
            ) from None

    def find(self, offset: int, file: DiskFile, *, wait: bool) -> SoundBatch | None:
        """The batch that holds offset, which is in the segment. Where it was taken out, by compaction or as a loss that
        was accepted: the next one, None if there is none.

        DataLoss if it is damaged.
        """
        found = self.locate(offset, file, wait=wait)
        if isinstance(found, Damage):
            raise self.loss(found)
        return found

    def locate(self, offset: int, file: DiskFile, *, wait: bool) -> SoundBatch | Damage | None:
        """The same, or what is there in its place."""
        assert self.base_offset <= offset < self.next_offset
        if self.seal is not None and not self._is_own:
            if not wait:
                raise WouldWait
            if (foreign := self._why_foreign(self.seal, file)) is not None:
                return Damage(0, self.end_position, self.base_offset, self.next_offset, foreign)
            self._is_own = True
        row = self._row(lambda table: table.for_offset(offset - self.base_offset), file, wait=wait)
        for found in self.walk(file, row.position if row else 0, bytes_each=FIND_BYTES, wait=wait):
            next_offset = found.next_offset if isinstance(found, Damage) else found.header.next_offset
            if next_offset is None or next_offset > offset:
                return found
        if self.gaps_allowed or (self.lost_offset is not None and offset >= self.lost_offset):
            return None
        return Damage(self.end_position, self.end_position, offset, self._known_end, "there is no batch that holds it")

    def find_timestamp(self, timestamp_ms: int, file: DiskFile) -> Iterator[SoundBatch | Damage]:
        """Each batch, and each damage, that may hold a record of that time or later, in order. May wait."""
        row = self._row(lambda table: table.for_timestamp(timestamp_ms), file, wait=True)
        start = row.position if row else 0
        for found in self.walk(file, start, bytes_each=FIND_BYTES, wait=True):
            if isinstance(found, Damage) or found.header.max_timestamp_ms >= timestamp_ms:
                yield found

    def append_time_ms(self, offset: int) -> int:
        """About when the record was appended, and not before: the time of the next row of the index. May wait."""
        row = self._row_covering(offset - self.base_offset)
        return self.last_append_ms if row is None else row.append_time_ms

    def walk(self, file: DiskFile, start: int, *, bytes_each: int, wait: bool) -> Iterator[SoundBatch | Damage]:
        """The batches from start on, which is where one begins, with their headers checked, and the damage between.

        Reads bytes_each at a time. CRCs are not looked at.
        """
        read = file.pread if wait else waitless(file)
        position, end_position = start, self.end_position
        # The first batch is where the name of the file says; any other start was checked, by a row or a walk to it.
        expected = self.base_offset if start == 0 else None
        last: SoundBatch | None = None  # of whose length nobody knows whether it is right before the next one fits
        number = 0  # of the next damage that is known
        while True:
            while number < len(self.damaged) and self.damaged[number].position < position:
                number += 1
            damage = self.damaged[number] if number < len(self.damaged) else None
            end = end_position if damage is None else damage.position
            try:
                for at, header in walk_headers(
                    read, position, end, expected, bytes_each=bytes_each, gaps_allowed=self.gaps_allowed
                ):
                    if not wait and at - start > NOWAIT_BYTES_MAX:
                        raise WouldWait
                    last = SoundBatch(at, header)
                    yield last
                    position, expected = last.end_position, header.next_offset
            except (CorruptBatch, DataLoss) as error:
                if not wait:
                    raise WouldWait from error
                if last is None:
                    damage = self.examine(file, position, expected, up_to=position)
                else:
                    damage = self.examine(file, last.position, last.header.base_offset, up_to=position)
                if damage is None:
                    raise self.vanished(position) from error
            else:
                number += 1
            if damage is None:
                return
            yield damage
            if damage.next_offset is None:
                return
            position, expected, last = damage.end_position, damage.next_offset, None

    def _why_foreign(self, seal: Seal, file: DiskFile) -> str | None:
        """Why the file is not the one that the seal and its index speak of, None if it is: if a batch of the index is
        where it says. One that has as many, of the same sizes, cannot be told. With damage in the way nothing can: the
        offset that a batch begins with is covered by no CRC, so another one says little unless what follows agrees."""
        rows = self._sealed_rows(wait=True)
        if rows is None or rows.count == 0:
            return None
        is_foreign = False
        for number in {0, rows.count // 2, rows.count - 1}:
            row = rows[number]
            try:
                header = read_header(file.pread(HEADER_SIZE, row.position))
                check_header(
                    header,
                    available=self.end_position - row.position,
                    expected_base_offset=None,
                    gaps_allowed=self.gaps_allowed,
                )
            except (CorruptBatch, DataLoss):
                continue
            if header.next_offset - self.base_offset == row.relative_next_offset:
                return None
            is_foreign |= self._is_told_by_others(row, header, file)
        return "it is the file of another log: no batch stands where its index says" if is_foreign else None

    def _is_told_by_others(self, row: IndexRow, header: BatchHeader, file: DiskFile) -> bool:
        """Whether the batch of that header is not the one of the row, and not only says so with a wrong base_offset."""
        if row.position == 0 and not self.gaps_allowed:
            return header.last_offset_delta + 1 != row.relative_next_offset
        end = row.position + header.size
        try:
            return read_header(file.pread(HEADER_SIZE, end)).base_offset == header.next_offset
        except (CorruptBatch, DataLoss):  # there is none, or it is damaged itself
            return False

    # Damage.

    def examine(self, file: DiskFile, position: int, expected_offset: int | None, *, up_to: int) -> Damage | None:
        """The first damage from the batch at position on, which has to begin with that offset; None if all is sound up
        to the position `up_to` and with the batch that begins there. May take a second, but only for the first of many
        who come upon it; a segment that takes the place of this one knows nothing of it.
        """
        if expected_offset is None:
            return None
        for known in self.damaged:
            if (known.position, known.offset) == (position, expected_offset):
                return known
        with self._examining:
            met, end_position = self._met.get((position, expected_offset), (None, -1))
            if met is None or (met.next_offset is None and end_position != self.end_position):
                end_position = self.end_position
                met = self._first_damage(file, position, expected_offset, up_to)
                if met is None:
                    return None
                if len(self._met) >= MET_MAX:
                    self._met.pop(next(iter(self._met)))
                self._met[position, expected_offset] = met, end_position
        if is_misplaced(met):
            return met._replace(end_position=self.end_position, next_offset=self._known_end)
        return met if met.next_offset is not None else met._replace(next_offset=self._known_end)

    def _first_damage(self, file: DiskFile, position: int, expected_offset: int, up_to: int) -> Damage | None:
        rows = self._rows_known()
        walk = Walk(
            file,
            start=position,
            end=self.end_position,
            expected_offset=expected_offset,
            offset_end=self._known_end,
            gaps_allowed=self.gaps_allowed,
            is_indexed=lambda at, next_offset: (at, next_offset - self.base_offset) in rows,
        )
        for item in walk:
            if isinstance(item, Damage):
                return item
            if isinstance(item, SoundBatch) and item.position >= up_to:
                break
        return None

    @property
    def _known_end(self) -> int | None:
        """Where its offsets end for sure; None while more may follow."""
        return None if self.seal is None else self.seal.next_offset

    def _rows_known(self) -> set[tuple[int, int]]:
        """(position, relative next offset) of the batches that the index names, as far as it can be had."""
        rows: RowTable | None = self._rebuilt
        if rows is None:
            rows = self.index.all_rows() if self.seal is None else self._sealed_rows(wait=True)
        if rows is None:
            return set()
        return {(row.position, row.relative_next_offset) for row in (rows[number] for number in range(rows.count))}

    def vanished(self, position: int) -> DataLoss:
        return DataLoss(
            f"{self.path} was damaged at position {position}, and what is there now is sound, or begins no batch",
            remedy="Read again. If it stays, keep the file: `logctl segments verify` says what is wrong with it.",
        )

    def loss(self, damage: Damage) -> DataLoss:
        """The error for who wants one of the records that the damage has taken."""
        why = f"{self.path} is damaged at position {damage.position}: {damage.why}"
        return loss(damage.offset, damage.next_offset, why)

    # Slices without a copy. Any thread.

    def mark_verified(self, position: int, size: int) -> None:
        """The bytes were read from the disk and their CRCs are right. Only then may a slice of the map leave."""
        if self.seal is not None:
            self._verified = _merge(self._verified, (position, position + size))

    def slice(self, position: int, size: int) -> memoryview | None:
        """The bytes without a copy: only of a sealed segment, verified before, and resident. Never waits for the disk.

        Whoever has the slice owns it: it stays readable when the segment is removed and when the map is evicted.
        """
        number = bisect_right(self._verified, (position, 2**63)) - 1
        if number < 0 or self._verified[number][1] < position + size:
            return None
        try:
            mapped = self._handles.maps.get(self.path, self._map)
        except FileNotFoundError:
            return None
        return mapped.view(position, size) if mapped.is_resident(position, size) else None

    def _map(self) -> FileMap:
        handle = self._handles.acquire(self.path)
        try:
            return handle.file.map()
        finally:
            handle.release()

    # The index.

    def _row(self, look_up: "Callable[[RowTable], IndexRow | None]", file: DiskFile, *, wait: bool) -> IndexRow | None:
        """A row, checked against the batch header it names. None: begin at the first batch."""
        table: RowTable | None = self._rebuilt
        if table is None and self.seal is not None:
            table = self._sealed_rows(wait=wait)
        elif table is None:
            row = look_up(self.index.in_memory())
            if row is not None and self._row_matches(row, file, wait=wait):
                return row
            if row is None and self.index.count == self.index.in_memory().count:
                return None
            if not wait:
                raise WouldWait
            table = self.index.all_rows()
        if table is not None:
            row = look_up(table)
            if row is None or self._row_matches(row, file, wait=wait):
                return row
        if not wait:
            raise WouldWait
        if self.seal is None:
            self._index_is_wrong = True
            return None  # the rows still grow; sealing makes them anew, and until then the scan begins at the start
        try:
            self._rebuilt = self._rebuild(file)
        except DataLoss:
            return None
        return look_up(self._rebuilt)

    def _row_covering(self, relative_offset: int) -> IndexRow | None:
        """The first row whose batch ends at the offset or after. Not checked: a time is no position."""
        if self._rebuilt is not None:
            return self._rebuilt.covering(relative_offset)
        if self.seal is not None:
            sealed = self._sealed_rows(wait=True)
            return sealed.covering(relative_offset) if sealed is not None else None
        newest = self.index.in_memory()
        is_before_newest = newest.count == 0 or relative_offset < newest[0].relative_next_offset
        if is_before_newest and newest.count < self.index.count:
            table = self.index.all_rows()
            return None if table is None else table.covering(relative_offset)
        return newest.covering(relative_offset)

    def _sealed_rows(self, *, wait: bool) -> RowTable | None:
        seal = self.seal
        assert seal is not None
        path = files.sealed_index_path(self.directory, self.base_offset, seal.index_crc)
        rows = self._handles.arrays.peek(path)
        if rows is None and not wait:
            raise WouldWait
        if rows is None:
            rows = open_sealed(self._handles.disk, path, rows_count=seal.index_rows_count, crc=seal.index_crc)
            if rows is not None:
                self._handles.arrays.put(path, rows)
        return rows

    def _row_matches(self, row: IndexRow, file: DiskFile, *, wait: bool) -> bool:
        if not 0 <= row.position <= self.end_position - HEADER_SIZE:
            return False
        read = file.pread if wait else waitless(file)
        try:
            header = read_header(read(HEADER_SIZE, row.position))
            check_header(
                header,
                available=self.end_position - row.position,
                expected_base_offset=None,
                gaps_allowed=self.gaps_allowed,
            )
        except (CorruptBatch, DataLoss):  # whoever wants the batch itself is told
            return False
        return header.next_offset - self.base_offset == row.relative_next_offset

    def _first_and_last_match(self, table: RowTable, file: DiskFile) -> bool:
        if table.count == 0:
            return False
        return all(self._row_matches(table[number], file, wait=True) for number in (0, table.count - 1))

    def _rebuild(self, file: DiskFile) -> RowTable:
        """Make the rows anew from the log. Append times that are lost become the segment's last: kept longer.

        The log may be damaged. An index is no place to tell, and all behind the damage is to be found nevertheless.
        Raises DataLoss if the file reads otherwise every time.
        """
        cells: Cells = array("q")
        builder = IndexBuilder(self._interval_bytes)
        newest_ms = -1
        for found in self.walk(file, 0, bytes_each=REBUILD_BYTES, wait=True):
            if isinstance(found, Damage):
                continue
            position, header = found
            newest_ms = max(newest_ms, header.max_timestamp_ms)
            if builder.is_due(header.size):
                cells.extend((header.next_offset - self.base_offset, position, newest_ms, self.last_append_ms))
        return RowTable(cells)


def remove_file(disk: Disk, path: Path) -> None:
    """A file of a segment, or its index, which is a directory."""
    if path.name.endswith(files.INDEX_SUFFIX):
        disk.remove_tree(path)
    else:
        disk.remove(path)


def loss(offset: int, next_offset: int | None, why: str) -> DataLoss:
    """The error for who wants one of the records [offset, next_offset); None: all from there on, as far as is known."""
    if next_offset is None:
        which, go_on = f"records from offset {offset} on", "Records before it can be read."
    else:
        which, go_on = f"records [{offset}, {next_offset})", f"Go on at offset {next_offset}; all others can be read."
    return DataLoss(
        f"{which} cannot be read: {why}",
        remedy=f"{go_on} Keep the files: `logctl segments repair` says what can be saved, once the server is stopped.",
        offset=offset,
        next_offset=next_offset,
    )


def walk_headers(
    read: Read, start: int, end: int, expected_base_offset: int | None, *, bytes_each: int, gaps_allowed: bool = False
) -> Iterator[tuple[int, BatchHeader]]:
    """Yield (position, checked header) of the batches in [start, end) of a file, reading bytes_each at a time.

    Offsets must follow each other, but for gaps where those are allowed. Raises CorruptBatch at the first header that
    is wrong. CRCs are not looked at.
    """
    window: Buffer = b""
    window_position = position = start
    while position < end:
        if position + HEADER_SIZE > window_position + len(window):
            window, window_position = _read_ahead(read, min(bytes_each, end - position), position), position
        header = read_header(window, position - window_position)
        check_header(
            header,
            available=end - position,
            expected_base_offset=expected_base_offset,
            gaps_allowed=gaps_allowed,
        )
        yield position, header
        position += header.size
        expected_base_offset = header.next_offset


def _read_ahead(read: Read, size: int, position: int) -> Buffer:
    """So much, or only a header, where there is a block behind it that cannot be read."""
    try:
        return read(size, position)
    except DataLoss:
        return read(min(size, HEADER_SIZE), position)


def waitless(file: DiskFile) -> Read:
    """A read that raises WouldWait rather than wait for the disk."""

    def read(size: int, position: int) -> Buffer:
        data = file.pread_nowait(size, position)
        if data is None:
            raise WouldWait
        return data

    return read


def _merge(ranges: tuple[tuple[int, int], ...], new: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    start, end = new
    apart = [other for other in ranges if other[1] < start or other[0] > end]
    for other in ranges:
        if other[1] >= start and other[0] <= end:
            start, end = min(start, other[0]), max(end, other[1])
    merged = sorted([*apart, (start, end)])
    # Forgetting what was verified costs a copy, no more.
    return tuple(merged[-VERIFIED_RANGES_MAX:])
