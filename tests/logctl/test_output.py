"""What people and pipes get to see."""

import io
import json
import sys
from typing import NamedTuple

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from logctl.errors import CommandError, ExitCode, Failure, MalformedLine, failure_of
from logctl.output import Output, count, number, printable, text
from logctl.record_output import RecordOutput
from tailrace import errors as client


class Record(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


COLUMNS = [text("topic", "TOPIC"), number("partitions", "PARTITIONS")]
ROWS = [{"topic": "flights", "partitions": 4, "id": "x"}, {"topic": "audit\n", "partitions": 12000, "id": "y"}]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_table_on_a_pipe_is_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(COLUMNS, ROWS)
    assert capsys.readouterr().out == "TOPIC    PARTITIONS\nflights           4\naudit\\n      12,000\n"


def test_a_table_on_a_terminal_shows_the_same_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    Output().table(COLUMNS, ROWS)
    shown = terminal.getvalue()
    for cell in ("TOPIC", "PARTITIONS", "flights", "audit\\n", "12,000"):
        assert cell in shown


def test_prose_is_folded_before_a_name_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(width: int) -> str:
        terminal = Terminal()
        monkeypatch.setattr(sys, "stdout", terminal)
        monkeypatch.setenv("COLUMNS", str(width))
        Output().table([text("name", "SETTING"), text("meaning", "MEANING", prose=True)], [row])
        return click.unstyle(terminal.getvalue())

    row = {"name": "message.timestamp.after.max.ms", "meaning": "how far in the future a time may be " * 3}
    assert row["name"] in shown(60)
    assert row["name"] not in shown(30)
    assert all(len(line) <= width for width in (30, 60, 200) for line in shown(width).splitlines())


def test_a_table_as_json_is_an_object_a_line_with_all_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output()
    output.as_json = True
    output.table(COLUMNS, ROWS)
    output.table(COLUMNS, [], empty="There are none.")
    told = capsys.readouterr()
    assert [json.loads(line) for line in told.out.splitlines()] == ROWS
    assert told.err == ""


def test_an_empty_table_says_so_beside_the_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(COLUMNS, [], empty="There are none.")
    assert capsys.readouterr() == ("", "There are none.\n")


def test_counts_agree_with_their_noun() -> None:
    assert [count(n, "record") for n in (0, 1, 2, 12126)] == ["0 records", "1 record", "2 records", "12,126 records"]


@given(st.text())
def test_printed_text_neither_breaks_the_line_nor_drives_the_terminal(value: str) -> None:
    shown = printable(value)
    assert len(shown.splitlines()) <= 1
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)


def test_records_for_people_stand_in_columns(capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    output = RecordOutput(as_json=False)
    output.write(
        [
            Record("t", 0, 7, 1357035420000, b"N14228", b"EWR\x1b[2J"),
            Record("t", 10, 1000, 1357035420001, None, None, (("source", b"faa"), ("empty", None))),
        ]
    )
    output.write([Record("t", 1, 2, 1357035420002, b"N1", b"\xff\n")])
    output.write([])
    assert capsysbinary.readouterr().out.decode().splitlines() == [
        "0:7  2013-01-01T10:17:00.000Z  N14228  EWR\\x1b[2J",
        "10:1000  2013-01-01T10:17:00.001Z  -       -  [source=faa, empty=-]",
        "1:2      2013-01-01T10:17:00.002Z  N1      \\xff\\n",
    ]
    assert output.records_count == 3


def test_records_that_nobody_took_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.BytesIO):
        def flush(self) -> None:
            raise BrokenPipeError

    output = RecordOutput(as_json=True)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Broken()))
    with pytest.raises(BrokenPipeError):
        output.write([Record("t", 0, 0, 0, None, b"x")])
    assert output.records_count == 0
    monkeypatch.undo()


# Errors


@pytest.mark.parametrize(
    ("error", "code", "exit_code"),
    [
        (CommandError("It is so.", remedy="Do this."), "REFUSED", 1),
        (MalformedLine(7, "it is so", remedy="Do this."), "MALFORMED_LINE", 1),
        (click.UsageError("It is so."), "BAD_USAGE", 2),
        (client.UnknownTopicOrPartition("It is so.", remedy="Do this."), "UNKNOWN_TOPIC_OR_PARTITION", 1),
        (client.InvalidRequest("It is so.", remedy="Do this."), "INVALID_REQUEST", 2),
        (client.ServerUnreachable("It is so.", remedy="Do this."), "SERVER_UNREACHABLE", 3),
        (client.ServerUnavailable("It is so.", remedy="Do this."), "SERVER_UNAVAILABLE", 3),
        (client.IncompatibleServer("It is so.", remedy="Do this."), "INCOMPATIBLE_SERVER", 3),
        (client.RequestTimedOut("It is so.", remedy="Do this."), "REQUEST_TIMED_OUT", 4),
        (client.DeliveryTimedOut("It is so.", remedy="Do this."), "DELIVERY_TIMED_OUT", 4),
        (client.SeekTimedOut("It is so.", remedy="Do this."), "SEEK_TIMED_OUT", 4),
        (client.BufferFull("It is so.", remedy="Do this."), "BUFFER_FULL", 4),
    ],
)
def test_an_error_has_its_code_and_its_exit_code(error: Exception, code: str, exit_code: int) -> None:
    failure = failure_of(error)
    assert failure is not None
    assert (failure.code, failure.exit_code) == (code, exit_code)
    assert failure.remedy
    assert failure.retriable == getattr(error, "retriable", False)


def test_damage_is_told_with_its_place_as_far_as_that_is_known() -> None:
    damage = client.DataLoss("It is so.", remedy="Do this.")
    damage.topic, damage.partition, damage.offset = "t", 3, 7
    failure = failure_of(damage)
    assert failure is not None
    stream = io.StringIO()
    failure.write(stream, as_json=True)
    place = {"topic": "t", "partition": 3, "offset": 7, "next_offset": None}
    assert place.items() <= json.loads(stream.getvalue())["error"].items()


def test_a_bug_of_ours_is_no_failure_of_the_user() -> None:
    assert failure_of(KeyError("x")) is None


def test_a_failure_is_told_in_two_lines_or_one_object() -> None:
    failure = Failure("Zürich is closed.", "Fly to Basel.", "CLOSED", True, ExitCode.REFUSED)
    stream = io.StringIO()
    failure.write(stream, as_json=False)
    assert stream.getvalue() == "error: Zürich is closed.\n       Fly to Basel.\n"
    stream = io.StringIO()
    failure.write(stream, as_json=True)
    assert json.loads(stream.getvalue()) == {
        "error": {"code": "CLOSED", "message": "Zürich is closed.", "remedy": "Fly to Basel.", "retriable": True}
    }
