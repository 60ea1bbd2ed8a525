"""A sync fails while clients send and read (scorecard row 5).

The server must end by itself, non-zero, without acknowledging anything that waited and without ever syncing again; and
the next start must not believe what the page cache shows. Which sync fails is up to the seed; what it covers is not,
since the clients are real.

    error       one sync is answered with EIO; the page cache stays, and the next start is on the same mount
    shutdown    at that sync the filesystem is cut off from its disk, and all that is not on it is gone
    thin        the disk below the filesystem runs out of room: data is lost, the first sync says so, later ones would
                not. The next start is on the same mount; a while later the power goes, and what that start took from
                the cache alone would be gone
"""

import random
import time
from collections.abc import Callable

from tests.faults.checker import check
from tests.faults.clients.workload import Workload
from tests.faults.history import History
from tests.faults.levers import SYNC_AFTER, SYNC_FAILED
from tests.faults.runs import Session, Tally
from tests.faults.storage.thin_filesystem import ThinFilesystem
from tests.processes import SHORT_SESSIONS, NotStarted, ServerProcess

#: Syncs of a start, of making topics, and of some hundred milliseconds under load.
SYNC_NUMBER_MAX = 300
#: To reach that sync, with clients that find their server gone every second.
REACH_SECONDS_MAX = 30.0
#: To meet a disk that takes nothing, and to end.
END_SECONDS_MAX = 10.0
#: A sync that fails may be one of the start's: the one after it finds the disk as it is.
STARTS_MAX = 4


def run_errors(session: Session, tally: Tally) -> None:
    """Let the n-th sync of the process fail, as often as the session has cycles, and judge."""
    rng = session.rng("syncs")
    history = History(session.directory / "history.jsonl")
    with ServerProcess(session.directory / "data", *SHORT_SESSIONS, patches=session.planted) as server:
        workload = Workload(server.address, history, session.seed)
        workload.start()
        server.kill()
        for _ in range(session.cycles):
            _end_by_error(server, session, f"sync-error={_number(rng)}", workload, tally)
        _start(server, session, tally)
        workload.stop()
    history.close()
    tally.judge(check(history.operations))


def run(session: Session, tally: Tally) -> None:
    """Let the filesystem or the disk below it fail, as often as the session has cycles, and judge."""
    rng = session.rng("failures")
    history = History(session.directory / "history.jsonl")
    with ThinFilesystem(session.directory) as filesystem:
        server = ServerProcess(
            filesystem.path / "data", *SHORT_SESSIONS, log=session.directory / "server.log", patches=session.planted
        )
        with server:
            workload = Workload(server.address, history, session.seed)
            workload.start()
            server.kill()
            for number in range(session.cycles):
                if number % 2:
                    lever = f"sync-shutdown={_number(rng)}:{filesystem.path}"
                    _end_by_error(server, session, lever, workload, tally)
                else:
                    _end_by_thin_disk(server, session, filesystem, workload, rng, tally)
                filesystem.unmount()
                filesystem.mount()
                workload.check()
            _start(server, session, tally)
            workload.stop()
    history.close()
    tally.judge(check(history.operations))


def _number(rng: random.Random) -> int:
    """One of the syncs of a start, which are few, as likely as one of those under load."""
    return int(rng.choice([SYNC_NUMBER_MAX ** rng.random(), rng.uniform(1, SYNC_NUMBER_MAX)]))


def _end_by_error(server: ServerProcess, session: Session, lever: str, workload: Workload, tally: Tally) -> None:
    """Start the server, let its n-th sync fail, and see it end."""
    server.patches = (*session.planted, lever)
    log_start = server.log.stat().st_size

    def has_logged(what: str) -> bool:
        return what in server.log.read_bytes()[log_start:].decode()

    try:
        server.start()
        _await_end(server, workload, tally, REACH_SECONDS_MAX, unless=lambda: has_logged(SYNC_AFTER))
    except NotStarted as error:
        _judge_end(error.status, tally)
        tally.count("failures at the start")
    if has_logged(SYNC_AFTER):
        tally.violate(f"{lever}: the server synced again after a sync had failed")
    assert has_logged(SYNC_FAILED)
    tally.count("failed syncs")


def _end_by_thin_disk(
    server: ServerProcess,
    session: Session,
    filesystem: ThinFilesystem,
    workload: Workload,
    rng: random.Random,
    tally: Tally,
) -> None:
    """Let the disk run out of room, start on what that leaves, and cut the power under it."""
    _start(server, session, tally)
    time.sleep(rng.uniform(0.1, 0.7))
    filesystem.exhaust()
    _await_end(server, workload, tally, END_SECONDS_MAX)
    filesystem.replenish()
    _start(server, session, tally, filesystem)
    time.sleep(rng.uniform(0.1, 0.5))
    server.kill()
    filesystem.cut_power()
    tally.count("exhausted disks")


def _await_end(
    server: ServerProcess,
    workload: Workload,
    tally: Tally,
    seconds: float,
    *,
    unless: Callable[[], bool] = lambda: False,
) -> None:
    """See the server end by itself. Without clients that go on there would be no more syncs."""
    until = time.monotonic() + seconds
    while server.is_running and time.monotonic() < until and not unless():
        workload.check()
        time.sleep(0.02)
    if server.is_running:
        server.kill()
        tally.violate("after a failed sync the server goes on")
    else:
        _judge_end(server.wait(), tally)


def _judge_end(status: int, tally: Tally) -> None:
    if status != 1:
        tally.violate(f"after a failed sync the server ended with status {status}")


def _start(server: ServerProcess, session: Session, tally: Tally, filesystem: ThinFilesystem | None = None) -> None:
    """Start the server without a fault of its own; on a filesystem that has failed as often as that takes."""
    server.patches = session.planted
    for _ in range(STARTS_MAX):
        try:
            return server.start()
        except NotStarted as error:
            if filesystem is not None and filesystem.is_stopped():
                tally.count("remounts before a start")
                filesystem.unmount()
                filesystem.mount()
            elif error.status != 1 or "failed" not in error.log:
                raise
            tally.count("starts refused")
    raise AssertionError(f"the server does not start any more, see {server.log}")
