"""Recovery: from the files of a partition to its log, without believing more than they show.

After a clean stop the checkpoint says where the log ends, and nothing of it is read. After any other:

1. Sync. What the page cache holds may not be what the disk holds, and a failed sync leaves it looking clean. A log that
   ends where the checkpoint says has nothing that was not synced before, and is not read either.
2. Follow the chain of segments. A seal says what its segment holds; the others are read past the cache, from the last
   row of the index below the recovery point on, and every batch is checked: header, offset, CRC.
3. The first thing that is wrong is a torn tail if nothing at or after it was ever known to be synced: no recovery
   point beyond it, no sealed segment after it. Then the bytes are kept aside and cut off, later segments set aside.
4. Anything else is damage. It is a hole with two ends: what is before and after it can be read, nothing is appended,
   no file is touched. A loss that an operator has accepted (see `losses`) is none.
5. Sync again, and only then is there a log.

Nothing is ever removed here, and a recovery that is itself cut short is simply done again.
"""

from array import array
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from logstore import files
from logstore.chain import Chain
from logstore.checkpoint import PartitionCheckpoint
from logstore.clock import Clock
from logstore.config import TopicConfig
from logstore.disk import Cells, Disk, DiskFile
from logstore.errors import DataLoss, StorageFull
from logstore.handles import Handles
from logstore.index import (
    COLUMNS,
    ActiveIndex,
    ActiveRows,
    IndexBuilder,
    RowTable,
    StoredRows,
    open_sealed,
    read_active,
    rows_crc,
)
from logstore.log import Hole, Log
from logstore.scan import SCAN_BYTES, UNKNOWN_MS, Scan, count_sound, scan_file
from logstore.segment import Segment
from logstore.snapshot import Snapshot, bring_up_to_date, read_snapshot
from logstore.sync import Synchronizer
from logstore.walk import Damage, SoundBatch, Walk, is_misplaced

#: So much of a segment may be without index rows: whoever looks for a record there reads it.
UNINDEXED_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Cut:
    """Bytes that were taken out of a log, and where they are now."""

    path: Path
    position: int
    bytes_count: int
    offset: int  # the log ends here now, or ended here before the segment that was set aside
    why: str
    kept_as: Path
    sound_batches_after: int  # whole batches behind the tear: pages may reach the disk out of order


class Behind(NamedTuple):
    """What stands in a log file behind its first damage."""

    damaged: tuple[Damage, ...]
    end_position: int
    next_offset: int
    max_timestamp_ms: int


@dataclass(slots=True)
class RecoveryFindings:
    """What recovery did to one partition, for the log and for the curious."""

    topic: str
    partition: int
    cuts: list[Cut] = field(default_factory=list)
    holes: list[Hole] = field(default_factory=list)
    scanned_bytes: int = 0
    bypassed_cache: bool = True  # False: the filesystem has no O_DIRECT, so the page cache was dropped and then trusted
    notes: list[str] = field(default_factory=list)


