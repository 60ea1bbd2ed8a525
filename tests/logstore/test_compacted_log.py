"""A log of which compaction has written segments anew: opened, read from any offset, crashed in between, and tidied."""

import random
from collections.abc import Iterator

import pytest

from logstore import files
from logstore.batch import Record, decode_batch, encode_batch, iter_headers
from logstore.compaction import CompactionPlan, CompactionResult, compact
from logstore.config import TopicConfig
from logstore.errors import DataLoss
from tests.logstore.disk import SimulatedDisk
from tests.logstore.partition import Partition

CONFIG = TopicConfig(segment_bytes=1024, index_interval_bytes=200)
KEYS = 4


def simulated(partition: Partition) -> SimulatedDisk:
    assert isinstance(partition.disk, SimulatedDisk)
    return partition.disk


def keyed_log(seed: int) -> Partition:
    """Eight sealed segments and an active one, of batches with a few records of a few keys each."""
    rng = random.Random(seed)
    partition = Partition(SimulatedDisk(), config=CONFIG)
    while partition.log.segments_count < 9:
        now_ms = partition.clock.wall_ms()
        records = [
            Record(0, now_ms, b"%d" % rng.randrange(KEYS), b"%d" % rng.randrange(1000) * 10)
            for _ in range(rng.randint(1, 4))
        ]
        partition.log.append(encode_batch(records), now_ms)
        partition.sync_now()
    return partition


def pass_over(partition: Partition) -> CompactionResult:
    """What the helper process does: files are written, and nothing of the log refers to them."""
    now_ms = partition.clock.wall_ms()
    plan = CompactionPlan(partition.directory, tuple(partition.log.seals), 0, now_ms, now_ms, 10**9, 1024, 200, 1000)
    return compact(plan, partition.disk, lambda size: None)


def commit(partition: Partition, result: CompactionResult, count: int | None = None) -> None:
    for seal in result.seals[:count]:
        partition.disk.replace_file(files.seal_path(partition.directory, seal.base_offset), seal.encode())


def read_from(partition: Partition, offset: int) -> Iterator[Record]:
    log = partition.log
    while offset < log.high_watermark:
        with log.open_read(offset, 300) as reader:
            read = reader.read()
        view = memoryview(read.batches)
        for position, header in iter_headers(view):
            for record in decode_batch(view[position : position + header.size]):
                if record.offset >= offset:
                    yield record
        assert read.next_offset > offset
        offset = read.next_offset


def what_stays(partition: Partition, end_offset: int) -> list[Record]:
    """The model: of what is below the end, the last of each key."""
    records = list(read_from(partition, 0))
    newest = {record.key: record.offset for record in records if record.offset < end_offset}
    return [record for record in records if record.offset >= end_offset or newest[record.key] == record.offset]


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_it_is_read_from_any_offset_as_if_what_is_gone_had_never_been(seed: int, closed: bool) -> None:
    before = keyed_log(seed)
    result = pass_over(before)
    expected = what_stays(before, result.dirty_offset)
    assert len(expected) < before.log.high_watermark / 2
    if closed:
        before.close()
    commit(before, result)
    after = Partition(simulated(before).kill(), config=CONFIG)
    assert not after.log.holes
    assert not after.findings.cuts
    assert after.log.log_end_offset == before.log.log_end_offset
    for offset in range(after.log.high_watermark):
        assert list(read_from(after, offset)) == [record for record in expected if record.offset >= offset]
    assert after.append(b"goes on").base_offset == before.log.log_end_offset


@pytest.mark.parametrize("seed", range(3))
def test_cut_short_anywhere_it_is_the_old_log_or_the_new_one_segment_by_segment(seed: int) -> None:
    fresh = keyed_log(seed)
    old = list(read_from(fresh, 0))
    result = pass_over(fresh)
    new = what_stays(fresh, result.dirty_offset)
    for count in range(len(result.seals) + 1):
        before = keyed_log(seed)
        commit(before, pass_over(before), count)
        end = result.seals[count - 1].next_offset if count else 0
        expected = [record for record in new if record.offset < end] + [r for r in old if r.offset >= end]
        after = Partition(simulated(before).kill(), config=CONFIG)
        assert not after.log.holes
        assert list(read_from(after, 0)) == expected


@pytest.mark.parametrize("count", [0, 1, None])
def test_what_is_not_of_the_log_any_more_is_removed_and_nothing_else(count: int | None) -> None:
    before = keyed_log(1)
    result = pass_over(before)
    commit(before, result, count)
    after = Partition(simulated(before).kill(), config=CONFIG)
    expected = list(read_from(after, 0))
    assert after.log.has_retired
    for _ in after.log.remove_retired(after.log.log_start_offset):
        pass
    bases = {name[:20] for name in after.disk.list_dir(after.directory) if files.parse_segment_file(name)}
    assert bases == {f"{segment.base_offset:020d}" for segment in after.log._segments}
    logs = {name for name in after.disk.list_dir(after.directory) if name.endswith(".log")}
    assert logs == {segment.path.name for segment in after.log._segments}
    for partition in (after, Partition(simulated(after).kill(), config=CONFIG)):
        assert list(read_from(partition, 0)) == expected
        assert not partition.log.holes
    assert not partition.log.has_retired


def test_a_segment_written_anew_that_is_missing_is_a_hole_though_the_old_one_is_there() -> None:
    before = keyed_log(2)
    result = pass_over(before)
    commit(before, result)
    seal = result.seals[0]
    disk = simulated(before).kill()
    disk.remove(files.log_path(before.directory, seal.base_offset, seal.generation))
    names = set(disk.list_dir(before.directory))
    after = Partition(disk, config=CONFIG)
    assert after.log.holes
    with pytest.raises(DataLoss):
        after.log.open_read(0, 100)
    assert names <= set(disk.list_dir(before.directory)), "nothing is removed from a damaged log"


def test_damage_in_a_segment_with_gaps_is_told_and_stepped_over() -> None:
    before = keyed_log(3)
    result = pass_over(before)
    commit(before, result)
    disk = simulated(before).kill()
    whole = list(read_from(Partition(disk.kill(), config=CONFIG), 0))
    seal = result.seals[-1]
    path = files.log_path(before.directory, seal.base_offset, seal.generation)
    position, header = next(iter(iter_headers(disk.files()[path])))
    disk.flip_bit(path, position + header.size - 1, 0)
    after = Partition(disk, config=CONFIG)
    with pytest.raises(DataLoss, match="cannot be read"):
        after.read(header.base_offset)
    behind = list(read_from(after, header.next_offset))
    assert behind == [record for record in whole if record.offset >= header.next_offset]


def test_of_a_segment_that_compaction_has_emptied_the_append_times_are_not_too_early_without_its_seal() -> None:
    partition = Partition(SimulatedDisk(), config=CONFIG)
    while partition.log.segments_count < 3:
        partition.log.append(encode_batch([Record(0, 0, b"key", bytes(300))]), partition.clock.wall_ms())
        partition.sync_now()
    now_ms = partition.clock.wall_ms()
    seals = tuple(partition.log.seals)
    plan = CompactionPlan(partition.directory, seals, 0, now_ms, now_ms, 10**9, 1, 200, 1000)
    result = compact(plan, partition.disk, lambda size: None)
    assert result.seals[0].end_position == 0
    partition.close()
    commit(partition, result)
    disk = simulated(partition).kill()
    disk.remove(files.seal_path(partition.directory, 0))
    disk.remove(files.log_path(partition.directory, 0))
    after = Partition(disk, config=CONFIG)
    assert not after.log.holes
    assert after.log.append_time_ms(0) >= now_ms
