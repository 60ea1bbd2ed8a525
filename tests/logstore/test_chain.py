"""Which segments a directory holds: recovery and verification say the same of it, whatever files are missing."""

import random
from collections.abc import Callable

import pytest

from logstore import files
from logstore.compactions import KEPT_MS
from logstore.data_directory import CHECKPOINT
from logstore.findings import Kind, Severity
from logstore.log import Log
from tests.logstore.disk import SimulatedDisk
from tests.logstore.store import SMALL, Opened
from tests.logstore.test_compactions import COMPACTED, CompactedStore, check_from, store_with_merged_segments
from tests.logstore.verified import mend, verify


def offsets_of(ranges: list[tuple[int, int | None]]) -> set[int]:
    return {offset for start, end in ranges for offset in range(start, start if end is None else end)}


def compacted(rng: random.Random) -> SimulatedDisk:
    """Some of it compacted once or twice, with the files that this has replaced, and some not."""
    store = CompactedStore(rng.randrange(100), COMPACTED)
    for _ in range(rng.randint(1, 3)):
        store.write(rng.randint(10, 25))
        store.have_snapshot()
        store.compact()
    store.write(rng.randrange(12))
    return store.disk


def plain(rng: random.Random) -> SimulatedDisk:
    disk = SimulatedDisk()
    opened = Opened(disk)
    opened.store.create_topic("t", 1, SMALL.with_changes({"retention.bytes": "6000"}))
    for number in range(30):
        opened.append("t", 0, b"%03d" % number * 100)
        opened.settle()
    opened.store.retain()
    if rng.random() < 0.5:
        opened.settle()
    return disk


def lose_files(disk: SimulatedDisk, rng: random.Random) -> None:
    names = sorted(path for path in disk.files() if path.suffix in (files.LOG_SUFFIX, files.SEAL_SUFFIX))
    for path in rng.sample(names, min(len(names), rng.randint(0, 4))):
        disk.remove(path)


@pytest.mark.parametrize("make", [plain, compacted])
@pytest.mark.parametrize("seed", [*range(25), 153])  # 153: the last file that is left was compacted, and has no seal
def test_what_recovery_misses_is_what_verification_says_is_lost(
    seed: int, make: Callable[[random.Random], SimulatedDisk]
) -> None:
    rng = random.Random(seed)
    disk = make(rng).kill()
    lose_files(disk, rng)
    verified = verify(disk)
    log: Log = Opened(disk).store.log("t", 0)

    lost = [(finding.offset or 0, finding.next_offset) for finding in verified.of(Kind.RECORDS_LOST)]
    assert offsets_of([(hole.offset, hole.next_offset) for hole in log.holes]) == offsets_of(lost)
    (partition,) = verified.partitions
    shown = {segment.log_path for segment in partition.files.segments}
    assert {segment.path for segment in log._segments if segment.has_file} == shown
    misplaced = verified.of(Kind.MISPLACED)
    assert bool(log.holes) == bool(lost or misplaced)
    if not log.holes:
        again = Opened(disk.kill()).store.log("t", 0)
        assert (again.holes, again.log_end_offset) == ((), log.log_end_offset), "a start leaves what the next one reads"


def test_a_compacted_segment_that_has_lost_its_seal_is_sealed_as_what_it_is() -> None:
    store = CompactedStore(1, COMPACTED)
    store.write(40)
    store.have_snapshot()
    assert store.compact()
    store.opened.clock.now_ms += KEPT_MS
    for _ in range(20):
        store.plan()
        store.opened.settle()  # the old files go
    sealed = [seal for seal in store.log.seals if seal.generation > 0]
    assert len(sealed) > 1
    for seal in sealed:
        store.disk.remove(files.seal_path(store.log.directory, seal.base_offset))
    for _ in range(2):
        store.reopen()
        assert store.log.holes == ()
        store.check()
    assert [seal.generation for seal in store.log.seals][: len(sealed)] == [seal.generation for seal in sealed]
    assert verify(store.disk.kill()).worse_than_notes == []


def test_a_seal_tells_that_the_last_segments_are_gone_though_the_checkpoint_is_older() -> None:
    """Else what was acknowledged would be forgotten, and its offsets given away again."""
    disk = SimulatedDisk()
    opened = Opened(disk)
    opened.store.create_topic("t", 1, SMALL)
    opened.append("t", 0, b"0" * 100)
    opened.settle()
    checkpoint = next(path for path in disk.files() if path.name == CHECKPOINT)
    older = disk.files()[checkpoint]
    while len(opened.store.log("t", 0).seals) < 2:
        opened.append("t", 0, b"1" * 300)
        opened.settle()
    log = opened.store.log("t", 0)
    disk = disk.kill()
    disk.overwrite(checkpoint, older)
    for segment in log._segments[1:]:
        disk.remove(segment.path)

    again = Opened(disk).store.log("t", 0)

    (hole,) = again.holes
    assert (hole.offset, hole.next_offset) == (log.seals[1].base_offset, log.seals[1].next_offset)
    assert again.log_end_offset == log.seals[1].next_offset


def test_a_merged_segment_whose_file_went_with_the_first_of_those_it_was_merged_from_is_no_damage() -> None:
    """Retention takes the first of them and the log does not know of the merged one yet, whose seal is on the disk and
    is the last file to go. The power goes while they are removed."""
    store, _, result, start = store_with_merged_segments(1)
    seal = files.seal_path(store.log.directory, result.seals[0].base_offset)
    store.disk.replace_file(seal, result.seals[0].encode())
    store.opened.store.delete_records(store.log, start, lambda failure: None)
    images: list[SimulatedDisk] = []
    store.disk.before_step = lambda operation, path: images.extend(
        store.disk.crash(random.Random(f"{len(images)} {seed}")) for seed in range(8)
    )
    for _ in range(5):
        store.opened.settle()
    store.disk.before_step = None
    merged = files.log_path(store.log.directory, result.seals[0].base_offset, result.seals[0].generation)
    lone_seals = [disk for disk in images if disk.exists(seal) and not disk.exists(merged)]
    assert lone_seals

    for disk in images:
        assert [found for found in verify(disk).findings if found.kind.severity is Severity.DAMAGE] == []
    for disk in lone_seals[::3]:
        mend(disk)
        store.reopen(disk)
        check_from(store, start)
        assert not store.disk.exists(seal)
