"""Log lines that clients can cause as often as they like."""

import pytest
from structlog.testing import capture_logs

from logserver.kafka.few_lines import INTERVAL_MS, LINES_MAX, FewLines
from logserver.moved_time import MovedClock


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock(0)


@pytest.fixture
def lines(clock: MovedClock) -> FewLines:
    return FewLines(clock)


def test_of_a_kind_a_few_are_told_and_then_how_many_were_left_out(lines: FewLines, clock: MovedClock) -> None:
    with capture_logs() as said:
        for number in range(LINES_MAX + 5):
            lines.info("closed", peer=number)
        assert [line["peer"] for line in said] == [*range(LINES_MAX)]
        clock.ahead_ms += INTERVAL_MS
        lines.info("closed", peer="next")
    left_out, after = said[LINES_MAX:]
    assert (left_out["of"], left_out["lines"], left_out["log_level"]) == ("closed", 5, "info")
    assert after["peer"] == "next"


def test_what_was_left_out_is_told_also_when_none_follows(lines: FewLines, clock: MovedClock) -> None:
    with capture_logs() as said:
        for _ in range(LINES_MAX + 1):
            lines.warning("refused")
        lines.tell_left_out()
        assert len(said) == LINES_MAX
        clock.ahead_ms += INTERVAL_MS
        lines.tell_left_out()
        lines.tell_left_out()
    assert [line["lines"] for line in said[LINES_MAX:]] == [1]
    assert {line["log_level"] for line in said} == {"warning"}


def test_at_the_end_nothing_is_kept_back(lines: FewLines) -> None:
    with capture_logs() as said:
        for _ in range(LINES_MAX + 1):
            lines.info("closed")
        lines.tell_left_out(now=True)
    assert said[-1]["lines"] == 1


def test_one_kind_takes_no_lines_of_another(lines: FewLines) -> None:
    with capture_logs() as said:
        for _ in range(LINES_MAX * 2):
            lines.info("closed")
        lines.info("refused")
    assert said[-1]["event"] == "refused"


def test_who_is_told_rarely_is_told_always_and_nothing_is_remembered(lines: FewLines, clock: MovedClock) -> None:
    with capture_logs() as said:
        for _ in range(3 * LINES_MAX):
            lines.info("closed")
            clock.ahead_ms += INTERVAL_MS
        lines.tell_left_out()
    assert len(said) == 3 * LINES_MAX
    assert not lines._told
