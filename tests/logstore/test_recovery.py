"""Recovery: every way a tail can be torn, and everything that looks like a torn tail and is not."""

import random
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from logstore import files
from logstore.batch import HEADER_SIZE, read_header
from logstore.config import TopicConfig
from logstore.disk import ARRAY_DATA, PAGE_BYTES
from logstore.epochs import LeaderEpochs
from logstore.errors import DataLoss, StorageFailed
from logstore.header import stamp
from logstore.linux_disk import LinuxDisk
from logstore.losses import Loss, write_loss
from logstore.producers import ProducerStates
from logstore.reader import Places
from logstore.seal import read_seal
from logstore.snapshot import Snapshot, encode_snapshot
from tests.logstore.disk import PowerCut, SimulatedDisk
from tests.logstore.partition import NOW_MS, TOPIC_ID, Partition, batch_of

SMALL = TopicConfig(segment_bytes=400, index_interval_bytes=150)
WIDE = TopicConfig(index_interval_bytes=150)


def with_batches(count: int, config: TopicConfig = WIDE) -> Partition:
    """A partition with that many synced batches of two records."""
    partition = Partition(SimulatedDisk(), config=config)
    for number in range(count):
        partition.append(b"first of %d" % number, b"second of %d" % number)
        partition.sync_now()
    return partition


def simulated(partition: Partition) -> SimulatedDisk:
    assert isinstance(partition.disk, SimulatedDisk)
    return partition.disk


def active_path(partition: Partition) -> Path:
    return partition.log._segments[-1].path


def reopened(partition: Partition, config: TopicConfig | None = None) -> Partition:
    """After the process was killed."""
    return Partition(simulated(partition).kill(), config=config or partition.config, clock=partition.clock)


def values_of(partition: Partition) -> list[bytes | None]:
    return [record.value for record in partition.read_all()]


def read_around_holes(partition: Partition) -> dict[int, bytes | None]:
    """What every offset holds that is in no hole. DataLoss is what each of the others must be, and nothing else may."""
    log = partition.log
    lost: set[int] = set()
    for hole in log.holes:
        lost.update(range(hole.offset, log.log_end_offset if hole.next_offset is None else hole.next_offset))
    values: dict[int, bytes | None] = {}
    for offset in range(log.log_start_offset, log.high_watermark):
        if offset in lost:
            with pytest.raises(DataLoss, match=r"records .* cannot be read"):
                partition.read(offset)
        else:
            values |= {record.offset: record.value for record in partition.read(offset)[0]}
    return values


def torn_tail() -> tuple[Partition, bytes, int]:
    """Three batches below the recovery point and two above it; the file, and where the first of the two begins."""
    partition = with_batches(3)
    partition.clock.now_ms += 5_000
    partition.sync.run_round()  # the checkpoint
    partition.run_posted()
    start = partition.log.size_bytes
    partition.append(b"at risk")
    partition.append(b"at risk too")
    return partition, simulated(partition).files()[active_path(partition)], start


# A torn tail.


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


# What is not a torn tail.


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


def sealed_chain(segments: int = 4) -> Partition:
    partition = Partition(SimulatedDisk(), config=SMALL)
    while partition.log.segments_count <= segments:
        partition.append(b"value %d" % partition.log.log_end_offset)
        partition.sync_now()
    return partition


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


@pytest.mark.parametrize("how", ["missing", "damaged", "cut", "empty"])
def test_a_lost_seal_is_made_again_from_its_segment(how: str) -> None:
    partition = sealed_chain()
    segment = partition.log._segments[1]
    path = files.seal_path(partition.directory, segment.base_offset)
    disk = simulated(partition).kill()
    match how:
        case "missing":
            disk.remove(path)
        case "damaged":
            disk.flip_bit(path, 20)
        case "cut":
            disk.overwrite(path, disk.files()[path][:-3])
        case "empty":
            disk.overwrite(path, b"")
    after = Partition(disk, config=SMALL)
    assert not after.findings.holes
    assert values_of(after) == values_of(partition)
    again = after.log._segments[1].seal
    assert again is not None
    assert segment.seal is not None
    assert (again.next_offset, again.end_position) == (segment.seal.next_offset, segment.seal.end_position)


