"""What is different when a person sits at a terminal: questions, colours, a bar."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from logctl.main import run
from logctl.output import Progress
from tests.logctl.conftest import Logctl
from tests.logctl.test_output import Terminal
from tests.processes import ENVIRONMENT, ServerProcess, program


def at_terminal(server: ServerProcess, *words: str, typed: str = "", **variables: str) -> tuple[int, str]:
    """Run a command on a terminal of its own, and return its exit code and all that was shown."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [*program("logctl.main"), *words, "--server", server.address],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=ENVIRONMENT | {"TERM": "xterm-256color", "NO_COLOR": "", "COLUMNS": "120"} | variables,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:
            pass  # EIO: the terminal was closed by its last user
        finally:
            os.close(ours)
    return process.returncode, shown.decode().replace("\r\n", "\n")


def plain(shown: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)


def test_delete_asks_and_takes_no_for_an_answer(logctl: Logctl, server: ServerProcess, topic: str) -> None:
    logctl("topics create", topic)
    status, shown = at_terminal(server, "topics", "delete", topic, typed="n\n")
    assert status == 1
    assert f"Delete topic {topic} with its 0 records?" in shown
    assert "Nothing was deleted." in shown
    assert topic in logctl("topics list").out


def test_delete_asks_and_takes_yes_for_an_answer(logctl: Logctl, server: ServerProcess, topic: str) -> None:
    logctl("topics create", topic)
    status, shown = at_terminal(server, "topics", "delete", topic, typed="y\n")
    assert status == 0
    assert f"Deleted topic {topic}." in shown
    assert topic not in logctl("topics list").out


def test_deleting_records_says_how_many_go_and_asks(
    logctl: Logctl, server: ServerProcess, topic: str, tmp_path: Path
) -> None:
    (tmp_path / "lines").write_text("a\nb\nc\n")
    logctl("produce", topic, tmp_path / "lines")
    line = ("topics", "delete-records", topic, "--before", "2")
    status, shown = at_terminal(server, *line, typed="n\n")
    assert status == 1
    assert f"Delete 2 records of topic {topic}, in 1 partition?" in shown
    assert "Nothing was deleted." in shown
    status, shown = at_terminal(server, *line, typed="y\n")
    assert status == 0
    assert f"Deleted 2 records of topic {topic}:" in shown
    status, shown = at_terminal(server, *line)
    assert status == 0
    assert "[y/N]" not in shown, "there is nothing left to lose"


def test_delete_looks_before_it_asks(logctl: Logctl, server: ServerProcess, topic: str) -> None:
    for noun in ("topic", "group"):
        status, shown = at_terminal(server, f"{noun}s", "delete", "missing", typed="y\n")
        assert status == 1
        assert f"there is no {noun} 'missing'" in shown
        assert "[y/N]" not in shown
    logctl("topics create --partitions 2", topic)
    assert logctl(f"consume {topic} --group {topic} --exit-at-end").status == 0
    assert logctl(f"seek --group {topic} --topic {topic} --to-end").status == 0
    status, shown = at_terminal(server, "groups", "delete", topic, typed="y\n")
    assert status == 0
    assert f"Delete group {topic} and its 2 committed offsets? [y/N]" in shown


def test_who_types_records_is_told_how_to_end(logctl: Logctl, server: ServerProcess, topic: str) -> None:
    status, shown = at_terminal(server, "produce", topic, typed="hello\n\x04")
    assert status == 0
    echo, note, sent = shown.splitlines()
    assert (echo, note) == ("hello", "Type lines to send; Ctrl-D ends them.")
    assert sent.startswith(f"Sent 1 record to {topic} in ")
    assert [row["value"] for row in logctl("consume --json --exit-at-end", topic).rows] == ["hello"]


def test_no_bar_is_drawn_into_what_somebody_types(
    server: ServerProcess, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Progress, "SHOWN_AFTER_SECONDS", -1.0)
    monkeypatch.setenv("TERM", "xterm")
    shown = Terminal()
    monkeypatch.setattr(sys, "stderr", shown)
    ours, theirs = pty.openpty()
    os.write(ours, b"hello\n\x04")
    with open(theirs) as typed:
        monkeypatch.setattr(sys, "stdin", typed)
        assert run(["produce", topic, "--server", server.address]) == 0
    os.close(ours)
    assert shown.getvalue() == "Type lines to send; Ctrl-D ends them.\n"


def test_a_table_is_drawn(logctl: Logctl, server: ServerProcess, topic: str) -> None:
    logctl("topics create --partitions 3", topic)
    status, shown = at_terminal(server, "topics", "list")
    assert status == 0
    assert "\x1b[1m" in shown
    assert re.search(rf"{topic} +│? *3", plain(shown))


def test_records_are_coloured(logctl: Logctl, server: ServerProcess, topic: str) -> None:
    logctl("topics create", topic)
    with subprocess.Popen(
        [*program("logctl.main"), "produce", topic, "--key-separator", "=", "--server", server.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        env=ENVIRONMENT,
    ) as producing:
        producing.communicate(b"N14228=EWR to IAH\n")
    status, shown = at_terminal(server, "consume", topic, "--exit-at-end")
    assert status == 0
    assert "\x1b[1mN14228\x1b[0m  EWR to IAH\n" in shown
    assert plain(shown).startswith("0:0  ")


def test_an_error_is_red(server: ServerProcess) -> None:
    status, shown = at_terminal(server, "topics", "describe", "missing")
    assert status == 1
    assert shown.startswith("\x1b[31m\x1b[1merror:\x1b[0m ")


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_nothing_is_coloured_for_who_does_not_want_or_cannot_see_it(
    server: ServerProcess, variables: dict[str, str]
) -> None:
    assert at_terminal(server, "topics", "describe", "missing", **variables)[1].startswith("error: ")


def test_a_bar_is_for_terminals_and_for_long_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(stream: Terminal, seconds: float) -> str:
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setattr(Progress, "SHOWN_AFTER_SECONDS", seconds)
        with Progress("flights", total=100) as progress:
            progress.update(50, 1234)
        return stream.getvalue()

    class Pipe(Terminal):
        def isatty(self) -> bool:
            return False

    monkeypatch.setenv("TERM", "xterm")
    bar = shown(Terminal(), -1.0)
    assert "flights" in bar
    assert "1,234 records" in bar
    assert shown(Terminal(), 3600.0) == ""
    assert shown(Pipe(), -1.0) == ""
