"""The core of a server under a simulated clock and disk, where one seed decides everything (scorecard row 28).

Store, syncs and group coordinator are the product's own; the loop, the clock and the disk are the test's. The seed says
which callback runs next, when the sync thread comes to its round and how far the owner thread gets during it, when time
passes, and what fails: the power, the process, a sync, an answer on its way, the room on the disk, the clock. Then all
faults stop, and in bounded time everything has to be sent, read, committed and owned by somebody. The same seed gives
the same trace, to the last event.
"""

import logging
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from itertools import combinations
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from logstore.compaction import compact
from logstore.config import DAY_MS, HOUR_MS, TopicConfig
from logstore.errors import LogStoreError, StorageFailed, StorageFull, TopicAlreadyExists
from tests.faults.bugs.planted import planted
from tests.faults.checker import check
from tests.faults.history import Assign, History
from tests.faults.keyed import KeyedReader, Sends
from tests.faults.runs import Session, Tally
from tests.faults.simulation.clients import (
    KEYED_TOPIC,
    PARTITIONS,
    TOPIC,
    Client,
    Committed,
    SimulatedKeyedProducer,
    SimulatedKeyedReader,
    SimulatedMember,
    SimulatedProducer,
    SimulatedReader,
    Work,
    add_poll,
)
from tests.faults.simulation.server import ConnectionLost, SimulatedServer, read_records
from tests.faults.storage.model import Violation, tell
from tests.faults.storage.workload import SYNCS, tiny_limits
from tests.logstore.disk import PowerCut, SimulatedDisk
from tests.logstore.partition import JumpingClock

ACTIONS = 200
PRODUCERS = 2
KEYED_PROCESS = 50
READERS = 1
MEMBERS = 2
CONFIG = TopicConfig.from_strings({"segment.bytes": "1024", "index.interval.bytes": "200", "retention.ms": "-1"})
KEYED_CONFIG = CONFIG.with_changes({"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0"})
#: Once nothing fails any more, everything is settled after so long. Clients choose by lot what they do next, so one of
#: many thousands takes its time.
SETTLED_AFTER_MS = 1_000_000
SETTLING_STEP_MS = 500
#: Of so many seeds one is run twice.
REPEATED_EVERY = 50
EVENTS_SHOWN = 40


@dataclass(frozen=True)
class Outcome:
    digest: str  # of all that happened
    violation: str | None
    acknowledged: int
    power_cuts: int
    passes: int


def run(session: Session, tally: Tally) -> None:
    """As many seeds as the session has cycles."""
    with planted(*session.planted), tiny_limits(), no_logs():
        for number in range(session.cycles):
            seed = session.seed + number
            outcome = simulate(seed)
            if outcome.violation is not None:
                tally.violate(f"simulation of {seed}: {outcome.violation}")
            elif number % REPEATED_EVERY == 0 and simulate(seed).digest != outcome.digest:
                tally.violate(f"simulation of {seed}: the same seed has another trace the second time")
            tally.count("seeds")
            tally.count("acknowledged", outcome.acknowledged)
            tally.count("power cuts", outcome.power_cuts)
            tally.count("passes", outcome.passes)
            if session.is_over(tally):
                return


def simulate(seed: int) -> Outcome:
    simulation = Simulation(seed)
    try:
        simulation.run()
        violation = None
    except Exception as error:
        violation = tell(error) + "\n" + "\n".join(simulation.events)
    finally:
        simulation.close()
    return Outcome(
        simulation.digest.hexdigest(), violation, simulation.acknowledged, simulation.power_cuts, simulation.passes
    )


@contextmanager
def no_logs() -> Iterator[None]:
    """A process that dies says a lot."""
    logging.disable(logging.CRITICAL)
    try:
        with capture_logs():
            yield
    finally:
        logging.disable(logging.NOTSET)


