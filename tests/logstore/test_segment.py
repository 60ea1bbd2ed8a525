"""Segments: how they grow on a full disk, when they roll, and who owns what is read from them."""

import gc
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from logstore import files
from logstore.batch import Buffer
from logstore.config import TopicConfig
from logstore.disk import ARRAY_DATA, DiskFile
from logstore.errors import DataLoss, OffsetOutOfRange, StorageFailed, StorageFull
from logstore.handles import Cache, Handles
from logstore.index import COLUMNS, ActiveIndex
from logstore.linux_disk import LinuxDisk
from logstore.segment import MET_MAX, POSITION_MAX, RESERVE_BYTES_MAX, RESERVE_BYTES_MIN, Segment
from logstore.walk import Walk
from tests.logstore.disk import SimulatedDisk
from tests.logstore.partition import Partition, batch_of

SMALL = TopicConfig(segment_bytes=400, index_interval_bytes=100)


def simulated(partition: Partition) -> SimulatedDisk:
    assert isinstance(partition.disk, SimulatedDisk)
    return partition.disk


def sealed(count: int = 2, config: TopicConfig = SMALL) -> Partition:
    partition = Partition(SimulatedDisk(), config=config)
    while partition.log.segments_count <= count:
        partition.append(b"value %d" % partition.log.log_end_offset)
    partition.sync_now()
    return partition


# Growing.


def test_space_is_reserved_ahead_in_steps_that_double() -> None:
    partition = Partition(SimulatedDisk(), config=TopicConfig(segment_bytes=64 << 20), dirty_bytes_max=1 << 30)
    batch = batch_of(bytes(30_000))
    reserved: list[int] = []
    for _ in range(1200):
        partition.log.append(batch, partition.clock.wall_ms())
        node = simulated(partition)._file(partition.log._segments[-1].path)
        if not reserved or node.reserved != reserved[-1]:
            reserved.append(node.reserved)
        assert len(node.cache) <= node.reserved
    steps = [after - before for before, after in pairwise([0, *reserved])]
    assert steps[0] == RESERVE_BYTES_MIN
    assert all(after == min(2 * before, RESERVE_BYTES_MAX) for before, after in pairwise(steps))
    assert RESERVE_BYTES_MAX in steps


def test_a_full_disk_is_met_at_the_reservation_and_nothing_is_written() -> None:
    partition = Partition(SimulatedDisk(), config=TopicConfig())
    disk = simulated(partition)
    disk.capacity_bytes = 200_000
    batch = batch_of(bytes(1000))
    written = 0
    while True:
        try:
            partition.log.append(batch, partition.clock.wall_ms())
        except StorageFull:
            break
        written += 1
    assert written > 150, "the last room is used, though a whole step does not fit"
    assert len(disk.files()[partition.log._segments[-1].path]) == written * len(batch)
    assert partition.failures == []
    partition.sync_now()
    assert partition.log.high_watermark == written

    disk.capacity_bytes = None
    assert partition.append(b"there is room again").base_offset == written
    partition.sync_now()
    assert len(partition.read_all()) == written + 1


def test_a_full_disk_at_a_roll_changes_nothing() -> None:
    partition = Partition(SimulatedDisk(), config=SMALL)
    disk = simulated(partition)
    while partition.log.size_bytes < 300:
        partition.append(b"x" * 30)
    end = partition.log.log_end_offset

    def full(operation: str, path: Path) -> None:
        if operation == "create":
            raise StorageFull("no room", remedy="")

    disk.before_step = full
    for _ in range(2):
        with pytest.raises(StorageFull):
            partition.append(b"x" * 200)
    disk.before_step = None
    assert (partition.log.log_end_offset, partition.log.segments_count) == (end, 1)
    partition.append(b"x" * 200)
    assert partition.log.segments_count == 2


def test_a_full_disk_does_not_stop_a_sync_and_late_work_waits_for_room() -> None:
    partition = sealed(0)
    disk = simulated(partition)
    partition.clock.now_ms += 5_000

    def full(operation: str, path: Path) -> None:
        if operation == "create" and path.suffix == ".new":
            raise StorageFull("no room", remedy="")

    disk.before_step = full
    while partition.log.segments_count < 3:
        partition.append(b"x" * 100)
    partition.sync_now()
    assert partition.log.high_watermark == partition.log.log_end_offset
    assert partition.failures == []
    assert partition.log._segments[0].seal is None
    disk.before_step = None
    partition.clock.now_ms += 5_000
    partition.sync.run_round()
    assert partition.log._segments[0].seal is not None


