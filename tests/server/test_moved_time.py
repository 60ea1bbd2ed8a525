"""`logserver --test-clock-ms`: time goes on when standard input says so, and the server ends with it."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from logserver.moved_time import MovedClock, MovedLoop
from tests.processes import ENVIRONMENT, program

ANY_PORT = ("--listen", "127.0.0.1:0")


@contextmanager
def server(directory: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [*program("logserver.main"), "--data-dir", str(directory / "data"), *ANY_PORT, *options],
        env=ENVIRONMENT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
    ) as process:
        try:
            assert process.stdout is not None
            assert "ready" in process.stdout.readline()
            yield process
        finally:
            process.kill()


def test_all_timers_of_the_loop_go_by_the_clock() -> None:
    clock = MovedClock(ahead_ms=0)

    async def wait() -> None:
        waiting = asyncio.create_task(asyncio.sleep(3600))
        timed = asyncio.create_task(asyncio.wait_for(asyncio.Event().wait(), 60))
        await asyncio.sleep(0)
        clock.ahead_ms += 3_600_001
        await waiting
        with pytest.raises(TimeoutError):
            await timed

    with asyncio.Runner(loop_factory=lambda: MovedLoop(clock)) as runner:
        runner.run(wait())


def test_both_clocks_are_ahead_by_the_same() -> None:
    clock = MovedClock(ahead_ms=0)
    wall_ms, monotonic_ms = clock.wall_ms(), clock.monotonic_ms()
    clock.ahead_ms = 1_000_000
    assert 1_000_000 <= clock.wall_ms() - wall_ms < 1_030_000
    assert 1_000_000 <= clock.monotonic_ms() - monotonic_ms < 1_030_000


def test_it_says_how_far_ahead_it_is_goes_on_after_nonsense_and_ends_with_its_standard_input(tmp_path: Path) -> None:
    with server(tmp_path, "--test-clock-ms", "1000") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for said, answered in (
            ("advance 500", "logserver advanced: 1500\n"),
            ("retreat 500", "logserver did not understand: write `advance` and a number of milliseconds\n"),
            ("advance 1", "logserver advanced: 1501\n"),
        ):
            process.stdin.write(said + "\n")
            assert process.stdout.readline() == answered
        process.stdin.close()
        assert process.wait(timeout=60) == 0


def test_it_ends_too_when_who_moved_the_time_does_not_hear_the_answer(tmp_path: Path) -> None:
    with server(tmp_path, "--test-clock-ms", "0") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.write("advance 1\n")
        assert process.wait(timeout=60) == 0


def test_without_a_pipe_it_is_refused(tmp_path: Path) -> None:
    ran = subprocess.run(
        [*program("logserver.main"), *ANY_PORT, "--test-clock-ms", "0"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 2
    assert "that is no pipe. Leave --test-clock-ms out" in ran.stderr
    assert not (tmp_path / "tailrace-data").exists()


def test_what_only_happens_to_be_installed_is_not_loaded() -> None:
    """hypothesis alone takes as long to load as half of the rest."""
    look = "import sys, logserver.command as c; c.load();"
    look += "print(sys.modules['hypothesis'], 'hypothesis.core' in sys.modules, 'rich.console' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", look], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert ran.stdout == "None False False\n"
