"""Verification of one segment: every batch of its file, with its index and its seal, a bounded piece at a time.

    verification = SegmentVerification(disk, segment)
    while not verification.is_done:
        findings += verification.step(1024 * 1024)

The segment may be one of a stopped data directory, or a sealed one of a running log. Nothing of it changes. It is read
past the page cache, so that what is verified is what the disk holds. Findings are for people and programs; the report
is for whoever repairs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from logstore import files
from logstore.batch import BatchHeader
from logstore.config import INT64_MAX
from logstore.crosschecks import EpochCheck, IndexCheck, WrongEpoch, read_active_index, read_sealed_index
from logstore.disk import Disk, DiskFile
from logstore.findings import Finding, Kind
from logstore.index import IndexTail
from logstore.losses import Loss
from logstore.seal import Seal
from logstore.walk import Damage, Searching, SoundBatch, Walk, prefix_of


class CheckpointedEnd(NamedTuple):
    """What the checkpoint says of a segment: at this position this offset follows, and this is the largest time."""

    position: int
    offset: int
    max_timestamp_ms: int


@dataclass(frozen=True, slots=True)
class SegmentToVerify:
    """A segment, and what is known of it from elsewhere."""

    directory: Path
    base_offset: int
    topic: str
    partition: int
    seal: Seal | None = None
    generation: int = 0  # of its log file, as its seal says, or where that is lost, its name
    loss: Loss | None = None  # accepted, of the offsets behind its last batch
    next_base_offset: int | None = None  # of the segment behind it
    #: What is below one of these two was synced for sure, what is not may be a torn tail. None: nobody knows.
    synced_position: int | None = INT64_MAX
    synced_offset: int = 0
    checkpointed: CheckpointedEnd | None = None
    leader_epochs: tuple[tuple[int, int], ...] = ()  # (epoch, start_offset), known for the offsets below the next
    leader_epochs_end: int = 0
    leader_epoch_max: int = 2**31 - 1
    index_tail: IndexTail | None = None  # what the snapshot says of an index that is not sealed

    @classmethod
    def sealed(cls, directory: Path, seal: Seal, *, topic: str, partition: int) -> "SegmentToVerify":
        """One of a running log, which says everything in its seal."""
        return cls(directory, seal.base_offset, topic, partition, seal=seal, generation=seal.generation)

    @property
    def log_path(self) -> Path:
        return files.log_path(self.directory, self.base_offset, self.generation)

    @property
    def offset_end(self) -> int | None:
        """What has to follow behind it, if that is known."""
        return self.next_base_offset if self.seal is None else self.seal.next_offset

    @property
    def gaps_allowed(self) -> bool:
        return self.generation > 0  # compaction has written it

    def was_synced(self, position: int, offset: int) -> bool:
        """Whether it was once known that what stands there is on the disk."""
        return offset < self.synced_offset or (self.synced_position is not None and position < self.synced_position)


class Stretch(NamedTuple):
    """Batches that follow each other without damage."""

    position: int
    end_position: int
    base_offset: int
    next_offset: int
    max_timestamp_ms: int


@dataclass(slots=True)
class SegmentReport:
    """What a verification has seen of a segment."""

    base_offset: int
    size_bytes: int = 0
    batches_count: int = 0
    records_count: int = 0
    stretches: list[Stretch] = field(default_factory=list)
    patches: list[tuple[int, bytes]] = field(default_factory=list)  # (position, the bytes that have to be there)
    torn_position: int | None = None
    holes: list[Finding] = field(default_factory=list)  # bytes or offsets that no sound batch has, below the tail
    misplaced: Finding | None = None
    index_is_wrong: bool = False
    seal_is_wrong: bool = False

    @property
    def next_offset(self) -> int:
        return self.stretches[-1].next_offset if self.stretches else self.base_offset

    @property
    def max_timestamp_ms(self) -> int:
        return max((stretch.max_timestamp_ms for stretch in self.stretches), default=-1)


class SegmentVerification:
    def __init__(self, disk: Disk, segment: SegmentToVerify) -> None:
        """Raises FileNotFoundError if the log file is gone, as retention may have it."""
        self.position = 0
        self.is_done = False
        self._disk = disk
        self._segment = segment
        self._file, _ = disk.open_uncached(segment.log_path)
        self.report = SegmentReport(segment.base_offset, self._file.size())
        self.end_position = self.report.size_bytes
        if segment.seal is not None:
            self.end_position = min(self.end_position, segment.seal.end_position)
        self._found: list[Finding] = []
        self._expected: int | None = segment.base_offset  # None behind damage of which nobody knows how much it holds
        self._epochs = EpochCheck(segment.leader_epochs, segment.leader_epochs_end, segment.leader_epoch_max)
        self._index = self._read_index()
        self._steps = self._run(self._file)

    def step(self, bytes_max: int) -> list[Finding]:
        """Verify about so many bytes more, but at least one batch. Returns what was found."""
        target = self.position + bytes_max
        try:
            while self.position < target and not self.is_done:
                self.position = next(self._steps)
        except StopIteration:
            self.close()
        found, self._found = self._found, []
        return found

    def close(self) -> None:
        if not self.is_done:
            self.is_done = True
            self._file.close()

    def _read_index(self) -> IndexCheck:
        directory, base, seal = self._segment.directory, self._segment.base_offset, self._segment.seal
        if seal is None:
            cells, why = read_active_index(self._disk, directory, base, self._segment.index_tail)
        else:
            cells, why = read_sealed_index(self._disk, files.sealed_index_path(directory, base, seal.index_crc), seal)
        return IndexCheck(cells, base, why)

    def _run(self, file: DiskFile) -> Iterator[int]:
        walk = Walk(
            file,
            end=self.end_position,
            expected_offset=self._segment.base_offset,
            offset_end=self._segment.offset_end,
            gaps_allowed=self._segment.gaps_allowed,
            is_indexed=self._index.is_batch,
        )
        for item in walk:
            if isinstance(item, Searching):
                yield item.position
                continue
            if isinstance(item, SoundBatch):
                self._take(item.position, item.header)
            else:
                self._take_damage(item)
                if self.report.misplaced is not None or self.report.torn_position is not None:
                    break
            yield item.end_position
        if self.report.misplaced is None:
            self._check_end()
            self._check_seal()
        self._check_index()

    # Batches.

    def _take(self, position: int, header: BatchHeader) -> None:
        report = self.report
        self._expected = header.next_offset
        report.batches_count += 1
        report.records_count += header.records_count
        self._lengthen(position, header)
        self._index.check(position, header)
        if wrong := self._epochs.check(header):
            self._note_epoch(position, header, wrong)
        checkpointed = self._segment.checkpointed
        if checkpointed is not None and position + header.size == checkpointed.position:
            self._check_checkpoint(checkpointed)

    def _lengthen(self, position: int, header: BatchHeader) -> None:
        """Into the last stretch, if the batch carries it on."""
        stretches = self.report.stretches
        new = Stretch(position, position + header.size, header.base_offset, header.next_offset, header.max_timestamp_ms)
        if stretches and stretches[-1].end_position == position:
            last = stretches[-1]
            if self._segment.gaps_allowed or last.next_offset == header.base_offset:
                stretches[-1] = last._replace(
                    end_position=new.end_position,
                    next_offset=new.next_offset,
                    max_timestamp_ms=max(last.max_timestamp_ms, new.max_timestamp_ms),
                )
                return
        stretches.append(new)

    def _note_epoch(self, position: int, header: BatchHeader, wrong: WrongEpoch) -> None:
        if wrong.right is not None:
            self.report.patches.append((position, prefix_of(header._replace(leader_epoch=wrong.right))))
        self._add(
            Kind.EPOCH_WRONG if wrong.right is None else Kind.HEADER_DAMAGED,
            f"the batch is whole, but {wrong.why}",
            header.base_offset,
            header.next_offset,
            position,
            position + header.size,
        )

    def _check_checkpoint(self, checkpointed: CheckpointedEnd) -> None:
        found = CheckpointedEnd(checkpointed.position, self.report.next_offset, self.report.max_timestamp_ms)
        if found == checkpointed or self.report.holes:
            return
        self._add(
            Kind.CHECKPOINT_WRONG,
            f"the checkpoint says that at position {found.position} offset {checkpointed.offset} follows and the "
            f"largest time is {checkpointed.max_timestamp_ms}; it is offset {found.offset} and time "
            f"{found.max_timestamp_ms}",
            found.offset,
            position=found.position,
        )

    # Damage.

    def _take_damage(self, damage: Damage) -> None:
        if damage.mended is not None:
            self._mend(damage, damage.mended)
            return
        self._index.pass_damage(damage.end_position)
        if damage.position == damage.end_position and not self._is_missing_between(damage):
            self.report.misplaced = self._add(
                Kind.MISPLACED,
                f"{damage.why}, and what is behind carries on from there: these batches are of another place",
                damage.offset,
                position=damage.position,
            )
        elif damage.is_unreadable or self._segment.was_synced(damage.position, damage.offset):
            self._note_hole(damage.offset, damage.next_offset, damage.position, damage.end_position, damage.why)
        else:
            self._note_tail(damage)

    def _mend(self, damage: Damage, mended: BatchHeader) -> None:
        self.report.patches.append((damage.position, prefix_of(mended)))
        self._add(
            Kind.HEADER_DAMAGED,
            f"{damage.why}; the rest of the batch is whole",
            mended.base_offset,
            mended.next_offset,
            damage.position,
            damage.end_position,
        )
        self._take(damage.position, mended)

    def _is_missing_between(self, damage: Damage) -> bool:
        """Whether offsets are missing between two batches: neither is this the beginning, nor do offsets go back."""
        return damage.position > 0 and damage.next_offset is not None and damage.next_offset > damage.offset

    def _note_tail(self, damage: Damage) -> None:
        self.report.torn_position = damage.position
        if self._segment.synced_position is None:
            kind, why = Kind.TAIL_UNCERTAIN, "without a checkpoint nobody can tell whether they were acknowledged"
        else:
            kind, why = Kind.TORN_TAIL, "they were not acknowledged as durable"
        self._add(
            kind,
            f"the last {self.end_position - damage.position} bytes are no whole batches ({damage.why}); {why}",
            damage.offset,
            position=damage.position,
            end_position=self.end_position,
        )

    def _note_hole(self, offset: int, next_offset: int | None, position: int, end_position: int, why: str) -> None:
        if next_offset is None:
            next_offset = self._least_end(offset)
        kind = Kind.FOREIGN_BYTES if next_offset == offset else Kind.RECORDS_LOST
        finding = self._add(kind, why, offset, next_offset, position, end_position)
        self.report.holes.append(finding)
        self._expected = next_offset

    def _least_end(self, offset: int) -> int | None:
        """What at least has to follow behind damage that goes on to the end, which begins at offset."""
        if self._segment.offset_end is not None:
            return self._segment.offset_end
        return self._segment.synced_offset if self._segment.synced_offset > offset else None

    # The end, and what stands beside the file.

    def _check_end(self) -> None:
        """What follows behind the last batch, or should."""
        if self._expected is None or self.report.torn_position is not None:
            return
        segment, expected, at = self._segment, self._expected, self.end_position
        end = self._least_end(expected)
        if segment.offset_end is not None and expected > segment.offset_end:
            what = f"its batches go on to offset {expected}, and what is behind begins at {segment.offset_end}"
            self.report.misplaced = self._add(Kind.MISPLACED, what, segment.offset_end, expected, position=at)
            return
        loss = segment.loss if segment.loss is not None and segment.loss.next_offset == end else None
        stop = end if loss is None else loss.offset
        if stop is not None and expected < stop and self._segment.was_synced(at, expected):
            why = self._why_short(end)
            if why is not None:
                self._note_hole(expected, stop, at, at, why)
        if loss is not None:
            what = f"they were lost, and that was accepted: {loss.why}"
            self._add(Kind.LOSS_ACCEPTED, what, loss.offset, loss.next_offset, at, at)

    def _why_short(self, end: int | None) -> str | None:
        """Why there have to be more batches; None where compaction may have taken them out."""
        seal, size = self._segment.seal, self.report.size_bytes
        if seal is not None and size < seal.end_position:
            return f"the file has {size} bytes, and had {seal.end_position} when it was sealed"
        if self._segment.gaps_allowed and self._segment.offset_end is not None:
            return None  # and the last segment, which has none, was never compacted: behind it one is missing
        if seal is not None:
            return f"its batches end here, and offset {end} follows"
        if self._segment.next_base_offset is not None:
            return f"the file ends here, and the next segment begins at offset {end}"
        return f"the log ends here, and was synced up to offset {end}"

    def _check_seal(self) -> None:
        seal, report = self._segment.seal, self.report
        if seal is None:
            return
        if report.size_bytes > seal.end_position:
            count = report.size_bytes - seal.end_position
            what = f"{count} bytes are behind the end that its seal states, where nobody reads them"
            self._add(Kind.BYTES_BEHIND, what, position=seal.end_position, end_position=report.size_bytes)
        if not report.holes and report.max_timestamp_ms != seal.max_timestamp_ms:
            report.seal_is_wrong = True
            self._add(
                Kind.SEAL_WRONG,
                f"its seal says that the largest time is {seal.max_timestamp_ms}, and it is {report.max_timestamp_ms}",
            )

    def _check_index(self) -> None:
        if self.report.torn_position is not None or self.report.misplaced is not None:
            self._index.pass_damage(INT64_MAX)
        self._index.finish(self.end_position)
        if self._index.why is None:
            return
        # One that is not sealed is made again by the next start, and a power cut may leave it so.
        self.report.index_is_wrong = self._segment.seal is not None
        kind = Kind.INDEX_BEHIND if self._segment.seal is None else Kind.INDEX_WRONG
        self._add(kind, f"its index does not fit: {self._index.why}")

    def _add(
        self,
        kind: Kind,
        what: str,
        offset: int | None = None,
        next_offset: int | None = None,
        position: int | None = None,
        end_position: int | None = None,
    ) -> Finding:
        segment = self._segment
        finding = Finding(
            kind,
            what,
            segment.log_path,
            segment.topic,
            segment.partition,
            offset,
            next_offset,
            position,
            end_position,
        )
        self._found.append(finding)
        return finding
