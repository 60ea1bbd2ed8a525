"""Waiting for what comes, with a deadline and never by sleeping."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from tests.conformance.clients import Consumer, Record

#: A group on a slow machine may take so long to settle; what is right comes at once.
SECONDS_MAX = 40.0
POLL_SECONDS = 0.2


def read(consumer: Consumer, count: int, seconds_max: float = SECONDS_MAX) -> list[Record]:
    """Poll until there are so many records, in the order of their arrival."""
    records: list[Record] = []
    deadline = time.monotonic() + seconds_max
    while len(records) < count:
        assert time.monotonic() < deadline, f"{len(records)} of {count} records in {seconds_max:g} s: {records[-3:]}"
        records += consumer.poll(1.0)
    assert len(records) == count, f"more came than was written: {records[count:][:3]}"
    return records


def read_while_writing(consumer: Consumer, write: Callable[[], object]) -> list[Record]:
    """Write again and again until the consumer, which starts at the end, has found out where that is and reads."""
    deadline = time.monotonic() + SECONDS_MAX
    records: list[Record] = []
    while not records:
        assert time.monotonic() < deadline, f"nothing of what was written was read in {SECONDS_MAX:g} s"
        write()
        records = consumer.poll(0.3)
    return records


def poll_until(
    condition: Callable[[], bool], consumers: Sequence[Consumer], seconds_max: float = SECONDS_MAX
) -> list[Record]:
    """Poll all at once, again and again, until the condition holds, and return what they read meanwhile.

    In turn would not do: in a rebalance each waits for the others, and kafka-python, which goes on with it only within
    a poll, begins anew when it was not called for long.
    """
    records: list[Record] = []
    deadline = time.monotonic() + seconds_max
    with ThreadPoolExecutor(len(consumers)) as threads:
        while not condition():
            having = [consumer.assignment() for consumer in consumers]
            assert time.monotonic() < deadline, f"not so in {seconds_max:g} s; the members have {having}"
            for polled in threads.map(lambda consumer: consumer.poll(POLL_SECONDS), consumers):
                records += polled
    return records


def eventually(condition: Callable[[], bool], seconds_max: float = SECONDS_MAX) -> None:
    """Ask again until it is so."""
    deadline = time.monotonic() + seconds_max
    while not condition():
        assert time.monotonic() < deadline, f"not so in {seconds_max:g} s"
        time.sleep(0.05)
