"""Positions in a topic and points in time, as written on the command line and in data.

A time without a zone is UTC: the same line then means the same on every machine.
"""

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
OFFSET_MAX = 2**63 - 1
#: A number in data that is less was meant as seconds: until the year 11968, those are.
NUMBER_MS_MIN = 315_532_800_000  # the first millisecond of 1980
TIMESTAMP_MS_MAX = 253_402_300_799_999  # the last millisecond of the year 9999

UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
AGO = re.compile(r"ago:((?:[0-9]{1,15}[smhdw])+)")
AMOUNT = re.compile(r"([0-9]+)([smhdw])")
LIKE_A_TIME = re.compile(r"ago:|[0-9]{4}-")

TIME_FORMS = "a time such as 2013-07-01T12:00 (UTC unless it names a zone), or a span such as ago:1h or ago:2d12h"


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first record that is still there."""


@dataclass(frozen=True, slots=True)
class End:
    """Where the next record will be."""


@dataclass(frozen=True, slots=True)
class AtOffset:
    offset: int


@dataclass(frozen=True, slots=True)
class AtTime:
    """The first record at or after a time."""

    timestamp_ms: int


Position = Beginning | End | AtOffset | AtTime


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def parse_position(text: str, now_ms: int) -> Position:
    """`beginning`, `end`, an offset, or a TIME. Raises ValueError with a sentence for people.

    Any whole number is an offset, although 20130701 is also a date in ISO 8601.
    """
    if text == "beginning":
        return Beginning()
    if text == "end":
        return End()
    if text.isascii() and text.isdigit():
        if len(text) > 4000 or int(text) > OFFSET_MAX:  # of more digits, int() makes no number
            raise ValueError(f"the offset is larger than any can be ({OFFSET_MAX})")
        return AtOffset(int(text))
    try:
        return AtTime(parse_time(text, now_ms))
    except ValueError as error:
        if LIKE_A_TIME.match(text):
            raise
        raise ValueError(f"{text!r} is none of `beginning`, `end`, an offset, {TIME_FORMS}") from error


def parse_time(text: str, now_ms: int) -> int:
    """Milliseconds since 1970, rounded up, so that "the first record at or after" holds. Raises ValueError.

    A span reaching behind 1970 means 1970: no record is older.
    """
    if ago := AGO.fullmatch(text):
        return max(0, now_ms - _span_ms(ago[1], text))
    if text.startswith("ago:"):
        raise ValueError(f"{text!r} is not a span: write numbers with s, m, h, d or w, such as ago:90m or ago:2d12h")
    moment = _parse_iso(text)
    return max(0, -((EPOCH - moment) // timedelta(milliseconds=1)))


def parse_timestamp_ms(text: str) -> int:
    """A time in data: ISO 8601, or whole milliseconds since 1970. Rounded down. Raises ValueError."""
    if text.isascii() and text.removeprefix("-").isdigit() and len(text) < 4000:
        return timestamp_ms_of(int(text))
    try:
        moment = _parse_iso(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is neither a time in ISO 8601 nor milliseconds since 1970") from error
    return checked_timestamp_ms((moment - EPOCH) // timedelta(milliseconds=1))


def timestamp_ms_of(number: int) -> int:
    """A number in data whose unit nothing says. Raises ValueError."""
    timestamp_ms = checked_timestamp_ms(number)
    if timestamp_ms < NUMBER_MS_MIN:
        raise ValueError(
            f"{number} is {format_time(timestamp_ms)}, as milliseconds since 1970; if it is seconds, multiply it by "
            "1000, and write a time before 1980 in ISO 8601"
        )
    return timestamp_ms


def checked_timestamp_ms(timestamp_ms: int) -> int:
    if not 0 <= timestamp_ms <= TIMESTAMP_MS_MAX:
        raise ValueError(f"time {timestamp_ms} ms is not between 1970 and the year 9999")
    return timestamp_ms


def format_time(timestamp_ms: int) -> str:
    """UTC, to the millisecond: 2013-01-01T10:17:00.000Z. A number when the year has more than four digits."""
    if not 0 <= timestamp_ms <= TIMESTAMP_MS_MAX:
        return str(timestamp_ms)
    moment = EPOCH + timedelta(milliseconds=timestamp_ms)
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"  # strftime takes six times as long


def _parse_iso(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is not {TIME_FORMS}") from error
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    return moment


def _span_ms(amounts: str, text: str) -> int:
    try:
        span = sum((int(count) * UNITS[unit] for count, unit in AMOUNT.findall(amounts)), timedelta())
    except OverflowError as error:
        raise ValueError(f"{text!r} is longer than time itself is counted here") from error
    return span // timedelta(milliseconds=1)
