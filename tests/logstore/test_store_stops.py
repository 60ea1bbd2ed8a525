"""Starting and stopping: what a stop leaves, which of them is clean, and what the next start makes of it."""

import random
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from logstore.checkpoint import Checkpoint
from logstore.config import TopicConfig
from logstore.errors import StorageFailed, StorageFull
from logstore.recovery import open_log
from tests.logstore.disk import PowerCut, SimulatedDisk
from tests.logstore.partition import batch_of
from tests.logstore.store import BOUNDS, DATA, SMALL, Opened, values_of


def test_after_a_clean_stop_no_log_is_opened_before_it_is_asked_for(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 3, SMALL)
    for partition in range(3):
        opened.append("flights", partition, b"x")
    opened.close()
    calls: list[int] = []

    def counting(*args: Any, partition: int, **kwargs: Any) -> Any:
        calls.append(partition)
        return open_log(*args, partition=partition, **kwargs)

    monkeypatch.setattr("logstore.topics.open_log", counting)

    again = Opened(disk.kill())
    assert calls == []
    assert values_of(again.store.log("flights", 1)) == [b"x"]
    again.store.log("flights", 1)
    assert calls == [1]
    assert again.store.recovery_report == []

    Opened(disk.kill())  # the one before was not closed
    assert sorted(calls[1:]) == [0, 1, 2]


def test_a_start_after_a_crash_waits_for_the_disk_a_few_times_however_many_partitions_there_are() -> None:
    counts = []
    for partitions in (10, 100):
        disk = SimulatedDisk()
        opened = Opened(disk, config=replace(BOUNDS, open_files_max=1000))
        opened.store.create_topic("flights", partitions, SMALL)
        for partition in range(partitions):
            opened.append("flights", partition, b"x")
        survivor = disk.kill()
        again = Opened(survivor)
        counts.append(len(survivor.syncs))
        assert all(values_of(again.store.log("flights", partition)) == [b"x"] for partition in range(partitions))
    assert counts[0] == counts[1] < 10


def test_once_started_no_slot_of_the_checkpoint_says_clean(disk: SimulatedDisk) -> None:
    Opened(disk).close()
    Opened(disk)
    data = disk.files()[DATA / "checkpoint"]
    middle = len(data) // 2

    for damaged in (bytes(middle) + data[middle:], data[:middle] + bytes(middle)):
        disk.overwrite(DATA / "checkpoint", damaged)
        assert not Checkpoint.load(DATA / "checkpoint", disk).is_clean


def test_the_leader_epoch_rises_at_unclean_starts_only_and_stamps_what_follows(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL)
    opened.append("flights", 0, b"0")
    opened.close()
    opened = Opened(disk.kill())
    assert opened.store.leader_epoch == 0
    opened.append("flights", 0, b"1")
    opened.settle()

    again = Opened(disk.kill())
    assert again.store.leader_epoch == 1
    again.append("flights", 0, b"2")
    assert again.store.log("flights", 0).epoch_end_offset(0) == (0, 2)
    assert again.store.log("flights", 0).epoch_end_offset(1) == (1, 3)


def test_a_stop_after_a_failed_sync_says_so_and_is_not_clean(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL)
    opened.append("flights", 0, b"x")

    def failing(operation: str, path: Path) -> None:
        if operation in ("sync", "sync_filesystem"):
            raise StorageFailed(f"syncing {path} failed", remedy="None in a test.")

    disk.before_step = failing
    opened.settle()
    assert len(opened.failures) == 1
    assert opened.store.log("flights", 0).high_watermark == 0
    disk.before_step = None

    with pytest.raises(StorageFailed, match="closed cleanly"):
        opened.close()
    again = Opened(disk)  # the lock was let go of
    assert again.store.leader_epoch == 1


