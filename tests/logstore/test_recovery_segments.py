"""Recovery where segments are missing, stray or misnamed: the records beside are read, and nothing is removed."""

from dataclasses import replace

import pytest

from logstore import files
from logstore.batch import HEADER_SIZE
from logstore.config import TopicConfig
from logstore.errors import DataLoss
from logstore.losses import Loss, write_loss
from logstore.seal import read_seal
from tests.logstore.disk import SimulatedDisk
from tests.logstore.partition import NOW_MS, Partition
from tests.logstore.recovered import (
    SMALL,
    WIDE,
    active_path,
    batch_size,
    read_around_holes,
    refused,
    sealed_chain,
    simulated,
    small_batches,
)


@pytest.mark.parametrize("clean", [True, False])
def test_a_missing_middle_segment_is_a_hole_and_nothing_is_removed(clean: bool) -> None:
    partition = sealed_chain()
    middle = partition.log._segments[1]
    if clean:
        partition.close()
    disk = simulated(partition).kill()
    disk.remove(middle.path)
    before = disk.files()
    after = Partition(disk, config=SMALL)
    assert after.findings.holes
    assert [hole[:2] for hole in after.findings.holes] == [(middle.base_offset, middle.next_offset)]
    assert len(read_around_holes(after)) == partition.log.high_watermark - middle.next_offset + middle.base_offset
    untouched = {path: data for path, data in before.items() if path.parent == partition.directory}
    assert untouched.items() <= disk.files().items()


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_missing_first_or_last_segment_is_a_hole(number: int) -> None:
    partition = sealed_chain(2)
    partition.clock.now_ms += 5_000
    partition.append(b"last")
    partition.sync_now()
    segment = partition.log._segments[number]
    disk = simulated(partition).kill()
    disk.remove(segment.path)
    if number == 0:
        disk.remove(files.seal_path(partition.directory, 0))
    after = Partition(disk, config=SMALL)
    assert after.findings.holes
    assert after.findings.holes[0].offset == segment.base_offset
    with pytest.raises(DataLoss):
        after.append(b"refused")


def test_a_sealed_segment_that_was_cut_is_a_hole() -> None:
    partition = sealed_chain()
    segment = partition.log._segments[1]
    disk = simulated(partition).kill()
    disk.overwrite(segment.path, disk.files()[segment.path][:-1])
    after = Partition(disk, config=SMALL)
    assert after.findings.holes
    [hole] = after.findings.holes
    assert segment.base_offset < hole.offset
    assert hole.next_offset == segment.next_offset
    assert len(read_around_holes(after)) == partition.log.high_watermark - 1


def test_nothing_is_removed_from_a_log_with_a_hole() -> None:
    partition = sealed_chain()
    disk = simulated(partition).kill()
    disk.remove(partition.log._segments[2].path)
    after = Partition(disk, config=TopicConfig(segment_bytes=400, retention_bytes=0, retention_ms=0))
    after.clock.now_ms += 10_000
    assert after.log.retention_start(after.past) == 0


def test_each_missing_segment_is_a_hole_of_its_own_and_all_others_are_read() -> None:
    partition = sealed_chain(5)
    disk = simulated(partition).kill()
    missing = [partition.log._segments[number] for number in (0, 2)]
    for segment in missing:
        disk.remove(segment.path)
        disk.remove(files.seal_path(partition.directory, segment.base_offset))
    after = Partition(disk, config=SMALL)
    assert [hole[:2] for hole in after.findings.holes] == [(gone.base_offset, gone.next_offset) for gone in missing]
    lost = {offset for gone in missing for offset in range(gone.base_offset, gone.next_offset)}
    whole = {offset: b"value %d" % offset for offset in range(partition.log.high_watermark)}
    assert read_around_holes(after) == {offset: value for offset, value in whole.items() if offset not in lost}


