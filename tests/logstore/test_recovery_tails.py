"""Recovery of tails: every way in which one can be torn, and what becomes of what is cut."""

import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from logstore import files
from logstore.batch import HEADER_SIZE, read_header
from logstore.linux_disk import LinuxDisk
from tests.logstore.disk import SimulatedDisk
from tests.logstore.partition import Partition
from tests.logstore.recovered import (
    SMALL,
    WIDE,
    active_path,
    reopened,
    simulated,
    torn_tail,
    values_of,
)


@pytest.mark.parametrize("junk", [b"", b"\0" * 50, b"\xff" * 50])
def test_a_tail_torn_at_any_byte_ends_at_the_last_whole_batch(junk: bytes) -> None:
    partition, data, start = torn_tail()
    size = read_header(data, start).size
    whole = data[start : start + size]
    for cut in range(1, size):
        if (whole[:cut] + junk).startswith(whole):
            continue  # the batch ends in zeros
        disk = simulated(partition).kill()
        disk.overwrite(active_path(partition), data[: start + cut] + junk)
        after = Partition(disk, config=WIDE)

        assert after.log.log_end_offset == 6
        assert len(after.read_all()) == 6
        [torn] = after.findings.cuts
        assert (torn.position, torn.offset, torn.bytes_count) == (start, 6, cut + len(junk))
        assert disk.files()[torn.kept_as] == data[start : start + cut] + junk
        assert disk.files()[active_path(partition)] == data[:start]
        disk.remove(torn.kept_as)


def put(at: int, layout: str, value: int) -> Callable[[bytearray], None]:
    return lambda batch: struct.pack_into(layout, batch, at, value)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (put(8, ">i", 0), "batch_length is 0"),
        (put(8, ">i", -1), "batch_length is -1"),
        (put(8, ">i", 48), "batch_length is 48"),
        (put(8, ">i", 1 << 30), "batch_length is 1073741824"),
        (put(16, ">b", 0), "magic is 0"),
        (put(16, ">b", 1), "magic is 1"),
        (put(0, ">q", 5), "base_offset is 5"),
        (put(0, ">q", 7), "base_offset is 7"),
        (put(0, ">q", -1), "base_offset is -1"),
        (put(17, ">I", 0), "CRC"),
        (put(21, ">h", 0x40), "CRC"),
        (put(23, ">i", 1), "last_offset_delta 1"),
        (put(57, ">i", 0), "records_count is 0"),
        (put(HEADER_SIZE + 3, ">b", 0x55), "CRC"),
    ],
)
def test_a_tail_torn_in_this_way_is_seen(change: Callable[[bytearray], None], why: str) -> None:
    partition, data, start = torn_tail()
    torn = bytearray(data[start:])
    change(torn)
    disk = simulated(partition).kill()
    disk.overwrite(active_path(partition), data[:start] + torn)
    after = Partition(disk, config=WIDE)
    assert after.log.log_end_offset == 6
    [cut] = after.findings.cuts
    assert why in cut.why
    assert disk.files()[cut.kept_as] == torn


def test_a_tail_of_zeros_is_cut() -> None:
    partition, data, start = torn_tail()
    disk = simulated(partition).kill()
    disk.overwrite(active_path(partition), data[:start] + bytes(5000))
    after = Partition(disk, config=WIDE)
    assert (after.log.log_end_offset, after.findings.cuts[0].bytes_count) == (6, 5000)


def test_an_aligned_end_is_not_torn() -> None:
    partition, data, start = torn_tail()
    disk = simulated(partition).kill()
    disk.overwrite(active_path(partition), data[: start + read_header(data, start).size])
    after = Partition(disk, config=WIDE)
    assert (after.log.log_end_offset, after.findings.cuts) == (7, [])


def test_sound_batches_behind_a_tear_are_counted_and_kept_aside() -> None:
    partition, data, start = torn_tail()
    torn = bytearray(data)
    torn[start + HEADER_SIZE] ^= 1
    disk = simulated(partition).kill()
    disk.overwrite(active_path(partition), bytes(torn))
    after = Partition(disk, config=WIDE)
    [cut] = after.findings.cuts
    assert cut.sound_batches_after == 1


def test_stale_bytes_behind_a_cut_are_never_read_again() -> None:
    """[A][torn B][C]: once another B is written where the torn one was, C would fit behind it."""
    partition, data, start = torn_tail()
    torn = bytearray(data)
    torn[start + HEADER_SIZE] ^= 1
    disk = simulated(partition).kill()
    disk.overwrite(active_path(partition), bytes(torn))
    after = Partition(disk, config=WIDE)
    after.append(b"another")  # as long as what was torn
    again = reopened(after)
    assert values_of(again)[6:] == [b"another"]


def test_segments_behind_a_tear_are_set_aside_and_kept() -> None:
    partition = Partition(SimulatedDisk(), config=SMALL)
    for number in range(12):
        partition.append(b"value %d" % number)
    disk = simulated(partition).kill()
    bases = [segment.base_offset for segment in partition.log._segments]
    assert len(bases) > 2
    before = disk.files()
    disk.flip_bit(files.log_path(partition.directory, 0), HEADER_SIZE + 2)
    after = Partition(disk, config=SMALL)
    assert after.log.log_end_offset == 0
    assert values_of(after) == []
    kept = {cut.path: disk.files()[cut.kept_as] for cut in after.findings.cuts}
    for base in bases[1:]:
        path = files.log_path(partition.directory, base)
        assert kept[path] == before[path]
    after.append(b"fresh")
    after.sync_now()
    assert values_of(reopened(after)) == [b"fresh"]


def test_a_segment_that_was_set_aside_does_not_come_back_where_it_would_fit_again() -> None:
    for seed in range(12):
        partition = Partition(SimulatedDisk(), config=SMALL)
        while partition.log.segments_count < 2:
            partition.append(b"value %d" % partition.log.log_end_offset)
        stale_base = partition.log._segments[1].base_offset
        disk = simulated(partition).kill()
        disk.sync_filesystem(Path("/"))
        last = partition.log._segments[0].end_position - 1
        disk.flip_bit(partition.log._segments[0].path, last)
        after = Partition(disk, config=SMALL)
        assert after.log.log_end_offset == stale_base - 1
        after.append(b"another")
        work = after.sync.collect(everything=True)
        assert work is not None
        after.sync.perform(work)  # no late work, which would sync the directory too
        survivor = Partition(disk.crash(random.Random(seed)), config=SMALL)
        assert values_of(survivor)[stale_base - 1 :] == [b"another"]


def test_a_torn_tail_is_recovered_on_a_real_disk(tmp_path: Path) -> None:
    disk = LinuxDisk()
    partition = Partition(disk, root=tmp_path, config=WIDE)
    partition.sync_now()
    for number in range(200):
        partition.append(b"value %d" % number, b"x" * 3000)
    path = active_path(partition)
    size = partition.log.size_bytes
    with path.open("r+b") as file:
        file.truncate(size - 100)
    after = Partition(disk, root=tmp_path, config=WIDE)
    assert after.log.log_end_offset == 398
    [cut] = after.findings.cuts
    assert cut.kept_as.stat().st_size == cut.bytes_count
    after.append(b"goes on")
    after.sync_now()
    after.close()
    again = Partition(disk, root=tmp_path, config=WIDE)
    assert again.findings.scanned_bytes == 0
    assert len(again.read_all()) == 399
    again.close()
