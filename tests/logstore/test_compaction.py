"""Compaction keeps the last record of every key at its offset, and tombstones until their time, on any history."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logstore import files
from logstore.batch import Compression, Record, decode_batch, encode_batch, read_header
from logstore.compaction import ROOM_LEFT_BYTES, CompactionPlan, CompactionResult, compact
from logstore.errors import CorruptBatch, StorageFull
from logstore.scan import check_batches
from logstore.seal import Seal
from tests.logstore.disk import SimulatedDisk

DIRECTORY = Path("/partition")
DELETE_RETENTION_MS = 1000
KEYS = (None, b"a", b"b", b"c", b"a key with more than sixteen bytes", b"a key with more than sixteen bytez")


class CompactedLog:
    """Sealed segments as a log would have them, with a model: (offset, key, value, until when a tombstone stays)."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.disk = SimulatedDisk()
        self.disk.make_dir(DIRECTORY)
        self.seals: list[Seal] = []
        self.model: list[Record] = []
        self.horizons: dict[int, int] = {}  # offset of a tombstone: until when it stays
        self.dirty_offset = 0
        self.now_ms = 10_000
        self.keys_max = 1000

    @property
    def end_offset(self) -> int:
        return self.seals[-1].next_offset if self.seals else 0

    def append_segment(self, batches: list[list[tuple[bytes | None, bytes | None]]]) -> None:
        base = offset = self.end_offset
        data = b""
        for pairs in batches:
            compression = self.rng.choice(list(Compression))
            records = [Record(0, self.now_ms + n % 3, key, value) for n, (key, value) in enumerate(pairs)]
            data += encode_batch(
                records, base_offset=offset, compression=compression, producer_id=7, producer_epoch=1, base_sequence=5
            )
            self.model += [record._replace(offset=offset + n) for n, record in enumerate(records)]
            offset += len(pairs)
        file = self.disk.create(files.log_path(DIRECTORY, base))
        file.pwritev([data], 0)
        file.close()
        self.seals.append(Seal(base, offset, len(data), self.now_ms + 2, self.now_ms, self.now_ms, 0, 0))

    def plan(self, segment_bytes: int = 600) -> CompactionPlan:
        return CompactionPlan(
            DIRECTORY,
            tuple(self.seals),
            self.dirty_offset,
            self.now_ms,
            self.now_ms,
            DELETE_RETENTION_MS,
            segment_bytes,
            100,
            self.keys_max,
        )

    def compact(self) -> CompactionResult:
        result = compact(self.plan(), self.disk, lambda size: None)
        for seal in result.seals:
            self.seals = [each for each in self.seals if not seal.base_offset <= each.base_offset < seal.next_offset]
            self.seals.append(seal)
        self.seals.sort(key=lambda seal: seal.base_offset)
        self._compact_model(result.dirty_offset)
        self.dirty_offset = result.dirty_offset
        return result

    def _compact_model(self, end_offset: int) -> None:
        newest = {record.key: record.offset for record in self.model if record.offset < end_offset}
        kept = []
        for record in self.model:
            if record.offset < end_offset and record.key is not None:
                if newest[record.key] > record.offset:
                    continue
                if record.value is None:
                    if self.horizons.get(record.offset, self.now_ms + 1) <= self.now_ms:
                        continue
                    self.horizons.setdefault(record.offset, self.now_ms + DELETE_RETENTION_MS)
            kept.append(record)
        self.model = kept

    def read(self) -> list[Record]:
        found: list[Record] = []
        for seal in self.seals:
            file = self.disk.open(files.log_path(DIRECTORY, seal.base_offset, seal.generation))
            for position, header in check_batches(
                file.pread, 0, seal.end_position, seal.base_offset, gaps_allowed=seal.gaps_allowed
            ):
                batch = file.pread(header.size, position)
                assert read_header(batch).base_sequence == 5
                assert header.next_offset <= seal.next_offset
                assert header.max_timestamp_ms <= seal.max_timestamp_ms
                found += decode_batch(batch)
            file.close()
        return found


