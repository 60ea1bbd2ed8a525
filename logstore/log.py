"""A log: one partition, a chain of segments of which the last is appended to.

    [ sealed ][ sealed ][ rolled ][ active          ]
    ^ log_start_offset        ^ high_watermark      ^ log_end_offset

`append` writes and returns; it is durable when the high watermark has passed it, which a sync round brings about (see
`sync`). Readers see nothing above the high watermark, so nothing that anyone read can vanish. In a relaxed topic it is
the log end, and a power cut can take back what was seen.

All methods are for the owner thread, one for all logs, unless they say otherwise.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from logstore import files
from logstore.batch import BatchHeader, Buffer, check_batch, check_keys, decode_batch, stamped_prefix
from logstore.checkpoint import PartitionCheckpoint
from logstore.clock import AppendAges, Clock, WallClockPast
from logstore.config import TopicConfig
from logstore.errors import (
    BatchTooLarge,
    CorruptBatch,
    DataLoss,
    InvalidRecord,
    InvalidTimestamp,
    OffsetOutOfRange,
    PolicyViolation,
    StorageFailed,
    StorageFull,
    UnknownTopicOrPartition,
)
from logstore.handles import Handles
from logstore.header import CONTROL, DELETE_HORIZON, LOG_APPEND_TIME, TRANSACTIONAL
from logstore.index import ActiveIndex, StoredRows
from logstore.reader import LogReader, Places
from logstore.seal import Seal
from logstore.segment import Segment, loss, remove_file
from logstore.snapshot import Snapshot
from logstore.snapshot_writer import PendingSnapshot, SnapshotWriter
from logstore.sync import LogEnd, Synchronizer, Unsynced
from logstore.walk import Damage

#: Readers skip control batches, and would wait for the end of a transaction that nobody can end.
NOT_FOR_PRODUCERS = CONTROL | TRANSACTIONAL | LOG_APPEND_TIME | DELETE_HORIZON
#: In the place of an offset: delete all records up to the high watermark.
ALL_RECORDS = -1


class Appended(NamedTuple):
    """Where a batch is. A duplicate is where the original is, and durable when that is."""

    base_offset: int
    last_offset: int
    duplicate: bool


class TimestampedOffset(NamedTuple):
    offset: int
    timestamp_ms: int


class Hole(NamedTuple):
    """Records [offset, next_offset) that were durable, and are damaged or missing. None: all from there on.

    Nothing of it is removed, and nothing appended to its log, until somebody accepts the loss (see `losses`).
    """

    offset: int
    next_offset: int | None
    why: str


class Log:
    def __init__(
        self,
        directory: Path,
        *,
        topic: str,
        topic_id: UUID,
        partition: int,
        config: TopicConfig,
        clock: Clock,
        handles: Handles,
        sync: Synchronizer,
        leader_epoch: int,
        segments: tuple[Segment, ...],
        log_start_offset: int,
        derived: Snapshot,
        snapshot_offset: int,
        holes: Sequence[Hole] = (),
        retired: Sequence[Segment] = (),
        leftovers: Sequence[Path] = (),
        checkpoint: PartitionCheckpoint | None = None,
    ) -> None:
        """Only `recovery` makes logs: every byte of these segments is synced, and `derived` covers them all. The
        snapshot on the disk is of `snapshot_offset`."""
        assert segments
        self.topic = topic
        self.topic_id = topic_id
        self.partition = partition
        self.config = config
        self.directory = directory
        self.leader_epoch = leader_epoch
        self.log_start_offset = log_start_offset
        self.stored_start_offset = log_start_offset  # what a crash leaves of it; owner thread
        self.holes = tuple(holes)  # in order
        self.on_high_watermark: Callable[[Log], None] | None = None
        self.is_deleted = False
        #: Seals of a pass are on their way to the disk: the segments that they replace stay. Owner thread.
        self.is_taking_over = False
        self._handles = handles
        self._sync = sync
        self._epochs, self._producers = derived.epochs, derived.producers
        self._places = Places()
        # Replaced, never changed: any thread may look at it.
        self._segments = segments
        self._retired = list(retired)  # below the log start, their files still there
        self._leftovers = list(leftovers)  # files of no segment of the log
        self._found_checkpoint = checkpoint
        self._unsynced: list[Segment] = []  # in order; owner thread appends, publish removes
        active = segments[-1]
        last_append_ms = max(segment.last_append_ms for segment in segments)
        # Stamps that lie in the future are of a clock that was wrong, and what is appended from now on does not follow
        # them. Those of the segments stay: were it this clock that is wrong, they would make old what is young.
        self._last_append_ms = min(last_append_ms, clock.wall_ms())
        self._ages = AppendAges(clock)
        self._end = LogEnd(
            active, active.end_position, active.next_offset, active.max_timestamp_ms, last_append_ms, appended_bytes=0
        )
        self.high_watermark = self._end.offset
        self._published_bytes = 0
        self._published_offset = self._end.offset  # below it, a round has synced it and `publish` has said so
        self._synced_end = self._end  # of the sync thread
        self._snapshots = SnapshotWriter(
            directory / files.SNAPSHOT,
            handles.disk,
            derived,
            topic_id,
            partition,
            stored_offset=max(snapshot_offset, log_start_offset),
        )
        #: What is below has one record a key, as far as a pass could tell. Of the owner thread.
        self.compacted_offset = max([0, *(segment.seal.compacted_offset for segment in segments if segment.seal)])

    @property
    def log_end_offset(self) -> int:
        return self._end.offset

    @property
    def size_bytes(self) -> int:
        return sum(segment.end_position for segment in self._segments)

    @property
    def segments_count(self) -> int:
        return len(self._segments)

    @property
    def seals(self) -> list[Seal]:
        """Of the segments that are sealed, in order."""
        return [segment.seal for segment in self._segments if segment.seal is not None]

    @property
    def max_timestamp_ms(self) -> int:
        """The largest timestamp of a record, -1 without any. It may be of one that is not durable yet, or that was
        taken out of its segment since, by compaction or by `delete records`."""
        return max(segment.max_timestamp_ms for segment in self._segments)

    @property
    def flush_ms(self) -> int:
        return self.config.flush_ms

    @property
    def last_append_ms(self) -> int:
        """When the last batch was appended, and not in the future when the log was opened. -1 in a log that never had
        one."""
        return self._last_append_ms

    # Appending.

    def append(self, batch: Buffer, now_ms: int) -> Appended:
        """Check one batch, give it its offsets and write it. It is in the page cache then, and not yet durable.

        Raises BatchTooLarge, CorruptBatch, InvalidTimestamp, InvalidRecord, the errors of idempotent producers,
        StorageFull (nothing was written), StorageFailed (nothing more will be), DataLoss (the log has holes).
        """
        self._check_changeable("takes no records")
        header = check_batch(batch)
        # First of all: a batch that was written is never refused because it would not be taken today.
        duplicate = self._producers.check(header)
        if duplicate is not None:
            return Appended(duplicate.base_offset, duplicate.last_offset, True)
        config = self.config
        size = len(batch)
        if size > config.max_message_bytes:
            raise _too_large(size, config.max_message_bytes)
        if config.is_compacted:
            check_keys(batch)
        if header.max_timestamp_ms > now_ms + config.timestamp_after_max_ms:
            raise _too_far_ahead(header.max_timestamp_ms, now_ms, config.timestamp_after_max_ms)
        if header.attributes & NOT_FOR_PRODUCERS:
            raise _reserved(header)

        base_offset = self._end.offset
        last_offset = base_offset + header.last_offset_delta
        # Append times never decrease in one process, whatever the wall clock does.
        now_ms = max(now_ms, self._last_append_ms)
        segment = self._segment_for(size, last_offset, now_ms)
        prefix = stamped_prefix(header, base_offset, self.leader_epoch)
        try:
            segment.append(
                (prefix, memoryview(batch)[len(prefix) :]),
                size,
                last_offset,
                header.max_timestamp_ms,
                now_ms,
                config.segment_bytes,
            )
        except StorageFailed as error:
            self._sync.fail(error)
            raise
        self._note_appended(segment, header, base_offset, size, now_ms)
        return Appended(base_offset, last_offset, False)

    def request_sync(self) -> None:
        """Have what was appended synced now, because somebody waits for it, rather than after flush.ms."""
        if self.high_watermark < self._end.offset or not self.config.is_durable:
            self._sync.request()

    def _check_changeable(self, or_else: str) -> None:
        if self._sync.failure is not None:
            raise StorageFailed(
                f"the storage has failed: {self._sync.failure}",
                remedy="Check the disk, then start again: recovery begins at the last synced point.",
            )
        if self.holes:
            raise self._closed_by(self.holes[0], or_else)
        if self.is_deleted:
            raise self.gone()

    def _segment_for(self, size: int, last_offset: int, now_ms: int) -> Segment:
        """The active segment, rolled if need be and open for writing."""
        segment = self._segments[-1]
        config = self.config
        age_ms = max(now_ms - segment.first_append_ms, self._ages.since_first_append_ms(segment.base_offset))
        age_ms_max = config.segment_age_ms_max
        if segment.must_roll(size, last_offset, age_ms, bytes_max=config.segment_bytes, age_ms_max=age_ms_max):
            segment = self._roll(segment)
        if not segment.is_pinned:
            segment.pin()
            self._unsynced.append(segment)
        return segment

    def _roll(self, active: Segment) -> Segment:
        successor = Segment(
            self.directory,
            active.next_offset,
            handles=self._handles,
            index_interval_bytes=self.config.index_interval_bytes,
        )
        successor.pin()  # makes the file: if there is no room for it, nothing has changed
        active.is_rolled = True
        self._unsynced.append(successor)
        self._segments = (*self._segments, successor)
        self._ages.note_roll(active.next_offset, [segment.base_offset for segment in self._segments])
        return successor

    def _note_appended(self, segment: Segment, header: BatchHeader, base_offset: int, size: int, now_ms: int) -> None:
        self._producers.record(header, base_offset, now_ms)
        if self.leader_epoch > self._epochs.latest:
            self._epochs.assign(self.leader_epoch, base_offset)
        self._last_append_ms = now_ms
        self._ages.note_append(segment.base_offset, base_offset)
        appended_bytes = self._end.appended_bytes + size
        self._end = LogEnd(
            segment,
            segment.end_position,
            segment.next_offset,
            segment.max_timestamp_ms,
            segment.last_append_ms,
            appended_bytes,
        )
        self._sync.note_append(self, size)
        if not self.config.is_durable:
            self._advance(segment.next_offset)

    # Reading.

    def open_read(self, offset: int, bytes_max: int, *, end_offset: int | None = None) -> LogReader:
        """A reader of whole batches from the one that holds offset on, up to the high watermark or end_offset below it.

        About bytes_max bytes, but at least one batch. OffsetOutOfRange outside the log, DataLoss at a hole.
        """
        high_watermark = self.high_watermark
        if not self.log_start_offset <= offset <= self._end.offset:
            raise OffsetOutOfRange.of(offset, self.topic, self.partition, self.log_start_offset, high_watermark)
        for hole in self.holes:
            if hole.offset <= offset and (hole.next_offset is None or offset < hole.next_offset):
                raise loss(hole.offset, hole.next_offset, f"{self.topic} partition {self.partition}: {hole.why}")
        end = high_watermark if end_offset is None else min(end_offset, high_watermark)
        return LogReader(self._segment_of(self._segments, offset), self._places, offset, bytes_max, max(end, offset))

    def has_replaced(self, reader: LogReader) -> bool:
        """Whether compaction has put another segment in the place of the one that is read: if its file is gone, what
        the reader came for is in the new one, and another reader finds it."""
        return self.log_start_offset <= reader.offset and reader.segment not in self._segments

    def offset_for_timestamp(self, timestamp_ms: int) -> TimestampedOffset | None:
        """The first record with that time or a later one, None if there is none. Any thread; waits for the disk.

        Where records are damaged that may have such times, it is the first of them: who reads there is told.
        """
        while True:
            segments = self._segments
            try:
                return self._look_up_timestamp(segments, timestamp_ms)
            except OffsetOutOfRange:  # retention has removed a segment meanwhile, or compaction has replaced it
                if segments is self._segments:
                    raise

    def _look_up_timestamp(self, segments: Sequence[Segment], timestamp_ms: int) -> TimestampedOffset | None:
        start, end = self.log_start_offset, self.high_watermark
        older_offset = start  # all before is older
        found: TimestampedOffset | None = None
        for segment in segments:
            if segment.next_offset <= start:
                continue
            if segment.max_timestamp_ms < timestamp_ms and not segment.damaged:
                older_offset = segment.next_offset
                continue
            found = self._find_in(segment, timestamp_ms, start)
            if found is not None:
                break
        for hole in self.holes:
            if older_offset <= hole.offset < (end if found is None else found.offset):
                return TimestampedOffset(hole.offset, timestamp_ms)
        return None if found is None or found.offset >= end else found

    @staticmethod
    def _find_in(segment: Segment, timestamp_ms: int, start: int) -> TimestampedOffset | None:
        handle = segment.acquire(wait=True)
        try:
            for found in segment.find_timestamp(timestamp_ms, handle.file):
                if isinstance(found, Damage):
                    if found.next_offset is None or found.next_offset > max(start, found.offset):
                        return TimestampedOffset(max(found.offset, start), timestamp_ms)
                    continue
                position, header = found
                if header.next_offset <= start:
                    continue
                record = _first_record(handle.file.pread(header.size, position), header, timestamp_ms, start)
                if record is not None:
                    return record
        finally:
            handle.release()
        return None

    def append_time_ms(self, offset: int) -> int:
        """About when the record was appended, and not before. Past the end: when the last one was.

        Any thread; may wait for the disk.
        """
        if offset >= self._end.offset:
            return self._last_append_ms
        return self._segment_of(self._segments, offset).append_time_ms(offset)

    def epoch_end_offset(self, leader_epoch: int) -> tuple[int, int]:
        """(the largest epoch that is known and not above, the offset where it ended), or (-1, -1)."""
        return self._epochs.end_of(leader_epoch, self._end.offset)

    @staticmethod
    def _segment_of(segments: tuple[Segment, ...], offset: int) -> Segment:
        return segments[max(0, bisect_right(segments, offset, key=lambda segment: segment.base_offset) - 1)]

    def gone(self) -> UnknownTopicOrPartition:
        return UnknownTopicOrPartition(
            f"{self.topic} partition {self.partition} was deleted", remedy="Ask for the topic's metadata again."
        )

    def _closed_by(self, hole: Hole, what: str) -> DataLoss:
        end = "" if hole.next_offset in (None, hole.offset) else f" to {hole.next_offset - 1}"
        return DataLoss(
            f"{self.topic} partition {self.partition} {what}, since it is damaged from offset {hole.offset}"
            f"{end}: {hole.why}",
            remedy="Stop the server and run `logctl segments repair`, which saves what it can and accepts the loss.",
        )

    # Retention and the end.

    def retention_start(self, past: WallClockPast) -> int:
        """Where the log would start if retention were applied now. Only whole sealed segments go, oldest first."""
        config = self.config
        start, size = self.log_start_offset, self.size_bytes
        if self.holes or not config.deletes_old:
            return start  # nothing is removed from a damaged log
        old_ms = past.ago(config.retention_ms) if config.retention_ms >= 0 else -1
        for segment in self._segments[:-1]:
            since_ms = self._ages.since_last_append_ms(segment.next_offset)
            too_old = segment.last_append_ms < old_ms or 0 <= config.retention_ms < since_ms
            too_much = config.retention_bytes >= 0 and size - segment.end_position >= config.retention_bytes
            if not self._is_done(segment) or not (too_old or too_much):
                break
            start = segment.next_offset
            size -= segment.end_position
        return start

    def start_after_deletion(self, offset: int) -> int:
        """Where the log starts once the records before offset are deleted: all that are durable for `ALL_RECORDS`.

        Raises PolicyViolation of a log that is compacted only, OffsetOutOfRange, DataLoss (nothing is removed from a
        damaged log), UnknownTopicOrPartition (it was deleted), StorageFailed.
        """
        self._check_changeable("keeps all its records")
        if not self.config.deletes_old:
            raise PolicyViolation(
                f"the records of {self.topic} partition {self.partition} cannot be deleted by offset: "
                f"cleanup.policy = {self.config.cleanup_policy} keeps the last of every key",
                remedy="Send a record without a value for each key that is to go, or set cleanup.policy to "
                "compact,delete: retention.ms and retention.bytes count then, too.",
            )
        if offset == ALL_RECORDS:
            offset = self.high_watermark
        if not 0 <= offset <= self.high_watermark:
            raise OffsetOutOfRange.of(offset, self.topic, self.partition, self.log_start_offset, self.high_watermark)
        return max(offset, self.log_start_offset)

    def advance_log_start(self, offset: int) -> int:
        """Start the log later, also in the middle of a segment; return how many segments are out of it then. Their
        files are still there.

        The new start is on the disk when a snapshot is that covers what is before it, and then the `checkpoint`.
        """
        assert self.log_start_offset <= offset <= self.high_watermark
        self.log_start_offset = offset
        if offset > self._snapshots.covered_offset:
            self._snapshots.take(self._segments[-1])
        return self.retire()

    def retire(self) -> int:
        """Take out the sealed segments that the log start has left behind; return how many. Those that are about to be
        replaced stay, and go at retention's next turn: a seal must not speak of files that are being removed."""
        if self.is_taking_over:
            return 0
        gone = list(
            takewhile(
                lambda segment: segment.next_offset <= self.log_start_offset and self._is_done(segment),
                self._segments[:-1],
            )
        )
        if gone:
            self._retired += gone
            self._segments = self._segments[len(gone) :]
        return len(gone)

    def _is_done(self, segment: Segment) -> bool:
        """What a round may still sync stays, also where readers see it already."""
        return segment.seal is not None and segment.next_offset <= self._published_offset

    @property
    def is_start_stored(self) -> bool:
        return self.stored_start_offset >= self.log_start_offset

    @property
    def has_retired(self) -> bool:
        """Whether segments that the log start has left behind still have their files."""
        return bool(self._retired or self._leftovers)

    def remove_retired(self, synced_start_offset: int) -> Iterator[None]:
        """Remove what lies below the log start that the disk has, one segment a step. Sync thread."""
        while self._retired and self._retired[0].next_offset <= synced_start_offset:
            self._retired[0].remove_files()
            del self._retired[0]
            yield
        while self._leftovers:
            remove_file(self._handles.disk, self._leftovers[-1])
            self._leftovers.pop()  # afterwards: until then a pass must not use its name
            yield

    # Compaction.

    def roll_overdue(self, past: WallClockPast) -> None:
        """Close the active segment if a record in it has waited longer than max.compaction.lag.ms, and nobody appends
        what would close it. Without room for the next one's file it is left to the next time. StorageFailed."""
        active = self._segments[-1]
        is_idle = self._published_offset == self._end.offset and not active.is_empty
        if not is_idle or not self.config.is_compacted or self.holes or self._sync.failure is not None:
            return
        lag_ms_max = self.config.max_compaction_lag_ms
        is_overdue = self._ages.since_first_append_ms(active.base_offset) > lag_ms_max
        if active.first_append_ms >= past.ago(lag_ms_max) and not is_overdue:
            return
        try:
            successor = self._roll(active)
        except StorageFull:
            return
        except StorageFailed as error:
            self._sync.fail(error)
            raise
        self._end = self._end._replace(segment=successor, position=0, max_timestamp_ms=successor.max_timestamp_ms)
        self._sync.note_append(self, 0)  # the round that syncs its name seals the one before

    def compactable_seals(self, past: WallClockPast) -> tuple[Seal, ...]:
        """Of the segments that may be written anew, from the first one on.

        They are sealed, older than min.compaction.lag.ms where they were not compacted before, and what idempotent
        producers wrote in them is in the snapshot on the disk.
        """
        if self.holes or self._leftovers:  # which have the names of what a pass would write
            return ()
        lag_ms_min = self.config.min_compaction_lag_ms
        old_ms = past.ago(lag_ms_min)
        seals: list[Seal] = []
        for segment in self._segments[:-1]:
            is_old = (
                segment.last_append_ms <= old_ms
                or self._ages.since_last_append_ms(segment.next_offset) >= lag_ms_min
                or segment.next_offset <= self.compacted_offset
            )
            if segment.seal is None or not self._is_done(segment) or not is_old:
                break
            if segment.next_offset > self._snapshots.stored_offset:
                if not self._snapshots.is_waiting:
                    self._snapshots.take(self._segments[-1])  # for the next time
                self._sync.note_append(self, 0)  # a round stores it, also if nothing is appended any more
                break
            seals.append(segment.seal)
        return tuple(seals)

    def has_all_of(self, seal: Seal) -> bool:
        """Whether all the segments are there that the seal would replace, none of them retired meanwhile."""
        old = self._in_range(seal)
        return self.has_some_of(seal) and (old[0].base_offset, old[-1].next_offset) == (
            seal.base_offset,
            seal.next_offset,
        )

    def has_some_of(self, seal: Seal) -> bool:
        return bool(self._in_range(seal))

    def _in_range(self, seal: Seal) -> list[Segment]:
        return [segment for segment in self._segments if seal.base_offset <= segment.base_offset < seal.next_offset]

    def replace_segments(self, seal: Seal) -> list[Path]:
        """Put the segment of a seal that is on the disk in the place of those in its range; return the files that are
        of the log no more."""
        assert self.has_all_of(seal)
        old = self._in_range(seal)
        segment = Segment(
            self.directory,
            seal.base_offset,
            handles=self._handles,
            index_interval_bytes=self.config.index_interval_bytes,
            next_offset=seal.next_offset,
            end_position=seal.end_position,
            max_timestamp_ms=seal.max_timestamp_ms,
            first_append_ms=seal.first_append_ms,
            last_append_ms=seal.last_append_ms,
            seal=seal,
            has_file=True,
            generation=seal.generation,
        )
        number = self._segments.index(old[0])
        self._segments = (*self._segments[:number], segment, *self._segments[number + len(old) :])
        self._places = Places()  # of the old files
        replaced = [each.path for each in old]
        for each in old:
            assert each.seal is not None
            if each.seal.index_crc != seal.index_crc or each is not old[0]:
                replaced.append(files.sealed_index_path(self.directory, each.base_offset, each.seal.index_crc))
            if each is not old[0]:
                replaced.append(files.seal_path(self.directory, each.base_offset))
        return replaced

    def remove_replaced(self, paths: Sequence[Path]) -> Iterator[None]:
        """Remove files that compaction has replaced, one a step, and let go of them: as long as they are open or mapped
        their space is not free. Sync thread."""
        for path in paths:
            remove_file(self._handles.disk, path)
            self._handles.forget(path)
            self._handles.maps.forget(path)
            self._handles.arrays.forget(path)
            yield

    def expire_producers(self, before_ms: int) -> int:
        return self._producers.expire(before_ms)

    def mark_deleted(self) -> None:
        """The topic is deleted: nothing of this log is synced any more. Its files go with its directory."""
        self.is_deleted = True
        self._sync.forget(self, self._end.appended_bytes - self._published_bytes)
        self._published_bytes = self._end.appended_bytes

    def release_files(self) -> None:
        """Let go of the files of a discarded log. Sync thread, between rounds: one under way may still sync them."""
        for segment in self._segments:
            segment.unpin()
            self._handles.forget(segment.path)

    # What the synchronizer asks.

    def unsynced(self) -> Unsynced:
        end = self._end  # first the end, then the segments: so they cover it
        segments = tuple(self._unsynced)
        return Unsynced(self, segments, end, end.appended_bytes - self._published_bytes)

    def publish(self, unsynced: Unsynced) -> int:
        released = unsynced.end.appended_bytes - self._published_bytes
        if self.is_deleted or released < 0:
            return 0
        self._published_bytes = unsynced.end.appended_bytes
        self._published_offset = unsynced.end.offset
        if self._end is unsynced.end:
            keep: list[Segment] = []
        else:
            keep = [segment for segment in self._unsynced if segment.base_offset >= unsynced.end.segment.base_offset]
        for segment in self._unsynced:
            if segment not in keep:
                segment.unpin()
        self._unsynced = keep
        self._advance(unsynced.end.offset)
        return released

    def _advance(self, offset: int) -> None:
        if offset > self.high_watermark:
            self.high_watermark = offset
            if self.on_high_watermark is not None:
                self.on_high_watermark(self)

    def maintain(self, end: LogEnd) -> None:
        if self.is_deleted:
            return
        self._synced_end = end
        for segment in self._unsealed_before(end):
            segment.write_seal()
        stored = self._snapshots.store_rows(end)
        if stored is not None:
            index, rows = end.segment.index, stored
            self._sync.post(lambda: self._note_rows(index, rows))
        self.store_snapshot(end.offset)

    def prepare_clean_stop(self, end: LogEnd) -> tuple[Path, bytes]:
        """Put beside the log what the next start would have to read it for; the snapshot is for the caller to write.

        Owner thread, in the place of the sync thread, with all that is appended synced and maintained.
        """
        return self._snapshots.prepare_clean_stop(end, self._segments[-1])

    def store_snapshot(self, synced_offset: int) -> None:
        """Put the snapshot that waits for it on the disk, unless the log goes on behind what is synced. Sync thread."""
        stored = self._snapshots.store(synced_offset)
        if stored is not None:
            self._sync.post(lambda: self._note_snapshot(stored))

    def _note_snapshot(self, stored: PendingSnapshot) -> None:
        """Owner thread."""
        self._snapshots.forget(stored)
        self._take_due_snapshot()

    def _note_rows(self, index: ActiveIndex, stored: StoredRows) -> None:
        """Owner thread."""
        self._snapshots.note_rows(index, stored)
        self._take_due_snapshot()

    def _take_due_snapshot(self) -> None:
        if not self.is_deleted and self._snapshots.take_due(self._segments[-1]):
            self._sync.note_append(self, 0)  # a round stores it, also if nothing is appended any more

    def _unsealed_before(self, end: LogEnd) -> list[Segment]:
        """Rolled segments that are synced and not sealed, in order: the seals of a log are a prefix of its segments."""
        segments = self._segments
        number = len(segments)
        while number > 0 and segments[number - 1].seal is None:
            number -= 1
        return [segment for segment in segments[number:] if segment.base_offset < end.segment.base_offset]

    def checkpoint(self) -> PartitionCheckpoint:
        if self.holes and self._found_checkpoint is not None:
            return self._found_checkpoint  # what was known to be synced: a hole must not become a torn tail
        end = self._synced_end
        return PartitionCheckpoint(
            topic_id=self.topic_id,
            partition=self.partition,
            # Not before the snapshot on the disk covers what is left behind: a recovery reads the rest only.
            log_start_offset=min(self.log_start_offset, self._snapshots.stored_offset, end.offset),
            recovery_offset=end.offset,
            segment_base_offset=end.segment.base_offset,
            position=end.position,
            last_append_ms=end.last_append_ms,
            max_timestamp_ms=end.max_timestamp_ms,
        )


