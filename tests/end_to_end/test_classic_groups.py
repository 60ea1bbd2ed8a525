"""Kafka's own clients in a classic group, which is sent elsewhere while it runs, and whose server is killed."""

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from tailrace import Admin, Consumer, Producer
from tailrace.errors import InconsistentGroupProtocol
from tests.processes import ServerProcess

#: How long to wait for what should take a second or two.
PATIENCE_S = 60.0
SESSION_MS, HEARTBEAT_MS = 30_000, 500


class Reader(threading.Thread):
    """A consumer that notes which records it gets, until it is stopped."""

    def __init__(self, address: str, client: str) -> None:
        super().__init__(daemon=True)
        self.read: list[tuple[int, int]] = []
        self._stopped = threading.Event()
        self._address = address
        self._client = client

    def run(self) -> None:
        if self._client == "aiokafka":
            asyncio.run(self._run_aiokafka())
        else:
            self._run_librdkafka()

    async def _run_aiokafka(self) -> None:
        consumer = AIOKafkaConsumer(
            "flights",
            bootstrap_servers=self._address,
            group_id="g",
            auto_offset_reset="earliest",
            auto_commit_interval_ms=100,
            session_timeout_ms=SESSION_MS,
            heartbeat_interval_ms=HEARTBEAT_MS,
        )
        await consumer.start()
        while not self._stopped.is_set():
            for records in (await consumer.getmany(timeout_ms=100)).values():
                self.read += [(record.partition, record.offset) for record in records]
        await consumer.stop()

    def _run_librdkafka(self) -> None:
        from confluent_kafka import Consumer

        consumer = Consumer(
            {
                "bootstrap.servers": self._address,
                "group.id": "g",
                "partition.assignment.strategy": self._client,
                "auto.offset.reset": "earliest",
                "auto.commit.interval.ms": 100,
                "session.timeout.ms": SESSION_MS,
                "heartbeat.interval.ms": HEARTBEAT_MS,
            }
        )
        consumer.subscribe(["flights"])
        while not self._stopped.is_set():
            record = consumer.poll(0.1)
            if record is not None and record.error() is None:
                self.read.append((record.partition(), record.offset()))
        consumer.close()

    def stop(self) -> None:
        self._stopped.set()
        self.join(PATIENCE_S)


def eventually(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline_s, "it has not come to pass"
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.parametrize("client", ["aiokafka", "range", "cooperative-sticky"])
def test_a_running_group_of_kafka_clients_is_sent_elsewhere_and_goes_on_after_a_crash(
    tmp_path: Path, client: str
) -> None:
    if client != "aiokafka":
        pytest.importorskip("confluent_kafka")
    with ServerProcess(tmp_path / "data", kafka=True) as server:
        with Admin(server=server.address) as admin, Producer(server=server.address) as producer:
            admin.create_topic("flights", partitions=2)
            for partition in (0, 1):
                for number in range(100):
                    producer.send("flights", b"%d" % number, partition=partition)
            producer.flush()
            readers = [Reader(server.kafka_address, client) for _ in range(2)]
            for reader in readers:
                reader.start()

            def committed() -> list[int]:
                return [lag.committed_offset for lag in admin.describe_group("g").partitions]

            def read() -> list[tuple[int, int]]:
                return sorted(record for reader in readers for record in reader.read)

            def is_shared() -> bool:
                group = admin.describe_group("g")
                return group.state == "Stable" and sorted(len(m.assignment) for m in group.members) == [1, 1]

            eventually(lambda: len(admin.list_groups()) > 0 and is_shared() and committed() == [100, 100])
            for reader in readers:
                reader.read.clear()
            admin.seek_group("g", "flights", partitions=[0], offset=90)
            eventually(lambda: is_shared() and committed() == [100, 100])
            assert read() == [(0, offset) for offset in range(90, 100)], "from there, and nothing else"

            with (
                Consumer("flights", group="g", server=server.address) as stranger,
                pytest.raises(InconsistentGroupProtocol),
            ):
                stranger.poll(timeout=PATIENCE_S)

            before = admin.describe_group("g")
            server.kill()
            server.start()
        with Admin(server=server.address) as admin, Producer(server=server.address) as producer:
            producer.send("flights", b"100", partition=1)
            producer.flush()
            eventually(lambda: committed() == [100, 101])
            after = admin.describe_group("g")
            assert (after.group_epoch, after.members) == (before.group_epoch, before.members), "no rebalance"
            assert read()[-1] == (1, 100)
            for reader in readers:
                reader.stop()
            eventually(lambda: admin.describe_group("g").state == "Empty")
