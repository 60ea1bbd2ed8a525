"""Records deleted before an offset: gone for readers at once, and for good when that is answered."""

import random
from contextlib import suppress

import pytest

from logstore import files
from logstore.batch import stamp_producer
from logstore.config import TopicConfig
from logstore.errors import (
    DataLoss,
    LogStoreError,
    OffsetOutOfRange,
    PolicyViolation,
    StorageFailed,
    StorageFull,
    UnknownTopicOrPartition,
)
from logstore.header import HEADER_SIZE
from logstore.log import ALL_RECORDS
from tests.logstore.disk import PowerCut, SimulatedDisk
from tests.logstore.partition import NOW_MS, batch_of
from tests.logstore.store import DATA, SMALL, Opened, values_of

Answers = list[LogStoreError | None]


def opened_with(disk: SimulatedDisk, batches: int = 12, config: TopicConfig = SMALL) -> Opened:
    """A partition of that many batches with two records of 100 bytes each, several to a segment."""
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, config)
    for n in range(batches):
        opened.append("flights", 0, *values(2 * n, 2 * n + 2))
        opened.settle()
    return opened


def values(start: int, end: int) -> list[bytes]:
    return [b"%03d" % n * 33 for n in range(start, end)]


def delete(opened: Opened, offset: int) -> Answers:
    """What was answered is in the list once it is."""
    answers: Answers = []
    opened.store.delete_records(opened.store.log("flights", 0), offset, answers.append)
    return answers


def files_below(disk: SimulatedDisk, offset: int) -> int:
    """Log files that begin below the offset."""
    bases = [files.log_base_offset(path.name) for path in disk.files()]
    return sum(base is not None and base < offset for base in bases)


# What readers see.


@pytest.mark.parametrize("offset", [1, 2, 7, 15, 22, 23, 24, ALL_RECORDS])
def test_the_log_starts_there_at_once_and_after_every_kind_of_stop(disk: SimulatedDisk, offset: int) -> None:
    opened = opened_with(disk)
    log = opened.store.log("flights", 0)
    start = 24 if offset == ALL_RECORDS else offset
    steps: list[str] = []
    disk.before_step = lambda operation, path: steps.append(operation)

    answers = delete(opened, offset)

    assert steps == []  # nothing on the owner thread
    assert log.log_start_offset == start
    assert values_of(log) == values(start, 24)
    with pytest.raises(OffsetOutOfRange):
        log.open_read(start - 1, 100)
    found = log.offset_for_timestamp(0)
    assert (found.offset if found else 24) == start
    assert answers == []
    opened.settle()
    assert answers == [None]
    assert files_below(disk, start) <= 1  # the segment that the start is in
    disk.before_step = None
    for survivor in (disk.kill(), disk.crash(random.Random(offset))):
        again = Opened(survivor)
        log = again.store.log("flights", 0)
        assert (log.log_start_offset, log.holes) == (start, ())
        assert values_of(log) == values(start, 24)
        assert again.append("flights", 0, *values(24, 26)) == 24
        again.settle()
        again.close()
        assert values_of(Opened(survivor.kill()).store.log("flights", 0)) == values(start, 26)


@pytest.mark.parametrize("offset", [0, 4, 9])
def test_a_log_start_never_moves_back(disk: SimulatedDisk, offset: int) -> None:
    opened = opened_with(disk)
    delete(opened, 9)
    answers = delete(opened, offset)
    assert answers == []  # not before the start that it has is on the disk
    opened.settle()
    assert answers == [None]
    assert delete(opened, offset) == [None]
    assert opened.store.log("flights", 0).log_start_offset == 9


@pytest.mark.parametrize("offset", [25, 2**62, -2, -(2**63)])
def test_an_offset_that_is_not_in_the_log_is_refused_with_the_range(disk: SimulatedDisk, offset: int) -> None:
    opened = opened_with(disk)
    with pytest.raises(OffsetOutOfRange, match=rf"offset {offset} .* goes from 0 to 24"):
        delete(opened, offset)
    assert opened.store.log("flights", 0).log_start_offset == 0


