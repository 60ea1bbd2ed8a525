"""What stands in a partition's directory: its segments as a chain, the places where one is missing, and the rest.

It is read by `chain`, as recovery has it read, and nothing is changed. The log files themselves are not opened: that is
what `verification` does, one by one, with what is known of each from here.
"""

from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from logstore import files
from logstore.chain import Chain
from logstore.checkpoint import PartitionCheckpoint
from logstore.config import INT64_MAX
from logstore.disk import Disk
from logstore.findings import Finding, Kind
from logstore.index import IndexTail
from logstore.snapshot import read_snapshot
from logstore.verification import CheckpointedEnd, SegmentToVerify


@dataclass(frozen=True, slots=True)
class Place:
    """Which partition, and what the data directory knows of it."""

    directory: Path
    topic: str
    topic_id: UUID
    partition: int
    row: PartitionCheckpoint | None
    checkpoint_is_lost: bool
    leader_epoch_max: int


@dataclass(frozen=True, slots=True)
class MissingSegments:
    """No file has the offsets [offset, next_offset)."""

    offset: int
    next_offset: int
    #: What a repair that was cut short has put there for them.
    ready: Path | None = None


@dataclass(slots=True)
class PartitionFiles:
    place: Place
    names: list[str]
    snapshot_offset: int
    leader_epochs: tuple[tuple[int, int], ...]  # below the snapshot's offset
    index_tail: IndexTail | None
    log_start_offset: int
    synced_offset: int
    chain: list[SegmentToVerify | MissingSegments] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    def add(
        self, kind: Kind, what: str, name: str = "", offset: int | None = None, next_offset: int | None = None
    ) -> None:
        place = self.place
        path = place.directory / name
        self.findings.append(Finding(kind, what, path, place.topic, place.partition, offset, next_offset))

    @property
    def segments(self) -> list[SegmentToVerify]:
        return [link for link in self.chain if isinstance(link, SegmentToVerify)]


def read_partition(disk: Disk, place: Place) -> PartitionFiles:
    """Raises `FormatTooNew` for files of a later version, and FileNotFoundError without the directory."""
    notes: list[str] = []
    snapshot = read_snapshot(
        place.directory,
        disk,
        place.topic_id,
        place.partition,
        producers_max=INT64_MAX,
        notes=notes,
    )
    row = place.row
    found = PartitionFiles(
        place,
        disk.list_dir(place.directory),
        snapshot.next_offset,
        snapshot.epochs.entries,
        snapshot.tail,
        log_start_offset=row.log_start_offset if row else 0,
        synced_offset=max(snapshot.next_offset, row.recovery_offset if row else 0),
    )
    for note in notes:
        found.add(Kind.SNAPSHOT_WRONG, note, files.SNAPSHOT)
    _Listing(disk, found).follow()
    return found


