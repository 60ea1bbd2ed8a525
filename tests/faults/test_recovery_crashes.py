"""Crashes of recoveries leave nothing behind that an undisturbed one would not."""

from pathlib import Path

import pytest

from tests.faults.catalog import FAULTS
from tests.faults.hunts import any_seed, bug_cases, find_violation

FAULT = FAULTS["recovery-crash"]


@pytest.mark.parametrize("seed", [1, pytest.param(any_seed(), id="any")])
def test_a_recovery_that_was_disturbed_ends_as_one_in_peace(tmp_path: Path, seed: int) -> None:
    assert find_violation(FAULT, tmp_path, cycles=20, seed=seed) is None


@pytest.mark.parametrize("bug", bug_cases("recovery-crash", "cut-bytes-not-synced"))
def test_a_planted_bug_is_caught(tmp_path: Path, bug: str) -> None:
    assert find_violation(FAULT, tmp_path, cycles=FAULT.cycles_ci, seed=2, bug=bug) is not None
