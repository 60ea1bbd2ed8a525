"""Repair of a stopped data directory: what a plan says is done, such that it can be cut short anywhere and done again.

1. Every file that is read from is synced, headers are put right in place, and the damaged bytes are copied aside.
2. All pieces but the first of each segment are written under a name that they have not got yet, their indexes, seals
   and losses under their own: none of it means anything as long as the damaged segment reaches over them.
3. The snapshot of the partition covers the log up to its end, and the checkpoint says where that is.
4. The first piece gets its seal. Before that there was a damaged segment, from then on there are pieces.
5. The other pieces get their names, and what is behind the first one is cut off.

A crash behind the fourth step leaves pieces without their names. Then the log has a gap exactly where they belong, and
`finish` gives them their names. No byte is removed that is not kept aside or stands in a piece.
"""

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path

from logstore import files
from logstore.batch import BatchHeader
from logstore.checkpoint import Checkpoint, PartitionCheckpoint
from logstore.config import INT64_MAX, TopicConfig
from logstore.crosschecks import read_active_index
from logstore.data_directory import CHECKPOINT
from logstore.disk import Cells, Disk
from logstore.index import COLUMNS, IndexBuilder, RowTable, read_rows, rows_crc
from logstore.losses import Loss, write_loss
from logstore.partition_files import MissingSegments, PartitionFiles
from logstore.repair_plan import PartitionPlan, Piece, whole_piece
from logstore.scan import check_batches
from logstore.seal import Seal
from logstore.snapshot import encode_snapshot, read_snapshot
from logstore.stopped import StoppedDirectory
from logstore.verification import SegmentToVerify
from logstore.walk import Window

COPY_BYTES = 1024 * 1024


def finish(directory: StoppedDirectory, found: PartitionFiles) -> bool:
    """Give the pieces of a repair that was cut short their names. Returns whether there were any: then read it anew."""
    disk = directory.disk
    ready = [link.ready for link in found.chain if isinstance(link, MissingSegments) and link.ready is not None]
    if ready:
        directory.take()
    for path in ready:
        name = files.prepared_name(path.name)
        assert name is not None
        disk.rename(path, path.with_name(name))
    if ready:
        disk.sync_dir(found.place.directory)
    return bool(ready)


def repair(directory: StoppedDirectory, plans: Sequence[PartitionPlan], *, now_ms: int) -> None:
    """Do what the plans say. Without a checkpoint they must be those of all partitions, and then it is made anew.

    Raises `DataDirectoryLocked` before anything is done, `StorageFull` and `StorageFailed`: what was done until then is
    right, and the rest can be done again.
    """
    assert not any(plan.obstacles for plan in plans)
    directory.take()
    disk = directory.disk
    repairs = [_PartitionRepair(disk, plan, _config(directory, plan), now_ms) for plan in plans]
    for each in repairs:
        each.prepare()
    path = directory.path / CHECKPOINT
    if directory.checkpoint is None:
        Checkpoint.recreate(path, disk, [each.row() for each in repairs])
    elif changed := [each.row() for each in repairs if each.plan.pieces]:
        checkpoint = Checkpoint.load(path, disk)
        checkpoint.update(changed)
        checkpoint.write(both=True)
        checkpoint.close()
    for each in repairs:
        each.commit()


