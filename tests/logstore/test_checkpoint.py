"""The checkpoint: two slots, one of which always stands, and a room that is made before it is needed."""

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from struct import Struct
from uuid import UUID

import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from logstore.checkpoint import Checkpoint, PartitionCheckpoint, read_slots
from logstore.disk import PAGE_BYTES
from logstore.errors import FormatTooNew, MetadataCorrupt, StorageFull
from tests.logstore.disk import PowerCut, SimulatedDisk

PATH = Path("/data/checkpoint")
TOPIC = UUID(int=7)


def row(partition: int = 0, offset: int = 0, topic_id: UUID = TOPIC) -> PartitionCheckpoint:
    return PartitionCheckpoint(topic_id, partition, 0, offset, 0, offset * 100, 1000 + offset, 2000)


@pytest.fixture
def disk() -> SimulatedDisk:
    return new_disk()


def new_disk() -> SimulatedDisk:
    disk = SimulatedDisk()
    disk.make_dir(PATH.parent)
    Checkpoint.create(PATH, disk).close()
    return disk


def test_a_new_checkpoint_is_clean_and_empty(disk: SimulatedDisk) -> None:
    checkpoint = Checkpoint.load(PATH, disk)

    assert checkpoint.is_clean
    assert checkpoint.get(TOPIC, 0) is None


int64 = st.integers(-(2**63), 2**63 - 1)
rows = st.lists(
    st.builds(PartitionCheckpoint, st.uuids(), st.integers(0, 2**31 - 1), *[int64] * 6),
    max_size=20,
    unique_by=lambda row: (row.topic_id, row.partition),
)


@given(rows=rows, is_clean=st.booleans(), both=st.booleans())
def test_what_was_written_is_found(rows: list[PartitionCheckpoint], is_clean: bool, both: bool) -> None:
    disk = new_disk()
    checkpoint = Checkpoint.load(PATH, disk)
    checkpoint.reserve(len(rows))
    checkpoint.update(rows)
    checkpoint.write(clean=is_clean, both=both)

    found = Checkpoint.load(PATH, disk.crash(random.Random(0)))

    assert found.is_clean == is_clean
    assert [found.get(row.topic_id, row.partition) for row in rows] == rows


@pytest.mark.parametrize(
    "drop", [lambda checkpoint: checkpoint.forget(TOPIC), lambda checkpoint: checkpoint.keep_only({UUID(int=8)})]
)
def test_rows_of_a_topic_that_is_gone_are_dropped(disk: SimulatedDisk, drop: Callable[[Checkpoint], None]) -> None:
    checkpoint = Checkpoint.load(PATH, disk)
    other = UUID(int=8)
    checkpoint.update([row(0, 5), row(1, 5), row(0, 5, other)])
    drop(checkpoint)
    checkpoint.write()

    found = Checkpoint.load(PATH, disk.kill())

    assert found.get(TOPIC, 0) is found.get(TOPIC, 1) is None
    assert found.get(other, 0) == row(0, 5, other)


