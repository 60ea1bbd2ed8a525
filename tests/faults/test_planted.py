"""Every bug that is planted in a running server is caught, by each fault that must catch it, within what CI runs of it.

The faults that need no server show the same for themselves.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults.bugs.planted import BUGS, planted
from tests.faults.catalog import FAULTS
from tests.faults.hunts import bugs_for
from tests.faults.runs import Ledger
from tests.processes import ENVIRONMENT

ON_A_SERVER = [fault.name for fault in FAULTS.values() if fault.runs_server]
SEED = 21


@pytest.mark.parametrize("bug", BUGS)
def test_every_bug_can_be_planted_and_taken_back(bug: str) -> None:
    """A patch that fails would look like a bug that is caught, and one that stays would make all faults after it."""
    patched: list[tuple[Any, str, Any]] = []

    def note(owner: Any, name: str, replacement: Any) -> None:
        patched.append((owner, name, vars(owner)[name]))

    BUGS[bug].plant(note)
    with planted(bug):
        assert all(vars(owner)[name] is not before for owner, name, before in patched)
    assert patched
    assert all(vars(owner)[name] is before for owner, name, before in patched)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "bug"), [(fault, bug) for fault in ON_A_SERVER for bug in bugs_for(fault)])
def test_a_bug_in_the_server_is_caught(fault: str, bug: str, tmp_path: Path) -> None:
    reason = FAULTS[fault].missing()
    if reason is not None:
        pytest.skip(reason)
    # In a process of its own, which takes clients along that a bug has left waiting.
    command = [sys.executable, "-m", "tests.faults", fault, "--plant", bug, "--seed", str(SEED)]
    result = subprocess.run(
        [*command, "--history", str(tmp_path)], env=ENVIRONMENT, capture_output=True, text=True, timeout=300
    )
    entries = Ledger(tmp_path / f"with-{bug}" / "ledger.jsonl").entries
    assert result.returncode == 1, f"{bug} passes {fault}: {result.stdout}"
    assert any(entry.violations for entry in entries), result.stderr


def test_every_fault_on_a_server_has_a_bug_to_catch() -> None:
    assert ON_A_SERVER
    assert [fault for fault in ON_A_SERVER if not bugs_for(fault)] == []
