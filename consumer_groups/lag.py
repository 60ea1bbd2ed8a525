"""How far a group is behind: in records, and in seconds by the time records were appended."""

from consumer_groups.protocols import TopicDirectory
from consumer_groups.requests import Partition


def lag(topics: TopicDirectory, partition: Partition, committed_offset: int | None, now_ms: int) -> tuple[int, float]:
    """Return (records, seconds) from the first record not yet read to now; (0, 0.0) when there is none.

    What retention has deleted is not behind: it counts from the log start, as it does when nothing is committed.
    Neither is ever negative, also when the offset is past the end, or the wall clock (now_ms) was set back.
    """
    readable = topics.offset_range(*partition)
    next_offset = max(readable.log_start_offset, committed_offset or 0)
    records = max(0, readable.high_watermark - next_offset)
    if records == 0:
        return 0, 0.0
    appended_ms = topics.append_time_ms(*partition, next_offset)
    return records, 0.0 if appended_ms is None else max(0, now_ms - appended_ms) / 1000
