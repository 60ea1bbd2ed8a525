"""Clients of a simulated server, as good ones are: each has one thing under way, keeps a history, and never gives up.

A producer numbers its batches and sends them again, the same and in order, until each is acknowledged. A member of the
group heartbeats, works from the committed offset on, and commits. A reader reads a partition from its beginning.
"""

import random
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from consumer_groups.errors import (
    FencedMemberEpoch,
    GroupsUnavailable,
    PartitionNotOwned,
    ShuttingDown,
    StaleMemberEpoch,
    UnknownMemberId,
)
from consumer_groups.requests import (
    NO_OFFSET,
    Committer,
    HeartbeatReply,
    HeartbeatRequest,
    OffsetCommit,
    Partition,
    TopicPartitions,
)
from logstore.batch import Record, encode_batch
from logstore.errors import OutOfOrderSequence, StorageFailed, StorageFull, UnknownProducerId
from logstore.log import Appended
from logstore.producers import BATCHES_REMEMBERED
from tests.consumer_groups.model import ModelMember
from tests.faults.history import Assign, History, Outcome, Poll, Send, Value, encode_value
from tests.faults.keyed import HEADER, KeyedReader, Sends, header_of
from tests.faults.simulation.server import GROUPS, ConnectionLost, SimulatedServer
from tests.faults.storage.model import Violation

TOPIC = "t"
PARTITIONS = 3
KEYED_TOPIC = "k"
KEYS = 3
TOMBSTONES = 0.2
GROUP = "g"
OUTSTANDING_MAX = 3
VALUE_CHARACTERS_MAX = 200
#: Producers have clocks of their own, and that of the server is wrong at times: these are no news to either.
RECORDED_MS = 1_600_000_000_000
#: What a client meets of a server that is in trouble, and tries again.
PASSING = (ConnectionLost, StorageFull, StorageFailed, GroupsUnavailable, ShuttingDown)

Work = Callable[[SimulatedServer], Coroutine[Any, Any, Any]]


class World(Protocol):
    """What clients know of where they live."""

    rng: random.Random
    history: History
    committed: "Committed"
    sends: Sends  # to the compacted topic

    def now_ms(self) -> int: ...

    def call(self, work: Work, on_done: Callable[[Any], None]) -> None:
        """Have a server do it. `on_done` gets the result or the error, once."""
        ...


class Client(Protocol):
    def step(self) -> None:
        """Do the next thing, if there is one to do."""
        ...


class Committed:
    """What the group was told to have committed, and what it may have."""

    def __init__(self) -> None:
        self.offsets: dict[int, int] = {}
        self._tried: dict[int, set[int]] = {}

    def begin(self, partition: int, offset: int) -> None:
        self._tried.setdefault(partition, set()).add(offset)

    def end(self, partition: int, offset: int) -> None:
        if offset < self.offsets.get(partition, 0):
            raise Violation(f"the commit of {offset} was taken after that of {self.offsets[partition]}")
        self.offsets[partition] = offset

    def check(self, partition: int, found: int) -> None:
        """A member was told that this is committed."""
        known = self.offsets.get(partition)
        if known is not None and found < known:
            raise Violation(f"partition {partition} was committed at {known}, and begins again at {found}")
        if found == NO_OFFSET:
            return
        if found not in self._tried.get(partition, ()):
            raise Violation(f"partition {partition} begins at {found}, which nobody has committed")
        self.offsets[partition] = found  # its answer may have been lost


@dataclass
class Batch:
    data: bytes
    numbers: list[int]
    count_before: int  # of the producer's batches for the partition
    is_sent: bool = False


