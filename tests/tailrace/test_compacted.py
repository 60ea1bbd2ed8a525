"""Reading a log of which compaction has taken records out: in a batch, at its end, between batches, and at the end."""

import pytest

from logstore.batch import Record, encode_batch
from tailrace import Consumer, TopicPartition, aio
from tests.tailrace.fake_server import FakeServer

P0 = ("flights", 0)
GONE = {1, 3, 4, 5, 6, 7, 8, 11, 12, 13, 14, 15}
LEFT = [0, 2, 9, 10]
END = 16


def append(server: FakeServer, first: int) -> None:
    records = [Record(0, 1000 * offset, b"k%d" % offset, b"v%d" % offset) for offset in range(first, first + 4)]
    assert server.append("flights", 0, encode_batch(records)) == first


@pytest.fixture
def compacted(server: FakeServer) -> FakeServer:
    """Batches of four offsets each: of the first and the third, records are left, of the second and the last none."""
    for first in range(0, END, 4):
        append(server, first)
    server.compact("flights", 0, GONE)
    return server


def reader(server: FakeServer, **settings: object) -> Consumer:
    settings = {"partitions": [0], "stop_at_end": True, "server": server.address} | settings
    return Consumer("flights", **settings)  # type: ignore[arg-type]


def aio_reader(server: FakeServer, **settings: object) -> aio.Consumer:
    settings = {"partitions": [0], "stop_at_end": True, "server": server.address} | settings
    return aio.Consumer("flights", **settings)  # type: ignore[arg-type]


def test_records_have_the_offsets_they_always_had_and_the_end_is_reached(compacted: FakeServer) -> None:
    with reader(compacted) as consumer:
        read = [(record.offset, record.key, record.value, record.timestamp_ms) for record in consumer]
        assert consumer.position(*P0) == END
    assert read == [(offset, b"k%d" % offset, b"v%d" % offset, 1000 * offset) for offset in LEFT]


async def test_aio_records_have_the_offsets_they_always_had_and_the_end_is_reached(compacted: FakeServer) -> None:
    async with aio_reader(compacted) as consumer:
        read = [(record.offset, record.key, record.value, record.timestamp_ms) async for record in consumer]
        assert await consumer.position(*P0) == END
    assert read == [(offset, b"k%d" % offset, b"v%d" % offset, 1000 * offset) for offset in LEFT]


@pytest.mark.parametrize("answer_bytes_max", [1, 1 << 20])
def test_the_columns_of_a_batch_stand_in_line_with_its_offsets(compacted: FakeServer, answer_bytes_max: int) -> None:
    compacted.answer_bytes_max = answer_bytes_max
    with reader(compacted) as consumer:
        batches = list(consumer.batches())
    assert [(list(batch.offsets), batch.next_offset) for batch in batches] == [([0, 2], 4), ([9, 10], 12)]
    assert [batch.keys for batch in batches] == [[b"k0", b"k2"], [b"k9", b"k10"]]
    assert [len(batch) for batch in batches] == [2, 2]


async def test_aio_the_columns_of_a_batch_stand_in_line_with_its_offsets(compacted: FakeServer) -> None:
    async with aio_reader(compacted) as consumer:
        batches = [batch async for batch in consumer.batches()]
    assert [(list(batch.offsets), batch.next_offset) for batch in batches] == [([0, 2], 4), ([9, 10], 12)]
    assert [batch.keys for batch in batches] == [[b"k0", b"k2"], [b"k9", b"k10"]]


@pytest.mark.parametrize("start", range(END + 1))
def test_reading_may_start_in_a_gap(compacted: FakeServer, start: int) -> None:
    with reader(compacted, start=start) as consumer:
        assert [record.offset for record in consumer] == [offset for offset in LEFT if offset >= start]
        assert consumer.position(*P0) == END


def test_a_seek_may_go_into_a_gap(compacted: FakeServer) -> None:
    with reader(compacted) as consumer:
        for target, expected in ((1, 2), (3, 9), (8, 9), (10, 10)):
            consumer.seek(*P0, offset=target)
            assert consumer.position(*P0) == target
            record = consumer.poll(10)
            assert record is not None
            assert record.offset == expected
        consumer.seek(*P0, offset=11)
        assert consumer.poll(10) is None
        assert consumer.position(*P0) == END


