"""How many records a second does one Python process produce and consume?

Client and server share the two cores. Every turn produces to, and reads, a topic of its own, so that turns are alike.
Records are 100-byte values keyed by the flights' tail numbers, and the flights themselves.

Beside each stands the codec alone, in a process that does nothing else: the same records put into batches, or read from
them, by aiokafka's C code in a bare loop. No Python client that makes or reads these batches can be faster.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from bench.pairs import Comparison
from bench.payload import flights
from logstore.batch import BatchBuilder, Contents, decode_column, open_batch
from tailrace import Admin, Consumer, Producer
from tests.processes import ServerProcess

PARTITIONS = 4
RECORDS = 1_000_000
BATCH_BYTES = 1 << 20


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


def codec_batches(keys: Sequence[bytes], values: Sequence[bytes]) -> list[bytes]:
    """The records in batches, made by the codec alone."""
    batches: list[bytes] = []
    builder = BatchBuilder(bytes_max=BATCH_BYTES)
    append, count, now_ms = builder.append_at, 0, time.time_ns() // 1_000_000
    for key, value in zip(keys, values, strict=True):
        if append(count, now_ms, key, value, []) is None:
            batches.append(bytes(builder.build(Contents(count, now_ms, now_ms))))
            builder = BatchBuilder(bytes_max=BATCH_BYTES)
            append, count = builder.append_at, 0
            append(count, now_ms, key, value, [])
        count += 1
    batches.append(bytes(builder.build(Contents(count, now_ms, now_ms))))
    return batches


def codec_write_rate(keys: Sequence[bytes], values: Sequence[bytes]) -> float:
    started = time.perf_counter()
    codec_batches(keys, values)
    return len(values) / (time.perf_counter() - started)


def codec_record_rate(batches: Sequence[bytes]) -> float:
    count = 0
    started = time.perf_counter()
    for batch in batches:
        for _ in open_batch(batch)[1]:
            count += 1
    return count / (time.perf_counter() - started)


def codec_batch_rate(batches: Sequence[bytes]) -> float:
    started = time.perf_counter()
    count = sum(len(decode_column(batch, "value")) for batch in batches)
    return count / (time.perf_counter() - started)


#: Records/s that were asked for.
ASKED_FOR = {
    "send, 100 B": 800_000,
    "send_many, 100 B": 2_000_000,
    "consume as records, 100 B": 1_200_000,
    "consume as batches, 100 B": 4_000_000,
}


def run(directory: Path, turns: int) -> list[Comparison]:
    ours: dict[str, list[float]] = {}
    theirs: dict[str, list[float]] = {}

    def take(name: str, measure: Callable[[], float], codec_alone: Callable[[], float]) -> None:
        in_turn = [(theirs.setdefault(name, []), codec_alone), (ours.setdefault(name, []), measure)]
        for rates, run_once in in_turn if len(theirs[name]) % 2 else reversed(in_turn):
            rates.append(run_once())

    with ServerProcess(directory / "client") as server:
        topics = Topics(server.address)
        workloads = {"100 B": hundred_byte_records(), "flights": flight_records()}
        ready = {name: codec_batches(*records) for name, records in workloads.items()}
        # The first turn warms up and is thrown away.
        for turn in range(turns + 1):
            if turn == 1:
                ours.clear()
                theirs.clear()
            for name, (keys, values) in workloads.items():
                batches = ready[name]
                write = partial(codec_write_rate, keys, values)
                many = topics.fresh()
                take(f"send_many, {name}", partial(send_many_rate, server.address, many, keys, values), write)
                one = topics.fresh()
                take(f"send, {name}", partial(send_rate, server.address, one, keys, values), write)
                take(
                    f"consume as records, {name}",
                    partial(record_rate, server.address, one),
                    partial(codec_record_rate, batches),
                )
                take(
                    f"consume as batches, {name}",
                    partial(batch_rate, server.address, one),
                    partial(codec_batch_rate, batches),
                )
        topics.close()
    return [
        Comparison(name, "records/s", rates, theirs[name], "the codec alone", at_least=ASKED_FOR.get(name))
        for name, rates in ours.items()
    ]
