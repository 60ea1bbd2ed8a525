"""Retention: what is deleted was said to be on the disk before, and whatever the rest needs of it is kept."""

import random
from contextlib import suppress
from pathlib import Path

import pytest

from logstore.config import DAY_MS, TopicConfig
from logstore.errors import StorageFull, UnknownProducerId
from logstore.files import SNAPSHOT, log_path
from logstore.log import Appended
from logstore.producers import BATCHES_REMEMBERED
from logstore.spare import SPARE_BYTES
from logstore.sync import CHECKPOINT_MS
from tests.logstore.disk import PowerCut, SimulatedDisk
from tests.logstore.partition import Partition, batch_of
from tests.logstore.store import BOUNDS, SMALL, Opened, values_of


def test_segments_go_when_they_are_too_old_and_the_log_start_is_on_disk_before(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL.with_changes({"retention.ms": "60000"}))
    for n in range(20):
        opened.append("flights", 0, b"%d" % n * 100)
        opened.settle()
    log = opened.store.log("flights", 0)
    segments_count = log.segments_count
    opened.clock.now_ms += 120_000
    for _ in range(12):
        opened.append("flights", 0, b"young" * 40)
    opened.settle()
    steps: list[str] = []
    disk.before_step = lambda operation, path: steps.append(f"{operation} {path.name}")

    deleted = opened.store.retain()

    assert deleted >= segments_count - 2 > 2
    assert steps == []  # nothing on the owner thread
    # Until those are removed, the log start stays where the checkpoint is about to say it is.
    log_start_offset = log.log_start_offset
    opened.clock.now_ms += 120_000
    assert opened.store.retain() == 0
    assert log.log_start_offset == log_start_offset
    opened.settle()
    first_removal = next(n for n, step in enumerate(steps) if step.startswith("remove"))
    snapshot = ["create snapshot.new", "write snapshot.new", "sync snapshot.new", "rename snapshot", "sync_dir 0"]
    assert steps[:first_removal] == [*snapshot, *["write checkpoint", "sync checkpoint"] * 2]
    assert log.log_start_offset > 5
    assert not any("00000000000000000000.log" in str(path) for path in disk.files())
    assert opened.store.retain() > 0


def test_a_crash_during_retention_leaves_a_log_that_is_whole_from_its_start_on() -> None:
    def script(disk: SimulatedDisk) -> None:
        opened = Opened(disk)
        opened.store.create_topic("flights", 1, SMALL.with_changes({"retention.bytes": "2000"}))
        for n in range(12):
            opened.append("flights", 0, b"%d" % n * 200)
            opened.settle()
        opened.store.retain()
        opened.settle()
        opened.append("flights", 0, b"last")
        opened.settle()
        opened.close()

    whole = SimulatedDisk()
    script(whole)
    for step in range(whole.steps_count - 60, whole.steps_count + 1):
        disk = SimulatedDisk()
        disk.cut_power_after(step)
        with suppress(PowerCut):
            script(disk)
        for survivor in (disk.kill(), disk.crash(random.Random(step))):
            opened = Opened(survivor)
            log = opened.store.log("flights", 0)
            assert not log.holes
            values = values_of(log)
            assert len(values) == log.high_watermark - log.log_start_offset
            expected = [b"%d" % n * 200 for n in range(12)] + [b"last"]
            assert values == expected[log.log_start_offset : log.high_watermark]
            opened.settle()
            below = [
                path for path in survivor.files() if path.suffix == ".log" and int(path.stem) < log.log_start_offset
            ]
            assert len(below) <= 1  # the segment that the start is in


def test_retention_reaches_logs_that_nobody_has_opened(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 50, SMALL.with_changes({"retention.bytes": "0"}))
    for n in range(4):
        for partition in range(50):
            opened.append("flights", partition, b"%d" % n * 400)
    opened.settle()
    opened.close()

    again = Opened(disk.kill())
    deleted = 0
    for _ in range(4):
        deleted += again.retain()
        again.settle()

    assert deleted == 50
    assert all(again.store.log("flights", partition).segments_count == 1 for partition in range(50))