def test_a_lost_seal_does_not_make_damage_a_torn_tail() -> None:
    partition = sealed_chain()
    segment = partition.log._segments[1]
    disk = simulated(partition).kill()
    disk.remove(files.seal_path(partition.directory, segment.base_offset))
    disk.flip_bit(segment.path, HEADER_SIZE + 2)
    after = Partition(disk, config=SMALL)
    assert after.findings.holes
    assert (after.findings.holes[0].offset, after.findings.cuts) == (segment.base_offset, [])


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


# Damage among small batches: many of them are in what is read at a time.


def small_batches(count: int = 400, *, checkpointed: bool = True) -> Partition:
    """One batch a record, v000 and so on, in segments of some 200 batches."""
    partition = Partition(SimulatedDisk(), config=TopicConfig(segment_bytes=20_000, index_interval_bytes=1000))
    for number in range(count):
        partition.append(b"v%03d" % number)
        if number % 20 == 0:
            partition.sync_now()
    partition.sync_now()
    if checkpointed:
        partition.clock.now_ms += 5_000
        partition.sync.run_round()
        partition.run_posted()
    return partition


def refused(partition: Partition) -> list[int]:
    """Offsets whose records are not to be had. All others are what they were."""
    offsets = []
    for offset in range(partition.log.log_start_offset, partition.log.high_watermark):
        partition.log._places = Places()
        try:
            records, _ = partition.read(offset, 100)
        except DataLoss:
            offsets.append(offset)
        else:
            assert records[0] == records[0]._replace(offset=offset, value=b"v%03d" % offset)
    return offsets


def batch_size(partition: Partition) -> int:
    first = partition.log._segments[0]
    return first.end_position // (first.next_offset - first.base_offset)


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


def test_foreign_bytes_before_the_first_batch_cost_no_record() -> None:
    partition = small_batches(100)
    disk = simulated(partition).kill()
    path = active_path(partition)
    disk.overwrite(path, b"\x07" * 100 + disk.files()[path])
    after = Partition(disk, config=partition.config)
    assert after.log.holes, "but somebody has to look into it"
    assert after.log.log_end_offset == 100
    assert refused(after) == []


# Starts.


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


# What is derived from the log.


@pytest.mark.parametrize("snapshot", ["kept", "missing", "damaged"])
@pytest.mark.parametrize("clean", [True, False])
def test_a_batch_sent_again_after_a_restart_is_known(snapshot: str, clean: bool) -> None:
    partition = Partition(SimulatedDisk(), config=SMALL)
    sent = [batch_of(b"value %d" % number, producer_id=5, sequence=number) for number in range(7)]
    originals = [partition.log.append(batch, partition.clock.wall_ms()) for batch in sent]
    partition.sync_now()
    if clean:
        partition.close()
    path = partition.directory / files.SNAPSHOT
    disk = simulated(partition).kill()
    if snapshot == "missing":
        disk.remove(path)
    elif snapshot == "damaged" and disk.exists(path):
        disk.flip_bit(path, 12)
    after = Partition(disk, config=SMALL)
    again = after.log.append(sent[-1], after.clock.wall_ms())
    assert again == originals[-1]._replace(duplicate=True)
    assert after.append(b"next", producer_id=5, sequence=7).base_offset == 7


def test_a_batch_that_recovery_cut_is_not_taken_for_written() -> None:
    partition = Partition(SimulatedDisk(), config=WIDE)
    partition.append(b"kept", producer_id=5, sequence=0)
    partition.sync_now()
    kept = partition.log.size_bytes
    sent = batch_of(b"cut", producer_id=5, sequence=1)
    partition.log.append(sent, partition.clock.wall_ms())
    disk = simulated(partition).kill()
    disk.flip_bit(active_path(partition), kept + HEADER_SIZE)
    after = Partition(disk, config=WIDE)
    assert after.log.append(sent, after.clock.wall_ms()) == (1, 1, False)


