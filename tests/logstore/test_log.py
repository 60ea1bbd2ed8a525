"""The log against a plain list: random appends, rolls, sync steps, reads, retention, restarts, power cuts anywhere."""

import random
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from logstore import snapshot_writer
from logstore.batch import stamp_producer
from logstore.config import TopicConfig
from logstore.errors import BatchTooLarge, CorruptBatch, InvalidRecord, InvalidTimestamp, LogStoreError, StorageFailed
from logstore.log import Log
from logstore.producers import BATCHES_REMEMBERED
from tests.logstore.disk import PowerCut, SimulatedDisk
from tests.logstore.partition import NOW_MS, ManualClock, Partition, batch_of

#: After how many steps of an operation the power goes. Mostly never, so that there is something to lose.
CUT = st.sampled_from([None] * 20 + list(range(8)) + [10, 12, 15, 18, 22, 30])
CUTS = st.lists(st.sampled_from([0, 1, 2, 3, 4, 6, 8, 11, 15]), max_size=3)
SEED = st.integers(0, 2**32)
BATCHES = st.lists(st.lists(st.sampled_from([0, 1, 40, 300, 5_000]), min_size=1, max_size=4), min_size=1, max_size=6)


class Sent(NamedTuple):
    """A batch of an idempotent producer, and where it went."""

    batch: bytes
    base_offset: int
    records_count: int