def test_a_failed_write_is_final() -> None:
    partition = sealed()

    def fail(operation: str, path: Path) -> None:
        if operation == "write":
            raise StorageFailed("EIO", remedy="")

    simulated(partition).before_step = fail
    end = partition.log.log_end_offset
    with pytest.raises(StorageFailed):
        partition.append(b"fails")
    simulated(partition).before_step = None
    with pytest.raises(StorageFailed, match="the storage has failed"):
        partition.append(b"is not tried")
    partition.sync_now()
    assert len(partition.failures) == 1
    assert partition.log.log_end_offset == end


# Rolling.


def test_a_segment_rolls_before_it_would_grow_past_its_size() -> None:
    partition = sealed(5)
    sizes = [segment.end_position for segment in partition.log._segments]
    assert max(sizes) <= SMALL.segment_bytes
    assert min(sizes[:-1]) > SMALL.segment_bytes - 100


def test_one_batch_larger_than_a_segment_has_one_to_itself() -> None:
    partition = sealed(1)
    partition.append(b"x" * 3000)
    partition.append(b"small")
    partition.sync_now()
    assert [segment.end_position > 3000 for segment in partition.log._segments[-2:]] == [True, False]
    assert partition.read_all()[-2].value == b"x" * 3000


def test_a_segment_rolls_by_the_age_of_its_first_append_also_after_a_restart() -> None:
    config = TopicConfig(segment_ms=1000)
    partition = Partition(SimulatedDisk(), config=config)
    partition.append(b"first")
    partition.clock.now_ms += 999
    partition.append(b"second")
    assert partition.log.segments_count == 1
    partition.close()
    again = Partition(simulated(partition).kill(), config=config, clock=partition.clock)
    again.clock.now_ms += 1
    again.append(b"third")
    assert again.log.segments_count == 2


def test_the_age_is_that_of_the_append_and_a_clock_that_goes_back_changes_nothing() -> None:
    partition = Partition(SimulatedDisk(), config=TopicConfig(segment_ms=1000))
    partition.append(b"old", timestamp_ms=0)
    partition.append(b"older still", timestamp_ms=0)
    assert partition.log.segments_count == 1
    before = partition.log.last_append_ms
    partition.clock.now_ms -= 500_000
    partition.append(b"the clock went back", timestamp_ms=0)
    assert partition.log.last_append_ms == before


def test_a_segment_rolls_when_its_offsets_or_positions_would_no_longer_fit() -> None:
    handles = Handles(SimulatedDisk(), open_max=1, maps_max=2)
    segment = Segment(Path("/"), 10, handles=handles, index_interval_bytes=0, end_position=100, first_append_ms=0)
    limits = {"bytes_max": 1 << 40, "age_ms_max": 1 << 40}
    assert not segment.must_roll(10, 10 + POSITION_MAX, 0, **limits)
    assert segment.must_roll(10, 11 + POSITION_MAX, 0, **limits)
    assert not segment.must_roll(POSITION_MAX - 100, 11, 0, **limits)
    assert segment.must_roll(POSITION_MAX - 99, 11, 0, **limits)


# Reading.


def delete_up_to(partition: Partition, segment: Segment) -> None:
    """Start the log behind the segment, and have its files removed."""
    partition.log.advance_log_start(segment.next_offset)
    partition.retention.remove([partition.log])
    partition.sync.run_round()


def test_a_reader_reads_on_when_its_segment_is_removed() -> None:
    partition = sealed()
    first = partition.log._segments[0]
    reader = partition.log.open_read(0, 10_000)
    before = reader.read()
    late = partition.log.open_read(0, 10_000)
    delete_up_to(partition, first)
    assert not partition.disk.exists(first.path)
    assert reader.read() == before
    assert reader.read_nowait() == before
    with pytest.raises(OffsetOutOfRange, match="deleted by retention"):
        late.read()  # it had not begun to read, so it held nothing
    with pytest.raises(OffsetOutOfRange, match="is not in"):
        partition.log.open_read(0, 10_000)
    assert first.path in [file.path for file in simulated(partition).open_files]
    reader.close()
    assert first.path not in [file.path for file in simulated(partition).open_files]
    reader.close()


