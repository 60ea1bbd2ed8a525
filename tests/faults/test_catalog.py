"""A little of every fault: each runs on this machine, and the code bears it; and all are documented."""

import re
from pathlib import Path

import pytest

from tests.faults.bugs.planted import BUGS
from tests.faults.catalog import FAULTS
from tests.faults.runs import Fault, run_session
from tests.processes import ROOT

SEED = 20
CYCLES_MAX = 2
DOCUMENT = ROOT / "docs" / "durability.md"


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS.values(), ids=list(FAULTS))
def test_a_little_of_every_fault_is_borne(fault: Fault, tmp_path: Path) -> None:
    reason = fault.missing()
    if reason is not None:
        pytest.skip(reason)
    entry = run_session(fault, SEED, 0, min(fault.cycles_ci, CYCLES_MAX), tmp_path)
    assert entry.violations == []
    assert sum(entry.counts.values()) > 0


def test_the_documentation_says_how_often_each_is_run() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (.+) \| ([0-9,]+) \| ([0-9,]+) \|$", DOCUMENT.read_text(), re.MULTILINE)
    assert rows == [(f.name, f.summary, f"{f.cycles_ci:,}", f"{f.cycles_full:,}") for f in FAULTS.values()]


def test_the_documentation_says_how_many_bugs_are_planted() -> None:
    assert f"{len(BUGS)} bugs are planted" in DOCUMENT.read_text()