def sent_by(producer_id: int, sequence: int) -> bytes:
    return batch_of(b"%d of %d" % (sequence, producer_id) * 20, producer_id=producer_id, sequence=sequence)


def test_a_batch_sent_again_is_known_though_its_segment_is_deleted_and_the_process_was_killed(
    disk: SimulatedDisk,
) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL.with_changes({"retention.bytes": "0"}))
    log = opened.store.log("flights", 0)
    now_ms = opened.clock.wall_ms()
    first = log.append(sent_by(7, 0), now_ms)
    opened.append("flights", 0, b"x" * 1000)
    opened.settle()
    assert opened.store.retain() == 1
    opened.settle()
    assert log.log_start_offset == 1
    assert not any("00000000000000000000.log" in str(path) for path in disk.files())

    for survivor in (disk.kill(), disk.crash(random.Random(0))):
        again = Opened(survivor).store.log("flights", 0)
        assert again.log_start_offset == 1
        assert again.append(sent_by(7, 0), now_ms) == first._replace(duplicate=True)


RETAINED = TopicConfig(segment_bytes=600, retention_bytes=700)


def with_deletable_segments(disk: SimulatedDisk) -> tuple[Partition, dict[tuple[int, int], Appended]]:
    """Three producers, of which two are only in segments that retention will delete; all of it synced and sealed."""
    partition = Partition(disk, config=RETAINED)
    acked = {
        (producer_id, sequence): partition.log.append(sent_by(producer_id, sequence), partition.clock.wall_ms())
        for producer_id, batches in ((1, 3), (2, 2), (3, 12))
        for sequence in range(batches)
    }
    partition.sync_now()
    return partition, acked


def check_known(partition: Partition, acked: dict[tuple[int, int], Appended]) -> None:
    """The last five batches of every producer get the answer they got the first time."""
    assert not partition.findings.holes
    for (producer_id, sequence), first in acked.items():
        if (producer_id, sequence + BATCHES_REMEMBERED) not in acked:
            again = partition.log.append(sent_by(producer_id, sequence), partition.clock.wall_ms())
            assert again == first._replace(duplicate=True)


def test_whenever_retention_comes_and_the_power_goes_every_batch_sent_again_is_known() -> None:
    """The owner thread chooses what goes, and appends on, before any step of a round that writes the checkpoint."""
    for retain_at in range(3):  # sync the log, write the checkpoint, sync it
        for cut_after in range(retain_at, 60):
            partition, acked = with_deletable_segments(SimulatedDisk())
            disk = partition.disk
            assert isinstance(disk, SimulatedDisk)
            partition.append(b"to be synced by this round")
            partition.clock.now_ms += CHECKPOINT_MS
            first_step = disk.steps_count

            def before_step(
                operation: str,
                path: Path,
                partition: Partition = partition,
                disk: SimulatedDisk = disk,
                retain_at: int = first_step + retain_at + 1,
                last: int = first_step + cut_after,
            ) -> None:
                if disk.steps_count == retain_at:
                    partition.append(b"not synced before the next round", producer_id=9, sequence=0)
                    assert partition.retain() > 2
                    partition.append(b"neither", producer_id=9, sequence=1)
                if disk.steps_count > last:
                    raise PowerCut

            disk.before_step = before_step
            is_over = False
            with suppress(PowerCut):
                partition.log.request_sync()
                partition.run_posted()
                for _ in range(2):
                    partition.sync.run_round()
                    partition.run_posted()
                assert not disk.exists(log_path(partition.directory, 0))
                is_over = True
            disk.before_step = None
            for survivor in (disk.kill(), disk.crash(random.Random(cut_after))):
                check_known(Partition(survivor, config=RETAINED), acked)
            if is_over:
                break
        else:
            pytest.fail("the rounds take more steps than were tried")


