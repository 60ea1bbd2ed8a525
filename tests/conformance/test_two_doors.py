"""One broker, two doors: what goes in by one comes out by the other, in the same places, and Kafka's own tool reads it.

All of this is about ours alone: Apache Kafka has one door. What needs its jars has `apache` in its name, for `-k`.
"""

import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tailrace import Admin, Consumer, Producer
from tests.conformance.absent import Absent, skipped_where_absent
from tests.conformance.apache import jars
from tests.conformance.clients import CODECS, Message, open_client
from tests.processes import SHORT_SESSIONS, ServerProcess

PARTITIONS = 4
MILLION = 1_000_000
KEYS = 10_000
READ_SECONDS_MAX = 60

#: Of each partition what was read, in order.
Read = list[list[tuple[bytes | None, bytes | None]]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with skipped_where_absent():
        try:
            import confluent_kafka  # noqa: F401
        except ImportError as error:
            raise Absent("confluent-kafka is not installed") from error
    with ServerProcess(tmp_path / "data", *SHORT_SESSIONS, kafka=True) as server:
        yield server


def records() -> Iterator[tuple[bytes, bytes]]:
    return ((b"key %d" % (number * 7919 % KEYS), b"value %d" % number) for number in range(MILLION))


def write_by_kafka(server: ServerProcess, topic: str) -> None:
    from confluent_kafka import KafkaError
    from confluent_kafka import Producer as KafkaProducer

    failures: list[KafkaError] = []

    def delivered(error: KafkaError | None, _: object) -> None:
        if error is not None:
            failures.append(error)

    producer = KafkaProducer(
        {
            "bootstrap.servers": server.kafka_address,
            "enable.idempotence": True,
            "partitioner": "murmur2_random",  # as Java's and ours
            "queue.buffering.max.messages": MILLION,
            "on_delivery": delivered,
        }
    )
    for number, (key, value) in enumerate(records()):
        while True:
            try:
                producer.produce(topic, value, key)
                break
            except BufferError:
                producer.poll(0.1)
        if number % 1000 == 0:
            producer.poll(0)
    assert producer.flush(READ_SECONDS_MAX) == 0
    assert failures == []


def write_by_tailrace(server: ServerProcess, topic: str) -> None:
    with Producer(server=server.address) as producer:
        keys, values = zip(*records(), strict=True)
        producer.send_many(topic, values, keys)


def read_by_kafka(server: ServerProcess, topic: str) -> Read:
    from confluent_kafka import Consumer as KafkaConsumer
    from confluent_kafka import TopicPartition

    read: Read = [[] for _ in range(PARTITIONS)]
    consumer = KafkaConsumer(
        {"bootstrap.servers": server.kafka_address, "group.id": "reader", "enable.auto.commit": False}
    )
    try:
        consumer.assign([TopicPartition(topic, number, 0) for number in range(PARTITIONS)])
        left = MILLION
        while left:
            messages = consumer.consume(min(left, 10_000), READ_SECONDS_MAX)
            assert messages, f"{left} records are missing"
            for message in messages:
                assert message.error() is None
                of_one = read[message.partition() or 0]
                assert message.offset() == len(of_one)
                of_one.append((message.key(), message.value()))
            left -= len(messages)
    finally:
        consumer.close()
    return read


def read_by_tailrace(server: ServerProcess, topic: str) -> Read:
    read: Read = [[] for _ in range(PARTITIONS)]
    with Consumer(topic, server=server.address, stop_at_end=True) as consumer:
        for record in consumer:
            of_one = read[record.partition]
            assert record.offset == len(of_one)
            of_one.append((record.key, record.value))
    return read


Write = Callable[[ServerProcess, str], None]
ReadAll = Callable[[ServerProcess, str], Read]


@pytest.mark.parametrize(
    ("write", "read"), [(write_by_kafka, read_by_tailrace), (write_by_tailrace, read_by_kafka)], ids=["in", "out"]
)
def test_a_million_records_are_the_same_through_the_other_door(
    server: ServerProcess, write: Write, read: ReadAll
) -> None:
    with Admin(server=server.address) as admin:
        admin.create_topic("million", partitions=PARTITIONS)
    write(server, "million")
    seen = read(server, "million")
    assert sum(map(len, seen)) == MILLION
    # Of one key all are in one partition, in the order in which they were written.
    by_key: dict[bytes, list[bytes]] = {}
    for key, value in records():
        by_key.setdefault(key, []).append(value)
    for of_one in seen:
        found: dict[bytes | None, list[bytes | None]] = {}
        for seen_key, seen_value in of_one:
            found.setdefault(seen_key, []).append(seen_value)
        assert all(found[key] == by_key.pop(key) for key in list(found) if key is not None)
    assert by_key == {}


def test_a_key_has_the_same_partition_through_both_doors(server: ServerProcess) -> None:
    with Admin(server=server.address) as admin:
        for topic in ("one", "other"):
            admin.create_topic(topic, partitions=PARTITIONS)
    write_by_kafka(server, "one")
    write_by_tailrace(server, "other")
    one, other = (
        [{key for key, _ in of_one} for of_one in read_by_tailrace(server, topic)] for topic in ("one", "other")
    )
    assert one == other
    assert all(one)


def test_a_group_has_members_through_both_doors_and_each_partition_one_owner(server: ServerProcess) -> None:
    from confluent_kafka import Consumer as KafkaConsumer

    with Admin(server=server.address) as admin:
        admin.create_topic("shared", partitions=PARTITIONS)
    mine: set[int] = set()
    values: list[bytes | None] = []
    stop = threading.Event()

    def consume() -> None:
        with Consumer("shared", server=server.address, group="both", auto_commit=True) as consumer:
            while not stop.is_set():
                record = consumer.poll(0.2)
                if record is not None:
                    values.append(record.value)
                    mine.add(record.partition)

    member = threading.Thread(target=consume)
    member.start()
    other = KafkaConsumer(
        {
            "bootstrap.servers": server.kafka_address,
            "group.id": "both",
            "group.protocol": "consumer",
            "auto.offset.reset": "earliest",
        }
    )
    other.subscribe(["shared"])
    try:
        deadline = time.monotonic() + READ_SECONDS_MAX
        while len(other.assignment()) != PARTITIONS // 2:
            assert time.monotonic() < deadline, f"{other.assignment()} is what the Kafka client has"
            assert other.poll(0.2) is None
        theirs = {place.partition for place in other.assignment()}
        with Producer(server=server.address) as producer:
            for number in range(100):
                producer.send("shared", b"%d" % number, partition=number % PARTITIONS)
        while len(values) < 100:
            assert time.monotonic() < deadline, f"{len(values)} of 100 records were read"
            message = other.poll(0.2)
            if message is not None:
                assert message.error() is None
                values.append(message.value())
                assert message.partition() in theirs
    finally:
        other.close()
        stop.set()
        member.join()
    assert sorted(values, key=lambda value: int(value or b"")) == [b"%d" % number for number in range(100)]
    assert mine | theirs == set(range(PARTITIONS))
    assert not mine & theirs


def test_apache_kafkas_own_tool_reads_the_log_without_complaint(server: ServerProcess) -> None:
    with skipped_where_absent():
        libraries = jars()
    client = open_client("confluent", server.kafka_address)
    try:
        for codec in (None, *CODECS):
            messages = [
                Message(b"%s %d" % (str(codec).encode(), number), b"key", [("h", b"1")]) for number in range(20)
            ]
            client.produce("dumped", messages, codec=codec)
    finally:
        client.close()
    with Producer(server=server.address) as producer:
        for number in range(50):
            producer.send("dumped", b"tailrace %d" % number, b"key", headers={"h": b"2"})
    server.stop()
    dump = dumped(libraries, sorted(server.directory.glob("topics/*/*/*.log")))
    offsets = [int(offset) for offset in re.findall(r"^\| offset: (\d+) ", dump, re.MULTILINE)]
    assert offsets == list(range(150))
    assert set(re.findall(r"isvalid: (\w+)", dump)) == {"true"}
    assert set(re.findall(r"compresscodec: (\w+)", dump)) >= {"none", *CODECS}


def dumped(libraries: Path, logs: Sequence[Path]) -> str:
    files = ",".join(map(str, logs))
    command = ["java", "-cp", f"{libraries}/*", "org.apache.kafka.tools.DumpLogSegments", "--deep-iteration", "--files"]
    done = subprocess.run([*command, files], capture_output=True, text=True, timeout=READ_SECONDS_MAX)
    assert done.returncode == 0, done.stderr
    assert "error" not in (done.stdout + done.stderr).lower(), done.stderr
    return done.stdout
