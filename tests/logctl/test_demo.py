"""`logctl demo`, the real one: what it tells, and that it leaves nothing behind however it ends."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from logctl.demo import story
from logctl.demo.processes import Server
from logctl.errors import CommandError
from tests.processes import ENVIRONMENT, program


@pytest.fixture
def demo(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """The demo at work, with its directory under tmp_path."""
    with subprocess.Popen(
        [*program("logctl.main"), "demo", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT | {"TMPDIR": str(tmp_path), "TAILRACE_SERVER": "127.0.0.1:9", "LOGSERVER_LISTEN": "nonsense"},
    ) as process:
        yield process
        process.kill()


def processes_of(directory: Path) -> list[str]:
    """Command lines of processes that have the directory on them: the server and the members do."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if os.fsencode(directory) in line:
                found.append(line.replace(b"\0", b" ").decode())
    return found


@pytest.mark.slow
def test_the_demo_tells_a_true_story(demo: "subprocess.Popen[str]", tmp_path: Path) -> None:
    out, err = demo.communicate(timeout=120)
    assert err == ""
    told = [json.loads(line) for line in out.splitlines()]
    scenes = [line["scene"] for line in told if line.get("scene")]
    assert scenes == [
        *("server", "topic", "group", "kill -9", "takeover", "kill -9", "restart", "group"),
        *("produced", "read", "seek", "replay"),
    ]
    (read,) = (line["reads"] for line in told if line.get("scene") == "read")
    assert sorted(read) == ["A", "B", "C"]
    assert all(number > 0 for number in read.values()), read
    checks = [line for line in told if "check" in line]
    assert len(checks) == 6
    assert all(check["passed"] for check in checks), checks
    assert told[-1]["verdict"] is True
    assert told[-1]["seconds"] < 60
    assert demo.returncode == 0
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(
    ("says", "code", "words"),
    [
        ("ModuleNotFoundError: No module named 'structlog'", "SERVER_NOT_INSTALLED", "pip install 'tailrace[server]'"),
        ("logserver: the disk is on fire", "SERVER_NOT_STARTED", "logserver"),
    ],
)
def test_a_server_that_does_not_start_is_told_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, code: str, words: str
) -> None:
    """The server is the program beside the interpreter, here one that only complains."""
    script = tmp_path / "logserver"
    script.write_text(f'#!/bin/sh\necho "{says}" >&2\nexit 1\n')
    script.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(CommandError) as failed:
        Server(tmp_path).start()
    assert failed.value.code == code
    assert words in failed.value.remedy
    if code == "SERVER_NOT_STARTED":
        assert says in str(failed.value)


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_an_interrupted_demo_leaves_nothing_behind(
    demo: "subprocess.Popen[str]", tmp_path: Path, number: signal.Signals
) -> None:
    assert demo.stdout is not None
    while json.loads(demo.stdout.readline()).get("scene") != "group":
        pass
    assert processes_of(tmp_path) != []
    demo.send_signal(number)
    out, err = demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert "Traceback" not in err
    assert "verdict" not in out
    assert list(tmp_path.iterdir()) == []
    assert processes_of(tmp_path) == []


def test_an_impatient_second_ctrl_c_leaves_nothing_behind_either(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the first comes in the middle of the play, and the second while the directory is removed."""
    remove = shutil.rmtree

    def remove_interrupted(*arguments: Any, **options: Any) -> None:
        signal.raise_signal(signal.SIGINT)
        remove(*arguments, **options)

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(story, "read_sample", lambda: signal.raise_signal(signal.SIGINT))
    monkeypatch.setattr(shutil, "rmtree", remove_interrupted)
    with pytest.raises(KeyboardInterrupt):
        story.play(as_json=True)
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
