"""Looking for what a fault must find: session after session, until one shows something wrong."""

import random
from dataclasses import replace
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from tests.faults.bugs.planted import BUGS
from tests.faults.catalog import FAULTS
from tests.faults.runs import Fault, run_session


def bugs_for(fault: str) -> list[str]:
    """The bugs that the fault must catch, by name."""
    return [bug.name for bug in BUGS.values() if fault in bug.caught_by]


def bug_cases(fault: str, *quick: str) -> list[ParameterSet]:
    """The same as cases of a test, those slow that are not caught in a moment."""
    assert set(quick) <= set(bugs_for(fault))
    return [pytest.param(bug, marks=() if bug in quick else pytest.mark.slow) for bug in bugs_for(fault)]


def sessions_of(fault: str, cycles: int) -> Fault:
    """The fault in sessions of so many cycles."""
    return replace(FAULTS[fault], session_cycles=cycles)


def find_violation(fault: Fault, workshop: Path, *, cycles: int, seed: int, bug: str | None = None) -> str | None:
    """The first thing that is wrong in so many cycles, None if nothing is."""
    for number, session_cycles in fault.sessions(cycles):
        entry = run_session(fault, seed, number, session_cycles, workshop, (bug,) if bug else ())
        if entry.violations:
            return f"seed {seed}, session {number}: " + "\n".join(entry.violations)
    return None


def any_seed() -> int:
    return random.SystemRandom().randrange(2**32)
