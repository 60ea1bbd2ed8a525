"""Compaction: of every key the last record stays, at its offset. Kafka's log cleaner, for `cleanup.policy=compact`.

    [ clean: one record a key ][ dirty: as appended        ][ not yet: active, or too young ]
                               ^ dirty_offset

A pass reads from the dirty offset on, notes where each key was written last, as far as its memory goes, and then writes
all segments up to there anew, without the records that a later one of the same key has replaced. What lies behind that
point, in the last of these segments, stays for the next pass. Consecutive small segments become one. Offsets stay, so
there are gaps. A tombstone, a key with a null value, stays for `delete_retention_ms` after it was first seen here, so
that readers who saw the key before learn that it is gone: its batch then says until when, as KIP-534 has it. That is
a time of the wall clock, which may be set forward meanwhile: so the plan says which of these times are over. Records
without a key are not ours to judge and stay.

A pass is work for another process (design 4.12): it reads sealed segments and writes new files beside them, each synced
and complete with its index. Nothing of the log refers to them before the log itself writes their seals.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from logstore import files
from logstore.batch import BatchHeader, CodecRecord, decode_codec_records, encode_retained, read_header
from logstore.config import INT64_MAX
from logstore.disk import Cells, Disk, DiskFile
from logstore.errors import LogStoreError, OffsetOutOfRange, StorageFull
from logstore.index import COLUMNS, IndexBuilder, rows_crc
from logstore.scan import check_batches
from logstore.seal import Seal
from logstore.segment import POSITION_MAX, remove_file

#: Keys up to this long stand for themselves in the map of offsets, longer ones for a digest one byte longer.
KEY_BYTES_MAX = 16
WRITE_BYTES = 1024 * 1024
#: Left to appends and to the journal of groups, which is compacted by itself. What a pass replaces goes only after it.
ROOM_LEFT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class CompactionPlan:
    """What one pass does, told to another process."""

    directory: Path
    seals: tuple[Seal, ...]  # of all segments that may be written anew, in order, from the log's start
    dirty_offset: int  # what is below was compacted before
    now_ms: int
    past_horizon_ms: int  # tombstones that were to stay until then have done so, whatever the wall clock says
    delete_retention_ms: int
    segment_bytes: int
    index_interval_bytes: int
    keys_max: int  # the bound of memory: about 150 bytes a key


@dataclass(frozen=True, slots=True)
class CompactionResult:
    """Seals that each replace those of the segments in [base_offset, next_offset), whose files are there and synced."""

    seals: tuple[Seal, ...]
    dirty_offset: int  # the next pass begins here
    records_read: int
    records_kept: int
    bytes_read: int
    bytes_written: int


class LatestOffsets:
    """Key -> the offset where it was written last, for so many keys."""

    def __init__(self, keys_max: int) -> None:
        self._offsets: dict[bytes, int] = {}
        self._keys_max = keys_max

    def has_room(self, records_count: int) -> bool:
        """One batch always fits into an empty map."""
        return not self._offsets or len(self._offsets) + records_count <= self._keys_max

    def note(self, records: Sequence[CodecRecord]) -> None:
        offsets = self._offsets
        for record in records:
            if record.key is not None:
                offsets[_name(record.key)] = record.offset

    def is_latest(self, record: CodecRecord) -> bool:
        if record.key is None:
            return True
        return self._offsets.get(_name(record.key), -1) <= record.offset


def _name(key: bytes) -> bytes:
    return key if len(key) <= KEY_BYTES_MAX else blake2b(key, digest_size=KEY_BYTES_MAX + 1).digest()


def compact(
    plan: CompactionPlan,
    disk: Disk,
    pace: Callable[[int], None],
    *,
    free_bytes: Callable[[], int] | None = None,
) -> CompactionResult:
    """Do one pass. `pace` is told of every byte read or written, and may wait. `free_bytes` says how much room the
    filesystem has; without it a full disk is met when it is full.

    Where there is no room for more, the pass ends with what it has: once that is taken over, there may be.

    Raises `CorruptBatch` and `DataLoss` for a segment that is damaged, `OffsetOutOfRange` for one that retention has
    removed meanwhile, `StorageFull` without room for anything, and `StorageFailed`; nothing of the log has changed
    then, and what was written is removed. A process that is killed leaves it behind unnamed.
    """
    return _Pass(plan, disk, pace, free_bytes).run()


class _Pass:
    def __init__(
        self,
        plan: CompactionPlan,
        disk: Disk,
        pace: Callable[[int], None],
        free_bytes: Callable[[], int] | None,
    ) -> None:
        self._plan = plan
        self._disk = disk
        self._pace = pace
        self._free_bytes = free_bytes
        self._made: list[Path] = []  # files that no seal names yet
        self._latest = LatestOffsets(plan.keys_max)
        self._end_offset = plan.dirty_offset  # below it, every key's last offset is known
        self._records_read = 0
        self._records_kept = 0
        self._bytes_read = 0
        self._bytes_written = 0

    def run(self) -> CompactionResult:
        try:
            self._note_latest()
            written, dirty_offset = self._write_groups()
        except Exception:
            self._remove_made(0)
            raise
        return CompactionResult(
            tuple(written),
            dirty_offset,
            self._records_read,
            self._records_kept,
            self._bytes_read,
            self._bytes_written,
        )

    def _write_groups(self) -> tuple[list[Seal], int]:
        """The seals of what there was room for, and where the next pass begins."""
        written: list[Seal] = []
        for group in self._groups([seal for seal in self._plan.seals if seal.base_offset < self._end_offset]):
            made_before = len(self._made)
            try:
                self._check_room(group)
                seal = self._write_group(group)
            except StorageFull:
                if not written:
                    raise
                self._remove_made(made_before)
                return written, max(self._plan.dirty_offset, group[0].base_offset)
            if seal is not None:
                written.append(seal)
        return written, self._end_offset

    def _check_room(self, group: Sequence[Seal]) -> None:
        size = sum(seal.end_position for seal in group)
        if self._free_bytes is not None and (free := self._free_bytes()) < size + ROOM_LEFT_BYTES:
            raise StorageFull(
                f"the filesystem of {self._plan.directory} has {free} bytes left, and compaction needs {size} for its "
                f"next segment and leaves {ROOM_LEFT_BYTES} to others",
                remedy="Free space or shorten retention; compaction is tried again by itself.",
            )

    def _remove_made(self, kept_count: int) -> None:
        """Remove what was made after the first so many files. It is why there is no room, or of no use any more."""
        with suppress(LogStoreError):  # What stays is removed once this pass is given up.
            while len(self._made) > kept_count:
                remove_file(self._disk, self._made[-1])
                self._made.pop()

    def _note_latest(self) -> None:
        """Note the keys of dirty batches while there is room for them, and where that ends."""
        for seal in self._plan.seals:
            if seal.next_offset <= self._plan.dirty_offset:
                continue
            for (header, _), records in self._read(seal):
                if header.next_offset <= self._plan.dirty_offset:
                    continue
                if not self._latest.has_room(len(records)):
                    return
                self._latest.note(records)
                self._end_offset = header.next_offset
            self._end_offset = seal.next_offset

    def _groups(self, seals: Sequence[Seal]) -> Iterator[list[Seal]]:
        """Consecutive segments that fit into one, as they are now."""
        group: list[Seal] = []
        for seal in seals:
            size = sum(each.end_position for each in group) + seal.end_position
            span = seal.next_offset - group[0].base_offset if group else 0
            if group and (size > self._plan.segment_bytes or span > POSITION_MAX):
                yield group
                group = []
            group.append(seal)
        if group:
            yield group

    def _write_group(self, group: Sequence[Seal]) -> Seal | None:
        """Write what stays of these segments as one, and return its seal; None if all of one segment stays as it is."""
        first, last = group[0], group[-1]
        generation = max(seal.generation for seal in group) + 1
        path = files.log_path(self._plan.directory, first.base_offset, generation)
        self._disk.remove(path)  # left by a pass that did not end
        self._made.append(path)
        target = _Target(self._disk.create(path), first.base_offset, self._plan.index_interval_bytes, self._pace)
        try:
            is_changed = len(group) > 1
            for seal in group:
                for batch, kept in self._retained(seal):
                    is_changed |= kept is not batch
                    if kept is not None:
                        target.append(kept, seal.last_append_ms)
            if is_changed:
                target.finish()
        finally:
            target.file.close()
        if not is_changed:
            self._disk.remove(self._made.pop())
            return None
        self._bytes_written += target.position
        crc = rows_crc(target.cells)
        if crc != first.index_crc:  # else it is there, and others may be reading it
            index_path = files.sealed_index_path(self._plan.directory, first.base_offset, crc)
            self._made.append(index_path)
            self._disk.write_array(index_path, target.cells, columns=COLUMNS)
        self._disk.sync_dir(self._plan.directory)
        return Seal(
            base_offset=first.base_offset,
            next_offset=last.next_offset,
            end_position=target.position,
            max_timestamp_ms=target.max_timestamp_ms,
            first_append_ms=first.first_append_ms,
            last_append_ms=last.last_append_ms,
            index_rows_count=len(target.cells) // COLUMNS,
            index_crc=crc,
            compacted_offset=min(last.next_offset, self._end_offset),
            generation=generation,
        )

    def _retained(self, seal: Seal) -> Iterator[tuple[bytes, bytes | None]]:
        """(batch, what stays of it): the batch itself when all does, None when nothing does."""
        plan = self._plan
        for (header, batch), records in self._read(seal):
            horizon_ms = header.delete_horizon_ms
            drops_tombstones = horizon_ms is not None and horizon_ms <= plan.past_horizon_ms
            kept = [
                record
                for record in records
                if self._latest.is_latest(record) and not (drops_tombstones and _is_tombstone(record))
            ]
            self._records_read += len(records)
            self._records_kept += len(kept)
            # Behind the end, what a tombstone deletes may still be there.
            is_known = header.next_offset <= self._end_offset
            has_new_tombstone = is_known and horizon_ms is None and any(map(_is_tombstone, kept))
            if has_new_tombstone:
                horizon_ms = min(plan.now_ms + plan.delete_retention_ms, INT64_MAX)
            if not kept:
                yield batch, None
            elif len(kept) == len(records) and not has_new_tombstone:
                yield batch, batch
            else:
                yield batch, encode_retained(header, kept, delete_horizon_ms=horizon_ms)

    def _read(self, seal: Seal) -> Iterator[tuple[tuple[BatchHeader, bytes], list[CodecRecord]]]:
        """Every batch of a segment, checked and opened."""
        path = files.log_path(self._plan.directory, seal.base_offset, seal.generation)
        try:
            file = self._disk.open(path)
        except FileNotFoundError:
            raise OffsetOutOfRange(
                f"{path} was removed while a compaction read its log: its records were deleted",
                remedy="Nothing is to be done: the next compaction begins where the log does by then.",
            ) from None
        try:
            batches = check_batches(file.pread, 0, seal.end_position, seal.base_offset, gaps_allowed=seal.gaps_allowed)
            for position, header in batches:
                batch = bytes(file.pread(header.size, position))
                self._bytes_read += header.size
                self._pace(header.size)
                yield (header, batch), decode_codec_records(batch)
        finally:
            file.close()


def _is_tombstone(record: CodecRecord) -> bool:
    return record.value is None and record.key is not None


class _Target:
    """A log file that is written batch by batch, with the rows of its index."""

    def __init__(
        self, file: DiskFile, base_offset: int, index_interval_bytes: int, pace: Callable[[int], None]
    ) -> None:
        self.file = file
        self.position = 0
        self.max_timestamp_ms = -1
        self.cells: Cells = array("q")
        self._base_offset = base_offset
        self._builder = IndexBuilder(index_interval_bytes)
        self._pace = pace
        self._pending: list[bytes] = []
        self._pending_bytes = 0

    def append(self, batch: bytes, append_time_ms: int) -> None:
        header = read_header(batch)
        self.max_timestamp_ms = max(self.max_timestamp_ms, header.max_timestamp_ms)
        if self._builder.is_due(len(batch)):
            relative = header.next_offset - self._base_offset
            self.cells.extend((relative, self.position, self.max_timestamp_ms, append_time_ms))
        self._pending.append(batch)
        self._pending_bytes += len(batch)
        self.position += len(batch)
        if self._pending_bytes >= WRITE_BYTES:
            self._write()

    def finish(self) -> None:
        self._write()
        self.file.sync()

    def _write(self) -> None:
        if self._pending:
            self.file.pwritev([b"".join(self._pending)], self.position - self._pending_bytes)
            self._pace(self._pending_bytes)
            self._pending = []
            self._pending_bytes = 0
