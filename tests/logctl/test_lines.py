"""Input becomes records, and a malformed line is named without harm to the others."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logctl.errors import CommandError, MalformedLine
from logctl.lines import CSV_ROW_LINES_MAX, Input, Lines, NumberedRecord, read_csv, read_jsonl, read_text
from logctl.record_json import NewRecord


def lines_of(text: str | bytes) -> Lines:
    return Lines(io.BytesIO(text.encode() if isinstance(text, str) else text))


def values(read: Input) -> list[object]:
    return [line.record.value if isinstance(line, NumberedRecord) else line.line_number for line in read]


def rows(read: Input) -> list[object]:
    """The cells of a good row, the number of a malformed line."""
    return [
        list(json.loads(line.record.value or b"").values()) if isinstance(line, NumberedRecord) else line.line_number
        for line in read
    ]


# Text


def test_a_line_of_text_is_a_value() -> None:
    assert values(read_text(lines_of("a\n\nb\r\n\xff c"), None)) == [b"a", b"", b"b", "\xff c".encode()]


def test_the_key_stands_before_the_first_separator() -> None:
    read = list(read_text(lines_of("N14228\tEWR\tIAH\n\tno key\nN1\t\n"), b"\t"))
    assert [(line.record.key, line.record.value) for line in read if isinstance(line, NumberedRecord)] == [
        (b"N14228", b"EWR\tIAH"),
        (b"", b"no key"),
        (b"N1", b""),
    ]


def test_a_line_without_the_separator_is_malformed() -> None:
    first, second, third = read_text(lines_of("a=1\nb\nc=3"), b"=")
    assert isinstance(second, MalformedLine)
    assert str(second) == "line 2: it has no separator '=': 'b'"
    assert [line.record.key for line in (first, third) if isinstance(line, NumberedRecord)] == [b"a", b"c"]


@given(st.lists(st.binary().filter(lambda line: b"\n" not in line and not line.endswith(b"\r"))), st.booleans())
def test_any_bytes_without_a_line_end_are_a_line(lines: list[bytes], closed: bool) -> None:
    text = b"\n".join(lines)
    if closed and lines:
        text += b"\n"
    elif lines and not lines[-1]:
        lines = lines[:-1]  # nothing after the last line end is no line
    assert values(read_text(lines_of(text), None)) == lines


def test_a_line_too_long_for_memory_is_skipped() -> None:
    lines = Lines(io.BytesIO(b"12345678\n123456789\n" + b"x" * 100 + b"\nlast"), line_bytes_max=8)
    assert values(read_text(lines, None)) == [b"12345678", 2, 3, b"last"]
    assert lines.bytes_count == 9 + 10 + 101 + 4


# JSON


def test_with_a_named_field_the_line_itself_is_the_value() -> None:
    line = '{"tail": "N14228", "at": "2013-01-01T10:17Z",  "n": 1.10}'
    assert list(read_jsonl(lines_of(line), "tail", "at")) == [
        NumberedRecord(1, NewRecord(line.encode(), b"N14228", 1357035420000))
    ]


@pytest.mark.parametrize(
    ("value", "key"), [("null", None), ('""', b""), ("17", b"17"), ("true", b"true"), ('"Zürich"', "Zürich".encode())]
)
def test_a_key_field_may_hold_any_scalar(value: str, key: bytes | None) -> None:
    (line,) = read_jsonl(lines_of(f'{{"k": {value}}}'), "k", None)
    assert isinstance(line, NumberedRecord)
    assert line.record.key == key


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"at": 1}', "no field `k`"),
        ('{"K": 1, "ta": 1}', "no field `k`"),
        ('{"k": "x", "att": 1}', "no field `at` (did you mean `att`?)"),
        ('{"k": "x"}', "no field `at`"),
        ('{"k": [1], "at": 1}', "field `k`: a list cannot be a key"),
        ('{"k": "x", "at": null}', "field `at`: it is neither"),
        ('{"k": "x", "at": 1.5}', "field `at`: it is neither"),
        ('{"k": "x", "at": "noon"}', "field `at`: 'noon' is neither"),
        ('{"k": "x", "at": -1}', "field `at`: time -1 ms"),
        ('{"k": "x", "at": 1357035420}', "field `at`: 1357035420 is 1970-01-16T"),
        ('{"k": "x", "at": 1', "not JSON"),
    ],
)
def test_a_line_without_its_fields_is_malformed(line: str, sentence: str) -> None:
    good = '{"k": "x", "at": 1357035420000}'
    first, second, third = read_jsonl(lines_of(f"{good}\n{line}\n{good}"), "k", "at")
    assert isinstance(second, MalformedLine)
    assert str(second).startswith("line 2: ")
    assert sentence in str(second)
    assert isinstance(first, NumberedRecord)
    assert isinstance(third, NumberedRecord)


def test_empty_lines_and_a_byte_order_mark_are_no_json() -> None:
    read = list(read_jsonl(lines_of('\ufeff{"value": "a"}\n\n  \r\n{"value": "b"}\n'), None, None))
    assert [(line.line_number, line.record.value) for line in read if isinstance(line, NumberedRecord)] == [
        (1, b"a"),
        (4, b"b"),
    ]
    assert len(read) == 2


def test_a_byte_order_mark_is_not_taken_from_a_later_line() -> None:
    _, second = read_jsonl(lines_of('{"value": "a"}\n\ufeff{"value": "a"}\n'), None, None)
    assert isinstance(second, MalformedLine)


def test_a_line_that_is_not_utf8_says_what_to_do_about_that() -> None:
    for field in (None, "value"):
        (line,) = read_jsonl(lines_of(b'{"value": "caf\xe9"}\n'), field, None)
        assert isinstance(line, MalformedLine)
        assert (str(line), line.remedy) == ("line 1: byte 15 is not UTF-8", "Save the file as UTF-8.")


# CSV


def test_a_row_becomes_an_object_with_the_key_and_time_of_its_columns() -> None:
    table = 'departed,tail,note\r\n2013-01-01T10:17Z,N14228,\r\n1357036380000,,"two\nlines, one cell"\n'
    assert list(read_csv(lines_of(table), "tail", "departed")) == [
        NumberedRecord(
            2, NewRecord(b'{"departed":"2013-01-01T10:17Z","tail":"N14228","note":""}', b"N14228", 1357035420000)
        ),
        NumberedRecord(
            3,
            NewRecord(b'{"departed":"1357036380000","tail":"","note":"two\\nlines, one cell"}', None, 1357036380000),
        ),
    ]


@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(
            # No lone carriage return: written by csv unquoted, refused by it when read.
            st.lists(
                st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0")),
                min_size=width,
                max_size=width,
            ),
            max_size=8,
        )
    )
)
def test_whatever_csv_wrote_is_read(table: list[list[str]]) -> None:
    width = len(table[0]) if table else 1
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([f"c{n}" for n in range(width)])
    writer.writerows(table)
    assert rows(read_csv(lines_of(text.getvalue()), None, None)) == table


@pytest.mark.parametrize(
    "bad",
    [
        "1",
        "1,2,3",
        '"1,2',
        '"1"x,2',
        '1,"2',
        "1,2\r3",
    ],
)
@pytest.mark.parametrize("around", [("a,b", "c,d"), ('a,"b"', '"c",d'), ('"a,","b\nb"', '"c","d"')])
def test_a_malformed_row_costs_one_line(bad: str, around: tuple[str, str]) -> None:
    def parsed(text: str) -> list[str]:
        return next(csv.reader(io.StringIO(text)))

    before, after = around
    line_number = 3 + before.count("\n")
    read = rows(read_csv(lines_of(f"x,y\n{before}\n{bad}\n{after}\n{after}\n"), None, None))
    assert read == [parsed(before), line_number, parsed(after), parsed(after)]


def test_a_row_of_another_width_is_counted_as_people_count() -> None:
    one, three = read_csv(lines_of("x,y\n1\n1,2,3\n"), None, None)
    assert str(one) == "line 2: 1 field where the header has 2: '1'"
    assert str(three) == "line 3: 3 fields where the header has 2: '1,2,3'"


def test_a_quote_that_nobody_closes_costs_one_line_also_at_the_end() -> None:
    table = "x,y\n" + '1,"2\n' + "a,b\n" * 3000 + 'c,"d\n'
    read = rows(read_csv(lines_of(table), None, None))
    assert read == [2] + [["a", "b"]] * 3000 + [3003]
    assert CSV_ROW_LINES_MAX < 3000


def test_a_line_that_is_not_utf8_costs_itself() -> None:
    table = b'x,y\n1,"2\n3,\xff\n4,5\n'
    assert rows(read_csv(lines_of(table), None, None)) == [2, 3, ["4", "5"]]


def test_a_time_that_is_none_costs_its_line() -> None:
    table = "x,at\n1,noon\n2,1357035420000\n"
    first, second = read_csv(lines_of(table), None, "at")
    assert str(first) == "line 2: column `at`: 'noon' is neither a time in ISO 8601 nor milliseconds since 1970"
    assert isinstance(second, NumberedRecord)
    assert second.record.timestamp_ms == 1357035420000


def test_a_cell_may_be_as_large_as_a_record() -> None:
    large = "x" * 1_000_000
    assert rows(read_csv(lines_of(f"a,b\n1,{large}\n"), None, None)) == [["1", large]]


@pytest.mark.parametrize(
    ("table", "sentence", "remedy"),
    [
        ("a,b\n1,2\n", "no column `tail`$", "a, b"),
        ("tali,b\n1,2\n", r"no column `tail` \(did you mean `tali`\?\)$", "tali, b"),
        ("tail,tail\n1,2\n", "`tail` is there twice", "a name of its own"),
        (b"tail,\xff\n", "not UTF-8", "UTF-8"),
        ('tail,"at\n1,2\n', "unexpected end", "quotes"),
    ],
)
def test_a_header_that_cannot_serve_refuses_the_table(table: str | bytes, sentence: str, remedy: str) -> None:
    with pytest.raises(CommandError, match=sentence) as refused:
        list(read_csv(lines_of(table), "tail", None))
    assert remedy in refused.value.remedy


def test_an_empty_table_holds_nothing() -> None:
    assert list(read_csv(lines_of(""), "tail", None)) == []
