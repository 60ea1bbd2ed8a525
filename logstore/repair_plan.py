"""What a repair of one partition would do: which segments to cut into pieces, what is lost by it, what to make anew.

    before   [ batch batch DAMAGE batch batch ]  [ batch batch ]                 sealed, sealed
    after    [ batch batch ] hole [ batch batch ] [ batch batch ]                each a segment of its own

A segment with a hole in it becomes one segment for each stretch of sound batches, so that within a segment offsets
follow each other as they always do. The hole lies between the last batch of a piece and the offset that its seal names
as the next: see `losses`. A log file that is missing becomes an empty piece.
"""

from dataclasses import dataclass, field, replace
from typing import NamedTuple

from logstore.files import seal_path
from logstore.findings import Finding, Kind
from logstore.partition_files import MissingSegments, PartitionFiles
from logstore.verification import SegmentReport, SegmentToVerify, Stretch


class VerifiedPartition(NamedTuple):
    files: PartitionFiles
    reports: dict[int, SegmentReport]  # by base offset


class Hole(NamedTuple):
    """Behind the last batch of a piece: bytes that are no batch, and the offsets that had to be there, if any."""

    offset: int
    next_offset: int
    position: int
    end_position: int
    why: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A segment as it is to be: the bytes [position, end_position) of a log file that is there, or none."""

    base_offset: int
    content: Stretch | None  # its batches
    end_position: int  # a torn tail goes with the batches
    next_offset: int | None  # what its seal is to say; None for the piece that is appended to
    hole: Hole | None = None

    @property
    def position(self) -> int:
        return self.content.position if self.content is not None else self.end_position

    @property
    def content_offset(self) -> int:
        """Where its batches end."""
        return self.content.next_offset if self.content is not None else self.base_offset

    @property
    def max_timestamp_ms(self) -> int:
        return self.content.max_timestamp_ms if self.content is not None else -1


class LogEnd(NamedTuple):
    """Where the log ends after the repair, as a checkpoint says it."""

    segment_base_offset: int
    position: int
    offset: int
    max_timestamp_ms: int


@dataclass(slots=True)
class PartitionPlan:
    files: PartitionFiles
    reports: dict[int, SegmentReport]
    end: LogEnd
    #: By the base offset of a damaged segment, or of one that is missing, in order: its pieces.
    pieces: dict[int, list[Piece]] = field(default_factory=dict)
    resealed: list[SegmentToVerify] = field(default_factory=list)  # whose seal or index is made anew
    makes_snapshot: bool = False
    obstacles: list[Finding] = field(default_factory=list)  # of which only a person can say what to do

    @property
    def holes(self) -> list[Hole]:
        """What is cut out of the log."""
        return [piece.hole for pieces in self.pieces.values() for piece in pieces if piece.hole is not None]

    @property
    def lost(self) -> list[Hole]:
        """Those of them that records are lost with."""
        return [hole for hole in self.holes if hole.offset < hole.next_offset]

    @property
    def patched(self) -> list[SegmentToVerify]:
        """Segments with headers to put right."""
        return [segment for segment in self.files.segments if self.reports[segment.base_offset].patches]

    @property
    def is_empty(self) -> bool:
        return not (self.pieces or self.resealed or self.patched or self.makes_snapshot)


def plan_partition(verified: VerifiedPartition) -> PartitionPlan:
    """Decide. Nothing is done to a partition with obstacles."""
    files, reports = verified
    plan = PartitionPlan(files, reports, LogEnd(files.log_start_offset, 0, files.log_start_offset, -1))
    plan.obstacles += [finding for finding in files.findings if finding.kind is Kind.MISPLACED]
    plan.obstacles += [report.misplaced for report in reports.values() if report.misplaced is not None]
    plan.makes_snapshot = any(finding.kind is Kind.SNAPSHOT_WRONG for finding in files.findings)
    damaged_seals = {finding.path.name for finding in files.findings if finding.kind is Kind.SEAL_WRONG}
    for number, link in enumerate(files.chain):
        if isinstance(link, MissingSegments):
            hole = Hole(link.offset, link.next_offset, 0, 0, "no file holds them")
            pieces = [Piece(link.offset, None, 0, link.next_offset, hole)]
            plan.pieces[link.offset] = pieces
            plan.end = _end_of(pieces[-1])
            continue
        report = reports[link.base_offset]
        if report.holes and report.holes[0].kind is Kind.FOREIGN_BYTES and report.holes[0].position == 0:
            plan.obstacles.append(report.holes[0])  # the first piece stays where it is, so it must begin there
        elif report.holes:
            pieces = _pieces(link, report, is_last=number == len(files.chain) - 1)
            plan.pieces[link.base_offset] = pieces
            plan.end = _end_of(pieces[-1])
        else:
            is_seal_damaged = seal_path(files.place.directory, link.base_offset).name in damaged_seals
            if report.index_is_wrong or report.seal_is_wrong or (is_seal_damaged and link.next_base_offset is not None):
                plan.resealed.append(link)
            plan.end = _end_of(whole_piece(link, report))
    plan.makes_snapshot |= bool(plan.pieces)  # else the next start would look for what is in a hole
    return plan


def whole_piece(segment: SegmentToVerify, report: SegmentReport) -> Piece:
    """A segment that stays as it is."""
    content = report.stretches[0] if report.stretches else None
    if segment.offset_end is None:
        return Piece(segment.base_offset, content, report.size_bytes, None)
    return Piece(segment.base_offset, content, 0 if content is None else content.end_position, segment.offset_end)


def _pieces(segment: SegmentToVerify, report: SegmentReport, *, is_last: bool) -> list[Piece]:
    contents: list[Stretch | None] = [*report.stretches]
    if not report.stretches or report.stretches[0].position > 0:
        contents.insert(0, None)
    ends = [content.base_offset for content in contents[1:] if content is not None]
    pieces = [_piece(segment, report, content, end) for content, end in zip(contents, [*ends, None], strict=True)]
    last = pieces[-1]
    if segment.offset_end is not None:
        pieces[-1] = replace(last, next_offset=segment.offset_end)
    elif last.hole is None and is_last:
        pieces[-1] = replace(last, end_position=report.size_bytes)  # it is appended to, as before
    return pieces


def _piece(segment: SegmentToVerify, report: SegmentReport, content: Stretch | None, end: int | None) -> Piece:
    """The piece with these batches. `end` is where the next one begins."""
    base = segment.base_offset if content is None or content.position == 0 else content.base_offset
    piece = Piece(base, content, 0 if content is None else content.end_position, end)
    behind = [
        hole
        for hole in report.holes
        if hole.offset is not None and piece.content_offset <= hole.offset and (end is None or hole.offset <= end)
    ]
    if not behind:
        return piece
    position = piece.end_position
    end_position = max(hole.end_position or 0 for hole in behind)
    next_offset = behind[-1].next_offset
    why = "; ".join(dict.fromkeys(hole.what for hole in behind))
    if next_offset is None:
        # A record takes a byte at least, so no offset that was handed out is handed out again.
        next_offset = piece.content_offset + end_position - position
        why += ", and nobody can tell how many there were"
    hole = Hole(piece.content_offset, next_offset, position, max(position, end_position), why)
    return replace(piece, next_offset=end or next_offset, hole=hole)


def _end_of(piece: Piece) -> LogEnd:
    if piece.next_offset is not None:
        return LogEnd(piece.next_offset, 0, piece.next_offset, -1)
    size = piece.content.end_position - piece.content.position if piece.content is not None else 0
    return LogEnd(piece.base_offset, size, piece.content_offset, piece.max_timestamp_ms)
