"""Random work on a store, with a model of what must be in it, until the power goes at some step of the disk.

The sync thread is driven by hand. While one of its rounds is at the disk, the owner thread may publish, append and read
in between, as it does in a server; and everything, down to which page reaches the disk, is decided by one `Random`.
A pass of compaction is another process in a server: here the owner thread and the sync thread come in between.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from enum import Enum, auto
from functools import partial
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

from logstore.batch import Compression, Record
from logstore.catalog import Topic
from logstore.compaction import CompactionResult, compact
from logstore.compactions import PlannedCompaction
from logstore.config import DAY_MS, HOUR_MS, StoreConfig, TopicConfig
from logstore.errors import LogStoreError, OffsetOutOfRange, StorageFailed, StorageFull
from logstore.log import ALL_RECORDS, Log
from tests.faults.storage.model import (
    Change,
    PartitionModel,
    StoredBatch,
    StoreModel,
    Violation,
    judge_store,
    new_batch,
)
from tests.faults.storage.passes import PassTime, judge_files, judge_pass, judge_plan
from tests.logstore.disk import PowerCut, SimulatedDisk
from tests.logstore.partition import JumpingClock
from tests.logstore.store import Opened

TOPICS = ("a", "b", "c")
PARTITIONS_MAX = 2
PRODUCERS_MAX = 3
VALUE_BYTES_MAX = 700
#: Of compacted topics.
KEYS = 5
KEPT_MS = 5000
STORE = StoreConfig(
    dirty_bytes_max=8192, open_files_max=4, map_count_max=4, producer_id_block=2, producer_expiry_ms=10**15
)
SYNCS = ("sync", "sync_dir", "sync_filesystem")


@contextmanager
def tiny_limits() -> Iterator[None]:
    """Snapshots of producers and the rows of indexes are written every 2 KB rather than every 16 MiB, and what
    compaction has replaced is removed after 5 s."""
    with (
        patch("logstore.snapshot_writer.SNAPSHOT_INTERVAL_BYTES", 2048),
        patch("logstore.compactions.KEPT_MS", KEPT_MS),
    ):
        yield


class Stop(Enum):
    """How the process before this one ended."""

    CLEAN = auto()
    KILLED = auto()  # the page cache is as it was
    POWER_CUT = auto()


class StorageWorkload:
    """One process at a time that has the store open. What it must never see is a Violation."""

    def __init__(
        self,
        disk: SimulatedDisk,
        rng: random.Random,
        *,
        clock: JumpingClock,
        model: StoreModel,
        has_troubles: bool = True,
        codecs: Sequence[Compression] = (Compression.NONE,),
        compacts: bool = True,
    ) -> None:
        """`has_troubles`: sometimes syncs fail, the disk is full and the clock is wrong."""
        self.disk = disk
        self.rng = rng
        self.clock = clock
        self.model = model
        self.opened: Opened | None = None
        self.counts: Counter[str] = Counter()
        self._compacts = compacts
        # Passes need many batches in one log, so some stores have little else.
        self._is_for_compaction = compacts and rng.random() < 0.4
        self._fills_disk = has_troubles and rng.random() < 0.3
        self._fails_syncs = has_troubles and rng.random() < 0.5
        self._sets_clock = has_troubles
        self._interleaving = rng.choice((0.0, 0.1, 0.5))  # how often the owner thread comes in between
        self._codecs = codecs
        self._trusts_syncfs = rng.random() < 0.5
        self._config = TopicConfig.from_strings(
            {"segment.bytes": "1024", "retention.ms": "-1", "index.interval.bytes": rng.choice(("0", "200", "4096"))}
        )
        self._steps_left: int | None = None
        self._syncs_left: int | None = None
        self._is_sync_failed = False
        self._unjudged: Stop | None = None  # how the last process ended, until its store was judged
        self._is_in_round = False
        self._started_at = 0, 0  # by the wall and by the monotonic clock
        self._replaced: set[Path] = set()  # by compaction: these files are gone, or about to be
        self._jumped_at_ms = -1  # the wall clock, last; by the monotonic one
        self._logs: dict[tuple[UUID, int], Log] = {}
        self._relaxed: set[UUID] = set()  # topics whose readers may have seen what is not on the disk
        self._operations, self._weights = zip(*self._list_operations(), strict=True)

    @property
    def store(self) -> Opened:
        assert self.opened is not None
        return self.opened

    @property
    def killed(self) -> Stop:
        """What it is to the next process if this one is killed now."""
        is_lost = self._is_sync_failed or self._unjudged is Stop.POWER_CUT
        return Stop.POWER_CUT if is_lost else Stop.KILLED

    def start(self, stop: Stop) -> None:
        """Open the store as the one before has left it, and judge what is there."""
        self._unjudged = stop
        self._started_at = self.clock.wall_ms(), self.clock.monotonic_ms()
        self.disk.trusts_syncfs = self._trusts_syncfs
        self.disk.before_step = self._before_step
        self.opened = None
        self._logs.clear()
        try:
            opened = Opened(self.disk, seed=self.rng.getrandbits(32), config=STORE, clock=self.clock)
        except StorageFull:
            self._check_full()
            self.disk.capacity_bytes = None
            self._start_again(stop)
        except StorageFailed:
            self._check_sync_failed()
            self._start_again(Stop.POWER_CUT)
        else:
            self.opened = opened
            self.model = judge_store(
                opened.store, self.model, self.rng, whole=stop is not Stop.POWER_CUT, now_ms=self.clock.wall_ms()
            )
            self._relaxed = {topic.topic_id for topic in self.model.topics.values() if not topic.config.is_durable}
            self._unjudged = None
            self._is_sync_failed = False

    def run_until_power_cut(self, steps: int) -> None:
        """Work on until the disk has made so many more steps. The store is not to be used any more then."""
        self._steps_left = steps
        try:
            while True:
                self.work()
        except PowerCut:
            pass
        self._note_published()
        self.disk.before_step = None

    def cut_power(self) -> None:
        """The power goes between two steps, and comes again."""
        self._note_published()
        self.disk.before_step = None
        self.disk = self.disk.crash(self.rng)
        self.start(Stop.POWER_CUT)

    def work(self) -> None:
        """Do one thing, whatever it is."""
        [operation] = self.rng.choices(self._operations, self._weights)
        try:
            operation()
        except StorageFailed:
            self._check_sync_failed()
            self._end_failed()
            return
        self._note_published()
        failure = self.store.store.synchronizer.failure
        if failure is not None and not isinstance(failure, StorageFailed):
            raise Violation(f"the sync thread gave up: {failure!r}")
        if failure is not None:
            self._check_sync_failed()
            self._end_failed()

    def _end_failed(self) -> None:
        """After a failed sync the process ends. Whether the machine does too, nothing of the page cache is to be
        believed."""
        self._note_published()
        if self.rng.random() < 0.3:
            self.disk.before_step = None
            self.disk = self.disk.crash(self.rng)
        self._start_again(Stop.POWER_CUT)
        self._cut_soon()

    def append_everywhere(self) -> None:
        """Everything that is there takes one more batch, and a reader gets it."""
        self.disk.capacity_bytes = None
        for name, number in self.model.partitions:
            self._append(name, number)
        self._interleaving = 0.0
        self._settle()
        for key, partition in self.model.partitions.items():
            if partition.synced_offset != partition.end_offset:
                raise Violation(f"{key} was appended to and synced, and ends at {partition.synced_offset}")

    def stop(self) -> None:
        """A clean stop: everything is on the disk when it returns."""
        self.store.close()
        for partition in self.model.partitions.values():
            partition.synced_offset = partition.returned_offset = partition.end_offset

    # What there is to do.

    def _list_operations(self) -> Iterator[tuple[Callable[[], None], int]]:
        yield self._append_somewhere, 50
        yield self._send_again, 4
        yield self._sync, 15
        yield self._settle, 6
        yield self._read, 3
        yield self._retain, 6
        yield self._delete_records, 2
        if self._compacts:
            yield self._compact, 25 if self._is_for_compaction else 6
        if self._is_for_compaction:
            yield self._compact_repeatedly, 8
        yield self._create, 4
        yield self._delete, 1
        yield self._alter, 2
        yield self._grow, 1
        yield self._stop_and_start, 2
        yield self._kill_and_start, 1
        yield self._pass_time, 2
        if self._fills_disk:
            yield self._fill_disk, 2
            yield self._free_disk, 2
        if self._fails_syncs:
            yield self._fail_sync, 5

    def _append_somewhere(self) -> None:
        if topic := self._any_topic():
            self._append(topic.name, self.rng.randrange(topic.partitions))

    def _append(self, name: str, number: int) -> None:
        log, partition = self._log(name, number), self.model.partitions[name, number]
        if not self.store.store.has_room(VALUE_BYTES_MAX):
            self.store.store.on_room(lambda: None)
            return
        now_ms = self.clock.wall_ms()
        producer, codec = self._producer(partition), self.rng.choice(self._codecs)
        records = self._records(now_ms, is_keyed=log.config.is_compacted)
        self.append(name, number, new_batch(records, log, now_ms, producer=producer, compression=codec))

    def append(self, name: str, number: int, batch: StoredBatch) -> None:
        log, partition = self._log(name, number), self.model.partitions[name, number]
        partition.expect(batch._replace(appended_at_ms=self.clock.monotonic_ms()))
        try:
            answer = log.append(batch.data, batch.append_ms)
        except StorageFull:
            self._check_full()
            partition.take_back()
            return
        if answer != batch.answer:
            raise Violation(f"{name} {number}: {batch.answer} was due, and the answer was {answer}")
        partition.returned_offset = partition.end_offset

    def _records(self, now_ms: int, *, is_keyed: bool) -> list[Record]:
        count = self.rng.choice((1, 1, 2, 3))
        # Small ones, where they are compacted, so that several segments become one.
        bytes_max = self.rng.choice((50, 150, 300) if is_keyed else (100, 300, 300, VALUE_BYTES_MAX)) // count
        sizes = [8 + self.rng.randrange(bytes_max) for _ in range(count)]
        times_ms = [now_ms - self.rng.randrange(100_000) for _ in range(count)]
        values = map(self.rng.randbytes, sizes)
        if not is_keyed:
            return [Record(0, time_ms, None, value) for time_ms, value in zip(times_ms, values, strict=True)]
        return [
            Record(0, time_ms, b"%d" % self.rng.randrange(KEYS), None if self.rng.random() < 0.2 else value)
            for time_ms, value in zip(times_ms, values, strict=True)
        ]

    def _producer(self, partition: PartitionModel) -> tuple[int, int, int]:
        """Id, epoch and sequence of a batch that this partition takes."""
        which = self.rng.randrange(5)
        if which < 2:
            return (-1, -1, -1)
        if which == 2 and len(partition.producers) < PRODUCERS_MAX:
            return self._new_producer()
        if not partition.producers:
            return (-1, -1, -1)
        producer_id = self.rng.choice(list(partition.producers))
        last = partition.producers[producer_id][-1].header
        if self.rng.random() < 0.1:
            return producer_id, last.producer_epoch + 1, 0
        return producer_id, last.producer_epoch, last.base_sequence + last.records_count

    def _new_producer(self) -> tuple[int, int, int]:
        try:
            producer_id = self.store.store.next_producer_id()
        except StorageFull:
            self._check_full()
            return (-1, -1, -1)
        if producer_id in self.model.producer_ids:
            raise Violation(f"the producer id {producer_id} was handed out twice")
        self.model.producer_ids.add(producer_id)
        return (producer_id, 0, 0)

    def _send_again(self) -> None:
        known = [
            (key, batch)
            for key, partition in self.model.partitions.items()
            for batches in partition.producers.values()
            for batch in batches
        ]
        if known:
            (name, number), batch = self.rng.choice(known)
            answer = self._log(name, number).append(batch.data, batch.header.max_timestamp_ms)
            if answer != batch.answer._replace(duplicate=True):
                raise Violation(f"{name} {number}: {batch.answer} was sent again, and was answered {answer}")

    def _sync(self) -> None:
        """A round of the sync thread, whose news reaches the owner now or later."""
        self.clock.now_ms += self.rng.randrange(1500)
        for key in self.model.partitions:
            if self.rng.random() < 0.5:
                self._log(*key).request_sync()
        self.store.run_posted()
        self._run_round()
        if self.rng.random() < 0.7:
            self.store.run_posted()

    def _settle(self) -> None:
        """What was appended before it is synced after it."""
        ends = [(partition, partition.end_offset) for partition in self.model.partitions.values()]
        self.clock.now_ms += 2000
        for _ in range(3):
            self.store.run_posted()
            self._run_round()
        self.store.run_posted()
        if self.store.store.synchronizer.failure is None:
            for partition, end_offset in ends:
                partition.synced_offset = max(partition.synced_offset, end_offset)
            self._relaxed = {topic.topic_id for topic in self.model.topics.values() if not topic.config.is_durable}

    def _run_round(self) -> None:
        self._is_in_round = True
        try:
            self.store.store.synchronizer.run_round()
        finally:
            self._is_in_round = False

    def _read(self) -> None:
        if not self.model.partitions:
            return
        key = self.rng.choice(list(self.model.partitions))
        log, partition = self._log(*key), self.model.partitions[key]
        if log.log_start_offset < log.high_watermark:
            offset = self.rng.randrange(log.log_start_offset, log.high_watermark)
            with log.open_read(offset, self.rng.randrange(1, 2000)) as reader:
                read = reader.read()
            expected = partition.kept(offset, read.next_offset)
            if bytes(read.batches) != b"".join(batch.data for batch in expected):
                raise Violation(f"{key}: a read at {offset} got something else than was appended")

    def _retain(self) -> None:
        before = {key: self._log(*key).log_start_offset for key in self.model.partitions}
        self.store.store.retain()
        for key, start in before.items():
            log, partition = self._log(*key), self.model.partitions[key]
            if log.log_start_offset > start:
                partition.start_offset_max = log.log_start_offset
                self._check_retained(log, partition)

    def _check_retained(self, log: Log, partition: PartitionModel) -> None:
        """Nothing was deleted that the settings keep."""
        last = partition.batches[partition.index_of(log.log_start_offset) - 1]
        kept_bytes = sum(len(batch.data) for batch in partition.kept(log.log_start_offset, log.log_end_offset))
        if not log.config.deletes_old:
            raise Violation(f"retention deleted {last.answer}, with {log.config}")
        retention_ms, retention_bytes = log.config.retention_ms, log.config.retention_bytes
        is_old = 0 <= retention_ms < self._age_ms(partition, last)
        if not is_old and not 0 <= retention_bytes <= kept_bytes:
            raise Violation(f"retention deleted {last.answer} and kept {kept_bytes} bytes, with {log.config}")

    def _age_ms(self, partition: PartitionModel, batch: StoredBatch) -> int:
        """How old it may be taken for: as it is, or by the wall clock, as that is now; what an earlier process wrote,
        also by the wall clock as it was at the start."""
        age_ms = max(self.clock.wall_ms() - batch.append_ms, self.clock.monotonic_ms() - batch.appended_at_ms)
        if batch.base_offset >= partition.found_offset:
            return age_ms
        wall_ms, monotonic_ms = self._started_at
        return max(age_ms, wall_ms - batch.append_ms + self.clock.monotonic_ms() - monotonic_ms)

    def _delete_records(self) -> None:
        if not self.model.partitions:
            return
        key = self.rng.choice(list(self.model.partitions))
        log = self._log(*key)
        if not log.config.deletes_old:
            return  # it keeps the last of every key
        ends = [seal.next_offset for seal in log.seals if seal.next_offset <= log.high_watermark]
        self._delete_before(key, self.rng.choice((ALL_RECORDS, self.rng.randint(0, log.high_watermark), *ends[:2])))

    def _delete_before(self, key: tuple[str, int], offset: int) -> None:
        log, partition = self._log(*key), self.model.partitions[key]
        start = max(log.log_start_offset, log.high_watermark if offset == ALL_RECORDS else offset)

        def stored(failure: LogStoreError | None) -> None:
            if failure is None:
                partition.start_offset = max(partition.start_offset, start)
            elif isinstance(failure, StorageFull):
                self._check_full()
            elif not log.is_deleted:
                raise Violation(f"{key}: deleting records up to {start} failed: {failure!r}") from failure

        # A crash may leave the new start from the first step on.
        partition.start_offset_max = max(partition.start_offset_max, start)
        self.store.store.delete_records(log, offset, stored)
        if log.log_start_offset != start:
            raise Violation(f"{key} starts at {log.log_start_offset} once the records before {start} are deleted")

    # Compaction.

    def _compact_repeatedly(self) -> None:
        """Passes with new records and some time between them: each goes by what the one before has said of itself."""
        for _ in range(self.rng.randint(2, 4)):
            for _ in range(self.rng.randrange(4, 20)):
                self._append_somewhere()
            for _ in range(2):  # the first may only ask for a snapshot
                self._settle()
                self._compact()
            self._settle()
            self.clock.now_ms += self.rng.choice((0, KEPT_MS, 120_000))

    def _compact(self) -> None:
        """A pass as the server has it done, on the log that is most worth it."""
        self._replaced.update(path for _, _, paths in self.store.store.compactions._replaced for path in paths)
        planned = self.store.store.plan_compaction()
        if planned is None:
            return
        started_wall_ms, started_ms = self._started_at
        planned_ms = self.clock.monotonic_ms()
        time = PassTime(planned_ms, started_ms, started_wall_ms, is_steady=self._jumped_at_ms < started_ms)
        log, key = planned.log, (planned.log.topic, planned.log.partition)
        partition = self.model.partitions[key]
        partition.note_taken_over(log.seals)
        # Those before have ended, and what came of none of them will not any more, but where retention was faster.
        partition.pending = [each for each in partition.pending if each.seal.base_offset < log.log_start_offset]
        plan = planned.plan
        # Often with less memory than it takes, and with several segments made one.
        keys_max, segment_bytes = self.rng.choice((1, 3, plan.keys_max)), plan.segment_bytes * self.rng.choice((1, 3))
        planned = PlannedCompaction(log, replace(plan, keys_max=keys_max, segment_bytes=segment_bytes))
        judge_plan(planned.plan, log, partition, partial(self._age_ms, partition))
        judge_files(planned.plan, log, self.disk, self._replaced)
        result = self._run_pass(planned)
        if result is None or self.rng.random() < 0.1:
            self.store.store.compactions.give_up(planned)
            return
        rewrites = judge_pass(planned.plan, result, log, partition, self.disk, time)
        # Before the server hears of it:
        if log.config.deletes_old and result.seals and self.rng.random() < 0.5:
            taken = self.rng.choice(result.seals[:2])
            ends = [seal.next_offset for seal in planned.plan.seals if taken.base_offset < seal.next_offset]
            self._delete_before(key, max(log.log_start_offset, ends[0]))  # often a part of what became one segment
        for _ in range(self.rng.choice((0, 0, 4))):
            self.rng.choice((self._append_somewhere, self._settle, self._retain, self._delete_records))()
            self._note_published()
        partition.pending += rewrites
        self.store.store.compactions.take(planned, result)
        self.counts["passes"] += 1
        self.counts["passes taken in part"] += not all(map(log.has_all_of, result.seals))
        self.counts["segments compacted"] += len(rewrites)
        if self._sets_clock and self.rng.random() < 0.3:
            self._set_clock()  # now that tombstones wait for their time

    def _run_pass(self, planned: PlannedCompaction) -> CompactionResult | None:
        """None if there is no room for it, the disk has failed it, or what it reads was deleted meanwhile."""
        was_failed = self._is_sync_failed
        try:
            return compact(planned.plan, self.disk, self._in_a_pass)
        except StorageFull:
            self._check_full()
            return None
        except OffsetOutOfRange:
            if planned.log.log_start_offset <= planned.plan.seals[0].base_offset:
                raise
            return None
        except StorageFailed:
            if self.store.store.synchronizer.failure is not None:
                raise
            self._is_sync_failed = was_failed  # nothing of the log was in that sync
            return None

    def _in_a_pass(self, size: int) -> None:
        """The process that compacts has read or written something, and the server goes on."""
        if self.rng.random() < self._interleaving / 4:
            self.rng.choice((self._append_somewhere, self._sync, self._read, self._retain, self._delete_records))()
            self._note_published()

    # Topics.

    def _create(self) -> None:
        name = self.rng.choice(TOPICS[:1] if self._is_for_compaction else TOPICS)
        if name not in self.model.topics:
            # Its id is not known before it is there.
            topic = Topic(name, UUID(int=0), self.rng.randint(1, PARTITIONS_MAX), self._any_config())
            self._change(
                Change(name, topic, is_new=True),
                lambda: self.store.store.create_topic(name, topic.partitions, topic.config),
            )

    def _delete(self) -> None:
        if topic := self._any_topic():
            self._change(Change(topic.name, None), lambda: self.store.store.delete_topic(topic.name))

    def _alter(self) -> None:
        if topic := self._any_topic():
            after = replace(topic, config=self._any_config())
            self._change(Change(topic.name, after), lambda: self.store.store.alter_config(topic.name, after.config))

    def _grow(self) -> None:
        topic = self._any_topic()
        if topic is not None and topic.partitions < PARTITIONS_MAX:
            after = replace(topic, partitions=topic.partitions + 1)
            self._change(Change(topic.name, after), lambda: self.store.store.add_partitions(topic.name, 1))

    def _change(self, change: Change, make: Callable[[], Topic | None]) -> None:
        self.model.begin(change)
        try:
            after = make()
        except StorageFull:
            self._check_full()
            self.model.give_up()
            return
        if not change.allows(after):
            raise Violation(f"{change} gave {after}")
        self.model.end(after)
        if after is not None and not after.config.is_durable:
            self._relaxed.add(after.topic_id)

    def _any_topic(self) -> Topic | None:
        topics = [topic for topic in self.model.topics.values() if not topic.internal]
        return self.rng.choice(topics) if topics else None

    def _any_config(self) -> TopicConfig:
        policies = ["compact", "compact,delete"] if self._compacts else []
        if not self._is_for_compaction:
            policies.append("delete")
        return self._config.with_changes(
            {
                "retention.bytes": self.rng.choice(("-1", "0", "0", "2000")),
                "retention.ms": self.rng.choice(("-1", "-1", "5000", "600000")),
                "durability": self.rng.choice(("durable", "durable", "durable", "relaxed")),
                "flush.ms": self.rng.choice(("1", "1000")),
                "cleanup.policy": self.rng.choice(policies),
                "min.cleanable.dirty.ratio": self.rng.choice(("0", "0.3")),
                "min.compaction.lag.ms": self.rng.choice(("0", "0", "2000", "60000")),
                "delete.retention.ms": self.rng.choice(("0", "3000", "100000")),
            }
        )

    # Time, and what goes wrong.

    def _pass_time(self) -> None:
        self.clock.now_ms += self.rng.choice((KEPT_MS, self.rng.randrange(600_000)))
        if self._sets_clock:
            self._set_clock()

    def _set_clock(self) -> None:
        before_ms = self.clock.wall_ahead_ms
        self.clock.wall_ahead_ms = self.rng.choice((0, 0, -HOUR_MS, HOUR_MS, -365 * DAY_MS))
        if self.clock.wall_ahead_ms != before_ms:
            self._jumped_at_ms = self.clock.monotonic_ms()

    def _stop_and_start(self) -> None:
        try:
            self.stop()
        except StorageFull:
            self._check_full()
            self._start_again(Stop.KILLED)
        else:
            self._start_again(Stop.CLEAN)

    def _kill_and_start(self) -> None:
        self._start_again(Stop.KILLED)

    def _start_again(self, stop: Stop) -> None:
        """On the same machine."""
        self.disk.before_step = None
        self.disk = self.disk.kill()
        self.start(stop)

    def _fill_disk(self) -> None:
        self.disk.capacity_bytes = self.disk.used_bytes + self.rng.randrange(4000)

    def _free_disk(self) -> None:
        self.disk.capacity_bytes = None

    def _check_full(self) -> None:
        if self.disk.capacity_bytes is None:
            raise Violation("the disk was said to be full, and was not")

    def _fail_sync(self) -> None:
        """One of the next syncs fails. The kernel forgets that, and keeps the pages as if they were written."""
        self._syncs_left = self.rng.randrange(2)

    def _check_sync_failed(self) -> None:
        if not self._is_sync_failed:
            raise Violation("the disk was said to have failed, and had not")

    def _before_step(self, operation: str, path: Path) -> None:
        if self._is_in_round and self.rng.random() < self._interleaving:
            self._interleave()
        if self._steps_left is not None:
            self._steps_left -= 1
            if self._steps_left < 0:
                raise PowerCut
        if self._syncs_left is not None and operation in SYNCS:
            self._syncs_left -= 1
            if self._syncs_left < 0:
                self._syncs_left = None
                self._is_sync_failed = True
                self._cut_soon()
                raise StorageFailed(f"syncing {path} failed", remedy="None in a test.")

    def _cut_soon(self) -> None:
        """Perhaps. The next write to a page that was lost brings it back, so little time shows most."""
        if self._steps_left is not None and self.rng.random() < 0.5:
            self._steps_left = min(self._steps_left, self.rng.randrange(12))

    def _interleave(self) -> None:
        """The sync thread is at the disk, and the owner thread goes on."""
        self._is_in_round = False
        self.store.run_posted()
        self._note_published()
        with suppress(StorageFailed):
            self.rng.choice((self._append_somewhere, self._append_somewhere, self._send_again, self._read))()
        self._is_in_round = True

    # What the owner sees.

    def logs(self) -> list[Log]:
        return [self._log(*key) for key in self.model.partitions]

    def _log(self, name: str, number: int) -> Log:
        log = self.store.store.log(name, number)
        self._logs[log.topic_id, number] = log
        return log

    def _note_published(self) -> None:
        """Whatever a reader can see now, and how far a log starts later now."""
        for (name, number), partition in self.model.partitions.items():
            topic_id = self.model.topics[name].topic_id
            log = self._logs.get((topic_id, number))
            if log is not None:
                partition.start_offset_max = max(partition.start_offset_max, log.log_start_offset)
                if partition.pending:
                    partition.note_taken_over(log.seals)
                if topic_id not in self._relaxed:
                    partition.synced_offset = max(partition.synced_offset, log.high_watermark)
