"""The index against a search through all of its rows."""

import random
from array import array
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore import files
from logstore.disk import ARRAY_DATA, Cells
from logstore.errors import StorageFull
from logstore.index import (
    COLUMNS,
    ROW_BYTES,
    ActiveIndex,
    IndexBuilder,
    IndexRow,
    IndexTail,
    RowTable,
    StoredRows,
    open_sealed,
    read_active,
    read_rows,
    read_stored,
    rows_crc,
)
from tests.logstore.disk import SimulatedDisk

PATH = Path("/00.index")

steps = st.tuples(st.integers(1, 5), st.integers(1, 500), st.integers(0, 3), st.integers(0, 3))


def rows_from(growth: list[tuple[int, int, int, int]]) -> list[IndexRow]:
    rows: list[IndexRow] = []
    for step in growth:
        before = rows[-1] if rows else IndexRow(0, -1, 0, 0)
        rows.append(IndexRow(*(a + b for a, b in zip(before, step, strict=True))))
    return rows


def cells_of(rows: list[IndexRow]) -> "array[int]":
    return array("q", [cell for row in rows for cell in row])


@given(st.lists(steps, max_size=40), st.integers(0, 220))
def test_both_kinds_of_rows_find_what_a_search_through_all_finds(
    growth: list[tuple[int, int, int, int]], wanted: int
) -> None:
    rows = rows_from(growth)
    cells = cells_of(rows)
    for table in (RowTable(cells), RowTable(cast(Cells, memoryview(cells)))):
        ends_before = [row for row in rows if row.relative_next_offset <= wanted + 1]
        assert table.for_offset(wanted) == (ends_before[-1] if ends_before else None)
        smaller = [row for row in rows if row.max_timestamp_ms < wanted]
        assert table.for_timestamp(wanted) == (smaller[-1] if smaller else None)
        ends_after = [row for row in rows if row.relative_next_offset > wanted]
        assert table.covering(wanted) == (ends_after[0] if ends_after else None)


@given(st.lists(st.lists(steps, max_size=5), max_size=8), st.data())
def test_rows_are_the_same_whether_they_are_in_memory_or_stored(
    growths: list[list[tuple[int, int, int, int]]], data: st.DataObject
) -> None:
    disk = SimulatedDisk()
    index = ActiveIndex(disk, PATH)
    rows = rows_from([step for growth in growths for step in growth])
    remaining = iter(rows)
    counts: list[StoredRows] = []
    for growth in growths:
        for _ in growth:
            index.append(*next(remaining))
        if data.draw(st.booleans()):
            counts.append(index.store())
        owner_hears_of_it = data.draw(st.booleans())  # or later, perhaps after another store
        if counts and owner_hears_of_it:
            index.mark_stored(counts.pop(0))
        known = index.count
        assert all_cells(index) == cells_of(rows[:known])
        assert index.in_memory().count <= known
    index.store()
    assert disk.read_array(PATH) == cells_of(rows).tobytes() if rows else not disk.exists(PATH)
    reopened = ActiveIndex(disk, PATH, stored=index.store())
    assert all_cells(reopened) == cells_of(rows)


def all_cells(index: ActiveIndex) -> Cells:
    table = index.all_rows()
    assert table is not None
    return table.cells


def test_an_array_that_is_not_what_was_stored_has_no_rows() -> None:
    rows = rows_from([(2, 100, 1, 5)] * 3)
    disk = SimulatedDisk()
    index = ActiveIndex(disk, PATH)
    for row in rows:
        index.append(*row)
    index.mark_stored(index.store())
    for position in range(3 * ROW_BYTES):
        disk.flip_bit(PATH / ARRAY_DATA, position, position % 8)
        assert index.all_rows() is None
        disk.flip_bit(PATH / ARRAY_DATA, position, position % 8)
    assert all_cells(index) == cells_of(rows)
    disk.overwrite(PATH / ARRAY_DATA, disk.read_array(PATH)[:-1])
    assert index.all_rows() is None
    disk.remove_tree(PATH)
    assert index.all_rows() is None


def test_rows_behind_those_that_the_snapshot_speaks_of_are_not_used() -> None:
    rows = rows_from([(2, 100, 1, 5)] * 3)
    disk = SimulatedDisk()
    path = files.active_index_path(PATH.parent, 7)
    index = ActiveIndex(disk, path)
    index.append(*rows[0])
    tail = IndexTail(7, cells_of(rows[1:2]), index.store())
    for row in rows[1:]:
        index.append(*row)
    index.store()
    assert read_active(disk, PATH.parent, 7, tail).all == cells_of(rows[:2])
    assert not read_active(disk, PATH.parent, 8, tail).all
    assert not read_active(disk, PATH.parent, 7, None).all


def test_a_snapshot_of_version_1_leaves_an_array_to_its_growing_columns() -> None:
    rows = rows_from([(2, 100, 1, 5)] * 4)
    disk = SimulatedDisk()
    path = files.active_index_path(PATH.parent, 7)
    disk.write_array(path, cells_of(rows[:2]), columns=COLUMNS)
    tail = IndexTail(7, cells_of(rows[1:]), None)
    assert read_active(disk, PATH.parent, 7, tail) == (cells_of(rows[:2]), cells_of(rows[2:]), None)
    assert read_active(disk, PATH.parent, 7, IndexTail(0, cells_of([]), None)).all == cells_of(rows[:2])


