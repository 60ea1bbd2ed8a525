"""A run can be repeated from its seed, stopped and gone on with, and what it saw is never smoothed over."""

from pathlib import Path

from tests.faults.checker import check
from tests.faults.history import Outcome, Poll, Send
from tests.faults.runs import Fault, Ledger, Session, Tally, run_fault, run_session


class Recorder:
    """A fault that does nothing but remember, and goes wrong in the sessions it is told to."""

    def __init__(self, *, bad: tuple[int, ...] = ()) -> None:
        self.sessions: list[Session] = []
        self._bad = bad

    def run(self, session: Session, tally: Tally) -> None:
        assert list(session.directory.iterdir()) == []
        (session.directory / "evidence").write_text("x")
        tally.count("drawn", session.rng("x").randrange(1000))
        if len(self.sessions) in self._bad:
            tally.violate("lost: one")
        self.sessions.append(session)


def fault(recorder: Recorder, *, session_cycles: int = 10) -> Fault:
    return Fault("nothing", "nothing", recorder.run, cycles_ci=1, cycles_full=1, session_cycles=session_cycles)


def test_a_run_goes_on_with_the_first_session_that_the_ledger_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    recorder = Recorder()
    run = run_fault(fault(recorder), 7, 35, tmp_path, Ledger(path))
    next(run)
    next(run)
    run.close()
    with path.open("a") as file:
        file.write('{"fault": "not')  # stopped while it wrote

    entries = list(run_fault(fault(recorder), 7, 35, tmp_path, Ledger(path)))

    assert [(entry.session, entry.cycles) for entry in entries] == [(2, 10), (3, 5)]
    assert [session.cycles for session in recorder.sessions] == [10, 10, 10, 5]
    assert [entry.session for entry in Ledger(path).entries] == [0, 1, 2, 3]


def test_a_session_repeats_from_the_seed_of_its_run_and_its_number(tmp_path: Path) -> None:
    recorder = Recorder()
    first = list(run_fault(fault(recorder), 7, 30, tmp_path, Ledger(tmp_path / "ledger.jsonl")))
    again = run_session(fault(recorder), 7, 1, 10, tmp_path)
    other = run_session(fault(recorder), 8, 1, 10, tmp_path)
    assert again.counts == first[1].counts
    assert len({session.seed for session in recorder.sessions}) == 4
    assert other.counts != first[1].counts


def test_another_seed_is_another_run(tmp_path: Path) -> None:
    recorder = Recorder()
    ledger = Ledger(tmp_path / "ledger.jsonl")
    assert len(list(run_fault(fault(recorder), 7, 20, tmp_path, ledger))) == 2
    assert len(list(run_fault(fault(recorder), 8, 20, tmp_path, ledger))) == 2


def test_the_evidence_of_a_session_that_went_wrong_is_kept(tmp_path: Path) -> None:
    recorder = Recorder(bad=(1,))
    good, bad = run_fault(fault(recorder), 7, 20, tmp_path, Ledger(tmp_path / "ledger.jsonl"))
    assert good.violations == []
    assert not recorder.sessions[0].directory.exists()
    assert bad.counts["violations"] == 1
    assert bad.violations[0] == "lost: one"
    assert (recorder.sessions[1].directory / "evidence").exists()


def test_a_session_that_cannot_go_on_is_a_violation_and_not_the_end_of_the_run(tmp_path: Path) -> None:
    def break_off(session: Session, tally: Tally) -> None:
        raise AssertionError("the server did not become ready")

    broken = Fault("broken", "broken", break_off, cycles_ci=1, cycles_full=1)
    entries = list(run_fault(broken, 7, 2, tmp_path, Ledger(tmp_path / "ledger.jsonl")))
    assert [entry.counts["violations"] for entry in entries] == [1, 1]
    assert "did not become ready" in entries[0].violations[0]


def test_every_anomaly_of_a_history_counts_however_many_are_shown() -> None:
    tally = Tally()
    tally.judge(check([*(Send(0, n, 0, Outcome.OK, n) for n in range(100)), Poll(9, ())]))
    assert tally.counts["violations"] == 100
    assert 0 < len(tally.violations) < 100
