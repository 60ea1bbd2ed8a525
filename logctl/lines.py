"""Input of `logctl produce`: lines of text, JSON or CSV become records, each with the number of its line.

A line that is none comes out as a MalformedLine in its place and the rest goes on. Memory is bounded by one line, or
for CSV by one quoted field.
"""

import csv
import json
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from logctl.errors import CommandError, MalformedLine, did_you_mean
from logctl.output import count
from logctl.record_json import NewRecord, parse_object, record_from_json, scalar_to_bytes
from logctl.times import parse_timestamp_ms, timestamp_ms_of

LINE_BYTES_MAX = 64 * 1024 * 1024
CSV_ROW_LINES_MAX = 1000
EXCERPT_CHARS_MAX = 60
UTF8_REMEDY = "Save the file as UTF-8."
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class NumberedRecord(NamedTuple):
    line_number: int
    record: NewRecord


Input = Iterator[NumberedRecord | MalformedLine]


class Lines:
    """The lines of a stream, numbered from 1, without their ends. `bytes_count` tells how far it has read."""

    def __init__(self, stream: BinaryIO, line_bytes_max: int = LINE_BYTES_MAX) -> None:
        self.bytes_count = 0
        self._stream = stream
        self._line_bytes_max = line_bytes_max

    def __iter__(self) -> Iterator[tuple[int, bytes] | MalformedLine]:
        line_number = 0
        while line := self._read():
            line_number += 1
            if len(line) > self._line_bytes_max and not line.endswith(b"\n"):
                self._skip_line()
                yield MalformedLine(
                    line_number,
                    f"it is longer than {self._line_bytes_max:,} bytes",
                    remedy="No topic takes records of that size; split it.",
                )
            else:
                yield line_number, line.removesuffix(b"\n").removesuffix(b"\r")

    def _read(self) -> bytes:
        try:
            line = self._stream.readline(self._line_bytes_max + 1)
        except OSError as error:
            raise CommandError(
                f"the input cannot be read any further: {error.strerror}",
                remedy="What was read before was sent. See to the input, and send the rest.",
                code="INPUT_FAILED",
            ) from error
        self.bytes_count += len(line)
        return line

    def _skip_line(self) -> None:
        while (rest := self._read()) and not rest.endswith(b"\n"):
            pass


def read_text(lines: Lines, key_separator: bytes | None) -> Input:
    """A line is a value, or a key and a value around the first separator. An empty line is an empty value."""
    for line in lines:
        if isinstance(line, MalformedLine):
            yield line
            continue
        number, text = line
        if key_separator is None:
            yield NumberedRecord(number, NewRecord(value=text))
            continue
        key, separator, value = text.partition(key_separator)
        if separator:
            yield NumberedRecord(number, NewRecord(value=value, key=key))
        else:
            yield MalformedLine(
                number,
                f"it has no separator {_excerpt(key_separator)}: {_excerpt(text)}",
                remedy="Write KEY, the separator, VALUE; or leave --key-separator out to send lines without keys.",
            )


def read_jsonl(lines: Lines, key_field: str | None, time_field: str | None) -> Input:
    """A line is a record as `logctl consume --json` writes it; with a named field it is itself the value."""
    whole_line_is_value = key_field is not None or time_field is not None

    def read(text: bytes) -> NewRecord:
        return _record_of_object(text, key_field, time_field) if whole_line_is_value else record_from_json(text)

    for line in lines:
        if isinstance(line, MalformedLine):
            yield line
            continue
        number, text = line
        if number == 1:
            text = text.removeprefix(BYTE_ORDER_MARK)
        if not text.strip():
            continue
        try:
            record = read(text)
        except ValueError as error:
            not_text = isinstance(error.__cause__, UnicodeDecodeError)
            yield MalformedLine(
                number, str(error), remedy=UTF8_REMEDY if not_text else _jsonl_remedy(whole_line_is_value)
            )
        else:
            yield NumberedRecord(number, record)


def read_csv(lines: Lines, key_field: str | None, time_field: str | None) -> Input:
    """The first line names the columns; each row is sent as a JSON object of text. An empty key cell means no key.

    Raises CommandError when the first line cannot serve, before any record.
    """
    csv.field_size_limit(LINE_BYTES_MAX)  # Python's own is 128 KiB, less than a record may hold
    rows = _CsvRows(lines)
    header = next(rows, None)
    if header is None:
        return
    if isinstance(header, MalformedLine):
        raise header
    columns = header[1]
    _check_columns(columns, key_field, time_field)
    rows.columns_count = len(columns)
    for row in rows:
        if isinstance(row, MalformedLine):
            yield row
            continue
        number, cells = row
        fields = dict(zip(columns, cells, strict=True))
        try:
            timestamp_ms = parse_timestamp_ms(fields[time_field]) if time_field is not None else None
        except ValueError as error:
            yield MalformedLine(
                number, f"column `{time_field}`: {error}", remedy="Correct the time, and send it again."
            )
            continue
        key = fields[key_field].encode() or None if key_field is not None else None
        value = json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()
        yield NumberedRecord(number, NewRecord(value=value, key=key, timestamp_ms=timestamp_ms))


