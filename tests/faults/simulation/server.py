"""One life of a server's core on a simulated disk: the store, its rounds of syncs, and the coordinator of groups.

Clients call it and are told what came of it, or that the connection was lost: also of calls that the process was still
working on when it died.
"""

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from consumer_groups.config import GroupConfig
from consumer_groups.coordinator import GroupCoordinator
from consumer_groups.requests import OffsetRange, Partition, TopicInfo
from logserver.compaction import Compaction
from logserver.journal import GROUPS_TOPIC, TopicJournal
from logserver.waiters import HighWatermarkWaiters
from logstore.batch import Record, decode_batch, iter_headers
from logstore.compaction import CompactionPlan, CompactionResult
from logstore.config import StoreConfig
from logstore.errors import LogStoreError, UnknownTopicId, UnknownTopicOrPartition
from logstore.log import Appended, Log
from logstore.topics import TopicStore
from tests.faults.simulation.loop import SimulatedLoop
from tests.logstore.disk import SimulatedDisk
from tests.logstore.partition import JumpingClock
from tests.logstore.store import DATA

#: A producer is never forgotten: a clock that is set forward over a restart cannot be told from a long stop.
STORE = StoreConfig(
    dirty_bytes_max=8192, open_files_max=8, map_count_max=4, producer_id_block=2, producer_expiry_ms=10**15
)
#: Times are short, and the journal is written anew all the time.
GROUPS = GroupConfig(
    session_timeout_ms=10_000, heartbeat_interval_ms=1_000, rebalance_timeout_ms=15_000, journal_records_max=60
)
FETCH_BYTES = 600
COMPACTION_SECONDS = 0.5


class ConnectionLost(Exception):
    """Nobody knows what came of the call."""


#: Told the result of a call, or the error.
OnDone = Callable[[Any], None]


class SimulatedServer:
    """Made by starting it, which recovers what is on the disk. It is ready once `is_ready` says so."""

    def __init__(self, disk: SimulatedDisk, clock: JumpingClock, rng: random.Random) -> None:
        self.clock = clock
        self.loop = SimulatedLoop.on(clock)
        self.failure: BaseException | None = None
        self.is_ready = False
        #: The pass of compaction that another process is to make, and who waits for it.
        self.wanted_pass: tuple[CompactionPlan, asyncio.Future[CompactionResult]] | None = None
        self._calls: dict[int, OnDone] = {}
        self._calls_count = 0
        self.store = TopicStore.open(
            DATA,
            disk=disk,
            clock=clock,
            config=STORE,
            random=random.Random(rng.getrandbits(32)).randbytes,
            post=self.loop.call_soon,
            on_failure=self._fail,
            sync_in_thread=False,
        )
        self.waiters = HighWatermarkWaiters()
        journal = TopicJournal(self.store, self.waiters, clock, GROUPS_TOPIC)
        self.coordinator = GroupCoordinator(journal, StoreTopics(self.store), clock, GROUPS)
        self.call(self.coordinator.start(), self._started)
        self._compaction = Compaction(self.store, self._run_pass, interval_ms=0)
        self.loop.create_task(self._compact()).add_done_callback(self._compacted)

    def call(self, work: Coroutine[Any, Any, Any], on_done: OnDone) -> None:
        """Work for a client, who is told once."""
        self._calls_count += 1
        number = self._calls_count
        task = self.loop.create_task(work)
        self._calls[number] = on_done
        task.add_done_callback(partial(self._done, number))

    def die(self) -> list[OnDone]:
        """The process is gone. Returns who has to be told that the connection is lost."""
        calls, self._calls = self._calls, {}
        self.loop.abandon()
        return list(calls.values())

    # What it does for clients.

    async def produce(self, topic: str, partition: int, batch: bytes) -> Appended:
        """Returns when the batch, or what it repeats, is durable."""
        log = self.store.log(topic, partition)
        appended = log.append(batch, self.clock.wall_ms())
        durable = self.loop.create_future()
        key = self.waiters.wait(log, appended.last_offset + 1, partial(_settle, durable))
        try:
            await durable
        finally:
            self.waiters.cancel(log, key)
        return appended

    async def fetch(self, topic: str, partition: int, offset: int) -> tuple[list[Record], int]:
        """Records from the offset on, and where to go on."""
        return read_records(self.store.log(topic, partition), offset)

    async def new_producer_id(self) -> int:
        return self.store.next_producer_id()

    # Inside.

    def _started(self, result: Any) -> None:
        if isinstance(result, BaseException):
            self._fail(result)
        else:
            self.is_ready = True

    async def _compact(self) -> None:
        """As `Compaction.run` does, but that here an error that nobody expects is one."""
        while True:
            await asyncio.sleep(COMPACTION_SECONDS)
            while await self._compaction.compact_one():
                await asyncio.sleep(0)

    async def _run_pass(self, plan: CompactionPlan) -> CompactionResult:
        result: asyncio.Future[CompactionResult] = self.loop.create_future()
        self.wanted_pass = plan, result
        return await result

    def _compacted(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self.failure = self.failure or error

    def _done(self, number: int, task: "asyncio.Task[Any]") -> None:
        on_done = self._calls.pop(number, None)
        if on_done is not None:
            error = task.exception()
            on_done(task.result() if error is None else error)


def read_records(log: Log, offset: int) -> tuple[list[Record], int]:
    with log.open_read(offset, FETCH_BYTES) as reader:
        read = reader.read()
    view = memoryview(read.batches)
    records = [
        record
        for position, header in iter_headers(view)
        for record in decode_batch(view[position : position + header.size])
        if record.offset >= offset
    ]
    return records, read.next_offset


def _settle(durable: "asyncio.Future[None]", failure: LogStoreError | None) -> None:
    if durable.done():
        return
    if failure is None:
        durable.set_result(None)
    else:
        durable.set_exception(failure)


class StoreTopics:
    """consumer_groups' TopicDirectory over a store whose disk never keeps anybody waiting."""

    def __init__(self, store: TopicStore) -> None:
        self._store = store

    def topic(self, name: str) -> TopicInfo | None:
        try:
            topic = self._store.topic(name)
        except UnknownTopicOrPartition:
            return None
        return TopicInfo(topic.name, topic.topic_id, topic.partitions)

    def topic_by_id(self, topic_id: UUID) -> TopicInfo | None:
        try:
            return self.topic(self._store.topic_by_id(topic_id).name)
        except UnknownTopicId:
            return None

    async def offset_range(self, topic_id: UUID, partition: int) -> OffsetRange:
        log = self._store.log(self._store.topic_by_id(topic_id).name, partition)
        return OffsetRange(log.log_start_offset, log.high_watermark)

    async def append_times_ms(self, records: Sequence[tuple[Partition, int]]) -> list[int]:
        names = [self._store.topic_by_id(partition.topic_id).name for partition, _ in records]
        return [
            self._store.log(name, partition.number).append_time_ms(offset)
            for name, (partition, offset) in zip(names, records, strict=True)
        ]

    async def offset_for_timestamp(self, topic_id: UUID, partition: int, timestamp_ms: int) -> int:
        log = self._store.log(self._store.topic_by_id(topic_id).name, partition)
        found = log.offset_for_timestamp(timestamp_ms)
        return log.high_watermark if found is None else found.offset
