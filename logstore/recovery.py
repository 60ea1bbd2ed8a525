"""Recovery: from the files of a partition to its log, without believing more than they show.

After a clean stop the checkpoint says where the log ends, and nothing of it is read. After any other:

1. Sync. What the page cache holds may not be what the disk holds, and a failed sync leaves it looking clean.
2. Follow the chain of segments. A seal says what its segment holds; the others are read past the cache, from the last
   row of the index below the recovery point on, and every batch is checked: header, offset, CRC.
3. The first thing that is wrong is a torn tail if nothing at or after it was ever known to be synced: no recovery
   point beyond it, no sealed segment after it. Then the bytes are kept aside and cut off, later segments set aside.
4. Anything else is damage. It is a hole: what is before it can be read, nothing is appended, no file is touched.
5. Sync again, and only then is there a log.

Nothing is ever removed here, and a recovery that is itself cut short is simply done again.
"""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from logstore import files
from logstore.batch import HEADER_SIZE, BatchHeader, Buffer, check_header, crc_matches, read_header
from logstore.checkpoint import PartitionCheckpoint
from logstore.clock import Clock
from logstore.config import TopicConfig
from logstore.disk import Disk, DiskFile
from logstore.epochs import FILE_BYTES_MAX as EPOCHS_BYTES_MAX
from logstore.epochs import LeaderEpochs, decode_epochs
from logstore.errors import CorruptBatch, DataLoss, MetadataCorrupt, StorageFull
from logstore.handles import Handles
from logstore.index import COLUMNS, ActiveIndex, Cells, IndexBuilder, RowTable, read_rows
from logstore.log import Hole, Log
from logstore.producers import ProducerStates
from logstore.seal import Seal, read_seal
from logstore.segment import REBUILD_BYTES, Read, Segment
from logstore.sync import Synchronizer

SCAN_BYTES = 1024 * 1024
PRODUCERS_BYTES_MAX = 1024 * 1024 * 1024


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


@dataclass(slots=True)
class RecoveryFindings:
    """What recovery did to one partition, for the log and for the curious."""

    topic: str
    partition: int
    cuts: list[Cut] = field(default_factory=list)
    hole: Hole | None = None
    scanned_bytes: int = 0
    bypassed_cache: bool = True  # False: the filesystem has no O_DIRECT, so the page cache was dropped and then trusted
    notes: list[str] = field(default_factory=list)


def create_log(
    directory: Path,
    *,
    topic: str,
    topic_id: UUID,
    partition: int,
    config: TopicConfig,
    disk: Disk,
    handles: Handles,
    sync: Synchronizer,
    leader_epoch: int,
    producers_max: int,
) -> Log:
    """A log for a new partition. Its directory is made and synced, its first file with the first append."""
    disk.make_dir(directory)
    return Log(
        directory,
        topic=topic,
        topic_id=topic_id,
        partition=partition,
        config=config,
        handles=handles,
        sync=sync,
        leader_epoch=leader_epoch,
        segments=(Segment(directory, 0, handles=handles, index_interval_bytes=config.index_interval_bytes),),
        log_start_offset=0,
        epochs=LeaderEpochs(),
        producers=ProducerStates(producers_max=producers_max),
    )


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
    leader_epoch: int,
    producers_max: int,
) -> tuple[Log, RecoveryFindings]:
    """Open a partition's log. `clean`: the last stop was, so the checkpoint is exact.

    A damaged log is opened with a hole rather than refused. Raises StorageFailed if the first or last sync fails, and
    FormatTooNew for the files of a later version.
    """
    findings = RecoveryFindings(topic, partition)
    disk.make_dir(directory)
    chain = _Chain(directory, config, disk, clock, handles, checkpoint, findings, clean=clean)
    segments, retired = chain.follow()
    log_start_offset = chain.log_start_offset
    log_end_offset = segments[-1].next_offset
    epochs = _load_epochs(directory, disk, segments, chain.epochs_seen, log_end_offset, findings)
    producers = _load_producers(directory, disk, segments, log_start_offset, clock.wall_ms(), producers_max, findings)
    log = Log(
        directory,
        topic=topic,
        topic_id=topic_id,
        partition=partition,
        config=config,
        handles=handles,
        sync=sync,
        leader_epoch=leader_epoch,
        segments=segments,
        log_start_offset=log_start_offset,
        epochs=epochs,
        producers=producers,
        hole=findings.hole,
        retired=retired,
        checkpoint=checkpoint,
    )
    return log, findings


