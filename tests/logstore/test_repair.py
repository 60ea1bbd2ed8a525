"""Repair: what is damaged is cut out and kept, the rest can be read on both sides of the hole, and appends go on."""

import random
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore import files
from logstore.batch import decode_batch, iter_headers
from logstore.config import TopicConfig
from logstore.data_directory import CHECKPOINT
from logstore.disk import PAGE_BYTES
from logstore.errors import DataLoss, MetadataCorrupt
from logstore.findings import Kind, Severity
from logstore.log import Log
from logstore.losses import Loss, read_loss
from logstore.scan import check_batches
from logstore.seal import read_seal
from tests.logstore.disk import PowerCut, SimulatedDisk
from tests.logstore.store import DATA, SMALL, Opened
from tests.logstore.test_verification import COMPACTED, copied, logs, made
from tests.logstore.verified import REPAIRED_AT_MS, mend, verify


def readable(log: Log) -> dict[int, bytes | None]:
    """Offset: value of every record that a reader can have who steps over what is lost."""
    found: dict[int, bytes | None] = {}
    offset = log.log_start_offset
    while offset < log.high_watermark:
        try:
            with log.open_read(offset, 1 << 16) as reader:
                read = reader.read()
        except DataLoss:
            offset += 1
            continue
        for position, header in iter_headers(read.batches):
            for record in decode_batch(read.batches[position : position + header.size]):
                found[record.offset] = record.value
        offset = read.next_offset
    return found


def content(disk: SimulatedDisk) -> list[dict[int, bytes | None]]:
    """What can be read of both partitions."""
    store = Opened(copied(disk))
    return [readable(store.store.log("flights", partition)) for partition in range(2)]


SOUND = made()
SOUND_CONTENT = content(SOUND)
CRASHED = made(clean=False)
CRASHED_CONTENT = content(CRASHED)


def harm(data: st.DataObject, disk: SimulatedDisk) -> None:
    """Something happens to one log file."""
    paths = logs(disk, data.draw(st.integers(0, 1)))
    if not paths:
        return
    path = data.draw(st.sampled_from(paths))
    before = disk.files()[path]
    if not before:
        return
    start = data.draw(st.integers(0, len(before) - 1))
    stop = start + data.draw(st.integers(1, 400))
    match data.draw(st.sampled_from(["flip", "zero", "noise", "cut", "remove"])):
        case "flip":
            disk.flip_bit(path, start, data.draw(st.integers(0, 7)))
        case "zero":
            disk.overwrite(path, before[:start] + bytes(len(before[start:stop])) + before[stop:])
        case "noise":
            noise = random.Random(start).randbytes(len(before[start:stop]))
            disk.overwrite(path, before[:start] + noise + before[stop:])
        case "cut":
            disk.overwrite(path, before[:start])
        case "remove":
            disk.remove(path)
            disk.sync_dir(path.parent)


@given(data=st.data(), is_clean=st.booleans(), harms=st.integers(1, 4))
def test_a_damaged_log_is_made_one_that_opens_reads_and_takes_appends(
    data: st.DataObject, is_clean: bool, harms: int
) -> None:
    disk = copied(SOUND if is_clean else CRASHED)
    whole = SOUND_CONTENT if is_clean else CRASHED_CONTENT
    for _ in range(harms):
        harm(data, disk)
    told = verify(disk)
    lost = [
        {
            offset
            for finding in told.of(Kind.RECORDS_LOST)
            if finding.partition == partition and finding.offset is not None
            for offset in range(finding.offset, finding.next_offset or 1000)
        }
        for partition in range(2)
    ]

    mend(disk)

    assert [finding for finding in verify(disk).findings if finding.kind.severity is Severity.DAMAGE] == []
    store = Opened(disk.crash(random.Random(0)))
    for partition in range(2):
        log = store.store.log("flights", partition)
        assert not log.holes
        found = readable(log)
        assert found.items() <= whole[partition].items()
        assert whole[partition].keys() - found.keys() <= lost[partition]
        offset = store.append("flights", partition, b"afterwards")
        assert offset > max(whole[partition])
    store.settle()
    store.close()


