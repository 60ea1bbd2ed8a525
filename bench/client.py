"""How many records a second does one Python process produce and consume?

Client and server share the two cores. Every turn produces to, and reads, a topic of its own, so that turns are alike.
Records are 100-byte values keyed by the flights' tail numbers, and the flights themselves.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench.pairs import Rate
from bench.payload import flights
from tailrace import Admin, Consumer, Producer
from tests.processes import ServerProcess

PARTITIONS = 4
RECORDS = 1_000_000


def hundred_byte_records() -> tuple[list[bytes], list[bytes]]:
    keys = [key for key, _ in flights()]
    value = bytes(range(100))
    return (keys * (RECORDS // len(keys) + 1))[:RECORDS], [value] * RECORDS


def flight_records() -> tuple[list[bytes], list[bytes]]:
    return [key for key, _ in flights()], [value for _, value in flights()]


class Topics:
    """A fresh topic for every turn, deleted when the next is asked for so that the disk does not fill."""

    def __init__(self, server: str) -> None:
        self._admin = Admin(server=server)
        self._count = 0

    def fresh(self) -> str:
        if self._count:
            self._admin.delete_topic(f"bench-{self._count}")
        self._count += 1
        topic = f"bench-{self._count}"
        self._admin.create_topic(topic, partitions=PARTITIONS)
        return topic

    def close(self) -> None:
        self._admin.close()


def send_rate(server: str, topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> float:
    """Records/s through send, the last acknowledgement included."""
    with Producer(server=server) as producer:
        producer.send(topic, b"first: connects", b"key").result()
        started = time.perf_counter()
        send = producer.send
        for key, value in zip(keys, values, strict=True):
            send(topic, value, key)
        producer.flush()
        return len(values) / (time.perf_counter() - started)


def send_many_rate(server: str, topic: str, keys: Sequence[bytes], values: Sequence[bytes]) -> float:
    with Producer(server=server) as producer:
        producer.send(topic, b"first: connects", b"key").result()
        started = time.perf_counter()
        for start in range(0, len(values), 50_000):
            producer.send_many(topic, values[start : start + 50_000], keys[start : start + 50_000])
        producer.flush()
        return len(values) / (time.perf_counter() - started)


def record_rate(server: str, topic: str) -> float:
    """Records/s of plain iteration, from the first record's arrival to the last's."""
    with Consumer(topic, partitions=list(range(PARTITIONS)), stop_at_end=True, server=server) as consumer:
        count = 0
        records = iter(consumer)
        next(records)
        started = time.perf_counter()
        for _ in records:
            count += 1
        return count / (time.perf_counter() - started)


def batch_rate(server: str, topic: str) -> float:
    """Records/s of iteration by batches, with the values of each decoded."""
    with Consumer(topic, partitions=list(range(PARTITIONS)), stop_at_end=True, server=server) as consumer:
        count = 0
        batches = iter(consumer.batches())
        next(batches)
        started = time.perf_counter()
        for batch in batches:
            count += len(batch.values)
        return count / (time.perf_counter() - started)


def run(directory: Path, turns: int) -> list[Rate]:
    rates: dict[str, list[float]] = {}

    def take(name: str, measure: Callable[[], float]) -> None:
        rates.setdefault(name, []).append(measure())

    with ServerProcess(directory / "client") as server:
        topics = Topics(server.address)
        workloads = {"100 B": hundred_byte_records(), "flights": flight_records()}
        # The first turn warms up and is thrown away.
        for turn in range(turns + 1):
            if turn == 1:
                rates.clear()
            for name, (keys, values) in workloads.items():
                many = topics.fresh()
                take(f"send_many, {name}", partial(send_many_rate, server.address, many, keys, values))
                one = topics.fresh()
                take(f"send, {name}", partial(send_rate, server.address, one, keys, values))
                take(f"consume as records, {name}", partial(record_rate, server.address, one))
                take(f"consume as batches, {name}", partial(batch_rate, server.address, one))
        topics.close()
    targets = {
        "send, 100 B": 800_000,
        "send_many, 100 B": 2_000_000,
        "consume as records, 100 B": 1_200_000,
        "consume as batches, 100 B": 4_000_000,
    }
    return [Rate(name, "records/s", values, targets.get(name)) for name, values in rates.items()]