class _Scan(NamedTuple):
    """How far a log file is sound."""

    end_position: int
    next_offset: int
    max_timestamp_ms: int
    cells: Cells  # rows of its index
    torn: str | None  # what is wrong at end_position, None at the end of the file
    is_unreadable: bool = False  # the disk says so, which no torn write does


class _Chain:
    """The segments of one partition, in order, followed until the end or the first thing that is wrong."""

    def __init__(
        self,
        directory: Path,
        config: TopicConfig,
        disk: Disk,
        clock: Clock,
        handles: Handles,
        checkpoint: PartitionCheckpoint | None,
        findings: RecoveryFindings,
        *,
        clean: bool,
    ) -> None:
        self._directory = directory
        self._config = config
        self._disk = disk
        self._handles = handles
        self._checkpoint = checkpoint
        self._findings = findings
        self._clean = clean
        self._now_ms = clock.wall_ms()
        self._names = disk.list_dir(directory)
        self._bases = sorted(base for name in self._names if (base := files.log_base_offset(name)) is not None)
        self._seals = self._read_seals()
        self.log_start_offset = checkpoint.log_start_offset if checkpoint else 0
        self.epochs_seen: list[tuple[int, int]] = []  # (epoch, base_offset) where it changed, in what was scanned
        # (base offset, position) below which everything is known to have been synced.
        self._recovery_point = (checkpoint.segment_base_offset, checkpoint.position) if checkpoint else (0, 0)
        self._last_append_ms = -1

    def follow(self) -> tuple[tuple[Segment, ...], list[Segment]]:
        """(the log's segments, those below its start whose removal a crash has interrupted)."""
        retired = self._take_retired()
        unsealed = [base for base in self._bases if base not in self._seals]
        trusted = self._clean and self._is_as_checkpointed(unsealed)
        if not trusted:
            self._sync(unsealed)
        segments: list[Segment] = []
        expected = self.log_start_offset
        if self._bases and self._bases[0] < expected:
            expected = self._bases[0]  # the log may start in the middle of a segment
        for number, base in enumerate(self._bases):
            if base != expected:
                self._on_gap(number, expected)
                break
            segment = self._open_sealed(base) if base in self._seals else self._open_unsealed(number, trusted=trusted)
            segments.append(segment)
            expected = segment.next_offset
            if self._findings.hole is not None or self._findings.cuts:
                break
        self._check_end(expected)
        self._seal_rolled(segments)
        return self._with_active(segments, expected), retired

    def _read_seals(self) -> dict[int, Seal]:
        seals = {}
        for name in self._names:
            base = files.seal_base_offset(name)
            if base is None:
                continue
            try:
                seal = read_seal(self._disk, self._directory / name)
            except MetadataCorrupt as error:
                # Its segment is then read as one that was never sealed, and has to join with the next all the same.
                self._findings.notes.append(str(error))
                continue
            if seal.base_offset == base:
                seals[base] = seal
        return seals

    def _take_retired(self) -> list[Segment]:
        """What lies wholly below the log start, which is synced before anything is removed."""
        # Removals reach the disk in any order, so a seal may be gone and its segment not: then the next one says it.
        ends = dict(zip(self._bases, self._bases[1:], strict=False))
        ends.update({base: seal.next_offset for base, seal in self._seals.items()})
        gone = sorted(base for base, end in ends.items() if end <= self.log_start_offset)
        self._bases = [base for base in self._bases if base not in gone]
        return [self._segment(base, next_offset=ends[base]) for base in gone]

    def _is_as_checkpointed(self, unsealed: list[int]) -> bool:
        """Whether the only segment without a seal is the one that the clean checkpoint describes, to the byte."""
        checkpoint = self._checkpoint
        if checkpoint is None:
            return not self._bases
        if unsealed not in ([], [checkpoint.segment_base_offset]):
            return False
        return checkpoint.position == (self._size(unsealed[0]) if unsealed else 0)

    def _sync(self, unsealed: list[int]) -> None:
        for base in unsealed:
            file = self._disk.open(files.log_path(self._directory, base), writable=True)
            try:
                file.sync()
            finally:
                file.close()
        self._disk.sync_dir(self._directory)

    # One segment.

    def _open_sealed(self, base: int) -> Segment:
        seal = self._seals[base]
        self._last_append_ms = seal.last_append_ms
        if self._size(base) < seal.end_position:
            scan = self._scan(base, use_index=False)
            self._make_hole(scan.next_offset, f"{files.log_path(self._directory, base)} is shorter than its seal says")
            return self._segment_from(base, scan, seal.last_append_ms)
        return self._segment(
            base,
            next_offset=seal.next_offset,
            end_position=seal.end_position,
            max_timestamp_ms=seal.max_timestamp_ms,
            first_append_ms=seal.first_append_ms,
            last_append_ms=seal.last_append_ms,
            seal=seal,
        )

    def _open_unsealed(self, number: int, *, trusted: bool) -> Segment:
        base = self._bases[number]
        if trusted:
            return self._open_active(base)
        size = self._size(base)
        scan = self._scan(base, use_index=True)
        path = files.log_path(self._directory, base)
        below = (base, scan.end_position) < self._recovery_point
        if scan.torn is None and below and base == self._recovery_point[0]:
            self._make_hole(scan.next_offset, f"{path} ends at position {scan.end_position}, and was synced further")
        elif scan.torn is not None and (below or scan.is_unreadable or not self._is_tail(number + 1)):
            self._make_hole(scan.next_offset, f"{path} at position {scan.end_position}: {scan.torn}")
        elif scan.torn is not None:
            self._cut(number, scan, size)
        known_ms = self._checkpoint.last_append_ms if self._checkpoint else -1
        is_above = (base, scan.end_position) > self._recovery_point
        # Append times above the recovery point are lost. Now is never too early, so nothing is kept shorter.
        last_append_ms = max(known_ms, self._last_append_ms, self._now_ms if is_above else -1)
        return self._segment_from(base, scan, last_append_ms)

    def _open_active(self, base: int) -> Segment:
        checkpoint = self._checkpoint
        assert checkpoint is not None
        path = files.active_index_path(self._directory, base)
        cells, is_whole = read_rows(self._disk, path)
        stored_count = len(cells) // COLUMNS if is_whole else 0
        return self._segment(
            base,
            next_offset=checkpoint.recovery_offset,
            end_position=checkpoint.position,
            max_timestamp_ms=checkpoint.max_timestamp_ms,
            first_append_ms=RowTable(cells)[0].append_time_ms if cells else checkpoint.last_append_ms,
            last_append_ms=checkpoint.last_append_ms,
            index=ActiveIndex(self._disk, path, stored_count=stored_count, recovered=None if is_whole else cells),
        )

    def _segment_from(self, base: int, scan: _Scan, last_append_ms: int) -> Segment:
        cells = scan.cells
        for at in range(3, len(cells), COLUMNS):
            if cells[at] < 0:
                cells[at] = last_append_ms
        path = files.active_index_path(self._directory, base)
        return self._segment(
            base,
            next_offset=scan.next_offset,
            end_position=scan.end_position,
            max_timestamp_ms=scan.max_timestamp_ms,
            first_append_ms=RowTable(cells)[0].append_time_ms if cells else -1,
            last_append_ms=last_append_ms if cells else -1,
            index=ActiveIndex(self._disk, path, recovered=cells),
        )

    def _segment(self, base: int, **state: object) -> Segment:
        return Segment(
            self._directory,
            base,
            handles=self._handles,
            index_interval_bytes=self._config.index_interval_bytes,
            has_file=base in self._bases,
            **state,  # type: ignore[arg-type]
        )

    def _size(self, base: int) -> int:
        file = self._disk.open(files.log_path(self._directory, base))
        try:
            return file.size()
        finally:
            file.close()

    def _scan(self, base: int, *, use_index: bool) -> _Scan:
        """Check the file from the last index row below the recovery point on, or from its first byte."""
        file, direct = self._disk.open_uncached(files.log_path(self._directory, base))
        self._findings.bypassed_cache &= direct
        try:
            cells: Cells = array("q")
            if use_index:
                cells, _ = read_rows(self._disk, files.active_index_path(self._directory, base))
            while cells and (base, cells[-COLUMNS + 1]) >= self._recovery_point:
                del cells[-COLUMNS:]
            if cells:
                scan = self._scan_from(base, file, cells)
                if scan is not None:
                    return scan
                self._findings.notes.append(f"the index of {file.path} does not fit its log and is made anew")
            scan = self._scan_from(base, file, array("q"))
            assert scan is not None
            return scan
        finally:
            file.close()

    def _scan_from(self, base: int, file: DiskFile, cells: Cells) -> _Scan | None:
        """Scan after the rows in `cells`, which grow. None if the last of them is not where a batch begins."""
        last_row = RowTable(cells)[len(cells) // COLUMNS - 1] if cells else None
        position = last_row.position if last_row else 0
        newest_ms = last_row.max_timestamp_ms if last_row else -1
        expected: int | None = None if last_row else base
        next_offset = base
        builder = IndexBuilder(self._config.index_interval_bytes)
        size = file.size()
        torn = None
        epoch = None
        try:
            for at, header in check_batches(file.pread, position, size, expected):
                if expected is None:
                    if last_row is None or header.next_offset - base != last_row.relative_next_offset:
                        return None
                    expected = header.next_offset
                    builder.is_due(header.size)
                else:
                    newest_ms = max(newest_ms, header.max_timestamp_ms)
                    if builder.is_due(header.size):
                        cells.extend((header.next_offset - base, at, newest_ms, -1))
                if header.leader_epoch != epoch:
                    epoch = header.leader_epoch
                    self.epochs_seen.append((epoch, header.base_offset))
                next_offset = header.next_offset
                self._findings.scanned_bytes += header.size
                position = at + header.size
        except CorruptBatch as error:
            if last_row is not None and expected is None:
                return None
            torn = str(error)
        except DataLoss as error:
            return _Scan(position, next_offset, newest_ms, cells, str(error), is_unreadable=True)
        return _Scan(position, next_offset, newest_ms, cells, torn)

    # What is wrong.

    def _is_tail(self, number: int) -> bool:
        """Whether nothing from the number-th segment on was ever known to be synced."""
        later = self._bases[number:]
        sealed = any(base in self._seals for base in later)
        return not sealed and not any(base <= self._recovery_point[0] for base in later)

    def _make_hole(self, offset: int, why: str) -> None:
        self._findings.hole = Hole(offset, why)

    def _on_gap(self, number: int, expected: int) -> None:
        base = self._bases[number]
        why = f"the log goes on at {base}, and offsets from {expected} on are missing"
        if self._is_tail(number) and self._is_synced_up_to(expected):
            self._set_aside(number, expected, why)
        else:
            self._make_hole(expected, why)

    def _check_end(self, expected: int) -> None:
        if self._findings.hole is None and not self._is_synced_up_to(expected):
            checkpoint = self._checkpoint
            assert checkpoint is not None
            self._make_hole(expected, f"the log was synced up to offset {checkpoint.recovery_offset}, and ends here")

    def _is_synced_up_to(self, offset: int) -> bool:
        """Whether a log that ends at offset lacks nothing that the checkpoint knows to be synced."""
        return self._checkpoint is None or self._checkpoint.recovery_offset <= offset

    def _cut(self, number: int, scan: _Scan, size: int) -> None:
        """Keep the bytes from the tear on aside, set later segments aside, and only then cut."""
        base = self._bases[number]
        path = files.log_path(self._directory, base)
        kept_as = files.discarded_path(path, self._names)
        file = self._disk.open(path, writable=True)
        try:
            sound_after = _count_sound(file.pread, scan.end_position, size)
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
            path = files.log_path(self._directory, base)
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
        if self._findings.hole is not None:
            return
        for segment in segments[:-1]:
            if segment.seal is None:
                segment.is_rolled = True
                try:
                    segment.write_seal()
                except StorageFull as error:
                    self._findings.notes.append(str(error))  # the next start tries again

    def _with_active(self, segments: list[Segment], next_offset: int) -> tuple[Segment, ...]:
        if not segments or (segments[-1].seal is not None and self._findings.hole is None):
            segments.append(self._segment_without_file(next_offset))
        return tuple(segments)

    def _segment_without_file(self, base: int) -> Segment:
        return Segment(
            self._directory, base, handles=self._handles, index_interval_bytes=self._config.index_interval_bytes
        )


def check_batches(
    read: Read, start: int, end: int, expected_base_offset: int | None
) -> Iterator[tuple[int, BatchHeader]]:
    """Yield (position, header) of the sound batches from start on. CorruptBatch at the first that is not whole."""
    window: Buffer = b""
    window_position = position = start
    while position < end:
        at = position - window_position
        if at + HEADER_SIZE > len(window):
            window, window_position, at = read(min(SCAN_BYTES, end - position), position), position, 0
        header = read_header(window, at)
        check_header(header, available=end - position, expected_base_offset=expected_base_offset)
        if at + header.size > len(window):
            window, window_position, at = read(max(header.size, min(SCAN_BYTES, end - position)), position), position, 0
        if at + header.size > len(window) or not crc_matches(window, at, header.size):
            raise CorruptBatch(f"the CRC of the batch at offset {header.base_offset} is wrong", remedy="")
        yield position, header
        position += header.size
        expected_base_offset = header.next_offset


def _count_sound(read: Read, position: int, end: int) -> int:
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


def _load_epochs(
    directory: Path,
    disk: Disk,
    segments: tuple[Segment, ...],
    seen: list[tuple[int, int]],
    log_end_offset: int,
    findings: RecoveryFindings,
) -> LeaderEpochs:
    try:
        epochs = decode_epochs(disk.read_file(directory / files.EPOCHS, EPOCHS_BYTES_MAX))
    except (FileNotFoundError, MetadataCorrupt, DataLoss) as error:
        epochs = LeaderEpochs()
        if log_end_offset > segments[0].base_offset:
            findings.notes.append(f"leader epochs are read from the log again: {error}")
            seen = _epochs_of(segments)
    epochs.truncate(log_end_offset)
    for epoch, base_offset in seen:
        epochs.assign(epoch, base_offset)
    return epochs


def _epochs_of(segments: tuple[Segment, ...]) -> list[tuple[int, int]]:
    """Every change of epoch that the log's batches show, as far as they can be read."""
    seen: list[tuple[int, int]] = []
    try:
        for header in _headers(segments, 0):
            if not seen or header.leader_epoch != seen[-1][0]:
                seen.append((header.leader_epoch, header.base_offset))
    except DataLoss:
        pass  # who reads there is told; epochs only say where to look for a cut
    return seen


def _load_producers(
    directory: Path,
    disk: Disk,
    segments: tuple[Segment, ...],
    log_start_offset: int,
    now_ms: int,
    producers_max: int,
    findings: RecoveryFindings,
) -> ProducerStates:
    """The snapshot and the batches after it; or, without a snapshot that can be right, all batches."""
    log_end_offset = segments[-1].next_offset
    producers = ProducerStates(producers_max=producers_max)
    try:
        data = disk.read_file(directory / files.PRODUCERS, PRODUCERS_BYTES_MAX)
        loaded = ProducerStates.from_snapshot(data, producers_max=producers_max)
        if loaded.next_offset <= log_end_offset:
            producers = loaded
        else:
            findings.notes.append(f"the producers' snapshot is of offset {loaded.next_offset}, past the end of the log")
    except FileNotFoundError:
        pass
    except (MetadataCorrupt, DataLoss) as error:
        findings.notes.append(str(error))
    try:
        for header in _headers(segments, max(producers.next_offset, log_start_offset)):
            producers.record(header, header.base_offset, now_ms)
    except DataLoss as error:  # without these producers' sequences no append could be told from one sent twice
        findings.hole = findings.hole or Hole(max(producers.next_offset, log_start_offset), str(error))
    return producers


def _headers(segments: tuple[Segment, ...], start_offset: int) -> Iterator[BatchHeader]:
    """The headers of all batches from the one that holds start_offset on."""
    for segment in segments:
        if segment.next_offset <= start_offset or segment.is_empty:
            continue
        handle = segment.acquire(wait=True)
        try:
            start = segment.find(max(start_offset, segment.base_offset), handle.file, wait=True)
            for _, header in segment.walk(handle.file.pread, start, segment.end_position, bytes_each=REBUILD_BYTES):
                yield header
        finally:
            handle.release()
