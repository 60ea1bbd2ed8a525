"""What the synchronous and the asyncio producer have in common: everything but how they wait.

`try_send` appends a record in the caller's thread, or returns the Obstacle to it: the topic is not known yet, or the
buffer is full. Then `prepare` is to be awaited on the I/O thread, and `try_send` called again.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, islice, repeat
from random import Random
from typing import Any, NamedTuple

from logstore.batch import Compression
from logwire.v1 import records_pb2 as pb
from tailrace.accumulator import NO_HEADERS, Accumulator, BulkRecord, PartitionQueue, closed_error
from tailrace.arguments import Headers, check_timestamp, json_value, text_encoded, to_bytes, to_headers
from tailrace.connection import Connection
from tailrace.delivery import Batch, SendFuture
from tailrace.errors import BufferFull, ClientClosed, InvalidRequest, SendsFailed, TailraceError
from tailrace.metadata import Cluster, checked_topic
from tailrace.producer_settings import ACKS, ProducerSettings, checked_settings
from tailrace.runtime import call_from_any_thread, check_not_forked, io_thread
from tailrace.sender import Sender, SenderSettings

logger = logging.getLogger("tailrace")

#: How old what is known of a topic may become. Added partitions are found out so.
METADATA_SECONDS_MAX = 300.0

#: Of `send_many`, appended under one hold of the lock.
CHUNK_RECORDS = 2_000

FAILURES_KEPT_MAX = 1_000
ERRORS_TOLD_MAX = 10


class Obstacle(NamedTuple):
    """What keeps a record from being appended for now."""

    topic: str
    #: There is less room than that; None when it is the topic that is not known.
    wanted_bytes: int | None


class ProducerCore:
    def __init__(self, settings: ProducerSettings, random: Random) -> None:
        self.settings = settings = checked_settings(settings)
        self._acks = ACKS[settings.acks]
        self._touched: deque[PartitionQueue] = deque()
        self._wake_is_due = False
        self.accumulator = Accumulator(
            buffer_bytes=settings.buffer_bytes,
            batch_bytes=settings.batch_bytes,
            compression=Compression[settings.compression.upper()],
            delivery_timeout=settings.delivery_timeout,
            on_touched=self._touch,
            on_failed=self._failed,
            on_room=self._tell_of_room,
            random=random,
        )
        #: For the fast path: topic -> key -> queue, emptied when nothing may be sent any more.
        self.routes = self.accumulator.routes
        self._failures: list[Batch] = []
        self._failures_dropped = 0
        self._was_forked = False
        # Of the I/O thread, from first use on.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cluster: Cluster | None = None
        self._senders: dict[Connection, Sender] = {}
        self._topic_locks: dict[str, asyncio.Lock] = {}
        self._ever_known: set[str] = set()
        #: Who waits for room, and for how many bytes of it.
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._housekeepers: list[asyncio.Task[None]] = []

    # In the caller's thread.

    def try_send(
        self,
        topic: str,
        value: bytes | str | None,
        key: bytes | str | None,
        json: Any,
        headers: Headers | None,
        timestamp_ms: int | None,
        partition: int | None,
    ) -> SendFuture | Obstacle:
        """Append a record, or return what `prepare` has to deal with first. Raises what is wrong with it."""
        self.check_usable()
        if json is not ...:
            value = json_value(value, json)
        elif type(value) is not bytes:
            value = to_bytes(value, "value")
        key_bytes = to_bytes(key, "key")
        header_list = NO_HEADERS if headers is None else to_headers(headers)
        if timestamp_ms is not None:
            check_timestamp(timestamp_ms)
        queues = self.accumulator.topics.get(topic)
        if queues is None:
            if not isinstance(topic, str):
                raise InvalidRequest(f"{topic!r} is not the name of a topic", remedy="Give a topic as a str.")
            return Obstacle(topic, None)
        queue = queues.queue_of(key_bytes, key, partition)
        placed = self.accumulator.append(queues, queue, timestamp_ms, key_bytes, value, header_list)
        if isinstance(placed, int):
            return Obstacle(topic, placed)
        future = SendFuture()
        future._batch, future._appended = placed
        return future

    def append_many(
        self,
        topic: str,
        values: Sequence[bytes | str | None],
        keys: Sequence[bytes | str | None] | None,
        parts: list[tuple[Batch, int, int]],
    ) -> Iterator[BulkRecord | None]:
        """Append all, but for those that are yielded: these are to be sent alone before the next one is asked for.
        None is yielded where a caller with something else to do may do it.

        parts collects which places of which batches were filled.
        """
        checked_topic(topic)
        records: Iterator[BulkRecord] = zip(values, repeat(None) if keys is None else keys, strict=False)
        is_encoded = False
        for _ in range(0, len(values), CHUNK_RECORDS):
            chunk: Iterator[BulkRecord] = islice(records, CHUNK_RECORDS)
            while True:
                self.check_usable()
                queues = self.accumulator.topics.get(topic)
                left = next(chunk, None) if queues is None else self.accumulator.append_many(queues, chunk, parts)
                if left is None:
                    break
                if not is_encoded and str in map(type, left):
                    # Where there is text, there is more of it. Looking for it in every record is worth it only now.
                    is_encoded = True
                    chunk = text_encoded(chain([left], chunk))
                    records = text_encoded(records)
                else:
                    yield left
            yield None

    def check_usable(self) -> None:
        if self._was_forked:
            check_not_forked()
        if self.accumulator.closed:
            raise closed_error()

    @property
    def is_connected(self) -> bool:
        """Whether anything was ever sent: without that there is nothing to wait for."""
        return self._cluster is not None

    def take_failures(self) -> SendsFailed | None:
        """The failed sends that nobody has read, which are then forgotten."""
        failures, self._failures = self._failures, []
        dropped, self._failures_dropped = self._failures_dropped, 0
        unread = [batch for batch in failures if batch.unread_count > 0]
        count = dropped + sum(batch.unread_count for batch in unread)
        if count == 0:
            return None
        told = tuple(batch.error for batch in unread[:ERRORS_TOLD_MAX] if batch.error is not None)
        first = told[0] if told else None
        return SendsFailed(
            ("1 record was" if count == 1 else f"{count} records were")
            + " not sent, and nobody read the futures that say so"
            + (f"; the first failed with: {first.message}" if first else ""),
            remedy=first.remedy if first else "Read the futures of `send`.",
            count=count,
            errors=told,
        )

    def forked(self) -> None:
        """In the child: nothing may be waited for here, locks included."""
        self._was_forked = True
        self.routes.clear()

    def _touch(self, queue: PartitionQueue) -> None:
        self._touched.append(queue)
        # A wake that is under way finds what was appended before it runs.
        if not self._wake_is_due and self._loop is not None:
            try:
                self._wake_is_due = True
                call_from_any_thread(self._loop, self._take_touched)
            except BaseException:
                # Ctrl-C, which nothing narrower catches: others must not rely on a wake that is not under way.
                self._wake_is_due = False
                raise

    # On the I/O thread.

    async def prepare(self, obstacle: Obstacle, until: float | None) -> None:
        """Learn the topic, creating it if it is missing, or wait for room until then. Raises BufferFull, and why a
        topic cannot be sent to."""
        if obstacle.wanted_bytes is None:
            await self._learn(obstacle.topic)
            return
        try:
            async with asyncio.timeout_at(until):
                await self._room_for(obstacle.wanted_bytes)
        except TimeoutError:
            raise BufferFull(
                f"{self.accumulator.used_bytes} of {self.settings.buffer_bytes} bytes wait to be acknowledged, and "
                f"there was no room within {self.settings.max_block:g} s",
                remedy="Send more slowly, raise buffer_bytes or max_block, or see why the server is slow.",
            ) from None

    async def _room_for(self, wanted_bytes: int) -> None:
        # Others may take the room again and again before the caller does. Here his time is up then.
        await asyncio.sleep(0)
        while not self.accumulator.closed and not self.accumulator.has_room(wanted_bytes):
            room: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting[room] = wanted_bytes
            try:
                self.accumulator.hurry()
                await room
            finally:
                del self._waiting[room]

    async def flush(self) -> None:
        """Send what is there and wait until all of it is acknowledged or has failed."""
        await self._settled(self.accumulator.seal_all())

    async def close(self, *, abandon_after: float | None = None) -> int:
        """Take nothing more, send what is there, and end. Once. Returns how many records were given up."""
        with suppress(TimeoutError):
            async with asyncio.timeout(abandon_after):
                await self._settled(self.accumulator.seal_all(close=True))
        for room in self._waiting:
            _finish(room)
        for housekeeper in self._housekeepers:
            housekeeper.cancel()
        for sender in self._senders.values():
            await sender.close()
        self._senders.clear()
        left = self.accumulator.seal_all()
        for batch in left:
            self.accumulator.resolve(batch, error=_abandoned(batch))
        if self._cluster is not None:
            await self._cluster.close()
            self._cluster = None
        return sum(batch.count for batch in left)

    async def abandon(self) -> None:
        if self._cluster is not None and (count := await self.close(abandon_after=4.0)):
            logger.warning("the process ended with %d of its records not sent: close the producer before", count)

    async def _settled(self, batches: Sequence[Batch]) -> None:
        loop = asyncio.get_running_loop()
        for batch in batches:
            if not batch.done:
                done: asyncio.Future[None] = loop.create_future()
                batch.add_callback(lambda done=done: _finish(done))  # type: ignore[misc]
                await done

    async def _learn(self, topic: str) -> None:
        if self.accumulator.closed:
            raise closed_error()  # By another thread.
        if self._cluster is None:
            self._loop = asyncio.get_running_loop()
            self._cluster = Cluster(self.settings.server, connect_timeout=self.settings.connect_timeout)
            io_thread().add(self)
            # Two, because asking the server may take long, and time does not wait.
            self._housekeepers = [
                self._loop.create_task(_keep(self._watch_time, min(1.0, self.settings.delivery_timeout / 10))),
                self._loop.create_task(_keep(self._watch_topics, 1.0)),
            ]
        async with self._topic_locks.setdefault(topic, asyncio.Lock()):
            if topic in self.accumulator.topics:
                return
            # Whoever has known a topic and lost it must not make an empty one in its place.
            info = await self._cluster.find(topic, auto_create=topic not in self._ever_known)
            self._ever_known.add(topic)
            self.accumulator.add_topic(info)

    async def _watch_time(self) -> None:
        """Expire batches, and look for queues whose wake was lost to a Ctrl-C."""
        self._take_touched()
        now = asyncio.get_running_loop().time()
        for sender in self._senders.values():
            sender.expire(now)

    async def _watch_topics(self) -> None:
        """Look whether topics have grown."""
        assert self._cluster is not None
        now = asyncio.get_running_loop().time()
        for queues in list(self.accumulator.topics.values()):
            if now - queues.fetched_at > METADATA_SECONDS_MAX:
                topic = queues.info.topic
                try:
                    self.accumulator.add_topic(await self._cluster.find(topic))
                except TailraceError as error:
                    logger.info("cannot look whether topic %r has grown: %s", topic, error)

    def _take_touched(self) -> None:
        self._wake_is_due = False
        while self._touched and self._cluster is not None:
            queue = self._touched.popleft()
            self._sender(queue).touched(queue)

    def _sender(self, queue: PartitionQueue) -> Sender:
        assert self._cluster is not None
        connection = self._cluster.leader(queue.topic, queue.partition)
        sender = self._senders.get(connection)
        if sender is None:
            sender = self._senders[connection] = Sender(
                connection,
                self.accumulator,
                SenderSettings(self._acks, self._acks == pb.ACKS_ALL, self.settings.linger),
                on_topic_gone=self._topic_gone,
            )
        return sender

    def _failed(self, batch: Batch) -> None:
        self._failures.append(batch)
        if len(self._failures) > FAILURES_KEPT_MAX:
            self._failures_dropped += self._failures.pop(1).unread_count

    def _tell_of_room(self) -> None:
        for room, wanted_bytes in self._waiting.items():
            if self.accumulator.has_room(wanted_bytes):
                _finish(room)
        if self._waiting:
            self.accumulator.hurry()

    def _topic_gone(self, queue: PartitionQueue, error: TailraceError) -> None:
        known = self.accumulator.topics.get(queue.topic)
        # The topic may have been forgotten before, and learned anew since: that one is not gone.
        if known is not None and queue in known.queues:
            for forgotten in self.accumulator.forget_topic(queue.topic):
                self._sender(forgotten).fail_queue(forgotten, error)


async def _keep(work: Callable[[], Awaitable[None]], interval: float) -> None:
    """Do it again and again, whatever happens: a bug met once must not be the end of it."""
    while True:
        await asyncio.sleep(interval)
        try:
            await work()
        except Exception:
            logger.exception("the producer's housekeeping failed unexpectedly, and goes on")


def _abandoned(batch: Batch) -> ClientClosed:
    return ClientClosed(
        f"the producer was closed before {batch} was acknowledged; {batch.fate}",
        remedy="Leave the producer's `with` block before the process ends, or give `close` more time.",
    )


def _finish(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
