"""Recovery where bytes below the recovery point are damaged, which is no torn tail: it costs what was hit, no more."""

import pytest

from logstore import files
from logstore.batch import HEADER_SIZE, read_header
from logstore.config import TopicConfig
from logstore.disk import PAGE_BYTES
from logstore.errors import DataLoss
from logstore.header import stamp
from tests.logstore.disk import SimulatedDisk
from tests.logstore.partition import Partition, batch_of
from tests.logstore.recovered import (
    WIDE,
    active_path,
    batch_size,
    read_around_holes,
    refused,
    simulated,
    small_batches,
    torn_tail,
)


@pytest.mark.parametrize("position", [0, 8, 16, 17, 23, HEADER_SIZE + 1])
def test_damage_below_the_recovery_point_is_a_hole(position: int) -> None:
    partition, data, _ = torn_tail()
    second = read_header(data, 0).size
    disk = simulated(partition).kill()
    disk.remove_tree(files.active_index_path(partition.directory, 0))  # so that all of it is read
    disk.flip_bit(active_path(partition), second + position, 2)
    before = disk.files()[active_path(partition)]
    for _ in range(3):  # and it stays one: no restart takes it for a torn tail
        after = Partition(disk, config=WIDE)
        [hole] = after.findings.holes
        assert (hole.offset, hole.next_offset) == (2, 4)
        assert list(read_around_holes(after)) == [0, 1, *range(4, after.log.log_end_offset)]
        assert after.log.log_end_offset == partition.log.log_end_offset
        with pytest.raises(DataLoss, match="from offset 2 to 3"):
            after.append(b"refused")
        with pytest.raises(DataLoss, match=r"\[2, 4\)"):
            after.log.open_read(2, 100)
        assert disk.files()[active_path(partition)] == before, "nothing is cut"
        disk = disk.kill()


def test_damage_in_the_active_segment_after_a_clean_stop_is_met_by_its_readers_and_stops_no_appends() -> None:
    partition = Partition(SimulatedDisk(), config=WIDE)
    for number in range(3):
        partition.append(b"value %d" % number)
    partition.close()
    disk = simulated(partition).kill()
    second = read_header(disk.files()[active_path(partition)], 0).size
    disk.flip_bit(active_path(partition), second + HEADER_SIZE + 1)

    after = Partition(disk, config=WIDE)
    assert (after.findings.holes, after.findings.scanned_bytes) == ([], 0)
    assert after.append(b"afterwards").base_offset == 3
    after.sync_now()
    with pytest.raises(DataLoss) as met:
        after.read(1)
    assert (met.value.offset, met.value.next_offset) == (1, 2)
    assert [record.value for record in after.read(2)[0]] == [b"value 2", b"afterwards"]


def test_a_file_shorter_than_the_recovery_point_is_a_hole() -> None:
    partition, data, start = torn_tail()
    disk = simulated(partition).kill()
    disk.overwrite(active_path(partition), data[: start - 1])
    after = Partition(disk, config=WIDE)
    [hole] = after.findings.holes
    assert (hole.offset, hole.next_offset, after.findings.cuts) == (4, 6, [])
    assert after.log.log_end_offset == 6
    assert len(disk.files()[active_path(partition)]) == start - 1


def test_a_file_with_a_whole_synced_batch_missing_is_a_hole() -> None:
    partition, data, _ = torn_tail()
    disk = simulated(partition).kill()
    third = 2 * read_header(data, 0).size
    disk.overwrite(active_path(partition), data[:third])
    after = Partition(disk, config=WIDE)
    assert after.findings.holes
    assert after.findings.holes[0].offset == 4