def test_what_was_stored_and_synced_survives_a_power_cut_with_its_name() -> None:
    rows = rows_from([(2, 100, 1, 5)] * 6)
    for seed in range(10):
        disk = SimulatedDisk()
        disk.make_dir(PATH.parent)
        index = ActiveIndex(disk, PATH)
        for half in (rows[:3], rows[3:]):
            for row in half:
                index.append(*row)
            stored = index.store()
            index.sync()
            assert read_stored(disk.crash(random.Random(seed)), PATH, stored) == cells_of(rows[: stored.rows_count])


@pytest.mark.parametrize("stored", [0, 2])
@pytest.mark.parametrize("room", [0, 1, ROW_BYTES, ROW_BYTES + 5, 2 * ROW_BYTES])
def test_rows_of_which_a_full_disk_took_a_part_are_whole_once_there_is_room(stored: int, room: int) -> None:
    disk = SimulatedDisk()
    index = ActiveIndex(disk, PATH)
    rows = rows_from([(2, 100, 1, 1)] * 5)
    for row in rows[:stored]:
        index.append(*row)
    index.mark_stored(index.store())
    for row in rows[stored:]:
        index.append(*row)
    disk.capacity_bytes = disk.used_bytes + room
    with pytest.raises(StorageFull):
        index.store()
    assert all_cells(index) == cells_of(rows)
    disk.capacity_bytes = None

    after = index.store()

    assert after.rows_count == 5
    assert disk.read_array(PATH) == cells_of(rows).tobytes()
    index.mark_stored(after)
    assert all_cells(index) == cells_of(rows)


@pytest.mark.parametrize("cut", range(0, 3 * ROW_BYTES, 5))
def test_a_cut_array_has_the_rows_that_are_whole(cut: int) -> None:
    disk = SimulatedDisk()
    rows = rows_from([(2, 100, 1, 1)] * 3)
    disk.write_array(PATH, cells_of(rows), columns=COLUMNS)
    disk.overwrite(PATH / ARRAY_DATA, disk.read_array(PATH)[:cut])
    cells, is_whole = read_rows(disk, PATH)
    assert cells == cells_of(rows[: cut // ROW_BYTES])
    assert is_whole == (cut % ROW_BYTES == 0)


@pytest.mark.parametrize("column", range(COLUMNS))
def test_an_array_ends_where_a_column_stops_growing(column: int) -> None:
    rows = rows_from([(2, 100, 1, 1)] * 5)
    broken = list(rows[3])
    broken[column] = 0 if column != 1 else -5
    disk = SimulatedDisk()
    disk.write_array(PATH, cells_of([*rows[:3], IndexRow(*broken), rows[4]]), columns=COLUMNS)
    cells, is_whole = read_rows(disk, PATH)
    assert cells == cells_of(rows[:3])
    assert not is_whole


def test_unused_rows_at_the_end_are_not_rows() -> None:
    rows = rows_from([(2, 100, 1, 1)] * 2)
    disk = SimulatedDisk()
    disk.write_array(PATH, cells_of([*rows, IndexRow(0, 0, 0, 0)]), columns=COLUMNS)
    assert read_rows(disk, PATH)[0] == cells_of(rows)


def test_a_sealed_array_opens_only_as_the_seal_describes_it() -> None:
    disk = SimulatedDisk()
    cells = cells_of(rows_from([(2, 100, 1, 1)] * 4))
    disk.write_array(PATH, cells, columns=COLUMNS)
    crc = rows_crc(cells)
    assert open_sealed(disk, PATH, rows_count=4, crc=crc) is not None
    assert open_sealed(disk, PATH, rows_count=3, crc=crc) is None
    assert open_sealed(disk, PATH, rows_count=4, crc=crc ^ 1) is None
    for position in range(4 * ROW_BYTES):
        disk.flip_bit(PATH / ARRAY_DATA, position, position % 8)
        assert open_sealed(disk, PATH, rows_count=4, crc=crc) is None
        disk.flip_bit(PATH / ARRAY_DATA, position, position % 8)
    disk.remove_tree(PATH)
    assert open_sealed(disk, PATH, rows_count=4, crc=crc) is None


@given(st.lists(st.integers(1, 9000), min_size=1), st.integers(0, 10_000))
def test_rows_are_about_as_far_apart_as_the_interval_says(sizes: list[int], interval_bytes: int) -> None:
    builder = IndexBuilder(interval_bytes)
    positions, position = [], 0
    for size in sizes:
        if builder.is_due(size):
            positions.append(position)
        position += size
    assert positions[0] == 0
    for before, after in zip(positions, [*positions[1:], position], strict=True):
        if after != position:
            assert after - before >= interval_bytes
        assert after - before < interval_bytes + max(sizes) + (interval_bytes == 0)
