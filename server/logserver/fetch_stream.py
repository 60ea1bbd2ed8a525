"""Following logs: one reader, many partitions, first what is there and then what comes, as fast as the reader takes it.

A followed partition is in one of three states, and moves between them so:

    ready --read--> ready             more is there
    ready --read--> parked            the high watermark was reached; its waiter makes it ready again
    ready --error-> (followed no more, until it is set again)

Ready ones stand in a queue and each gets its share of every answer, so that none starves another. Only `next` reads,
and only within the reader's credit; an answer in the reader's hands is all that is ever held in memory.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

from logserver.context import Operation, RequestContext
from logserver.errors import RequestTooLarge
from logserver.fetches import Fetches, FetchFrom, PartitionRead
from logserver.time_slice import TimeSlice
from logserver.topics import Topics
from logserver.waiters import HighWatermarkWaiters
from logstore.clock import Clock
from logstore.errors import LogStoreError
from logstore.log import Log

#: Most bytes of batches in one answer, unless one batch is larger.
ANSWER_BYTES_MAX = 1 << 20

#: Least share of one partition in an answer of many.
SHARE_BYTES_MIN = 16 << 10

#: Partitions that one stream may follow.
FOLLOWED_MAX = 20_000


@dataclass(slots=True, eq=False)
class _Followed:
    start: FetchFrom
    position_id: int
    next_offset: int
    #: The reader has been told nothing yet, and wants to know even when there is nothing.
    is_new: bool = True
    parked: tuple[Log, object] | None = None


class FetchStream:
    """Serves one reader. `follow`, `drop` and `grant` may be called while `next` waits."""

    def __init__(
        self, context: RequestContext, fetches: Fetches, topics: Topics, waiters: HighWatermarkWaiters, clock: Clock
    ) -> None:
        self._context = context
        self._fetches = fetches
        self._topics = topics
        self._waiters = waiters
        self._clock = clock
        self._followed: dict[tuple[str, int], _Followed] = {}
        self._ready: OrderedDict[_Followed, None] = OrderedDict()
        self._credit_bytes = 0
        self._wake: asyncio.Future[None] | None = None
        self._ended = False
        self._stopped = False

    def grant(self, size: int) -> None:
        """Allow size more bytes to be sent."""
        self._credit_bytes += size
        self._awake()

    def follow(self, start: FetchFrom, position_id: int) -> None:
        """Start reading a partition, or move it. Answers to what was set before that `next` has not returned yet are
        never returned. Raises RequestTooLarge."""
        self.drop(start.topic, start.partition)
        if len(self._followed) >= FOLLOWED_MAX:
            raise RequestTooLarge(
                f"the stream follows {FOLLOWED_MAX} partitions, as many as one may", remedy="Open another stream."
            )
        followed = _Followed(start, position_id, start.offset)
        self._followed[start.topic, start.partition] = followed
        self._make_ready(followed)

    def drop(self, topic: str, partition: int) -> None:
        """Stop reading a partition; one that is not read is ignored."""
        followed = self._followed.pop((topic, partition), None)
        if followed is not None:
            self._ready.pop(followed, None)
            self._unpark(followed)

    def end(self) -> None:
        """The reader says no more: `next` returns None once its credit is used, or nothing is followed."""
        self._ended = True
        self._awake()

    def stop(self) -> None:
        """`next` returns None from now on."""
        self._stopped = True
        self._awake()

    async def next(self) -> list[PartitionRead] | None:
        """The next answer: data, errors, or that the end of a partition was found, of one or more partitions."""
        while not self._stopped:
            if self._credit_bytes > 0:
                reads = await self._gather()
                if reads:
                    self._credit_bytes -= sum(len(read.batches) for read in reads)
                    return reads
            if self._ended and (self._credit_bytes <= 0 or not self._followed):
                return None
            if not self._ready or self._credit_bytes <= 0:
                self._wake = asyncio.get_running_loop().create_future()
                try:
                    await self._wake
                finally:
                    self._wake = None
        return None

    def close(self) -> None:
        """Forget everything that is parked. Must be called, however the stream ends."""
        for followed in self._followed.values():
            self._unpark(followed)
        self._followed.clear()
        self._ready.clear()

    async def _gather(self) -> list[PartitionRead]:
        """Read each ready partition once, in turn, until the answer is full."""
        gathered: list[tuple[_Followed, PartitionRead]] = []
        time_slice = TimeSlice(self._clock)
        turns = len(self._ready)
        left_bytes = min(self._credit_bytes, ANSWER_BYTES_MAX)
        share_bytes = max(left_bytes // turns, SHARE_BYTES_MIN) if turns else 0
        while turns and self._ready and left_bytes > 0:
            turns -= 1
            followed, _ = self._ready.popitem(last=False)
            read = await self._read(followed, min(share_bytes, left_bytes))
            if read is not None:
                gathered.append((followed, read))
                left_bytes -= len(read.batches)
            await time_slice.give_way()
        return [read for followed, read in gathered if self._is_still_wanted(followed, read)]

    def _is_still_wanted(self, followed: _Followed, read: PartitionRead) -> bool:
        """Not of what was moved or dropped while others were read."""
        now = self._followed.get((read.topic, read.partition))
        return now is followed or (now is None and read.error is not None)

    async def _read(self, followed: _Followed, bytes_max: int) -> PartitionRead | None:
        """Read once and move on to the next state. None when there is nothing to tell."""
        start = followed.start
        answer = PartitionRead(
            start.topic, start.partition, next_offset=followed.next_offset, position_id=followed.position_id
        )
        try:
            topic = self._topics.find(self._context, start.topic, Operation.READ, start.topic_id)
            # From here on a topic made again under the name is another one, whether the reader knows ids or not.
            followed.start = start._replace(topic_id=topic.topic_id.bytes)
            log = await self._topics.open_log(topic, start.partition)
            read = await self._fetches.read(log, followed.next_offset, bytes_max)
        except Exception as refused:
            if not self._is_followed(followed):
                return None
            del self._followed[start.topic, start.partition]
            answer.error = refused
            return answer
        if not self._is_followed(followed):
            return None  # Moved or dropped while a thread read.
        answer.high_watermark = log.high_watermark
        answer.log_start_offset = log.log_start_offset
        if read is not None:
            answer.batches = read.batches
            answer.next_offset = followed.next_offset = read.next_offset
        tells = read is not None or followed.is_new
        followed.is_new = False
        if followed.next_offset < log.high_watermark:
            self._make_ready(followed)
        else:
            self._park(followed, log)
        return answer if tells else None

    def _park(self, followed: _Followed, log: Log) -> None:
        assert followed.next_offset >= log.high_watermark, "else it would be woken before it is parked"
        key = self._waiters.wait(log, followed.next_offset + 1, partial(self._grown, followed))
        followed.parked = (log, key)

    def _grown(self, followed: _Followed, failure: LogStoreError | None) -> None:
        # After a failure the read finds out for itself, and answers with the error.
        followed.parked = None
        self._make_ready(followed)

    def _unpark(self, followed: _Followed) -> None:
        if followed.parked is not None:
            self._waiters.cancel(*followed.parked)
            followed.parked = None

    def _make_ready(self, followed: _Followed) -> None:
        self._ready[followed] = None
        self._awake()

    def _is_followed(self, followed: _Followed) -> bool:
        return self._followed.get((followed.start.topic, followed.start.partition)) is followed

    def _awake(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
