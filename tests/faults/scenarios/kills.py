"""The process dies, again and again, while clients send and read (scorecard row 1)."""

import time

from tests.faults.checker import check
from tests.faults.clients.committed import CommittedOffsets
from tests.faults.clients.workload import GROUP, Workload
from tests.faults.history import History
from tests.faults.runs import Session, Tally
from tests.processes import SHORT_SESSIONS, ServerProcess

#: A session of the group is to be over soon after its member was cut off, so that the rest goes on.


def run(session: Session, tally: Tally) -> None:
    """Kill the server 50 to 2,000 ms after it became ready, as often as the session has cycles, and judge."""
    rng = session.rng("kills")
    history = History(session.directory / "history.jsonl")
    with ServerProcess(session.directory / "data", *SHORT_SESSIONS, patches=session.planted) as server:
        workload = Workload(server.address, history, session.seed)
        workload.start()
        committed = CommittedOffsets(server.address, GROUP, tally)
        for _ in range(session.cycles):
            time.sleep(rng.uniform(0.05, 2.0))
            committed.observe()
            server.kill()
            started = time.monotonic()
            server.start()
            tally.peak("ms to restart", round((time.monotonic() - started) * 1000))
            committed.observe()
            tally.count("kills")
        workload.stop()
    history.close()
    tally.judge(check(history.operations))
