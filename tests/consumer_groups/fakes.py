"""What the coordinator stands on, in memory: a journal that fails, topics that change, a clock that jumps."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from consumer_groups.journal_records import fold
from consumer_groups.requests import OffsetRange, Partition, TopicInfo
from logstore.errors import StorageFull

Record = tuple[bytes, bytes | None]


@dataclass
class FakeClock:
    now_ms: int = 1_000_000
    #: How far wall time is from monotonic time.
    wall_offset_ms: int = 1_700_000_000_000

    def monotonic_ms(self) -> int:
        return self.now_ms

    def wall_ms(self) -> int:
        return self.now_ms + self.wall_offset_ms


class Crash(Exception):
    """The process ended here."""


class MemoryJournal:
    """Appends at once. After `crash_after` appends in all it crashes: the next is on disk or not, as told, and nothing
    after it. After `full_after` appends the disk is full, and with `room_bytes` it is nearly full.

    What it is told to forget it keeps, and checks that nothing is lost by it. `after_crash` says what a crash leaves.
    """

    def __init__(self, records: Sequence[Record] = ()) -> None:
        self.records: list[Record] = list(records)
        self.start = 0
        self.forgotten_count = 0
        self.appends = 0
        self.crash_after: int | None = None
        self.crash_keeps_last = False
        self.full_after: int | None = None
        self.room_bytes: int | None = None
        #: How often somebody asked for room.
        self.asked_count = 0

    @property
    def full(self) -> bool:
        return self.full_after is not None and self.appends >= self.full_after

    async def append(self, records: Sequence[Record]) -> None:
        assert records, "an empty append is a wasted sync"
        if self.full:
            raise StorageFull("the disk is full", remedy="Free some space.")
        if self.crash_after is not None and self.appends >= self.crash_after:
            if self.crash_keeps_last and self.appends == self.crash_after:
                self.records.extend(records)
            self.appends += 1
            raise Crash
        self.appends += 1
        self.records.extend(records)

    @property
    def records_count(self) -> int:
        return len(self.records) - self.start

    @property
    def end(self) -> int:
        return len(self.records)

    @property
    def size_bytes(self) -> int:
        return sum(len(key) + len(value or b"") for key, value in self.records[self.start :])

    def has_room(self, size: int) -> bool:
        self.asked_count += 1
        return self.room_bytes is None or size <= self.room_bytes

    def forget_before(self, place: int) -> None:
        assert fold(self.records[place:]) == fold(self.records), "something is said only by what is forgotten"
        self.start = place
        self.forgotten_count += 1

    def after_crash(self, *, start_was_synced: bool = True) -> "MemoryJournal":
        return MemoryJournal(self.records[self.start :] if start_was_synced else self.records)

    def replay(self) -> Iterator[Record]:
        return iter(self.records[self.start :])


@dataclass
class FakeTopic:
    info: TopicInfo
    ranges: dict[int, OffsetRange] = field(default_factory=dict)


class FakeTopics:
    """Topics whose logs are nothing but a range of offsets, appended one a second, stamped when appended."""

    def __init__(self) -> None:
        self._topics: dict[str, FakeTopic] = {}
        self._made = 0

    def create(self, name: str, partitions: int, end: int = 100, start: int = 0) -> TopicInfo:
        assert name not in self._topics
        self._made += 1
        info = TopicInfo(name, UUID(int=self._made), partitions)
        self._topics[name] = FakeTopic(info)
        for number in range(partitions):
            self.set_range(name, number, start, end)
        return info

    def delete(self, name: str) -> None:
        del self._topics[name]

    def add_partitions(self, name: str, count: int) -> TopicInfo:
        topic = self._topics[name]
        for number in range(topic.info.partitions, count):
            self.set_range(name, number, 0, 0)
        topic.info = TopicInfo(name, topic.info.topic_id, count)
        return topic.info

    def set_range(self, name: str, number: int, start: int, end: int) -> None:
        self._topics[name].ranges[number] = OffsetRange(start, end)

    def names(self) -> list[str]:
        return sorted(self._topics)

    def topic(self, name: str) -> TopicInfo | None:
        topic = self._topics.get(name)
        return None if topic is None else topic.info

    def topic_by_id(self, topic_id: UUID) -> TopicInfo | None:
        for topic in self._topics.values():
            if topic.info.topic_id == topic_id:
                return topic.info
        return None

    async def offset_range(self, topic_id: UUID, partition: int) -> OffsetRange:
        info = self.topic_by_id(topic_id)
        assert info is not None
        return self._topics[info.name].ranges[partition]

    async def append_times_ms(self, records: Sequence[tuple[Partition, int]]) -> list[int]:
        for partition, offset in records:
            readable = await self.offset_range(*partition)
            assert readable.log_start_offset <= offset < readable.high_watermark
        return [offset * 1000 for _, offset in records]

    async def offset_for_timestamp(self, topic_id: UUID, partition: int, timestamp_ms: int) -> int:
        readable = await self.offset_range(topic_id, partition)
        return min(readable.high_watermark, max(readable.log_start_offset, -(-timestamp_ms // 1000)))
