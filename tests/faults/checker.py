"""The verdict on a history: which things it shows that must never happen.

The anomalies and their names are those of Jepsen's workload for Kafka (jepsen.tests.kafka), for records without
transactions; `corrupt` and `reordered` are ours. A log hands out offsets, so the offset is the order, and every check
is linear in the history.

    lost                  acknowledged below what somebody read of the partition, and nobody read it
    unseen                acknowledged, and nobody read it though everything was drained at the end
    duplicate             one value at two offsets
    inconsistent-offsets  one offset with two values, or an acknowledgement with another offset than a reader saw
    aborted-read          read, though its send was refused for certain
    never-sent            read, though nobody sent it
    corrupt               read, and not what anybody can have sent
    reordered             the sends of one process to one partition, read in another order than they were asked for
    nonmonotonic-send     their acknowledged offsets go back
    poll-skip             a poll, or the next poll of the same assignment, leaves out records that are there
    nonmonotonic-poll     it goes back or repeats
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.faults.history import Assign, Operation, Outcome, Poll, Send, Value, decode_value

#: Of each anomaly so many are told; the count says how many there are.
SHOWN_MAX = 5


@dataclass
class Verdict:
    sent: int = 0
    acknowledged: int = 0
    read: int = 0  # records that polls handed out, a record read by two of them twice
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    shown: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not self.counts

    def note(self, anomaly: str, what: str) -> None:
        self.counts[anomaly] += 1
        if self.counts[anomaly] <= SHOWN_MAX:
            self.shown.append(f"{anomaly}: {what}")


def check(history: Iterable[Operation]) -> Verdict:
    """Judge a whole history, at whose end everything was drained from the beginning to the end."""
    verdict = Verdict()
    operations = list(history)
    sends = {Value(send.process, send.number): send for send in operations if isinstance(send, Send)}
    verdict.sent = len(sends)
    verdict.acknowledged = sum(send.outcome is Outcome.OK for send in sends.values())
    polls = [operation for operation in operations if isinstance(operation, Poll)]
    log = _read_log(polls, verdict)
    _check_acknowledged(sends, log, verdict)
    _check_values(sends, log, verdict)
    _check_send_order(sends, verdict)
    _check_polls(operations, log, verdict)
    return verdict


@dataclass
class _Log:
    """What all readers together saw: partition -> offset -> value."""

    values: dict[int, dict[int, Value]] = field(default_factory=lambda: defaultdict(dict))
    places: dict[Value, set[tuple[int, int]]] = field(default_factory=lambda: defaultdict(set))

    def known_offsets(self, partition: int) -> list[int]:
        return sorted(self.values[partition])


def _read_log(polls: Iterable[Poll], verdict: Verdict) -> _Log:
    log = _Log()
    for poll in polls:
        verdict.read += len(poll.records)
        for partition, offset, text in poll.records:
            value = decode_value(text)
            if value is None:
                verdict.note("corrupt", f"partition {partition} offset {offset} is {text[:60]!r}")
                continue
            other = log.values[partition].setdefault(offset, value)
            if other != value:
                verdict.note("inconsistent-offsets", f"partition {partition} offset {offset}: {other} and {value}")
            log.places[value].add((partition, offset))
    for value, places in log.places.items():
        if len(places) > 1:
            verdict.note("duplicate", f"{value} at {sorted(places)}")
    return log


def _check_acknowledged(sends: dict[Value, Send], log: _Log, verdict: Verdict) -> None:
    highest = {partition: max(values) for partition, values in log.values.items() if values}
    for value, send in sends.items():
        if send.outcome is not Outcome.OK:
            continue
        places = log.places.get(value)
        where = f"{value}, acknowledged at partition {send.partition} offset {send.offset}"
        if not places:
            is_below = send.offset <= highest.get(send.partition, -1)
            verdict.note("lost" if is_below else "unseen", where)
        elif (send.partition, send.offset) not in places:
            verdict.note("inconsistent-offsets", f"{where}, read at {sorted(places)}")


def _check_values(sends: dict[Value, Send], log: _Log, verdict: Verdict) -> None:
    for value, places in log.places.items():
        send = sends.get(value)
        if send is None:
            verdict.note("never-sent", f"{value} at {sorted(places)}")
        elif send.outcome is Outcome.FAILED:
            verdict.note("aborted-read", f"{value} at {sorted(places)}")
    for partition, values in log.values.items():
        last: dict[int, int] = {}
        for offset in sorted(values):
            process, number = values[offset]
            if number < last.get(process, -1):
                verdict.note("reordered", f"partition {partition} offset {offset}: {number} after {last[process]}")
            last[process] = number


def _check_send_order(sends: dict[Value, Send], verdict: Verdict) -> None:
    last: dict[tuple[int, int], int] = {}
    for value in sorted(sends):
        send = sends[value]
        if send.outcome is Outcome.OK:
            before = last.get((send.process, send.partition), -1)
            if send.offset <= before:
                verdict.note("nonmonotonic-send", f"{value} got offset {send.offset} after {before}")
            last[send.process, send.partition] = send.offset


def _check_polls(operations: Iterable[Operation], log: _Log, verdict: Verdict) -> None:
    ranks = {
        partition: {offset: rank for rank, offset in enumerate(log.known_offsets(partition))}
        for partition in log.values
    }
    last: dict[int, dict[int, int]] = defaultdict(dict)  # process -> partition -> offset
    for operation in operations:
        match operation:
            case Assign(process):
                last.pop(process, None)
            case Poll(process, records):
                for partition, offset, _ in records:
                    before = last[process].get(partition)
                    last[process][partition] = offset
                    rank = ranks.get(partition, {})
                    if before is None or before not in rank or offset not in rank:
                        continue
                    where = f"process {process}, partition {partition}: offset {offset} after {before}"
                    if offset <= before:
                        verdict.note("nonmonotonic-poll", where)
                    elif rank[offset] > rank[before] + 1:
                        verdict.note("poll-skip", where)
