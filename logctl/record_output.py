"""Writes consumed records to stdout: a line each, as JSON or for people to read."""

import sys
from collections.abc import Callable, Iterable

import click

from logctl.output import printable
from logctl.record_json import ReadRecord, record_to_json
from logctl.streams import is_coloured
from logctl.times import format_time

KEY_WIDTH_MAX = 32


class RecordOutput:
    """Counts only what the other end of stdout has taken, so that nothing else is ever committed."""

    def __init__(self, *, as_json: bool) -> None:
        self.records_count = 0
        self._line: Callable[[ReadRecord], str] = record_to_json if as_json else _TextLine().format

    def write(self, records: Iterable[ReadRecord]) -> None:
        """Returns when all of them are out of this process. Raises BrokenPipeError when nobody reads any more."""
        lines = [self._line(record) for record in records]
        if lines:
            _write_out("\n".join(lines).encode() + b"\n")
            self.records_count += len(lines)


class _TextLine:
    """partition:offset, time, key and value in columns that grow to fit, and headers when there are any."""

    def __init__(self) -> None:
        self._place_width = 0
        self._key_width = 0
        self._coloured = is_coloured(sys.stdout)

    def format(self, record: ReadRecord) -> str:
        place = f"{record.partition}:{record.offset}"
        key = _shown(record.key)
        self._place_width = max(self._place_width, len(place))
        self._key_width = min(max(self._key_width, len(key)), KEY_WIDTH_MAX)
        place, key = place.ljust(self._place_width), key.ljust(self._key_width)
        time = format_time(record.timestamp_ms)
        if self._coloured:
            place, time, key = click.style(place, dim=True), click.style(time, fg="cyan"), click.style(key, bold=True)
        line = f"{place}  {time}  {key}  {_shown(record.value)}"
        if record.headers:
            line += "  [" + ", ".join(f"{printable(name)}={_shown(value)}" for name, value in record.headers) + "]"
        return line


def _shown(content: bytes | None) -> str:
    """As text, whatever it is: null as -, bytes that are not UTF-8 as \\xff. Only JSON is exact."""
    if content is None:
        return "-"
    return printable(content.decode(errors="backslashreplace"))


def _write_out(data: bytes) -> None:
    sys.stdout.flush()
    out = sys.stdout.buffer
    rest = memoryview(data)
    while rest:
        # Under PYTHONUNBUFFERED this is the bare file, which takes a part without a word when the reader goes away.
        rest = rest[out.write(rest) :]
    out.flush()