def test_a_time_that_may_be_in_a_hole_is_looked_for_there() -> None:
    partition = Partition(SimulatedDisk(), config=WIDE)
    for number in range(6):
        partition.append(b"%d" % number, timestamp_ms=NOW_MS + number)
        partition.sync_now()
    partition.clock.now_ms += 5_000
    partition.sync.run_round()  # the checkpoint
    partition.run_posted()
    disk = simulated(partition).kill()
    disk.flip_bit(active_path(partition), partition.log.size_bytes // 2 + HEADER_SIZE, 1)
    disk.remove_tree(files.active_index_path(partition.directory, 0))
    after = Partition(disk, config=WIDE)
    assert [hole[:2] for hole in after.findings.holes] == [(3, 4)]
    assert after.log.offset_for_timestamp(NOW_MS + 2) == (2, NOW_MS + 2)
    assert after.log.offset_for_timestamp(NOW_MS + 5) == (3, NOW_MS + 5), "nobody knows what times were in there"


@pytest.mark.parametrize("has_seal", [True, False])
def test_a_loss_that_was_accepted_is_a_gap_and_stops_nobody(has_seal: bool) -> None:
    partition = sealed_chain(4)
    first, gone = partition.log._segments[:2]
    partition.close()
    disk = simulated(partition).kill()
    disk.remove(gone.path)
    disk.remove(files.seal_path(partition.directory, gone.base_offset))
    assert first.seal is not None
    seal = replace(first.seal, next_offset=gone.next_offset)
    path = files.seal_path(partition.directory, first.base_offset)
    if has_seal:
        disk.replace_file(path, seal.encode())
    else:
        disk.remove(path)
    loss = Loss(gone.base_offset, gone.next_offset, "the disk ate it", NOW_MS, None)
    write_loss(disk, partition.directory, first.base_offset, loss)
    for _ in range(2):
        after = Partition(disk, config=SMALL)
        assert not after.log.holes
        assert after.read(loss.offset) == ([], loss.next_offset)
        assert after.read(loss.offset - 1)[1] == loss.offset
        assert after.read(loss.next_offset)[0][0].value == b"value %d" % loss.next_offset
        after.append(b"goes on")
        after.sync_now()
        assert read_seal(disk, path) == seal
        disk = simulated(after).kill()


@pytest.mark.parametrize("base", [0, 1])
def test_a_stray_segment_closes_the_log_and_hides_nothing(base: int) -> None:
    partition = small_batches()
    disk = simulated(partition).kill()
    stray = partition.log._segments[base].base_offset + 5
    disk.overwrite(files.log_path(partition.directory, stray), b"")
    after = Partition(disk, config=partition.config)
    assert after.log.log_end_offset == 400
    assert refused(after) == []
    if base == 0:  # the other may be a tail, and is set aside
        with pytest.raises(DataLoss, match="begins in the middle of the segment before it"):
            after.append(b"refused")


def test_a_loss_at_the_end_that_was_accepted_is_behind_the_log_for_good() -> None:
    """The power goes between the note of the loss and its seal: appends must not go into the same file."""
    partition = small_batches(100)
    disk = simulated(partition).kill()
    path = active_path(partition)
    disk.overwrite(path, disk.files()[path][: 80 * batch_size(partition)])
    write_loss(disk, partition.directory, 0, Loss(80, 100, "the disk ate it", NOW_MS, None))
    for number in (100, 101):
        after = Partition(disk, config=partition.config)
        assert not after.log.holes
        assert after.append(b"v%03d" % number).base_offset == number
        after.sync_now()
        disk = simulated(after).kill()
    assert after.read(79)[1] == 80
    assert after.read(85) == ([], 100)
    assert after.read(100)[0][0].value == b"v100"


@pytest.mark.parametrize("shift", [-3, 3])
@pytest.mark.parametrize("clean", [True, False])
def test_a_segment_under_another_name_is_not_read_as_what_that_says(shift: int, clean: bool) -> None:
    partition = small_batches()
    first, active = partition.log._segments
    if clean:
        partition.close()
    disk = simulated(partition).kill()
    data = disk.files()[active.path]
    disk.remove(active.path)
    disk.overwrite(files.log_path(partition.directory, active.base_offset + shift), data)
    after = Partition(disk, config=partition.config)
    assert after.log.holes
    assert after.log.log_end_offset == 400
    assert refused(after) == list(range(active.base_offset, 400))
    with pytest.raises(DataLoss):
        after.append(b"refused")
    assert first.next_offset == active.base_offset
