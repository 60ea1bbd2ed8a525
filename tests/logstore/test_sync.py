"""Sync rounds: what one covers and in which order, what nobody may see before, and what a failure stops."""

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from logstore.checkpoint import PartitionCheckpoint
from logstore.config import TopicConfig
from logstore.errors import StorageFailed
from logstore.linux_disk import LinuxDisk
from logstore.sync import CHECKPOINT_MS, FILESYSTEM_SYNC_PAUSE_MS, LATE_WORK_MS, SyncThread
from tests.logstore.disk import PowerCut, SimulatedDisk
from tests.logstore.partition import Partition

SMALL = TopicConfig(segment_bytes=400)


def partition_on(disk: SimulatedDisk, config: TopicConfig = SMALL) -> tuple[Partition, list[str]]:
    partition = Partition(disk, config=config)
    disk.syncs.clear()
    return partition, disk.syncs


def fail_at(operation: str) -> Callable[[str, Path], None]:
    def before_step(seen: str, path: Path) -> None:
        if seen == operation:
            raise StorageFailed("EIO", remedy="")

    return before_step


def test_one_round_covers_every_append_that_waits() -> None:
    disk = SimulatedDisk()
    partition, syncs = partition_on(disk, TopicConfig())
    seen: list[int] = []
    partition.log.on_high_watermark = lambda log: seen.append(log.high_watermark)
    for number in range(16):
        partition.append(b"value %d" % number)
        partition.log.request_sync()
    assert partition.log.high_watermark == 0
    assert partition.posted != []
    partition.sync_now()
    assert seen == [16]
    assert syncs.count("sync 00000000000000000000.log") == 1


def test_who_asks_in_one_turn_of_the_loop_is_served_by_one_round() -> None:
    partition, _ = partition_on(SimulatedDisk(), TopicConfig())
    partition.append(b"first")
    partition.log.request_sync()
    with partition.sync.changed:
        assert partition.sync.wait_ms() == 1000, "the turn is not over: others may still append"
    partition.append(b"second")
    partition.run_posted()
    with partition.sync.changed:
        assert partition.sync.wait_ms() == 0


def test_what_nobody_waits_for_is_synced_after_flush_ms() -> None:
    partition, _ = partition_on(SimulatedDisk(), TopicConfig(flush_ms=700))
    partition.append(b"acks=1")
    partition.clock.now_ms += 500
    partition.append(b"later")
    partition.sync.run_round()
    partition.run_posted()
    assert partition.log.high_watermark == 0
    with partition.sync.changed:
        assert partition.sync.wait_ms() == 200
    partition.clock.now_ms += 200
    partition.sync.run_round()
    partition.run_posted()
    assert partition.log.high_watermark == 2
    assert partition.sync.dirty_bytes == 0


def test_a_new_file_and_its_directory_are_synced_before_the_first_ack() -> None:
    disk = SimulatedDisk()
    partition, syncs = partition_on(disk)
    published: list[list[str]] = []
    partition.log.on_high_watermark = lambda log: published.append(list(syncs))
    partition.append(b"first of a file")
    work = partition.sync.collect(everything=True)
    assert work is not None
    partition.sync.perform(work)
    partition.sync.publish(work)
    assert published == [["sync 00000000000000000000.log", "sync_dir 0"]]
    syncs.clear()
    partition.append(b"second")
    work = partition.sync.collect(everything=True)
    assert work is not None
    partition.sync.perform(work)
    assert syncs == ["sync 00000000000000000000.log"], "the name is on the disk already"


def test_a_rolled_segment_is_synced_before_its_successor_and_both_before_anything_is_published() -> None:
    disk = SimulatedDisk()
    partition, syncs = partition_on(disk)
    while partition.log.segments_count < 3:
        partition.append(b"x" * 100)
    bases = [segment.path.name for segment in partition.log._segments]
    work = partition.sync.collect(everything=True)
    assert work is not None
    assert not work.whole_filesystem
    partition.sync.perform(work)
    assert syncs == [*(f"sync {name}" for name in bases), "sync_dir 0"]
    assert partition.log.high_watermark == 0
    partition.sync.publish(work)
    assert partition.log.high_watermark == partition.log.log_end_offset


