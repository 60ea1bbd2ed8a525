"""Reads that come to open a file when compaction has replaced it and the minute that it was kept for is over."""

import pytest

from logstore.errors import OffsetOutOfRange
from logstore.handles import Handle
from logstore.segment import Segment
from tests.logstore.test_compactions import CompactedStore


def with_sealed_segments(seed: int = 1) -> CompactedStore:
    """A store that can be compacted, and has no file open that is sealed."""
    store = CompactedStore(seed)
    store.write(30)
    store.have_snapshot()
    store.opened.store._handles.close_idle()
    return store


def compact_and_remove_old_files(store: CompactedStore) -> None:
    before = {segment.path for segment in store.log._segments}
    assert store.compact()
    for path in before - {segment.path for segment in store.log._segments}:
        store.disk.remove(path)


def test_a_reader_is_told_that_its_segment_was_replaced() -> None:
    store = with_sealed_segments()
    offset = store.log.seals[1].base_offset
    with store.log.open_read(offset, 300) as reader:
        assert not store.log.has_replaced(reader)
        compact_and_remove_old_files(store)
        with pytest.raises(OffsetOutOfRange):
            reader.read()
        assert store.log.has_replaced(reader)
    assert list(store.read(offset)) != []


def test_a_look_up_by_time_goes_on_in_the_segment_that_has_taken_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    store = with_sealed_segments()
    acquire = Segment.acquire
    acquired = []

    def late(segment: Segment, *, wait: bool) -> Handle:
        acquired.append(segment)
        if len(acquired) == 1:
            compact_and_remove_old_files(store)
        return acquire(segment, wait=wait)

    monkeypatch.setattr(Segment, "acquire", late)
    found = store.log.offset_for_timestamp(0)
    assert found is not None
    assert found.offset == next(store.read()).offset
    assert acquired[0].generation == 0


def test_a_look_up_by_time_in_a_file_that_is_lost_is_refused() -> None:
    store = with_sealed_segments()
    store.disk.remove(store.log._segments[0].path)
    with pytest.raises(OffsetOutOfRange):
        store.log.offset_for_timestamp(0)