@pytest.mark.parametrize("number", [0, 2, 4])
def test_an_unreadable_block_is_a_hole_wherever_it_is(number: int) -> None:
    """No torn write makes a block unreadable, so also above the recovery point nothing is cut for it."""
    partition = Partition(SimulatedDisk(), config=WIDE)
    for each in range(5):
        partition.append(b"%d" % each + bytes(12_000))
        if each < 3:
            partition.sync_now()
    disk = simulated(partition).kill()
    disk.make_unreadable(active_path(partition), number * partition.log.size_bytes // 5 + 4100)
    after = Partition(disk, config=WIDE)
    assert after.findings.holes
    assert (after.findings.holes[0].offset, after.findings.cuts) == (number, [])
    assert list(read_around_holes(after)) == [offset for offset in range(after.log.high_watermark) if offset != number]


# Among small batches: many of them are in what is read at a time.


@pytest.mark.parametrize("page", [0, 1, 2, 4])
@pytest.mark.parametrize("is_live", [True, False])
def test_an_unreadable_block_takes_the_batches_in_it_and_none_beside(page: int, is_live: bool) -> None:
    partition = small_batches()
    size = batch_size(partition)
    end_position = partition.log._segments[0].end_position
    block = range(page * PAGE_BYTES, min((page + 1) * PAGE_BYTES, end_position))
    disk = simulated(partition) if is_live else simulated(partition).kill()
    disk.make_unreadable(partition.log._segments[0].path, block.start)
    after = partition if is_live else Partition(disk, config=partition.config)
    assert refused(after) == list(range(block.start // size, -(-block.stop // size)))
    assert refused(after) == list(range(block.start // size, -(-block.stop // size))), "nor for those who come later"


def test_damage_below_and_a_torn_tail_above_the_checkpoint_cost_what_they_hit() -> None:
    partition = small_batches(50)
    size = batch_size(partition)
    for number in range(50, 100):
        partition.append(b"v%03d" % number)
    disk = simulated(partition).kill()
    path = active_path(partition)
    disk.flip_bit(path, 20 * size + HEADER_SIZE, 0)
    disk.overwrite(path, disk.files()[path][:-5])
    after = Partition(disk, config=partition.config)
    assert [hole[:2] for hole in after.log.holes] == [(20, 21)]
    assert after.log.log_end_offset == 99, "the torn one was never acknowledged"
    assert refused(after) == [20]


def test_zeros_over_the_checkpointed_end_cost_what_they_hit() -> None:
    partition = small_batches(50)
    size = batch_size(partition)
    for number in range(50, 100):
        partition.append(b"v%03d" % number)
    disk = simulated(partition).kill()
    path = active_path(partition)
    data = bytearray(disk.files()[path])
    data[48 * size : 53 * size] = bytes(5 * size)
    disk.overwrite(path, bytes(data))
    after = Partition(disk, config=partition.config)
    assert after.log.log_end_offset == 100
    assert refused(after) == [48, 49, 50, 51, 52]


def test_a_file_that_ends_before_its_last_index_row_loses_what_is_missing_and_no_more() -> None:
    partition = small_batches(150)
    size = batch_size(partition)
    partition.close()
    disk = simulated(partition).kill()
    path = active_path(partition)
    disk.overwrite(path, disk.files()[path][: 10 * size])
    after = Partition(disk, config=partition.config)
    assert after.log.log_end_offset == 150
    assert refused(after) == list(range(10, 150))


def test_a_last_segment_that_cannot_be_read_at_all_does_not_stop_the_start() -> None:
    partition = small_batches(300)
    segment = partition.log._segments[-1]
    disk = simulated(partition).kill()
    for position in range(0, segment.end_position, PAGE_BYTES):
        disk.make_unreadable(segment.path, position)
    after = Partition(disk, config=partition.config)
    assert after.log.log_end_offset == 300
    assert refused(after) == list(range(segment.base_offset, 300))


@pytest.mark.parametrize("is_live", [True, False])
def test_batches_inside_a_record_are_not_served_in_the_place_of_others(is_live: bool) -> None:
    partition = Partition(SimulatedDisk(), config=TopicConfig(segment_bytes=4000, index_interval_bytes=500))
    for number in range(5):
        partition.append(b"v%03d" % number)
    forged = bytearray()
    for offset in (6, 7):
        batch = bytearray(batch_of(b"FORGED"))
        stamp(batch, offset, 0)
        forged += batch
    partition.append(bytes(forged))
    for number in range(6, 60):
        partition.append(b"v%03d" % number)
        partition.sync_now()
    disk = simulated(partition) if is_live else simulated(partition).kill()
    disk.flip_bit(partition.log._segments[0].path, 5 * batch_size(partition) + 9, 0)  # of its length
    after = partition if is_live else Partition(disk, config=partition.config)
    with pytest.raises(DataLoss):
        after.read(5)
    for offset in range(6, 60):
        assert after.read(offset, 1)[0][0].value == b"v%03d" % offset


@pytest.mark.parametrize("is_live", [True, False])
@pytest.mark.parametrize("bit", range(8))
def test_a_wrong_length_costs_its_own_batch_and_none_behind(bit: int, is_live: bool) -> None:
    partition = small_batches()
    disk = simulated(partition) if is_live else simulated(partition).kill()
    disk.flip_bit(partition.log._segments[0].path, 10 * batch_size(partition) + 11, bit)
    after = partition if is_live else Partition(disk, config=partition.config)
    assert refused(after) == [10]


def test_foreign_bytes_before_the_first_batch_cost_no_record() -> None:
    partition = small_batches(100)
    disk = simulated(partition).kill()
    path = active_path(partition)
    disk.overwrite(path, b"\x07" * 100 + disk.files()[path])
    after = Partition(disk, config=partition.config)
    assert after.log.holes, "but somebody has to look into it"
    assert after.log.log_end_offset == 100
    assert refused(after) == []
