"""A walk finds every sound batch of a damaged log file, takes nothing else for one, and says what is between them."""

import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore import walk
from logstore.batch import Record, crc_matches, encode_batch, read_header
from logstore.disk import PAGE_BYTES, DiskFile
from logstore.walk import UNCOVERED_SIZE, Damage, Searching, SoundBatch, Walk, prefix_of
from tests.logstore.disk import SimulatedDisk

PATH = Path("/00000000000000000000.log")
BASE = 4711


class Written(NamedTuple):
    position: int
    end_position: int
    offset: int
    next_offset: int


class LogFile:
    """A log file as it was written, and then as it is found."""

    def __init__(self, *sizes: int, records_count: int = 2, seed: int = 1) -> None:
        rng = random.Random(seed)
        self.batches: list[Written] = []
        self.data = bytearray()
        offset = BASE
        for size in sizes or (20, 300, 80, 5000, 40):
            records = [Record(0, 1000 + offset, None, rng.randbytes(size)) for _ in range(records_count)]
            batch = encode_batch(records, base_offset=offset, leader_epoch=3)
            at = len(self.data)
            self.data += batch
            self.batches.append(Written(at, at + len(batch), offset, offset + records_count))
            offset += records_count
        self.written = bytes(self.data)

    @property
    def next_offset(self) -> int:
        return self.batches[-1].next_offset

    def flip(self, position: int, bit: int = 0) -> None:
        self.data[position] ^= 1 << bit

    def walk(
        self,
        *,
        offset_end: int | None = None,
        is_indexed: walk.IsIndexed = lambda position, next_offset: False,
        unreadable_at: int | None = None,
    ) -> list[SoundBatch | Damage]:
        disk = SimulatedDisk()
        disk.overwrite(PATH, bytes(self.data))
        if unreadable_at is not None:
            disk.make_unreadable(PATH, unreadable_at)
        items = Walk(
            disk.open(PATH), end=len(self.data), expected_offset=BASE, offset_end=offset_end, is_indexed=is_indexed
        )
        found = [item for item in items if not isinstance(item, Searching)]
        assert_no_byte_is_left_out(found, len(self.data))
        return found


def assert_no_byte_is_left_out(items: list[SoundBatch | Damage], end: int) -> None:
    position = 0
    for item in items:
        assert item.position == position
        position = item.end_position
    assert position == end


def sound(items: list[SoundBatch | Damage]) -> list[Written]:
    return [
        Written(item.position, item.end_position, item.header.base_offset, item.header.next_offset)
        for item in items
        if isinstance(item, SoundBatch)
    ]


def damages(items: list[SoundBatch | Damage]) -> list[Damage]:
    return [item for item in items if isinstance(item, Damage)]


def only(items: list[SoundBatch | Damage]) -> Damage:
    (damage,) = damages(items)
    return damage


def test_a_sound_file_is_its_batches() -> None:
    file = LogFile()
    assert sound(file.walk()) == file.batches
    assert damages(file.walk()) == []


def test_a_file_without_bytes_has_neither_batches_nor_damage() -> None:
    file = LogFile()
    file.data.clear()
    assert file.walk() == []


@pytest.mark.parametrize("number", range(5))
def test_a_batch_whose_content_is_damaged_is_lost_and_no_other(number: int) -> None:
    file = LogFile()
    lost = file.batches[number]
    file.flip(lost.end_position - 3)

    items = file.walk()

    assert sound(items) == [batch for batch in file.batches if batch != lost]
    damage = only(items)
    assert damage[:3] == (lost.position, lost.end_position, lost.offset)
    assert damage.next_offset == (lost.next_offset if number < 4 else None)  # behind the last there is nobody to say
    assert damage.header is not None
    assert damage.header.records_count == 2
    assert "CRC" in damage.why


