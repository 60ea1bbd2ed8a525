"""What members of a group say of themselves, and the verdict: did a partition ever have two owners that both commit?

A member writes one JSON array a line. Times are of the monotonic clock, which all processes of a machine share.

    ["assigned", at, [partition, ...]]                                       told of them, and about to read
    ["revoked", at, [partition, ...]]                                        told that they go, or are lost
    ["read", partition, offset, next_offset]                                 a batch was handed out
    ["commit", partition, next_offset, is_committed, begun_at, ended_at]     up to there
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


class Assigned(NamedTuple):
    at: float
    partitions: tuple[int, ...]


class Revoked(NamedTuple):
    at: float
    partitions: tuple[int, ...]


class Read(NamedTuple):
    partition: int
    offset: int
    next_offset: int


class Commit(NamedTuple):
    partition: int
    next_offset: int
    is_committed: bool
    begun_at: float
    ended_at: float


Event = Assigned | Revoked | Read | Commit


def encode_event(event: Event) -> str:
    return json.dumps([type(event).__name__.lower(), *event])


def parse_events(text: str) -> list[Event]:
    """Whoever wrote it may be writing still: a line without its end is left out."""
    events: list[Event] = []
    for line in text.splitlines(keepends=True):
        if line.endswith("\n"):
            events.append(_parse(json.loads(line)))
    return events


def _parse(row: list[Any]) -> Event:
    match row:
        case ["assigned", at, partitions]:
            return Assigned(at, tuple(partitions))
        case ["revoked", at, partitions]:
            return Revoked(at, tuple(partitions))
        case ["read", *fields]:
            return Read(*fields)
        case ["commit", *fields]:
            return Commit(*fields)
    raise ValueError(f"not an event: {row!r}")


def held(events: Iterable[Event]) -> set[int]:
    """The partitions that a member has, as far as it knows."""
    partitions: set[int] = set()
    for event in events:
        if isinstance(event, Assigned):
            partitions.update(event.partitions)
        elif isinstance(event, Revoked):
            partitions.difference_update(event.partitions)
    return partitions


class _Accepted(NamedTuple):
    """A commit that was accepted, and when its member was last told that the partition is its own."""

    begun_at: float
    ended_at: float
    next_offset: int
    member: int
    assigned_at: float


def judge(members: Sequence[Sequence[Event]]) -> list[str]:
    """What must never happen: two owners, offsets that go back, records that nobody read below what is committed."""
    violations = []
    for partition, commits in sorted(_accepted(members).items()):
        commits.sort()
        violations += _two_owners(partition, commits) + _gone_back(partition, commits)
        violations += _unread(partition, commits, members)
    return violations


def _accepted(members: Sequence[Sequence[Event]]) -> dict[int, list[_Accepted]]:
    accepted: dict[int, list[_Accepted]] = defaultdict(list)
    for member, events in enumerate(members):
        assigned_at: dict[int, float] = {}
        for event in events:
            if isinstance(event, Assigned):
                assigned_at |= dict.fromkeys(event.partitions, event.at)
            elif isinstance(event, Commit) and event.is_committed:
                accepted[event.partition].append(
                    _Accepted(
                        event.begun_at, event.ended_at, event.next_offset, member, assigned_at.get(event.partition, -1)
                    )
                )
    return accepted


def _two_owners(partition: int, commits: Sequence[_Accepted]) -> list[str]:
    """A commit of one member after one of another, which was made since the first was last given the partition."""
    violations = []
    last_begun: dict[int, _Accepted] = {}  # of each member, the last that had ended
    for commit in commits:
        for member, other in last_begun.items():
            if member != commit.member and commit.assigned_at < other.begun_at and other.ended_at < commit.begun_at:
                violations.append(
                    f"partition {partition}: member {commit.member} committed {commit.next_offset} after member "
                    f"{member} had committed {other.next_offset}, without being given the partition again"
                )
        last_begun[commit.member] = commit
    return violations


def _gone_back(partition: int, commits: Sequence[_Accepted]) -> list[str]:
    violations = []
    highest: _Accepted | None = None
    for commit in commits:
        if highest is not None and highest.ended_at < commit.begun_at and commit.next_offset < highest.next_offset:
            violations.append(
                f"partition {partition}: {commit.next_offset} was committed by member {commit.member} after "
                f"{highest.next_offset} by member {highest.member}"
            )
        if highest is None or commit.next_offset > highest.next_offset:
            highest = commit
    return violations


def _unread(partition: int, commits: Sequence[_Accepted], members: Sequence[Sequence[Event]]) -> list[str]:
    """At least once: below what is committed everything was read by somebody."""
    reads = sorted(event for events in members for event in events if isinstance(event, Read))
    next_offset = 0
    for read in reads:
        if read.partition == partition and read.offset <= next_offset:
            next_offset = max(next_offset, read.next_offset)
    committed = max(commit.next_offset for commit in commits)
    if committed > next_offset:
        return [f"partition {partition}: {committed} is committed, and {next_offset} was read by nobody"]
    return []
