"""What the README gives to copy works as it stands there, in its order."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes import ENVIRONMENT, ROOT, ServerProcess, program

SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE))


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", SECTIONS[section], re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server, and logctl on the PATH."""
    directory = tmp_path_factory.mktemp("readme")
    script = directory / "logctl"
    words = " ".join(f"'{word}'" for word in program("logctl.main"))
    script.write_text(f'#!/bin/sh\nexec {words} "$@"\n')
    script.chmod(0o700)
    with ServerProcess(directory / "data") as server:
        yield ENVIRONMENT | {"TAILRACE_SERVER": server.address, "PATH": f"{directory}:{ENVIRONMENT['PATH']}"}


def test_the_tour_of_the_command_line_and_then_that_of_the_library(environment: dict[str, str], tmp_path: Path) -> None:
    serve, tour = blocks("Two minutes with the command line", "sh")
    assert serve == ".venv/bin/logserver\n"
    ran = subprocess.run(["bash", "-euc", tour], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "Sent group board on flights:\n")
    assert len(re.findall(r"N14228 +EWR to IAH$", ran.stdout, re.MULTILINE)) == 3
    assert "Group board, Empty, 0 members, 0 records behind" in ran.stdout

    synchronous, asynchronous = blocks("Two minutes with the library", "python")
    for code, lines in ((synchronous, 5), (asynchronous, 6)):
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert len(ran.stdout.splitlines()) == lines  # one sent, and all that is there


def test_the_tests_with_a_broker_of_their_own(tmp_path: Path) -> None:
    [code] = blocks("A broker for your tests", "python")
    (tmp_path / "test_flights.py").write_text(code)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", f"--basetemp={tmp_path}/base", "test_flights.py"],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        cwd=tmp_path,
    )
    assert ran.returncode == 0, ran.stdout
    assert "2 passed" in ran.stdout


def test_every_file_that_the_readme_names_is_there() -> None:
    rows = re.findall(r"^\| `(.+?)` \| (.+) \|$", SECTIONS["Reading the source"], re.MULTILINE)
    assert len(rows) == 6
    for row in rows:
        for name in re.findall(r"`([a-z_./]+\.py|[a-z_./]+\.proto|[a-z]+/)`", row[1]):
            assert (ROOT / row[0] / name).exists(), f"{row[0]}: {name}"
