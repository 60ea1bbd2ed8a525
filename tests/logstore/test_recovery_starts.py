"""What a start reads, when it shows what was written, and that a recovery that is cut short is done again."""

import random
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from logstore import files
from logstore.batch import HEADER_SIZE
from logstore.config import TopicConfig
from logstore.errors import StorageFailed
from tests.logstore.disk import PowerCut, SimulatedDisk
from tests.logstore.partition import Partition
from tests.logstore.recovered import (
    SMALL,
    WIDE,
    active_path,
    reopened,
    sealed_chain,
    simulated,
    values_of,
    with_batches,
)


def test_a_clean_start_reads_nothing_of_the_log() -> None:
    partition = sealed_chain()
    expected = values_of(partition)
    partition.close()
    disk = simulated(partition).kill()
    nodes = [disk._file(path) for path in disk.files() if path.suffix == ".log"]
    assert len(nodes) == 5
    for node in nodes:
        node.unreadable.add(0)
    after = Partition(disk, config=SMALL)
    after.append(b"goes on")
    assert (after.findings.holes, after.findings.scanned_bytes) == ([], 0)
    for node in nodes:
        node.unreadable.clear()
    after.sync_now()
    assert values_of(after) == [*expected, b"goes on"]


def test_a_log_that_a_crash_found_as_the_checkpoint_has_it_is_not_read() -> None:
    """There is nothing above the recovery point. So an idle partition costs a start little, whatever stopped it."""
    partition = with_batches(20)
    partition.close()
    crashed = reopened(partition)
    disk = simulated(crashed).kill()
    disk._file(active_path(partition)).unreadable.add(0)
    after = Partition(disk, config=WIDE)
    assert (after.findings.holes, after.findings.scanned_bytes) == ([], 0)
    assert after.log.log_end_offset == 40
    assert after.append(b"goes on").base_offset == 40


def test_a_restart_after_a_crash_reads_little_below_the_recovery_point() -> None:
    partition = with_batches(0, TopicConfig(index_interval_bytes=1000))
    for _ in range(40):
        partition.append(b"x" * 500)
    partition.sync_now()
    partition.sync.finish()  # the index rows are stored, and the checkpoint written
    partition.append(b"x" * 500)
    after = reopened(partition)
    assert after.log.log_end_offset == 41
    assert after.findings.scanned_bytes < 4 * 600


def test_names_are_synced_before_a_killed_process_s_records_are_shown_again() -> None:
    for seed in range(8):
        partition = Partition(SimulatedDisk(), config=WIDE)
        partition.append(b"in a file whose name is not on the disk")
        after = reopened(partition)
        assert after.log.high_watermark == 1
        survivor = Partition(simulated(after).crash(random.Random(seed)), config=WIDE)
        assert values_of(survivor) == [b"in a file whose name is not on the disk"]


def test_pages_that_only_look_written_are_not_believed() -> None:
    """After a failed sync the page cache reads well, and a second sync says OK."""
    partition = with_batches(3)
    partition.append(b"never on the disk")
    disk = simulated(partition)

    def fail(operation: str, path: Path) -> None:
        if operation == "sync":
            raise StorageFailed("EIO", remedy="")

    disk.before_step = fail
    partition.sync_now()
    assert partition.failures
    disk.before_step = None
    after = reopened(partition)
    assert after.log.high_watermark == 6
    survivor = Partition(simulated(after).crash(random.Random(1)), config=WIDE)
    assert len(values_of(survivor)) == 6


@pytest.mark.parametrize("torn_segment", [0, 1, 2])
def test_a_recovery_that_is_cut_short_anywhere_is_simply_done_again(torn_segment: int) -> None:
    def crashed() -> SimulatedDisk:
        partition = Partition(SimulatedDisk(), config=SMALL)
        for number in range(12):
            partition.append(b"value %d" % number)
        disk = simulated(partition).kill()
        base = partition.log._segments[torn_segment].base_offset
        disk.flip_bit(files.log_path(partition.directory, base), HEADER_SIZE + 2)
        disk.sync_filesystem(Path("/"))
        return disk

    disk = crashed()
    expected = values_of(Partition(disk, config=SMALL))
    steps = disk.steps_count
    assert steps > 10
    for cut_at in range(steps):
        for seed in range(3):
            disk = crashed()
            disk.cut_power_after(cut_at)
            with suppress(PowerCut):
                Partition(disk, config=SMALL)
            after = Partition(disk.crash(random.Random(seed)), config=SMALL)
            assert values_of(after) == expected
            assert not after.findings.holes
            after.append(b"goes on")
            after.sync_now()
            again = Partition(simulated(after).crash(random.Random(seed)), config=SMALL)
            assert values_of(again) == [*expected, b"goes on"]


def test_a_removal_that_a_crash_interrupts_is_finished_later() -> None:
    partition = sealed_chain()
    partition.config = replace(SMALL, retention_bytes=600)
    partition.log.config = partition.config
    deleted = partition.retain()
    assert deleted >= 2
    start = partition.log.log_start_offset
    expected = values_of(partition)
    disk = simulated(partition)

    def cut_at_the_second_file(operation: str, path: Path) -> None:
        if operation == "remove" and path != files.log_path(partition.directory, 0):
            raise PowerCut

    disk.before_step = cut_at_the_second_file
    with suppress(PowerCut):
        partition.sync.run_round()
    disk.before_step = None
    assert not disk.exists(files.log_path(partition.directory, 0))
    assert disk.exists(files.seal_path(partition.directory, 0))

    after = reopened(partition)
    assert (after.findings.holes, after.log.log_start_offset) == ([], start)
    after.retention.remove([after.log])
    after.sync.run_round()
    assert values_of(after) == expected
    names = after.disk.list_dir(after.directory)
    assert not [name for name in names if (files.log_base_offset(name) or start) < start]