def badly_damaged(clean: bool) -> SimulatedDisk:
    """Two holes in one sealed segment, a missing segment, a header to put right, an index that is gone, and a hole in
    the segment that is appended to."""
    disk = made(clean=clean, batches=60)
    first, second, third, fourth, *_, last = logs(disk, 0)
    content = disk.files()
    for path, number in ((first, 1), (first, 3), (last, 0)):
        position, header = list(iter_headers(content[path]))[number]
        disk.flip_bit(path, position + header.size - 1)
    position, _ = list(iter_headers(content[second]))[1]
    disk.flip_bit(second, position + 5)
    disk.remove(third)
    disk.remove_tree(next(path.parent for path in disk.files() if path.parent.name.startswith(f"{fourth.stem}.")))
    disk.sync_dir(third.parent)
    return disk.kill()


@pytest.mark.parametrize("clean", [pytest.param(True, marks=pytest.mark.slow), False])
def test_a_repair_that_is_cut_short_anywhere_can_be_done_again(clean: bool) -> None:
    damaged = badly_damaged(clean)
    disk = copied(damaged)
    before = disk.steps_count
    plans = mend(disk)
    expected = content(disk)
    lost = sum(hole.next_offset - hole.offset for plan in plans for hole in plan.lost)
    assert lost == len(CONTENT_60[0]) - len(expected[0]) > 5
    for step in range(int(clean), disk.steps_count - before + 1, 3):
        rng = random.Random(step)
        disk = copied(damaged)
        disk.cut_power_after(step)
        with suppress(PowerCut):
            mend(disk)
        for survivor in (disk.kill(), disk.crash(rng)):
            if rng.random() < 0.5:
                Opened(survivor.kill()).store.log("flights", 0)  # somebody starts the server in between
            mend(survivor)
            assert content(survivor) == expected
            assert [finding for finding in verify(survivor).findings if finding.kind.severity is Severity.DAMAGE] == []
            store = Opened(survivor.crash(rng))
            assert store.append("flights", 0, b"afterwards") > max(CONTENT_60[0])
            store.settle()
            store.close()


CONTENT_60 = content(made(batches=60))


def one_partition(*, closes: bool) -> tuple[SimulatedDisk, list[tuple[int, int]]]:
    """A log of one segment, with the (position, size) of its batches. In the middle the server was stopped cleanly."""
    disk = SimulatedDisk()
    store = Opened(disk)
    store.store.create_topic("flights", 1, TopicConfig())
    for number in range(10):
        store.append("flights", 0, b"%d" % number, b"second")
        store.settle()
        if number == 4 and closes:
            store.close()
            store = Opened(disk)
    (path,) = logs(disk)
    return disk.kill(), [(position, header.size) for position, header in iter_headers(disk.files()[path])]


def test_a_hole_where_the_snapshot_ends_does_not_stop_the_next_start() -> None:
    disk, batches = one_partition(closes=True)
    position, size = batches[5]  # the first that the snapshot does not cover
    disk.flip_bit(logs(disk)[0], position + size - 1)

    mend(disk)

    store = Opened(disk)
    log = store.store.log("flights", 0)
    assert not log.holes
    assert sorted(readable(log)) == [*range(10), *range(12, 20)]
    assert store.append("flights", 0, b"afterwards") == 20


def test_what_was_synced_before_a_repair_counts_as_synced_after_it() -> None:
    disk, batches = one_partition(closes=False)
    position, size = batches[2]
    disk.flip_bit(logs(disk)[0], position + size - 1)
    mend(disk)
    behind = logs(disk)[-1]
    assert behind.name == files.log_path(Path(), 6).name

    disk.remove(behind.with_name(files.SNAPSHOT))  # which says so too
    disk.flip_bit(behind, len(disk.files()[behind]) - 1)

    assert [(finding.offset, finding.next_offset) for finding in verify(disk).of(Kind.RECORDS_LOST)] == [(18, 20)]


def test_the_damaged_bytes_are_kept_and_the_loss_is_noted() -> None:
    disk, batches = one_partition(closes=False)
    position, size = batches[2]
    path = logs(disk)[0]
    disk.flip_bit(path, position + size - 1)
    damaged = disk.files()[path][position : position + size]

    mend(disk)

    kept = [data for path, data in disk.files().items() if files.is_discarded(path.name)]
    assert kept == [damaged]
    assert read_loss(disk, path.parent, 0) == Loss(
        4, 6, "its CRC is wrong", REPAIRED_AT_MS, "00000000000000000000.log.discarded-1"
    )
    noted = verify(disk).of(Kind.LOSS_ACCEPTED)
    assert [(finding.offset, finding.next_offset) for finding in noted] == [(4, 6)]
    assert Opened(disk).store.log("flights", 0).open_read(4, 100).read() == (b"", 6)


