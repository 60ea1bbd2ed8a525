"""A second server on the same directory, or on the same port, while the first one serves (scorecard row 22).

It must be refused with a sentence and status 1, whatever path leads it to the directory, and the first one must not
notice. After a kill -9 two servers start at once, and exactly one of them may serve.
"""

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.faults.checker import check
from tests.faults.clients.workload import Workload
from tests.faults.history import History
from tests.faults.runs import Session, Tally
from tests.faults.storage.loop_filesystem import unmount
from tests.processes import SHORT_SESSIONS, NotStarted, ServerProcess


def run(session: Session, tally: Tally) -> None:
    """In each cycle one that comes second in every way, then a kill and two at once."""
    rng = session.rng("starts")
    history = History(session.directory / "history.jsonl")
    data = session.directory / "data"
    with ServerProcess(data, *SHORT_SESSIONS, patches=session.planted) as first:
        workload = Workload(first.address, history, session.seed, pause_seconds=0.1)
        workload.start()
        for number in range(session.cycles):
            with _ways_to(data, session.directory) as ways:
                _start_second(first, ways, session, tally)
                if number % 2:
                    _start_two(first, rng.choice(ways), session, tally)
            workload.check()
        workload.stop()
    history.close()
    tally.judge(check(history.operations))


@contextmanager
def _ways_to(data: Path, directory: Path) -> Iterator[list[Path]]:
    """Paths that lead to the same directory: its own, a symbolic link, and for root a bind mount."""
    link = directory / "link"
    link.symlink_to(data)
    bound = directory / "bound"
    is_root = os.geteuid() == 0
    if is_root:
        bound.mkdir()
        subprocess.run(["mount", "--bind", str(data), str(bound)], check=True)
    try:
        yield [data, link, bound] if is_root else [data, link]
    finally:
        link.unlink()
        if is_root:
            unmount(bound)
            bound.rmdir()


def _start_second(first: ServerProcess, ways: list[Path], session: Session, tally: Tally) -> None:
    pid = first.pid
    for path in ways:
        _refuse(_second(path, session), f"in use by another process (pid {pid})", tally)
    on_port = _second(session.directory / "other", session)
    on_port.address = first.address
    _refuse(on_port, f"{first.address} cannot be listened on", tally)
    if not first.is_running or first.pid != pid:
        tally.violate(f"the first server (pid {pid}) is gone")


def _refuse(second: ServerProcess, sentence: str, tally: Tally) -> None:
    try:
        second.start()
    except NotStarted as error:
        tally.count("refused")
        if error.status != 1:
            tally.violate(f"a second server on {second.directory} ended with status {error.status}")
        if sentence not in error.log or "Traceback" in error.log:
            tally.violate(f"a second server on {second.directory} says: {error.log}")
    else:
        tally.violate(f"a second server runs on {second.directory} at {second.address}")
        second.kill()


def _start_two(first: ServerProcess, path: Path, session: Session, tally: Tally) -> None:
    """Kill the server, and start it and a second one on its directory at once."""
    first.kill()
    second = _second(path, session)

    def starts(server: ServerProcess) -> bool:
        try:
            server.start()
        except NotStarted:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        started = list(pool.map(starts, (first, second)))
    tally.count("two at once")
    if started == [False, False]:
        tally.violate("of two servers that start at once none serves")
        first.start()
    if started == [True, True]:
        tally.violate(f"two servers run on {session.directory / 'data'}")
    if started[1]:
        second.kill()
        if not started[0]:
            first.start()


def _second(path: Path, session: Session) -> ServerProcess:
    return ServerProcess(path, *SHORT_SESSIONS, log=session.directory / "second.log", patches=session.planted)
