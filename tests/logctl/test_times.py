"""POSITION and TIME on the command line, and times in data."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logctl.times import (
    EPOCH,
    NUMBER_MS_MIN,
    TIMESTAMP_MS_MAX,
    AtOffset,
    AtTime,
    Beginning,
    End,
    format_time,
    parse_position,
    parse_time,
    parse_timestamp_ms,
)

NOW_MS = 1_700_000_000_000
HOUR_MS = 3_600_000

moments = st.datetimes(
    min_value=datetime(1970, 1, 2),
    max_value=datetime(9999, 12, 30),
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("beginning", Beginning()),
        ("end", End()),
        ("0", AtOffset(0)),
        ("20130701", AtOffset(20130701)),  # a date to ISO 8601, but any whole number is an offset
        ("9223372036854775807", AtOffset(2**63 - 1)),
        ("2013-07-01", AtTime(1_372_636_800_000)),
        ("2013-07-01T12:00", AtTime(1_372_680_000_000)),
        ("2013-07-01T12:00+02:00", AtTime(1_372_680_000_000 - 2 * HOUR_MS)),
        ("20130701T120000Z", AtTime(1_372_680_000_000)),
        ("ago:1h", AtTime(NOW_MS - HOUR_MS)),
        ("ago:1d2h30m", AtTime(NOW_MS - 26 * HOUR_MS - HOUR_MS // 2)),
        ("ago:9999w", AtTime(0)),
    ],
)
def test_a_position_is_read_as_the_help_says(text: str, position: object) -> None:
    assert parse_position(text, NOW_MS) == position


@pytest.mark.parametrize(
    "text",
    [
        "",
        "begin",
        "-1",
        "1.5",
        "٣",  # a digit to Python
        "9223372036854775808",
        "9" * 5000,
        "12:00",
        "2013-13-01",
        "2013-02-30",
        "ago:",
        "ago:1",
        "ago:h",
        "ago:1y",
        "ago:-1h",
        "ago:1.5h",
        "ago:999999999999999w",
        "ago:" + "9" * 5000 + "s",
    ],
)
def test_what_is_no_position_is_refused_in_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"offset|time|span"):
        parse_position(text, NOW_MS)


@given(moments)
def test_a_time_is_the_first_millisecond_at_or_after_the_moment(moment: datetime) -> None:
    timestamp_ms = parse_time(moment.isoformat(), NOW_MS)
    millisecond = timedelta(milliseconds=1)
    assert EPOCH + timestamp_ms * millisecond >= moment > EPOCH + (timestamp_ms - 1) * millisecond


@given(moments)
def test_a_time_without_a_zone_is_utc(moment: datetime) -> None:
    in_utc = moment.astimezone(UTC)
    assert parse_time(in_utc.replace(tzinfo=None).isoformat(), NOW_MS) == parse_time(in_utc.isoformat(), NOW_MS)


@given(st.integers(0, TIMESTAMP_MS_MAX))
def test_a_time_that_was_shown_reads_as_itself(timestamp_ms: int) -> None:
    shown = format_time(timestamp_ms)
    assert parse_time(shown, NOW_MS) == timestamp_ms
    assert parse_timestamp_ms(shown) == timestamp_ms


@given(st.integers(NUMBER_MS_MIN, TIMESTAMP_MS_MAX))
def test_a_time_in_data_may_be_milliseconds(timestamp_ms: int) -> None:
    assert parse_timestamp_ms(str(timestamp_ms)) == timestamp_ms


@pytest.mark.parametrize("number", [0, 1357035420, 99_999_999_999, NUMBER_MS_MIN - 1])
def test_a_time_in_data_that_is_a_number_of_seconds_does_not_become_january_1970(number: int) -> None:
    with pytest.raises(ValueError, match=f"{number} is 19.*, as milliseconds .* if it is seconds"):
        parse_timestamp_ms(str(number))


@given(moments)
def test_a_time_in_data_is_the_millisecond_it_lies_in(moment: datetime) -> None:
    timestamp_ms = parse_timestamp_ms(moment.isoformat())
    assert timedelta(0) <= moment - (EPOCH + timedelta(milliseconds=timestamp_ms)) < timedelta(milliseconds=1)


@pytest.mark.parametrize("text", ["", "yesterday", "-1", "1969-12-31T23:59:59Z", "253402300800000", "9" * 5000, "1.5"])
def test_a_time_in_data_outside_of_what_a_record_can_have_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"1970|ISO"):
        parse_timestamp_ms(text)


@pytest.mark.parametrize("timestamp_ms", [-1, TIMESTAMP_MS_MAX + 1, 2**63 - 1])
def test_a_timestamp_that_no_calendar_has_is_shown_as_a_number(timestamp_ms: int) -> None:
    assert format_time(timestamp_ms) == str(timestamp_ms)
