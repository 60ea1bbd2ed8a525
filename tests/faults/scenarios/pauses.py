"""The server, or a member of a group, stands still for a while and goes on as if nothing had happened (row 11).

A member that was away for longer than its session has lost its partitions: others go on with them, and what it commits
after that is refused. Judged is what the members say of themselves: of each partition the commits that were accepted
never go back, and none is accepted from a member after another one's, unless the partition was assigned to it again.
When somebody is stopped is up to the seed, what it was about to do then is not.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.faults.checker import check
from tests.faults.clients.ownership import Commit, Event, held, judge, parse_events
from tests.faults.clients.workload import Workload
from tests.faults.history import History
from tests.faults.runs import Session, Tally
from tests.processes import ENVIRONMENT, ServerProcess

SESSION_MS = 1200
SERVER_OPTIONS = ("--group-session-timeout-ms", str(SESSION_MS), "--group-heartbeat-interval-ms", "200")
GROUP = "pausing"
MEMBERS = 3
#: For members to start, and to take over.
WAIT_SECONDS_MAX = 20.0


def run(session: Session, tally: Tally) -> None:
    """Stop a member, then the server, in turn, as often as the session has cycles, and judge."""
    rng = session.rng("pauses")
    history = History(session.directory / "history.jsonl")
    with ServerProcess(session.directory / "data", *SERVER_OPTIONS, patches=session.planted) as server:
        workload = Workload(server.address, history, session.seed, pause_seconds=0.3)
        workload.start()
        members = [
            _Member(server.address, workload.topic, session.directory / f"member-{number}.jsonl")
            for number in range(MEMBERS)
        ]
        try:
            _wait_until(lambda: all(member.held() for member in members), "every member has a partition")
            for number in range(session.cycles):
                if number % 2 == 0:
                    _pause_member(members, rng, tally)
                else:
                    _pause(server.pid, rng.uniform(0.1, 2 * SESSION_MS / 1000))
                    tally.count("pauses of the server")
                time.sleep(rng.uniform(0.2, 0.6))
                workload.check()
        finally:
            statuses = [member.end() for member in members]
        if any(statuses):
            tally.violate(f"the members ended with {statuses}")
        workload.stop()
    history.close()
    tally.judge(check(history.operations))
    events = [member.events() for member in members]
    tally.count("commits", sum(isinstance(event, Commit) for of_one in events for event in of_one))
    tally.count(
        "commits refused",
        sum(isinstance(event, Commit) and not event.is_committed for of_one in events for event in of_one),
    )
    for violation in judge(events):
        tally.violate(violation)


def _pause_member(members: list["_Member"], rng: random.Random, tally: Tally) -> None:
    """Beyond its session, so that others have to take over what it holds."""
    _wait_until(lambda: any(member.held() for member in members), "a member has a partition")
    paused = rng.choice([member for member in members if member.held()])
    others = [member for member in members if member is not paused]
    at = time.monotonic()
    os.kill(paused.pid, signal.SIGSTOP)
    try:
        partitions = paused.held()
        _wait_until(
            lambda: partitions <= set().union(*(member.committed_since(at) for member in others)),
            "the partitions of a member that stands still go to others, who commit them",
        )
    finally:
        os.kill(paused.pid, signal.SIGCONT)
    tally.count("pauses of a member")
    tally.peak("ms to take over", round((time.monotonic() - at) * 1000))


def _pause(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        os.kill(pid, signal.SIGCONT)


def _wait_until(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + WAIT_SECONDS_MAX
    while not condition():
        if time.monotonic() > until:
            raise AssertionError(f"not within {WAIT_SECONDS_MAX:g} s: {what}")
        time.sleep(0.05)


class _Member:
    """A process, and what it has written so far."""

    def __init__(self, server: str, topic: str, path: Path) -> None:
        self._path = path
        path.touch()
        with path.with_suffix(".log").open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.clients.member", server, GROUP, topic, str(path)],
                env=ENVIRONMENT,
                stderr=log,
            )
        self.pid = self._process.pid

    def events(self) -> list[Event]:
        return parse_events(self._path.read_text())

    def held(self) -> set[int]:
        return held(self.events())

    def committed_since(self, at: float) -> set[int]:
        """The partitions of which this member had a commit accepted that it began after that."""
        return {
            event.partition
            for event in self.events()
            if isinstance(event, Commit) and event.is_committed and event.begun_at > at
        }

    def end(self) -> int:
        self._process.terminate()
        try:
            return self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