def open_log(
    directory: Path,
    *,
    topic: str,
    topic_id: UUID,
    partition: int,
    config: TopicConfig,
    disk: Disk,
    clock: Clock,
    handles: Handles,
    sync: Synchronizer,
    checkpoint: PartitionCheckpoint | None,
    clean: bool,
    is_synced: bool,
    leader_epoch: int,
    producers_max: int,
) -> tuple[Log, RecoveryFindings]:
    """Open a partition's log. `clean`: the last stop was, so the checkpoint is exact. `is_synced`: all files were
    synced since the last process wrote to them, and their names too.

    A damaged log is opened with its holes rather than refused. Raises StorageFailed if the first or last sync fails,
    and FormatTooNew for the files of a later version.
    """
    findings = RecoveryFindings(topic, partition)
    disk.make_dir(directory)
    snapshot = read_snapshot(directory, disk, topic_id, partition, producers_max=producers_max, notes=findings.notes)
    snapshot_offset = snapshot.next_offset
    recovery = _Recovery(directory, config, disk, clock, handles, checkpoint, snapshot, findings)
    segments, retired = recovery.follow(clean=clean, is_synced=is_synced)
    log_start_offset = recovery.log_start_offset
    if snapshot_offset < log_start_offset:
        findings.notes.append(
            f"what idempotent producers wrote before offset {log_start_offset} is not known any more: "
            "a batch from there that one sends again is taken for a new one"
        )
    damage = bring_up_to_date(snapshot, segments, clock.wall_ms())
    if damage is not None and not findings.holes:
        # Without these producers' sequences no append could be told from one that was sent before.
        findings.holes.append(
            Hole(
                damage.offset,
                damage.next_offset,
                f"a segment in {directory} at position {damage.position}: {damage.why}",
            )
        )
    log = Log(
        directory,
        topic=topic,
        topic_id=topic_id,
        partition=partition,
        config=config,
        clock=clock,
        handles=handles,
        sync=sync,
        leader_epoch=leader_epoch,
        segments=segments,
        log_start_offset=log_start_offset,
        derived=snapshot,
        snapshot_offset=snapshot_offset,
        holes=findings.holes,
        retired=retired,
        leftovers=recovery.leftovers if not findings.holes else [],
        checkpoint=checkpoint,
    )
    return log, findings