def test_blocks_that_cannot_be_read_are_cut_out_with_the_batches_they_are_part_of() -> None:
    disk = SimulatedDisk()
    store = Opened(disk)
    store.store.create_topic("flights", 1, TopicConfig())
    for _ in range(10):
        store.append("flights", 0, b"x" * 3000)
        store.settle()
    disk = disk.kill()
    (path,) = logs(disk)
    disk.make_unreadable(path, 3 * PAGE_BYTES)
    (lost,) = verify(disk).of(Kind.RECORDS_LOST)
    assert "cannot be read" in lost.what

    mend(disk)

    assert verify(disk).worse_than_notes == []
    assert lost.offset is not None
    assert lost.next_offset is not None
    log = Opened(disk).store.log("flights", 0)
    assert sorted(readable(log)) == [*range(lost.offset), *range(lost.next_offset, 10)]


def test_a_second_hole_in_a_repaired_log_leaves_the_first_as_it_is() -> None:
    disk, batches = one_partition(closes=False)
    path = logs(disk)[0]
    for number in (6, 3):
        position, size = batches[number]
        disk.flip_bit(path, position + size - 1)
        mend(disk)
    noted = verify(disk).of(Kind.LOSS_ACCEPTED)
    assert [(finding.offset, finding.next_offset) for finding in noted] == [(6, 8), (12, 14)]
    assert verify(disk).worse_than_notes == []
    assert sorted(readable(Opened(disk).store.log("flights", 0))) == [*range(6), *range(8, 12), *range(14, 20)]


def test_the_note_of_a_loss_lets_a_lost_seal_be_made_again() -> None:
    disk, batches = one_partition(closes=False)
    path = logs(disk)[0]
    position, size = batches[3]
    disk.flip_bit(path, position + size - 1)
    mend(disk)
    disk.flip_bit(files.seal_path(path.parent, 0), 20)
    assert [finding.kind for finding in verify(disk).worse_than_notes] == [Kind.SEAL_WRONG]

    (plan,) = mend(disk)

    assert plan.lost == []
    assert verify(disk).worse_than_notes == []
    assert sorted(readable(Opened(disk).store.log("flights", 0))) == [*range(6), *range(8, 20)]


# The checkpoint.


def lose_checkpoint(disk: SimulatedDisk) -> None:
    disk.overwrite(DATA / CHECKPOINT, bytes(8192))


@pytest.mark.parametrize("disk", [SOUND, CRASHED])
def test_a_lost_checkpoint_is_made_anew_from_the_segments(disk: SimulatedDisk) -> None:
    disk = copied(disk)
    lose_checkpoint(disk)
    with pytest.raises(MetadataCorrupt):
        Opened(copied(disk))
    assert verify(disk).kinds == [Kind.CHECKPOINT_LOST]

    mend(disk)

    assert verify(disk).findings == []
    assert content(disk) == SOUND_CONTENT
    store = Opened(disk)
    assert store.append("flights", 0, b"afterwards") == max(SOUND_CONTENT[0]) + 1


def test_a_tail_without_a_checkpoint_is_told_and_cut_by_the_next_start() -> None:
    disk = copied(SOUND)
    lose_checkpoint(disk)
    path = logs(disk)[-1]
    disk.overwrite(path, disk.files()[path] + b"torn")
    assert verify(disk).kinds == [Kind.CHECKPOINT_LOST, Kind.TAIL_UNCERTAIN]

    mend(disk)

    assert verify(disk).kinds == [Kind.TORN_TAIL]
    assert content(disk) == SOUND_CONTENT
    Opened(disk).close()
    assert verify(disk.kill()).kinds == [Kind.SET_ASIDE]


def test_without_a_checkpoint_a_log_that_retention_has_emptied_goes_on_where_it_was() -> None:
    disk = SimulatedDisk()
    store = Opened(disk)
    store.store.create_topic("flights", 1, SMALL.with_changes({"retention.ms": "1000", "segment.ms": "1000"}))
    for _ in range(3):
        store.append("flights", 0, b"x" * 400)
        store.settle()
    store.append("flights", 0, b"x")
    store.settle()
    store.close()
    disk = disk.kill()
    for path in logs(disk):  # so that no file says where the log ends but the snapshot
        for name in disk.list_dir(path.parent):
            if files.belongs_to_segment(name, int(path.stem)):
                disk.remove_tree(path.parent / name)
        disk.sync_dir(path.parent)
    lose_checkpoint(disk)

    mend(disk)

    assert Opened(disk).append("flights", 0, b"afterwards") == 4


