"""Records on their way into logs, and the acknowledgements on their way back."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import partial
from itertools import count
from typing import NamedTuple

import structlog

from logserver.context import Operation, RequestContext
from logserver.errors import RequestTimedOut
from logserver.time_slice import TimeSlice
from logserver.topics import Topics
from logserver.waiters import HighWatermarkWaiters, finish
from logstore.batch import Buffer, Record, encode_batch
from logstore.clock import Clock
from logstore.errors import DataLoss, DuplicateSequence, ExplainedError, LogStoreError, StorageFailed
from logstore.log import Log
from logstore.partitioner import partition_for_key
from logstore.topics import TopicStore

logger = structlog.get_logger()

#: Batches that are appended without letting others run, some 20 us each.
APPENDED_AT_ONCE_MAX = 64


class Acks(Enum):
    ALL = auto()  # when a sync covers the records
    ONE = auto()  # when they are in the page cache
    ZERO = auto()  # whatever becomes of them


class BatchAppend(NamedTuple):
    """One record batch for one partition."""

    topic: str
    #: Empty when the producer has not learned it.
    topic_id: bytes
    partition: int
    batch: Buffer


@dataclass(slots=True)
class Ack:
    topic: str
    partition: int
    topic_id: bytes = b""
    base_offset: int = -1
    duplicate: bool = False
    log_start_offset: int = -1
    error: Exception | None = None


@dataclass(slots=True, eq=False)
class PendingAcks:
    """The acknowledgements of one request, of which some may wait for a sync still."""

    acks: list[Ack]
    #: Called once, when the last one is known. Not called when all are known before it is set.
    on_done: Callable[[], None] | None = None
    _waiting: dict[int, tuple[Log, object]] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        return not self._waiting

    def wait(self, waiters: HighWatermarkWaiters, log: Log, last_offset: int, ack: Ack) -> None:
        """Keep this request waiting until the record at last_offset may be read."""
        self._waiting[id(ack)] = (log, None)
        key = waiters.wait(log, last_offset + 1, partial(self._woken, ack))
        if id(ack) in self._waiting:
            self._waiting[id(ack)] = (log, key)

    def give_up(self, waiters: HighWatermarkWaiters, waited_ms: int) -> None:
        """Answer what is still waiting with RequestTimedOut: its records may become durable or not."""
        for ack in self.acks:
            waiting = self._waiting.pop(id(ack), None)
            if waiting is not None:
                waiters.cancel(*waiting)
                self.on_done = None
                ack.error = RequestTimedOut(
                    f"the records of {ack.topic!r} partition {ack.partition} were written, and no sync covered them "
                    f"in {waited_ms} ms",
                    remedy="Send them again with the same producer id and sequence: what was written is not repeated.",
                )

    def forget(self, waiters: HighWatermarkWaiters) -> None:
        """Nobody wants the answer any more."""
        self.on_done = None
        for log, key in self._waiting.values():
            waiters.cancel(log, key)
        self._waiting.clear()

    def _woken(self, ack: Ack, failure: LogStoreError | None) -> None:
        del self._waiting[id(ack)]
        if failure is not None:
            ack.error = failure
        if not self._waiting and self.on_done is not None:
            self.on_done()


class Appends:
    def __init__(
        self,
        store: TopicStore,
        topics: Topics,
        waiters: HighWatermarkWaiters,
        clock: Clock,
        *,
        timeout_ms: int,
        on_failure: Callable[[BaseException], None],
    ) -> None:
        """timeout_ms bounds every wait for room and for a sync. on_failure is told of a disk that failed a write."""
        self._store = store
        self._topics = topics
        self._waiters = waiters
        self._clock = clock
        self._timeout_ms = timeout_ms
        self._on_failure = on_failure
        self._turn = count()

    async def append(self, context: RequestContext, batches: Sequence[BatchAppend | Ack], acks: Acks) -> PendingAcks:
        """Append the batches in order and return what is to be acknowledged, one for each batch. What a door could not
        even make a batch of takes its place as an acknowledgement with the error.

        Waits while too much is unsynced already. What is refused of one partition stands in its acknowledgement and
        hinders no other.
        """
        pending = PendingAcks([])
        time_slice = TimeSlice(self._clock)
        try:
            for number, append in enumerate(batches):
                if number:
                    await time_slice.give_way()
                if isinstance(append, BatchAppend) and not self._store.has_room(len(append.batch)):
                    try:
                        await self._room(context, len(append.batch))
                    except RequestTimedOut as refused:
                        ack = Ack(append.topic, append.partition)
                        pending.acks.append(ack)
                        self._refused(ack, acks, refused)
                        continue
                if isinstance(append, BatchAppend) and not self._topics.is_open(append.topic, append.partition):
                    await self._open(context, append)
                self._append_or_refuse(context, append, acks, pending)
        except asyncio.CancelledError:  # Between two. Nobody is left to hear of what came before.
            pending.forget(self._waiters)
            raise
        return pending

    def append_now(
        self, context: RequestContext, batches: Sequence[BatchAppend | Ack], acks: Acks
    ) -> PendingAcks | None:
        """As `append`, at once; None, with nothing appended, where that has to wait, for room or for a log that is not
        open yet, or would take long."""
        size = sum(len(append.batch) for append in batches if isinstance(append, BatchAppend))
        if len(batches) > APPENDED_AT_ONCE_MAX or not self._store.has_room(size):
            return None
        appends = [append for append in batches if isinstance(append, BatchAppend)]
        if not all(self._topics.is_open(append.topic, append.partition) for append in appends):
            return None
        pending = PendingAcks([])
        for append in batches:
            self._append_or_refuse(context, append, acks, pending)
        return pending

    async def append_and_wait(
        self, context: RequestContext, batches: Sequence[BatchAppend | Ack], acks: Acks
    ) -> list[Ack]:
        """As `append`, and returns when all is known or the caller's deadline is over."""
        pending = await self.append(context, batches, acks)
        if not pending.done:
            finished = asyncio.get_running_loop().create_future()
            pending.on_done = partial(finish, finished)
            wait_ms = context.remaining_ms(self._clock, self._timeout_ms)
            try:
                async with asyncio.timeout(wait_ms / 1000):
                    await finished
            except TimeoutError:
                self.give_up(pending)
            finally:
                pending.forget(self._waiters)
        return pending.acks

    def give_up(self, pending: PendingAcks) -> None:
        pending.give_up(self._waiters, self._timeout_ms)

    def forget(self, pending: PendingAcks) -> None:
        pending.forget(self._waiters)

    def encode(
        self, context: RequestContext, topic: str, topic_id: bytes, partition: int | None, records: Sequence[Record]
    ) -> list[BatchAppend]:
        """Batches of plain records. Without a partition a record goes by its key's hash, or without one to one
        partition in turn, the same for all of this call."""
        if partition is not None:
            return [BatchAppend(topic, topic_id, partition, encode_batch(records))]
        partitions = self._topics.find_or_create(context, topic, topic_id).partitions
        keyless = next(self._turn) % partitions
        by_partition: dict[int, list[Record]] = {}
        for record in records:
            chosen = keyless if record.key is None else partition_for_key(record.key, partitions)
            by_partition.setdefault(chosen, []).append(record)
        return [BatchAppend(topic, topic_id, chosen, encode_batch(of_one)) for chosen, of_one in by_partition.items()]

    def _append_or_refuse(
        self, context: RequestContext, append: BatchAppend | Ack, acks: Acks, pending: PendingAcks
    ) -> None:
        ack = append if isinstance(append, Ack) else Ack(append.topic, append.partition)
        pending.acks.append(ack)
        try:
            if isinstance(append, BatchAppend):
                self._append_one(context, append, acks, pending, ack)
        except Exception as refused:
            self._refused(ack, acks, refused)

    def _append_one(
        self, context: RequestContext, append: BatchAppend, acks: Acks, pending: PendingAcks, ack: Ack
    ) -> None:
        topic = self._topics.find_or_create(context, append.topic, append.topic_id)
        log = self._topics.log(topic, append.partition)
        try:
            appended = log.append(append.batch, self._clock.wall_ms())
        except DataLoss as damage:
            self._topics.damage.note(log, damage)
            raise
        except DuplicateSequence as written:
            # Where it was written is forgotten; that it was may be said only of what is on the disk.
            ack.error = written
            if acks is Acks.ALL:
                pending.wait(self._waiters, log, log.log_end_offset - 1, ack)
            return
        ack.topic_id = topic.topic_id.bytes
        ack.base_offset = appended.base_offset
        ack.duplicate = appended.duplicate
        ack.log_start_offset = log.log_start_offset
        if acks is Acks.ALL:
            # For a duplicate last_offset is the original's: its sync is waited for, too.
            pending.wait(self._waiters, log, appended.last_offset, ack)
        else:
            self._waiters.appended(log)

    def _refused(self, ack: Ack, acks: Acks, reason: Exception) -> None:
        ack.error = reason
        if isinstance(reason, ExplainedError) and not isinstance(reason, StorageFailed):
            # Its frames lead back here, and hold what a batch was inflated into until the garbage is collected.
            reason.__traceback__ = reason.__context__ = None
        if isinstance(reason, StorageFailed):
            self._on_failure(reason)
        if acks is Acks.ZERO:
            # The producer does not want to know; whoever reads the log may.
            logger.warning("append refused", topic=ack.topic, partition=ack.partition, exc_info=reason)

    async def _open(self, context: RequestContext, append: BatchAppend) -> None:
        """Open the log that the batch is for. What is in the way of that, the append is refused for."""
        with suppress(ExplainedError):
            topic = self._topics.find(context, append.topic, Operation.WRITE, append.topic_id)
            await self._topics.open_log(topic, append.partition)

    async def _room(self, context: RequestContext, size: int) -> None:
        wait_ms = context.remaining_ms(self._clock, self._timeout_ms)
        try:
            async with asyncio.timeout(wait_ms / 1000):
                while not self._store.has_room(size):
                    room = asyncio.get_running_loop().create_future()
                    self._store.on_room(partial(finish, room))
                    await room
        except TimeoutError:
            raise RequestTimedOut(
                f"{self._store.dirty_bytes} bytes are waiting to be synced, and room for {size} more did not come in "
                f"{wait_ms} ms",
                remedy="Retry after a pause; the disk is slower than what is sent.",
            ) from None
