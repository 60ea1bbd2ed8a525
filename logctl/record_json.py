"""A record as one line of JSON, and back.

    {"topic": "flights", "partition": 0, "offset": 7, "timestamp_ms": 1357035420000,
     "key": "N14228", "value": "...", "headers": [{"key": "source", "value": "faa"}]}

Key and value are text when they are UTF-8, else `key_base64` and `value_base64`; null stays null; headers keep their
order. A line written here and read here gives the same key, value, headers and timestamp, byte for byte. Where the
record stood (topic, partition, offset) is told when reading and has no meaning when producing: the topic is named
there, it may have other partitions, and the server gives the offset.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from logctl.errors import did_you_mean
from logctl.times import checked_timestamp_ms

Headers = Sequence[tuple[str, bytes | None]]

FIELDS = (
    "topic",
    "partition",
    "offset",
    "timestamp_ms",
    "key",
    "key_base64",
    "value",
    "value_base64",
    "headers",
)
HEADER_FIELDS = ("key", "value", "value_base64")

_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


class ReadRecord(Protocol):
    """What is needed of a consumed record; `tailrace.Record` has it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp_ms(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Headers: ...


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to be produced. Without a timestamp it gets the time of sending."""

    value: bytes | None
    key: bytes | None = None
    timestamp_ms: int | None = None
    headers: Headers = ()
    #: It names a partition or an offset, and will have another.
    names_place: bool = False


def record_to_json(record: ReadRecord) -> str:
    """One line, without its end."""
    fields: dict[str, Any] = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp_ms,
    }
    _put(fields, "key", record.key)
    _put(fields, "value", record.value)
    fields["headers"] = [_put({"key": name}, "value", value) for name, value in record.headers]
    return _encode(fields)


def record_from_json(line: bytes) -> NewRecord:
    """Read what record_to_json wrote, or a person by hand; everything but the value may be left out.

    A key or value that is neither text nor null (`"value": {"flight": 1545}`) is taken as its JSON. Raises ValueError
    with a sentence.
    """
    fields = parse_object(line)
    _check_names(fields, FIELDS, "a record")
    if "value" not in fields and "value_base64" not in fields:
        raise ValueError("it has neither `value` nor `value_base64`")
    return NewRecord(
        value=_take(fields, "value"),
        key=_take(fields, "key"),
        timestamp_ms=_take_timestamp(fields),
        headers=_take_headers(fields),
        names_place=fields.get("partition") is not None or fields.get("offset") is not None,
    )


def parse_object(line: bytes) -> dict[str, Any]:
    """Parse strict JSON: one object, no name twice, no NaN. Raises ValueError with a sentence."""
    try:
        parsed = json.loads(line.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start + 1} is not UTF-8") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    except RecursionError as error:
        raise ValueError("not JSON that can be read: it is nested too deep") from error
    if not isinstance(parsed, dict):
        raise ValueError(f"a JSON object is needed, not {_kind(parsed)}")
    return parsed


def scalar_to_bytes(value: Any) -> bytes | None:
    """A field of a JSON object as key: text as it is, numbers and booleans as their JSON, null as no key."""
    if value is None:
        return None
    if isinstance(value, str):
        return _utf8(value)
    if isinstance(value, dict | list):
        raise ValueError(f"{_kind(value)} cannot be a key")
    return _encode(value).encode()


def _put(fields: dict[str, Any], name: str, value: bytes | None) -> dict[str, Any]:
    if value is None:
        fields[name] = None
        return fields
    try:
        fields[name] = value.decode()
    except UnicodeDecodeError:
        fields[name + "_base64"] = b64encode(value).decode()
    return fields


def _take(fields: dict[str, Any], name: str) -> bytes | None:
    encoded = name + "_base64"
    if encoded not in fields:
        value = fields.get(name)
        return _utf8(_encode(value)) if isinstance(value, dict | list) else scalar_to_bytes(value)
    if name in fields:
        raise ValueError(f"`{name}` and `{encoded}` are both given")
    value = fields[encoded]
    if not isinstance(value, str):
        raise ValueError(f"`{encoded}` is {_kind(value)}, not text")
    try:
        return b64decode(value, validate=True)
    except ValueError as error:
        raise ValueError(f"`{encoded}` is not base64") from error


def _take_timestamp(fields: dict[str, Any]) -> int | None:
    value = fields.get("timestamp_ms")
    if value is None:
        return None
    if type(value) is not int:  # a boolean is an int to Python
        raise ValueError(f"`timestamp_ms` is {_kind(value)}, not a whole number")
    return checked_timestamp_ms(value)


def _take_headers(fields: dict[str, Any]) -> Headers:
    headers = fields.get("headers", [])
    if not isinstance(headers, list):
        raise ValueError(f"`headers` is {_kind(headers)}, not a list")
    return [_take_header(header) for header in headers]


def _take_header(header: Any) -> tuple[str, bytes | None]:
    if not isinstance(header, dict) or not isinstance(header.get("key"), str):
        raise ValueError('a header is not of the form {"key": "...", "value": "..."}')
    _check_names(header, HEADER_FIELDS, "a header")
    if "value" not in header and "value_base64" not in header:
        raise ValueError("a header has neither `value` nor `value_base64`")
    _utf8(header["key"])
    return header["key"], _take(header, "value")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as error:  # JSON can write half of a surrogate pair
        raise ValueError("it holds half a surrogate pair, which is no text") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"`{twice}` is given twice")
    return parsed


def _refuse_constant(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _check_names(fields: dict[str, Any], known: Sequence[str], what: str) -> None:
    for name in fields:
        if name not in known:
            raise ValueError(
                f"`{name}` is no field of {what}{did_you_mean(name, known)}; it may have {', '.join(known)}"
            )


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"
