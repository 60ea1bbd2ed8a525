"""What the coordinator stands on. The server implements these over its own log; tests do in memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol
from uuid import UUID

from consumer_groups.requests import OffsetRange, Partition, TopicInfo

#: What is known of a topic by its name now; None if there is none.
TopicLookup = Callable[[str], TopicInfo | None]


class Journal(Protocol):
    """An ordered, durable list of (key, value) records, in which nothing that is the newest of its key ever expires."""

    async def append(self, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Return when the records are durable, all of them or after a crash none; appends keep the order of the calls.

        One call may be some MiB (a large group planned anew) and is never split. Raises logstore's StorageFull when
        certainly nothing was written; after any other error nobody can say, and the coordinator stops.
        """
        ...

    @property
    def records_count(self) -> int:
        """How many records `replay` would give."""
        ...

    @property
    def end(self) -> int:
        """Where the next append goes: a place to give to `forget_before`."""
        ...

    @property
    def size_bytes(self) -> int:
        """What it takes on the disk, or more."""
        ...

    def has_room(self, size: int) -> bool:
        """Whether so many bytes could be appended without taking the last of the disk's room. Quick."""
        ...

    def forget_before(self, place: int) -> None:
        """Begin the journal there. All that its records before it said is said by durable ones after it, so a crash may
        find it as it was, too. Quick, and does not wait; room is made a little later."""
        ...

    def replay(self) -> Iterator[tuple[bytes, bytes | None]]:
        """All records, the oldest first. Those superseded by a newer one of their key may be missing."""
        ...


class TopicDirectory(Protocol):
    """The topics there are now. What may have to wait for the disk is awaited; the rest is quick."""

    def topic(self, name: str) -> TopicInfo | None: ...

    def topic_by_id(self, topic_id: UUID) -> TopicInfo | None: ...

    async def offset_range(self, topic_id: UUID, partition: int) -> OffsetRange:
        """Quick, but for the first time, which opens its log. Raises logstore's UnknownTopicId if it was deleted
        meanwhile."""
        ...

    async def append_times_ms(self, records: Sequence[tuple[Partition, int]]) -> list[int]:
        """When records were appended, by the wall clock and as the index knows it. Each is given by its partition and
        offset, which is in its log."""
        ...

    async def offset_for_timestamp(self, topic_id: UUID, partition: int, timestamp_ms: int) -> int:
        """The first offset with a timestamp at or after the given one; the high watermark if there is none."""
        ...
