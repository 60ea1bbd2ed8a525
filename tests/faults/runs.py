"""Faults in sessions: one seed says all that a session does, and a ledger remembers the sessions that were run.

A session is a number of cycles of one fault on one fresh directory, such as fifty kills of one server, or two hundred
crash images of one workload. Its seed comes from the run's seed and its number alone, so any session can be repeated by
itself, and a run that was stopped goes on with the first session that is not in the ledger.
"""

import json
import random
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path

from tests.faults.checker import Verdict

#: Of the violations of one session so many are written down.
SHOWN_MAX = 20


@dataclass
class Tally:
    """What a session did, counted in the fault's own words, and what it saw that must never happen."""

    counts: Counter[str] = field(default_factory=Counter)
    peaks: dict[str, int] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)

    def peak(self, what: str, value: int) -> None:
        self.peaks[what] = max(value, self.peaks.get(what, value))

    def count(self, what: str, number: int = 1) -> None:
        self.counts[what] += number

    def violate(self, what: str) -> None:
        self.counts["violations"] += 1
        if len(self.violations) < SHOWN_MAX:
            self.violations.append(what)

    def judge(self, verdict: Verdict) -> None:
        """Count a history that was checked."""
        self.count("acknowledged", verdict.acknowledged)
        self.count("read", verdict.read)
        for what in verdict.shown:
            self.violate(what)
        self.counts["violations"] += sum(verdict.counts.values()) - len(verdict.shown)

    @property
    def is_good(self) -> bool:
        return not self.counts["violations"]


@dataclass(frozen=True)
class Session:
    """What a fault gets to work with."""

    directory: Path  # empty, removed afterwards unless something was wrong
    seed: int
    cycles: int
    planted: tuple[str, ...] = ()  # bugs that the code under test is to have, by their names in `planted`

    def rng(self, purpose: str = "") -> random.Random:
        """Randomness that only the seed decides, another for each purpose."""
        return random.Random(f"{self.seed} {purpose}")

    def is_over(self, tally: Tally) -> bool:
        """With a bug planted, one violation is all there is to see."""
        return bool(self.planted) and not tally.is_good


@dataclass(frozen=True)
class Fault:
    """One kind of fault, with how much of it is run."""

    name: str
    summary: str
    run: Callable[[Session, Tally], None]
    cycles_ci: int
    cycles_full: int
    session_cycles: int = 1
    runs_server: bool = True  # and not only the storage engine, in the process of the test
    missing: Callable[[], str | None] = lambda: None  # why this machine cannot inject it

    def sessions(self, cycles: int) -> Iterator[tuple[int, int]]:
        """(number, cycles) of each session of a run."""
        for number, done in enumerate(range(0, cycles, self.session_cycles)):
            yield number, min(self.session_cycles, cycles - done)


@dataclass(frozen=True)
class Entry:
    """A session that was run, as the ledger has it."""

    fault: str
    seed: int  # of the run
    session: int
    cycles: int
    seconds: float
    counts: dict[str, int]
    peaks: dict[str, int]
    violations: list[str]


class Ledger:
    """The sessions that were run, one JSON object a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.entries: list[Entry] = []
        if path.exists():
            # The last line may be cut: whoever wrote it was stopped.
            whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            self.entries = [Entry(**json.loads(line)) for line in whole]
            path.write_text("".join(whole))

    def add(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(asdict(entry)) + "\n")

    def of(self, fault: str, seed: int) -> dict[int, Entry]:
        return {entry.session: entry for entry in self.entries if entry.fault == fault and entry.seed == seed}


def session_seed(fault: str, seed: int, number: int) -> int:
    return int.from_bytes(sha256(f"{fault} {seed} {number}".encode()).digest()[:6], "big")


def run_session(
    fault: Fault, seed: int, number: int, cycles: int, workshop: Path, planted: tuple[str, ...] = ()
) -> Entry:
    """Run one session. Its directory stays when something was wrong, and the entry says where it is."""
    directory = workshop / f"{fault.name}-{seed}-{number}"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    tally = Tally()
    started = time.monotonic()
    try:
        fault.run(Session(directory, session_seed(fault.name, seed, number), cycles, planted), tally)
    except Exception:  # a server that does not come back is as bad as a record that does not
        tally.violate(traceback.format_exc())
    seconds = round(time.monotonic() - started, 2)
    if tally.is_good:
        shutil.rmtree(directory)
    else:
        tally.violations.append(f"everything is kept in {directory}")
    return Entry(fault.name, seed, number, cycles, seconds, dict(tally.counts), tally.peaks, tally.violations)


def run_fault(
    fault: Fault, seed: int, cycles: int, workshop: Path, ledger: Ledger, planted: tuple[str, ...] = ()
) -> Generator[Entry, None, None]:
    """Run what the ledger does not have of a run yet, session by session."""
    done = ledger.of(fault.name, seed)
    for number, session_cycles in fault.sessions(cycles):
        if number in done and done[number].cycles >= session_cycles:
            continue
        entry = run_session(fault, seed, number, session_cycles, workshop, planted)
        ledger.add(entry)
        yield entry
