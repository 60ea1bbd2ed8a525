"""What one partition remembers of idempotent producers, so that a batch sent twice is written once (KIP-98).

A producer numbers its records in each partition: 0, 1, 2 ... 2**31 - 1, 0 ... Every batch carries the producer's id,
its epoch and the sequence of its first record. The last five batches are remembered with their offsets, since a
producer keeps at most five on the way:

    is one of the last five                 Duplicate: the answer it got the first time
    lies wholly before them                 DuplicateSequence: written, and the offset is forgotten
    begins where the last one ended         in order
    anything else                           OutOfOrderSequence: a batch before it is missing
    has an older epoch                      InvalidProducerEpoch: the producer was replaced
    has a newer epoch                       in order if it begins at 0, else OutOfOrderSequence
    is of nobody that is remembered         in order if it begins at 0, else UnknownProducerId

The last line differs from today's Kafka, which takes any sequence from a producer it does not know: then a second batch
that overtakes a lost first one is written, and the first can never be. So Kafka's earlier answer is given.

State is forgotten only by `expire`, and beyond a number of producers; never by retention, and never by a restart. The
log is the truth: a snapshot holds up to its next_offset, and the batches from there on are recorded again.
"""

from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple

from logstore.errors import (
    DuplicateSequence,
    InvalidProducerEpoch,
    InvalidRecord,
    OutOfOrderSequence,
    UnknownProducerId,
)
from logstore.header import SEQUENCE_MASK, BatchHeader

BATCHES_REMEMBERED = 5


class Duplicate(NamedTuple):
    """Where the batch was written when it came the first time."""

    base_offset: int
    last_offset: int


class SequencedBatch(NamedTuple):
    base_sequence: int
    base_offset: int
    last_offset_delta: int

    @property
    def last_sequence(self) -> int:
        return (self.base_sequence + self.last_offset_delta) & SEQUENCE_MASK