def test_a_segment_is_sealed_after_its_bytes_are_synced_and_never_before() -> None:
    partition, _ = partition_on(SimulatedDisk())
    while partition.log.segments_count < 2:
        partition.append(b"x" * 100)
    work = partition.sync.collect(everything=True)
    assert work is not None
    partition.sync.perform(work)
    while partition.log.segments_count < 4:  # the owner goes on meanwhile, and rolls what is not synced
        partition.append(b"y" * 100)
    partition.sync._do_late_work()
    sealed = [segment.seal is not None for segment in partition.log._segments]
    assert sealed == [True, False, False, False]
    partition.sync_now()
    assert [segment.seal is not None for segment in partition.log._segments] == [True, True, True, False]


@pytest.mark.parametrize("rolls", [False, True])
def test_what_is_appended_while_a_round_runs_is_synced_by_the_next(rolls: bool) -> None:
    """Also when nothing more is appended after the first round was published."""
    disk = SimulatedDisk()
    partition, syncs = partition_on(disk)
    partition.append(b"of the first round")
    work = partition.sync.collect(everything=True)
    assert work is not None
    partition.append(b"of the second")
    while rolls and partition.log.segments_count < 3:
        partition.append(b"x" * 100)
    partition.sync.perform(work)
    partition.sync.publish(work)
    assert partition.log.high_watermark == 1
    syncs.clear()

    partition.sync_now()

    end = partition.log.log_end_offset
    assert partition.log.high_watermark == end
    assert {f"sync {segment.path.name}" for segment in partition.log._segments} <= set(syncs)
    for seed in range(4):
        assert Partition(disk.crash(random.Random(seed)), config=SMALL).log.log_end_offset == end


def test_many_files_with_few_bytes_are_synced_by_one_call() -> None:
    disk = SimulatedDisk()
    partition, syncs = partition_on(disk)
    while partition.log.segments_count < 4:
        partition.append(b"x" * 100)
    partition.sync_now()
    assert syncs[0] == "sync_filesystem"
    assert partition.log.high_watermark == partition.log.log_end_offset


def test_files_with_much_in_each_are_synced_one_by_one() -> None:
    disk = SimulatedDisk()
    config = TopicConfig(segment_bytes=700_000, max_message_bytes=1 << 20)
    partition, syncs = partition_on(disk, config)
    while partition.log.segments_count < 5:
        partition.append(b"x" * 600_000)
    partition.sync_now()
    assert "sync_filesystem" not in syncs


def test_a_slow_sync_of_all_is_not_tried_again_for_a_while_unless_the_files_are_slower_still() -> None:
    disk = SimulatedDisk()
    partition, syncs = partition_on(disk)
    each_ms = 0

    def slow(operation: str, path: Path) -> None:
        if operation == "sync_filesystem":
            partition.clock.now_ms += 50
        elif operation == "sync" and path.suffix == ".log":
            partition.clock.now_ms += each_ms

    disk.before_step = slow

    def round_of_many_files() -> bool:
        syncs.clear()
        start = partition.log.segments_count
        while partition.log.segments_count < start + 5:
            partition.append(b"x" * 100)
        partition.sync_now()
        return "sync_filesystem" in syncs

    assert round_of_many_files()
    assert not round_of_many_files()
    partition.clock.now_ms += FILESYSTEM_SYNC_PAUSE_MS
    assert round_of_many_files()
    each_ms = 100
    assert not round_of_many_files()
    assert round_of_many_files()


def test_a_filesystem_that_did_not_pass_the_test_is_never_synced_as_a_whole() -> None:
    disk = SimulatedDisk()
    disk.trusts_syncfs = False
    partition, syncs = partition_on(disk)
    while partition.log.segments_count < 9:
        partition.append(b"x" * 100)
    partition.sync_now()
    assert "sync_filesystem" not in syncs


