"""A real server for the command line, and the command line run in this process."""

import io
import json
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from logctl.main import run
from tests.processes import ServerProcess


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_counts() -> None:
    """A shell that starts the tests in its background has Ctrl-C ignored, and what they start inherits that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("server") / "data") as server:
        yield server


_numbers = count()


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic name of the test's own: the server is shared."""
    return f"{request.node.name.partition('[')[0]}-{next(_numbers)}"


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.split("\n") if line]

    @property
    def error(self) -> dict[str, Any]:
        """The one error that was told."""
        (line,) = self.err.splitlines()
        error: dict[str, Any] = json.loads(line)["error"]
        place = {"topic", "partition", "offset", "next_offset"} if error["code"] == "DATA_LOSS" else set()
        assert set(error) == {"code", "message", "remedy", "retriable"} | place
        assert error["remedy"]
        return error


Logctl = Callable[..., Ran]


@pytest.fixture
def logctl(
    server: ServerProcess, monkeypatch: pytest.MonkeyPatch, capsysbinary: pytest.CaptureFixture[bytes]
) -> Logctl:
    """Run a line on the server; `feed` is what stands on standard input. Words to be kept whole are given apart."""

    def logctl(line: str, *words: object, feed: str | bytes | None = None) -> Ran:
        monkeypatch.setenv("TAILRACE_SERVER", server.address)
        if feed is not None:
            content = feed.encode() if isinstance(feed, str) else feed
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        capsysbinary.readouterr()
        status = run([*shlex.split(line), *map(str, words)])
        told = capsysbinary.readouterr()
        return Ran(status, told.out.decode(), told.err.decode())

    return logctl


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    """Writes a file of input."""

    def write(content: str | bytes, name: str = "input") -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write
