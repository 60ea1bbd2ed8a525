"""Images of cut disks are recovered, whatever the seed, and a store with a bug is told from one without."""

from pathlib import Path

import pytest

from tests.faults.catalog import FAULTS
from tests.faults.hunts import any_seed, bug_cases, find_violation, sessions_of
from tests.faults.runs import run_session

FAULT = sessions_of("crash-image", 40)


@pytest.mark.parametrize("seed", [1, 2, pytest.param(any_seed(), id="any")])
def test_every_image_holds_what_was_acknowledged(tmp_path: Path, seed: int) -> None:
    assert find_violation(FAULT, tmp_path, cycles=80, seed=seed) is None


def test_a_session_repeats_to_the_last_image(tmp_path: Path) -> None:
    first, again = (run_session(FAULT, 3, 5, 40, tmp_path) for _ in range(2))
    assert first.counts == again.counts
    assert first.counts["images"] == 40


@pytest.mark.parametrize("bug", bug_cases("crash-image", "sync-skipped", "directory-not-synced", "leader-epoch-kept"))
def test_a_planted_bug_is_caught(tmp_path: Path, bug: str) -> None:
    assert find_violation(FAULT, tmp_path, cycles=FAULTS["crash-image"].cycles_ci, seed=4, bug=bug) is not None
