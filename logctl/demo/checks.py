"""The judge of the demonstration: what was sent against what was stored, what the group read, and what was replayed.

The file of flights is the model. Nothing is removed before it is compared: a record that was read twice is counted,
and has to be one that the killed member had read and not yet committed.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from logctl.output import count
from logctl.record_json import NewRecord


class StoredRecord(NamedTuple):
    """A record as it was read from the log."""

    partition: int
    offset: int
    timestamp_ms: int
    key: str | None
    value: str


@dataclass
class MemberReads:
    """What one member wrote down, in its order. `committed_count` is how many of its reads it knows to be committed."""

    name: str
    killed: bool = False
    reads: list[StoredRecord] = field(default_factory=list)
    committed_count: int = 0

    @property
    def uncommitted(self) -> list[StoredRecord]:
        return self.reads[self.committed_count :]


@dataclass(frozen=True)
class Check:
    passed: bool
    sentence: str


Place = tuple[int, int]  # partition and offset


def check_log(sent: Sequence[NewRecord], log: Sequence[StoredRecord]) -> list[Check]:
    """Everything that was sent is in the log once, and for each key in the order it was sent.

    `log` is in the order in which it was read: partitions mixed, each from its beginning.
    """
    expected: dict[str | None, list[tuple[int | None, str]]] = defaultdict(list)
    for record in sent:
        expected[_text(record.key)].append((record.timestamp_ms, _text(record.value) or ""))
    found: dict[str | None, list[tuple[int | None, str]]] = defaultdict(list)
    for stored in log:
        found[stored.key].append((stored.timestamp_ms, stored.value))

    wrong = [key for key in expected | found if sorted(expected[key]) != sorted(found[key])]
    disordered = [key for key in expected if key not in wrong and expected[key] != found[key]]
    gaps = _partitions_with_gaps(log)
    return [
        Check(
            not wrong and not gaps and len(log) == len(sent),
            f"{len(sent):,} flights sent, {len(log):,} stored"
            + ("" if len(log) != len(sent) or wrong or gaps else ": none lost, none twice")
            + (f"; {len(wrong):,} aircraft have other flights than were sent, such as {wrong[0]}" if wrong else "")
            + (f"; offsets are missing in partitions {gaps}" if gaps else ""),
        ),
        Check(
            not wrong and not disordered,
            f"each of {len(expected):,} aircraft has its flights in the order they left"
            if not wrong and not disordered
            else f"{len(wrong) + len(disordered):,} of {len(expected):,} aircraft have not their flights in order",
        ),
    ]


def check_group(log: Sequence[StoredRecord], members: Sequence[MemberReads]) -> list[Check]:
    """The members together read all that is in the log, as it is there; repeats come from the killed member alone."""
    stored = {(record.partition, record.offset): record for record in log}
    reads = [record for member in members for record in member.reads]
    different = sum(stored.get(_place(record)) != record for record in reads)
    places = {_place(record) for record in reads}
    missing = len(stored.keys() - places)
    backwards = [member.name for member in members if not _goes_forward(member.reads)]
    return [
        Check(
            not missing and not different,
            f"the group read {len(places):,} of {len(stored):,} flights"
            + (f"; {different:,} reads differ from what is stored" if different else ""),
        ),
        Check(not backwards, _forward_sentence(backwards)),
        _check_repeats(members),
    ]


def check_replay(log: Sequence[StoredRecord], replay: Sequence[StoredRecord], from_ms: int) -> list[Check]:
    """The replay is what is in the log from that time on, each partition in order, and nothing else."""
    expected = _by_partition(record for record in log if record.timestamp_ms >= from_ms)
    replayed = _by_partition(replay)
    right = replayed == expected
    total = sum(len(records) for records in expected.values())
    return [
        Check(
            right,
            f"the replay gave exactly the {total:,} flights from then on, in order"
            if right
            else f"the replay gave {len(replay):,} flights, and not the {total:,} from then on in their order",
        )
    ]


def _check_repeats(members: Sequence[MemberReads]) -> Check:
    """A record may come again only when a killed member had read it and had not committed it."""
    readers: dict[Place, list[str]] = defaultdict(list)
    for member in members:
        for record in member.reads:
            readers[_place(record)].append(member.name)
    repeated = {place: names for place, names in readers.items() if len(names) > 1}
    taken_along = {
        (_place(record), member.name) for member in members if member.killed for record in member.uncommitted
    }

    def is_explained(place: Place, names: Sequence[str]) -> bool:
        """All readings but one are those of killed members that took the record along."""
        return len(names) - 1 <= sum((place, name) in taken_along for name in set(names))

    unexplained = sum(not is_explained(place, names) for place, names in repeated.items())
    if unexplained:
        return Check(False, f"{_flights_were(unexplained)} read twice although committed")
    killed = " and ".join(member.name for member in members if member.killed and member.uncommitted)
    if repeated:
        return Check(
            True, f"{_flights_were(len(repeated))} read twice: {killed} had read and not yet committed that much"
        )
    # The group went on behind them, so the server had them committed.
    reason = f": the last commit of {killed} had reached the server, though not its answer" if killed else ""
    return Check(True, f"no flight was read twice{reason}")


def _flights_were(number: int) -> str:
    return f"{count(number, 'flight')} {'was' if number == 1 else 'were'}"


def _forward_sentence(backwards: Sequence[str]) -> str:
    if backwards:
        return f"{' and '.join(backwards)} read backwards"
    return "each member read each of its partitions forward"


def _goes_forward(reads: Sequence[StoredRecord]) -> bool:
    last: dict[int, int] = {}
    for record in reads:
        if record.offset <= last.get(record.partition, -1):
            return False
        last[record.partition] = record.offset
    return True


def _partitions_with_gaps(log: Iterable[StoredRecord]) -> list[int]:
    return [
        partition
        for partition, records in sorted(_by_partition(log).items())
        if [record.offset for record in records] != list(range(len(records)))
    ]


def _by_partition(records: Iterable[StoredRecord]) -> Mapping[int, list[StoredRecord]]:
    partitions: dict[int, list[StoredRecord]] = defaultdict(list)
    for record in records:
        partitions[record.partition].append(record)
    return partitions


def _place(record: StoredRecord) -> Place:
    return record.partition, record.offset


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode()
