import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore import batch as wire
from logstore.batch import Compression, encode_batch
from tailrace import Record, RecordBatch, errors
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
    batch = RecordBatch("flights", 3, encoded, base_offset, base_offset + len(records), skip)
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
    batch = RecordBatch("flights", 3, bytes(encoded), 0, 1, 0)
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
threading.reading = iter(RecordBatch("flights", 0, encoded, 0, 3, 0))
print(next(threading.reading).value)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "b'v'\n", "")