@pytest.mark.parametrize("offset", [0, 9, ALL_RECORDS])
def test_records_of_a_log_that_is_compacted_only_are_not_deleted_by_offset(disk: SimulatedDisk, offset: int) -> None:
    opened = opened_with(disk)
    opened.store.alter_config("flights", SMALL.with_changes({"cleanup.policy": "compact"}))
    with pytest.raises(PolicyViolation, match=r"flights partition 0 .* cleanup\.policy = compact keeps") as refused:
        delete(opened, offset)
    assert "compact,delete" in refused.value.remedy
    assert opened.store.log("flights", 0).log_start_offset == 0
    opened.store.alter_config("flights", SMALL.with_changes({"cleanup.policy": "compact,delete"}))
    delete(opened, offset)
    opened.settle()
    assert opened.store.log("flights", 0).log_start_offset == (24 if offset == ALL_RECORDS else offset)


def test_what_is_not_durable_yet_is_not_deleted(disk: SimulatedDisk) -> None:
    opened = opened_with(disk)
    opened.append("flights", 0, b"new")
    with pytest.raises(OffsetOutOfRange):
        delete(opened, 25)
    delete(opened, ALL_RECORDS)
    opened.settle()
    assert values_of(opened.store.log("flights", 0)) == [b"new"]


def test_records_of_a_relaxed_topic_are_deleted_as_far_as_readers_see_them(disk: SimulatedDisk) -> None:
    opened = opened_with(disk, config=SMALL.with_changes({"durability": "relaxed"}))
    opened.append("flights", 0, *values(24, 26))
    answers = delete(opened, ALL_RECORDS)
    assert values_of(opened.store.log("flights", 0)) == []
    assert answers == []
    opened.settle()
    assert answers == [None]
    log = Opened(disk.crash(random.Random(0))).store.log("flights", 0)
    assert (log.log_start_offset, log.log_end_offset) == (26, 26)


def test_a_lookup_by_time_finds_nothing_in_a_deleted_batch_that_its_producer_damaged(disk: SimulatedDisk) -> None:
    opened = opened_with(disk, batches=0)
    log = opened.store.log("flights", 0)
    damaged = bytearray(batch_of(b"x" * 100, timestamp_ms=NOW_MS + 5000))
    damaged[HEADER_SIZE:] = b"\xff" * (len(damaged) - HEADER_SIZE)
    stamp_producer(damaged, -1, -1, -1)  # a CRC that fits
    log.append(damaged, opened.clock.wall_ms())
    opened.append("flights", 0, b"sound")
    opened.settle()
    assert log.offset_for_timestamp(NOW_MS + 4000) == (0, NOW_MS + 5000)
    delete(opened, 1)
    assert log.offset_for_timestamp(NOW_MS + 4000) is None


# Whenever the power goes.


@pytest.mark.parametrize("offset", [5, 14, ALL_RECORDS])
def test_no_crash_after_the_answer_brings_records_back_and_one_before_leaves_either(offset: int) -> None:
    start = 24 if offset == ALL_RECORDS else offset
    unanswered = 0
    for cut_after in range(80):
        disk = SimulatedDisk()
        opened = opened_with(disk)
        disk.cut_power_after(cut_after)
        answers = delete(opened, offset)
        is_over = False
        with suppress(PowerCut):
            opened.settle()
            opened.append("flights", 0, *values(24, 26))
            opened.settle()
            opened.close()
            is_over = True
        with suppress(PowerCut):
            opened.run_posted()
        disk.before_step = None
        unanswered += not answers
        for survivor in (disk.kill(), disk.crash(random.Random(cut_after))):
            log = Opened(survivor).store.log("flights", 0)
            assert not log.holes
            assert log.log_start_offset == start or (log.log_start_offset == 0 and not answers)
            assert values_of(log) == values(log.log_start_offset, log.log_end_offset)
        if is_over:
            assert unanswered > 5
            return
    pytest.fail("it takes more steps than were tried")