class SimulatedProducer:
    topic = TOPIC
    partitions = PARTITIONS

    def __init__(self, world: World, process: int) -> None:
        self.is_done = False  # it makes no new records
        self._world = world
        self._process = process
        self._producer_id: int | None = None
        self._is_asking = False
        self._number = 0
        self._sequences = [0] * self.partitions
        self._counts = [0] * self.partitions  # of batches
        self._outstanding: list[deque[Batch]] = [deque() for _ in range(self.partitions)]

    @property
    def is_idle(self) -> bool:
        return not any(self._outstanding)

    def step(self) -> None:
        if self._producer_id is None:
            if not self._is_asking and not self.is_done:
                self._is_asking = True
                self._world.call(lambda server: server.new_producer_id(), self._named)
            return
        partition = self._world.rng.randrange(self.partitions)
        outstanding = self._outstanding[partition]
        unsent = [batch for batch in outstanding if not batch.is_sent]
        if unsent:
            if len(unsent) == len(outstanding):  # the answers of those that were sent are awaited first
                for batch in unsent:
                    self._send(partition, batch)
        elif len(outstanding) < OUTSTANDING_MAX and self._is_remembered(partition) and not self.is_done:
            batch = self._make(partition)
            outstanding.append(batch)
            self._send(partition, batch)

    def _is_remembered(self, partition: int) -> bool:
        """Whether the server will know where it wrote the oldest outstanding batch, when there is one more. Answers may
        be lost one by one here, and not with all that came after them on the connection."""
        outstanding = self._outstanding[partition]
        return not outstanding or self._counts[partition] - outstanding[0].count_before < BATCHES_REMEMBERED

    def _named(self, result: Any) -> None:
        self._is_asking = False
        if isinstance(result, int):
            self._producer_id = result
        elif not isinstance(result, PASSING):
            raise result

    def _make(self, partition: int) -> Batch:
        rng = self._world.rng
        numbers = [self._number + n for n in range(rng.choice((1, 1, 2, 3)))]
        self._number += len(numbers)
        records = [self._record(Value(self._process, number)) for number in numbers]
        assert self._producer_id is not None
        data = encode_batch(
            records, producer_id=self._producer_id, producer_epoch=0, base_sequence=self._sequences[partition]
        )
        self._sequences[partition] += len(numbers)
        self._counts[partition] += 1
        return Batch(data, numbers, self._counts[partition] - 1)

    def _send(self, partition: int, batch: Batch) -> None:
        batch.is_sent = True
        self._world.call(
            lambda server: server.produce(self.topic, partition, batch.data), partial(self._answered, partition, batch)
        )

    def _answered(self, partition: int, batch: Batch, result: Any) -> None:
        if isinstance(result, Appended):
            self._outstanding[partition].remove(batch)
            for offset, number in enumerate(batch.numbers, result.base_offset):
                self._acknowledged(Value(self._process, number), partition, offset)
            return
        is_overtaking = (
            isinstance(result, (OutOfOrderSequence, UnknownProducerId)) and batch is not self._outstanding[partition][0]
        )
        if not isinstance(result, PASSING) and not is_overtaking:
            raise result
        batch.is_sent = False

    def _record(self, value: Value) -> Record:
        text = encode_value(value, self._world.rng.randrange(VALUE_CHARACTERS_MAX))
        return Record(0, RECORDED_MS, None, text.encode())

    def _acknowledged(self, value: Value, partition: int, offset: int) -> None:
        self._world.history.add(Send(value.process, value.number, partition, Outcome.OK, offset))


class SimulatedKeyedProducer(SimulatedProducer):
    """Of a compacted topic, with keys of its own."""

    topic = KEYED_TOPIC
    partitions = 1

    def _record(self, value: Value) -> Record:
        rng = self._world.rng
        key = b"%d-%d" % (value.process, rng.randrange(KEYS))
        text = encode_value(value, rng.randrange(VALUE_CHARACTERS_MAX))
        data = None if rng.random() < TOMBSTONES else text.encode()
        self._world.sends.begin(value, key, data)
        return Record(0, RECORDED_MS, key, data, ((HEADER, header_of(value).encode()),))

    def _acknowledged(self, value: Value, partition: int, offset: int) -> None:
        self._world.sends.end(value, partition, offset)


class SimulatedKeyedReader:
    """Reads the compacted topic from the beginning on, while it is written anew."""

    def __init__(self, world: World) -> None:
        self.seen = KeyedReader(world.sends)
        self._world = world
        self._offset = 0
        self._is_busy = False

    def step(self) -> None:
        if not self._is_busy:
            self._is_busy = True
            self._world.call(lambda server: server.fetch(KEYED_TOPIC, 0, self._offset), self._fetched)

    def _fetched(self, result: Any) -> None:
        self._is_busy = False
        if isinstance(result, PASSING):
            return
        if isinstance(result, Exception):
            raise result
        records, self._offset = result
        self.seen.take(0, records)


class SimulatedReader:
    """Reads one partition from the beginning on, over and over the same way."""

    def __init__(self, world: World, process: int, partition: int) -> None:
        self._world = world
        self._process = process
        self._partition = partition
        self._offset = 0
        self._is_busy = False
        world.history.add(Assign(process))

    def step(self) -> None:
        if not self._is_busy:
            self._is_busy = True
            self._world.call(lambda server: server.fetch(TOPIC, self._partition, self._offset), self._fetched)

    def _fetched(self, result: Any) -> None:
        self._is_busy = False
        if isinstance(result, PASSING):
            return
        if isinstance(result, Exception):
            raise result
        records, self._offset = result
        add_poll(self._world.history, self._process, self._partition, records)


