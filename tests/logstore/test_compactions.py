"""A store whose topic is compacted: what is planned, what a log takes over, and what a crash in between leaves."""

import random
from collections.abc import Iterator
from dataclasses import replace

import pytest

from logstore import files
from logstore.batch import Record, decode_batch, encode_batch, iter_headers
from logstore.compaction import CompactionResult, compact
from logstore.compactions import KEPT_MS, PAUSE_MS, PlannedCompaction
from logstore.config import DAY_MS, HOUR_MS, INT64_MAX, TopicConfig
from logstore.errors import CorruptBatch, InvalidRecord, OffsetOutOfRange, StorageFull
from logstore.log import Log
from tests.logstore.disk import PowerCut, SimulatedDisk
from tests.logstore.partition import JumpingClock
from tests.logstore.store import Opened
from tests.logstore.verified import verify

COMPACTED = TopicConfig.from_strings(
    {"cleanup.policy": "compact", "segment.bytes": "1024", "index.interval.bytes": "200", "retention.ms": "1"}
)
KEYS = 5


class CompactedStore:
    """One partition of a compacted topic, and what was written to it."""

    def __init__(self, seed: int, config: TopicConfig = COMPACTED) -> None:
        self.rng = random.Random(seed)
        self.disk = SimulatedDisk()
        self.opened = Opened(self.disk)
        self.opened.store.create_topic("t", 1, config)
        self.written: dict[int, tuple[bytes | None, bytes | None]] = {}

    @property
    def log(self) -> Log:
        return self.opened.store.log("t", 0)

    def write(self, batches: int) -> None:
        now_ms = self.opened.clock.wall_ms()
        for _ in range(batches):
            pairs = [
                (b"%d" % self.rng.randrange(KEYS), b"%d" % self.rng.randrange(10**6) * 8)
                for _ in range(self.rng.randint(1, 3))
            ]
            appended = self.log.append(encode_batch([Record(0, now_ms, key, value) for key, value in pairs]), now_ms)
            self.written.update(enumerate(pairs, appended.base_offset))
            self.opened.settle()

    def have_snapshot(self) -> None:
        """A restart leaves one that covers everything."""
        self.opened.close()
        self.reopen()

    def reopen(self, disk: SimulatedDisk | None = None) -> None:
        self.disk = disk or self.disk.kill()
        self.opened = Opened(self.disk, clock=self.opened.clock)
        self.opened.retain()  # which opens it, so that it is looked at

    def plan(self) -> PlannedCompaction | None:
        return self.opened.store.plan_compaction()

    def compact(self) -> bool:
        """One pass as the server has it done."""
        planned = self.plan()
        if planned is None:
            return False
        self.opened.store.compactions.take(planned, compact(planned.plan, self.disk, lambda size: None))
        self.opened.settle()
        return True

    def read(self, offset: int = 0) -> Iterator[Record]:
        while offset < self.log.high_watermark:
            with self.log.open_read(offset, 300) as reader:
                read = reader.read()
            view = memoryview(read.batches)
            for position, header in iter_headers(view):
                yield from (
                    record
                    for record in decode_batch(view[position : position + header.size])
                    if record.offset >= offset
                )
            assert read.next_offset > offset
            offset = read.next_offset

    def check(self) -> None:
        """Nothing is there that was not written there, and the last of every key is."""
        read = {record.offset: (record.key, record.value) for record in self.read()}
        assert read.items() <= self.written.items()
        newest = {key: offset for offset, (key, _) in self.written.items()}
        assert set(newest.values()) <= set(read)


@pytest.mark.parametrize("seed", range(4))
def test_of_every_key_the_last_stays_through_passes_restarts_and_crashes(seed: int) -> None:
    store = CompactedStore(seed)
    passes = 0
    for _ in range(12):
        store.write(store.rng.randrange(12))
        if store.rng.random() < 0.5:
            store.have_snapshot()
        elif store.rng.random() < 0.3:
            store.reopen(store.disk.crash(store.rng))
        passes += store.compact()
        store.check()
    assert passes >= 3
    assert len(list(store.read())) < len(store.written) / 2
    assert store.opened.failures == []
    assert store.opened.store.retain() == 0, "compact alone deletes nothing for its age"