class LogAgainstList(RuleBasedStateMachine):
    """`values[n]` is the record at offset n. Those below `acked` may never be lost or changed; the rest may be cut.

    Of what each producer has sent, all that is not cut is known for ever: retention and restarts do not change it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.values: list[tuple[bytes, int]] = []  # value, timestamp_ms
        self.append_times: list[int] = []
        self.acked = 0
        self.start_min = 0  # the start that the disk surely has, and below which nothing is needed any more
        self.start_max = 0
        self.sent: dict[int, list[Sent]] = {producer_id: [] for producer_id in range(3)}
        self.serial = 0

    @initialize(
        segment_bytes=st.sampled_from([256, 700, 9_000, 40_000]),
        interval_bytes=st.sampled_from([0, 150, 4096]),
        durable=st.booleans(),
        syncfs=st.booleans(),
        snapshot_bytes=st.sampled_from([600, 20_000, snapshot_writer.SNAPSHOT_INTERVAL_BYTES]),
        tail_rows_max=st.sampled_from([0, 3, snapshot_writer.TAIL_ROWS_MAX]),
    )
    def begin(
        self,
        segment_bytes: int,
        interval_bytes: int,
        durable: bool,
        syncfs: bool,
        snapshot_bytes: int,
        tail_rows_max: int,
    ) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(snapshot_writer, "SNAPSHOT_INTERVAL_BYTES", snapshot_bytes)
        self.patch.setattr(snapshot_writer, "TAIL_ROWS_MAX", tail_rows_max)
        self.clock = ManualClock()
        self.durable = durable
        self.config = TopicConfig(
            segment_bytes=segment_bytes,
            segment_ms=60_000,
            index_interval_bytes=interval_bytes,
            retention_bytes=3 * segment_bytes,
            durability="durable" if durable else "relaxed",
        )
        self.syncfs = syncfs
        self.open(SimulatedDisk())

    def teardown(self) -> None:
        self.patch.undo()

    def open(self, disk: SimulatedDisk) -> None:
        self.disk = disk
        disk.trusts_syncfs = self.syncfs
        self.partition = Partition(disk, config=self.config, clock=self.clock, open_max=2)
        self.log = self.partition.log

    # What happens to a log.

    @rule(batches=BATCHES, age_ms=st.integers(0, 500), cut_after=CUT, seed=SEED)
    def append(self, batches: list[list[int]], age_ms: int, cut_after: int | None, seed: int) -> None:
        self.with_power_cut(lambda: self.append_batches(batches, age_ms), cut_after, seed)

    @rule(batches=BATCHES, age_ms=st.integers(0, 500), cut_after=CUT, seed=SEED)
    def append_and_sync(self, batches: list[list[int]], age_ms: int, cut_after: int | None, seed: int) -> None:
        self.append_batches(batches, age_ms)
        self.sync_round(cut_after, seed)

    @rule(cut_after=CUT, seed=SEED)
    def sync_round(self, cut_after: int | None, seed: int) -> None:
        self.log.request_sync()
        self.partition.run_posted()
        self.with_power_cut(self.partition.sync.run_round, cut_after, seed)

    @rule(
        batches=BATCHES,
        step=st.integers(0, 25),
        retain=st.booleans(),
        delete=st.booleans(),
        stop=st.booleans(),
        seed=SEED,
    )
    def go_on_while_a_round_runs(
        self, batches: list[list[int]], step: int, retain: bool, delete: bool, stop: bool, seed: int
    ) -> None:
        """What two threads do, in an order that the seed decides: the owner goes on between two steps of the other."""
        self.log.request_sync()
        self.partition.run_posted()
        left = step

        def before_step(operation: str, path: object) -> None:
            nonlocal left
            left -= 1
            if left == -1:
                if retain:
                    self.retain_now()
                self.append_batches(batches, 0)
                if delete:
                    self.delete_now(random.Random(seed).random())
                self.partition.run_posted()

        self.disk.before_step = before_step
        self.partition.sync.run_round()
        self.disk.before_step = None
        assert self.partition.failures == []
        if stop:
            self.power_cut(seed, [])

    @rule(where=st.floats(0, 1))
    def find_append_time(self, where: float) -> None:
        start, end = self.log.log_start_offset, self.log.log_end_offset
        if end > start:
            offset = start + int(where * (end - start - 1))
            assert self.append_times[offset] <= self.log.append_time_ms(offset) <= self.clock.wall_ms()

    @rule()
    def run_posted(self) -> None:
        self.partition.run_posted()

    @rule(ms=st.sampled_from([1, 400, 1_000, 70_000]), cut_after=CUT, seed=SEED)
    def wait(self, ms: int, cut_after: int | None, seed: int) -> None:
        self.clock.now_ms += ms
        self.with_power_cut(self.partition.sync.run_round, cut_after, seed)

    @rule(cut_after=CUT, seed=SEED)
    def retain(self, cut_after: int | None, seed: int) -> None:
        self.retain_now()
        self.with_power_cut(self.partition.sync.run_round, cut_after, seed)

    @rule(where=st.sampled_from([0, 0.1, 0.5, 0.9, 1]), rounds=st.integers(0, 2), cut_after=CUT, seed=SEED)
    def delete_records(self, where: float, rounds: int, cut_after: int | None, seed: int) -> None:
        self.delete_now(where)
        for _ in range(rounds):
            self.with_power_cut(self.partition.sync.run_round, cut_after, seed)
            self.partition.run_posted()

    @rule(producer_id=st.integers(0, 2), age=st.integers(1, 5))
    def send_again(self, producer_id: int, age: int) -> None:
        if len(self.sent[producer_id]) >= age:
            self.check_known(self.sent[producer_id][-age])

    @rule(
        how=st.sampled_from(["power cut", "kill", "failed sync", "clean stop", "clean stop on a full disk"]),
        seed=SEED,
        cut_again_after=CUTS,
    )
    def stop(self, how: str, seed: int, cut_again_after: list[int]) -> None:
        match how:
            case "power cut":
                self.power_cut(seed, cut_again_after)
            case "kill":
                self.kill()
            case "failed sync":
                self.fail_sync(seed, cut_again_after)
            case "clean stop":
                self.restart_cleanly(seed)
            case "clean stop on a full disk":
                self.disk.capacity_bytes = 0
                self.restart_cleanly(seed)

    def power_cut(self, seed: int, cut_again_after: list[int]) -> None:
        rng = random.Random(seed)
        disk = self.disk.crash(rng)
        for steps in cut_again_after:
            disk.cut_power_after(steps)
            with suppress(PowerCut):
                Partition(disk, config=self.config, clock=self.clock)
            disk = disk.crash(rng)
        self.open(disk)
        self.check_recovered()

    def kill(self) -> None:
        end = self.log.log_end_offset
        self.open(self.disk.kill())
        assert self.log.log_end_offset == end, "a killed process leaves the page cache, and so everything it wrote"
        self.check_recovered()

    def fail_sync(self, seed: int, cut_again_after: list[int]) -> None:
        """A sync fails, the process ends as it must, and the next one finds pages that look clean and are not there."""
        self.partition.run_posted()
        before = self.log.high_watermark

        def fail(operation: str, path: object) -> None:
            if operation.startswith("sync"):
                raise StorageFailed("the disk is broken", remedy="")

        self.disk.before_step = fail
        self.clock.now_ms += 2_000
        self.partition.sync_now()
        self.disk.before_step = None
        if self.partition.failures:
            assert self.log.high_watermark == before
            with pytest.raises(StorageFailed):
                self.partition.append(b"refused")
            self.partition.sync_now()
            assert self.log.high_watermark == before, "a second sync says OK and means nothing"
            self.open(self.disk.kill())
            self.check_recovered()
            self.power_cut(seed, cut_again_after)

    def restart_cleanly(self, seed: int) -> None:
        end = self.log.log_end_offset
        self.partition.close()
        assert self.disk.open_files == []
        self.disk.before_step = None
        disk = self.disk.crash(random.Random(seed))  # nothing of a clean stop is still on its way to the disk
        had_room = disk.capacity_bytes is None
        disk.capacity_bytes = None
        self.open(disk)
        assert self.log.log_end_offset == end
        assert self.partition.findings.scanned_bytes == 0 or not had_room
        self.acked = end
        self.check_recovered()

    # What must hold.

    @rule(where=st.floats(0, 1), bytes_max=st.sampled_from([1, 100, 1_000, 100_000]), wait=st.booleans())
    def read(self, where: float, bytes_max: int, wait: bool) -> None:
        start, end = self.log.log_start_offset, self.log.high_watermark
        offset = start + int(where * (end - start))
        with self.log.open_read(offset, bytes_max) as reader:
            if not wait and reader.read_nowait() is None:
                return
        records, following = self.partition.read(offset, bytes_max)
        assert following <= end
        assert [(record.value, record.timestamp_ms) for record in records] == self.values[offset:following]
        assert [record.offset for record in records] == list(range(offset, following))
        assert records or offset == end

    @rule(where=st.floats(0, 1), nudge_ms=st.integers(-1, 1))
    def find_time(self, where: float, nudge_ms: int) -> None:
        start, end = self.log.log_start_offset, self.log.high_watermark
        timestamp_ms = self.values[start + int(where * (end - start - 1))][1] + nudge_ms if end > start else NOW_MS
        expected = next((n for n in range(start, end) if self.values[n][1] >= timestamp_ms), None)
        found = self.log.offset_for_timestamp(timestamp_ms)
        assert (found.offset if found else None) == expected
        if found:
            assert found.timestamp_ms == self.values[found.offset][1]

    @invariant()
    def the_end_is_where_the_list_ends(self) -> None:
        assert self.log.log_end_offset == len(self.values)
        assert self.acked <= self.log.high_watermark <= len(self.values)
        if self.durable:
            self.acked = self.log.high_watermark

    # How.

    def append_batches(self, batches: list[list[int]], age_ms: int) -> None:
        for sizes in batches:
            self.clock.now_ms += 1
            timestamp_ms = self.clock.wall_ms() - age_ms
            base_offset = len(self.values)
            values = []
            for size in sizes:
                self.serial += 1
                values.append(b"%d " % self.serial + random.Random(self.serial).randbytes(size))
            self.values += [(value, timestamp_ms) for value in values]
            self.append_times += [self.clock.wall_ms()] * len(values)
            batch = self.batch_of_somebody(self.serial % 7, values, timestamp_ms)
            appended = self.log.append(batch, self.clock.wall_ms())
            assert (appended.base_offset, appended.duplicate) == (base_offset, False)
            assert appended.last_offset == base_offset + len(values) - 1

    def batch_of_somebody(self, producer_id: int, values: list[bytes], timestamp_ms: int) -> bytes:
        """The next batch of that producer, or of none if there is no such one."""
        if producer_id not in self.sent:
            return batch_of(*values, timestamp_ms=timestamp_ms)
        sent = self.sent[producer_id]
        sequence = sum(before.records_count for before in sent)
        batch = batch_of(*values, timestamp_ms=timestamp_ms, producer_id=producer_id, sequence=sequence)
        sent.append(Sent(batch, len(self.values) - len(values), len(values)))
        return batch

    def retain_now(self) -> None:
        """What a removal under way had to delete is deleted before the next one is chosen."""
        if not self.partition.retention.is_removing:
            self.start_min = self.log.log_start_offset
        self.partition.retain()
        self.start_max = self.log.log_start_offset

    def delete_now(self, where: float) -> None:
        start, end = self.log.log_start_offset, self.log.high_watermark
        self.start_max = start + int(where * (end - start))
        self.partition.retention.delete_before(
            self.log, self.start_max, partial(self.note_deleted, self.log, self.start_max)
        )
        assert self.log.log_start_offset == self.start_max

    def note_deleted(self, log: Log, start: int, failure: LogStoreError | None) -> None:
        assert failure is None
        assert log is self.log, "a process that is gone answers nobody"
        self.start_min = max(self.start_min, start)

    def check_known(self, sent: Sent) -> None:
        again = self.log.append(sent.batch, self.clock.wall_ms())
        assert again == (sent.base_offset, sent.base_offset + sent.records_count - 1, True)

    def with_power_cut(self, operation: Callable[[], object], cut_after: int | None, seed: int) -> None:
        if cut_after is None:
            operation()
            return
        self.disk.cut_power_after(cut_after)
        try:
            operation()
            self.disk.before_step = None
        except PowerCut:
            # The sync thread died in the middle; the owner thread may have gone on to the end of what it was told.
            self.disk.before_step = None
            self.partition.run_posted()
            if self.durable:
                self.acked = self.log.high_watermark
            if seed % 4 == 0:
                self.kill()
            else:
                self.power_cut(seed, [])

    def check_recovered(self) -> None:
        assert not self.partition.findings.holes
        end = self.log.log_end_offset
        assert end >= self.acked, "acked and lost"
        assert end == self.log.high_watermark
        assert self.start_min <= self.log.log_start_offset <= self.start_max
        self.start_min = self.start_max = self.log.log_start_offset
        for sent in self.sent.values():
            sent[:] = [each for each in sent if each.base_offset + each.records_count <= end]
            for each in sent[-BATCHES_REMEMBERED:]:
                self.check_known(each)
        del self.values[end:]
        del self.append_times[end:]
        records = self.partition.read_all()
        assert [(record.value, record.timestamp_ms) for record in records] == self.values[self.log.log_start_offset :]
        self.acked = end  # whatever the topic promises, recovery has synced what it publishes


@pytest.mark.parametrize(
    ("attribute", "kind"),
    [(0x20, "a control batch"), (0x10, "part of a transaction"), (0x08, "by a log"), (0x40, "by a log")],
)
def test_a_producer_cannot_write_what_only_the_server_may(attribute: int, kind: str) -> None:
    partition = Partition(SimulatedDisk())
    batch = bytearray(batch_of(b"x"))
    batch[22] |= attribute
    stamp_producer(batch, -1, -1, -1)  # a CRC that fits
    with pytest.raises(InvalidRecord, match=kind):
        partition.log.append(batch, NOW_MS)
    assert partition.log.log_end_offset == 0


def test_a_batch_over_the_limit_is_refused_with_both_sizes() -> None:
    batch = batch_of(b"x" * 200)
    partition = Partition(SimulatedDisk(), config=TopicConfig(max_message_bytes=len(batch)))
    partition.log.append(batch, NOW_MS)
    partition.log.config = TopicConfig(max_message_bytes=len(batch) - 1)
    with pytest.raises(BatchTooLarge, match=rf"has {len(batch)} bytes, over max.message.bytes = {len(batch) - 1}"):
        partition.log.append(batch, NOW_MS)
    assert partition.log.log_end_offset == 1


@pytest.mark.parametrize(
    "config",
    [TopicConfig(max_message_bytes=100), TopicConfig(timestamp_after_max_ms=0)],
    ids=["max.message.bytes", "message.timestamp.after.max.ms"],
)
def test_a_batch_that_was_written_is_known_whatever_would_be_refused_by_now(config: TopicConfig) -> None:
    partition = Partition(SimulatedDisk())
    sent = batch_of(b"x" * 200, timestamp_ms=NOW_MS + 60_000, producer_id=7, sequence=0)
    first = partition.log.append(sent, NOW_MS)
    partition.log.config = config

    assert partition.log.append(sent, NOW_MS) == first._replace(duplicate=True)
    with pytest.raises((BatchTooLarge, InvalidTimestamp)):
        partition.append(b"x" * 200, timestamp_ms=NOW_MS + 60_000, producer_id=7, sequence=1)
    assert partition.log.log_end_offset == 1


def test_a_batch_that_was_written_and_came_damaged_is_damaged() -> None:
    partition = Partition(SimulatedDisk())
    sent = bytearray(batch_of(b"x" * 200, producer_id=7, sequence=0))
    partition.log.append(sent, NOW_MS)
    sent[-1] ^= 1
    with pytest.raises(CorruptBatch):
        partition.log.append(sent, NOW_MS)


TestLogAgainstList = LogAgainstList.TestCase
TestLogAgainstList.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.slow
def test_many_logs_against_lists() -> None:
    run_state_machine_as_test(LogAgainstList, settings=settings(TestLogAgainstList.settings, max_examples=300))