@pytest.mark.parametrize("operation", ["sync", "sync_dir", "sync_filesystem", "write", "rename"])
def test_after_a_failure_nothing_is_published_appended_or_tried_again(operation: str) -> None:
    disk = SimulatedDisk()
    partition, syncs = partition_on(disk)
    while partition.log.segments_count < (5 if operation == "sync_filesystem" else 2):
        partition.append(b"x" * 100)
    disk.before_step = fail_at(operation)
    partition.sync_now()
    disk.before_step = None
    visible = partition.log.high_watermark
    # What failed after the sync, in late work, failed too late for this round: it was durable, and was said to be.
    assert visible == (partition.log.log_end_offset if operation in ("write", "rename") else 0)
    assert len(partition.failures) == 1
    syncs.clear()
    for _ in range(3):
        with pytest.raises(StorageFailed):
            partition.append(b"refused")
        partition.clock.now_ms += 10_000
        partition.sync_now()
    assert (syncs, partition.log.high_watermark, len(partition.failures)) == ([], visible, 1)
    with pytest.raises(StorageFailed, match="could not be closed cleanly"):
        partition.sync.finish()


def test_dirty_bytes_are_capped_whatever_the_ack_level_and_room_is_announced_once() -> None:
    partition = Partition(SimulatedDisk(), config=TopicConfig(durability="relaxed"), dirty_bytes_max=10_000)
    called: list[str] = []
    assert partition.sync.has_room(50_000), "alone, even a batch larger than the cap goes ahead"
    while partition.sync.has_room(1_200):
        partition.append(b"x" * 1_100)
    assert 8_000 < partition.sync.dirty_bytes <= 10_000
    with partition.sync.changed:
        assert partition.sync.wait_ms() == 0, "a sync is due before all room is used"
    partition.sync.on_room(lambda: called.append("room"))
    partition.sync_now()
    assert called == ["room"]
    assert partition.sync.dirty_bytes == 0
    partition.append(b"x")
    partition.sync_now()
    assert called == ["room"]


def test_whoever_waits_for_room_has_a_sync_begun_and_does_not_wait_for_flush_ms() -> None:
    """Also where little is dirty: what does not fit may be one large batch, or one more open file."""
    partition = Partition(SimulatedDisk(), config=TopicConfig(flush_ms=60_000), dirty_bytes_max=10_000)
    called: list[str] = []
    partition.append(b"x")
    assert not partition.sync.has_room(10_000)
    with partition.sync.changed:
        assert partition.sync.wait_ms() == 60_000
    partition.sync.on_room(lambda: called.append("room"))
    partition.run_posted()
    with partition.sync.changed:
        assert partition.sync.wait_ms() == 0
    partition.sync.run_round()
    partition.run_posted()
    assert called == ["room"]
    assert partition.sync.has_room(10_000)


def test_a_relaxed_topic_is_visible_when_written_and_durable_after_a_round() -> None:
    partition = Partition(SimulatedDisk(), config=TopicConfig(durability="relaxed"))
    partition.append(b"seen at once")
    assert partition.log.high_watermark == 1
    assert partition.sync.dirty_bytes > 0
    partition.sync_now()
    after = Partition(simulated(partition).crash(random.Random(0)), config=partition.config)
    assert after.log.high_watermark == 1


def simulated(partition: Partition) -> SimulatedDisk:
    assert isinstance(partition.disk, SimulatedDisk)
    return partition.disk


def test_the_checkpoint_is_written_once_a_second_and_is_never_ahead_of_the_sync() -> None:
    disk = SimulatedDisk()
    partition, syncs = partition_on(disk, TopicConfig())
    for number in range(20):
        partition.append(b"value %d" % number)
        partition.sync_now()
        partition.clock.now_ms += CHECKPOINT_MS // 5
    assert 4 <= syncs.count("sync checkpoint") <= 5
    row = partition.checkpoint.get(partition.log.topic_id, 0)
    assert row is not None
    assert 0 < row.recovery_offset <= partition.log.high_watermark
    partition.clock.now_ms += CHECKPOINT_MS
    with partition.sync.changed:
        assert partition.sync.wait_ms() == 0, "the last second is written too"
    partition.sync.run_round()
    with partition.sync.changed:
        assert partition.sync.wait_ms() is None


def test_late_work_makes_room_for_a_round_that_is_due_and_goes_on_after_it() -> None:
    partition, _ = partition_on(SimulatedDisk())
    done: list[int] = []

    class Late:
        """A log whose late work takes long."""

        flush_ms = 1000

        def __init__(self, number: int) -> None:
            self.number = number

        def maintain(self, end: object) -> None:
            done.append(self.number)
            partition.clock.now_ms += LATE_WORK_MS

        def checkpoint(self) -> PartitionCheckpoint:
            return partition.log.checkpoint()

    for number in range(4):
        partition.sync._late[Late(number)] = partition.log._end  # type: ignore[index]
    partition.append(b"somebody waits for this")
    partition.log.request_sync()
    partition.run_posted()
    partition.sync._do_late_work()
    assert (done, partition.log.high_watermark) == ([0], 0)
    partition.sync.run_round()
    partition.run_posted()
    assert (done, partition.log.high_watermark) == ([0, 1, 2, 3], 1)