batches = st.lists(
    st.lists(st.tuples(st.sampled_from(KEYS), st.sampled_from([None, b"x", b"y" * 40])), min_size=1, max_size=4),
    min_size=1,
    max_size=4,
)


@given(
    st.lists(st.tuples(batches, st.booleans(), st.integers(0, 1500)), min_size=1, max_size=8),
    st.randoms(use_true_random=False),
    st.sampled_from([1, 3, 1000]),
)
@settings(max_examples=70)
def test_what_stays_is_what_the_model_says_after_any_appends_and_passes(
    steps: list[tuple[list[list[tuple[bytes | None, bytes | None]]], bool, int]], rng: random.Random, keys_max: int
) -> None:
    log = CompactedLog(rng)
    log.keys_max = keys_max
    for segment, compacts, pause_ms in steps:
        log.append_segment(segment)
        log.now_ms += pause_ms
        if compacts:
            log.compact()
        assert log.read() == log.model
        assert [seal.base_offset for seal in log.seals[1:]] == [seal.next_offset for seal in log.seals[:-1]]


def test_passes_with_little_memory_come_to_the_end_one_after_the_other() -> None:
    log = CompactedLog(random.Random(1))
    log.keys_max = 2
    for n in range(4):
        log.append_segment([[(b"%d" % n, b"x"), (b"%d" % (n + 1), b"y")], [(b"last", b"%d" % n)]])
    ends = []
    while log.dirty_offset < log.end_offset:
        log.compact()
        ends.append(log.dirty_offset)
    assert ends == sorted(set(ends))
    assert len(ends) > 3
    assert [record.key for record in log.read()] == [b"0", b"1", b"2", b"3", b"4", b"last"]


def test_a_tombstone_that_a_pass_did_not_come_to_never_goes_before_what_it_deletes() -> None:
    log = CompactedLog(random.Random(1))
    log.keys_max = 1
    log.append_segment([[(b"a", b"x")]])
    log.append_segment([[(b"b", b"y")], [(b"a", None)]])  # the memory ends between the two batches
    log.compact()
    log.compact()
    assert log.dirty_offset == 2
    log.now_ms += 2 * DELETE_RETENTION_MS
    while log.dirty_offset < log.end_offset:
        log.compact()
    assert [(record.key, record.value) for record in log.read()] == [(b"b", b"y"), (b"a", None)]


def test_a_pass_over_a_log_that_is_compact_writes_nothing() -> None:
    log = CompactedLog(random.Random(1))
    log.append_segment([[(b"a", b"x")], [(b"b", b"y")]])
    before = log.disk.files()
    assert log.compact().seals == ()
    assert log.disk.files() == before


def test_small_segments_become_one() -> None:
    log = CompactedLog(random.Random(1))
    for _ in range(5):
        log.append_segment([[(b"a", b"x")]])
    log.compact()
    assert [(seal.base_offset, seal.next_offset) for seal in log.seals] == [(0, 5)]
    assert [record.offset for record in log.read()] == [4]


def test_a_tombstone_stays_until_everybody_had_the_time_to_read_it() -> None:
    log = CompactedLog(random.Random(1))
    log.append_segment([[(b"a", b"x"), (b"b", b"y")]])
    log.compact()
    log.append_segment([[(b"a", None)]])
    log.now_ms += 100 * DELETE_RETENTION_MS  # its age does not count, but when it was seen here first
    log.compact()
    assert [record.offset for record in log.read()] == [1, 2]
    log.now_ms += DELETE_RETENTION_MS - 1
    log.compact()
    assert [record.offset for record in log.read()] == [1, 2]
    log.now_ms += 1
    log.compact()
    assert [record.offset for record in log.read()] == [1]


