"""A little of every fault: each runs on this machine, and the code bears it."""

from pathlib import Path

import pytest

from tests.faults.catalog import FAULTS
from tests.faults.runs import Fault, run_session

SEED = 20
CYCLES_MAX = 2


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_a_little_of_every_fault_is_borne(fault: Fault, tmp_path: Path) -> None:
    reason = fault.missing()
    if reason is not None:
        pytest.skip(reason)
    entry = run_session(fault, SEED, 0, min(fault.cycles_ci, CYCLES_MAX), tmp_path)
    assert entry.violations == []
    assert sum(entry.counts.values()) > 0