def test_a_long_job_makes_room_for_what_nobody_waits_for_when_its_time_has_come() -> None:
    partition, _ = partition_on(SimulatedDisk(), TopicConfig(flush_ms=100))
    steps_count = 0

    def job() -> Iterator[None]:
        nonlocal steps_count
        for number in range(1000):
            steps_count += 1
            partition.clock.now_ms += 10
            if number == 3:
                partition.append(b"acks=1")
            yield

    partition.sync.run_in_steps(job())
    partition.sync.run_round()
    assert steps_count == 14, "those before it, and a flush.ms of them"
    partition.sync.run_round()
    partition.run_posted()
    assert partition.log.high_watermark == 1
    assert steps_count == 1000, "nothing is due any more"


def test_a_power_cut_between_any_two_steps_of_a_round_loses_nothing_that_was_published() -> None:
    for cut_at in range(40):
        for syncfs in (True, False):
            disk = SimulatedDisk()
            disk.trusts_syncfs = syncfs
            partition, _ = partition_on(disk)
            while partition.log.segments_count < 4:
                partition.append(b"value %d" % partition.log.log_end_offset)
            left = cut_at

            def before_step(operation: str, path: Path, partition: Partition = partition) -> None:
                nonlocal left
                left -= 1
                if left < 0:
                    raise PowerCut
                partition.run_posted()  # the owner thread publishes as soon as it may

            disk.before_step = before_step
            try:
                partition.log.request_sync()
                partition.run_posted()
                partition.sync.run_round()
            except PowerCut:
                disk.before_step = None
                partition.run_posted()
            published = partition.log.high_watermark
            for seed in range(4):
                after = Partition(disk.crash(random.Random(seed)), config=SMALL)
                assert not after.findings.holes
                assert after.log.high_watermark >= published
                values = [record.value for record in after.read_all()]
                assert values == [b"value %d" % number for number in range(len(values))]


def test_a_discarded_log_is_neither_published_nor_synced_and_its_bytes_are_room_again() -> None:
    partition, _ = partition_on(SimulatedDisk())
    partition.append(b"never")
    work = partition.sync.collect(everything=True)
    assert work is not None
    partition.append(b"ever")
    partition.log.mark_deleted()
    assert partition.sync.dirty_bytes == 0
    partition.sync.perform(work)  # the round was under way
    partition.sync.publish(work)
    assert (partition.log.high_watermark, partition.sync.dirty_bytes) == (0, 0)

    def release() -> Iterator[None]:
        partition.log.release_files()
        yield

    partition.sync.run_in_steps(release())
    partition.sync.run_round()
    assert partition.failures == []
    partition.handles.close_idle()
    assert [file.path.name for file in simulated(partition).open_files] == ["checkpoint"]


def test_the_thread_syncs_what_is_requested_and_stops(tmp_path: Path) -> None:
    """On a real disk, with the real thread: the owner waits for what it was told, and nobody sleeps."""
    owner: list[Callable[[], None]] = []
    told = threading.Condition()

    def post(callback: Callable[[], None]) -> None:
        with told:
            owner.append(callback)
            told.notify()

    partition = Partition(LinuxDisk(), root=tmp_path, config=SMALL)
    partition.sync.post = post
    thread = SyncThread(partition.sync)
    thread.start()
    for number in range(200):
        partition.append(b"value %d" % number, timestamp_ms=0)
        partition.log.request_sync()
        while partition.log.high_watermark <= number:
            with told:
                while not owner:
                    assert told.wait(30)
                callback = owner.pop(0)
            callback()
    thread.stop()
    assert partition.failures == []
    assert len(partition.read_all()) == 200
    partition.close()
    again = Partition(LinuxDisk(), root=tmp_path, config=SMALL)
    assert again.findings.scanned_bytes == 0
    assert [record.value for record in again.read_all()] == [b"value %d" % number for number in range(200)]
    again.close()
