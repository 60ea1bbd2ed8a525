"""Clients of a compacted topic of a running server: producers with keys of their own, and readers (see `keyed`)."""

import random
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from tailrace import Admin, Consumer, Producer, SendFuture
from tailrace.errors import TopicAlreadyExists
from tests.faults.history import Value, encode_value
from tests.faults.keyed import HEADER, KeyedReader, Sends, header_of

TOPIC = "keyed"
PARTITIONS = 2
PRODUCERS = 3
KEYS_EACH = 30
#: Segments of a few batches, and passes whenever anything is dirty. Tombstones stay for longer than a session.
CONFIG = {"cleanup.policy": "compact", "segment.bytes": "16384", "min.cleanable.dirty.ratio": "0.01"}
OUTSTANDING_MAX = 32
VALUE_CHARACTERS_MAX = 200
TOMBSTONES = 0.1
PAUSE_SECONDS = 0.002
PATIENCE_SECONDS = 120.0


class KeyedWorkload:
    """Producers, and a reader that follows them. Threads end when they are told to, and `stop` raises what they met."""

    def __init__(self, server: str, seed: int) -> None:
        self.sends = Sends()
        self.follower = KeyedReader(self.sends)
        self._server = server
        self._seed = seed
        self._stopping = threading.Event()
        self._failures: list[BaseException] = []
        self._consumer: Consumer | None = None
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        with Admin(server=self._server) as admin, suppress(TopicAlreadyExists):
            admin.create_topic(TOPIC, partitions=PARTITIONS, config=CONFIG)
        self._consumer = _consumer(self._server, stop_at_end=False)
        for process in range(PRODUCERS):
            self._threads.append(threading.Thread(target=self._guard, args=(self._produce, process), daemon=True))
        self._threads.append(threading.Thread(target=self._guard, args=(self._follow,), daemon=True))
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Everything that was sent is acknowledged when it returns. The server is up again."""
        self._stopping.set()
        for thread in self._threads[:-1]:
            thread.join(timeout=2 * PATIENCE_SECONDS)
        assert self._consumer is not None
        self._consumer.stop()
        self._threads[-1].join(timeout=2 * PATIENCE_SECONDS)
        if any(thread.is_alive() for thread in self._threads):
            raise AssertionError("a client does not end")
        self.check()

    def check(self) -> None:
        """Raise what has ended a client that should go on."""
        if self._failures:
            raise self._failures[0]

    def read(self) -> KeyedReader:
        """Read from the beginning to the end."""
        newest = self.sends.newest()
        reader = KeyedReader(self.sends)
        with _consumer(self._server, stop_at_end=True) as consumer:
            for batch in consumer.batches():
                reader.take(batch.partition, batch)
        reader.finish(newest)
        return reader

    def _guard(self, run: Callable[..., None], *arguments: object) -> None:
        try:
            run(*arguments)
        except BaseException as error:  # raised again by `check`, in the thread that judges
            self._failures.append(error)

    def _produce(self, process: int) -> None:
        rng = random.Random(f"{self._seed} {process}")
        outstanding: deque[tuple[Value, SendFuture]] = deque()
        number = 0
        with Producer(
            server=self._server,
            linger=0.002,
            delivery_timeout=PATIENCE_SECONDS,
            max_block=PATIENCE_SECONDS,
            connect_timeout=PATIENCE_SECONDS,
        ) as producer:
            while not self._stopping.is_set():
                which = rng.randrange(KEYS_EACH)
                key, value = f"{process}-{which}".encode(), Value(process, number)
                text = encode_value(value, rng.randrange(VALUE_CHARACTERS_MAX))
                data = None if rng.random() < TOMBSTONES else text.encode()
                self.sends.begin(value, key, data)
                headers = {HEADER: header_of(value)}
                future = producer.send(TOPIC, value=data, key=key, headers=headers, partition=which % PARTITIONS)
                outstanding.append((value, future))
                number += 1
                if len(outstanding) >= OUTSTANDING_MAX:
                    self._settle(*outstanding.popleft())
                self._stopping.wait(PAUSE_SECONDS)
            while outstanding:
                self._settle(*outstanding.popleft())

    def _settle(self, value: Value, future: SendFuture) -> None:
        sent = future.result(timeout=2 * PATIENCE_SECONDS)
        self.sends.end(value, sent.partition, sent.offset)

    def _follow(self) -> None:
        assert self._consumer is not None
        with self._consumer as consumer:
            for batch in consumer.batches():
                self.follower.take(batch.partition, batch)


def _consumer(server: str, *, stop_at_end: bool) -> Consumer:
    return Consumer(
        TOPIC,
        partitions=list(range(PARTITIONS)),
        stop_at_end=stop_at_end,
        server=server,
        connect_timeout=PATIENCE_SECONDS,
    )