def test_an_offset_outside_the_log_is_refused_with_the_range() -> None:
    partition = sealed()
    end = partition.log.log_end_offset
    for offset in (-1, end + 1):
        with pytest.raises(OffsetOutOfRange, match=rf"offset {offset} is not in .* goes from 0 to {end}"):
            partition.log.open_read(offset, 100)
    assert partition.read(end) == ([], end)


def test_a_read_between_high_watermark_and_end_waits_for_more() -> None:
    partition = sealed()
    visible = partition.log.high_watermark
    partition.append(b"not synced")
    assert partition.read(visible) == ([], visible)
    assert partition.read(visible + 1) == ([], visible + 1)


def test_rot_is_data_loss_for_who_meets_it_and_for_nobody_else() -> None:
    partition = sealed(3)
    first = partition.log._segments[0]
    size = first.end_position // (first.next_offset - first.base_offset)
    for position in range(size, 2 * size):
        simulated(partition).flip_bit(first.path, position, position % 8)
        records, following = partition.read(0)
        if following != 1:  # the leader epoch is covered by nothing, and nothing follows from it
            assert 12 <= position - size < 16
            assert [record.value for record in records[:2]] == [b"value 0", b"value 1"]
        else:
            with pytest.raises(DataLoss, match=r"records \[1, 2\) cannot be read"):
                partition.read(1)
            assert [record.value for record in partition.read(2)[0]][:1] == [b"value 2"]
        assert partition.read(first.next_offset)[0]
        simulated(partition).flip_bit(first.path, position, position % 8)


def test_a_block_that_cannot_be_read_takes_only_its_own_records() -> None:
    partition = Partition(SimulatedDisk())
    for number in range(3):
        partition.append(b"%d" % number + bytes(8000))
    partition.sync_now()
    simulated(partition).make_unreadable(partition.log._segments[0].path, 12_000)  # in the second batch
    assert [record.offset for record in partition.read(0)[0]] == [0]
    with pytest.raises(DataLoss, match="cannot be read"):
        partition.read(1)


