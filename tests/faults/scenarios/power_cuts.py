"""The power goes while clients send and read, on a real ext4 (scorecard row 2)."""

import time

from tests.faults.checker import check
from tests.faults.clients.committed import CommittedOffsets
from tests.faults.clients.workload import GROUP, Workload
from tests.faults.history import History
from tests.faults.runs import Session, Tally
from tests.faults.storage.loop_filesystem import LoopFilesystem
from tests.processes import SHORT_SESSIONS, ServerProcess


def run(session: Session, tally: Tally) -> None:
    """Cut the power 50 to 1,500 ms after the server became ready, as often as the session has cycles, and judge."""
    rng = session.rng("power")
    history = History(session.directory / "history.jsonl")
    with LoopFilesystem(session.directory) as filesystem:
        server = ServerProcess(
            filesystem.path / "data", *SHORT_SESSIONS, log=session.directory / "server.log", patches=session.planted
        )
        with server:
            workload = Workload(server.address, history, session.seed)
            workload.start()
            committed = CommittedOffsets(server.address, GROUP, tally)
            for _ in range(session.cycles):
                time.sleep(rng.uniform(0.05, 1.5))
                committed.observe()
                filesystem.cut_power()
                server.kill()
                filesystem.unmount()
                filesystem.mount(commit_seconds=rng.choice([1, 5, 60]))
                server.start()
                committed.observe()
                tally.count("cuts")
            workload.stop()
    history.close()
    tally.judge(check(history.operations))
