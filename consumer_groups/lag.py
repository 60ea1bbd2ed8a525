"""How far a group is behind: in records, and in seconds by the time records were appended."""

from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from consumer_groups.requests import OffsetRange, Partition
from consumer_groups.surroundings import TopicDirectory
from consumer_groups.topics import giving_way
from logstore.errors import UnknownTopicId, UnknownTopicOrPartition


class Lag(NamedTuple):
    """From the first record not yet read to the end, and to now; 0 and 0.0 when there is none."""

    records: int
    seconds: float
    #: What the partition had when it was looked at.
    readable: OffsetRange


async def lags(topics: TopicDirectory, committed: Mapping[Partition, int | None], now_ms: int) -> dict[Partition, Lag]:
    """The lag in each partition, of a group that has committed these offsets, at now_ms of the wall clock.

    What retention has deleted is not behind: it counts from the log start, as it does when nothing is committed.
    Neither is ever negative, also when the offset is past the end, or the wall clock was set back. Of topics that are
    deleted meanwhile nothing is said.
    """
    ranges: dict[Partition, OffsetRange] = {}
    async for partition in giving_way(committed):
        if topics.topic_by_id(partition.topic_id) is not None:
            with suppress(UnknownTopicId, UnknownTopicOrPartition):
                ranges[partition] = await topics.offset_range(*partition)
    ranges = {partition: readable for partition, readable in ranges.items() if topics.topic_by_id(partition.topic_id)}
    unread = {
        partition: max(readable.log_start_offset, committed[partition] or 0) for partition, readable in ranges.items()
    }
    behind = [partition for partition, readable in ranges.items() if unread[partition] < readable.high_watermark]
    times_ms = await topics.append_times_ms([(partition, unread[partition]) for partition in behind])
    appended_ms = dict(zip(behind, times_ms, strict=True))
    return {
        partition: Lag(
            max(0, readable.high_watermark - unread[partition]),
            max(0, now_ms - appended_ms.get(partition, now_ms)) / 1000,
            readable,
        )
        for partition, readable in ranges.items()
    }
