"""What does one Kafka client get from our door, and what from Apache Kafka on the same machine?

Ours keeps its durable default: what is acknowledged is synced. Kafka keeps its own, which syncs nothing. Only the rows
with acks=1 have both alike: ours on a topic with durability=relaxed. Client and broker share the cores. Both run all
the time and are loaded in turn, each with a topic of its own that is deleted afterwards, so both write to blocks of the
disk that were used before, and to memory that was (`memory`); Kafka is warmed up first, since it is slow for its first
seconds. Before each turn everything is synced, or what Kafka left to the kernel would be written in ours.

A third broker is our door with nothing behind it (`discarding`), which throws away what it is sent. Its rate stands
beside the rates in: the client can send no faster, whatever the broker.

Needs confluent-kafka, Java and the jars of Apache Kafka: `python -m tests.conformance.apache` fetches these.
"""

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from bench.memory import FullMemory
from bench.pairs import Comparison
from bench.process import cpu_seconds, resident_mib
from tests.conformance.apache import ApacheKafka
from tests.processes import ServerProcess

T = TypeVar("T")

#: As bin/kafka-server-start.sh and kafka-run-class.sh have it.
KAFKA_JVM = (
    "-Xmx1G",
    "-Xms1G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)
RECORDS = {100: 1_000_000, 1000: 300_000}
WARM_RECORDS = 500_000
LATENCY_RECORDS = 5_000
LATENCY_RATE = 1_000  # a second
FLUSH_SECONDS_MAX = 120

#: librdkafka's default fetch queue makes a fast reader stall for a second at a time.
READ_AHEAD = {
    "queued.min.messages": 1_000_000,
    "queued.max.messages.kbytes": 1 << 20,
    "fetch.queue.backoff.ms": 10,
}
QUIET = {"log_level": 2}
IDEMPOTENT = {"enable.idempotence": True}
#: Topic settings of ours under which neither syncs before it acknowledges.
RELAXED = {"durability": "relaxed"}

PEER = "Apache Kafka"
UNSYNCED = "Apache Kafka, which syncs nothing"


@dataclass(frozen=True)
class Broker:
    address: str
    pid: int


@dataclass(frozen=True)
class Load:
    """What one turn of one broker has shown, per second and per record."""

    records_in: float
    records_out: float
    cpu_in_us: float
    cpu_out_us: float


def ours(directory: Path) -> AbstractContextManager[Broker]:
    return _logserver(directory)


def discarding(directory: Path) -> AbstractContextManager[Broker]:
    return _logserver(directory, sys.executable, "-m", "bench.discarding")


@contextmanager
def _logserver(directory: Path, *command: str) -> Iterator[Broker]:
    with ServerProcess(directory / "data", kafka=True, command=command) as server:
        yield Broker(server.kafka_address, server.pid)


@contextmanager
def theirs(directory: Path) -> Iterator[Broker]:
    with ApacheKafka(directory, KAFKA_JVM) as kafka:
        yield Broker(kafka.address, kafka.pid)


def run(directory: Path, turns: int) -> Iterator[Comparison]:
    with ExitStack() as stack:
        memory = FullMemory(directory)
        stack.callback(memory.close)
        started = []
        for name, start in (("ours", ours), ("theirs", theirs), ("discarding", discarding)):
            (directory / f"kafka-{name}").mkdir()
            started.append(stack.enter_context(start(directory / f"kafka-{name}")))
        *brokers, nothing = started
        for broker in brokers:
            with topic(broker, "warm") as warm:
                load(broker, warm, IDEMPOTENT, 100, WARM_RECORDS)
                p99_ms(broker, warm)
        # First, and not while topics of gigabytes are removed.
        latencies = in_turn(brokers, memory, turns, partial(in_topic, measure=p99_ms))
        what = f"p99 of an acknowledgement at {LATENCY_RATE:,} records/s"
        yield Comparison(what, "ms", *latencies, against=UNSYNCED, ratio_at_most=0.3)
        for size, least_in, least_out in ((100, 1.4, 1.0), (1000, 2.0, 1.1)):
            synced = partial(load, settings=IDEMPOTENT, size=size, count=RECORDS[size])
            loads = in_turn(brokers, memory, turns, partial(in_topic, measure=synced))
            most = client_limit(nothing, IDEMPOTENT, size, turns)
            yield _rate(f"in, {size} B, idempotent, acks=all", loads, "records_in", least_in, most)
            yield _rate(f"out, {size} B", loads, "records_out", least_out)
            yield _cost(f"broker CPU a record in, {size} B", loads, "cpu_in_us", 0.3)
            yield _cost(f"broker CPU a record out, {size} B", loads, "cpu_out_us", 0.6)
        for size, target in ((100, 1.2), (1000, 3.0)):
            unsynced = partial(load, settings={"acks": 1}, size=size, count=RECORDS[size])
            loads = in_turn(brokers, memory, turns, partial(in_topic, measure=unsynced, config=RELAXED))
            most = client_limit(nothing, {"acks": 1}, size, turns)
            yield _rate(f"in, {size} B, acks=1, neither syncs", loads, "records_in", target, most)
        mine, other = ([resident_mib(broker.pid)] for broker in brokers)
        yield Comparison("resident after all this", "MiB", mine, other, against=PEER, ratio_at_most=0.25)
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(turns):
        for side, start in enumerate((ours, theirs)):
            place = directory / f"start-{turn}-{side}"
            place.mkdir()
            seconds[side].append(start_to_first_ack(start, place))
    yield Comparison("start to first acknowledgement", "s", *seconds, against=PEER, ratio_at_most=0.15)


def _rate(
    name: str, loads: tuple[list[Load], list[Load]], figure: str, target: float, most: float | None = None
) -> Comparison:
    mine, other = _figures(loads, figure)
    beside = {} if most is None else {"a broker that discards:": most}
    return Comparison(name, "records/s", mine, other, against=UNSYNCED, target=target, beside=beside)


def _cost(name: str, loads: tuple[list[Load], list[Load]], figure: str, most: float) -> Comparison:
    mine, other = _figures(loads, figure)
    return Comparison(name, "us", mine, other, against=UNSYNCED, ratio_at_most=most)


def _figures(loads: tuple[list[Load], list[Load]], figure: str) -> tuple[list[float], list[float]]:
    mine, other = ([getattr(load, figure) for load in side] for side in loads)
    return mine, other


def in_turn(
    brokers: list[Broker], memory: FullMemory, turns: int, measure: Callable[[Broker, str], Any]
) -> tuple[list[Any], list[Any]]:
    """What was measured of ours and of theirs, who goes first alternating."""
    seen: tuple[list[Any], list[Any]] = ([], [])
    for turn in range(turns):
        for side in (0, 1) if turn % 2 == 0 else (1, 0):
            memory.fill()
            seen[side].append(measure(brokers[side], f"bench-{uuid4().hex}"))
    return seen


def client_limit(nothing: Broker, settings: Mapping[str, Any], size: int, turns: int) -> float:
    """Records a second that the client sends when the broker does nothing with them."""
    measure = partial(produce, settings=settings, size=size, count=RECORDS[size])
    seconds = [in_topic(nothing, f"bench-{uuid4().hex}", measure=measure) for _ in range(turns)]
    return RECORDS[size] / statistics.median(seconds)


def in_topic(
    broker: Broker, name: str, *, measure: Callable[[Broker, str], T], config: Mapping[str, str] | None = None
) -> T:
    """What was measured of a topic that is there for that long."""
    with topic(broker, name, config) as made:
        return measure(broker, made)


@contextmanager
def topic(broker: Broker, name: str, config: Mapping[str, str] | None = None) -> Iterator[str]:
    admin = AdminClient({"bootstrap.servers": broker.address, **QUIET})
    try:
        admin.create_topics([NewTopic(name, 1, 1, config=dict(config or {}))])[name].result()
    except Exception as refused:
        # Kafka does not know our setting, and needs none.
        if config is None or refused.args[0].code() != KafkaError.INVALID_CONFIG:
            raise
        admin.create_topics([NewTopic(name, 1, 1)])[name].result()
    try:
        yield name
    finally:
        admin.delete_topics([name])[name].result()


def load(broker: Broker, name: str, settings: Mapping[str, Any], size: int, count: int) -> Load:
    cpu_before = cpu_seconds(broker.pid)
    seconds_in = produce(broker, name, settings, size, count)
    cpu_between = cpu_seconds(broker.pid)
    seconds_out = consume(broker, name, count)
    cpu_after = cpu_seconds(broker.pid)
    return Load(
        count / seconds_in,
        count / seconds_out,
        (cpu_between - cpu_before) / count * 1e6,
        (cpu_after - cpu_between) / count * 1e6,
    )


def produce(broker: Broker, name: str, settings: Mapping[str, Any], size: int, count: int) -> float:
    """Seconds until the last record is acknowledged."""
    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            failures.append(error)

    producer = Producer(
        {
            "bootstrap.servers": broker.address,
            "linger.ms": 5,
            "queue.buffering.max.messages": 1_000_000,
            "queue.buffering.max.kbytes": 1 << 20,
            "on_delivery": delivered,
            **QUIET,
            **settings,
        }
    )
    value = bytes(size)
    started = time.perf_counter()
    for number in range(count):
        while True:
            try:
                producer.produce(name, value)
                break
            except BufferError:
                producer.poll(0.05)
        if number % 1000 == 0:
            producer.poll(0)
    left = producer.flush(FLUSH_SECONDS_MAX)
    seconds = time.perf_counter() - started
    assert not left, f"{left} records are not acknowledged after {FLUSH_SECONDS_MAX} s"
    assert not failures, failures[0]
    return seconds


def consume(broker: Broker, name: str, count: int) -> float:
    """Seconds until as many records are read as were written."""
    consumer = Consumer(
        {
            "bootstrap.servers": broker.address,
            "group.id": "bench",
            "enable.auto.commit": False,
            **QUIET,
            **READ_AHEAD,
        }
    )
    try:
        consumer.assign([TopicPartition(name, 0, 0)])
        started = time.perf_counter()
        left = count
        while left:
            messages = consumer.consume(min(left, 10_000), timeout=10)
            assert messages, f"no record in 10 s, and {left} are missing"
            for message in messages:
                assert message.error() is None, message.error()
            left -= len(messages)
        return time.perf_counter() - started
    finally:
        consumer.close()


def p99_ms(broker: Broker, name: str) -> float:
    """Of the time from `produce` to the acknowledgement, with a record each millisecond."""
    producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 0, **QUIET, **IDEMPOTENT})
    producer.produce(name, b"connects")
    producer.flush(FLUSH_SECONDS_MAX)
    waited: list[float] = []
    is_over = threading.Event()

    def serve_callbacks() -> None:
        while not is_over.is_set():
            producer.poll(0.1)

    # In a thread: `poll` knows whole milliseconds, and to call it until the next record is due would take a core.
    serving = threading.Thread(target=serve_callbacks)
    serving.start()
    begun = time.perf_counter()
    for number in range(LATENCY_RECORDS):
        sent = time.perf_counter()

        def delivered(error: KafkaError | None, _: object, sent: float = sent) -> None:
            assert error is None, error
            waited.append(time.perf_counter() - sent)

        producer.produce(name, bytes(100), on_delivery=delivered)
        time.sleep(max(0.0, begun + (number + 1) / LATENCY_RATE - time.perf_counter()))
    producer.flush(FLUSH_SECONDS_MAX)
    is_over.set()
    serving.join()
    assert len(waited) == LATENCY_RECORDS
    return sorted(waited)[LATENCY_RECORDS * 99 // 100] * 1000


def start_to_first_ack(start: Callable[[Path], Any], directory: Path) -> float:
    started = time.perf_counter()
    with start(directory) as broker:
        # Not idempotent: librdkafka looks for a producer id half a second after its first connection, whoever it is to.
        producer = Producer({"bootstrap.servers": broker.address, "linger.ms": 0, "acks": "all", **QUIET})
        producer.produce("first", b"first")
        assert producer.flush(FLUSH_SECONDS_MAX) == 0
        return time.perf_counter() - started