async def test_aio_a_seek_may_go_into_a_gap(compacted: FakeServer) -> None:
    async with aio_reader(compacted) as consumer:
        for target, expected in ((1, 2), (3, 9), (8, 9), (10, 10)):
            await consumer.seek(*P0, offset=target)
            record = await consumer.poll(10)
            assert record is not None
            assert record.offset == expected
        await consumer.seek(*P0, offset=11)
        assert await consumer.poll(10) is None
        assert await consumer.position(*P0) == END


def test_ways_of_reading_can_be_mixed_within_a_batch_with_gaps(compacted: FakeServer) -> None:
    with reader(compacted) as consumer:
        record = consumer.poll(10)
        assert record is not None
        assert (record.offset, consumer.position(*P0)) == (0, 1)
        assert list(next(consumer.batches()).offsets) == [2]
        assert consumer.position(*P0) == 4
        assert [record.offset for record in consumer] == [9, 10]


def test_after_the_last_record_of_a_batch_the_gap_behind_it_is_read_too(compacted: FakeServer) -> None:
    with reader(compacted, group="g", auto_commit=False) as consumer:
        for record in consumer:
            if record.offset == 9:
                before = record
                assert consumer.commit()
                assert compacted.committed == {P0: 10}
            elif record.offset == 10:
                assert consumer.position(*P0) == 12
                assert consumer.commit(before)
                assert compacted.committed == {P0: 10}
                assert consumer.commit(record)
                assert compacted.committed == {P0: 12}
        assert consumer.commit()
    assert compacted.committed == {P0: END}, "nothing is left to read, so there is no lag"


async def test_aio_after_the_last_record_of_a_batch_the_gap_behind_it_is_read_too(compacted: FakeServer) -> None:
    async with aio_reader(compacted, group="g", auto_commit=False) as consumer:
        async for record in consumer:
            if record.offset == 10:
                assert await consumer.position(*P0) == 12
                assert await consumer.commit()
                assert compacted.committed == {P0: 12}
        assert await consumer.commit()
    assert compacted.committed == {P0: END}


def test_a_batch_with_a_gap_at_its_end_is_committed_as_a_whole(compacted: FakeServer) -> None:
    with reader(compacted, group="g", auto_commit=False) as consumer:
        for batch in consumer.batches():
            assert consumer.commit()
            assert compacted.committed == {P0: batch.next_offset}


def test_who_leaves_commits_the_gap_at_the_end_and_goes_on_behind_it(compacted: FakeServer) -> None:
    with reader(compacted, group="g") as consumer:
        assert [record.offset for record in consumer] == LEFT
    assert compacted.committed == {P0: END}
    append(compacted, END)
    with reader(compacted, group="g") as consumer:
        assert [record.offset for record in consumer] == [16, 17, 18, 19]


def test_an_exception_commits_all_but_the_last_record_before_a_gap(compacted: FakeServer) -> None:
    def fail() -> None:
        with reader(compacted, group="g") as consumer:
            for record in consumer:
                if record.offset == 10:
                    raise RuntimeError("of the application")

    with pytest.raises(RuntimeError):
        fail()
    assert compacted.committed == {P0: 10}


def test_who_has_read_up_to_a_gap_at_the_end_reads_what_comes_behind_it(compacted: FakeServer) -> None:
    with reader(compacted, start=9, stop_at_end=False) as consumer:
        assert [record and record.offset for record in (consumer.poll(10), consumer.poll(10))] == [9, 10]
        append(compacted, END)
        record = consumer.poll(10)
        assert record is not None
        assert (record.offset, record.key) == (16, b"k16")
        assert consumer.assignment == [TopicPartition(*P0)]


def test_a_pause_in_a_gap_neither_repeats_nor_skips(compacted: FakeServer) -> None:
    with reader(compacted) as consumer:
        offsets = []
        for record in consumer:
            offsets.append(record.offset)
            consumer.pause()
            consumer.resume()
        assert offsets == LEFT
