"""What the coordinator of groups needs to know of topics, told from the store."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from uuid import UUID

from consumer_groups.requests import OffsetRange, Partition, TopicInfo
from logserver.fetches import Fetches
from logserver.openings import Openings
from logstore.errors import UnknownTopicId, UnknownTopicOrPartition
from logstore.log import Log
from logstore.topics import Topic, TopicStore


class StoreTopicDirectory:
    """consumer_groups' TopicDirectory over the store."""

    def __init__(self, store: TopicStore, openings: Openings, fetches: Fetches, readers: Executor) -> None:
        """readers runs what may wait for the disk."""
        self._store = store
        self._openings = openings
        self._fetches = fetches
        self._readers = readers

    def topic(self, name: str) -> TopicInfo | None:
        try:
            return _info(self._store.topic(name))
        except UnknownTopicOrPartition:
            return None

    def topic_by_id(self, topic_id: UUID) -> TopicInfo | None:
        try:
            return _info(self._store.topic_by_id(topic_id))
        except (UnknownTopicId, UnknownTopicOrPartition):
            return None

    async def offset_range(self, topic_id: UUID, partition: int) -> OffsetRange:
        log = await self._opened(topic_id, partition)
        return OffsetRange(log.log_start_offset, log.high_watermark)

    async def append_times_ms(self, records: Sequence[tuple[Partition, int]]) -> list[int]:
        """In a thread: the index of a sealed segment may have to be read."""
        places = [(await self._opened(*partition), offset) for partition, offset in records]
        if not places:
            return []
        return await asyncio.get_running_loop().run_in_executor(self._readers, _append_times_ms, places)

    async def offset_for_timestamp(self, topic_id: UUID, partition: int, timestamp_ms: int) -> int:
        """The first offset at or after that time, or the high watermark."""
        offset, _ = await self._fetches.offset_for_timestamp(await self._opened(topic_id, partition), timestamp_ms)
        return offset

    async def _opened(self, topic_id: UUID, partition: int) -> Log:
        return await self._openings.log(self._store.topic_by_id(topic_id), partition)


def _append_times_ms(places: Sequence[tuple[Log, int]]) -> list[int]:
    return [log.append_time_ms(offset) for log, offset in places]


def _info(topic: Topic) -> TopicInfo:
    return TopicInfo(topic.name, topic.topic_id, topic.partitions)