@pytest.mark.parametrize("syncfs", [True, False])
def test_a_stop_that_is_cut_short_anywhere_loses_nothing(syncfs: bool) -> None:
    """Also what retention has deleted leaves its producers' last batches known."""
    partitions = 5
    config = SMALL.with_changes({"retention.bytes": "0"})

    def sent_to(partition: int) -> bytes:
        return batch_of(b"once", producer_id=partition, sequence=0)

    def before_the_stop() -> tuple[Opened, SimulatedDisk]:
        disk = SimulatedDisk()
        disk.trusts_syncfs = syncfs
        opened = Opened(disk)
        opened.store.create_topic("flights", partitions, config)
        for partition in range(partitions):
            opened.store.log("flights", partition).append(sent_to(partition), opened.clock.wall_ms())
            opened.append("flights", partition, b"x" * 1000)
        opened.settle()
        assert opened.store.retain() == partitions
        opened.settle()
        for partition in range(partitions):
            opened.append("flights", partition, b"last of %d" % partition)
        return opened, disk

    opened, disk = before_the_stop()
    steps_count = disk.steps_count
    opened.close()
    steps_count = disk.steps_count - steps_count
    assert steps_count > 20
    for step in range(steps_count + 1):
        opened, disk = before_the_stop()
        disk.cut_power_after(step)
        with suppress(PowerCut):
            opened.close()
        for survivor in (disk.kill(), disk.crash(random.Random(step))):
            again = Opened(survivor)
            is_clean = again.store.leader_epoch == 0
            assert is_clean or step < steps_count
            for partition in range(partitions):
                log = again.store.log("flights", partition)
                assert log.append(sent_to(partition), again.clock.wall_ms()) == (0, 0, True)
                assert log.log_start_offset == 1
                values = values_of(log)
                assert values in ([b"x" * 1000], [b"x" * 1000, b"last of %d" % partition])
                assert len(values) == 2 or not is_clean


def test_a_stop_on_a_full_disk_is_clean_and_the_next_start_does_what_there_was_no_room_for(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 5, SMALL)
    for n in range(30):  # some segments are rolled, and none is sealed
        opened.append("flights", n % 5, b"%d" % n * 150)
    disk.capacity_bytes = 0
    opened.close()
    assert not any(path.suffix in (".seal", ".new") for path in disk.files())

    for room in (0, None):
        survivor = disk.crash(random.Random(0))
        survivor.capacity_bytes = room
        again = Opened(survivor)
        assert again.store.leader_epoch == 0
        for partition in range(5):
            log = again.store.log("flights", partition)
            assert not log.holes
            assert values_of(log) == [b"%d" % n * 150 for n in range(partition, 30, 5)]
        again.close()
    assert any(path.suffix == ".seal" for path in survivor.files())


def test_a_start_after_a_crash_on_a_full_disk_uses_the_spare_room(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 2, SMALL)
    for n in range(10):
        opened.append("flights", n % 2, b"%d" % n * 150)
    opened.settle()
    opened.append("flights", 0, b"torn")
    active = opened.store.log("flights", 0)._segments[-1]
    survivor = disk.kill()
    survivor.overwrite(active.path, survivor.files()[active.path][:-1])  # and the torn bytes have to be kept
    survivor.capacity_bytes = survivor.used_bytes

    again = Opened(survivor)

    assert again.store.leader_epoch > 0
    assert [len(findings.cuts) for findings in again.store.recovery_report] == [1]
    for partition in range(2):
        assert values_of(again.store.log("flights", partition)) == [b"%d" % n * 150 for n in range(partition, 10, 2)]
    again.close()


def test_a_start_on_a_disk_that_is_full_without_any_spare_room_says_so(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL)
    survivor = disk.kill()
    survivor.capacity_bytes = 0
    for _ in range(2):
        with pytest.raises(StorageFull):
            Opened(survivor)
    survivor.capacity_bytes = None
    assert [topic.name for topic in Opened(survivor).store.topics()] == ["flights"]


def test_a_stop_waits_for_the_disk_a_few_times_however_many_partitions_there_are() -> None:
    counts = []
    for partitions in (10, 100):
        disk = SimulatedDisk()
        opened = Opened(disk, config=replace(BOUNDS, open_files_max=1000))
        opened.store.create_topic("flights", partitions, SMALL)
        for partition in range(partitions):
            opened.append("flights", partition, b"x")
        disk.syncs.clear()
        opened.close()
        counts.append(len(disk.syncs))
    assert counts[0] == counts[1] < 10