@pytest.mark.parametrize("column", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["sealed", "active"])
def test_an_index_that_lies_costs_time_and_nothing_else(column: int, kind: str) -> None:
    partition = sealed(2)
    partition.append(b"into the active one")
    expected = [record.value for record in partition.read_all()]
    partition.close()
    disk = simulated(partition).kill()
    for name in disk.list_dir(partition.directory):
        if name.endswith(files.INDEX_SUFFIX) and (name.count(".") == 2) == (kind == "sealed"):
            path = partition.directory / name / ARRAY_DATA
            for row in range(len(disk.files()[path]) // 32):
                disk.flip_bit(path, row * 32 + column * 8, 3)
    after = Partition(disk, config=SMALL)
    for offset in reversed(range(len(expected))):  # who reads on from where a read ended needs no index
        assert after.read(offset, 1)[0][0].value == expected[offset]
    found = after.log.offset_for_timestamp(0)
    assert found is not None
    assert found.offset == 0


def test_a_row_is_checked_against_the_header_it_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that leads to a later batch would hide the ones before it."""
    monkeypatch.setattr("logstore.snapshot_writer.TAIL_ROWS_MAX", 0)
    partition = Partition(SimulatedDisk(), config=TopicConfig(index_interval_bytes=0))
    for number in range(20):
        partition.append(b"value %02d" % number)
    partition.close()
    after = Partition(simulated(partition).kill(), config=partition.config)
    segment = after.log._segments[0]
    table = segment.index.all_rows()
    assert table is not None
    for row in range(1, 20):  # every position is that of the next batch: all columns still grow
        table.cells[row * COLUMNS + 1] = min(row + 1, 19) * table[1].position
    segment.index = ActiveIndex(after.disk, files.active_index_path(partition.directory, 0), in_memory=table.cells)
    for offset in reversed(range(20)):
        assert after.read(offset, 1)[0][0].value == b"value %02d" % offset


@pytest.mark.parametrize("named", [0, 1, 2])
@pytest.mark.parametrize("byte", [4, 7])
def test_a_wrong_offset_in_the_only_batch_that_the_index_names_does_not_make_the_file_another_log_s(
    named: int, byte: int
) -> None:
    """No CRC covers the offset, so it is the likelier one to be wrong."""
    partition = Partition(SimulatedDisk(), config=TopicConfig(segment_bytes=300, index_interval_bytes=0))
    for number in range(3):
        partition.append(b"value %d" % number, b"second")
    segment = partition.log._segments[0]
    [row] = [segment.index.in_memory()[named]]
    segment.index = ActiveIndex(partition.disk, files.active_index_path(partition.directory, 0))
    segment.index.append(*row)
    while partition.log.segments_count == 1:
        partition.append(b"rolls" + bytes(100))
    partition.sync_now()
    partition.close()
    disk = simulated(partition).kill()
    disk.flip_bit(segment.path, row.position + byte, 3)
    after = Partition(disk, config=partition.config)
    assert after.log.seals[0].index_rows_count == 1
    for number in {0, 1, 2} - {named}:
        assert after.read(2 * number, 1)[0][0].value == b"value %d" % number
    with pytest.raises(DataLoss):
        after.read(2 * named, 1)


@pytest.mark.parametrize("per_batch", [1, 3])
def test_the_sealed_file_of_another_log_is_told_where_its_batches_are_not_as_the_index_says(per_batch: int) -> None:
    def sealed_log(*values: bytes) -> Partition:
        partition = Partition(SimulatedDisk(), config=TopicConfig(segment_bytes=300, index_interval_bytes=0))
        while partition.log.segments_count == 1:
            partition.append(*values)
        partition.sync_now()
        partition.close()
        return partition

    mine, other = sealed_log(b"mine", b"mine"), sealed_log(*[b"other"] * per_batch)
    disk, path = simulated(mine).kill(), mine.log._segments[0].path
    disk.overwrite(
        path, simulated(other).files()[other.log._segments[0].path].ljust(mine.log._segments[0].end_position)
    )
    after = Partition(disk, config=mine.config)
    with pytest.raises(DataLoss, match="it is the file of another log"):
        after.read(0, 1)


def test_a_cold_read_says_so_and_a_waiting_one_reads() -> None:
    partition = sealed(3)
    partition.handles.close_idle()
    with partition.log.open_read(2, 100) as reader:
        assert reader.read_nowait() is None
        assert reader.read().next_offset == 3
        assert reader.read_nowait() is not None


@pytest.mark.parametrize("damaged", [0, 3, 6])
@pytest.mark.parametrize("how", ["flipped", "unreadable"])
@pytest.mark.parametrize("has_rows", [True, False])
def test_damage_in_a_segment_that_is_sealed_is_met_by_who_reads_it_and_by_nobody_else(
    damaged: int, how: str, has_rows: bool
) -> None:
    """It was there before the start, which had no reason to read it. The process must not end for it."""
    partition = Partition(SimulatedDisk(), config=TopicConfig(segment_bytes=70_000, index_interval_bytes=0))
    expected = [b"%d" % number + bytes(9000) for number in range(7)]
    for value in expected:
        partition.append(value)
    batch_bytes = partition.log.size_bytes // 7
    partition.close()
    disk = simulated(partition).kill()
    path = partition.log._segments[0].path
    if how == "flipped":
        disk.flip_bit(path, damaged * batch_bytes + 8)
    else:
        disk.make_unreadable(path, damaged * batch_bytes + 4096)
    after = Partition(disk, config=partition.config)
    if not has_rows:
        after.log._segments[0].index = ActiveIndex(disk, files.active_index_path(partition.directory, 0))
    while after.log.segments_count == 1:
        after.append(b"rolls" + bytes(9000))
    after.sync_now()

    assert after.failures == []
    assert after.log._segments[0].seal is not None
    for log in (after, Partition(simulated(after).kill(), config=partition.config)):
        assert not log.findings.holes
        for offset, value in enumerate(expected):
            if offset == damaged:
                with pytest.raises(DataLoss):
                    log.read(offset, 1)
            else:
                assert log.read(offset, 1)[0][0].value == value


def count_walks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The positions from which damage is looked behind."""
    begun: list[int] = []

    class CountedWalk(Walk):
        def __init__(self, file: DiskFile, *, start: int = 0, **known: Any) -> None:
            begun.append(start)
            super().__init__(file, start=start, **known)

    monkeypatch.setattr("logstore.segment.Walk", CountedWalk)
    return begun


@pytest.mark.parametrize("byte", [8, 66], ids=["header", "records"])
@pytest.mark.parametrize("is_sealed", [True, False])
def test_only_the_first_who_comes_upon_damage_looks_behind_it(
    byte: int, is_sealed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    partition = Partition(SimulatedDisk(), config=TopicConfig(segment_bytes=1000 if is_sealed else 10_000))
    for number in range(20):
        partition.append(b"%02d" % number)
        partition.sync_now()
    segment = partition.log._segments[0]
    assert (segment.seal is not None) is is_sealed
    batch_bytes = len(batch_of(b"00"))
    simulated(partition).flip_bit(segment.path, 3 * batch_bytes + byte)
    begun = count_walks(monkeypatch)

    for _ in range(4):
        with pytest.raises(DataLoss) as met:
            partition.read(3)
        assert (met.value.offset, met.value.next_offset) == (3, 4)
    assert partition.log.offset_for_timestamp(0) is not None
    assert len(begun) == 1

    partition.append(b"more")
    partition.sync_now()
    with pytest.raises(DataLoss):
        partition.read(3)
    assert len(begun) == 1
    simulated(partition).flip_bit(segment.path, 5 * batch_bytes + byte)
    with pytest.raises(DataLoss) as other:
        partition.read(5)
    assert (other.value.offset, other.value.next_offset) == (5, 6)
    simulated(partition).flip_bit(segment.path, 3 * batch_bytes + byte)
    assert partition.read(3)[0][0].value == b"03", "what is sound again is read, whatever was met before"


def test_how_far_damage_goes_to_the_end_of_a_log_is_looked_at_again_once_more_was_appended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partition = Partition(SimulatedDisk(), config=TopicConfig())
    for number in range(3):
        partition.append(b"%d" % number)
        partition.sync_now()
    simulated(partition).flip_bit(partition.log._segments[0].path, 2 * len(batch_of(b"0")) + 66)
    begun = count_walks(monkeypatch)
    for _ in range(2):
        with pytest.raises(DataLoss) as met:
            partition.read(2)
        assert (met.value.offset, met.value.next_offset) == (2, None)
    assert len(begun) == 1
    partition.append(b"3")
    partition.sync_now()
    for _ in range(2):
        with pytest.raises(DataLoss) as met:
            partition.read(2)
        assert (met.value.offset, met.value.next_offset) == (2, 3)
    assert len(begun) == 2


def test_many_damages_of_one_segment_are_remembered_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    partition = Partition(SimulatedDisk(), config=TopicConfig())
    count = MET_MAX + 2
    for number in range(2 * count):
        partition.append(b"%03d" % number)
    partition.sync_now()
    segment = partition.log._segments[0]
    for number in range(count):
        simulated(partition).flip_bit(segment.path, 2 * number * len(batch_of(b"000")) + 66)
    begun = count_walks(monkeypatch)
    for number in (*range(count), count - 1, 0):
        with pytest.raises(DataLoss):
            partition.read(2 * number)
    assert len(begun) == count + 1
    assert len(segment._met) == MET_MAX


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("bit", range(3))
def test_a_first_batch_whose_offset_is_another_is_not_read_as_that(closed: bool, bit: int) -> None:
    """The CRC does not cover where a batch says that it stands. A segment begins where its name says."""
    partition = Partition(SimulatedDisk(), config=TopicConfig())
    for number in range(10):
        partition.append(b"%d" % number)
        partition.sync_now()
    if closed:
        partition.close()
    disk = simulated(partition).kill()
    disk.flip_bit(partition.log._segments[0].path, 7, bit)
    after = Partition(disk, config=partition.config)
    for offset in reversed(range(after.log.high_watermark)):
        with suppress(DataLoss):
            assert [record.value for record in after.read(offset, 1)[0]] == [b"%d" % offset]
    with suppress(DataLoss):
        assert after.append(b"10").base_offset == 10


def test_append_times_are_known_of_rows_in_memory_in_the_array_and_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "logstore.snapshot_writer.SNAPSHOT_INTERVAL_BYTES", 500
    )  # so often are the rows of an active segment stored
    partition = Partition(SimulatedDisk(), config=TopicConfig(segment_bytes=2000, index_interval_bytes=0))
    times = []
    while partition.log.segments_count < 3:
        partition.clock.now_ms += 1000
        times.append(partition.clock.wall_ms())
        partition.append(b"x" * 100)
        partition.sync_now()
    active = partition.log._segments[-1]
    while not 2 <= active.index.in_memory().count < active.index.count:
        assert not active.is_rolled
        partition.clock.now_ms += 1000
        times.append(partition.clock.wall_ms())
        partition.append(b"x" * 100)
        partition.sync_now()
    log = partition.log
    assert len(times) == log.log_end_offset

    assert [log.append_time_ms(offset) for offset in range(len(times))] == times
    assert log.append_time_ms(len(times)) == times[-1]


def test_only_the_files_of_a_segment_go_with_it() -> None:
    partition = sealed()
    first = partition.log._segments[0]
    seal = files.seal_path(partition.directory, first.base_offset)
    names = partition.disk.list_dir(partition.directory)
    own = {name for name in names if name.startswith(first.path.stem)}
    assert len(own) == 3
    others = [f"{first.path.name}.bak", f"{seal.name}.bak", f"{first.path.name}.discarded-1", f"{first.path.stem}.x"]
    for name in others:
        simulated(partition).overwrite(partition.directory / name, b"not ours to remove")
    delete_up_to(partition, first)
    assert set(partition.disk.list_dir(partition.directory)) >= {*others, *names} - own
    assert own.isdisjoint(partition.disk.list_dir(partition.directory))


# Slices without a copy.


def verified_slice(partition: Partition) -> tuple[Segment, memoryview, Buffer]:
    segment = partition.log._segments[0]
    with partition.log.open_read(0, 10_000) as reader:
        data = reader.read().batches
    piece = segment.slice(0, len(data))
    assert piece is not None
    return segment, piece, data


def test_a_slice_leaves_only_verified_sealed_and_resident() -> None:
    partition = sealed()
    segment = partition.log._segments[0]
    assert segment.slice(0, 100) is None, "nobody has read it, so nobody knows that its CRCs are right"
    _, piece, data = verified_slice(partition)
    assert piece == data
    assert piece.readonly
    part = segment.slice(10, 20)
    assert part is not None
    assert bytes(part) == data[10:30]
    assert segment.slice(0, len(data) + 1) is None
    simulated(partition).maps_resident = False
    assert segment.slice(0, 10) is None

    active = partition.log._segments[-1]
    partition.read(active.base_offset)
    assert active.slice(0, 10) is None


def test_a_slice_outlives_the_removal_of_its_segment_and_the_eviction_of_its_map(tmp_path: Path) -> None:
    partition = Partition(LinuxDisk(), root=tmp_path, config=SMALL)
    while partition.log.segments_count <= 2:
        partition.append(b"value %d" % partition.log.log_end_offset)
    partition.sync_now()
    segment, piece, data = verified_slice(partition)
    delete_up_to(partition, segment)
    assert len(partition.handles.maps) == 0
    assert not segment.path.exists()
    del segment
    gc.collect()
    assert bytes(piece) == data
    partition.close()


def test_a_removed_segment_gives_no_new_slice() -> None:
    partition = sealed()
    segment, _, _ = verified_slice(partition)
    delete_up_to(partition, segment)
    assert segment.slice(0, 10) is None


# Handles.


def test_the_last_release_closes_and_the_cache_keeps_at_most_what_it_may() -> None:
    disk = SimulatedDisk()
    paths = [Path(f"/{number}") for number in range(5)]
    handles = Handles(disk, open_max=2, maps_max=2)
    used = [handles.create(path) for path in paths]
    assert handles.open_count == 5, "in use, so nothing may be closed"
    again = handles.acquire(paths[0])
    assert again is used[0]
    for handle in used:
        handle.release()
    assert handles.open_count == 2
    assert again.file.size() == 0
    handles.forget(paths[0])
    assert again.file.size() == 0, "forgotten, and still in use"
    assert handles.acquire_open(paths[0]) is None
    again.release()
    with pytest.raises(AssertionError, match="closed"):
        again.file.size()
    handles.close_idle()
    assert disk.open_files == []


def test_a_segment_with_unsynced_bytes_keeps_its_file_open() -> None:
    partition = Partition(SimulatedDisk(), config=SMALL, open_max=1)
    partition.append(b"unsynced")
    path = partition.log._segments[-1].path
    for number in range(3):
        partition.handles.create(partition.directory / f"other-{number}").release()
    assert path in [file.path for file in simulated(partition).open_files]
    partition.sync_now()
    partition.handles.create(partition.directory / "other-4").release()
    assert path not in [file.path for file in simulated(partition).open_files]
    partition.append(b"opens it again")


def test_a_cache_forgets_the_least_recently_used() -> None:
    cache: Cache[str, int] = Cache(2)
    assert cache.get("a", lambda: 1) == 1
    cache.put("b", 2)
    assert cache.get("a", lambda: 9) == 1
    cache.put("c", 3)
    assert (cache.peek("a"), cache.peek("b"), cache.peek("c")) == (1, None, 3)
    cache.forget("a")
    assert len(cache) == 1
