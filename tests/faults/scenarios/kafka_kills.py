"""The process dies, again and again, while Kafka's own clients send and read."""

import time
from importlib.util import find_spec

from tests.faults.checker import check
from tests.faults.clients.committed import CommittedOffsets
from tests.faults.history import History
from tests.faults.runs import Session, Tally
from tests.processes import SHORT_SESSIONS, ServerProcess


def why_not() -> str | None:
    """Why these clients are not here, None if they are."""
    if find_spec("confluent_kafka") is None:
        return "confluent-kafka is not installed (pip install 'tailrace[conformance]')"
    return None


def run(session: Session, tally: Tally) -> None:
    """Kill the server 200 to 3,000 ms after it became ready, as often as the session has cycles, and judge."""
    # Here, so that the other faults need no client of Kafka.
    from tests.faults.clients.kafka_workload import GROUPS, KafkaWorkload

    rng = session.rng("kafka kills")
    history = History(session.directory / "history.jsonl")
    with ServerProcess(session.directory / "data", *SHORT_SESSIONS, kafka=True, patches=session.planted) as server:
        workload = KafkaWorkload(server.address, server.kafka_address, history, session.seed)
        workload.start()
        committed = [CommittedOffsets(server.address, group, tally) for group in GROUPS]
        for _ in range(session.cycles):
            time.sleep(rng.uniform(0.2, 3.0))
            for each in committed:
                each.observe()
            server.kill()
            started = time.monotonic()
            server.start()
            tally.peak("ms to restart", round((time.monotonic() - started) * 1000))
            workload.check()
            for each in committed:
                each.observe()
            tally.count("kills")
            if session.is_over(tally):
                break
        workload.stop()
    history.close()
    tally.judge(check(history.operations))