class _Listing:
    def __init__(self, disk: Disk, found: PartitionFiles) -> None:
        self._found = found
        self._place = found.place
        self._chain = Chain(disk, found.place.directory, found.names, found.log_start_offset)
        row = found.place.row
        # (base offset, position) below which everything is known to have been synced.
        self._recovery_point = (row.segment_base_offset, row.position) if row else (0, 0)

    def follow(self) -> None:
        found = self._found
        self._note_unreadable()
        bases = self._chain.bases
        if self._place.checkpoint_is_lost:
            found.log_start_offset = bases[0] if bases else found.snapshot_offset
        expected: int | None = found.log_start_offset
        if bases and bases[0] < found.log_start_offset:
            expected = bases[0]  # the log may start in the middle of a segment
        for number, base in enumerate(bases):
            if expected is not None and base < expected:
                what = f"the segment begins at offset {base}, and the one before it goes on to {expected}"
                found.add(Kind.MISPLACED, what, self._log_name(base), base, expected)
                continue
            if expected is not None and base > expected:
                if expected >= found.synced_offset and self._is_tail(bases[number:]):
                    self._note_never_joined(bases[number:], expected)
                    break
                self._miss(expected, base, "no file holds them")
            expected = self._take(number)
        if expected is not None and expected < found.synced_offset:
            self._miss(expected, found.synced_offset, "the log was synced further, and no file holds them")
        self._note_others()

    def _take(self, number: int) -> int | None:
        """Put the segment into the chain; return what has to follow, None if only its file can tell."""
        base, later = self._chain.bases[number], self._chain.bases[number + 1 :]
        missing_end = self._chain.missing_end(number)
        if missing_end is not None:
            self._miss(base, missing_end, "the log file is missing, and its seal is there")
            return missing_end
        self._found.chain.append(self._segment(base, later))
        seal = self._chain.seals.get(base)
        if seal is not None:
            return seal.next_offset
        return later[0] if later else None

    def _is_tail(self, bases: list[int]) -> bool:
        """Whether none of these segments was ever known to be synced."""
        return not self._place.checkpoint_is_lost and self._chain.is_tail(bases, self._recovery_point[0])

    def _segment(self, base: int, later: list[int]) -> SegmentToVerify:
        found, place = self._found, self._place
        seal = self._chain.seals.get(base)
        at_recovery_point = place.row is not None and seal is None and base == self._recovery_point[0]
        synced_position: int | None = 0
        if seal is not None or base < self._recovery_point[0] or (later and not self._is_tail(later)):
            synced_position = INT64_MAX
        elif place.checkpoint_is_lost:
            synced_position = None
        elif at_recovery_point:
            synced_position = self._recovery_point[1]
        checkpointed = None
        if place.row is not None and at_recovery_point and place.row.position > 0:
            checkpointed = CheckpointedEnd(place.row.position, place.row.recovery_offset, place.row.max_timestamp_ms)
        return SegmentToVerify(
            place.directory,
            base,
            place.topic,
            place.partition,
            seal=seal,
            generation=self._chain.generations[base],
            loss=self._chain.losses.get(base),
            next_base_offset=later[0] if later else None,
            synced_position=synced_position,
            synced_offset=found.synced_offset,
            checkpointed=checkpointed,
            leader_epochs=found.leader_epochs,
            leader_epochs_end=found.snapshot_offset,
            leader_epoch_max=place.leader_epoch_max,
            index_tail=found.index_tail,
        )

    def _miss(self, offset: int, next_offset: int, why: str) -> None:
        found = self._found
        ready = self._prepared(offset)
        if ready is None:
            found.chain.append(MissingSegments(offset, next_offset))
            name = files.log_path(self._place.directory, offset).name
            found.add(Kind.RECORDS_LOST, why, name, offset, next_offset)
        else:
            found.chain.append(MissingSegments(offset, next_offset, self._place.directory / ready))
            found.add(Kind.REPAIR_UNFINISHED, "a repair was cut short", ready, offset, next_offset)

    def _prepared(self, offset: int) -> str | None:
        """The log file that a repair has written for that place, without having come to give it its name."""
        for name in self._found.names:
            parsed = files.parse_segment_file(files.prepared_name(name) or "")
            if parsed is not None and (parsed.base_offset, parsed.suffix) == (offset, files.LOG_SUFFIX):
                return name
        return None

    # Findings.

    def _log_name(self, base: int) -> str:
        return self._chain.log_path(base).name

    def _note_unreadable(self) -> None:
        for name, suffix, why in self._chain.unreadable:
            self._found.add(Kind.SEAL_WRONG if suffix == files.SEAL_SUFFIX else Kind.LOSS_WRONG, why, name)

    def _note_never_joined(self, bases: list[int], expected: int) -> None:
        for base in bases:
            what = f"the segment begins at offset {base}, and {expected} is next; it was not acknowledged as durable"
            self._found.add(Kind.TORN_TAIL, what, self._log_name(base), expected)

    def _note_others(self) -> None:
        """Whatever is no part of the chain and was not told yet."""
        found, shown = self._found, self._chain
        for base in shown.retired:
            found.add(Kind.LEFTOVER, "it lies below the start of the log", self._log_name(base))
        for base, taker in shown.taken_in.items():
            found.add(Kind.LEFTOVER, f"the segment at offset {taker} has taken its place", self._log_name(base))
        for name, parsed in shown.superseded():
            is_log = parsed.suffix == files.LOG_SUFFIX
            why = "compaction has written the segment anew" if is_log else "it is not the index that its seal names"
            found.add(Kind.LEFTOVER, why, name)
        for name in found.names:
            if files.parse_segment_file(name) is not None:
                continue
            if files.is_discarded(name):
                found.add(Kind.SET_ASIDE, "bytes that a recovery or a repair took out of the log", name)
            elif files.prepared_name(name) is not None:
                found.add(Kind.LEFTOVER, "it was being written when the power or the process went", name)
            elif name != files.SNAPSHOT:
                found.add(Kind.STRANGER, "it is no file of ours", name)
