"""Who waits for a log to grow: acknowledgements for the sync that covers them, readers for records to read.

Both wait for the same thing, the high watermark reaching an offset, and are told by the log itself when it moves; no
one looks again in intervals. A waiting reader costs one dictionary entry and no task.
"""

import asyncio
from collections.abc import Callable, Iterator
from uuid import UUID

from logstore.errors import LogStoreError, UnknownTopicOrPartition
from logstore.log import Log

ASK_AGAIN = "Ask for the topic's metadata again."

#: Called with None once the high watermark has reached the offset, or with the reason why it never will.
Wake = Callable[[LogStoreError | None], None]


class HighWatermarkWaiters:
    def __init__(self) -> None:
        self._waiting: dict[Log, dict[object, tuple[int, Wake]]] = {}

    def wait(self, log: Log, offset: int, wake: Wake) -> object:
        """Call wake once when log.high_watermark >= offset, at once if it is. Returns a key for `cancel`.

        A sync is made due if one can bring the high watermark there.
        """
        key = object()
        if log.high_watermark >= offset:
            wake(None)
            return key
        if log.is_deleted:
            # Deleted while a thread read it: `fail` has been here already.
            wake(UnknownTopicOrPartition(f"{log.topic} partition {log.partition} was deleted", remedy=ASK_AGAIN))
            return key
        waiting = self._waiting.get(log)
        if waiting is None:
            waiting = self._waiting[log] = {}
            log.on_high_watermark = self._advanced
        waiting[key] = (offset, wake)
        if log.log_end_offset > log.high_watermark:
            log.request_sync()
        return key

    def cancel(self, log: Log, key: object) -> None:
        """Forget a waiter. One that was woken already is forgotten already."""
        waiting = self._waiting.get(log)
        if waiting is not None and waiting.pop(key, None) is not None and not waiting:
            del self._waiting[log]

    def appended(self, log: Log) -> None:
        """Make a sync due if someone waits for what was appended."""
        if log in self._waiting:
            log.request_sync()

    def logs_of(self, topic_id: UUID) -> Iterator[Log]:
        """The logs of a topic that someone waits for."""
        return (log for log in self._waiting if log.topic_id == topic_id)

    def fail(self, log: Log, reason: LogStoreError) -> None:
        """Wake all that wait for a log that grows no more, such as one of a deleted topic."""
        for _, wake in self._waiting.pop(log, {}).values():
            wake(reason)

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def _advanced(self, log: Log) -> None:
        waiting = self._waiting.get(log)
        if waiting is None:
            return
        reached = log.high_watermark
        ready = [key for key, (offset, _) in waiting.items() if offset <= reached]
        # Taken out first: a woken one may wait again at once.
        wakes = [waiting.pop(key)[1] for key in ready]
        if not waiting:
            del self._waiting[log]
        for wake in wakes:
            wake(None)


def finish(future: asyncio.Future[None], _: object = None) -> None:
    """Wake who waits for the future; it finds out for itself what became of its log."""
    if not future.done():
        future.set_result(None)