@pytest.mark.parametrize("operation", ["sync", "sync_dir"])
def test_a_failed_sync_of_metadata_is_final_too(disk: SimulatedDisk, operation: str) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL)

    def failing(step: str, path: Path) -> None:
        if step == operation:
            raise StorageFailed(f"syncing {path} failed", remedy="None in a test.")

    disk.before_step = failing
    with pytest.raises(StorageFailed):
        opened.store.create_topic("delays", 1, SMALL)
    opened.run_posted()

    assert len(opened.failures) == 1
    with pytest.raises(StorageFailed):
        opened.append("flights", 0, b"x")


def test_a_sync_that_fails_while_a_log_is_opened_late_is_final_too(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL)
    for n in range(4):
        opened.append("flights", 0, b"%d" % n * 400)
    disk.capacity_bytes = 0  # so that a segment is not sealed yet, and the next start has to sync it
    opened.close()
    disk.capacity_bytes = None
    again = Opened(disk.kill())
    assert isinstance(again.disk, SimulatedDisk)

    def failing(step: str, path: Path) -> None:
        if step == "sync":
            raise StorageFailed(f"syncing {path} failed", remedy="None in a test.")

    again.disk.before_step = failing
    with pytest.raises(StorageFailed):
        again.store.log("flights", 0)
    again.disk.before_step = None
    again.run_posted()
    assert len(again.failures) == 1
    with pytest.raises(StorageFailed):
        again.close()


def test_producer_ids_go_on_after_a_crash_and_never_repeat(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    handed_out = [opened.store.next_producer_id() for _ in range(4)]
    for seed in range(5):
        disk = disk.crash(random.Random(seed))
        opened = Opened(disk)
        handed_out += [opened.store.next_producer_id() for _ in range(4)]

    assert len(set(handed_out)) == len(handed_out)


def test_the_cluster_id_stays(disk: SimulatedDisk) -> None:
    first = Opened(disk, seed=1).store
    second = Opened(disk.crash(random.Random(0)), seed=2).store

    assert first.cluster_id == second.cluster_id
    assert second.node_id == 1


@pytest.mark.parametrize("tail_rows_max", [4, 256])
def test_what_a_start_after_a_crash_had_to_read_a_clean_stop_spares_the_next_one(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch, tail_rows_max: int
) -> None:
    monkeypatch.setattr("logstore.snapshot_writer.TAIL_ROWS_MAX", tail_rows_max)
    monkeypatch.setattr("logstore.recovery.UNINDEXED_BYTES_MAX", 0)
    scanned: list[int] = []

    def counting(*args: Any, **kwargs: Any) -> Any:
        log, findings = open_log(*args, **kwargs)
        scanned.append(findings.scanned_bytes)
        return log, findings

    opened = Opened(disk)
    every_batch = TopicConfig.from_strings({"index.interval.bytes": "0", "retention.ms": "-1"})
    opened.store.create_topic("flights", 1, every_batch)
    for number in range(20):
        opened.append("flights", 0, b"%d" % number)
    opened.settle()
    after_crash = Opened(disk.kill())
    after_crash.close()  # without an append

    monkeypatch.setattr("logstore.topics.open_log", counting)
    log = Opened(disk.kill()).store.log("flights", 0)

    assert log.log_end_offset == 20
    batch_bytes = log.size_bytes // 20
    assert scanned[0] <= 2 * batch_bytes, "no more than what follows the last row"


def test_a_file_that_was_made_and_not_filled_before_a_clean_stop_has_its_name_synced_before_what_is_in_it_counts() -> (
    None
):
    for seed in range(10):
        disk = SimulatedDisk()
        opened = Opened(disk)
        opened.store.create_topic("flights", 1, SMALL)
        disk = disk.kill()
        opened = Opened(disk)
        disk.capacity_bytes = disk.used_bytes
        with pytest.raises(StorageFull):
            opened.append("flights", 0, b"too much")
        opened.close()
        disk = disk.kill()
        disk.capacity_bytes = None
        again = Opened(disk)
        again.append("flights", 0, b"acknowledged")
        again.settle()
        assert again.store.log("flights", 0).high_watermark == 1

        after_power_cut = Opened(disk.crash(random.Random(seed)))

        assert values_of(after_power_cut.store.log("flights", 0)) == [b"acknowledged"]