def test_the_times_of_records_survive_a_delete_horizon() -> None:
    log = CompactedLog(random.Random(1))
    log.append_segment([[(b"a", b"x"), (b"b", None), (b"c", b"y")]])
    before = log.read()
    log.compact()
    assert log.read() == before
    seal = log.seals[0]
    file = log.disk.open(files.log_path(DIRECTORY, 0, seal.generation))
    header = read_header(file.pread(61, 0))
    assert header.delete_horizon_ms == log.now_ms + DELETE_RETENTION_MS
    assert header.max_timestamp_ms == max(record.timestamp_ms for record in before)


def test_a_pass_that_was_cut_off_is_simply_done_again() -> None:
    log = CompactedLog(random.Random(1))
    log.append_segment([[(b"a", b"x"), (b"a", b"y")]])
    left_behind = log.disk.create(files.log_path(DIRECTORY, 0, 1))
    left_behind.pwritev([b"half of something" * 100], 0)
    left_behind.close()
    log.compact()
    assert [record.value for record in log.read()] == [b"y"]


def test_bytes_are_paced() -> None:
    log = CompactedLog(random.Random(1))
    log.append_segment([[(b"a", b"x" * 500)], [(b"a", b"y" * 500)]])
    paced: list[int] = []
    result = compact(replace(log.plan(), segment_bytes=10_000), log.disk, paced.append)
    assert sum(paced) == result.bytes_read + result.bytes_written
    assert result.bytes_written > 0


def log_of_several_groups() -> CompactedLog:
    log = CompactedLog(random.Random(1))
    for number in range(6):
        log.append_segment([[(b"a", b"x" * 200)], [(b"a", b"y" * 200), (b"%d" % number, b"z")]])
    return log


def test_a_pass_that_fails_leaves_nothing_behind() -> None:
    log = log_of_several_groups()
    names = log.disk.list_dir(DIRECTORY)
    path = files.log_path(DIRECTORY, log.seals[-1].base_offset)
    log.disk.flip_bit(path, 70)
    with pytest.raises(CorruptBatch):
        compact(log.plan(), log.disk, lambda size: None)
    assert log.disk.list_dir(DIRECTORY) == names


@pytest.mark.parametrize("keeps", [0, 1, 2])
def test_a_pass_takes_no_room_that_others_need_and_ends_with_what_it_has(keeps: int) -> None:
    log = log_of_several_groups()
    names = log.disk.list_dir(DIRECTORY)
    groups = iter([*[ROOM_LEFT_BYTES + 700] * keeps, ROOM_LEFT_BYTES + 100])
    if keeps == 0:
        with pytest.raises(StorageFull, match="compaction needs"):
            compact(log.plan(), log.disk, lambda size: None, free_bytes=lambda: next(groups))
        assert log.disk.list_dir(DIRECTORY) == names
        return
    result = compact(log.plan(), log.disk, lambda size: None, free_bytes=lambda: next(groups))
    assert len(result.seals) == keeps
    assert result.dirty_offset == result.seals[-1].next_offset
    assert len(log.disk.list_dir(DIRECTORY)) == len(names) + 2 * keeps


def test_a_disk_that_is_full_in_the_middle_of_a_segment_is_left_without_it() -> None:
    log = log_of_several_groups()
    names = log.disk.list_dir(DIRECTORY)
    writes = 0

    def full_at_the_third(operation: str, path: Path) -> None:
        nonlocal writes
        writes += operation == "write"
        if operation == "write" and writes >= 3:
            raise StorageFull("no room", remedy="None in a test.")

    log.disk.before_step = full_at_the_third
    result = compact(log.plan(), log.disk, lambda size: None)
    log.disk.before_step = None
    assert result.seals
    assert result.dirty_offset == result.seals[-1].next_offset < log.end_offset
    assert len(log.disk.list_dir(DIRECTORY)) == len(names) + 2 * len(result.seals)
