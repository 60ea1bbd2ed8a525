"""Recovery of the index and of append times, which are hints: where they cannot be believed the log is read."""

import random

import pytest

from logstore import files
from logstore.config import TopicConfig
from logstore.disk import ARRAY_DATA
from tests.logstore.disk import SimulatedDisk
from tests.logstore.partition import Partition
from tests.logstore.recovered import (
    SMALL,
    WIDE,
    reopened,
    simulated,
    values_of,
    with_batches,
)


def test_a_log_whose_index_rows_are_lost_is_read_if_it_is_not_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logstore.recovery.UNINDEXED_BYTES_MAX", 300)
    for batches in (2, 5):
        partition = with_batches(batches)
        partition.close()
        crashed = reopened(partition)
        disk = simulated(crashed).kill()
        disk.remove(crashed.directory / files.SNAPSHOT)
        after = Partition(disk, config=WIDE)
        assert (after.findings.scanned_bytes > 0) == (batches == 5)
        assert values_of(after) == values_of(crashed)


@pytest.mark.parametrize("tail_rows_max", [0, 3, 100])
@pytest.mark.parametrize("snapshot_bytes", [300, 1 << 20])
@pytest.mark.parametrize("crash", [False, True])
def test_append_times_are_known_after_a_stop_whatever_has_the_index_rows(
    monkeypatch: pytest.MonkeyPatch, tail_rows_max: int, snapshot_bytes: int, crash: bool
) -> None:
    """The array, the snapshot, each a part, or both the same."""
    monkeypatch.setattr("logstore.snapshot_writer.TAIL_ROWS_MAX", tail_rows_max)
    monkeypatch.setattr("logstore.snapshot_writer.SNAPSHOT_INTERVAL_BYTES", snapshot_bytes)
    partition = Partition(SimulatedDisk(), config=TopicConfig(index_interval_bytes=0))
    times = []
    for number in range(8):
        for _ in range(number):
            partition.clock.now_ms += 1000
            times.append(partition.clock.wall_ms())
            partition.append(b"value")
        partition.close()
        partition = Partition(simulated(partition).kill(), config=partition.config, clock=partition.clock)
    has_array = partition.disk.exists(files.active_index_path(partition.directory, 0))
    assert has_array == (tail_rows_max < 28 or snapshot_bytes == 300)
    if crash:
        partition.append(b"last")
        partition.sync_now()
        partition.clock.now_ms += 1000
        partition = reopened(partition)
    assert [partition.log.append_time_ms(offset) for offset in range(len(times))] == times
    table = partition.log._segments[0].index.all_rows()
    assert table is not None
    assert table.count == len(times), "one a batch, no row twice"
    assert partition.log._segments[0].first_append_ms == times[0]


@pytest.mark.parametrize("crash", [False, True])
@pytest.mark.parametrize("row", [0, 3, 9])
def test_a_bit_of_an_append_time_is_noticed_in_the_index_of_a_segment_that_is_not_sealed(
    monkeypatch: pytest.MonkeyPatch, crash: bool, row: int
) -> None:
    """Nothing else says when a record was appended, and too early is deleted too early."""
    monkeypatch.setattr("logstore.snapshot_writer.TAIL_ROWS_MAX", 0)
    monkeypatch.setattr("logstore.snapshot_writer.SNAPSHOT_INTERVAL_BYTES", 700)
    partition = Partition(SimulatedDisk(), config=TopicConfig(index_interval_bytes=0))
    times = []
    for _ in range(10):
        partition.clock.now_ms += 1 << 16
        times.append(partition.clock.wall_ms())
        partition.append(b"value")
    partition.sync_now()
    partition.sync_now()  # the snapshot that follows the rows
    if crash:
        partition.sync.finish()
    else:
        partition.close()
    disk = simulated(partition).kill()
    bit = next(bit for bit in range(16) if times[row] >> bit & 1)
    path = files.active_index_path(partition.directory, 0) / ARRAY_DATA
    assert len(disk.read_array(path.parent)) == 10 * 32
    disk.flip_bit(path, row * 32 + 24 + bit // 8, bit % 8)
    after = Partition(disk, config=partition.config, clock=partition.clock)
    assert all(after.log.append_time_ms(offset) >= time_ms for offset, time_ms in enumerate(times))
    [note] = after.findings.notes
    assert "does not begin with the 10 rows whose CRC is" in note


def test_the_rows_of_an_array_are_believed_after_a_power_cut_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is synced, and then a snapshot says what it has, also if nothing is appended any more."""
    monkeypatch.setattr("logstore.snapshot_writer.TAIL_ROWS_MAX", 0)
    monkeypatch.setattr("logstore.snapshot_writer.SNAPSHOT_INTERVAL_BYTES", 700)
    for seed in range(5):
        partition = Partition(SimulatedDisk(), config=TopicConfig(index_interval_bytes=0))
        times = []
        for _ in range(20):
            partition.clock.now_ms += 1000
            times.append(partition.clock.wall_ms())
            partition.append(b"value")
        partition.sync_now()
        partition.clock.now_ms += 1000
        partition.sync_now()
        partition.sync.run_round()
        partition.append(b"not on the disk")
        disk = simulated(partition).crash(random.Random(seed))
        after = Partition(disk, config=partition.config, clock=partition.clock)
        assert after.findings.notes == []
        # The last row is read again: nobody knows whether the file was synced up to there.
        assert [after.log.append_time_ms(offset) for offset in range(19)] == times[:19]


def test_the_index_rows_of_a_snapshot_are_of_one_segment_and_no_other() -> None:
    partition = Partition(SimulatedDisk(), config=SMALL)
    partition.append(b"unlike", b"the first batch of those that follow")
    partition.close()
    partition = reopened(partition)
    while partition.log.segments_count < 3:
        partition.append(b"value")
        partition.clock.now_ms += 1000
        partition.sync_now()
    partition.append(b"last")
    after = reopened(partition)
    assert after.findings.notes == []
    assert len(values_of(after)) == partition.log.log_end_offset
