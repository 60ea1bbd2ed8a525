import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore import batch as wire
from logstore.batch import Compression, encode_batch, encode_retained, read_header
from tailrace import Record, RecordBatch, errors
from tailrace.positions import FetchedBatches, Hold, PartitionKey
from tests.processes import ENVIRONMENT

RECORDS = st.lists(
    st.builds(
        wire.Record,
        offset=st.just(0),
        timestamp_ms=st.integers(0, 2**41),
        key=st.none() | st.binary(max_size=10),
        value=st.none() | st.binary(max_size=30),
        headers=st.lists(st.tuples(st.text(max_size=3), st.none() | st.binary(max_size=3)), max_size=2).map(tuple),
    ),
    min_size=1,
    max_size=20,
)


def record(value: bytes | None) -> Record:
    return Record("flights", 3, 7, 0, None, value, ())


@given(records=RECORDS, base_offset=st.integers(0, 2**40), data=st.data(), compression=st.sampled_from(Compression))
def test_a_batch_reads_as_its_records_from_where_it_is_wanted_on(
    records: list[wire.Record], base_offset: int, data: st.DataObject, compression: Compression
) -> None:
    encoded = encode_batch(records, base_offset=base_offset, compression=compression)
    skip = data.draw(st.integers(0, len(records) - 1))
    end = base_offset + len(records)
    batch = RecordBatch("flights", 3, encoded, range(base_offset + skip, end), end, skip)
    expected = [
        Record("flights", 3, base_offset + place, one.timestamp_ms, one.key, one.value, one.headers)
        for place, one in enumerate(records)
    ][skip:]

    assert list(batch) == expected
    assert len(batch) == len(expected)
    assert batch.base_offset == expected[0].offset
    assert list(batch.offsets) == [one.offset for one in expected]
    assert batch.values == [one.value for one in expected]
    assert batch.keys == [one.key for one in expected]
    assert batch.timestamps_ms == [one.timestamp_ms for one in expected]
    assert [tuple(headers) for headers in batch.headers] == [one.headers for one in expected]
    later = data.draw(st.integers(0, len(expected) - 1))
    assert list(batch.after(expected[later].offset)) == expected[later:]


@given(records=RECORDS, base_offset=st.integers(0, 2**40), data=st.data(), compression=st.sampled_from(Compression))
def test_a_batch_that_was_compacted_reads_as_the_records_that_are_left(
    records: list[wire.Record], base_offset: int, data: st.DataObject, compression: Compression
) -> None:
    encoded = encode_batch(records, base_offset=base_offset, compression=compression)
    places = data.draw(st.sets(st.integers(0, len(records) - 1), min_size=1).map(sorted))
    kept = [wire.decode_codec_records(encoded)[place] for place in places]
    retained = encode_retained(read_header(encoded), kept)
    next_offset = base_offset + len(records)
    hold = Hold(
        PartitionKey("flights", bytes(16), 3),
        data.draw(st.integers(base_offset, next_offset - 1)),
        committed_offset=-1,
        end_offset=None,
    )
    expected = [
        Record(
            "flights",
            3,
            base_offset + place,
            records[place].timestamp_ms,
            records[place].key,
            records[place].value,
            records[place].headers,
        )
        for place in places
        if base_offset + place >= hold.next_offset
    ]

    batch = FetchedBatches(hold, 0, retained, next_offset).take()
    if not expected:
        assert batch is None
        assert hold.next_offset == next_offset, "a batch whose records lie before the position is passed"
        return
    assert batch is not None
    assert list(batch) == expected
    assert len(batch) == len(expected)
    assert batch.base_offset == expected[0].offset
    assert batch.next_offset == next_offset
    assert list(batch.offsets) == [one.offset for one in expected]
    assert batch.values == [one.value for one in expected]
    assert batch.keys == [one.key for one in expected]
    assert batch.timestamps_ms == [one.timestamp_ms for one in expected]
    assert [tuple(headers) for headers in batch.headers] == [one.headers for one in expected]
    later = data.draw(st.integers(base_offset, next_offset))
    assert list(batch.after(later)) == [one for one in expected if one.offset >= later]
    assert list(batch.after(later).after(later + 1)) == [one for one in expected if one.offset > later]


def test_of_a_batch_without_gaps_no_record_is_opened_to_number_them(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = encode_batch([wire.Record(0, 0, None, b"v")] * 3, base_offset=7)
    monkeypatch.setattr("tailrace.positions.decode_codec_records", None)
    batch = FetchedBatches(
        Hold(PartitionKey("flights", bytes(16), 3), 8, committed_offset=-1, end_offset=None), 0, encoded, 10
    ).take()
    assert batch is not None
    assert batch.offsets == range(8, 10)


def test_a_damaged_batch_that_was_compacted_is_named_when_it_is_taken() -> None:
    records = wire.decode_codec_records(encode_batch([wire.Record(0, 0, None, b"value")] * 3))
    retained = bytearray(encode_retained(read_header(encode_batch([wire.Record(0, 0, None, b"v")] * 3)), records[:1]))
    retained[-3] ^= 1
    fetched = FetchedBatches(
        Hold(PartitionKey("flights", bytes(16), 3), 0, committed_offset=-1, end_offset=None), 0, retained, 3
    )
    for _ in range(2):
        with pytest.raises(errors.CorruptMessage, match="offset 0 of 'flights' partition 3") as told:
            fetched.take()
        assert "to offset 3" in told.value.remedy


def test_text_and_json_of_a_record() -> None:
    assert record("Zürich".encode()).text() == "Zürich"
    assert record(b'{"a": [1]}').json() == {"a": [1]}


@pytest.mark.parametrize(("value", "read"), [(b"\xff", "text"), (None, "text"), (b"{", "json"), (None, "json")])
def test_what_cannot_be_read_raises_with_the_record(value: bytes | None, read: str) -> None:
    unreadable = record(value)
    with pytest.raises(errors.RecordDecodeError, match="offset 7 of 'flights' partition 3") as told:
        getattr(unreadable, read)()
    assert told.value.record is unreadable


def test_a_damaged_batch_is_named_whatever_is_asked_of_it() -> None:
    encoded = bytearray(encode_batch([wire.Record(0, 0, None, b"value")]))
    encoded[-3] ^= 1
    batch = RecordBatch("flights", 3, bytes(encoded), range(1), 1, 0)
    with pytest.raises(errors.CorruptMessage, match="offset 0 of 'flights' partition 3"):
        _ = batch.values
    with pytest.raises(errors.CorruptMessage, match="offset 0 of 'flights' partition 3"):
        list(batch)


def test_a_program_may_end_in_the_middle_of_a_batch() -> None:
    """What a client that was not closed holds is closed as one of the last things, when nothing can be imported."""
    script = """
import threading
from logstore.batch import Record, encode_batch
from tailrace import RecordBatch

encoded = encode_batch([Record(0, 0, None, b"v", ())] * 3)
threading.reading = iter(RecordBatch("flights", 0, encoded, range(3), 3, 0))
print(next(threading.reading).value)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "b'v'\n", "")