def test_a_batch_sent_again_is_known_though_it_was_deleted(disk: SimulatedDisk) -> None:
    opened = opened_with(disk)
    log = opened.store.log("flights", 0)
    sent = batch_of(b"once", producer_id=7, sequence=0)
    first = log.append(sent, opened.clock.wall_ms())
    opened.settle()
    answers = delete(opened, ALL_RECORDS)
    opened.settle()
    assert answers == [None]
    for _ in range(6):  # so that its segment goes
        opened.append("flights", 0, *values(0, 4))
        opened.settle()
    delete(opened, ALL_RECORDS)
    opened.settle()
    assert files_below(disk, first.base_offset + 1) == 0

    for survivor in (disk, disk.kill(), disk.crash(random.Random(0))):
        log = log if survivor is disk else Opened(survivor).store.log("flights", 0)
        assert log.append(sent, opened.clock.wall_ms()) == first._replace(duplicate=True)


# What goes on at the same time.


def test_whoever_deletes_during_a_removal_is_answered_by_the_next(disk: SimulatedDisk) -> None:
    opened = opened_with(disk)
    first = delete(opened, 3)
    second: Answers = []
    third: Answers = []

    def before_step(operation: str, path: object) -> None:
        if operation == "write" and not second:
            disk.before_step = None
            opened.append("flights", 0, b"goes on")
            second.extend(delete(opened, 9))
            opened.store.delete_records(opened.store.log("flights", 0), 11, third.append)

    disk.before_step = before_step
    opened.settle()
    assert first == [None]
    assert third == [None]
    assert Opened(disk.crash(random.Random(0))).store.log("flights", 0).log_start_offset == 11