class SimulatedMember:
    def __init__(self, world: World, process: int) -> None:
        self.model = ModelMember(f"m{process}", (TOPIC,), rebalance_timeout_ms=GROUPS.rebalance_timeout_ms)
        self.read: dict[int, set[int]] = {number: set() for number in range(PARTITIONS)}
        self._world = world
        self._process = process
        self._positions: dict[Partition, int] = {}
        self._committed: dict[Partition, int] = {}
        self._is_busy = False
        self._is_asleep_until_ms = 0

    def sleep(self, ms: int) -> None:
        """Its process is stopped for so long."""
        self._is_asleep_until_ms = self._world.now_ms() + ms

    def believes(self) -> set[Partition]:
        """What it may take for its own."""
        return self.model.believes(self._world.now_ms(), GROUPS.session_timeout_ms)

    def step(self) -> None:
        if self._is_busy or self._world.now_ms() < self._is_asleep_until_ms:
            return
        mine = sorted(self.believes())
        if not mine and self.model.owned:
            self._lose_everything()
        choice = self._world.rng.random()
        if not mine or self.model.must_say_by_ms or choice < 0.3:
            self._heartbeat()
            return
        held = self._world.rng.choice(mine)
        position = self._positions.get(held)
        if position is None:
            self._look_up(held)
        elif choice < 0.7 or position == self._committed.get(held):
            self._fetch(held, position)
        else:
            self._commit(held, position)

    # Being a member.

    def _heartbeat(self) -> None:
        request = self.model.request()
        wait_ms = self._world.rng.choice((0, 0, GROUPS.heartbeat_interval_ms))
        self._call(
            lambda server: server.coordinator.heartbeat(request, wait_ms),
            partial(self._beaten, request, self._world.now_ms()),
        )

    def _beaten(self, request: HeartbeatRequest, sent_ms: int, result: Any) -> None:
        if isinstance(result, PASSING):
            self.model.miss()
        elif isinstance(result, (FencedMemberEpoch, UnknownMemberId)):
            self._lose_everything()
        elif isinstance(result, HeartbeatReply):
            before = set(self.model.owned)
            self.model.answer(request, result, sent_ms, 0)
            if self.model.owned != before:
                self._keep_positions()
        else:
            raise result

    def _lose_everything(self) -> None:
        self.model.lose_everything()
        self._keep_positions()

    def _keep_positions(self) -> None:
        """Of what it still holds; what it got is looked up."""
        self._positions = {key: offset for key, offset in self._positions.items() if key in self.model.owned}
        self._committed = {key: offset for key, offset in self._committed.items() if key in self.model.owned}
        self._world.history.add(Assign(self._process))

    # Working.

    def _look_up(self, held: Partition) -> None:
        wanted = [TopicPartitions("", held.topic_id, (held.number,))]
        self._call(lambda server: server.coordinator.fetch_offsets(GROUP, wanted), partial(self._looked_up, held))

    def _looked_up(self, held: Partition, result: Any) -> None:
        if isinstance(result, PASSING):
            return
        if isinstance(result, Exception):
            raise result
        [row] = result
        if held in self.believes():
            self._world.committed.check(held.number, row.offset)
            self._positions[held] = self._committed[held] = max(0, row.offset)

    def _fetch(self, held: Partition, position: int) -> None:
        self._call(lambda server: server.fetch(TOPIC, held.number, position), partial(self._fetched, held, position))

    def _fetched(self, held: Partition, position: int, result: Any) -> None:
        if isinstance(result, PASSING):
            return
        if isinstance(result, Exception):
            raise result
        if held in self.believes() and self._positions.get(held) == position:
            records, self._positions[held] = result
            self.read[held.number].update(record.offset for record in records)
            add_poll(self._world.history, self._process, held.number, records)

    def _commit(self, held: Partition, position: int) -> None:
        commit = OffsetCommit(TOPIC, held.number, position)
        member_id, epoch = self.model.member_id, self.model.epoch
        self._world.committed.begin(held.number, position)
        self._call(
            lambda server: server.coordinator.commit_offsets(GROUP, Committer(member_id, epoch), [commit]),
            partial(self._was_committed, held, position),
        )

    def _was_committed(self, held: Partition, position: int, result: Any) -> None:
        answer = result[0] if isinstance(result, list) else result
        if answer is None:
            self._world.committed.end(held.number, position)
            self._committed[held] = position
        elif isinstance(answer, (StaleMemberEpoch, UnknownMemberId, FencedMemberEpoch, PartitionNotOwned)):
            self.model.miss()
        elif not isinstance(answer, PASSING):
            raise answer

    def _call(self, work: Work, on_done: Callable[[Any], None]) -> None:
        def done(result: Any) -> None:
            self._is_busy = False
            on_done(result)

        self._is_busy = True
        self._world.call(work, done)


def add_poll(history: History, process: int, partition: int, records: list[Record]) -> None:
    if records:
        polled = tuple((partition, record.offset, (record.value or b"").decode()) for record in records)
        history.add(Poll(process, polled))