def test_nothing_is_made_anew_from_a_log_that_only_a_person_can_judge() -> None:
    disk = copied(SOUND)
    first, second = logs(disk)[:2]
    contents = disk.files()
    disk.overwrite(first, contents[second])
    disk.overwrite(second, contents[first])
    before = disk.files()

    plans = mend(disk)

    assert [len(plan.obstacles) > 0 for plan in plans] == [True, False]
    assert disk.files() == before


# Indexes and seals.


@pytest.mark.parametrize("harm", ["remove", "flip", "seal", "wrong seal", "snapshot"])
def test_an_index_a_seal_or_a_snapshot_is_made_anew(harm: str) -> None:
    disk = copied(SOUND)
    path = logs(disk)[1]
    seal = files.seal_path(path.parent, int(path.stem))
    array = next(path for path in disk.files() if path.parent.name.startswith(f"{seal.stem}."))
    match harm:
        case "remove":
            disk.remove_tree(array.parent)
        case "flip":
            disk.flip_bit(array, 33)
        case "seal":
            disk.flip_bit(seal, 33)
        case "snapshot":
            disk.flip_bit(path.with_name(files.SNAPSHOT), 33)
        case "wrong seal":
            disk.overwrite(seal, replace(read_seal(disk, seal), max_timestamp_ms=7).encode())
    assert verify(disk).worse_than_notes != []

    mend(disk)

    assert verify(disk).worse_than_notes == []
    with_times = verify(disk).findings
    assert [finding.kind for finding in with_times] == ([Kind.LEFTOVER] if harm == "seal" else [])
    assert content(disk) == SOUND_CONTENT


def test_append_times_that_are_known_stay_and_the_others_are_never_too_early() -> None:
    """Else retention would delete sooner than it may."""
    disk, batches = one_partition(closes=False)
    path = logs(disk)[0]
    known = [Opened(copied(disk)).store.log("flights", 0).append_time_ms(offset) for offset in range(20)]
    position, size = batches[3]
    disk.flip_bit(path, position + size - 1)

    mend(disk)

    log = Opened(disk).store.log("flights", 0)
    for offset in [*range(6), *range(8, 20)]:
        assert log.append_time_ms(offset) >= known[offset]


# Compacted logs.


@given(data=st.data())
def test_a_hole_in_a_compacted_segment_is_cut_out_like_any_other(data: st.DataObject) -> None:
    disk = copied(COMPACTED)
    path = data.draw(st.sampled_from(logs(disk)))
    batches = list(check_batches(disk.open(path).pread, 0, len(disk.files()[path]), None, gaps_allowed=True))
    position, header = data.draw(st.sampled_from(batches))
    disk.flip_bit(path, position + header.size - 1)
    (before,) = verify(disk).partitions

    mend(disk)

    verified = verify(disk)
    assert [finding for finding in verified.findings if finding.kind.severity is Severity.DAMAGE] == []
    (after,) = verified.partitions
    count = sum(report.records_count for report in after.reports.values())
    assert count == sum(report.records_count for report in before.reports.values())
    assert len(verified.of(Kind.LOSS_ACCEPTED)) == 1


def test_a_segment_whose_newer_file_is_lost_is_made_empty_beside_the_older_one_which_is_kept() -> None:
    """Compaction has written it anew, and the power went before the file from before was removed."""
    disk = copied(COMPACTED)
    path = logs(disk)[1]
    base = files.parse_segment_file(path.name)
    assert base is not None
    old = files.log_path(path.parent, base.base_offset)
    assert old != path
    disk.create(old).pwritev([b"older"], 0)
    disk.remove(path)
    disk.sync_dir(path.parent)
    damaged = copied(disk)
    before = disk.steps_count

    mend(disk)

    for step in range(0, disk.steps_count - before + 1, 2):
        survivor = copied(damaged)
        survivor.cut_power_after(step)
        with suppress(PowerCut):
            mend(survivor)
        survivor = survivor.kill()
        mend(survivor)
        assert [found for found in verify(survivor).findings if found.kind.severity is Severity.DAMAGE] == []
        assert len(verify(survivor).of(Kind.LOSS_ACCEPTED)) == 1
        opened = Opened(survivor)
        assert not opened.store.log("flights", 0).holes
        opened.settle()
        kept = [content for path, content in survivor.files().items() if files.is_discarded(path.name)]
        assert b"older" in kept
