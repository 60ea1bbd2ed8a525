"""Real clients that go on through every fault: they send, read by assignment and read as a group, and keep a history.

    workload = Workload(server.address, History(), seed)
    workload.start()
    ...                      # kill, cut, pause, fill
    workload.stop()          # everything that was asked for has an outcome, and everything was read once more
    check(workload.history.operations)

Each producer has one partition's worth of order to be judged by in each partition: its sends are numbered as they are
asked for. Threads end when they are told to, and whatever they ran into is raised by `stop`.
"""

import random
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from tailrace import Admin, Consumer, Producer, SendFuture
from tailrace.errors import DataLoss, TailraceError, TopicAlreadyExists
from tests.faults.history import Assign, History, Outcome, Poll, Send, Value, encode_value

PRODUCERS = 4
PARTITIONS = 3
ASSIGNED = 2
MEMBERS = 2
GROUP = "faults"
COMMIT_SECONDS = 0.3
#: Of one producer so many sends wait for their outcome at a time.
OUTSTANDING_MAX = 64
VALUE_CHARACTERS_MAX = 400
#: However long the server is away, a send or a first call goes on for so long.
PATIENCE_SECONDS = 120.0
DRAIN = 99


class Workload:
    def __init__(
        self, server: str, history: History, seed: int, *, topic: str = "faults", pause_seconds: float = 0.0
    ) -> None:
        """`pause_seconds` between the bursts of each producer leave the machine time for other things."""
        self.history = history
        self.topic = topic
        self._server = server
        self._seed = seed
        self._pause_seconds = pause_seconds
        self._stopping = threading.Event()
        self._consumers: list[Consumer] = []
        self._threads: list[threading.Thread] = []
        self._failures: list[BaseException] = []

    def start(self) -> None:
        """Returns when the topic is there and all clients are under way."""
        self.create_topic()
        for number in range(PRODUCERS):
            self._spawn(self._produce, number)
        for number in range(ASSIGNED):
            self._spawn(self._consume, PRODUCERS + number, None)
        for number in range(MEMBERS):
            self._spawn(self._consume, PRODUCERS + ASSIGNED + number, GROUP)

    def create_topic(self) -> None:
        with Admin(server=self._server) as admin, suppress(TopicAlreadyExists):
            admin.create_topic(self.topic, partitions=PARTITIONS)

    def stop(self) -> None:
        """Let the clients end, then read everything from the beginning. The server is up again."""
        self._stopping.set()
        for consumer in self._consumers:
            consumer.stop()
        for thread in self._threads:
            thread.join(timeout=2 * PATIENCE_SECONDS)
            if thread.is_alive():
                raise AssertionError(f"{thread.name} does not end")
        self.check()
        drain(self._server, self.topic, self.history)

    def check(self) -> None:
        """Raise what has ended a client that should go on."""
        if self._failures:
            raise self._failures[0]

    def _spawn(self, run: Callable[..., None], process: int, *arguments: object) -> None:
        def guarded() -> None:
            try:
                run(process, *arguments)
            except BaseException as error:  # raised again by stop, in the thread that judges
                self._failures.append(error)

        thread = threading.Thread(target=guarded, name=f"{run.__name__} {process}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _produce(self, process: int) -> None:
        rng = random.Random(f"{self._seed} {process}")
        outstanding: deque[tuple[int, int, SendFuture]] = deque()
        number = 0
        with Producer(
            server=self._server,
            linger=0.002,
            delivery_timeout=PATIENCE_SECONDS,
            max_block=PATIENCE_SECONDS,
            connect_timeout=PATIENCE_SECONDS,
        ) as producer:
            while not self._stopping.is_set():
                for _ in range(rng.randint(1, OUTSTANDING_MAX)):
                    partition = rng.randrange(PARTITIONS)
                    value = encode_value(Value(process, number), rng.randrange(VALUE_CHARACTERS_MAX))
                    future = producer.send(self.topic, value=value, key=str(process), partition=partition)
                    outstanding.append((number, partition, future))
                    number += 1
                while len(outstanding) > rng.randrange(OUTSTANDING_MAX):
                    self._settle(process, *outstanding.popleft())
                self._stopping.wait(self._pause_seconds)
            while outstanding:
                self._settle(process, *outstanding.popleft())

    def _settle(self, process: int, number: int, partition: int, future: SendFuture) -> None:
        try:
            offset = future.result(timeout=2 * PATIENCE_SECONDS).offset
        except TailraceError:
            # Whatever is said of one that failed after its batch may have left: it may be there.
            self.history.add(Send(process, number, partition, Outcome.UNKNOWN, -1))
        else:
            self.history.add(Send(process, number, partition, Outcome.OK, offset))

    def _consume(self, process: int, group: str | None) -> None:
        while not self._stopping.is_set():
            try:
                self._consume_until_stopped(process, group)
            except DataLoss:
                # What a failing disk cannot read now, the next one may have. What nobody can is missed at the end.
                self.history.add(Assign(process))
                self._stopping.wait(0.1)

    def _consume_until_stopped(self, process: int, group: str | None) -> None:
        def moved(_: object) -> None:
            self.history.add(Assign(process))

        consumer = Consumer(
            self.topic,
            group=group,
            partitions=None if group else list(range(PARTITIONS)),
            server=self._server,
            connect_timeout=PATIENCE_SECONDS,
            auto_commit_interval=COMMIT_SECONDS,
            on_assigned=moved if group else None,
            on_revoked=moved if group else None,
        )
        self._consumers.append(consumer)
        if self._stopping.is_set():
            consumer.stop()
        with consumer:
            for batch in consumer.batches():
                self.history.add(
                    Poll(process, tuple((batch.partition, record.offset, record.text()) for record in batch))
                )


def drain(server: str, topic: str, history: History, process: int = DRAIN) -> None:
    """Read all there is, from the beginning to the end."""
    history.add(Assign(process))
    with Consumer(
        topic,
        partitions=list(range(PARTITIONS)),
        stop_at_end=True,
        server=server,
        connect_timeout=PATIENCE_SECONDS,
    ) as consumer:
        for batch in consumer.batches():
            history.add(Poll(process, tuple((batch.partition, record.offset, record.text()) for record in batch)))
