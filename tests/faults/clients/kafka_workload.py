"""The same as `workload`, with Kafka's own clients: idempotent producers of librdkafka, and both kinds of groups.

What it read in the end is read through the other door.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from tests.faults.clients.workload import (
    COMMIT_SECONDS,
    OUTSTANDING_MAX,
    PARTITIONS,
    PATIENCE_SECONDS,
    PRODUCERS,
    VALUE_CHARACTERS_MAX,
    Workload,
)
from tests.faults.history import Assign, History, Outcome, Poll, Send, Value, encode_value

#: Of each kind two members.
CLASSIC_GROUP = "classic"
NEW_GROUP = "new"
GROUPS = (CLASSIC_GROUP, NEW_GROUP)
_PROTOCOL: dict[str, dict[str, Any]] = {
    CLASSIC_GROUP: {
        "group.protocol": "classic",
        "partition.assignment.strategy": "cooperative-sticky",
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 500,
    },
    NEW_GROUP: {"group.protocol": "consumer"},
}
POLL_SECONDS = 0.1
#: Kafka's clients wait longer and longer before they connect again.
_RECONNECT = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 200}


class KafkaWorkload(Workload):
    def __init__(self, server: str, kafka: str, history: History, seed: int) -> None:
        """server: where gRPC clients connect; kafka: where Kafka's do."""
        super().__init__(server, history, seed)
        self._settings: dict[str, Any] = {
            "bootstrap.servers": kafka,
            **_RECONNECT,
            # Of every kill a line in the log.
            "log_level": 0,
        }

    def start(self) -> None:
        self.create_topic()
        for number in range(PRODUCERS):
            self._spawn(self._produce, number)
        self._spawn(self._consume, PRODUCERS, None)
        for number, group in enumerate(2 * GROUPS):
            self._spawn(self._consume, PRODUCERS + 1 + number, group)

    def _produce(self, process: int) -> None:
        rng = random.Random(f"{self._seed} {process}")
        producer = Producer(
            self._settings
            | {
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "message.timeout.ms": int(PATIENCE_SECONDS * 1000),
                "retry.backoff.ms": 10,
            }
        )
        settled = 0

        def report(number: int, partition: int, error: KafkaError | None, message: Message) -> None:
            nonlocal settled
            settled += 1
            if error is None:
                offset = message.offset()
                # Of a batch that was written before, and of which nobody knows where.
                outcome = Outcome.UNKNOWN if offset is None or offset < 0 else Outcome.OK
                self.history.add(Send(process, number, partition, outcome, -1 if offset is None else offset))
                return
            self.history.add(Send(process, number, partition, Outcome.UNKNOWN, -1))
            self._failures.append(AssertionError(f"an idempotent producer gives up: {error}"))

        number = 0
        while not self._stopping.is_set():
            for _ in range(rng.randint(1, OUTSTANDING_MAX)):
                partition = rng.randrange(PARTITIONS)
                value = encode_value(Value(process, number), rng.randrange(VALUE_CHARACTERS_MAX))

                def settle(
                    error: KafkaError | None, message: Message, number: int = number, partition: int = partition
                ) -> None:
                    report(number, partition, error, message)

                producer.produce(self.topic, value, str(process), partition, on_delivery=settle)
                number += 1
            allowed = rng.randrange(OUTSTANDING_MAX)
            while number - settled > allowed and not self._failures:
                producer.poll(POLL_SECONDS)
        left = producer.flush(2 * PATIENCE_SECONDS)
        assert left == 0, f"{left} sends of producer {process} have no outcome"

    def _consume(self, process: int, group: str | None) -> None:
        def moved(*_: object) -> None:
            self.history.add(Assign(process))

        with self._consumer(group) as consumer:
            if group is None:
                # A reader by assignment has no place to go back to, so that it never is to lose its own.
                consumer.assign([TopicPartition(self.topic, partition, 0) for partition in range(PARTITIONS)])
            else:
                consumer.subscribe([self.topic], on_assign=moved, on_revoke=moved, on_lost=moved)
            while not self._stopping.is_set():
                messages = [message for message in consumer.consume(500, POLL_SECONDS) if _is_record(message)]
                if messages:
                    self.history.add(Poll(process, tuple(_read(message) for message in messages)))

    @contextmanager
    def _consumer(self, group: str | None) -> Iterator[Consumer]:
        consumer = Consumer(
            self._settings
            | {
                "group.id": group or "unused",  # librdkafka wants one always
                "enable.auto.commit": group is not None,
                "auto.commit.interval.ms": int(COMMIT_SECONDS * 1000),
                "auto.offset.reset": "earliest" if group else "error",
                "fetch.wait.max.ms": 50,
            }
            | (_PROTOCOL[group] if group else {})
        )
        try:
            yield consumer
        finally:
            consumer.close()


def _is_record(message: Message) -> bool:
    error = message.error()
    if error is None:
        return True
    if error.fatal() or error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
        raise KafkaException(error)
    return False  # the server is away, or was


def _read(message: Message) -> tuple[int, int, str]:
    partition, offset, value = message.partition(), message.offset(), message.value()
    assert partition is not None
    assert offset is not None
    assert value is not None
    return partition, offset, value.decode()
