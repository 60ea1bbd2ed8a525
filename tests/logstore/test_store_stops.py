"""Starting and stopping: what a stop leaves, which of them is clean, and what the next start makes of it."""

import random
from pathlib import Path
from typing import Any

import pytest

from logstore.checkpoint import Checkpoint
from logstore.errors import StorageFailed
from logstore.recovery import open_log
from tests.logstore.disk import SimulatedDisk
from tests.logstore.store import DATA, SMALL, Opened, values_of


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
