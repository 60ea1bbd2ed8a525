"""The store: a data directory, opened. From a topic's name and a partition to its log, and all that they share.

    lock            one process has the directory
    meta            who this directory is: `identity`
    checkpoint      up to where every partition is on disk, and whether the last stop was clean: `checkpoint`
    spare           room for what must go on when the disk is full: `spare`
    topics/         which topics there are, and their logs: `catalog`, `files`

The order of a start: take the lock, sync and read what there is, raise the leader epoch after an unclean stop, recover,
and say on disk that the stop is not clean any more; only then may anything be appended. After a clean stop logs are
opened when they are first asked for, so a thousand of them cost nothing; after any other, all are.

What is not understood is refused and not touched. Nothing is removed to make a start succeed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from uuid import UUID

from logstore import files
from logstore.catalog import Topic, TopicCatalog
from logstore.checkpoint import Checkpoint, PartitionCheckpoint
from logstore.clock import Clock, WallClockPast
from logstore.compactions import Compactions, PlannedCompaction
from logstore.config import INT64_MAX, StoreConfig, TopicConfig
from logstore.data_directory import CHECKPOINT, LOCK, SPARE, TOPICS, make_new, refuse_foreign
from logstore.disk import Disk, DiskLock
from logstore.errors import LogStoreError, MetadataCorrupt, StorageFailed, StorageFull, UnknownTopicOrPartition
from logstore.handles import Handles
from logstore.identity import Identity
from logstore.log import Log
from logstore.losses import Loss, read_loss
from logstore.opening import Opening
from logstore.recovery import RecoveryFindings, open_log
from logstore.retention import Retention
from logstore.spare import SpareRoom
from logstore.sync import Synchronizer, SyncThread

__all__ = ["Topic", "TopicStore"]


class TopicStore:
    """Opened by `open`. All methods are for the owner thread."""

    def __init__(
        self,
        directory: Path,
        *,
        disk: Disk,
        clock: Clock,
        config: StoreConfig,
        random: Callable[[int], bytes],
        post: Callable[[Callable[[], None]], object],
        on_failure: Callable[[BaseException], None],
        lock: DiskLock,
        spare: SpareRoom,
        identity: Identity,
        checkpoint: Checkpoint,
        catalog: TopicCatalog,
    ) -> None:
        self._disk = disk
        self._clock = clock
        self._config = config
        self._random = random
        self._lock = lock
        self._spare = spare
        self._identity = identity
        self._checkpoint = checkpoint
        self._catalog = catalog
        self._logs: dict[tuple[str, int], Log] = {}
        self._openings: dict[tuple[UUID, int], Opening] = {}  # of logs that are not open
        self._handles = Handles(disk, open_max=config.open_files_max, maps_max=config.map_count_max)
        self._thread: SyncThread | None = None
        self.synchronizer = Synchronizer(
            directory,
            disk=disk,
            clock=clock,
            dirty_bytes_max=config.dirty_bytes_max,
            post=post,
            on_failure=on_failure,
            write_checkpoint=self._write_checkpoint,
        )
        self._retention = Retention(checkpoint, self.synchronizer, spare)
        self.compactions = Compactions(disk, clock, self.synchronizer)
        self._past = WallClockPast(clock)
        #: What the start found and did, one for each log that was not as a clean stop leaves it.
        self.recovery_report: list[RecoveryFindings] = []
        #: Who is told of the same, whenever a log is opened. Until somebody else is, the report.
        self.on_findings: Callable[[RecoveryFindings], object] = self.recovery_report.append
        #: Topics that the checkpoint knew and that the start did not find.
        self.vanished_topics: list[UUID] = []

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        disk: Disk,
        clock: Clock,
        config: StoreConfig,
        random: Callable[[int], bytes],
        post: Callable[[Callable[[], None]], object],
        on_failure: Callable[[BaseException], None],
        sync_in_thread: bool = True,
    ) -> "TopicStore":
        """Open a data directory, made if there is none. Waits for recovery.

        `random(n)` gives n random bytes. `post` runs a callback on the owner thread, in order, from any thread.
        `on_failure` is told, on the owner thread, of a write or sync that failed: then the process must end. Without
        `sync_in_thread` the caller runs `synchronizer.run_round` itself.

        Raises `DataDirectoryLocked`, `DataDirectoryUnusable`, `FormatTooNew`, `MetadataCorrupt`, `StorageFull` and
        `StorageFailed`.
        """
        disk.make_dir(directory)
        refuse_foreign(directory, disk)  # before the lock, which would be the first file of ours in there
        lock = disk.lock(directory / LOCK)
        try:
            is_new = refuse_foreign(directory, disk)
            if is_new:
                make_new(directory, disk, random)
            # What a killed process renamed can be seen here before it is on the disk. Nothing may be built on it yet.
            disk.sync_dir(directory)
            checkpoint = Checkpoint.load(directory / CHECKPOINT, disk)
            is_synced = not checkpoint.is_clean and disk.can_sync_filesystem(directory)
            if is_synced:  # rather than every file: 10,000 of them take many seconds
                disk.sync_filesystem(directory)
            store = cls(
                directory,
                disk=disk,
                clock=clock,
                config=config,
                random=random,
                post=post,
                on_failure=on_failure,
                lock=lock,
                spare=SpareRoom(directory / SPARE, disk),
                identity=Identity.load(directory, disk),
                checkpoint=checkpoint,
                catalog=TopicCatalog(directory / TOPICS, disk, sync_first=not (checkpoint.is_clean or is_synced)),
            )
        except BaseException:
            lock.release()
            raise
        try:
            store._start(is_synced=is_synced, in_thread=sync_in_thread)
        except BaseException:
            store._let_go()
            raise
        return store

    def close(self) -> None:
        """Sync everything, mark the stop as clean, and let go of the directory.

        Raises `StorageFailed` if a write or sync failed, now or before. Then the stop is not clean, but the directory
        is let go of all the same.
        """
        if self._thread is not None:
            self._thread.stop()
        try:
            self.synchronizer.finish()
            self._checkpoint.write(clean=True)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        self._checkpoint.close()
        self._handles.close_idle()
        self._lock.release()

    # Who this is.

    @property
    def cluster_id(self) -> str:
        return self._identity.cluster_id

    @property
    def node_id(self) -> int:
        return self._identity.node_id

    @property
    def leader_epoch(self) -> int:
        return self._identity.leader_epoch

    def next_producer_id(self) -> int:
        """An id that no producer had and none will have. Waits for the disk now and then."""
        with self._final_failures():
            return self._identity.next_producer_id(block=self._config.producer_id_block)

    # Topics.

    def topic(self, name: str) -> Topic:
        """Raises `UnknownTopicOrPartition`."""
        return self._catalog.topic(name)

    def topic_by_id(self, topic_id: UUID) -> Topic:
        """Raises `UnknownTopicId`."""
        return self._catalog.topic_by_id(topic_id)

    def topics(self) -> list[Topic]:
        """All topics, by name, with the internal ones."""
        return self._catalog.topics()

    def check_new_name(self, name: str) -> None:
        """Raises `InvalidTopicName` or `TopicAlreadyExists` if no topic of that name can be made."""
        self._catalog.check_new_name(name)

    def create_topic(self, name: str, partitions: int, config: TopicConfig, *, internal: bool = False) -> Topic:
        """Make a topic; it is on disk when this returns.

        Raises `InvalidTopicName`, `TopicAlreadyExists`, `InvalidPartitions`, `StorageFull` and `StorageFailed`.
        """
        self._catalog.check_new(name, partitions)
        self._reserve(partitions)
        topic = Topic(name, UUID(bytes=self._random(16), version=4), partitions, config, internal)
        with self._final_failures():
            self._catalog.create(topic)
        return topic

    def delete_topic(self, name: str) -> None:
        """Delete a topic; it is gone, also after a crash, when this returns. Its files are removed after that.

        Raises `UnknownTopicOrPartition` and `StorageFailed`. Its logs refuse appends from now on; readers that are
        open read on. If one is being opened in another thread, this waits for that.
        """
        topic = self._catalog.topic(name)
        with self._final_failures():
            directory = self._catalog.condemn(topic)
        opened = (self._logs.pop((name, partition), None) for partition in range(topic.partitions))
        logs = [log for log in opened if log is not None]
        for log in logs:
            log.mark_deleted()
        for partition in range(topic.partitions):
            if opening := self._openings.pop((topic.topic_id, partition), None):
                opening.abandon()
        self.synchronizer.run_in_steps(self._remove_topic(topic.topic_id, directory, logs))

    def add_partitions(self, name: str, count: int) -> Topic:
        """Give a topic `count` more partitions. Raises as `create_topic`."""
        topic = self._catalog.topic(name)
        self._catalog.check_growth(topic, count)
        self._reserve(count)
        with self._final_failures():
            return self._catalog.add_partitions(topic, count)

    def alter_config(self, name: str, config: TopicConfig) -> Topic:
        """Give a topic another config, at once for its open logs too. Raises `UnknownTopicOrPartition`."""
        with self._final_failures():
            topic = self._catalog.alter_config(self._catalog.topic(name), config)
        for partition in range(topic.partitions):
            if log := self._logs.get((name, partition)):
                log.config = config
        return topic

    # Logs.

    def opening(self, name: str, partition: int) -> Opening | None:
        """What is to be run, in any thread, before `log` does not wait; None if the log is open. Raises
        `UnknownTopicOrPartition`."""
        if (name, partition) in self._logs:
            return None
        return self._opening(self._catalog.topic(name), partition)

    def log(self, name: str, partition: int) -> Log:
        """The log of a partition, opened if it is not: that waits for the disk, for long if the log has to be read. See
        `opening`. Raises `UnknownTopicOrPartition`."""
        log = self._logs.get((name, partition))
        if log is None:
            with self._final_failures():
                log = self._open_log(self._catalog.topic(name), partition)
        return log

    def delete_records(self, log: Log, offset: int, on_stored: Callable[[LogStoreError | None], None]) -> None:
        """Delete the records before offset, or all that are durable for `ALL_RECORDS`. Readers see that at once.

        Calls back once, with None when no crash brings them back, or with why one might: StorageFull, or
        UnknownTopicOrPartition if the topic is deleted meanwhile. Their segments are removed after that. Raises as
        `Log.start_after_deletion`, and then nothing is deleted.
        """
        self._retention.delete_before(log, log.start_after_deletion(offset), on_stored)

    def accepted_losses(self, log: Log) -> list[Loss]:
        """The records that are lost and of which somebody has accepted that, in order. Waits for the disk."""
        losses = []
        for name in self._disk.list_dir(log.directory):
            parsed = files.parse_segment_file(name)
            if parsed is not None and parsed.suffix == files.LOST_SUFFIX:
                with suppress(MetadataCorrupt):  # nobody can say what was accepted: who reads it is told of damage
                    losses.append(read_loss(self._disk, log.directory, parsed.base_offset))
        return sorted(losses, key=lambda loss: loss.offset)

    def retain(self) -> int:
        """Apply retention to the logs that are open, and forget producers that were silent for long. Returns how many
        segments are deleted.

        Their files go a little later, on the sync thread: the new log start has to be on disk before. No log is opened
        for it, as that waits for the disk: see `unopened_that_age`.
        """
        silent_ms = self._past.ago(self._config.producer_expiry_ms)
        for log in self._logs.values():
            log.expire_producers(silent_ms)
        return self._retention.apply(self._logs.values(), self._past)

    def unopened_that_age(self) -> Iterator[tuple[Topic, int]]:
        """Which logs are to be opened before `retain` (see `opening`), so that what is old in them goes: those with
        sealed segments, or whose active one is closed for its age."""
        for topic in self._catalog.topics():
            may_roll = topic.config.is_compacted and topic.config.max_compaction_lag_ms < INT64_MAX
            for partition in range(topic.partitions):
                if (topic.name, partition) in self._logs:
                    continue
                row = self._checkpoint.get(topic.topic_id, partition)
                if row is not None and (row.segment_base_offset > row.log_start_offset or (may_roll and row.position)):
                    yield topic, partition

    def plan_compaction(self) -> PlannedCompaction | None:
        """The pass that is most worth it now, for somebody to do and to hand to `compactions`; None if none is."""
        return self.compactions.plan(self._logs.values(), self._past)

    # The bytes that wait to be synced, in all logs.

    @property
    def dirty_bytes(self) -> int:
        return self.synchronizer.dirty_bytes

    def has_room(self, size: int) -> bool:
        """Whether an append of `size` bytes may go ahead, or should wait until more is synced.

        A file that was appended to stays open until it is synced, so their number is bounded here too.
        """
        if self.synchronizer.dirty_bytes and self._handles.used_count >= self._config.open_files_max:
            return False
        return self.synchronizer.has_room(size)

    def on_room(self, callback: Callable[[], None]) -> None:
        """Call back once, on the owner thread, when there is more room. Ask `has_room` again then."""
        self.synchronizer.on_room(callback)

    # Inside.

    def _start(self, *, is_synced: bool, in_thread: bool) -> None:
        try:
            self._recover(is_synced=is_synced)
        except StorageFull:
            if not self._spare.give_up():
                raise
            self.recovery_report.clear()
            self._recover(is_synced=is_synced)
        self._spare.take()
        self._retention.remove(self._logs.values())
        for directory in self._catalog.condemned:
            self.synchronizer.run_in_steps(self._catalog.remove(directory))
        if in_thread:
            self._thread = SyncThread(self.synchronizer)
            self._thread.start()

    def _recover(self, *, is_synced: bool) -> None:
        """Whatever of it is done already can be done again."""
        self.vanished_topics += self._checkpoint.keep_only(self._catalog.topic_ids())
        if not self._checkpoint.is_clean:
            self._identity.raise_leader_epoch()
            for topic in self._catalog.topics():
                for partition in range(topic.partitions):
                    self._open_log(topic, partition, clean=False, is_synced=is_synced)
        self._reserve(0)
        self._checkpoint.update(log.checkpoint() for log in self._logs.values())
        self._checkpoint.write(both=True)

    def _reserve(self, partitions_more: int) -> None:
        with self._final_failures():
            self._checkpoint.reserve(self._catalog.partitions_count + partitions_more)

    @contextmanager
    def _final_failures(self) -> Iterator[None]:
        """A write or sync that fails here, on the owner thread, is as final as one on the sync thread."""
        try:
            yield
        except StorageFailed as error:
            self.synchronizer.fail(error)
            raise

    def _open_log(self, topic: Topic, partition: int, *, clean: bool = True, is_synced: bool = False) -> Log:
        """`clean` holds for all logs that are opened after the start: they were closed cleanly, or never written."""
        opening = self._opening(topic, partition, clean=clean, is_synced=is_synced)
        del self._openings[topic.topic_id, partition]  # one that failed is tried anew by who asks next
        log, findings = opening.result()
        log.config = topic.config
        if findings.cuts or findings.holes or findings.notes:
            self.on_findings(findings)
        if findings.scanned_bytes and not findings.holes:
            self.synchronizer.note_recovered(log)
        self._logs[topic.name, partition] = log
        return log

    def _opening(self, topic: Topic, partition: int, *, clean: bool = True, is_synced: bool = False) -> Opening:
        """The one that is under way, or a new one."""
        if not 0 <= partition < topic.partitions:
            raise UnknownTopicOrPartition(
                f"topic {topic.name!r} has no partition {partition}",
                remedy=f"Its partitions are 0 to {topic.partitions - 1}.",
            )
        opening = self._openings.get((topic.topic_id, partition))
        if opening is not None:
            return opening
        read = partial(
            open_log,
            self._catalog.partition_directory(topic.topic_id, partition),
            topic=topic.name,
            topic_id=topic.topic_id,
            partition=partition,
            config=topic.config,
            disk=self._disk,
            clock=self._clock,
            handles=self._handles,
            sync=self.synchronizer,
            checkpoint=self._checkpoint.get(topic.topic_id, partition),
            clean=clean,
            is_synced=is_synced,
            leader_epoch=self._identity.leader_epoch,
            producers_max=self._config.producers_per_partition_max,
        )
        opening = self._openings[topic.topic_id, partition] = Opening(read)
        return opening

    # On the sync thread.

    def _write_checkpoint(self, rows: Sequence[PartitionCheckpoint]) -> None:
        self._checkpoint.update(rows)
        self._checkpoint.write()

    def _remove_topic(self, topic_id: UUID, directory: Path, logs: list[Log]) -> Iterator[None]:
        self._checkpoint.forget(topic_id)
        for log in logs:
            log.release_files()
            yield
        yield from self._catalog.remove(directory)