class _Recovery:
    """The segments of one partition, in order, followed until the end or the first thing that is wrong."""

    def __init__(
        self,
        directory: Path,
        config: TopicConfig,
        disk: Disk,
        clock: Clock,
        handles: Handles,
        checkpoint: PartitionCheckpoint | None,
        snapshot: Snapshot,
        findings: RecoveryFindings,
    ) -> None:
        self._directory = directory
        self._config = config
        self._disk = disk
        self._handles = handles
        self._checkpoint = checkpoint
        self._findings = findings
        self._now_ms = clock.wall_ms()
        self._names = disk.list_dir(directory)
        self.log_start_offset = checkpoint.log_start_offset if checkpoint else 0
        self._chain = Chain(disk, directory, self._names, self.log_start_offset)
        self._seals = self._chain.seals
        self._generations = self._chain.generations
        self._losses = self._chain.losses
        self._bases = [base for base in self._chain.bases if base in self._generations]
        findings.notes += [unreadable.why for unreadable in self._chain.unreadable]
        # (base offset, position) below which everything is known to have been synced.
        self._recovery_point = (checkpoint.segment_base_offset, checkpoint.position) if checkpoint else (0, 0)
        # The offset of that, or of the snapshot, or of a seal whose file is gone: none of them is written before its
        # batches are synced.
        self._synced_offset = max(
            snapshot.next_offset,
            checkpoint.recovery_offset if checkpoint else 0,
            *(self._seals[base].next_offset for base in self._chain.bases if base not in self._generations),
        )
        self._tail = snapshot.tail
        self._last_append_ms = -1

    def follow(self, *, clean: bool, is_synced: bool) -> tuple[tuple[Segment, ...], list[Segment]]:
        """(the log's segments, those below its start whose removal a crash has interrupted)."""
        retired = [self._segment(base, next_offset=end) for base, end in self._chain.retired.items()]
        unsealed = [base for base in self._bases if base not in self._seals]
        is_as_checkpointed = self._is_as_checkpointed(unsealed)
        if not is_synced and not (clean and is_as_checkpointed):
            self._sync(unsealed)
        # A checkpoint says nothing of the rows, which stand in the array and the snapshot.
        trusted = is_as_checkpointed and all(map(self._is_indexed, unsealed))
        segments: list[Segment] = []
        expected = self.log_start_offset
        if self._bases and self._bases[0] < expected:
            expected = self._bases[0]  # the log may start in the middle of a segment
        for number, base in enumerate(self._bases):
            if base != expected and not self._goes_on(number, expected):
                if self._findings.cuts:
                    break
                continue
            segment = self._open_sealed(base) if base in self._seals else self._open_unsealed(number, trusted=trusted)
            segments.append(segment)
            expected = segment.next_offset
            if self._findings.cuts:
                break
        self._add_active(segments, self._check_end(expected))
        self._seal_rolled(segments)
        return tuple(segments), retired

    def _is_as_checkpointed(self, unsealed: list[int]) -> bool:
        """Whether the only segment without a seal is the one that the checkpoint describes, to the byte."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            return not self._bases
        if unsealed not in ([], [checkpoint.segment_base_offset]):
            return False
        return checkpoint.position == (self._size(unsealed[0]) if unsealed else 0)

    def _is_indexed(self, base: int) -> bool:
        """Whether index rows reach so far that the segment need not be read for others, and no further than it."""
        rows, end_position = self._active_rows(base), self._recovery_point[1]
        if rows.why is not None:
            return False
        cells = rows.all
        if not cells:
            return end_position <= UNINDEXED_BYTES_MAX
        # Rows of batches that a power cut took would fit again once others of their size stand there.
        return cells[-COLUMNS + 1] < end_position <= cells[-COLUMNS + 1] + UNINDEXED_BYTES_MAX

    def _sync(self, unsealed: list[int]) -> None:
        for base in unsealed:
            file = self._disk.open(self._chain.log_path(base), writable=True)
            try:
                file.sync()
            finally:
                file.close()
        self._disk.sync_dir(self._directory)

    @property
    def leftovers(self) -> list[Path]:
        return self._chain.leftovers()

    # One segment.

    def _open_sealed(self, base: int) -> Segment:
        seal = self._seals[base]
        self._last_append_ms = seal.last_append_ms
        size = self._size(base)
        if size < seal.end_position:
            scan = self._scan(base, use_index=False)
            damaged = self._look_behind(base, scan, size, seal.next_offset, seal.next_offset).damaged
        else:
            damaged = ()
        return self._segment(
            base,
            next_offset=seal.next_offset,
            end_position=min(size, seal.end_position),
            max_timestamp_ms=seal.max_timestamp_ms,
            first_append_ms=seal.first_append_ms,
            last_append_ms=seal.last_append_ms,
            seal=seal,
            damaged=damaged,
            lost_offset=self._losses[base].offset if base in self._losses else None,
        )

    def _open_unsealed(self, number: int, *, trusted: bool) -> Segment:
        base = self._bases[number]
        if trusted:
            return self._open_active(base)
        size = self._size(base)
        scan = self._scan(base, use_index=True)
        below = (base, scan.end_position) < self._recovery_point or scan.next_offset < self._synced_offset
        behind = Behind((), scan.end_position, scan.next_offset, scan.max_timestamp_ms)
        lost_offset = None
        if scan.torn is None and (loss := self._losses.get(base)) and loss.offset == scan.next_offset:
            lost_offset = loss.offset
            behind = behind._replace(next_offset=loss.next_offset)
        elif scan.is_misplaced:
            assert scan.torn is not None
            end = self._bases[number + 1] if number + 1 < len(self._bases) else max(self._synced_offset, base)
            self._make_hole(base, end, f"{self._chain.log_path(base)} is the file of another log: {scan.torn}")
            behind = Behind((Damage(0, size, base, end, scan.torn),), size, end, -1)
        elif (below and (scan.torn or base == self._recovery_point[0])) or (
            scan.torn and (scan.is_unreadable or not self._is_tail(number + 1))
        ):
            following = self._bases[number + 1] if number + 1 < len(self._bases) else None
            behind = self._look_behind(base, scan, size, following, following or self._synced_offset)
        elif scan.torn:
            self._cut(number, scan, size)
        elif self._generations[base] > 0 and number + 1 < len(self._bases):
            # Compaction took out what is missing at its end. Nobody can tell that from a file that was cut there.
            behind = behind._replace(next_offset=max(scan.next_offset, self._bases[number + 1]))
        known_ms = self._checkpoint.last_append_ms if self._checkpoint else -1
        is_above = (base, scan.end_position) > self._recovery_point
        # Append times above the recovery point are lost. Now is never too early, so nothing is kept shorter.
        last_append_ms = max(known_ms, self._last_append_ms, self._now_ms if is_above else -1)
        cells = scan.cells
        # Where compaction, or damage, has left no batch, there were some all the same.
        append_ms = last_append_ms if cells or behind.next_offset > base else -1
        for at in range(3, len(cells), COLUMNS):
            if cells[at] == UNKNOWN_MS:
                cells[at] = last_append_ms
        return self._segment(
            base,
            next_offset=behind.next_offset,
            end_position=behind.end_position,
            max_timestamp_ms=behind.max_timestamp_ms,
            first_append_ms=RowTable(cells)[0].append_time_ms if cells else append_ms,
            last_append_ms=append_ms,
            index=ActiveIndex(self._disk, files.active_index_path(self._directory, base), in_memory=cells),
            damaged=behind.damaged,
            lost_offset=lost_offset,
        )

    def _open_active(self, base: int) -> Segment:
        checkpoint = self._checkpoint
        assert checkpoint is not None
        rows = self._active_rows(base)
        first = RowTable(rows.stored or rows.newest)
        stored = StoredRows(len(rows.stored) // COLUMNS, rows_crc(rows.stored))
        path = files.active_index_path(self._directory, base)
        return self._segment(
            base,
            next_offset=checkpoint.recovery_offset,
            end_position=checkpoint.position,
            max_timestamp_ms=checkpoint.max_timestamp_ms,
            first_append_ms=first[0].append_time_ms if first.count else checkpoint.last_append_ms,
            last_append_ms=checkpoint.last_append_ms,
            index=ActiveIndex(self._disk, path, stored=stored, in_memory=array("q", rows.newest)),
        )

    def _active_rows(self, base: int) -> ActiveRows:
        """The rows of the index over a segment without a seal."""
        return read_active(self._disk, self._directory, base, self._tail)

    def _segment(self, base: int, **state: object) -> Segment:
        return Segment(
            self._directory,
            base,
            handles=self._handles,
            index_interval_bytes=self._config.index_interval_bytes,
            has_file=base in self._bases,
            generation=self._generations.get(base, 0),
            **state,  # type: ignore[arg-type]
        )

    def _size(self, base: int) -> int:
        file = self._disk.open(self._chain.log_path(base))
        try:
            return file.size()
        finally:
            file.close()

    def _scan(self, base: int, *, use_index: bool) -> Scan:
        """Check the file from the last index row below the recovery point on, or from its first byte."""
        file, direct = self._disk.open_uncached(self._chain.log_path(base))
        self._findings.bypassed_cache &= direct
        trusted: Cells = array("q")
        try:
            if use_index:
                rows = self._active_rows(base)
                trusted = rows.all
                if rows.why is not None:
                    note = f"the index of {file.path} is made anew, and knows no append times any more: {rows.why}"
                    self._findings.notes.append(note)
            while trusted and (base, trusted[-COLUMNS + 1]) >= self._recovery_point:
                del trusted[-COLUMNS:]
            interval_bytes = self._config.index_interval_bytes
            gaps_allowed = self._generations[base] > 0
            checkpointed = self._checkpointed_end(base)
            scan = scan_file(
                file,
                base,
                trusted,
                interval_bytes=interval_bytes,
                gaps_allowed=gaps_allowed,
                checkpointed=checkpointed,
            )
            if scan is None:
                self._findings.notes.append(f"the index of {file.path} does not fit its log and is made anew")
                scan = scan_file(
                    file,
                    base,
                    array("q"),
                    interval_bytes=interval_bytes,
                    gaps_allowed=gaps_allowed,
                    checkpointed=checkpointed,
                )
        finally:
            file.close()
        assert scan is not None
        self._findings.scanned_bytes += scan.scanned_bytes
        return scan

    # What is wrong.

    def _is_tail(self, number: int) -> bool:
        """Whether nothing from the number-th segment on was ever known to be synced."""
        return self._chain.is_tail(self._bases[number:], self._recovery_point[0])

    def _make_hole(self, offset: int, next_offset: int | None, why: str) -> None:
        self._findings.holes.append(Hole(offset, next_offset, why))

    def _look_behind(self, base: int, scan: Scan, size: int, end_offset: int | None, end_offset_min: int) -> Behind:
        """Make holes of what is damaged from where the file is no longer sound on, and find what is sound between.

        `end_offset` has to follow behind the file, if that is known, and `end_offset_min` at least.
        """
        damaged: list[Damage] = []
        position, expected, newest_ms = scan.end_position, scan.next_offset, scan.max_timestamp_ms
        builder = IndexBuilder(self._config.index_interval_bytes)
        rows = self._rows_of(base)
        file, _ = self._disk.open_uncached(self._chain.log_path(base))
        try:
            walk = Walk(
                file,
                start=position,
                end=size,
                expected_offset=expected,
                offset_end=end_offset,
                gaps_allowed=self._generations[base] > 0,
                is_indexed=lambda at, next_offset: (at, next_offset - base) in rows,
                checkpointed=self._checkpointed_end(base),
            )
            for found in walk:
                if isinstance(found, SoundBatch):
                    position, expected = found.end_position, found.header.next_offset
                    newest_ms = max(newest_ms, found.header.max_timestamp_ms)
                    if builder.is_due(found.header.size):
                        scan.cells.extend((expected - base, found.position, newest_ms, UNKNOWN_MS))
                elif isinstance(found, Damage):
                    damaged.append(found)
                    if is_misplaced(found):
                        damaged[-1] = found._replace(end_position=size, next_offset=None)
                        break
                    if found.next_offset is not None:
                        position, expected = found.end_position, found.next_offset
        finally:
            file.close()
        if damaged and damaged[-1].next_offset is None:
            damaged += self._end_of_damage(base, damaged.pop(), end_offset_min)
            position, expected = size, max(expected, end_offset_min)
        if expected < end_offset_min:
            damaged.append(Damage(position, position, expected, end_offset_min, "the file ends there"))
            expected = end_offset_min
        for damage in damaged:
            where = f"{self._chain.log_path(base)} at position {damage.position}"
            self._make_hole(damage.offset, damage.next_offset, f"{where}: {damage.why}")
        return Behind(tuple(damaged), position, expected, newest_ms)

    def _rows_of(self, base: int) -> set[tuple[int, int]]:
        """(position, relative next offset) of the batches that the index names."""
        seal = self._seals.get(base)
        rows: RowTable | None
        if seal is not None:
            path = files.sealed_index_path(self._directory, base, seal.index_crc)
            rows = open_sealed(self._disk, path, rows_count=seal.index_rows_count, crc=seal.index_crc)
        else:
            rows = RowTable(self._active_rows(base).all)
        if rows is None:
            return set()
        return {(row.position, row.relative_next_offset) for row in (rows[number] for number in range(rows.count))}

    def _checkpointed_end(self, base: int) -> tuple[int, int] | None:
        checkpoint = self._checkpoint
        if checkpoint is None or checkpoint.segment_base_offset != base:
            return None
        return checkpoint.position, checkpoint.recovery_offset

    def _end_of_damage(self, base: int, last: Damage, end_offset_min: int) -> list[Damage]:
        """The last damage of a file, which goes on to its end, with its end as far as anybody knows.

        None of it if it may be a torn tail, which nobody was ever told of: of a log with holes it is left as it is.
        """
        if last.offset < end_offset_min:
            return [last._replace(next_offset=end_offset_min)]
        is_tail = (base, last.position) >= self._recovery_point and last.offset >= self._synced_offset
        return [] if is_tail and not last.is_unreadable else [last]

    def _goes_on(self, number: int, expected: int) -> bool:
        """Whether the log goes on with the number-th segment, which does not begin where it has to."""
        base = self._bases[number]
        if self._is_tail(number) and expected >= self._synced_offset:
            self._set_aside(number, expected, f"the log goes on at {base}, and offsets from {expected} on are missing")
            return False
        if base > expected:
            self._make_hole(expected, base, f"the log goes on at {base}, and no file holds what is before")
            return True
        # It is of another place, or was: nobody can tell which of the two is right, so nothing more is appended.
        self._make_hole(
            expected, expected, f"{self._chain.log_path(base)} begins in the middle of the segment before it"
        )
        return False

    def _check_end(self, expected: int) -> int:
        """Where the log ends, whose last segment ends at `expected`."""
        if expected >= self._synced_offset:
            return expected
        self._make_hole(expected, self._synced_offset, f"{self._directory} has no file that holds them")
        return self._synced_offset

    def _cut(self, number: int, scan: Scan, size: int) -> None:
        """Keep the bytes from the tear on aside, set later segments aside, and only then cut."""
        base = self._bases[number]
        path = self._chain.log_path(base)
        kept_as = files.discarded_path(path, self._names)
        file = self._disk.open(path, writable=True)
        try:
            sound_after = count_sound(file.pread, scan.end_position, size)
            self._copy(file, scan.end_position, size, kept_as)
            assert scan.torn is not None
            self._findings.cuts.append(
                Cut(
                    path, scan.end_position, size - scan.end_position, scan.next_offset, scan.torn, kept_as, sound_after
                )
            )
            self._set_aside(number + 1, scan.next_offset, "the segment before it was cut")
            file.truncate(scan.end_position)
            file.sync()
        finally:
            file.close()

    def _copy(self, source: DiskFile, start: int, end: int, kept_as: Path) -> None:
        target = self._disk.create(kept_as)
        self._names.append(kept_as.name)
        try:
            for position in range(start, end, SCAN_BYTES):
                try:
                    data = source.pread(min(SCAN_BYTES, end - position), position)
                except DataLoss as error:  # a block that cannot be read cannot be kept either
                    self._findings.notes.append(str(error))
                    continue
                target.pwritev((data,), position - start)
            target.sync()
        finally:
            target.close()
        self._disk.sync_dir(self._directory)

    def _set_aside(self, number: int, offset: int, why: str) -> None:
        later = self._bases[number:]
        for base in later:
            path = self._chain.log_path(base)
            size = self._size(base)
            kept_as = files.discarded_path(path, self._names)
            self._disk.rename(path, kept_as)
            self._names.append(kept_as.name)
            self._findings.cuts.append(Cut(path, 0, size, offset, why, kept_as, 0))
        if later:
            self._disk.sync_dir(self._directory)

    # The end.

    def _seal_rolled(self, segments: list[Segment]) -> None:
        """A crash came between roll and seal, or the seal was damaged."""
        if self._findings.holes:
            return
        for segment in segments[:-1]:
            if segment.seal is None:
                segment.is_rolled = True
                try:
                    segment.write_seal()
                except StorageFull as error:
                    self._findings.notes.append(str(error))  # the next start tries again

    def _add_active(self, segments: list[Segment], next_offset: int) -> None:
        """A segment to be appended to, if there is none. One that ends in a loss is none: its offsets end behind."""
        last = segments[-1] if segments else None
        if last is None or last.seal or last.lost_offset is not None or last.next_offset < next_offset:
            segments.append(self._segment_without_file(next_offset))

    def _segment_without_file(self, base: int) -> Segment:
        return Segment(
            self._directory, base, handles=self._handles, index_interval_bytes=self._config.index_interval_bytes
        )