@given(number=st.integers(0, 4), position=st.integers(0, 10_000), bit=st.integers(0, 7), has_end=st.booleans())
def test_one_flipped_bit_costs_one_batch_at_most(number: int, position: int, bit: int, has_end: bool) -> None:
    file = LogFile()
    batch = file.batches[number]
    at = position % (batch.end_position - batch.position)
    file.flip(batch.position + at, bit)

    items = file.walk(offset_end=file.next_offset if has_end else None)

    assert set(sound(items)) >= set(file.batches) - {batch}
    if 12 <= at < 16:
        assert damages(items) == []  # the leader epoch: only who knows the epochs can tell
        return
    damage = only(items)
    assert (damage.position, damage.end_position, damage.offset) == (batch.position, batch.end_position, batch.offset)
    if at < UNCOVERED_SIZE:
        assert damage.mended is not None
        assert prefix_of(damage.mended) == file.written[batch.position : batch.position + UNCOVERED_SIZE]
    else:
        assert damage.mended is None
    if at < UNCOVERED_SIZE or number < 4:
        assert damage.next_offset == batch.next_offset


@given(st.data())
def test_whatever_is_damaged_nothing_is_taken_for_a_batch_that_is_none(data: st.DataObject) -> None:
    file = LogFile(*data.draw(st.lists(st.integers(1, 600), min_size=1, max_size=8)), seed=data.draw(st.integers(0, 9)))
    touched: set[int] = set()
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(file.data) - 1))
        size = data.draw(st.integers(1, 700))
        harm = data.draw(st.sampled_from(["flip", "zero", "noise"]))
        stop = min(start + size, len(file.data)) if harm != "flip" else start + 1
        if harm == "flip":
            file.flip(start, data.draw(st.integers(0, 7)))
        elif harm == "zero":
            file.data[start:stop] = bytes(stop - start)
        else:
            file.data[start:stop] = random.Random(start).randbytes(stop - start)
        touched.update(range(start, stop))

    items = file.walk(
        offset_end=file.next_offset,
        is_indexed=lambda position, next_offset: (position, next_offset) in starts(file),
    )

    found = set(sound(items))
    assert found <= set(file.batches)
    whole = {batch for batch in file.batches if touched.isdisjoint(range(batch.position, batch.end_position))}
    assert found >= whole
    for damage in damages(items):
        if damage.mended is not None:
            start, end = damage.position, damage.end_position
            assert prefix_of(damage.mended) + file.data[start + UNCOVERED_SIZE : end] == file.written[start:end]


def starts(file: LogFile) -> set[tuple[int, int]]:
    return {(batch.position, batch.next_offset) for batch in file.batches}


@pytest.mark.parametrize("cut", [1, 30, 60, 61, 100])
def test_a_torn_last_batch_is_damage_up_to_the_end(cut: int) -> None:
    file = LogFile()
    last = file.batches[-1]
    del file.data[last.position + cut :]

    items = file.walk()

    assert sound(items) == file.batches[:-1]
    assert only(items)[:4] == (last.position, last.position + cut, last.offset, None)


def test_zeros_are_called_zeros() -> None:
    file = LogFile()
    file.data += bytes(3 * PAGE_BYTES)
    assert only(file.walk()).why == "there are zeros instead of a batch"


def test_bytes_that_were_put_in_between_lose_no_offset() -> None:
    file = LogFile()
    third = file.batches[2].position
    file.data[third:third] = b"\x02" * 100

    damage = only(file.walk())

    assert (damage.position, damage.end_position) == (third, third + 100)
    assert damage.offset == damage.next_offset == file.batches[2].offset


def test_bytes_that_were_taken_out_lose_their_offsets() -> None:
    file = LogFile()
    second, third = file.batches[1:3]
    del file.data[second.position : second.end_position]

    damage = only(file.walk())

    assert damage[:4] == (second.position, second.position, second.offset, third.offset)


def test_a_copy_of_a_batch_inside_a_damaged_record_is_not_taken_for_one() -> None:
    inner = encode_batch([Record(0, 1, None, b"the value of a record")], base_offset=BASE + 4, leader_epoch=3)
    outer = encode_batch([Record(0, 1, None, inner)], base_offset=BASE + 1, leader_epoch=3)
    file = LogFile(20, records_count=1)
    following = encode_batch([Record(0, 1, None, b"next")], base_offset=BASE + 2, leader_epoch=3)
    start = len(file.data)
    file.data += outer + following
    file.data[start : start + 40] = b"\xff" * 40

    items = file.walk()

    assert [batch.offset for batch in sound(items)] == [BASE, BASE + 2]