@pytest.mark.parametrize("seed", range(2))
def test_a_power_cut_at_any_step_of_taking_over_loses_nothing_that_stays(seed: int) -> None:
    for step in range(100):
        store = CompactedStore(seed)
        store.write(30)
        store.have_snapshot()
        planned = store.plan()
        assert planned is not None
        result = compact(planned.plan, store.disk, lambda size: None)
        left = step

        def cut(operation: str, path: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise PowerCut

        store.disk.before_step = cut
        store.opened.store.compactions.take(planned, result)
        try:
            store.opened.settle()
        except PowerCut:
            store.reopen(store.disk.crash(random.Random(step)))
            assert not store.log.holes
            store.check()
            store.compact()
            store.check()
        else:
            break
    assert step > 5


def test_old_files_go_a_minute_later_and_readers_go_on_until_then() -> None:
    store = CompactedStore(1)
    store.write(30)
    store.have_snapshot()
    names = set(store.disk.list_dir(store.log.directory))
    with store.log.open_read(0, 300) as reader:
        assert store.compact()
        first = reader.read()
    assert next(iter(iter_headers(first.batches)))[1].base_offset == 0
    store.plan()
    store.opened.settle()
    assert names <= set(store.disk.list_dir(store.log.directory))
    store.opened.clock.now_ms += KEPT_MS
    store.plan()
    for _ in range(20):
        store.opened.settle()
    left = {name for name in store.disk.list_dir(store.log.directory) if name.endswith(".log")}
    assert left == {segment.path.name for segment in store.log._segments if segment.has_file}
    store.check()
    store.reopen()
    store.check()


def test_nothing_is_planned_before_enough_is_dirty_old_and_known_of_its_producers() -> None:
    store = CompactedStore(2, replace(COMPACTED, min_compaction_lag_ms=3_600_000, min_cleanable_dirty_ratio=0.8))
    store.write(30)
    assert store.plan() is None, "the snapshot on the disk covers nothing"
    store.have_snapshot()
    assert store.log.segments_count > 3
    assert store.plan() is None, "too young"
    store.opened.clock.now_ms += 3_600_001
    assert store.compact()
    store.opened.clock.now_ms += 3_600_001
    assert store.plan() is None, "nothing is dirty"
    store.write(3)
    store.have_snapshot()
    store.opened.clock.now_ms += 3_600_001
    assert store.plan() is None, "too little is dirty"
    store.write(30)
    store.have_snapshot()
    store.opened.clock.now_ms += 3_600_001
    assert store.plan() is not None


def test_a_log_to_which_nothing_is_appended_any_more_is_compacted_all_the_same() -> None:
    store = CompactedStore(2)
    store.write(30)
    assert store.plan() is None, "the snapshot on the disk covers nothing"
    store.opened.settle()
    assert store.compact()
    store.check()


AT_LAST = replace(COMPACTED, min_cleanable_dirty_ratio=1.0, max_compaction_lag_ms=HOUR_MS)


def test_a_log_is_compacted_once_a_record_has_waited_for_long_enough_however_little_is_dirty() -> None:
    store = CompactedStore(2, AT_LAST)
    store.write(30)
    store.have_snapshot()
    assert store.compact(), "all is dirty"
    assert store.plan() is None, "nothing is dirty"
    store.write(8)
    store.have_snapshot()
    store.opened.settle()  # removes the files that compaction has replaced
    store.opened.clock.now_ms += HOUR_MS // 2
    assert store.plan() is None, "too little is dirty, and for too short a time"
    store.opened.clock.now_ms += HOUR_MS // 2
    assert store.plan() is not None
    store.opened.settle()  # seals the segment that was the active one
    assert store.compact()
    store.check()
    assert store.plan() is None, "once is enough"
    store.opened.clock.now_ms += 10 * HOUR_MS
    assert store.plan() is None, "also when time passes"


def active_bytes(store: CompactedStore) -> int:
    return store.log._segments[-1].end_position


def store_with_a_tombstone(delete_retention_ms: int) -> tuple[CompactedStore, JumpingClock]:
    """Which a pass has seen, and which is the only one of its key."""
    config = COMPACTED.with_changes({"delete.retention.ms": str(delete_retention_ms), "min.cleanable.dirty.ratio": "0"})
    store = CompactedStore(3, config)
    clock = JumpingClock()
    clock.now_ms = store.opened.clock.now_ms
    store.opened.clock = clock
    store.have_snapshot()
    now_ms = clock.wall_ms()
    store.log.append(encode_batch([Record(0, now_ms, b"gone", None)]), now_ms)
    assert has_tombstone_after_a_pass(store)
    return store, clock


def has_tombstone_after_a_pass(store: CompactedStore) -> bool:
    store.write(10)
    for _ in range(3):  # the first asks for a snapshot
        store.compact()
        store.opened.settle()
    return b"gone" in {record.key for record in store.read()}


@pytest.mark.parametrize("jump_ms", [HOUR_MS, 365 * DAY_MS])
def test_a_tombstone_stays_its_time_though_the_wall_clock_is_set_forward(jump_ms: int) -> None:
    store, clock = store_with_a_tombstone(HOUR_MS // 2)
    clock.wall_ahead_ms += jump_ms
    assert has_tombstone_after_a_pass(store), "at once"
    clock.now_ms += HOUR_MS // 4
    assert has_tombstone_after_a_pass(store), "half of its time later"
    clock.now_ms += HOUR_MS // 2
    assert not has_tombstone_after_a_pass(store)


def test_a_tombstone_stays_until_its_batch_says_though_the_wall_clock_is_set_back() -> None:
    store, clock = store_with_a_tombstone(HOUR_MS // 2)
    clock.wall_ahead_ms -= HOUR_MS
    clock.now_ms += HOUR_MS
    assert has_tombstone_after_a_pass(store), "readers go by what the batch says"
    clock.now_ms += HOUR_MS
    assert not has_tombstone_after_a_pass(store)


@pytest.mark.parametrize("restarts", [False, True])
def test_no_record_waits_in_the_active_segment_though_nothing_is_appended(restarts: bool) -> None:
    store = CompactedStore(7, replace(AT_LAST, segment_bytes=1 << 20))
    store.write(6)
    store.opened.clock.now_ms += HOUR_MS // 2
    assert store.plan() is None
    assert store.log.segments_count == 1
    store.opened.clock.now_ms += HOUR_MS // 2
    if restarts:
        store.have_snapshot()
    store.plan()
    assert active_bytes(store) == 0
    for _ in range(3):
        store.opened.settle()
        if store.compact():
            break
    assert len(list(store.read())) < len(store.written)
    store.check()
    assert store.opened.store._handles.used_count == 0, "no file of an idle log is held open"
    store.opened.clock.now_ms += 10 * HOUR_MS
    assert store.plan() is None
    assert store.log.segments_count == 2, "an empty segment is not closed"
    assert verify(store.disk.kill()).worse_than_notes == []
    store.write(2)
    store.have_snapshot()
    store.check()


def test_a_segment_is_closed_by_an_append_in_time_for_its_first_record_to_be_compacted() -> None:
    store = CompactedStore(7, replace(AT_LAST, segment_bytes=1 << 20))
    store.write(1)
    store.opened.clock.now_ms += HOUR_MS
    store.write(1)
    assert store.log.segments_count == 2


def test_a_log_that_is_not_compacted_is_rolled_by_nothing_but_its_own_settings() -> None:
    store = CompactedStore(7, replace(AT_LAST, segment_bytes=1 << 20, cleanup_policy="delete", retention_ms=-1))
    store.write(1)
    store.opened.clock.now_ms += 2 * HOUR_MS
    assert store.plan() is None
    store.write(1)
    assert store.log.segments_count == 1


@pytest.mark.parametrize("seed", range(3))
def test_a_power_cut_at_any_step_of_closing_an_idle_segment_loses_nothing(seed: int) -> None:
    for step in range(100):
        store = CompactedStore(seed, replace(AT_LAST, segment_bytes=1 << 20))
        store.write(6)
        store.opened.clock.now_ms += HOUR_MS
        left = step

        def cut(operation: str, path: object) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise PowerCut

        store.disk.before_step = cut
        try:
            store.plan()
            store.opened.settle()
        except PowerCut:
            store.reopen(store.disk.crash(random.Random(step)))
            assert not store.log.holes
            store.check()
            store.write(1)
            store.check()
        else:
            break
    assert step > 5


def test_without_room_for_the_next_file_an_idle_segment_is_closed_later() -> None:
    store = CompactedStore(7, replace(AT_LAST, segment_bytes=1 << 20))
    store.write(6)
    store.opened.clock.now_ms += HOUR_MS

    def full(operation: str, path: object) -> None:
        raise StorageFull("no room", remedy="None in a test.")

    store.disk.before_step = full
    assert store.plan() is None
    assert store.log.segments_count == 1
    store.disk.before_step = None
    store.plan()
    assert active_bytes(store) == 0


def test_a_log_whose_pass_failed_or_found_no_room_is_left_alone_for_a_while() -> None:
    store = CompactedStore(3)
    store.write(30)
    store.have_snapshot()
    planned = store.plan()
    assert planned is not None
    store.opened.store.compactions.give_up(planned)
    assert store.plan() is None
    store.opened.settle()
    assert store.plan() is None
    store.opened.clock.now_ms += PAUSE_MS
    planned = store.plan()
    assert planned is not None
    result = compact(planned.plan, store.disk, lambda size: None)

    def full(operation: str, path: object) -> None:
        raise StorageFull("no room", remedy="None in a test.")

    store.disk.before_step = full
    store.opened.store.compactions.take(planned, result)
    store.opened.settle()
    store.disk.before_step = None
    assert store.opened.failures == []
    assert store.plan() is None
    store.check()
    store.opened.clock.now_ms += PAUSE_MS
    assert store.compact()
    store.check()


def test_retention_that_comes_meanwhile_has_its_way() -> None:
    both = replace(COMPACTED, cleanup_policy="compact,delete", retention_ms=3_600_000)
    store = CompactedStore(4, both)
    store.write(30)
    store.have_snapshot()
    planned = store.plan()
    assert planned is not None
    result = compact(planned.plan, store.disk, lambda size: None)
    store.opened.clock.now_ms += 3_600_000
    assert store.opened.store.retain() > 0
    store.opened.store.compactions.take(planned, result)
    for _ in range(20):
        store.opened.settle()
    start = store.log.log_start_offset
    assert start > 0
    kept = {record.offset for record in store.read(start)}
    store.reopen()
    assert store.log.log_start_offset == start
    assert not store.log.holes
    assert {record.offset for record in store.read(start)} == kept


def test_a_record_without_a_key_is_refused_and_so_is_what_inflates_without_end() -> None:
    store = CompactedStore(5)
    batch = encode_batch([Record(0, 1, b"k", b"v"), Record(0, 1, None, b"v")])
    with pytest.raises(InvalidRecord, match="record 1 of the batch has no key"):
        store.log.append(batch, 1)
    garbled = bytearray(encode_batch([Record(0, 1, b"k", b"v")]))
    garbled[-1] ^= 1
    with pytest.raises(CorruptBatch):
        store.log.append(garbled, 1)
    assert store.log.log_end_offset == 0


def test_what_producers_wrote_is_known_after_their_records_are_gone() -> None:
    store = CompactedStore(6)
    now_ms = store.opened.clock.wall_ms()
    sent = encode_batch([Record(0, now_ms, b"k", b"first")], producer_id=7, producer_epoch=0, base_sequence=0)
    first = store.log.append(sent, now_ms)
    store.written[0] = (b"k", b"first")
    for number in range(3):
        store.written[store.log.log_end_offset] = (b"k", b"%d" % number * 300)
        store.log.append(encode_batch([Record(0, now_ms, b"k", b"%d" % number * 300)]), now_ms)
    store.write(20)
    store.have_snapshot()
    assert store.compact()
    assert 0 not in {record.offset for record in store.read()}
    store.reopen()
    assert store.log.append(sent, now_ms) == first._replace(duplicate=True)
    assert files.SNAPSHOT in store.disk.list_dir(store.log.directory)


def test_a_pass_whose_records_retention_removes_meanwhile_says_so() -> None:
    store = CompactedStore(4, replace(COMPACTED, cleanup_policy="compact,delete", retention_ms=3_600_000))
    store.write(30)
    store.have_snapshot()
    planned = store.plan()
    assert planned is not None
    store.opened.clock.now_ms += 3_600_001
    assert store.opened.store.retain() > 0
    for _ in range(20):
        store.opened.settle()
    with pytest.raises(OffsetOutOfRange, match="was removed while a compaction read its log"):
        compact(planned.plan, store.disk, lambda size: None)


def store_with_merged_segments(seed: int) -> tuple[CompactedStore, PlannedCompaction, CompactionResult, int]:
    """One that a pass has made one segment of some of, and where the second of those begins."""
    both = replace(COMPACTED, cleanup_policy="compact,delete", retention_ms=-1, min_cleanable_dirty_ratio=0.0)
    store = CompactedStore(seed, both)
    store.write(30)
    store.have_snapshot()
    assert store.compact()
    store.write(10)
    store.have_snapshot()
    for _ in range(10):
        store.opened.settle()  # what compaction has replaced is removed
    planned = store.plan()
    assert planned is not None
    result = compact(planned.plan, store.disk, lambda size: None)
    merged = result.seals[0]
    inner = [seal.base_offset for seal in planned.plan.seals if merged.base_offset < seal.base_offset]
    assert inner[0] < merged.next_offset
    return store, planned, result, inner[0]


def check_from(store: CompactedStore, start: int) -> None:
    """The log begins there and has all that it has to, also after starts that remove what is left behind."""
    for _ in range(3):
        assert store.log.log_start_offset == start
        assert not store.log.holes
        read = {record.offset: (record.key, record.value) for record in store.read(start)}
        assert read.items() <= store.written.items()
        newest = {key: offset for offset, (key, _) in store.written.items()}
        assert {offset for offset in newest.values() if offset >= start} <= set(read)
        for _ in range(20):
            store.opened.settle()
        store.reopen()


def test_a_segment_merged_from_some_that_are_deleted_meanwhile_does_not_take_the_others_along() -> None:
    store, planned, result, start = store_with_merged_segments(1)
    store.opened.store.delete_records(store.log, start, lambda failure: None)
    for _ in range(20):
        store.opened.settle()
    store.opened.store.compactions.take(planned, result)
    check_from(store, start)


@pytest.mark.parametrize("seed", range(3))
def test_a_power_cut_at_any_step_of_deleting_a_part_of_what_was_just_merged_keeps_the_rest(seed: int) -> None:
    for step in range(100):
        store, planned, result, start = store_with_merged_segments(2)
        store.opened.store.compactions.take(planned, result)
        store.opened.store.synchronizer.run_round()  # the seal is on the disk, and the log does not know it yet
        store.opened.store.delete_records(store.log, start, lambda failure: None)
        store.disk.cut_power_after(step)
        try:
            store.opened.settle()
            store.opened.store.delete_records(store.log, result.seals[0].next_offset, lambda failure: None)
            for _ in range(20):
                store.opened.settle()
        except PowerCut:
            store.reopen(store.disk.crash(random.Random(f"{seed} {step}")))
            check_from(store, store.log.log_start_offset)
        else:
            break
    assert step > 5


def store_with_a_deleted_key(segment_bytes: int) -> tuple[CompactedStore, PlannedCompaction, CompactionResult]:
    """The key's last value and its tombstone are in the second of three segments, of which a pass makes fewer."""
    config = TopicConfig.from_strings(
        {
            "cleanup.policy": "compact,delete",
            "segment.bytes": "1024",
            "retention.ms": "-1",
            "min.cleanable.dirty.ratio": "0",
            "delete.retention.ms": "1000",
        }
    )
    store = CompactedStore(1, config)
    for key, value in (
        (b"a", b"a" * 700),
        (b"b", b"b" * 300),
        (b"k", b"k" * 100),
        (b"k", None),
        (b"c", b"c" * 1000),
        (b"d", b"d" * 1000),
    ):
        append_one(store, key, value)
    for _ in range(2):
        store.plan()
        store.opened.settle()
    store.opened.store.alter_config("t", config.with_changes({"segment.bytes": str(segment_bytes)}))
    planned = store.plan()
    assert planned is not None
    assert [(seal.base_offset, seal.next_offset) for seal in planned.plan.seals] == [(0, 1), (1, 4), (4, 5)]
    return store, planned, compact(planned.plan, store.disk, lambda size: None)


def append_one(store: CompactedStore, key: bytes, value: bytes | None) -> None:
    now_ms = store.opened.clock.wall_ms()
    appended = store.log.append(encode_batch([Record(0, now_ms, key, value)]), now_ms)
    store.written[appended.base_offset] = key, value
    store.opened.settle()


def check_deleted_key_stays_deleted(store: CompactedStore) -> None:
    """Through passes with more than delete.retention.ms between them."""
    for number in range(6):
        store.opened.clock.now_ms += 5000
        append_one(store, b"%d" % number, b"x" * 3000)
        store.compact()
        store.opened.settle()
        newest = {record.key: record.value for record in store.read(store.log.log_start_offset)}
        assert newest.get(b"k") is None, f"after pass {number}"


@pytest.mark.parametrize("segment_bytes", [1600, 4096])  # the tombstone's segment becomes one with others, or all do
def test_a_deleted_key_stays_deleted_when_retention_takes_a_part_of_what_a_pass_reads(segment_bytes: int) -> None:
    store, planned, result = store_with_a_deleted_key(segment_bytes)
    store.opened.store.delete_records(store.log, 1, lambda failure: None)
    store.opened.settle()
    store.opened.store.compactions.take(planned, result)
    store.opened.settle()
    assert store.log.compacted_offset == 0, "nothing of the pass is taken"
    check_deleted_key_stays_deleted(store)


def test_what_is_about_to_be_replaced_stays_until_it_is_though_the_log_starts_later() -> None:
    store, planned, result = store_with_a_deleted_key(1600)
    assert [(seal.base_offset, seal.next_offset) for seal in result.seals] == [(0, 4)]
    store.opened.store.compactions.take(planned, result)
    store.opened.store.synchronizer.run_round()  # the seal is on the disk, and the log does not know it yet
    store.opened.store.delete_records(store.log, 1, lambda failure: None)
    store.opened.settle()
    assert [seal.base_offset for seal in store.log.seals] == [0, 4]
    assert store.log.log_start_offset == 1
    assert verify(store.disk.kill()).worse_than_notes == []
    store.opened.store.delete_records(store.log, 4, lambda failure: None)
    store.opened.settle()
    assert [seal.base_offset for seal in store.log.seals] == [4], "afterwards retention has its way again"
    check_deleted_key_stays_deleted(store)


def test_what_retention_has_removed_whole_keeps_nothing_of_a_pass_from_being_taken() -> None:
    store = CompactedStore(4, replace(COMPACTED, cleanup_policy="compact,delete", retention_ms=-1))
    store.write(60)
    store.have_snapshot()
    planned = store.plan()
    assert planned is not None
    result = compact(planned.plan, store.disk, lambda size: None)
    assert len(result.seals) > 2
    start = result.seals[0].next_offset
    store.opened.store.delete_records(store.log, start, lambda failure: None)
    store.opened.settle()
    store.opened.store.compactions.take(planned, result)
    store.opened.settle()
    assert store.log.seals == list(result.seals[1:])
    assert store.log.compacted_offset == result.dirty_offset
    check_from(store, start)


def unnamed_files(store: CompactedStore) -> set[str]:
    """Log files and sealed indexes that are of no segment of the log."""
    named = {segment.path.name for segment in store.log._segments}
    named |= {files.sealed_index_path(store.log.directory, s.base_offset, s.index_crc).name for s in store.log.seals}
    parsed = {name: files.parse_segment_file(name) for name in store.disk.list_dir(store.log.directory)}
    return {name for name, at in parsed.items() if at is not None and (at.generation or at.crc is not None)} - named


def test_what_a_killed_pass_has_written_is_removed_once_it_is_given_up() -> None:
    store = CompactedStore(3)
    store.write(30)
    store.have_snapshot()
    planned = store.plan()
    assert planned is not None

    def kill(operation: str, path: object) -> None:
        if len(unnamed_files(store)) == 3:
            raise PowerCut

    store.disk.before_step = kill
    with pytest.raises(PowerCut):
        compact(planned.plan, store.disk, lambda size: None)
    store.disk.before_step = None
    assert len(unnamed_files(store)) == 3
    store.opened.store.compactions.give_up(planned)
    assert store.plan() is None
    for _ in range(5):
        store.opened.settle()
    assert unnamed_files(store) == set()
    store.check()
    store.opened.clock.now_ms += PAUSE_MS
    assert store.compact()
    store.check()


def test_what_a_pass_has_written_is_removed_where_the_log_takes_nothing_of_it() -> None:
    store, planned, result = store_with_a_deleted_key(1600)
    assert unnamed_files(store)
    store.opened.store.delete_records(store.log, 1, lambda failure: None)
    store.opened.settle()
    store.opened.store.compactions.take(planned, result)
    store.opened.settle()
    assert unnamed_files(store) == set()


def test_on_a_disk_that_is_nearly_full_passes_make_room_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logstore.compaction.ROOM_LEFT_BYTES", 2000)
    store = CompactedStore(1, replace(COMPACTED, segment_bytes=2048, min_cleanable_dirty_ratio=0.0))
    for number in range(20):
        append_one(store, b"%d" % number, b"v" * 600)
        append_one(store, b"hot", b"v" * 100)
    store.have_snapshot()
    store.opened.settle()
    capacity_bytes = store.disk.capacity_bytes = store.disk.used_bytes + 8000
    size_bytes = store.log.size_bytes
    passes = 0
    while (planned := store.plan()) is not None:
        passes += 1
        result = compact(
            planned.plan, store.disk, lambda size: None, free_bytes=lambda: capacity_bytes - store.disk.used_bytes
        )
        assert capacity_bytes - store.disk.used_bytes > 0
        store.opened.store.compactions.take(planned, result)
        for _ in range(5):
            store.opened.settle()
        store.check()
        store.opened.clock.now_ms += KEPT_MS
        store.plan()
        for _ in range(5):
            store.opened.settle()
    assert 1 < passes < 10
    assert store.log.size_bytes < size_bytes - 15 * 150
    assert unnamed_files(store) == set()


def test_of_replaced_files_nothing_is_held_open_or_mapped_once_they_are_removed() -> None:
    store = CompactedStore(1)
    store.write(30)
    store.have_snapshot()
    assert list(store.read())
    for segment in store.log._segments:
        if segment.seal is not None:
            segment.mark_verified(0, segment.end_position)
            segment.slice(0, 10)
    assert store.compact()
    store.opened.clock.now_ms += KEPT_MS
    store.plan()
    for _ in range(30):
        store.opened.settle()
    handles = store.opened.store._handles
    held = [*handles._idle, *handles._used, *handles.maps._values, *handles.arrays._values]
    assert [path for path in held if not store.disk.exists(path)] == []


def test_a_tombstone_may_be_said_to_stay_for_ever() -> None:
    store, clock = store_with_a_tombstone(INT64_MAX)
    clock.now_ms += 100 * 365 * DAY_MS
    assert has_tombstone_after_a_pass(store)
