"""Verification finds whatever is wrong with a data directory, finds nothing where nothing is, and changes nothing."""

import random
from contextlib import suppress
from copy import deepcopy
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logstore import files
from logstore.batch import Record, encode_batch, iter_headers
from logstore.checkpoint import read_slots
from logstore.compaction import CompactionPlan, compact
from logstore.data_directory import CHECKPOINT
from logstore.errors import DataDirectoryUnusable
from logstore.findings import Kind
from logstore.seal import read_seal
from logstore.verification import SegmentToVerify, SegmentVerification
from tests.logstore.disk import PowerCut, SimulatedDisk
from tests.logstore.store import DATA, SMALL, Driver, Model, Opened
from tests.logstore.verified import verify


def made(*, batches: int = 40, partitions: int = 2, clean: bool = True, seed: int = 0) -> SimulatedDisk:
    """A data directory with a topic, each partition of which has several segments."""
    disk = SimulatedDisk()
    store = Opened(disk, seed=seed)
    store.store.create_topic("flights", partitions, SMALL.with_changes({"index.interval.bytes": "128"}))
    rng = random.Random(seed)
    for number in range(batches):
        values = [rng.randbytes(rng.randint(1, 60)) for _ in range(rng.randint(1, 3))]
        store.append("flights", number % partitions, *values)
        if number % 7 == 0:
            store.settle()
    store.settle()
    if clean:
        store.close()
    return disk.kill()


def logs(disk: SimulatedDisk, partition: int = 0) -> list[Path]:
    return [path for path in disk.files() if path.suffix == ".log" and path.parent.name == str(partition)]


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    disk = made()
    assert len(logs(disk)) > 2
    verified = verify(disk)
    assert verified.findings == []
    reports = [report for _, reports in verified.partitions for report in reports.values()]
    assert sum(report.batches_count for report in reports) == 40


def test_a_directory_that_was_just_made_is_sound() -> None:
    disk = SimulatedDisk()
    Opened(disk).close()
    assert verify(disk.kill()).findings == []


def test_a_crash_leaves_nothing_worse_than_notes() -> None:
    assert verify(made(clean=False)).worse_than_notes == []


SOUND = made()


@given(st.data())
@settings(max_examples=80)
def test_one_flipped_bit_in_any_file_is_found(data: st.DataObject) -> None:
    disk = copied(SOUND)
    sizes = {path: len(content) for path, content in disk.files().items() if path.name != "lock"}
    path = data.draw(st.sampled_from([path for path, size in sizes.items() if size]))
    position = data.draw(st.integers(0, sizes[path] - 1))
    disk.flip_bit(path, position, data.draw(st.integers(0, 7)))

    if path == DATA / CHECKPOINT and read_slots(path, disk) == read_slots(path, SOUND):
        return  # what fills up a slot means nothing
    if path.parent.suffix == ".index" and len(path.parent.name) == 26:  # of a segment that is not sealed: a hint
        assert verify(disk).kinds == [Kind.INDEX_BEHIND]
    else:
        assert verify(disk).worse_than_notes != []


def copied(disk: SimulatedDisk) -> SimulatedDisk:
    """Another with the same files, so that one can be harmed and the other not."""
    return SimulatedDisk(deepcopy(disk.root))


def long_life(driver: Driver) -> None:
    """Rolls, syncs, clean stops, a deleted topic and retention."""
    driver.create("flights", 2)
    driver.create("delays", 1, SMALL.with_changes({"retention.ms": "50000"}))
    for n in range(24):
        driver.append("flights", n % 2, b"%d" % n * 40, b"second")
        driver.append("delays", 0, b"%d" % n * 60)
        if n % 3 == 0:
            driver.settle()
        if n % 9 == 8:
            driver.opened.clock.now_ms += 20_000
            driver.opened.store.retain()
            driver.settle()
    driver.delete("delays")
    driver.settle()
    driver.close()


@given(seed=st.integers(0, 10_000), steps=st.integers(0, 260))
@settings(max_examples=60)
def test_a_crash_at_any_step_leaves_nothing_worse_than_notes(seed: int, steps: int) -> None:
    disk = SimulatedDisk()
    disk.cut_power_after(steps)
    with suppress(PowerCut):
        long_life(Driver(Model(), Opened(disk)))
    for survivor in (disk.kill(), disk.crash(random.Random(seed))):
        with suppress(DataDirectoryUnusable):  # it went before there was anything
            assert verify(survivor).worse_than_notes == []
        Opened(survivor).close()
        assert verify(survivor.kill()).worse_than_notes == []