def test_nothing_is_deleted_while_there_is_no_room_to_note_what_producers_wrote_in_it(disk: SimulatedDisk) -> None:
    partition, acked = with_deletable_segments(disk)
    disk.capacity_bytes = 0  # less than there is, so that even the spare room is none
    assert partition.retain() > 2
    partition.sync_now()
    assert disk.exists(log_path(partition.directory, 0))
    assert partition.failures == []
    for survivor in (disk.kill(), disk.crash(random.Random(0))):
        check_known(Partition(survivor, config=RETAINED), acked)

    disk.capacity_bytes = None
    partition.retain()
    partition.sync_now()
    assert not disk.exists(log_path(partition.directory, 0))
    check_known(Partition(disk.crash(random.Random(0)), config=RETAINED), acked)


def test_retention_makes_room_on_a_full_disk_and_takes_the_spare_room_back(disk: SimulatedDisk) -> None:
    partition, acked = with_deletable_segments(disk)
    partition.spare.take()
    disk.capacity_bytes = disk.used_bytes
    with pytest.raises(StorageFull):
        disk.replace_file(partition.directory / "anything", b"x")

    assert partition.retain() > 2
    partition.sync_now()

    assert not disk.exists(log_path(partition.directory, 0))
    assert partition.failures == []
    check_known(Partition(disk.kill(), config=RETAINED), acked)
    disk.capacity_bytes = disk.used_bytes
    assert partition.spare.give_up()
    disk.replace_file(partition.directory / "anything", b"x" * (SPARE_BYTES - 1))


def test_what_is_forgotten_with_a_damaged_snapshot_is_said(disk: SimulatedDisk) -> None:
    partition, acked = with_deletable_segments(disk)
    partition.retain()
    partition.sync_now()
    disk.flip_bit(partition.directory / SNAPSHOT, 60)

    again = Partition(disk.kill(), config=RETAINED)

    start = again.log.log_start_offset
    assert any(f"what idempotent producers wrote before offset {start} is not known" in n for n in again.findings.notes)
    check_known(again, {key: first for key, first in acked.items() if first.base_offset >= start})


def test_silent_producers_are_forgotten_with_retention(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL)
    log = opened.store.log("flights", 0)
    log.append(sent_by(1, 0), opened.clock.wall_ms())
    opened.clock.now_ms += BOUNDS.producer_expiry_ms
    opened.store.retain()
    log.append(sent_by(1, 1), opened.clock.wall_ms())
    opened.clock.now_ms += BOUNDS.producer_expiry_ms + 1
    opened.store.retain()
    with pytest.raises(UnknownProducerId):
        log.append(sent_by(1, 2), opened.clock.wall_ms())


@pytest.mark.parametrize("jump_ms", [3_600_000, 365 * DAY_MS])
def test_nothing_is_old_because_the_wall_clock_has_jumped(disk: SimulatedDisk, jump_ms: int) -> None:
    opened = Opened(disk)
    retention_ms = 600_000
    opened.store.create_topic("flights", 1, SMALL.with_changes({"retention.ms": str(retention_ms)}))
    log = opened.store.log("flights", 0)
    for sequence in range(20):
        log.append(sent_by(1, sequence), opened.clock.wall_ms())
        opened.settle()
    began_ms = opened.clock.now_ms

    opened.clock.wall_jumped_ms += jump_ms
    assert opened.store.retain() == 0
    opened.settle()
    assert log.append(sent_by(1, 19), opened.clock.wall_ms()).duplicate
    for sequence in range(20, 40):
        log.append(sent_by(1, sequence), opened.clock.wall_ms())
        opened.settle()
    opened.clock.now_ms = began_ms + retention_ms
    assert opened.store.retain() > 0, "now they are old"
    assert 0 < log.log_start_offset <= 20
    opened.settle()
    opened.clock.wall_jumped_ms -= jump_ms
    opened.store.retain()
    assert log.log_start_offset <= 20