def test_slots_are_written_in_turn_and_the_newer_one_counts(disk: SimulatedDisk) -> None:
    checkpoint = Checkpoint.load(PATH, disk)
    for offset in range(1, 6):
        checkpoint.update([row(0, offset)])
        before = disk.files()[PATH]
        checkpoint.write()
        after = disk.files()[PATH]
        changed = {n // PAGE_BYTES for n in range(len(after)) if before[n] != after[n]}
        assert changed == {offset % 2}
        assert Checkpoint.load(PATH, disk.kill()).get(TOPIC, 0) == row(0, offset)


def test_a_power_cut_in_any_step_leaves_the_last_synced_rows_or_newer_ones() -> None:
    for seed in range(150):
        rng = random.Random(seed)
        disk = new_disk()
        checkpoint = Checkpoint.load(PATH, disk)
        disk.cut_power_after(rng.randrange(30))
        partitions = 1
        written = attempted = [row(0, 0)]
        try:
            for offset in range(1, 12):
                partitions += rng.choice([0, 0, 40])  # grows over a page now and then
                attempted = [row(partition, offset) for partition in range(partitions)]
                checkpoint.reserve(partitions)
                checkpoint.update(attempted)
                checkpoint.write(both=rng.random() < 0.3)
                written = attempted
        except PowerCut:
            pass

        found = Checkpoint.load(PATH, disk.crash(rng))

        first = found.get(TOPIC, 0) or row(0, 0)
        assert written[0].recovery_offset <= first.recovery_offset <= attempted[0].recovery_offset, f"seed {seed}"


def test_a_clean_mark_does_not_come_back_once_both_slots_say_otherwise(disk: SimulatedDisk) -> None:
    checkpoint = Checkpoint.load(PATH, disk)
    checkpoint.write(clean=True)
    checkpoint.write(both=True)

    for slot in (0, 1):
        rotten = SimulatedDisk()
        rotten.make_dir(PATH.parent)
        rotten.overwrite(PATH, disk.files()[PATH])
        rotten.flip_bit(PATH, slot * PAGE_BYTES + 9)
        assert not Checkpoint.load(PATH, rotten).is_clean


def damaged_slots(data: bytes) -> Iterator[bytes]:
    for position in (*range(29), 40, 95):
        changed = bytearray(data)
        changed[position] ^= 0x10
        yield bytes(changed)


def test_a_damaged_slot_leaves_the_other_and_is_the_next_to_be_written(disk: SimulatedDisk) -> None:
    checkpoint = Checkpoint.load(PATH, disk)
    for offset in (1, 2):
        checkpoint.update([row(0, offset)])
        checkpoint.write()
    data = disk.files()[PATH]
    generations = [data[slot + 8 : slot + 16] for slot in (0, PAGE_BYTES)]
    newest = generations.index(max(generations)) * PAGE_BYTES
    for damaged in damaged_slots(data[newest : newest + PAGE_BYTES]):
        disk = new_disk()
        disk.overwrite(PATH, data[:newest] + damaged + data[newest + PAGE_BYTES :])
        found = Checkpoint.load(PATH, disk)
        assert found.get(TOPIC, 0) == row(0, 1)

        found.update([row(0, 3)])
        found.write()
        assert Checkpoint.load(PATH, disk.kill()).get(TOPIC, 0) == row(0, 3)
        # The slot that held when the other was lost was not the one to be overwritten.
        disk.overwrite(
            PATH, disk.files()[PATH][:newest] + bytes(PAGE_BYTES) + disk.files()[PATH][newest + PAGE_BYTES :]
        )
        assert Checkpoint.load(PATH, disk.kill()).get(TOPIC, 0) == row(0, 1)


@pytest.mark.parametrize("data", [b"", b"\0" * 2 * PAGE_BYTES, b"TRcp" * 3000, b"TRcp\0\1"])
def test_without_a_whole_slot_it_is_refused(disk: SimulatedDisk, data: bytes) -> None:
    disk.overwrite(PATH, data)
    with pytest.raises(MetadataCorrupt, match="neither of its two slots is whole"):
        Checkpoint.load(PATH, disk)


@given(data=st.binary(max_size=300))
@settings(max_examples=200)
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    disk = new_disk()
    for content in (data, b"TRcp" + data):
        disk.overwrite(PATH, content)
        with pytest.raises(MetadataCorrupt):
            Checkpoint.load(PATH, disk)


def test_a_missing_checkpoint_is_not_an_empty_one() -> None:
    disk = SimulatedDisk()
    disk.make_dir(PATH.parent)
    with pytest.raises(MetadataCorrupt, match="it is not there"):
        Checkpoint.load(PATH, disk)


def test_a_file_that_lost_its_second_half_is_read_and_made_whole(disk: SimulatedDisk) -> None:
    checkpoint = Checkpoint.load(PATH, disk)
    checkpoint.update([row(0, 1)])
    checkpoint.write(both=True)
    whole = disk.files()[PATH]
    disk.overwrite(PATH, whole[:PAGE_BYTES])

    assert Checkpoint.load(PATH, disk).get(TOPIC, 0) == row(0, 1)
    assert len(disk.files()[PATH]) == len(whole)


def test_a_slot_of_a_newer_format_is_refused_as_such(disk: SimulatedDisk) -> None:
    data = bytearray(disk.files()[PATH])
    for slot in (0, PAGE_BYTES):
        Struct(">H").pack_into(data, slot + 4, 2)
        head = bytes(data[slot : slot + 24])
        Struct(">I").pack_into(data, slot + 24, crc32c(head))
    disk.overwrite(PATH, bytes(data))

    with pytest.raises(FormatTooNew, match="format version 2"):
        Checkpoint.load(PATH, disk)


def test_a_full_disk_is_met_by_reserving_and_never_by_writing(disk: SimulatedDisk) -> None:
    checkpoint = Checkpoint.load(PATH, disk)
    checkpoint.update([row(0, 1)])
    disk.capacity_bytes = 2 * PAGE_BYTES

    checkpoint.reserve(59)
    with pytest.raises(StorageFull):
        checkpoint.reserve(60)
    checkpoint.write()

    assert Checkpoint.load(PATH, disk.kill()).get(TOPIC, 0) == row(0, 1)


def test_a_checkpoint_that_was_lost_is_written_anew_with_all_rows_and_is_not_clean(disk: SimulatedDisk) -> None:
    disk.overwrite(PATH, b"lost")
    rows = [row(partition, 5 * partition) for partition in range(100)]  # more than a page has room for

    Checkpoint.recreate(PATH, disk, rows)

    found = Checkpoint.load(PATH, disk.crash(random.Random(0)))
    assert not found.is_clean
    assert [found.get(TOPIC, partition) for partition in range(100)] == rows


def test_reading_the_slots_changes_nothing_whatever_is_wrong_with_them(disk: SimulatedDisk) -> None:
    whole = disk.read_file(PATH, 1 << 20)
    for data in (whole, whole[:100], whole + bytes(4096), bytes(len(whole)), b"TRcp" + whole[4:]):
        disk.overwrite(PATH, data)
        before = disk.steps_count
        slots, size = read_slots(PATH, disk)
        assert size == len(data)
        assert len(slots) == 2
        assert disk.steps_count == before
        assert disk.read_file(PATH, 1 << 20) == data


@pytest.mark.parametrize("content", [None, b"lost", bytes(8192)])
def test_who_has_lost_the_checkpoint_is_told_what_makes_it_anew(disk: SimulatedDisk, content: bytes | None) -> None:
    if content is None:
        disk.remove(PATH)
    else:
        disk.overwrite(PATH, content)
    with pytest.raises(MetadataCorrupt) as raised:
        Checkpoint.load(PATH, disk)
    assert "logctl segments repair" in raised.value.remedy
