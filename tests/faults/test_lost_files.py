"""Whatever is lost of a data directory is told or made again, and nothing more is lost over it."""

from pathlib import Path

import pytest

from tests.faults.catalog import FAULTS
from tests.faults.hunts import bug_cases, find_violation

FAULT = FAULTS["lost-file"]


@pytest.mark.parametrize("seed", [1, 2])
def test_what_is_lost_is_told_and_nothing_is_deleted(tmp_path: Path, seed: int) -> None:
    assert find_violation(FAULT, tmp_path, cycles=25, seed=seed) is None


@pytest.mark.parametrize("bug", bug_cases("lost-file", "damage-not-told", "missing-segment-ignored"))
def test_a_planted_bug_is_caught(tmp_path: Path, bug: str) -> None:
    assert find_violation(FAULT, tmp_path, cycles=FAULT.cycles_ci, seed=3, bug=bug) is not None
