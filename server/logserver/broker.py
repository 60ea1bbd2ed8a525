"""The composition: everything behind the doors, built in one place, started and stopped in one order."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import structlog

from consumer_groups.config import GroupConfig
from consumer_groups.coordinator import GroupCoordinator
from logserver.appends import Appends
from logserver.bytes_in_flight import Connections
from logserver.compaction import Compaction, in_another_process
from logserver.config import ServerConfig
from logserver.context import Operation, RequestContext, Resource, authorize
from logserver.damage import tell_recovery, tell_vanished
from logserver.fetch_stream import FetchStream
from logserver.fetches import Fetches
from logserver.journal import GROUPS_TOPIC, TopicJournal
from logserver.openings import Openings
from logserver.scrub import Scrub
from logserver.topic_directory import StoreTopicDirectory
from logserver.topics import Topics
from logserver.waiters import HighWatermarkWaiters
from logstore.clock import Clock
from logstore.config import StoreConfig
from logstore.errors import LogStoreError, UnknownTopicId, UnknownTopicOrPartition
from logstore.linux_disk import LinuxDisk
from logstore.topics import TopicStore

logger = structlog.get_logger()

#: Threads that read what is not in memory. Each waits for the disk; the loop does not.
READER_THREADS = 8


class Broker:
    """One data directory, served. All doors call the same one; its methods and those of its parts run on the loop.

    `topics`, `appends`, `fetches` and `groups` are its parts, and take a RequestContext where a client stands behind
    the call.
    """

    def __init__(self, config: ServerConfig, clock: Clock, on_failure: Callable[[BaseException], None]) -> None:
        """Open the data directory: blocks until it is recovered. Must be called on the loop that will serve.

        config.listen is where the server listens already: clients are told. on_failure is called once when the disk
        fails, and nothing that waits may be answered after it.
        Raises DataDirectoryLocked, DataDirectoryUnusable, FormatTooNew, MetadataCorrupt.
        """
        self.config = config
        self.clock = clock
        self.waiters = HighWatermarkWaiters()
        self.connections = Connections(config.connection_bytes_in_flight_max, config.total_bytes_in_flight_max)
        disk = LinuxDisk()
        self.store = TopicStore.open(
            config.data_dir,
            disk=disk,
            clock=clock,
            config=StoreConfig(dirty_bytes_max=config.dirty_bytes_max),
            random=os.urandom,
            post=asyncio.get_running_loop().call_soon_threadsafe,
            on_failure=on_failure,
        )
        for findings in self.store.recovery_report:
            tell_recovery(findings)
        self.store.on_findings = tell_recovery
        for topic_id in self.store.vanished_topics:
            tell_vanished(topic_id)
        self._readers = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="reader")
        self._openings = Openings(self.store, self._readers)
        self.topics = Topics(
            self.store,
            self._openings,
            self.waiters,
            clock,
            auto_create=config.auto_create_topics,
            default_partitions=config.default_partitions,
            timeout_ms=config.produce_timeout_ms,
            request_bytes_max=config.request_bytes_max,
            changed=self._topics_changed,
        )
        self.appends = Appends(
            self.store, self.topics, self.waiters, clock, timeout_ms=config.produce_timeout_ms, on_failure=on_failure
        )
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="decoder")
        self.fetches = Fetches(
            self.topics,
            self.waiters,
            clock,
            readers=self._readers,
            decoder=self._decoder,
            bytes_max=config.fetch_bytes_max,
            wait_ms_max=config.fetch_wait_ms_max,
        )
        self.groups = GroupCoordinator(
            TopicJournal(
                self.store,
                self.waiters,
                clock,
                GROUPS_TOPIC,
                free_bytes=lambda: shutil.disk_usage(config.data_dir).free,
            ),
            StoreTopicDirectory(self.store, self._openings, self.fetches, self._readers),
            clock,
            GroupConfig(
                session_timeout_ms=config.group_session_timeout_ms,
                heartbeat_interval_ms=config.group_heartbeat_interval_ms,
                offsets_retention_ms=config.group_offsets_retention_ms,
                total_bytes_max=config.group_total_bytes_max,
                initial_rebalance_delay_ms=config.group_initial_rebalance_delay_ms,
                session_timeout_ms_min=config.group_min_session_timeout_ms,
                session_timeout_ms_max=config.group_max_session_timeout_ms,
            ),
        )
        self._scrub = Scrub(
            self.store,
            self._openings,
            disk,
            bytes_per_second=config.scrub_bytes_per_second,
            interval_ms=config.scrub_interval_ms,
        )
        self._compaction = Compaction(
            self.store,
            in_another_process(config.compaction_bytes_per_second),
            interval_ms=config.compaction_interval_ms,
        )
        self._by_the_clock: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Replay the groups and start what runs by the clock."""
        await self.groups.start()
        self._by_the_clock.append(asyncio.create_task(self._retain_by_the_clock()))
        self._by_the_clock.append(asyncio.create_task(self._compaction.run()))
        if self.config.scrub_interval_ms:
            self._by_the_clock.append(asyncio.create_task(self._scrub.run()))

    async def release(self) -> None:
        """Answer everything that waits for something to happen; the first step of stopping."""
        self.fetches.stop()
        await self.groups.stop()

    async def close(self) -> None:
        """Sync everything, mark the stop as clean, and let go of the directory. Nothing may be called any more."""
        for task in self._by_the_clock:
            task.cancel()
        await asyncio.gather(*self._by_the_clock, return_exceptions=True)
        self._scrub.close()
        self._readers.shutdown()
        self._decoder.shutdown()
        self.store.close()

    def fetch_stream(self, context: RequestContext) -> FetchStream:
        return FetchStream(context, self.fetches, self.topics, self.waiters, self.clock)

    def new_producer_id(self, context: RequestContext) -> int:
        authorize(context, Operation.WRITE, Resource.CLUSTER, "")
        return self.store.next_producer_id()

    def _topics_changed(self) -> None:
        self.groups.topics_changed()

    async def retain(self) -> None:
        """Apply retention once. What it has to look at is opened before, in threads.

        Raises what the first log raised that cannot be opened, with retention applied to the others.
        """
        failures: list[LogStoreError] = []
        for topic, partition in self.store.unopened_that_age():
            try:
                await self._openings.log(topic, partition)
            except (UnknownTopicOrPartition, UnknownTopicId):
                pass  # It was deleted meanwhile.
            except LogStoreError as error:
                failures.append(error)
        deleted = self.store.retain()
        if deleted:
            logger.info("segments deleted by retention", segments=deleted)
        if failures:
            raise failures[0]

    async def try_to_retain(self) -> None:
        """`retain` as one turn of many: what fails is logged, and tried again at the next."""
        try:
            await self.retain()
        except Exception:
            # One log that cannot be opened must not let the disk fill with all the others.
            logger.exception("retention failed, and is tried again at its next turn")

    async def catch_up(self) -> None:
        """Apply retention to everything that was appended until now."""
        sealed = asyncio.Event()

        def tell() -> Iterator[None]:
            self.store.synchronizer.post(sealed.set)
            yield

        self.store.synchronizer.run_in_steps(tell())
        await sealed.wait()
        await self.try_to_retain()

    async def _retain_by_the_clock(self) -> None:
        while True:
            await asyncio.sleep(self.config.retention_interval_ms / 1000)
            await self.try_to_retain()
