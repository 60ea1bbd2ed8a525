"""Committed offsets of one group: how far it has read each partition."""

from collections.abc import Iterator
from itertools import count
from uuid import UUID

from consumer_groups.journal_records import OffsetValue
from consumer_groups.requests import Partition


class CommittedOffsets:
    """What is durable. Commits are under way side by side, so each takes a ticket when it is written to the journal,
    and a later one is never overwritten by an earlier one that was heard of later."""

    def __init__(self) -> None:
        self._entries: dict[Partition, tuple[int, OffsetValue]] = {}
        self._tickets = count()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Partition]:
        return iter(self._entries)

    def ticket(self) -> int:
        """Taken in the order in which changes are written."""
        return next(self._tickets)

    def get(self, partition: Partition) -> OffsetValue | None:
        entry = self._entries.get(partition)
        return None if entry is None else entry[1]

    def put(self, partition: Partition, value: OffsetValue, ticket: int) -> None:
        entry = self._entries.get(partition)
        if entry is None or entry[0] < ticket:
            self._entries[partition] = ticket, value

    def items(self) -> Iterator[tuple[Partition, OffsetValue]]:
        return ((partition, value) for partition, (_, value) in self._entries.items())

    def drop(self, partition: Partition) -> None:
        self._entries.pop(partition, None)

    def topic_ids(self) -> set[UUID]:
        return {partition.topic_id for partition in self._entries}
