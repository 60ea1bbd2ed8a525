"""The core bears everything at once, whatever the seed, and the seed decides everything."""

from pathlib import Path

import pytest

from tests.faults.catalog import FAULTS
from tests.faults.hunts import any_seed, bug_cases, find_violation, sessions_of
from tests.faults.simulation.simulation import no_logs, simulate
from tests.faults.storage.workload import tiny_limits

FAULT = sessions_of("simulation", 20)
QUICK = ("sync-skipped", "failed-sync-retried", "batches-forgotten", "duplicates-appended")


@pytest.mark.parametrize("seed", [1, pytest.param(any_seed(), id="any")])
def test_all_is_sent_read_committed_and_owned_in_the_end(tmp_path: Path, seed: int) -> None:
    assert find_violation(FAULT, tmp_path, cycles=20, seed=seed) is None


def test_a_seed_repeats_to_the_last_event_and_another_is_another() -> None:
    with tiny_limits(), no_logs():
        first, again, other = (simulate(seed).digest for seed in (5, 5, 6))
    assert first == again
    assert first != other


@pytest.mark.parametrize("bug", bug_cases("simulation", *QUICK))
def test_a_planted_bug_is_caught(tmp_path: Path, bug: str) -> None:
    assert find_violation(FAULT, tmp_path, cycles=FAULTS["simulation"].cycles_ci, seed=3, bug=bug) is not None
