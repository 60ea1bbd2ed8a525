"""What the sends of a producer are given, checked, and as the codec takes it."""

import json as json_module
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tailrace.accumulator import BulkRecord, HeaderList
from tailrace.errors import InvalidRequest

#: What is less was meant as seconds: until 2106, those are. 0 stands for a time that nobody knows.
SECONDS_MAX = 2**32

Headers = Mapping[str, bytes | str | None] | Iterable[tuple[str, bytes | str | None]]


def checked_many(
    values: Iterable[bytes | str | None], keys: Iterable[bytes | str | None] | None
) -> tuple[Sequence[bytes | str | None], Sequence[bytes | str | None] | None]:
    """What send_many was given, as sequences. Raises InvalidRequest."""
    for name, given in (("values", values), ("keys", keys)):
        if isinstance(given, str | bytes | bytearray | memoryview):
            raise InvalidRequest(
                f"{name}={given[:20]!r} is one {type(given).__name__}, whose parts would be sent one by one",
                remedy=f"Give {name} as a list, also when there is only one.",
            )
        if not isinstance(given, Iterable | None) or (given is None and name == "values"):
            raise InvalidRequest(f"{name}={given!r} is no list", remedy=f"Give {name} as a list.")
    values = values if isinstance(values, list | tuple) else list(values)
    if keys is not None:
        keys = keys if isinstance(keys, list | tuple) else list(keys)
        if len(keys) != len(values):
            raise InvalidRequest(f"{len(values)} values come with {len(keys)} keys", remedy="Give a key for each.")
    return values, keys


def text_encoded(records: Iterator[BulkRecord]) -> Iterator[BulkRecord]:
    """Text as UTF-8. What cannot be encoded stays, to be refused where it is sent."""
    for record in records:
        try:
            value, key = record
            yield value.encode() if type(value) is str else value, key.encode() if type(key) is str else key
        except UnicodeEncodeError:
            yield record


def to_bytes(given: Any, what: str) -> bytes | None:
    """bytes as they are, str as UTF-8. Raises InvalidRequest."""
    if given is None or type(given) is bytes:
        return given
    if isinstance(given, str):
        try:
            return given.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"the {what} holds half a surrogate pair and is no text ({error})", remedy="Send bytes instead."
            ) from error
    if isinstance(given, bytes | bytearray | memoryview):
        return bytes(given)
    raise InvalidRequest(
        f"the {what} is of type {type(given).__name__}, not bytes or str",
        remedy="Encode it, or send it with json=." if what == "value" else "Encode it.",
    )


def to_headers(headers: Headers) -> HeaderList:
    remedy = "Give headers as a mapping, or as pairs of a str and bytes or str."
    if not isinstance(headers, Iterable):
        raise InvalidRequest(f"headers={headers!r} are no headers", remedy=remedy)
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    checked: HeaderList = []
    for pair in pairs:
        if not (isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str)):
            raise InvalidRequest(f"{pair!r} is not a header", remedy=remedy)
        to_bytes(pair[0], "name of a header")
        checked.append((pair[0], to_bytes(pair[1], f"header {pair[0]!r}")))
    return checked


def check_timestamp(timestamp_ms: Any) -> None:
    if type(timestamp_ms) is not int or not 0 <= timestamp_ms < 2**63:
        raise InvalidRequest(
            f"timestamp_ms={timestamp_ms!r} is not a time",
            remedy="Give whole milliseconds since 1970, 0 or more, such as int(time.time() * 1000).",
        )

    if 0 < timestamp_ms < SECONDS_MAX:
        raise InvalidRequest(
            f"timestamp_ms is in milliseconds: {timestamp_ms} is in the first weeks of 1970, and looks like seconds",
            remedy="Multiply seconds by 1000, such as int(time.time() * 1000).",
        )


def json_value(value: Any, json: Any) -> bytes:
    if value is not None:
        raise InvalidRequest("both value= and json= are given", remedy="Give one of them.")
    try:
        # JSON has no NaN and no infinity: what Python would write instead, other readers refuse.
        return json_module.dumps(json, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"the json= of a send cannot be written as JSON: {error}", remedy="Convert it.") from error