def test_whoever_deletes_is_answered_though_much_is_appended_in_every_round(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So much that a snapshot is due before the round has synced what the last one covers."""
    monkeypatch.setattr("logstore.snapshot_writer.SNAPSHOT_INTERVAL_BYTES", 500)
    opened = opened_with(disk)

    def append_in_between() -> None:
        def before_step(operation: str, path: object) -> None:
            disk.before_step = None
            opened.append("flights", 0, *values(0, 8))

        disk.before_step = before_step

    opened.append("flights", 0, b"deleted")
    opened.settle()
    opened.append("flights", 0, b"dirty")
    append_in_between()
    answers = delete(opened, ALL_RECORDS)
    for _ in range(5):
        opened.store.synchronizer.run_round()
        append_in_between()
        opened.run_posted()
    assert answers == [None]


def test_segments_that_were_not_sealed_when_they_were_left_behind_go_as_well(disk: SimulatedDisk) -> None:
    opened = opened_with(disk, batches=1)
    for n in range(1, 30):
        opened.append("flights", 0, *values(2 * n, 2 * n + 2))
    synchronizer = opened.store.synchronizer
    work = synchronizer.collect(everything=True)
    assert work is not None
    synchronizer.perform(work)
    synchronizer.publish(work)  # and the late work, which seals, is still to be done
    answers = delete(opened, ALL_RECORDS)
    assert opened.store.log("flights", 0).segments_count > 5
    opened.settle()
    opened.settle()
    assert answers == [None]
    assert opened.store.log("flights", 0).segments_count == 1
    assert files_below(disk, 60) == 1


def test_retention_takes_a_deleted_segment_that_was_active_when_it_has_been_rolled(disk: SimulatedDisk) -> None:
    opened = opened_with(disk, batches=3)
    delete(opened, ALL_RECORDS)
    opened.settle()
    opened.append("flights", 0, *values(6, 12))
    opened.settle()
    log = opened.store.log("flights", 0)
    assert (log.segments_count, log.log_start_offset) == (2, 6)
    assert opened.store.retain() == 1
    opened.settle()
    assert values_of(log) == values(6, 12)
    assert files_below(disk, 6) == 0


def test_retention_goes_on_where_records_were_deleted(disk: SimulatedDisk) -> None:
    opened = opened_with(disk, config=SMALL.with_changes({"retention.bytes": "1500"}))
    delete(opened, 7)
    opened.settle()
    assert opened.store.retain() > 0
    opened.settle()
    log = opened.store.log("flights", 0)
    assert log.log_start_offset > 7
    assert values_of(log) == values(log.log_start_offset, 24)


def test_whoever_waits_when_the_topic_is_deleted_is_answered_all_the_same(disk: SimulatedDisk) -> None:
    opened = opened_with(disk)
    log = opened.store.log("flights", 0)
    first = delete(opened, 3)
    second: Answers = []

    def before_step(operation: str, path: object) -> None:
        disk.before_step = None
        opened.append("flights", 0, b"so that the next snapshot waits")
        opened.store.delete_records(log, 9, second.append)
        opened.store.delete_topic("flights")

    disk.before_step = before_step
    opened.settle()
    opened.settle()
    assert len(first) == len(second) == 1
    assert isinstance(second[0], UnknownTopicOrPartition | None)
    with pytest.raises(UnknownTopicOrPartition, match="flights partition 0 was deleted"):
        opened.store.delete_records(log, 9, second.append)
    assert opened.failures == []
    assert [path for path in disk.files() if path.suffix == ".log"] == []


# What is in the way.


def test_whoever_deletes_on_a_full_disk_is_told_and_can_do_it_again_when_there_is_room(disk: SimulatedDisk) -> None:
    opened = opened_with(disk)
    disk.capacity_bytes = 0  # less than there is, so that even the spare room is none
    for _ in range(2):
        answers = delete(opened, 9)
        opened.settle()
        (refused,) = answers
        assert isinstance(refused, StorageFull)
        assert "before offset 9 are deleted, but not for good" in str(refused)
        assert opened.store.log("flights", 0).log_start_offset == 9
        assert opened.failures == []

    disk.capacity_bytes = None
    answers = delete(opened, 9)
    opened.settle()
    assert answers == [None]
    assert Opened(disk.crash(random.Random(0))).store.log("flights", 0).log_start_offset == 9


def test_what_there_was_no_room_for_is_done_at_the_next_turn_of_retention(disk: SimulatedDisk) -> None:
    opened = opened_with(disk)
    disk.capacity_bytes = 0
    delete(opened, 9)
    opened.settle()
    disk.capacity_bytes = None
    opened.store.retain()
    opened.settle()
    assert Opened(disk.crash(random.Random(0))).store.log("flights", 0).log_start_offset == 9
    assert delete(opened, 9) == [None]


def test_the_spare_room_is_enough_to_delete_on_a_full_disk(disk: SimulatedDisk) -> None:
    opened = opened_with(disk)
    disk.capacity_bytes = disk.used_bytes
    answers = delete(opened, 9)
    opened.settle()
    assert answers == [None]


def test_nothing_is_deleted_from_a_damaged_log(disk: SimulatedDisk) -> None:
    opened = opened_with(disk)
    directory = opened.store.log("flights", 0).directory
    survivor = disk.kill()
    base = max(base for path in survivor.files() if (base := files.log_base_offset(path.name)) is not None)
    survivor.remove_tree(files.active_index_path(directory, base))
    survivor.flip_bit(files.log_path(directory, base), 20)
    again = Opened(survivor)
    assert again.store.log("flights", 0).holes
    before = survivor.files()
    with pytest.raises(DataLoss, match="keeps all its records, since it is damaged from offset") as refused:
        delete(again, 3)
    assert "logctl segments repair" in refused.value.remedy
    again.settle()
    assert again.store.log("flights", 0).log_start_offset == 0
    assert {path: survivor.files()[path] for path in before if DATA / "topics" in path.parents} == {
        path: data for path, data in before.items() if DATA / "topics" in path.parents
    }


def test_nothing_is_deleted_or_answered_once_the_disk_has_failed(disk: SimulatedDisk) -> None:
    opened = opened_with(disk)

    def fail(operation: str, path: object) -> None:
        raise StorageFailed("the disk is broken", remedy="")

    answers = delete(opened, 9)
    disk.before_step = fail
    opened.settle()
    assert answers == []
    assert len(opened.failures) == 1
    with pytest.raises(StorageFailed):
        delete(opened, 11)
