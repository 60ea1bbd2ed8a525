"""The process dies, again and again, while the log of a compacted topic is written anew all the time.

Sometimes the process that compacts dies first, and its server goes on. After every start and in the end each key is
read with what was acknowledged last, and at last it is seen that passes come to an end, after so many that did not.
"""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from tests.faults.clients.keyed_workload import KEYS_EACH, PRODUCERS, KeyedWorkload
from tests.faults.runs import Session, Tally
from tests.processes import ServerProcess

OPTIONS = ("--compaction-interval-ms", "20")
COMPACTED_WITHIN_SECONDS = 60.0
ENDED_WITHIN_SECONDS = 10.0


def run(session: Session, tally: Tally) -> None:
    """Kill the server 200 to 2,500 ms after it became ready, as often as the session has cycles, and judge."""
    rng = session.rng("compaction kills")
    with ServerProcess(session.directory / "data", *OPTIONS, patches=session.planted) as server:
        workload = KeyedWorkload(server.address, session.seed)
        workload.start()
        for _ in range(session.cycles):
            time.sleep(rng.uniform(0.2, 2.5))
            compactors = children_of(server.pid)
            if rng.random() < 0.3:
                _kill(compactors, tally)
                time.sleep(rng.uniform(0.0, 0.3))
                compactors = children_of(server.pid)
            server.kill()
            tally.count("kills")
            tally.count("kills in a pass", len(compactors))
            server.start()
            workload.check()
            _read(workload, tally)
            _expect_ended(compactors, tally)
            if session.is_over(tally):
                break
        workload.stop()
        for violation in workload.follower.violations:
            tally.violate(f"following: {violation}")
        tally.count("acknowledged", workload.sends.acknowledged)
        tally.count("read", workload.follower.read)
        _expect_compacted(workload, tally)


def _read(workload: KeyedWorkload, tally: Tally) -> int:
    reader = workload.read()
    tally.count("read", reader.read)
    for violation in reader.violations:
        tally.violate(violation)
    return reader.read


def _expect_compacted(workload: KeyedWorkload, tally: Tally) -> None:
    """In the end few records are left: of each key one, and what is in the segments that are not compacted."""
    deadline = time.monotonic() + COMPACTED_WITHIN_SECONDS
    acknowledged = workload.sends.acknowledged
    enough = max(acknowledged // 2, PRODUCERS * KEYS_EACH)
    while (left := _read(workload, tally)) > enough:
        if time.monotonic() > deadline:
            tally.violate(f"of {acknowledged} records {left} are left, as if nothing had been compacted")
            return
        time.sleep(0.5)
    tally.count("compacted away", acknowledged - left)


def children_of(pid: int) -> list[int]:
    """The processes that it has started and that run."""
    with suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def is_alive(pid: int) -> bool:
    """Whether it runs: not one that has ended and that nobody has waited for."""
    with suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


def _expect_ended(pids: list[int], tally: Tally) -> None:
    """One that was only just started learns as the first thing that its server is no more."""
    deadline = time.monotonic() + ENDED_WITHIN_SECONDS
    while left := [pid for pid in pids if is_alive(pid)]:
        if time.monotonic() > deadline:
            tally.violate(f"the processes {left} compact a directory that another server has by now")
            return
        time.sleep(0.05)


def _kill(pids: list[int], tally: Tally) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
            tally.count("compactors killed")