def _too_large(size: int, bytes_max: int) -> BatchTooLarge:
    return BatchTooLarge(
        f"the batch has {size} bytes, over max.message.bytes = {bytes_max}",
        remedy="Send smaller batches, or raise max.message.bytes of the topic.",
    )


def _reserved(header: BatchHeader) -> InvalidRecord:
    kind = (
        "is a control batch"
        if header.is_control
        else "is part of a transaction"
        if header.is_transactional
        else "was written by a log (append time or delete horizon)"
    )
    return InvalidRecord(
        f"the batch says that it {kind} (attributes {header.attributes:#06x})",
        remedy="Produce plain batches with the producer's own times: transactions do not exist here yet.",
    )


def _too_far_ahead(timestamp_ms: int, now_ms: int, after_ms_max: int) -> InvalidTimestamp:
    return InvalidTimestamp(
        f"the batch's largest timestamp {timestamp_ms} is {timestamp_ms - now_ms} ms after the server's clock, "
        f"over message.timestamp.after.max.ms = {after_ms_max}",
        remedy="Correct the clock or the time field (milliseconds since 1970), or raise that setting of the topic.",
    )


def _first_record(batch: bytes, header: BatchHeader, timestamp_ms: int, start_offset: int) -> TimestampedOffset | None:
    """The first record of the batch with that time or a later one; the batch's first if its producer damaged them."""
    try:
        records = decode_batch(batch)
    except (CorruptBatch, BatchTooLarge):
        return TimestampedOffset(max(header.base_offset, start_offset), header.max_timestamp_ms)
    for record in records:
        if record.timestamp_ms >= timestamp_ms and record.offset >= start_offset:
            return TimestampedOffset(record.offset, record.timestamp_ms)
    return None