class _PartitionRepair:
    def __init__(self, disk: Disk, plan: PartitionPlan, config: TopicConfig, now_ms: int) -> None:
        self.plan = plan
        self._disk = disk
        self._directory = plan.files.place.directory
        self._interval_bytes = config.index_interval_bytes
        self._now_ms = now_ms
        self._segments = {segment.base_offset: segment for segment in plan.files.segments}
        self._names = list(plan.files.names)
        self._first_seals: dict[int, Seal] = {}

    def row(self) -> PartitionCheckpoint:
        place, end = self.plan.files.place, self.plan.end
        return PartitionCheckpoint(
            place.topic_id,
            place.partition,
            log_start_offset=self.plan.files.log_start_offset,
            recovery_offset=end.offset,
            segment_base_offset=end.segment_base_offset,
            position=end.position,
            last_append_ms=self._last_append_ms(),
            max_timestamp_ms=end.max_timestamp_ms,
        )

    def prepare(self) -> None:
        for segment in self._segments.values():
            self._put_right(segment)
        for base, pieces in self.plan.pieces.items():
            self._prepare(self._segments.get(base), pieces)
        if self.plan.makes_snapshot:
            self._write_snapshot()

    def commit(self) -> None:
        for base, pieces in self.plan.pieces.items():
            self._commit(self._segments.get(base), pieces)
        for segment in self.plan.resealed:
            piece = whole_piece(segment, self.plan.reports[segment.base_offset])
            seal = self._seal(segment, piece)
            self._disk.replace_file(files.seal_path(self._directory, segment.base_offset), seal.encode())
            self._remove_old_indexes(segment, seal)

    # What is read from is on the disk, and right.

    def _put_right(self, segment: SegmentToVerify) -> None:
        patches = self.plan.reports[segment.base_offset].patches
        if segment.seal is not None and not patches:
            return
        file = self._disk.open(segment.log_path, writable=True)
        try:
            for position, data in patches:
                file.pwritev((data,), position)
            file.sync()
        finally:
            file.close()

    # Pieces.

    def _prepare(self, segment: SegmentToVerify | None, pieces: Sequence[Piece]) -> None:
        for number, piece in reversed(list(enumerate(pieces))):  # the last may take over what the first one notes
            self._note_loss(segment, piece)
            if number > 0:
                assert segment is not None
                path = files.prepared_path(self._path_of(segment, piece))
                self._disk.remove(path)  # left by a repair that was cut short
                self._copy(segment.log_path, piece.position, piece.end_position, path)
            if piece.next_offset is None:
                assert segment is not None
                path = files.active_index_path(self._directory, piece.base_offset)
                self._disk.write_array(path, self._rows(segment, piece).cells, columns=COLUMNS)
                continue
            seal = self._seal(segment, piece)
            if number > 0:
                self._disk.replace_file(files.seal_path(self._directory, piece.base_offset), seal.encode())
            else:
                self._first_seals[piece.base_offset] = seal
        self._disk.sync_dir(self._directory)

    def _note_loss(self, segment: SegmentToVerify | None, piece: Piece) -> None:
        """Keep the damaged bytes behind the piece, and note what is lost there."""
        hole = piece.hole
        kept_as = None
        if segment is not None and hole is not None and hole.position < hole.end_position:
            kept = files.discarded_path(segment.log_path, self._names)
            self._names.append(kept.name)
            self._copy(segment.log_path, hole.position, hole.end_position, kept)
            kept_as = kept.name
        if piece.next_offset is None or piece.content_offset == piece.next_offset:
            return
        loss = segment.loss if segment is not None else None
        if hole is not None:
            loss = Loss(piece.content_offset, piece.next_offset, hole.why, self._now_ms, kept_as)
        if loss is not None:
            write_loss(self._disk, self._directory, piece.base_offset, loss)

    def _commit(self, segment: SegmentToVerify | None, pieces: Sequence[Piece]) -> None:
        first = pieces[0]
        if segment is None:
            self._make_empty(files.log_path(self._directory, first.base_offset))
        seal = self._first_seals[first.base_offset]
        self._disk.replace_file(files.seal_path(self._directory, first.base_offset), seal.encode())
        if segment is None:
            return
        for piece in pieces[1:]:
            path = self._path_of(segment, piece)
            self._disk.rename(files.prepared_path(path), path)
        self._disk.sync_dir(self._directory)
        file = self._disk.open(segment.log_path, writable=True)
        try:
            file.truncate(first.end_position)
            file.sync()
        finally:
            file.close()
        self._remove_old_indexes(segment, seal)

    def _make_empty(self, path: Path) -> None:
        """Make the log file of a segment that is missing. What compaction has written anew may still be there as it was
        before, which is another file than the seal names: it is set aside, and so is what a repair left that was cut
        short."""
        if path.name in self._names:
            kept = files.discarded_path(path, self._names)
            self._names.append(kept.name)
            self._disk.rename(path, kept)
        self._disk.create(path).close()
        self._disk.sync_dir(self._directory)

    def _path_of(self, segment: SegmentToVerify, piece: Piece) -> Path:
        return files.log_path(self._directory, piece.base_offset, segment.generation)

    def _copy(self, source: Path, start: int, end: int, target: Path) -> None:
        """Into a new file, synced. What the disk cannot read is zeros in there."""
        old, new = self._disk.open(source), self._disk.create(target)
        try:
            window = Window(old, end)
            for position in range(start, end, COPY_BYTES):
                new.pwritev((window.read(position, min(COPY_BYTES, end - position)),), position - start)
            new.sync()
        finally:
            new.close()
            old.close()

    # Indexes and seals.

    def _seal(self, segment: SegmentToVerify | None, piece: Piece) -> Seal:
        """The seal of a piece, whose index is on the disk when this returns."""
        assert piece.next_offset is not None
        table = self._rows(segment, piece) if segment is not None else RowTable(array("q"))
        crc = rows_crc(table.cells)
        path = files.sealed_index_path(self._directory, piece.base_offset, crc)
        self._disk.write_array(path, table.cells, columns=COLUMNS)
        old = segment.seal if segment is not None else None
        last_append_ms = self._append_times(segment).at(piece.content_offset) if segment else self._last_append_ms()
        return Seal(
            base_offset=piece.base_offset,
            next_offset=piece.next_offset,
            end_position=piece.end_position - piece.position,
            max_timestamp_ms=piece.max_timestamp_ms,
            first_append_ms=table[0].append_time_ms if table.count else last_append_ms,
            last_append_ms=last_append_ms,
            index_rows_count=table.count,
            index_crc=crc,
            compacted_offset=-1 if old is None else min(old.compacted_offset, piece.next_offset),
            generation=0 if segment is None else segment.generation,
        )

    def _rows(self, segment: SegmentToVerify, piece: Piece) -> RowTable:
        times = self._append_times(segment)
        builder = IndexBuilder(self._interval_bytes)
        cells: Cells = array("q")
        newest_ms = -1
        for position, header in self._batches(segment, piece):
            newest_ms = max(newest_ms, header.max_timestamp_ms)
            if builder.is_due(header.size):
                cells.extend(
                    (
                        header.next_offset - piece.base_offset,
                        position - piece.position,
                        newest_ms,
                        times.at(header.last_offset),
                    )
                )
        return RowTable(cells)

    def _append_times(self, segment: SegmentToVerify) -> "_AppendTimes":
        seal = segment.seal
        if seal is None:
            cells, _ = read_active_index(self._disk, self._directory, segment.base_offset, segment.index_tail)
            return _AppendTimes(RowTable(cells), segment.base_offset, self._last_append_ms())
        cells, _ = read_rows(self._disk, files.sealed_index_path(self._directory, segment.base_offset, seal.index_crc))
        if rows_crc(cells) != seal.index_crc:
            cells = array("q")
        return _AppendTimes(RowTable(cells), segment.base_offset, seal.last_append_ms)

    def _last_append_ms(self) -> int:
        """Of the whole log. Where nobody knows, now: then nothing is kept shorter than it should be."""
        row = self.plan.files.place.row
        is_known = row is not None and row.recovery_offset >= self.plan.end.offset
        return row.last_append_ms if row is not None and is_known else self._now_ms

    def _remove_old_indexes(self, segment: SegmentToVerify, seal: Seal) -> None:
        self._disk.remove_tree(files.active_index_path(self._directory, segment.base_offset))
        if segment.seal is not None and segment.seal.index_crc != seal.index_crc:
            path = files.sealed_index_path(self._directory, segment.base_offset, segment.seal.index_crc)
            self._disk.remove_tree(path)

    # The snapshot.

    def _write_snapshot(self) -> None:
        """One that covers the log to its end."""
        place = self.plan.files.place
        snapshot = read_snapshot(
            self._directory, self._disk, place.topic_id, place.partition, producers_max=INT64_MAX, notes=[]
        )
        covered = snapshot.next_offset
        for base, segment in self._segments.items():
            whole = whole_piece(segment, self.plan.reports[base])
            for piece in self.plan.pieces.get(base, [whole]):
                if piece.content_offset <= covered:
                    continue
                for _, header in self._batches(segment, piece):
                    if header.next_offset > covered:
                        snapshot.epochs.assign(header.leader_epoch, header.base_offset)
                        snapshot.producers.record(header, header.base_offset, self._now_ms)
        snapshot.producers.next_offset = self.plan.end.offset
        self._disk.replace_file(
            self._directory / files.SNAPSHOT, encode_snapshot(snapshot, place.topic_id, place.partition)
        )

    def _batches(self, segment: SegmentToVerify, piece: Piece) -> Iterator[tuple[int, BatchHeader]]:
        """(position in the segment's file, header) of the batches of a piece, which were verified before."""
        if piece.content is None:
            return
        file = self._disk.open(segment.log_path)
        try:
            yield from check_batches(
                file.pread,
                piece.content.position,
                piece.content.end_position,
                piece.base_offset,
                gaps_allowed=segment.gaps_allowed,
            )
        finally:
            file.close()


class _AppendTimes:
    """When records were appended, as far as an index knows, and then the last time there was."""

    def __init__(self, table: RowTable, base_offset: int, last_ms: int) -> None:
        self._table = table
        self._base_offset = base_offset
        self._last_ms = last_ms

    def at(self, offset: int) -> int:
        """Not before the record at offset was."""
        row = self._table.covering(offset - self._base_offset)
        return self._last_ms if row is None else row.append_time_ms


def _config(directory: StoppedDirectory, plan: PartitionPlan) -> TopicConfig:
    """Of the topic; the defaults where its document is lost."""
    topic_id = plan.files.place.topic_id
    topic = next(found.topic for found in directory.topics if found.topic_id == topic_id)
    return topic.config if topic is not None else TopicConfig()