class Simulation:
    """The world of one seed: what it is to clients is in `clients`."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.history = History()
        self.committed = Committed()
        self.passes = 0  # of compaction
        delete_retention_ms = self.rng.choice((0, 10_000, DAY_MS))
        self.sends = Sends(keeps_tombstones=delete_retention_ms == DAY_MS)
        self._least_ahead_ms = 0  # that the wall clock ever was
        self._keyed_config = KEYED_CONFIG.with_changes({"delete.retention.ms": str(delete_retention_ms)})
        self.digest = sha256()
        self.events: deque[str] = deque(maxlen=EVENTS_SHOWN)
        self.power_cuts = 0
        self.acknowledged = 0
        self._clock = JumpingClock()
        self._disk = SimulatedDisk()
        self._server: SimulatedServer | None = None
        self._calls_count = 0
        # What goes wrong.
        self._steps_left: int | None = None  # until the power goes
        self._syncs_left: int | None = None  # until one fails
        self._is_power_off = False
        self._is_sync_failed = False
        self._lost_replies = self.rng.choice((0.0, 0.0, 0.05))
        self._interleaving = self.rng.choice((0.0, 0.1, 0.5))
        self._is_in_round = False
        self._faults: tuple[Callable[[], None], ...] = (
            self._cut_power_soon,
            self._cut_power_soon,
            self._kill,
            self._stop,
            self._fail_sync_soon,
            self._fill_disk,
            self._free_disk,
            self._set_clock,
            self._stop_member,
        )
        self._fault_rate = self.rng.choice((0.005, 0.03, 0.1))
        # Who lives here.
        self._producers = [SimulatedProducer(self, process) for process in range(PRODUCERS)]
        self._producers.append(SimulatedKeyedProducer(self, KEYED_PROCESS))
        self._readers = [SimulatedReader(self, PRODUCERS + n, self.rng.randrange(PARTITIONS)) for n in range(READERS)]
        self._members = [SimulatedMember(self, PRODUCERS + READERS + n) for n in range(MEMBERS)]
        self._follower = SimulatedKeyedReader(self)
        self._clients: tuple[Client, ...] = (*self._producers, *self._readers, *self._members, self._follower)

    def run(self) -> None:
        """Raise Violation for what must never happen."""
        for _ in range(ACTIONS):
            self._act()
        self._stop_faults()
        deadline_ms = self._clock.now_ms + SETTLED_AFTER_MS
        while not self._is_settled():
            if self._clock.now_ms > deadline_ms:
                raise Violation(f"nothing has failed for {SETTLED_AFTER_MS} ms, and {self._what_is_unsettled()}")
            self._settle_a_step()
        self._judge()

    def close(self) -> None:
        if self._server is not None:
            self._server.die()

    # What clients see of it.

    def now_ms(self) -> int:
        return self._clock.now_ms

    def call(self, work: Work, on_done: Callable[[Any], None]) -> None:
        self._calls_count += 1
        number = self._calls_count
        told = partial(self._answer, number, on_done)
        if self._server is None or not self._server.is_ready:
            told(ConnectionLost())
        else:
            self._server.call(work(self._server), told)

    def _answer(self, number: int, on_done: Callable[[Any], None], result: Any) -> None:
        if self._lost_replies and self.rng.random() < self._lost_replies:
            result = ConnectionLost()
        self._note(f"{number} {_brief(result)}")
        on_done(result)
        self._check_owners()

    def _check_owners(self) -> None:
        for one, other in combinations(self._members, 2):
            if both := one.believes() & other.believes():
                raise Violation(f"{sorted(held.number for held in both)} have two owners")

    # What happens.

    def _act(self) -> None:
        server = self._server
        if server is None:
            if self.rng.random() < 0.3:
                self._start()
            else:
                self._pass_time()
            return
        if self.rng.random() < self._fault_rate:
            fault = self.rng.choice(self._faults)
            self._note(fault.__name__)
            fault()
            return
        choice = self.rng.random()
        try:
            if choice < 0.3:
                server.loop.run(self.rng.choice((1, 5, 100)), self._check_power)
            elif choice < 0.45:
                self._run_round(server)
            elif choice < 0.9:
                for client in self.rng.sample(self._clients, self.rng.randint(1, 3)):
                    client.step()
            elif choice < 0.98:
                self._pass_time()
                self._run_pass(server)
            else:
                for topic, partition in server.store.unopened_that_age():
                    server.store.log(topic.name, partition)
                server.store.retain()
        except PowerCut:
            self._lose_power()
            return
        except StorageFailed as error:
            # Met while a log was opened. The process has to end then, whoever asked for the log.
            if server.store.synchronizer.failure is None:
                raise Violation(f"the disk has failed, and the server goes on: {error}") from error
        self._look_after(server)

    def _start(self) -> None:
        self._disk.before_step = self._before_step
        try:
            self._server = SimulatedServer(self._disk, self._clock, self.rng)
            if self._clock.wall_ahead_ms - self._least_ahead_ms > DAY_MS / 2:
                # Until when a tombstone stays is a time of the wall clock, and how that was wrong before it started
                # no process knows.
                self.sends.keeps_tombstones = False
            self._make_topic(self._server)
            self._note(f"started in epoch {self._server.store.leader_epoch}")
        except PowerCut:
            self._lose_power()
        except StorageFull:
            self._check_full()
            self._free_disk()
            self._die()
        except StorageFailed:
            self._die()

    def _make_topic(self, server: SimulatedServer) -> None:
        with suppress(TopicAlreadyExists):
            server.store.create_topic(TOPIC, PARTITIONS, CONFIG)
        with suppress(TopicAlreadyExists):
            server.store.create_topic(KEYED_TOPIC, 1, self._keyed_config)

    def _run_round(self, server: SimulatedServer) -> None:
        if server.store.synchronizer.wait_ms() != 0:
            return
        self._is_in_round = True
        try:
            server.store.synchronizer.run_round()
        finally:
            self._is_in_round = False

    def _run_pass(self, server: SimulatedServer) -> None:
        """The process that compacts does its work, if there is some, and the server goes on meanwhile."""
        if server.wanted_pass is None:
            return
        (plan, waiter), server.wanted_pass = server.wanted_pass, None
        was_failed, self._is_sync_failed = self._is_sync_failed, False

        def go_on(size: int) -> None:
            if self.rng.random() < self._interleaving:
                server.loop.run(self.rng.randint(1, 4), self._check_power)
                self._run_round(server)

        try:
            result = compact(plan, self._disk, go_on)
        except LogStoreError as error:
            if not isinstance(error, (StorageFull, StorageFailed)) or not self._is_excused(error):
                raise Violation(f"a pass failed: {error!r}") from error
            waiter.set_exception(error)
        else:
            self.passes += 1
            waiter.set_result(result)
            self._note(f"compacted {result.records_read} records to {result.records_kept}")
        self._is_sync_failed |= was_failed

    def _is_excused(self, error: LogStoreError) -> bool:
        return self._disk.capacity_bytes is not None if isinstance(error, StorageFull) else self._is_sync_failed

    def _pass_time(self) -> None:
        """To the next timer, or for a while."""
        ms = self.rng.choice((1, 20, 300, 2000))
        due_ms = None if self._server is None else self._server.loop.next_timer_ms()
        if due_ms is not None and self.rng.random() < 0.5:
            ms = max(1, due_ms - self._clock.monotonic_ms())
        self._clock.now_ms += ms
        self._note(f"at {self._clock.now_ms}")

    def _look_after(self, server: SimulatedServer) -> None:
        """Whether anything went wrong that nobody else is told of."""
        for error in server.loop.failures:
            raise error
        failure = server.failure or server.store.synchronizer.failure
        if failure is None:
            return
        if isinstance(failure, StorageFull):
            self._check_full()
            self._free_disk()
        elif not isinstance(failure, StorageFailed) or not self._is_sync_failed:
            raise Violation(f"the server gave up: {failure!r}") from failure
        self._die()

    def _before_step(self, operation: str, path: Path) -> None:
        if self._is_in_round and self.rng.random() < self._interleaving:
            # The sync thread is at the disk, and the owner thread goes on.
            self._is_in_round = False
            assert self._server is not None
            self._server.loop.run(self.rng.randint(1, 4), self._check_power)
            self._is_in_round = True
        if self._steps_left is not None:
            self._steps_left -= 1
        if self._is_power_off or (self._steps_left is not None and self._steps_left < 0):
            self._is_power_off = True
            raise PowerCut
        if self._syncs_left is not None and operation in SYNCS:
            self._syncs_left -= 1
            if self._syncs_left < 0:
                self._syncs_left = None
                self._is_sync_failed = True
                self._note(f"syncing {path.name} fails")
                raise StorageFailed(f"syncing {path} failed", remedy="None in a test.")

    def _check_power(self) -> None:
        # A task keeps even this exception to itself.
        if self._is_power_off:
            raise PowerCut

    # What fails.

    def _cut_power_soon(self) -> None:
        self._steps_left = self.rng.randrange(40)

    def _lose_power(self) -> None:
        self.power_cuts += 1
        self._note("the power is cut")
        self._die(self._disk.crash(self.rng))

    def _kill(self) -> None:
        self._die()

    def _die(self, disk: SimulatedDisk | None = None) -> None:
        """The process ends; without another disk the machine stays up."""
        server, self._server = self._server, None
        self._disk.before_step = _refuse
        self._disk = disk or self._disk.kill()
        self._steps_left, self._is_power_off, self._is_sync_failed = None, False, False
        if server is not None:
            for on_done in server.die():
                on_done(ConnectionLost())

    def _stop(self) -> None:
        """A clean stop, as far as the disk lets it."""
        server = self._server
        assert server is not None
        try:
            server.store.close()
        except PowerCut:
            self._lose_power()
            return
        except (StorageFull, StorageFailed) as error:
            self._note(f"stopped with {_brief(error)}")
        self._die()

    def _fail_sync_soon(self) -> None:
        self._syncs_left = self.rng.randrange(3)

    def _fill_disk(self) -> None:
        self._disk.capacity_bytes = self._disk.used_bytes + self.rng.randrange(4000)

    def _free_disk(self) -> None:
        self._disk.capacity_bytes = None

    def _check_full(self) -> None:
        if self._disk.capacity_bytes is None:
            raise Violation("the disk was said to be full, and was not")

    def _set_clock(self) -> None:
        self._clock.wall_ahead_ms = self.rng.choice((0, HOUR_MS, -HOUR_MS, -365 * DAY_MS, 365 * DAY_MS))
        self._least_ahead_ms = min(self._least_ahead_ms, self._clock.wall_ahead_ms)

    def _stop_member(self) -> None:
        self.rng.choice(self._members).sleep(self.rng.choice((500, 12_000, 40_000)))

    # The end.

    def _stop_faults(self) -> None:
        self._steps_left = self._syncs_left = None
        self._lost_replies = self._fault_rate = 0.0
        self._free_disk()
        for producer in self._producers:
            producer.is_done = True
        for member in self._members:
            member.sleep(0)

    def _settle_a_step(self) -> None:
        """Everybody gets a turn."""
        if self._server is None:
            self._start()
        server = self._server
        assert server is not None
        for client in self._clients:
            client.step()
        while server.loop.has_ready or server.store.synchronizer.wait_ms() == 0:
            server.loop.run(1000, self._check_power)
            self._run_round(server)
        self._run_pass(server)
        self._clock.now_ms += SETTLING_STEP_MS
        self._look_after(server)

    def _is_settled(self) -> bool:
        return self._what_is_unsettled() is None

    def _what_is_unsettled(self) -> str | None:
        if self._server is None or not self._server.is_ready:
            return "the server is not ready"
        if not all(producer.is_idle for producer in self._producers):
            return "not everything is acknowledged"
        owned = sorted(held.number for member in self._members for held in member.believes())
        if owned != list(range(PARTITIONS)):
            return f"the partitions {owned} of {PARTITIONS} are owned"
        ends = {number: self._server.store.log(TOPIC, number).log_end_offset for number in range(PARTITIONS)}
        committed = {number: self.committed.offsets.get(number, 0) for number in ends}
        return None if committed == ends else f"of {ends} the group has committed {committed}"

    def _judge(self) -> None:
        assert self._server is not None
        self.history.add(Assign(99))
        for number in range(PARTITIONS):
            log = self._server.store.log(TOPIC, number)
            self._drain(number, log.high_watermark)
            read = set().union(*(member.read[number] for member in self._members))
            if missed := set(range(log.high_watermark)) - read:
                raise Violation(f"the group has committed partition {number}, and never read {sorted(missed)[:5]}")
        verdict = check(self.history.operations)
        self.acknowledged = verdict.acknowledged + self.sends.acknowledged
        wrong = verdict.shown + self._follower.seen.violations + self._drain_keyed()
        if wrong:
            raise Violation("; ".join(wrong))

    def _drain(self, number: int, end_offset: int) -> None:
        assert self._server is not None
        log = self._server.store.log(TOPIC, number)
        offset = 0
        while offset < end_offset:
            records, offset = read_records(log, offset)
            add_poll(self.history, 99, number, records)

    def _drain_keyed(self) -> list[str]:
        """What is wrong with what the compacted topic has from its beginning to its end."""
        assert self._server is not None
        log = self._server.store.log(KEYED_TOPIC, 0)
        reader = KeyedReader(self.sends)
        offset = log.log_start_offset
        while offset < log.high_watermark:
            records, offset = read_records(log, offset)
            reader.take(0, records)
        reader.finish(self.sends.newest())
        return reader.violations

    def _note(self, event: str) -> None:
        self.digest.update(event.encode())
        self.events.append(event)


def _refuse(operation: str, path: Path) -> None:
    raise PowerCut  # whatever a dead process still wants of the disk


def _brief(result: Any) -> str:
    match result:
        case BaseException():
            return type(result).__name__
        case ([*records], int(next_offset)):
            return f"{len(records)} records before {next_offset}"
    return repr(result)
