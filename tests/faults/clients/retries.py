"""What a producer is answered that sends something again, or something wrong: a table, and all of it tried (row 14).

A case is a row of the table after a setup and an event. The setup is seven batches of one idempotent producer, whose
sequences begin at 0, or pass the last one there is and begin again. Then the event happens, then the row is sent. What
was appended is sent once more, and has to be known; after a refusal, what is next in order is taken as ever.

The answers are Kafka's (ProducerAppendInfo and ProducerStateEntry of 4.x), but for two, whose reasons `producers` has:
what was written, and is not one of the last five batches as it was, is DUPLICATE_SEQUENCE_NUMBER and not
OUT_OF_ORDER_SEQUENCE_NUMBER; and a producer that nobody knows begins at 0, where Kafka takes any sequence from it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

SEQUENCES = 2**31
REMEMBERED = 5
EPOCH = 3

ORIGINAL = "the offset of the first time"
APPENDED = "appended"
DUPLICATE = "DUPLICATE_SEQUENCE_NUMBER"
OUT_OF_ORDER = "OUT_OF_ORDER_SEQUENCE_NUMBER"
OLD_EPOCH = "INVALID_PRODUCER_EPOCH"
UNKNOWN = "UNKNOWN_PRODUCER_ID"
INVALID = "INVALID_RECORD"


class Sent(NamedTuple):
    epoch: int
    sequence: int
    records_count: int


@dataclass
class Written:
    """What the producer of a case has written, in order, with the offsets that it got."""

    producer_id: int
    batches: list[Sent] = field(default_factory=list)
    offsets: dict[Sent, int] = field(default_factory=dict)

    @property
    def next_sequence(self) -> int:
        return (self.batches[-1].sequence + self.batches[-1].records_count) % SEQUENCES if self.batches else 0

    def add(self, batch: Sent, offset: int) -> None:
        self.batches.append(batch)
        self.offsets[batch] = offset


class Row(NamedTuple):
    what: str
    make: Callable[[Written], Sent]
    answer: str
    answer_forgotten: str  # once the producer is


def _again(number: int) -> Callable[[Written], Sent]:
    return lambda written: written.batches[-number]


def _next(gap: int = 0, *, epoch: int = EPOCH) -> Callable[[Written], Sent]:
    return lambda written: Sent(epoch, (written.next_sequence + gap) % SEQUENCES, 2)


def _first(epoch: int) -> Callable[[Written], Sent]:
    return lambda written: Sent(epoch, 0, 2)


def _last(*, epoch: int = EPOCH, skip: int = 0, more: int = 0) -> Callable[[Written], Sent]:
    def make(written: Written) -> Sent:
        last = written.batches[-1]
        return Sent(epoch, (last.sequence + skip) % SEQUENCES, last.records_count - skip + more)

    return make


def _last_two_as_one(written: Written) -> Sent:
    before, last = written.batches[-2:]
    return Sent(EPOCH, before.sequence, before.records_count + last.records_count)


ROWS = (
    *(Row(f"the last but {number - 1}", _again(number), ORIGINAL, UNKNOWN) for number in range(1, REMEMBERED + 1)),
    Row("the last but 5", _again(6), DUPLICATE, UNKNOWN),
    Row("the last but 6, which was the first", _again(7), DUPLICATE, APPENDED),
    Row("the last without its first record", _last(skip=1), DUPLICATE, UNKNOWN),
    Row("the last without its last record", _last(more=-1), DUPLICATE, UNKNOWN),
    Row("the last two as one", _last_two_as_one, DUPLICATE, UNKNOWN),
    Row("the last and a record more", _last(more=1), OUT_OF_ORDER, UNKNOWN),
    Row("the end of the last and a record more", _last(skip=1, more=1), OUT_OF_ORDER, UNKNOWN),
    Row("what is next", _next(), APPENDED, UNKNOWN),
    Row("a gap of one", _next(1), OUT_OF_ORDER, UNKNOWN),
    Row("a gap of a thousand", _next(1000), OUT_OF_ORDER, UNKNOWN),
    Row("a gap of almost half of all sequences", _next(SEQUENCES // 2 - 100), OUT_OF_ORDER, UNKNOWN),
    Row("an older epoch, what is next", _next(epoch=EPOCH - 1), OLD_EPOCH, UNKNOWN),
    Row("an older epoch, the last", _last(epoch=EPOCH - 1), OLD_EPOCH, UNKNOWN),
    Row("an older epoch, from 0", _first(EPOCH - 1), OLD_EPOCH, APPENDED),
    Row("the oldest epoch, from 0", _first(0), OLD_EPOCH, APPENDED),
    Row("a newer epoch, from 0", _first(EPOCH + 1), APPENDED, APPENDED),
    Row("the newest epoch, from 0", _first(2**15 - 1), APPENDED, APPENDED),
    Row("a newer epoch, what is next", _next(epoch=EPOCH + 1), OUT_OF_ORDER, UNKNOWN),
    Row("a newer epoch, the last", _last(epoch=EPOCH + 1), OUT_OF_ORDER, UNKNOWN),
    Row("no sequence", lambda written: Sent(EPOCH, -1, 2), INVALID, INVALID),
)


class Case(NamedTuple):
    is_wrapped: bool  # the setup passes the last sequence
    event: str
    row: Row


#: The rows that sequences are compared for, so that it matters where they begin again. Those of epochs come after.
WRAPPED_ROWS = 16

NOTHING = "nothing"
STOP = "stop"
KILL = "kill"
ROLL = "roll"
RETENTION = "retention"
EXPIRY = "expiry"

CASES = tuple(
    Case(is_wrapped, event, row)
    for is_wrapped, event in (
        (False, NOTHING),
        (False, STOP),
        (False, KILL),
        (False, ROLL),
        (False, f"{ROLL} {KILL}"),
        (False, RETENTION),
        (False, f"{RETENTION} {KILL}"),
        (False, f"{RETENTION} {STOP}"),
        (False, EXPIRY),
        (True, NOTHING),
        (True, KILL),
    )
    for row in (ROWS[:WRAPPED_ROWS] if is_wrapped else ROWS)
)