@pytest.mark.parametrize("position", [7, 44, 56, HEADER_SIZE])  # offset, producer, sequence, records
def test_producers_are_not_made_of_a_batch_that_is_damaged(position: int) -> None:
    """What the snapshot does not cover is read again, and may have rotted meanwhile."""
    partition = Partition(SimulatedDisk(), config=SMALL)
    for sequence in range(12):
        partition.append(b"value %d" % sequence, producer_id=5, sequence=sequence)
        partition.sync_now()
    assert partition.log.segments_count > 2
    disk = simulated(partition).kill()
    disk.flip_bit(partition.log._segments[1].path, position, 1)
    after = Partition(disk, config=SMALL)
    assert after.findings.holes
    assert after.findings.holes[0].offset == partition.log._segments[1].base_offset
    with pytest.raises(DataLoss):
        after.append(b"value 12", producer_id=5, sequence=12)


def test_leader_epochs_are_kept_and_end_where_the_next_began() -> None:
    partition = with_batches(2)
    first = partition.log.leader_epoch
    after = reopened(partition)
    assert after.log.leader_epoch > first
    assert after.log.epoch_end_offset(first) == (first, 4)
    after.append(b"of the second epoch")
    after.sync_now()
    second = after.log.leader_epoch
    disk = simulated(after).kill()
    disk.remove(after.directory / files.SNAPSHOT)  # it is derived
    again = Partition(disk, config=WIDE)
    assert again.log.epoch_end_offset(first) == (first, 4)
    assert again.log.epoch_end_offset(second) == (second, 5)
    assert again.log.epoch_end_offset(second + 100) == (second, 5)
    assert again.log.epoch_end_offset(first - 1) == (-1, -1)


@pytest.mark.parametrize("stored", ["kept", "missing", "damaged"])
def test_leader_epochs_survive_a_clean_stop_with_their_file_or_without(stored: str) -> None:
    partition = with_batches(2)
    first = partition.log.leader_epoch
    partition.close()
    second = Partition(simulated(partition).kill(), config=WIDE)
    second.append(b"of the second")
    second.close()
    disk = simulated(second).kill()
    if stored == "missing":
        disk.remove(second.directory / files.SNAPSHOT)
    elif stored == "damaged":
        disk.flip_bit(second.directory / files.SNAPSHOT, 30)
    again = Partition(disk, config=WIDE)
    assert again.log.epoch_end_offset(first) == (first, 4)
    assert again.log.epoch_end_offset(second.log.leader_epoch) == (second.log.leader_epoch, 5)


@pytest.mark.parametrize("clean", [True, False])
def test_a_log_that_ends_before_its_snapshot_has_lost_something(clean: bool) -> None:
    """It was written when all that it covers was synced, so this is no torn tail, though no checkpoint says so yet."""
    partition = with_batches(2)
    disk = simulated(partition).kill()
    partition.append(b"never here", producer_id=5, sequence=0)
    disk.replace_file(partition.directory / files.SNAPSHOT, snapshot_of(partition))
    disk.overwrite(active_path(partition), disk.files()[active_path(partition)][:-1])
    if clean:
        partition.checkpoint.write(clean=True)
    before = disk.files()[active_path(partition)]
    for _ in range(2):
        after = Partition(disk.kill(), config=WIDE)
        assert after.findings.holes
        assert (after.findings.holes[0].offset, after.findings.cuts) == (4, [])
        assert len(read_around_holes(after)) == 4
        assert disk.files()[active_path(partition)] == before, "nothing is cut"
        with pytest.raises(DataLoss, match="from offset 4 to 4"):
            after.append(b"refused")


def test_a_snapshot_of_another_partition_is_not_believed() -> None:
    partition = with_batches(2)
    sent = batch_of(b"once", producer_id=5, sequence=0)
    first = partition.log.append(sent, partition.clock.wall_ms())
    partition.sync_now()
    foreign = encode_snapshot(Snapshot(LeaderEpochs(), ProducerStates(producers_max=9, next_offset=5)), TOPIC_ID, 1)
    disk = simulated(partition).kill()
    disk.replace_file(partition.directory / files.SNAPSHOT, foreign)
    after = Partition(disk, config=WIDE)
    assert not after.findings.holes
    assert any("it belongs to partition 1 of the topic" in note for note in after.findings.notes)
    assert after.log.append(sent, after.clock.wall_ms()) == first._replace(duplicate=True)


def snapshot_of(partition: Partition) -> bytes:
    return encode_snapshot(Snapshot(partition.log._epochs, partition.log._producers), TOPIC_ID, 0)


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
