"""What becomes of a command whose standard streams are closed, full, or read by nobody."""

import errno
import io
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from logctl.errors import CommandError
from logctl.lines import Lines, read_text
from logctl.output import Output, Progress
from logctl.sender import Sender, TopicRules, send_all
from tailrace import Producer
from tests.logctl.conftest import Logctl
from tests.logctl.test_groups import committed
from tests.processes import ENVIRONMENT, ServerProcess, program

FULL = "cannot write to standard output: No space left on device"
CLOSED = "cannot write to standard output: Bad file descriptor"


def redirected(
    server: ServerProcess, line: str, redirection: str, *, feed: bytes = b"", unbuffered: str = ""
) -> "subprocess.CompletedProcess[bytes]":
    """Run a command with what a shell makes of its streams."""
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirection}', "sh", *program("logctl.main"), *line.split()],
        input=feed,
        capture_output=True,
        env=ENVIRONMENT | {"TAILRACE_SERVER": server.address, "PYTHONUNBUFFERED": unbuffered},
    )


@pytest.fixture
def filled(logctl: Logctl, topic: str, file: Callable[..., Path]) -> str:
    """A topic with three records."""
    assert logctl("produce", topic, file("a\nb\nc\n")).status == 0
    return topic


@pytest.mark.parametrize(
    "line",
    [
        "topics list",
        "topics describe TOPIC --json",
        "consume TOPIC --exit-at-end",
        "consume TOPIC --exit-at-end --json --group TOPIC",
        "produce TOPIC",
        "--help",
        "--version",
        "completion bash",
    ],
)
@pytest.mark.parametrize(
    ("redirection", "unbuffered", "message"),
    [
        (">/dev/full", "", FULL),
        pytest.param(">/dev/full", "1", FULL, marks=pytest.mark.slow),
        pytest.param(">&-", "", CLOSED, marks=pytest.mark.slow),
    ],
)
def test_an_answer_that_cannot_be_written_is_told(
    server: ServerProcess, filled: str, line: str, redirection: str, unbuffered: str, message: str
) -> None:
    ran = redirected(server, line.replace("TOPIC", filled), redirection, unbuffered=unbuffered)
    told = ran.stderr.decode()
    if "--json" in line:
        assert json.loads(told)["error"]["message"] == message
    else:
        first, second = told.splitlines()
        assert first == f"error: {message}"
        assert "look before you repeat" in second
    assert ran.returncode == 1


def test_what_could_not_be_written_is_not_committed(logctl: Logctl, server: ServerProcess, filled: str) -> None:
    redirected(server, f"consume {filled} --group {filled} --exit-at-end", ">/dev/full")
    assert logctl(f"groups describe {filled}").err == "It has committed nothing yet.\n"  # though it has read
    assert len(logctl(f"consume {filled} --group {filled} --exit-at-end").out.splitlines()) == 3
    assert committed(logctl, filled) == {0: 3}


def test_a_closed_input_is_told(server: ServerProcess, filled: str) -> None:
    ran = redirected(server, f"produce {filled}", "<&-")
    assert ran.returncode == 1
    assert ran.stdout == b""
    assert ran.stderr.splitlines()[0] == b"error: the input cannot be read any further: Bad file descriptor"


def test_nobody_is_asked_on_a_closed_input(server: ServerProcess, filled: str) -> None:
    ran = redirected(server, f"topics delete {filled}", "<&-")
    assert ran.returncode == 2
    assert b"needs --yes" in ran.stderr


class FailingInput(io.BytesIO):
    """Two lines, and then what a disk or a terminal that went away gives."""

    def readline(self, size: int | None = -1) -> bytes:
        line = super().readline(size)
        if not line:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return line


def test_what_was_read_before_the_input_failed_is_sent(
    logctl: Logctl, topic: str, server: ServerProcess, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    lines = Lines(FailingInput(b"a\nb\n"))
    with Producer(server=server.address) as producer:
        sender = Sender(producer, topic, Output(), TopicRules(timestamp_ms_max=0))
        stopped = send_all(read_text(lines, None), lines, sender, Progress(topic, total=None))
    assert isinstance(stopped, CommandError)
    assert str(stopped) == "the input cannot be read any further: Input/output error"
    assert capsysbinary.readouterr().out.startswith(f"Sent 2 records to {topic} in ".encode())
    assert [row["value"] for row in logctl("consume --exit-at-end --json", topic).rows] == ["a", "b"]


@pytest.mark.parametrize(("line", "status"), [("topics list", 0), ("topics describe missing", 1), ("produce TOPIC", 0)])
def test_a_closed_stderr_changes_nothing(server: ServerProcess, filled: str, line: str, status: int) -> None:
    ran = redirected(server, line.replace("TOPIC", filled), "2>&-", feed=b"x\n")
    assert ran.returncode == status
    assert bool(ran.stdout) == (status == 0)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_produce_goes_on_when_nobody_hears_its_complaints(
    logctl: Logctl, server: ServerProcess, topic: str, unbuffered: str
) -> None:
    """As `2>&1 | head`."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    ran = subprocess.run(
        [*program("logctl.main"), "produce", topic, "--format", "jsonl", "--server", server.address],
        input=b'{"value": "a"}\n{\n{"value": "b"}\n',
        stdout=write_end,
        stderr=write_end,
        env=ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered},
    )
    os.close(write_end)
    assert [row["value"] for row in logctl("consume --exit-at-end --json", topic).rows] == ["a", "b"]
    assert ran.returncode == 1
