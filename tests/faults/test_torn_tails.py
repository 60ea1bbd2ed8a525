"""Tails torn in every way are cut where the last whole batch ends, and what was synced is never cut."""

from pathlib import Path

import pytest

from tests.faults.catalog import FAULTS
from tests.faults.hunts import bug_cases, find_violation

FAULT = FAULTS["torn-tail"]


def test_every_whole_batch_is_kept_and_nothing_else_is_read(tmp_path: Path) -> None:
    assert find_violation(FAULT, tmp_path, cycles=FAULT.session_cycles, seed=1) is None


@pytest.mark.parametrize("bug", bug_cases("torn-tail", "cut-bytes-discarded", "crc-skipped"))
def test_a_planted_bug_is_caught(tmp_path: Path, bug: str) -> None:
    assert find_violation(FAULT, tmp_path, cycles=FAULT.cycles_ci, seed=2, bug=bug) is not None