class _CsvRows(Iterator[tuple[int, list[str]] | MalformedLine]):
    """Rows of CSV. A quoted field may span lines; when such a row turns out wrong, only its first line is given up.

    For the usual cause is a quote that nobody closed, and the lines it ran into are rows of their own.
    """

    def __init__(self, lines: Lines) -> None:
        self.columns_count: int | None = None
        self._lines = iter(lines)
        self._returned: list[tuple[int, bytes] | MalformedLine] = []  # to be read again, last first
        self._row: list[tuple[int, bytes]] = []  # the lines of the row being read
        self._reader = csv.reader(iter(self._next_line, None), strict=True)

    def __next__(self) -> tuple[int, list[str]] | MalformedLine:
        while True:
            self._row = []
            try:
                cells = next(self._reader)
            except MalformedLine as error:
                return error
            except csv.Error as error:
                return self._give_up_first_line(str(error))
            if not cells:
                continue  # an empty line
            if self.columns_count is not None and len(cells) != self.columns_count:
                return self._give_up_first_line(
                    f"{count(len(cells), 'field')} where the header has {self.columns_count}"
                )
            return self._row[0][0], cells

    def _next_line(self) -> str | None:
        line = self._returned.pop() if self._returned else next(self._lines, None)
        if line is None:
            return None
        try:
            text = _decode_csv(line)
            if len(self._row) == CSV_ROW_LINES_MAX:
                raise csv.Error(f"a quoted field spans more than {CSV_ROW_LINES_MAX} lines")
        except (MalformedLine, csv.Error) as error:
            if not self._row:
                raise
            self._returned.append(line)  # it is looked at again as the start of a row
            raise csv.Error(f"a quoted field runs on, until {error}") from error
        self._row.append(line)  # type: ignore[arg-type]  # _decode_csv has raised the malformed ones
        return text

    def _give_up_first_line(self, message: str) -> MalformedLine:
        number, text = self._row[0]
        self._returned.extend(reversed(self._row[1:]))
        self._reader = csv.reader(iter(self._next_line, None), strict=True)  # the old one may have seen the end
        return MalformedLine(
            number,
            f"{message}: {_excerpt(text)}",
            remedy="Correct the quotes or the number of fields, and send it again.",
        )


def _decode_csv(line: tuple[int, bytes] | MalformedLine) -> str:
    if isinstance(line, MalformedLine):
        raise line
    number, text = line
    if number == 1:
        text = text.removeprefix(BYTE_ORDER_MARK)
    try:
        return text.decode() + "\n"
    except UnicodeDecodeError as error:
        raise MalformedLine(
            number, f"byte {error.start + 1} is not UTF-8: {_excerpt(text)}", remedy=UTF8_REMEDY
        ) from error


def _check_columns(columns: list[str], key_field: str | None, time_field: str | None) -> None:
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise CommandError(
            f"line 1: the column `{twice[0]}` is there twice", remedy="Give every column a name of its own."
        )
    for option, field in (("--key-field", key_field), ("--time-field", time_field)):
        if field is not None and field not in columns:
            raise CommandError(
                f"line 1: there is no column `{field}`{did_you_mean(field, columns)}",
                remedy=f"Name one of {', '.join(columns)} with {option}; the first line must name the columns.",
            )


def _record_of_object(text: bytes, key_field: str | None, time_field: str | None) -> NewRecord:
    fields = parse_object(text)
    for field in (key_field, time_field):
        if field is not None and field not in fields:
            raise ValueError(f"it has no field `{field}`{did_you_mean(field, fields)}")
    key = None
    if key_field is not None:
        try:
            key = scalar_to_bytes(fields[key_field])
        except ValueError as error:
            raise ValueError(f"field `{key_field}`: {error}") from error
    timestamp_ms = _timestamp_of(fields[time_field], time_field) if time_field is not None else None
    return NewRecord(value=text, key=key, timestamp_ms=timestamp_ms)


def _timestamp_of(value: object, time_field: str) -> int:
    try:
        if type(value) is int:
            return timestamp_ms_of(value)
        if isinstance(value, str):
            return parse_timestamp_ms(value)
        raise ValueError("it is neither a time in ISO 8601 nor milliseconds since 1970")
    except ValueError as error:
        raise ValueError(f"field `{time_field}`: {error}") from error


def _jsonl_remedy(whole_line_is_value: bool) -> str:
    if whole_line_is_value:
        return "Correct the line, and send it again."
    return (
        'A line is a record such as {"key": "N14228", "value": "..."}; '
        "to send whole lines as values use --key-field, --time-field or --format text."
    )


def _excerpt(text: bytes) -> str:
    shown = ascii(text[: EXCERPT_CHARS_MAX + 1].decode(errors="replace"))
    return shown if len(text) <= EXCERPT_CHARS_MAX else f"{shown[: EXCERPT_CHARS_MAX + 1]}...'"
