"""The wall clock was far ahead for one append, and was set right: what is appended since ages all the same."""

from dataclasses import replace

import pytest

from logstore.config import DAY_MS, HOUR_MS, TopicConfig
from tests.logstore.disk import SimulatedDisk
from tests.logstore.partition import JumpingClock, Partition
from tests.logstore.test_compactions import COMPACTED, CompactedStore

YEAR_MS = 365 * DAY_MS
SMALL = TopicConfig(segment_bytes=400, retention_ms=HOUR_MS)


def with_stamps_of_the_future(config: TopicConfig) -> tuple[Partition, JumpingClock]:
    """A partition whose last append is stamped a year from now, with the clock set right since."""
    clock = JumpingClock()
    partition = Partition(SimulatedDisk(), config=config, clock=clock)
    clock.wall_ahead_ms = YEAR_MS
    partition.append(b"from the future")
    clock.wall_ahead_ms = 0
    assert partition.past.ago(0) == clock.wall_ms()
    return partition, clock


def test_retention_deletes_what_is_old_by_the_monotonic_clock_and_nothing_else() -> None:
    partition, clock = with_stamps_of_the_future(SMALL)
    for _ in range(10):
        partition.append(b"x" * 100)
        partition.sync_now()
    old_offset = partition.log.log_end_offset
    clock.now_ms += HOUR_MS // 2
    for _ in range(10):
        partition.append(b"x" * 100)
        partition.sync_now()
    clock.now_ms += HOUR_MS // 2
    assert partition.retain() == 0
    clock.now_ms += 1
    assert partition.retain() > 3
    assert old_offset - 4 < partition.log.log_start_offset <= old_offset
    clock.now_ms += HOUR_MS
    partition.sync_now()
    partition.retain()
    assert partition.log.segments_count == 1


def test_what_an_earlier_process_has_stamped_with_the_future_is_as_old_as_the_log_is_open() -> None:
    partition, clock = with_stamps_of_the_future(SMALL)
    for _ in range(10):
        partition.append(b"x" * 100)
        partition.sync_now()
    partition.close()
    clock.now_ms += 10 * HOUR_MS
    partition = Partition(partition.disk, config=SMALL, clock=clock)
    clock.now_ms += HOUR_MS
    assert partition.retain() == 0
    clock.now_ms += 1
    assert partition.retain() > 3


def test_after_a_restart_stamps_are_of_the_present_again() -> None:
    partition, clock = with_stamps_of_the_future(SMALL)
    assert partition.log.last_append_ms == clock.wall_ms() + YEAR_MS
    partition.close()
    partition = Partition(partition.disk, config=SMALL, clock=clock)
    assert partition.log.last_append_ms == clock.wall_ms()
    for _ in range(20):
        clock.now_ms += 1000
        partition.append(b"x" * 100)
        assert partition.log.last_append_ms == clock.wall_ms()
    partition.sync_now()
    assert partition.log.seals[-1].last_append_ms < clock.wall_ms()


def test_a_clock_that_is_behind_at_a_start_makes_nothing_older_that_was_there() -> None:
    """By the next start it is set right: a segment that had records before must not seem to be from 1970 then."""
    clock = JumpingClock()
    partition = Partition(SimulatedDisk(), config=SMALL, clock=clock)
    partition.append(b"x")
    appended_ms = clock.wall_ms()
    partition.close()
    clock.wall_ahead_ms = -50 * YEAR_MS
    partition = Partition(partition.disk, config=SMALL, clock=clock)
    partition.append(b"in 1973", timestamp_ms=0)
    partition.close()
    clock.wall_ahead_ms = 0
    partition = Partition(partition.disk, config=SMALL, clock=clock)
    for _ in range(4):
        partition.append(b"x" * 100)
    partition.sync_now()
    assert partition.log.seals[0].last_append_ms >= appended_ms
    assert partition.retain() == 0


def test_the_active_segment_is_closed_for_its_age() -> None:
    partition, clock = with_stamps_of_the_future(TopicConfig(segment_ms=HOUR_MS))
    clock.now_ms += HOUR_MS - 1
    partition.append(b"x")
    assert partition.log.segments_count == 1
    clock.now_ms += 1
    partition.append(b"x")
    assert partition.log.segments_count == 2
    clock.now_ms += HOUR_MS
    partition.append(b"x")
    assert partition.log.segments_count == 3


@pytest.mark.parametrize("lag_ms", [0, HOUR_MS])
def test_compaction_goes_on_once_records_are_old_enough(lag_ms: int) -> None:
    store = CompactedStore(1, replace(COMPACTED, min_compaction_lag_ms=lag_ms))
    clock = JumpingClock()
    clock.now_ms = store.opened.clock.now_ms
    store.opened.clock = clock
    store.have_snapshot()
    clock.wall_ahead_ms = YEAR_MS
    store.plan()
    store.write(1)
    clock.wall_ahead_ms = 0
    store.plan()
    store.write(30)
    if lag_ms:
        for _ in range(5):
            assert not store.compact()
            store.opened.settle()
        clock.now_ms += lag_ms
    for _ in range(5):
        store.compact()
        store.opened.settle()
    assert store.log.compacted_offset > 30
    store.check()


def test_a_record_that_waits_to_be_compacted_is_closed_in_time_though_nothing_is_appended() -> None:
    partition, clock = with_stamps_of_the_future(SMALL)
    partition.log.config = replace(COMPACTED, max_compaction_lag_ms=HOUR_MS)
    partition.sync_now()
    clock.now_ms += HOUR_MS
    partition.log.roll_overdue(partition.past)
    assert partition.log.segments_count == 1
    clock.now_ms += 1
    partition.log.roll_overdue(partition.past)
    assert partition.log.segments_count == 2


def test_what_compaction_makes_one_segment_of_keeps_its_age() -> None:
    """In a log that is compacted, and deletes what is old."""
    config = replace(COMPACTED, cleanup_policy="compact,delete", retention_ms=HOUR_MS)
    store = CompactedStore(1, config)
    clock = JumpingClock()
    clock.now_ms = store.opened.clock.now_ms
    store.opened.clock = clock
    store.have_snapshot()
    clock.wall_ahead_ms = YEAR_MS
    store.plan()
    store.write(1)
    clock.wall_ahead_ms = 0
    store.plan()
    store.write(30)
    for _ in range(5):
        store.compact()
        store.opened.settle()
    end = store.log.compacted_offset
    assert end > 30
    clock.now_ms += HOUR_MS - 10 * 60_000
    assert store.opened.store.retain() == 0
    clock.now_ms += 11 * 60_000
    assert store.opened.store.retain() > 0
    assert store.log.log_start_offset >= end