def test_a_batch_between_two_damages_needs_the_index_to_confirm_it() -> None:
    file = LogFile()
    for number in (1, 3):
        start = file.batches[number].position
        file.data[start : start + 50] = b"\xff" * 50

    assert sound(file.walk()) == [file.batches[0], file.batches[4]]

    indexed = file.walk(is_indexed=lambda position, next_offset: (position, next_offset) in starts(file))
    assert sound(indexed) == [file.batches[0], file.batches[2], file.batches[4]]


def test_the_file_of_another_segment_is_seen_as_such() -> None:
    file = LogFile()
    moved = Walk(
        opened(file.data), end=len(file.data), expected_offset=BASE + 500, offset_end=BASE + 500 + len(file.batches) * 2
    )
    first, *others = moved
    assert isinstance(first, Damage)
    assert first[:5] == (0, 0, BASE + 500, BASE, f"offset {BASE} is here where {BASE + 500} must follow")
    assert all(isinstance(item, SoundBatch) for item in others)


def test_a_block_that_cannot_be_read_is_damage_and_the_batches_around_it_are_not() -> None:
    file = LogFile(*[900] * 20)
    page = 3 * PAGE_BYTES

    items = file.walk(unreadable_at=page)

    damage = [item for item in damages(items) if item.is_unreadable]
    assert damage
    assert "cannot be read" in damage[0].why
    whole = [each for each in file.batches if each.end_position <= page or each.position >= page + PAGE_BYTES]
    assert set(sound(items)) >= set(whole)


def test_a_batch_is_not_sound_because_what_cannot_be_read_would_be_zeros() -> None:
    file = LogFile(20)
    zeros = encode_batch([Record(0, 1, None, bytes(3 * PAGE_BYTES))], base_offset=file.next_offset, leader_epoch=3)
    following = encode_batch([Record(0, 1, None, b"x")], base_offset=file.next_offset + 1, leader_epoch=3)
    file.data += zeros
    for more in (b"", following):
        file.data += more
        damage = only(file.walk(unreadable_at=2 * PAGE_BYTES))
        assert damage.is_unreadable
        assert damage.end_position == len(file.data) - len(more)


@pytest.mark.parametrize("harm", [lambda file: None, lambda file: file.flip(file.batches[2].end_position - 1)])
def test_batches_larger_than_the_window_are_checked_all_the_same(
    monkeypatch: pytest.MonkeyPatch, harm: Callable[[LogFile], None]
) -> None:
    monkeypatch.setattr(walk, "WINDOW_BYTES", 256)
    file = LogFile(10, 200, 1000, 10, 700)
    harm(file)
    found = sound(file.walk())
    assert found == [batch for batch in file.batches if file.data == file.written or batch != file.batches[2]]


def test_a_search_says_how_far_it_is_every_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "WINDOW_BYTES", 4096)
    file = LogFile()
    file.data += b"\x02" * 40_000
    places = [
        item.position
        for item in Walk(opened(file.data), end=len(file.data), expected_offset=BASE)
        if isinstance(item, Searching)
    ]
    assert len(places) > 8
    assert all(after - before <= 4096 for before, after in pairwise(places))


def opened(data: bytes | bytearray) -> DiskFile:
    disk = SimulatedDisk()
    disk.overwrite(PATH, bytes(data))
    return disk.open(PATH)


def test_the_prefix_is_what_the_crc_leaves_out() -> None:
    file = LogFile()
    header = read_header(file.data, 0)
    assert prefix_of(header) == file.written[:UNCOVERED_SIZE]
    file.data[:UNCOVERED_SIZE] = bytes(UNCOVERED_SIZE)
    assert crc_matches(file.data, 0, header.size)