# One segment of a running log, as a scrub would do it.


def sealed_segment(disk: SimulatedDisk) -> SegmentToVerify:
    path = logs(disk)[0]
    seal = read_seal(disk, files.seal_path(path.parent, 0))
    return SegmentToVerify.sealed(path.parent, seal, topic="flights", partition=0)


def test_a_sealed_segment_is_verified_by_its_seal_alone_in_bounded_steps() -> None:
    disk = copied(SOUND)
    position, header = list(iter_headers(disk.files()[logs(disk)[0]]))[2]
    disk.flip_bit(logs(disk)[0], position + header.size - 1)
    verification = SegmentVerification(disk, sealed_segment(disk))
    found = []
    steps = 0
    while not verification.is_done:
        before = verification.position
        found += verification.step(1)
        assert verification.position - before <= 400  # one batch
        steps += 1
    assert steps > 4
    assert [(finding.kind, finding.position) for finding in found] == [(Kind.RECORDS_LOST, position)]
    assert disk.open_files == []


def test_a_segment_that_retention_removes_meanwhile_is_verified_to_its_end() -> None:
    disk = copied(SOUND)
    segment = sealed_segment(disk)
    verification = SegmentVerification(disk, segment)
    verification.step(1)
    disk.remove(segment.log_path)
    while not verification.is_done:
        assert verification.step(1 << 20) == []
    with pytest.raises(FileNotFoundError):
        SegmentVerification(disk, segment)


def test_a_verification_that_is_given_up_leaves_no_file_open() -> None:
    disk = copied(SOUND)
    verification = SegmentVerification(disk, sealed_segment(disk))
    verification.step(1)
    verification.close()
    assert disk.open_files == []


def test_rot_on_the_disk_is_found_though_the_page_cache_is_right() -> None:
    disk = copied(SOUND)
    segment = sealed_segment(disk)
    node = disk._file(segment.log_path)
    node.durable = bytes(reversed(node.durable))
    node.lost.add(0)  # clean to the kernel, which has another content than the disk
    verification = SegmentVerification(disk, segment)
    assert Kind.RECORDS_LOST in [finding.kind for finding in verification.step(1 << 20)]


# Compacted logs.


def compacted() -> SimulatedDisk:
    """As `made`, with keys, and all sealed segments of partition 0 written anew without what was replaced."""
    disk = SimulatedDisk()
    store = Opened(disk)
    store.store.create_topic("flights", 1, SMALL.with_changes({"index.interval.bytes": "128"}))
    log = store.store.log("flights", 0)
    for number in range(60):
        records = [Record(0, 1000 + number, b"%d" % (number % 7), b"x" * 30), Record(0, 1000, b"once %d" % number, b"")]
        log.append(encode_batch(records), store.clock.wall_ms())
        store.settle()
    store.close()
    disk = disk.kill()
    directory = logs(disk)[0].parent
    seals = [read_seal(disk, directory / name) for name in disk.list_dir(directory) if name.endswith(files.SEAL_SUFFIX)]
    result = compact(CompactionPlan(directory, tuple(seals), 0, 0, 0, 0, 1024, 128, 10_000), disk, lambda size: None)
    assert result.records_kept < result.records_read
    for seal in seals:
        for name in disk.list_dir(directory):
            if files.belongs_to_segment(name, seal.base_offset) and name.endswith((".seal", f"{seal.base_offset}.log")):
                disk.remove(directory / name)
            if name == files.sealed_index_path(directory, seal.base_offset, seal.index_crc).name:
                disk.remove_tree(directory / name)
    for seal in result.seals:
        disk.replace_file(files.seal_path(directory, seal.base_offset), seal.encode())
    disk.sync_dir(directory)
    return disk


COMPACTED = compacted()


def test_the_gaps_that_compaction_leaves_are_no_damage() -> None:
    verified = verify(COMPACTED)
    assert verified.findings == []
    (partition,) = verified.partitions
    assert sum(report.records_count for report in partition.reports.values()) < 120


@given(st.data())
def test_one_flipped_bit_in_a_compacted_log_is_found(data: st.DataObject) -> None:
    disk = copied(COMPACTED)
    path = data.draw(st.sampled_from(logs(disk)))
    position = data.draw(st.integers(0, len(disk.files()[path]) - 1))
    disk.flip_bit(path, position, data.draw(st.integers(0, 7)))
    assert verify(disk).worse_than_notes != []
