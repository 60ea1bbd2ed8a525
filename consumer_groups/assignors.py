"""Assignors: who should read which partition. Pure functions of the members, the topics and the plan before.

    uniform   loads differ by at most one where subscriptions allow it, and as few partitions move as possible
    range     Kafka's arithmetic: each topic cut into runs, the first members taking one more

Both are deterministic and settle: planning again with nothing changed gives the same plan.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from uuid import UUID

from consumer_groups.requests import NOTHING, Assignment, Partition


@dataclass(frozen=True, slots=True)
class Subscriber:
    """What an assignor knows of a member."""

    topics: frozenset[UUID]
    #: Empty for a dynamic member.
    instance_id: str = ""
    #: What the last plan gave it.
    previous: Assignment = NOTHING


#: How many partitions each topic has; they are numbered from 0.
PartitionCounts = Mapping[UUID, int]
Plan = dict[str, Assignment]
Assignor = Callable[[Mapping[str, Subscriber], PartitionCounts], Plan]


def member_order(members: Mapping[str, Subscriber]) -> list[str]:
    """Kafka's order: static members by instance id, then dynamic ones by member id. A bounced static member,
    whose member id is new, keeps its place."""
    return sorted(
        members, key=lambda member_id: (not members[member_id].instance_id, members[member_id].instance_id, member_id)
    )


def assign_range(members: Mapping[str, Subscriber], topics: PartitionCounts) -> Plan:
    """Give each topic's partitions, in order, to its subscribers, in order, as runs of equal length or one more."""
    ordered = member_order(members)
    plan: dict[str, set[Partition]] = {member_id: set() for member_id in ordered}
    for topic_id, count in topics.items():
        subscribers = [member_id for member_id in ordered if topic_id in members[member_id].topics]
        if not subscribers:
            continue
        share, extra = divmod(count, len(subscribers))
        start = 0
        for index, member_id in enumerate(subscribers):
            end = start + share + (index < extra)
            plan[member_id].update(Partition(topic_id, number) for number in range(start, end))
            start = end
    return {member_id: frozenset(partitions) for member_id, partitions in plan.items()}


def assign_uniform(members: Mapping[str, Subscriber], topics: PartitionCounts) -> Plan:
    """Keep what each member had, deal out what nobody has, then even out.

    Ends: every move of the last step goes from a member to one with at least two partitions fewer, so the sum of the
    squares of the loads falls. Then no single move would make the plan more even.
    """
    return _Uniform(members, topics).plan()


ASSIGNORS: Mapping[str, Assignor] = {"uniform": assign_uniform, "range": assign_range}


class _Uniform:
    """One run of the uniform assignor."""

    def __init__(self, members: Mapping[str, Subscriber], topics: PartitionCounts) -> None:
        self._members = members
        self._ordered = member_order(members)
        self._rank = {member_id: rank for rank, member_id in enumerate(self._ordered)}
        # Topics in the order of their ids: any order does, as long as it is always the same.
        self._topics = {topic_id: topics[topic_id] for topic_id in sorted(topics)}
        # member -> topic -> its partition numbers there
        self._held: dict[str, dict[UUID, set[int]]] = {member_id: defaultdict(set) for member_id in self._ordered}
        self._loads = dict.fromkeys(self._ordered, 0)
        # Members with the same subscription share a heap of (load, rank); an entry whose load is out of date is
        # dropped when it comes to the top.
        self._heaps: dict[frozenset[UUID], list[tuple[int, int]]] = {}

    def plan(self) -> Plan:
        unassigned = self._keep()
        for rank, member_id in enumerate(self._ordered):
            heap = self._heaps.setdefault(self._members[member_id].topics, [])
            heap.append((self._loads[member_id], rank))
        for heap in self._heaps.values():
            heapify(heap)
        for topic_id, number in unassigned:
            receiver = self._least_loaded(topic_id)
            if receiver is not None:
                self._give(receiver, topic_id, number)
        while self._even_out():
            pass
        return {
            member_id: frozenset(
                Partition(topic_id, number) for topic_id, numbers in held.items() for number in numbers
            )
            for member_id, held in self._held.items()
        }

    def _keep(self) -> list[Partition]:
        """Leave members what they had and may still have; return the rest, in order."""
        free = {topic_id: set(range(count)) for topic_id, count in self._topics.items()}
        for member_id in self._ordered:
            member = self._members[member_id]
            for topic_id, number in member.previous:
                if topic_id in member.topics and topic_id in free and number in free[topic_id]:
                    free[topic_id].remove(number)
                    self._held[member_id][topic_id].add(number)
                    self._loads[member_id] += 1
        return [Partition(topic_id, number) for topic_id, numbers in free.items() for number in sorted(numbers)]

    def _even_out(self) -> bool:
        """Go through the members, the most loaded first, and take from each what others should have."""
        moved = False
        queue = [(-load, self._rank[member_id]) for member_id, load in self._loads.items()]
        heapify(queue)
        while queue:
            _, rank = heappop(queue)
            giver = self._ordered[rank]
            best: tuple[int, int, UUID] | None = None
            for topic_id in sorted(topic_id for topic_id, numbers in self._held[giver].items() if numbers):
                receiver = self._least_loaded(topic_id)
                if receiver is None:
                    continue
                key = (self._loads[receiver], self._rank[receiver], topic_id)
                if best is None or key < best:
                    best = key
            if best is None or best[0] > self._loads[giver] - 2:
                continue
            _, receiver_rank, topic_id = best
            number = max(self._held[giver][topic_id])
            self._take(giver, topic_id, number)
            self._give(self._ordered[receiver_rank], topic_id, number)
            heappush(queue, (-self._loads[giver], rank))
            moved = True
        return moved

    def _least_loaded(self, topic_id: UUID) -> str | None:
        """The subscriber of the topic with the smallest load, the first of them in order; None without any."""
        best: tuple[int, int] | None = None
        for topics, heap in self._heaps.items():
            if topic_id not in topics:
                continue
            while heap[0][0] != self._loads[self._ordered[heap[0][1]]]:
                heappop(heap)
            if best is None or heap[0] < best:
                best = heap[0]
        return None if best is None else self._ordered[best[1]]

    def _give(self, member_id: str, topic_id: UUID, number: int) -> None:
        self._held[member_id][topic_id].add(number)
        self._change_load(member_id, 1)

    def _take(self, member_id: str, topic_id: UUID, number: int) -> None:
        self._held[member_id][topic_id].remove(number)
        self._change_load(member_id, -1)

    def _change_load(self, member_id: str, by: int) -> None:
        self._loads[member_id] += by
        heappush(self._heaps[self._members[member_id].topics], (self._loads[member_id], self._rank[member_id]))
