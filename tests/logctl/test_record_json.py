"""Records as JSON: nothing is lost from `consume --json` to `produce --format jsonl`."""

import io
import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logctl.lines import Lines, NumberedRecord, read_jsonl
from logctl.record_json import NewRecord, record_from_json, record_to_json
from logctl.times import TIMESTAMP_MS_MAX


@dataclass(frozen=True)
class Consumed:
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


# Text and bytes that tend to break: line ends of every kind, separators, halves of UTF-8.
contents = st.none() | st.binary() | st.text().map(str.encode) | st.sampled_from([b"", b"\r\n", "\u2028\x85".encode()])
names = st.text(st.characters(exclude_categories=["Cs"]))
records = st.builds(
    Consumed,
    topic=st.just("flights"),
    partition=st.integers(0, 9),
    offset=st.integers(0, 2**63 - 1),
    timestamp_ms=st.integers(0, TIMESTAMP_MS_MAX),
    key=contents,
    value=contents,
    headers=st.lists(st.tuples(names, contents)).map(tuple),
)


@given(st.lists(records))
def test_consumed_records_are_produced_as_they_were(consumed: list[Consumed]) -> None:
    written = "".join(record_to_json(record) + "\n" for record in consumed).encode()
    read = list(read_jsonl(Lines(io.BytesIO(written)), None, None))
    assert [line.record for line in read if isinstance(line, NumberedRecord)] == [
        NewRecord(record.value, record.key, record.timestamp_ms, list(record.headers), names_place=True)
        for record in consumed
    ]
    assert [line.line_number for line in read if isinstance(line, NumberedRecord)] == list(range(1, len(consumed) + 1))


@given(records)
def test_a_line_of_json_has_the_fields_that_are_promised(record: Consumed) -> None:
    fields = json.loads(record_to_json(record))
    key = "key" if _is_text(record.key) else "key_base64"
    value = "value" if _is_text(record.value) else "value_base64"
    assert list(fields) == ["topic", "partition", "offset", "timestamp_ms", key, value, "headers"]
    if record.value is None:
        assert fields["value"] is None


def test_text_stays_text_and_bytes_become_base64() -> None:
    record = Consumed("flights", 1, 7, 1357035420000, "Zürich".encode(), b"\xff", (("a", None), ("a", b"\x80")))
    assert record_to_json(record) == (
        '{"topic":"flights","partition":1,"offset":7,"timestamp_ms":1357035420000,"key":"Zürich",'
        '"value_base64":"/w==","headers":[{"key":"a","value":null},{"key":"a","value_base64":"gA=="}]}'
    )


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (b'{"value": "x"}', NewRecord(b"x", headers=[])),
        (b'{"value": null, "key": "k"}', NewRecord(None, b"k", headers=[])),
        (b'{"value": {"flight": 1545, "to": "IAH"}}', NewRecord(b'{"flight":1545,"to":"IAH"}', headers=[])),
        (b'{"key": 17, "value": true}', NewRecord(b"true", b"17", headers=[])),
    ],
)
def test_a_person_may_leave_out_what_does_not_matter(line: bytes, record: NewRecord) -> None:
    assert record_from_json(line) == record


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b'{"value": "x"} y', "not JSON"),
        (b"[1]", "a list"),
        (b'"x"', "text"),
        (b"null", "null"),
        (b"\xff", "byte 1 is not UTF-8"),
        (b"{}", "neither"),
        (b'{"key": "k"}', "neither"),
        (
            b'{"value": "x", "colour": 1}',
            "`colour` is no field of a record; it may have topic, partition, offset, timestamp_ms, key, key_base64, "
            "value, value_base64, headers$",
        ),
        (b'{"vaule": "x"}', r"`vaule` is no field of a record \(did you mean `value`\?\); it may have topic, "),
        (b'{"value": "x", "timestamp": 1}', r"\(did you mean `timestamp_ms`\?\)"),
        (
            b'{"value": "x", "headers": [{"key": "k", "val": "v"}]}',
            r"`val` is no field of a header \(did you mean `value`\?\); it may have key, value, value_base64$",
        ),
        (b'{"value": "x", "value": "y"}', "given twice"),
        (b'{"value": "x", "value_base64": "eA=="}', "both"),
        (b'{"value_base64": "eA="}', "not base64"),
        (b'{"value_base64": "e\\n A=="}', "not base64"),
        (b'{"value_base64": 7}', "a number"),
        (b'{"value": NaN}', "NaN is not JSON"),
        (b'{"value": {"a": 1e999}}', "JSON"),
        (b'{"value": "\\ud800"}', "surrogate"),
        (b'{"value": "x", "timestamp_ms": "now"}', "timestamp_ms"),
        (b'{"value": "x", "timestamp_ms": true}', "a boolean"),
        (b'{"value": "x", "timestamp_ms": 1.5}', "a number"),
        (b'{"value": "x", "timestamp_ms": -1}', "1970"),
        (b'{"value": "x", "timestamp_ms": 99999999999999999999}', "9999"),
        (b'{"value": "x", "headers": {}}', "not a list"),
        (b'{"value": "x", "headers": [1]}', "a header"),
        (b'{"value": "x", "headers": [{"value": "v"}]}', "a header"),
        (b'{"value": "x", "headers": [{"key": "k"}]}', "neither"),
        (b'{"value": "x", "headers": [{"key": "\\udfff", "value": ""}]}', "surrogate"),
        (b'{"value": "x", "headers": [{"key": "k", "value": "", "x": 1}]}', "no field of a header"),
        (b'{"value": ' + b"[" * 100_000, "nested"),
        (b'{"value": 1' + b"0" * 5000 + b"}", "digits"),
    ],
)
def test_what_is_no_record_is_refused_in_a_sentence(line: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        record_from_json(line)


def _is_text(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
