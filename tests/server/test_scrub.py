"""The scrub reads what is sealed, at its pace, and tells what it finds."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from logserver.openings import Openings
from logserver.scrub import Scrub
from logstore import files
from logstore.batch import HEADER_SIZE
from logstore.config import TopicConfig
from logstore.losses import Loss, write_loss
from tests.logstore.disk import SimulatedDisk
from tests.logstore.store import Opened

SMALL = TopicConfig(segment_bytes=1024)
BYTES_PER_SECOND = 1000


class Slept:
    """Sleeps nobody waits for."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def __call__(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk()


@pytest.fixture
def opened(disk: SimulatedDisk) -> Opened:
    """Two topics, of which one has four sealed segments in each of its partitions."""
    opened = Opened(disk)
    opened.store.create_topic("long", 2, SMALL)
    opened.store.create_topic("short", 1, TopicConfig())
    for partition in range(2):
        while len(opened.store.log("long", partition).seals) < 4:
            opened.append("long", partition, b"x" * 200)
            opened.settle()
    opened.append("short", 0, b"x")
    opened.settle()
    return opened


def scrub_of(opened: Opened, disk: SimulatedDisk, slept: Slept | None = None) -> Scrub:
    return Scrub(
        opened.store,
        Openings(opened.store, ThreadPoolExecutor(1)),
        disk,
        bytes_per_second=BYTES_PER_SECOND,
        interval_ms=1,
        sleep=slept or Slept(),
    )


async def test_a_pass_reads_every_sealed_byte_once_and_no_faster_than_it_may(
    opened: Opened, disk: SimulatedDisk
) -> None:
    slept = Slept()
    with capture_logs() as logs:
        done = await scrub_of(opened, disk, slept).run_pass()
    sealed = sum(seal.end_position for number in range(2) for seal in opened.store.log("long", number).seals)
    assert (done.segments, done.bytes_read, done.findings) == (8, sealed, 0)
    assert slept.seconds == pytest.approx(sealed / BYTES_PER_SECOND)
    assert logs == []


async def test_a_flipped_bit_is_told_with_its_offset_and_its_place_and_the_pass_goes_on(
    opened: Opened, disk: SimulatedDisk
) -> None:
    log = opened.store.log("long", 0)
    seal = log.seals[1]
    path = files.log_path(log.directory, seal.base_offset)
    disk.flip_bit(path, HEADER_SIZE + 20)
    with capture_logs() as logs:
        done = await scrub_of(opened, disk).run_pass()
    assert (done.segments, done.findings) == (8, 1)
    [told] = logs
    assert told["log_level"] == "error"
    assert (told["topic"], told["partition"], told["kind"]) == ("long", 0, "records-lost")
    assert (told["offset"], told["next_offset"], told["path"]) == (seal.base_offset, seal.base_offset + 1, str(path))
    assert "segments repair" in told["remedy"]
    json.dumps(told)


async def test_a_segment_that_retention_removes_meanwhile_is_stepped_over(opened: Opened, disk: SimulatedDisk) -> None:
    log = opened.store.log("long", 0)
    disk.remove(files.log_path(log.directory, log.seals[2].base_offset))
    with capture_logs() as logs:
        done = await scrub_of(opened, disk).run_pass()
    assert (done.segments, done.findings, logs) == (7, 0, [])


async def test_a_loss_that_was_accepted_is_found_no_more(opened: Opened, disk: SimulatedDisk) -> None:
    log = opened.store.log("long", 0)
    before, gone = log._segments[:2]
    assert before.seal is not None
    before.seal = replace(before.seal, next_offset=gone.next_offset)
    assert (await scrub_of(opened, disk).run_pass()).findings == 1
    write_loss(disk, log.directory, before.base_offset, Loss(gone.base_offset, gone.next_offset, "rot", 1, None))
    assert (await scrub_of(opened, disk).run_pass()).findings == 0


async def test_a_pass_that_fails_is_logged_and_another_is_made(
    opened: Opened, disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    intervals = 0

    async def sleep(seconds: float) -> None:
        nonlocal intervals
        if seconds != 3600:
            return
        intervals += 1
        if intervals == 1:
            monkeypatch.setattr(disk, "open_uncached", fail)
        else:
            monkeypatch.undo()
        if intervals == 3:
            raise Stopped

    scrub = Scrub(
        opened.store,
        Openings(opened.store, ThreadPoolExecutor(1)),
        disk,
        bytes_per_second=1 << 40,
        interval_ms=3_600_000,
        sleep=sleep,
    )
    with capture_logs() as logs, pytest.raises(Stopped):
        await scrub.run()
    assert [entry["event"] for entry in logs] == ["the scrub failed, and begins again after its interval", "scrubbed"]


class Stopped(Exception):
    pass


def fail(path: Path) -> None:
    raise RuntimeError("a bug")
