"""Retention: what is deleted was said to be on the disk before, and whatever the rest needs of it is kept."""

import random
from contextlib import suppress

from logstore.batch import Record, encode_batch
from tests.logstore.disk import PowerCut, SimulatedDisk
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

    deleted = opened.store.retain(opened.clock.wall_ms())

    assert deleted >= segments_count - 2 > 2
    assert steps == []  # nothing on the owner thread
    # Until those are removed, the log start stays where the checkpoint is about to say it is.
    log_start_offset = log.log_start_offset
    assert opened.store.retain(opened.clock.wall_ms() + 120_000) == 0
    assert log.log_start_offset == log_start_offset
    opened.settle()
    first_removal = next(n for n, step in enumerate(steps) if step.startswith("remove"))
    assert steps[:first_removal] == ["write checkpoint", "sync checkpoint"] * 2
    assert log.log_start_offset > 5
    assert not any("00000000000000000000.log" in str(path) for path in disk.files())
    assert opened.store.retain(opened.clock.wall_ms() + 120_000) > 0


def test_a_crash_during_retention_leaves_a_log_that_is_whole_from_its_start_on() -> None:
    def script(disk: SimulatedDisk) -> None:
        opened = Opened(disk)
        opened.store.create_topic("flights", 1, SMALL.with_changes({"retention.bytes": "2000"}))
        for n in range(12):
            opened.append("flights", 0, b"%d" % n * 200)
            opened.settle()
        opened.store.retain(opened.clock.wall_ms())
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
            assert log.hole is None
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
        deleted += again.store.retain(again.clock.wall_ms())
        again.settle()

    assert deleted == 50
    assert all(again.store.log("flights", partition).segments_count == 1 for partition in range(50))


def test_silent_producers_are_forgotten_with_retention(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL)
    log = opened.store.log("flights", 0)
    now_ms = opened.clock.wall_ms()
    log.append(encode_batch([Record(0, now_ms, None, b"")], producer_id=1, producer_epoch=0, base_sequence=0), now_ms)
    opened.store.retain(now_ms + BOUNDS.producer_expiry_ms)
    assert log.expire_producers(now_ms + 1) == 1
    log.append(encode_batch([Record(0, now_ms, None, b"")], producer_id=2, producer_epoch=0, base_sequence=0), now_ms)
    opened.store.retain(now_ms + BOUNDS.producer_expiry_ms + 1)
    assert log.expire_producers(now_ms + 1) == 0