@dataclass(slots=True)
class ProducerState:
    epoch: int
    last_append_ms: int
    records_count: int = 0  # of this epoch, as far as it is known: so many sequences up to the last one were written
    batches: list[SequencedBatch] = field(default_factory=list)  # the last five, never empty once one is recorded

    @property
    def next_sequence(self) -> int:
        return (self.batches[-1].last_sequence + 1) & SEQUENCE_MASK

    def find(self, header: BatchHeader) -> Duplicate | None:
        for base_sequence, base_offset, last_offset_delta in reversed(self.batches):
            if base_sequence == header.base_sequence and last_offset_delta == header.last_offset_delta:
                return Duplicate(base_offset, base_offset + last_offset_delta)
        return None

    def was_written(self, header: BatchHeader) -> bool:
        """Whether every record of the batch has a sequence that was written in this epoch."""
        last_sequence = self.batches[-1].last_sequence
        behind = (last_sequence - header.base_sequence) & SEQUENCE_MASK
        return header.last_offset_delta <= behind < self.records_count

    def record(self, header: BatchHeader, base_offset: int, now_ms: int) -> None:
        self.last_append_ms = now_ms
        # Sequences begin again after 2**31, so no more of them can be told apart, and half as many not from the next.
        self.records_count = min(self.records_count + header.records_count, SEQUENCE_MASK // 2)
        self.batches.append(SequencedBatch(header.base_sequence, base_offset, header.last_offset_delta))
        del self.batches[:-BATCHES_REMEMBERED]


class ProducerStates:
    """The producers of one partition. `next_offset` is how far the log is recorded here."""

    def __init__(self, *, producers_max: int, next_offset: int = 0) -> None:
        assert producers_max > 0
        self.next_offset = next_offset
        self._producers_max = producers_max
        self._states: dict[int, ProducerState] = {}  # the one that was silent for longest first

    def __len__(self) -> int:
        return len(self._states)

    def check(self, header: BatchHeader) -> Duplicate | None:
        """Say whether the batch may be appended (None) or was (`Duplicate`), or raise why it may not be.

        Raises `OutOfOrderSequence`, `DuplicateSequence`, `InvalidProducerEpoch`, `UnknownProducerId`, and
        `InvalidRecord` for an id without an epoch or a sequence. Changes nothing.
        """
        if header.producer_id == -1:
            return None
        if header.producer_id < 0 or header.producer_epoch < 0 or header.base_sequence < 0:
            raise InvalidRecord(
                f"producer id {header.producer_id}, epoch {header.producer_epoch} and sequence {header.base_sequence} "
                "do not make an idempotent producer: none of the three may be negative",
                remedy="Ask the server for a producer id, or send all three as -1.",
            )
        state = self._states.get(header.producer_id)
        if state is None:
            self._check_unknown(header)
            return None
        if header.producer_epoch != state.epoch:
            self._check_other_epoch(header, state)
            return None
        if duplicate := state.find(header):
            return duplicate
        if header.base_sequence == state.next_sequence:
            return None
        if state.was_written(header):
            raise DuplicateSequence(
                f"producer {header.producer_id} has written sequence {header.base_sequence} already, and "
                f"{state.next_sequence} is next; the offset it got is no longer known",
                remedy="Take the batch as written.",
            )
        raise OutOfOrderSequence(
            f"producer {header.producer_id} sent sequence {header.base_sequence} "
            f"where {state.next_sequence} must follow",
            remedy="Send the missing batches first, or go on with a new producer epoch, beginning at sequence 0.",
        )

    def record(self, header: BatchHeader, base_offset: int, now_ms: int) -> None:
        """Remember a batch that is in the log at `base_offset`, with or without a producer. It is not checked again."""
        assert base_offset >= self.next_offset, "batches are recorded in the order of the log, each once"
        self.next_offset = base_offset + header.last_offset_delta + 1
        if header.producer_id < 0 or header.base_sequence < 0:
            return
        state = self._states.pop(header.producer_id, None)
        if state is None or state.epoch != header.producer_epoch:
            state = ProducerState(header.producer_epoch, now_ms)
        state.record(header, base_offset, now_ms)
        self._states[header.producer_id] = state
        if len(self._states) > self._producers_max:
            del self._states[next(iter(self._states))]

    def expire(self, before_ms: int) -> int:
        """Forget the producers whose last append is older than that; return how many."""
        expired = [producer_id for producer_id, state in self._states.items() if state.last_append_ms < before_ms]
        for producer_id in expired:
            del self._states[producer_id]
        return len(expired)

    def pack(self) -> bytes:
        """All of it but next_offset, for `unpack`.

        count u32 | (producer_id i64 | epoch i16 | last_append_ms i64 | records i64 | batches u8 |
                        (base_sequence i32 | base_offset i64 | last_offset_delta i32) ...) ...
        """
        parts = [_COUNT.pack(len(self._states))]
        for producer_id, state in self._states.items():
            parts.append(
                _PRODUCER.pack(producer_id, state.epoch, state.last_append_ms, state.records_count, len(state.batches))
            )
            parts.extend(_BATCH.pack(*batch) for batch in state.batches)
        return b"".join(parts)

    @classmethod
    def unpack(
        cls, data: bytes, position: int, *, next_offset: int, producers_max: int
    ) -> tuple["ProducerStates", int]:
        """What `pack` made, and where it ends. `struct.error` if it is cut."""
        states = cls(producers_max=producers_max, next_offset=next_offset)
        (count,) = _COUNT.unpack_from(data, position)
        position += _COUNT.size
        for _ in range(count):
            producer_id, epoch, last_append_ms, records_count, batches_count = _PRODUCER.unpack_from(data, position)
            position += _PRODUCER.size
            end = position + batches_count * _BATCH.size
            batches = [SequencedBatch._make(row) for row in _BATCH.iter_unpack(data[position:end])]
            states._states[producer_id] = ProducerState(epoch, last_append_ms, records_count, batches)
            position = end
        return states, position

    def _check_unknown(self, header: BatchHeader) -> None:
        if header.base_sequence != 0:
            raise UnknownProducerId(
                f"producer {header.producer_id} is not known here, "
                f"and sequence {header.base_sequence} is not its first",
                remedy="Send the first batch first; a producer that was forgotten goes on with a new epoch or id.",
            )

    def _check_other_epoch(self, header: BatchHeader, state: ProducerState) -> None:
        if header.producer_epoch < state.epoch:
            raise InvalidProducerEpoch(
                f"producer {header.producer_id} has epoch {header.producer_epoch}, and one with epoch {state.epoch} "
                "has taken its place",
                remedy="Close this producer: another instance goes on with its work.",
            )
        if header.base_sequence != 0:
            raise OutOfOrderSequence(
                f"producer {header.producer_id} begins epoch {header.producer_epoch} "
                f"at sequence {header.base_sequence}",
                remedy="Begin a new epoch at sequence 0.",
            )


_COUNT = Struct(">I")
_PRODUCER = Struct(">qhqqB")
_BATCH = Struct(">iqi")
