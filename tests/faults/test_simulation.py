"""The core bears everything at once, whatever the seed, and the seed decides everything."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from consumer_groups.requests import NO_OFFSET
from logstore.log import Appended
from logstore.producers import BATCHES_REMEMBERED
from tests.faults.catalog import FAULTS
from tests.faults.hunts import any_seed, bug_cases, find_violation, sessions_of
from tests.faults.keyed import Sends
from tests.faults.simulation.clients import Committed, SimulatedKeyedProducer, World
from tests.faults.simulation.simulation import no_logs, simulate
from tests.faults.storage.model import Violation
from tests.faults.storage.workload import tiny_limits

FAULT = sessions_of("simulation", 20)
PRODUCER_ID = 7
QUICK = ("sync-skipped", "failed-sync-retried", "batches-forgotten", "duplicates-appended")


@pytest.mark.parametrize("seed", [1, pytest.param(any_seed(), id="any")])
def test_all_is_sent_read_committed_and_owned_in_the_end(tmp_path: Path, seed: int) -> None:
    assert find_violation(FAULT, tmp_path, cycles=20, seed=seed) is None


def test_a_producer_sends_no_more_than_the_server_remembers_from_a_batch_on_whose_answer_was_lost() -> None:
    sent: list[Callable[[Any], None]] = []

    class Answering:
        """All but the first batch."""

        rng = random.Random(1)
        sends = Sends(keeps_tombstones=False)

        def now_ms(self) -> int:
            return 0

        def call(self, work: object, on_done: Callable[[Any], None]) -> None:
            sent.append(on_done)
            if len(sent) == 1:
                on_done(PRODUCER_ID)
            elif len(sent) > 2:
                on_done(Appended(0, 0, duplicate=False))

    producer = SimulatedKeyedProducer(cast(World, Answering()), process=0)
    for _ in range(100):
        producer.step()
    assert len(sent) == 1 + BATCHES_REMEMBERED


def test_what_was_told_to_be_committed_is_so_from_then_on_though_the_commit_had_no_answer() -> None:
    committed = Committed()
    committed.begin(0, 8)
    committed.check(0, 8)
    assert committed.offsets == {0: 8}
    with pytest.raises(Violation, match="begins again at -1"):
        committed.check(0, NO_OFFSET)


def test_a_seed_repeats_to_the_last_event_and_another_is_another() -> None:
    with tiny_limits(), no_logs():
        first, again, other = (simulate(seed).digest for seed in (5, 5, 6))
    assert first == again
    assert first != other


@pytest.mark.parametrize("bug", bug_cases("simulation", *QUICK))
def test_a_planted_bug_is_caught(tmp_path: Path, bug: str) -> None:
    assert find_violation(FAULT, tmp_path, cycles=FAULTS["simulation"].cycles_ci, seed=3, bug=bug) is not None
