"""Where a consumer stands in each partition: what was handed out, what is done, what is committed.

    committed_offset  <=  done_offset  <=  position  <=  fetched
    the server has it     the application   the next to    the fetcher has it
                          is done before it hand out

A record is done when the application asks for the next one, or leaves without an exception; only then may it be
committed. While it iterates over a batch only the record handed out last is remembered; any thread may look, and takes
that one for not done.

A *hold* is one partition from when it was assigned until it is given up or lost. Assigned again, it is another hold, so
nothing of the first can be committed in the name of the second.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from logstore.batch import BatchHeader, Buffer, check_header, decode_codec_records, read_header
from logstore.errors import CorruptBatch
from tailrace.errors import CorruptMessage, TailraceError
from tailrace.records import Record, RecordBatch, damaged_batch


class PartitionKey(NamedTuple):
    """A partition for good: a topic made again has another id."""

    topic: str
    topic_id: bytes
    partition: int


class Hold:
    """One partition while this consumer holds it. Changed under the consumer's lock."""

    __slots__ = (
        "committed_offset",
        "done_offset",
        "end_offset",
        "ended",
        "first_offset",
        "key",
        "next_offset",
        "paused",
        "position_id",
        "valid",
    )

    def __init__(self, key: PartitionKey, offset: int, *, committed_offset: int, end_offset: int | None) -> None:
        self.key = key
        #: Lowest offset that was the position: below it nothing of this hold can be committed.
        self.first_offset = offset
        #: The first offset that is not in the application's hands.
        self.next_offset = offset
        self.done_offset = offset
        #: -1: nothing is committed.
        self.committed_offset = committed_offset
        #: Where to stop; None to go on for ever.
        self.end_offset = end_offset
        #: Tells data of this position from data that was on its way when the position changed.
        self.position_id = 0
        self.paused = False
        #: False when the partition is given up, lost, or on its way there: nothing more is handed out.
        self.valid = True
        #: True once it is given up or lost: nothing of it may be committed any more. The partition may be this
        #: consumer's again by then, elsewhere, and the server would take it.
        self.ended = False

    @property
    def at_end(self) -> bool:
        return self.end_offset is not None and self.next_offset >= self.end_offset


class FetchedBatches:
    """Whole batches of one partition as they came, taken batch by batch. Or an error in their place."""

    __slots__ = ("data", "error", "hold", "next_offset", "position", "position_id")

    def __init__(
        self, hold: Hold, position_id: int, data: Buffer, next_offset: int, error: TailraceError | None = None
    ) -> None:
        self.hold = hold
        self.position_id = position_id
        self.data = data
        self.next_offset = next_offset
        self.error = error
        self.position = 0

    @property
    def is_current(self) -> bool:
        """False when the partition was given up or moved elsewhere since."""
        return self.hold.valid and self.hold.position_id == self.position_id

    @property
    def is_empty(self) -> bool:
        return self.position >= len(self.data)

    def take(self) -> RecordBatch | None:
        """The next batch, from the hold's position on; None for one without records to hand out, which it has passed.

        Raises CorruptMessage. The CRC is checked when the batch is decoded.
        """
        hold = self.hold
        key = hold.key
        try:
            header = read_header(self.data, self.position)
            check_header(header, available=len(self.data) - self.position, expected_base_offset=None, gaps_allowed=True)
        except CorruptBatch as error:
            raise CorruptMessage(
                f"what came for offset {hold.next_offset} of {key.topic!r} partition {key.partition} is damaged: "
                f"{error}",
                remedy="Read again; if it stays, keep the server's files and read on from a later offset.",
            ) from None
        # A view of the answer it came in, which it keeps alive: at most one of the server's answers, of some MiB.
        view = memoryview(self.data)[self.position : self.position + header.size]
        if header.next_offset <= hold.next_offset:
            self.position += header.size
            return None
        try:
            offsets = _offsets(header, view)
        except CorruptBatch as error:
            raise damaged_batch(key.topic, key.partition, header.base_offset, header.next_offset, error) from None
        self.position += header.size
        skip = bisect_left(offsets, hold.next_offset) if hold.next_offset > header.base_offset else 0
        if header.is_control or skip == len(offsets):
            hold.next_offset = header.next_offset
            return None
        return RecordBatch(key.topic, key.partition, view, offsets[skip:], header.next_offset, skip)


def _offsets(header: BatchHeader, batch: Buffer) -> Sequence[int]:
    """Of each record; only where compaction has taken some out, it is the records that say it. Raises CorruptBatch."""
    if not header.has_gaps:
        return range(header.base_offset, header.next_offset)
    return [record.offset for record in decode_codec_records(batch)]


@dataclass(slots=True)
class Cursor:
    """The batch in the application's hands: as a whole, or record by record."""

    hold: Hold
    batch: RecordBatch
    position_id: int
    #: What is left of a batch that is handed out record by record; None for one handed out as a whole.
    records: Iterator[Record] | None = None
    #: The record handed out last.
    last: Record | None = None

    @property
    def is_current(self) -> bool:
        hold = self.hold
        return hold.valid and not hold.paused and hold.position_id == self.position_id

    def begin_records(self) -> Iterator[Record]:
        if self.records is None:
            self.records = iter(self.batch)
        return self.records

    @property
    def handed_offset(self) -> int:
        """Where reading goes on after the last record that was handed out."""
        if self.records is None:
            return self.batch.next_offset
        return self.batch.base_offset if self.last is None else self.offset_after(self.last)

    def offset_after(self, record: Record) -> int:
        """Where reading goes on after a record of the batch: after its last one, past a gap at its end, too."""
        return self.batch.next_offset if record.offset == self.batch.offsets[-1] else record.offset + 1

    @property
    def done_offset(self) -> int:
        """Before it all is done, while the application still holds what it was handed last."""
        return self.batch.base_offset if self.last is None else self.last.offset

    @property
    def is_exhausted(self) -> bool:
        return self.handed_offset >= self.batch.next_offset

    def begin_batch(self) -> RecordBatch:
        """What was not handed out record by record, as a batch."""
        if self.records is not None:
            self.batch = self.batch.after(self.handed_offset)
            self.records = self.last = None
        return self.batch
