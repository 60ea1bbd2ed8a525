"""A flipped bit is told or harms nobody, and a store that serves one as good is found out."""

from pathlib import Path

import pytest

from tests.faults.catalog import FAULTS
from tests.faults.hunts import bug_cases, find_violation, sessions_of

FAULT = sessions_of("bit-flip", 50)


@pytest.mark.parametrize("seed", [2, 4])
def test_no_flipped_bit_is_served_as_good(tmp_path: Path, seed: int) -> None:
    assert find_violation(FAULT, tmp_path, cycles=50, seed=seed) is None


@pytest.mark.parametrize("bug", bug_cases("bit-flip", "document-checksum-skipped", "crc-skipped"))
def test_a_planted_bug_is_caught(tmp_path: Path, bug: str) -> None:
    assert find_violation(FAULT, tmp_path, cycles=FAULTS["bit-flip"].cycles_ci, seed=7, bug=bug) is not None
