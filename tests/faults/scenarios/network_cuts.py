"""The network between clients and server is cut, in every way that it can be, under load (scorecard row 13).

However often a producer has to send a batch again, because a request, or only its reply, was lost: it is written once,
in its place. When and how the network is cut is up to the seed, what is on its way then is not.
"""

import random
import time
from collections.abc import Callable

from tests.faults.checker import check
from tests.faults.clients.proxy import Direction, Proxy
from tests.faults.clients.workload import Workload
from tests.faults.history import History
from tests.faults.runs import Session, Tally
from tests.processes import SHORT_SESSIONS, ServerProcess

#: Of replies to a few requests; a cut falls into the middle of one of them.
CUT_BYTES_MAX = 4096


def run(session: Session, tally: Tally) -> None:
    """Cut the network as often as the session has cycles, and judge."""
    rng = session.rng("cuts")
    history = History(session.directory / "history.jsonl")
    with ServerProcess(session.directory / "data", *SHORT_SESSIONS, patches=session.planted) as server:
        with Proxy(server.address) as proxy:
            workload = Workload(proxy.address, history, session.seed, pause_seconds=0.02)
            workload.start()
            for _ in range(session.cycles):
                time.sleep(rng.uniform(0.02, 0.3))
                name, cut = rng.choice(CUTS)
                cut(proxy, rng)
                proxy.release()
                tally.count("cuts")
                tally.count(name)
                workload.check()
            workload.stop()
    history.close()
    tally.judge(check(history.operations))


def _lose(*directions: Direction) -> Callable[[Proxy, random.Random], None]:
    """What is sent in these directions does not arrive, and then everybody learns that the connection is gone."""

    def cut(proxy: Proxy, rng: random.Random) -> None:
        proxy.hold(*directions)
        _wait(rng)
        proxy.reset()

    return cut


def _reset(proxy: Proxy, rng: random.Random) -> None:
    proxy.reset()


def _stall(proxy: Proxy, rng: random.Random) -> None:
    """Nothing arrives for a while, and then all of it."""
    proxy.hold(Direction.UP, Direction.DOWN)
    _wait(rng)


def _delay(proxy: Proxy, rng: random.Random) -> None:
    proxy.delay(rng.uniform(0.01, 0.1))
    _wait(rng)
    if rng.random() < 0.5:
        proxy.reset()


def _slow(proxy: Proxy, rng: random.Random) -> None:
    """So slow that a message never ends; it is cut in the middle."""
    proxy.slow()
    _wait(rng)
    proxy.reset()


def _cut_within(direction: Direction) -> Callable[[Proxy, random.Random], None]:
    def cut(proxy: Proxy, rng: random.Random) -> None:
        proxy.cut_after(direction, rng.randrange(CUT_BYTES_MAX))
        _wait(rng)

    return cut


def _half_close(direction: Direction) -> Callable[[Proxy, random.Random], None]:
    def cut(proxy: Proxy, rng: random.Random) -> None:
        proxy.half_close(direction)
        _wait(rng)

    return cut


def _wait(rng: random.Random) -> None:
    time.sleep(rng.uniform(0.005, 0.2))


CUTS = (
    ("resets", _reset),
    ("lost replies", _lose(Direction.DOWN)),
    ("lost requests", _lose(Direction.UP)),
    ("lost both ways", _lose(Direction.UP, Direction.DOWN)),
    ("stalls", _stall),
    ("delays", _delay),
    ("slow", _slow),
    ("replies cut in the middle", _cut_within(Direction.DOWN)),
    ("requests cut in the middle", _cut_within(Direction.UP)),
    ("half-closed to the server", _half_close(Direction.UP)),
    ("half-closed to the client", _half_close(Direction.DOWN)),
)
