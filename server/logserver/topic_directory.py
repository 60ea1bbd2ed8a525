"""What the coordinator of groups needs to know of topics, told from the store."""

from uuid import UUID

from consumer_groups.requests import OffsetRange, TopicInfo
from logserver.fetches import Fetches
from logstore.errors import UnknownTopicId, UnknownTopicOrPartition
from logstore.log import Log
from logstore.topics import Topic, TopicStore


class StoreTopicDirectory:
    """consumer_groups' TopicDirectory over the store."""

    def __init__(self, store: TopicStore, fetches: Fetches) -> None:
        self._store = store
        self._fetches = fetches

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

    def offset_range(self, topic_id: UUID, partition: int) -> OffsetRange:
        log = self._log(topic_id, partition)
        return OffsetRange(log.log_start_offset, log.high_watermark)

    def append_time_ms(self, topic_id: UUID, partition: int, offset: int) -> int | None:
        return self._log(topic_id, partition).append_time_ms(offset)

    async def offset_for_timestamp(self, topic_id: UUID, partition: int, timestamp_ms: int) -> int:
        """The first offset at or after that time, or the high watermark."""
        offset, _ = await self._fetches.offset_for_timestamp(self._log(topic_id, partition), timestamp_ms)
        return offset

    def _log(self, topic_id: UUID, partition: int) -> Log:
        return self._store.log(self._store.topic_by_id(topic_id).name, partition)


def _info(topic: Topic) -> TopicInfo:
    return TopicInfo(topic.name, topic.topic_id, topic.partitions)
