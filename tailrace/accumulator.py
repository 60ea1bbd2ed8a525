"""Where records gather into batches: filled by the application's threads, emptied by the I/O thread.

    TopicQueues      one topic: its partitions, and which of them a key goes to
      PartitionQueue one partition: open (being filled) -> sealed (full) -> the sender

One lock guards what both sides touch. `send` holds it for the time of one append; everything slow, such as computing a
CRC or compressing, happens on the I/O thread after a batch has left the open place.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

from logstore.batch import Compression
from logstore.partitioner import partition_for_key
from logwire.framing import partition_head
from tailrace.delivery import Batch
from tailrace.errors import ClientClosed, InvalidRequest, MessageTooLarge, TailraceError, UnknownTopicOrPartition
from tailrace.metadata import TopicInfo
from tailrace.sequences import PartitionSequence

#: Keys whose partition a topic remembers; hashing one again costs 1.4 to 3 us.
KEYS_MAX = 100_000

#: However many partitions share the buffer, a batch gets this much.
BATCH_BYTES_MIN = 16 << 10

#: What the codec writes around one record, at most, and the header of the batch.
RECORD_OVERHEAD_BYTES_MAX = 100

HeaderList = list[tuple[str, bytes | None]]
NO_HEADERS: HeaderList = []

#: The value and the key of one record of many, as they were given.
BulkRecord = tuple[bytes | str | None, bytes | str | None]


def _take_no_more(*record: object) -> None:
    """In the place of the codec's `append`, of a batch that counts as full."""


class PartitionQueue:
    """The batches of one partition, in order.

    `open` is used under the lock, and what is appended to `sealed` is, too. The I/O thread takes from `sealed` without
    it, and has the rest to itself.
    """

    __slots__ = (
        "_accumulator",
        "head",
        "in_flight",
        "info",
        "muted",
        "next_number",
        "open",
        "partition",
        "retries",
        "retry_at",
        "sealed",
        "sequence",
        "topic",
    )

    def __init__(self, accumulator: "Accumulator", info: TopicInfo, partition: int) -> None:
        self._accumulator = accumulator
        self.info = info
        self.topic = info.topic
        self.partition = partition
        #: What stands before a batch of this partition in a request.
        self.head = partition_head(info.topic, info.topic_id, partition)
        self.open: Batch | None = None
        self.sealed: deque[Batch] = deque()
        self.next_number = 0
        # Of the sender.
        self.sequence = PartitionSequence()
        self.in_flight: list[Batch] = []
        #: Refused or interrupted, to be sent again before anything else, ordered by number.
        self.retries: list[Batch] = []
        self.retry_at = 0.0
        #: Something in flight was refused: nothing more is sent until all answers are in.
        self.muted = False

    def hurry(self, batch: Batch) -> None:
        """Somebody waits for this batch."""
        batch.due = True
        self._accumulator.touched(self)

    @property
    def is_idle(self) -> bool:
        return not (self.in_flight or self.retries or self.sealed or self.open)


class TopicQueues:
    """One topic that is sent to."""

    def __init__(self, accumulator: "Accumulator", info: TopicInfo, random: Random) -> None:
        self._accumulator = accumulator
        self.info = info
        self.queues = [PartitionQueue(accumulator, info, partition) for partition in range(info.partitions)]
        #: Key as it was given -> queue. Under None stands the queue that records without a key go to for now.
        self.by_key: dict[object, PartitionQueue] = {}
        self._sticky = random.randrange(info.partitions)
        self.fetched_at = time.monotonic()

    def queue_of(self, key: bytes | None, given: object, partition: int | None) -> PartitionQueue:
        """The queue of a record. `given` is the key as the caller gave it, bytes or str, to be remembered."""
        if partition is not None:
            if type(partition) is not int and not hasattr(partition, "__index__"):
                raise InvalidRequest(f"partition={partition!r} is not the number of a partition", remedy="Give an int.")
            if not 0 <= partition < len(self.queues):
                raise UnknownTopicOrPartition(
                    f"topic {self.info.topic!r} has partitions 0 to {len(self.queues) - 1}, and no {partition}",
                    remedy="Send to one of these, or give a key, or neither.",
                )
            return self.queues[partition]
        queue = self.by_key.get(given)
        if queue is None:
            queue = self.queues[self._sticky if key is None else partition_for_key(key, len(self.queues))]
            if len(self.by_key) >= KEYS_MAX:
                self.by_key.clear()
            self.by_key[given] = queue
        return queue

    def move_on(self) -> None:
        """Send the next records without a key to the next partition."""
        self._sticky = (self._sticky + 1) % len(self.queues)
        self.by_key.pop(None, None)

    def update(self, info: TopicInfo) -> None:
        """Partitions were added: keys spread anew, as in Kafka."""
        self.fetched_at = time.monotonic()
        if info.topic_id != self.info.topic_id:
            return  # Another topic of that name. The next batch to this one is refused, and says so.
        if info.partitions > len(self.queues):
            added = range(len(self.queues), info.partitions)
            self.queues += [PartitionQueue(self._accumulator, info, partition) for partition in added]
            self.by_key.clear()
        self.info = info


class Accumulator:
    """All records that wait to be sent, within a bound."""

    def __init__(
        self,
        *,
        buffer_bytes: int,
        batch_bytes: int,
        compression: Compression,
        delivery_timeout: float,
        on_touched: Callable[[PartitionQueue], None],
        on_failed: Callable[[Batch], None],
        on_room: Callable[[], None],
        random: Random,
    ) -> None:
        """on_touched is told, in any thread, that a queue has something for the sender to look at. On the I/O thread,
        on_failed is told of every batch that failed, and on_room that there is more room than before."""
        self.lock = threading.Lock()
        self.topics: dict[str, TopicQueues] = {}
        #: topic -> key as given -> queue: the by_key of each topic, for the fast path of `send`.
        self.routes: dict[str, dict[object, PartitionQueue]] = {}
        self.touched = on_touched
        self._on_failed = on_failed
        self._on_room = on_room
        self.unresolved: set[Batch] = set()
        self.closed = False
        self._buffer_bytes = buffer_bytes
        self._batch_bytes = batch_bytes
        self._compression = compression
        self._delivery_timeout = delivery_timeout
        self._random = random
        self._used_bytes = 0
        self._open_count = 0

    def add_topic(self, info: TopicInfo) -> None:
        """Learn a topic, or that it has more partitions."""
        with self.lock:
            known = self.topics.get(info.topic)
            if known is not None:
                known.update(info)
            elif not self.closed:
                topic = TopicQueues(self, info, self._random)
                self.topics[info.topic] = topic
                self.routes[info.topic] = topic.by_key

    def forget_topic(self, topic: str) -> list[PartitionQueue]:
        """The topic is gone: its next record asks for it anew. Returns its queues, with nothing open in them."""
        with self.lock:
            self.routes.pop(topic, None)
            forgotten = self.topics.pop(topic, None)
            queues = forgotten.queues if forgotten is not None else []
            for queue in queues:
                self._seal(queue)
            return queues

    def append(
        self,
        topic: TopicQueues,
        queue: PartitionQueue,
        timestamp_ms: int | None,
        key: bytes | None,
        value: bytes | None,
        headers: HeaderList,
    ) -> tuple[Batch, Any] | int:
        """Append a record and return its batch and what the codec says of it, or the bytes of room that it wants while
        there is not so much.

        Raises MessageTooLarge, ClientClosed.
        """
        with self.lock:
            if self.closed:
                raise closed_error()
            record = (timestamp_ms, key, value, headers)
            placed = self._append_to_open(queue, record) or self._append_to_new(topic, queue, record)
            if not isinstance(placed, int) and placed[0].count == 1:
                # So that what `append_many` adds is not in company whose time is unknown.
                placed[0].counted(1, placed[1].timestamp)
            return placed

    def append_many(
        self, topic: TopicQueues, records: Iterator[BulkRecord], parts: list[tuple[Batch, int, int]]
    ) -> BulkRecord | None:
        """Append records of this moment, without headers, up to one that is not so simple, and return that one: there
        is no room for it, it is too large, or its key or value is not bytes.

        parts collects which places of which batches were filled. Raises ClientClosed.
        """
        # Measured by the nanosecond, as the fast path of `send`: two thirds of it are the codec's.
        routes: dict[Any, PartitionQueue] = topic.by_key
        now_ms = time.time_ns() // 1_000_000
        batch: Batch | None = None
        left: BulkRecord | None = None
        with self.lock:
            if self.closed:
                raise closed_error()
            #: What is open, and how many records were in it before.
            filling = {queue.open: queue.open.count for queue in topic.queues if queue.open is not None}
            try:
                for value, key in records:
                    try:
                        queue = routes[key]
                    except KeyError:
                        queue = topic.queue_of(_bytes_only(key), key, None)
                    batch = queue.open
                    if batch is not None:
                        append_at = batch.append_at
                        place = batch.count
                        if append_at(place, now_ms, key, value, NO_HEADERS) is not None:
                            batch.count = place + 1
                            continue
                        # Before it is sealed: the sender takes what is, and asks no lock.
                        _note_filled(batch, filling.pop(batch), now_ms, parts)
                        self._seal(queue)
                    placed = self._append_to_new(topic, queue, (now_ms, key, value, NO_HEADERS))
                    if isinstance(placed, int):
                        left = value, key
                        break
                    filling[placed[0]] = 0
            except (TypeError, BufferError, MessageTooLarge):
                left = value, key
            except BaseException:  # Ctrl-C, too: see there.
                if batch is not None:
                    self.interrupted(batch)
                raise
            for batch, before in filling.items():
                _note_filled(batch, before, now_ms, parts)
        return left

    def _append_to_open(self, queue: PartitionQueue, record: tuple[Any, ...]) -> tuple[Batch, Any] | None:
        batch = queue.open
        if batch is None:
            return None
        try:
            appended = batch.append_at(batch.count, *record)
        except BaseException:  # Ctrl-C, too: see there.
            self.interrupted(batch)
            raise
        if appended is None:
            self._seal(queue)
            return None
        batch.count += 1
        return batch, appended

    def _append_to_new(
        self, topic: TopicQueues, queue: PartitionQueue, record: tuple[Any, ...]
    ) -> tuple[Batch, Any] | int:
        size = _size_in(topic.info, *record[1:])
        usual_bytes = min(self._batch_bytes, topic.info.message_bytes_max, self._share_bytes())
        bytes_max = max(size, usual_bytes)
        if not self.has_room(bytes_max):
            return bytes_max
        if topic.by_key.get(None) is queue:
            # A batch without keys is full (or was taken): the next one goes elsewhere.
            topic.move_on()
        now = time.monotonic()
        batch = Batch(
            queue,
            queue.next_number,
            bytes_max=bytes_max,
            compression=self._compression,
            created_at=now,
            deadline=now + self._delivery_timeout,
            lock=self.lock,
        )
        appended = batch.append_at(0, *record)
        batch.count = 1
        if size > usual_bytes:
            batch.append_at = _take_no_more  # what is refused of it is refused of no other record
        queue.next_number += 1
        queue.open = batch
        self._open_count += 1
        self._used_bytes += bytes_max
        try:
            self.unresolved.add(batch)
        finally:
            self.touched(queue)  # Whatever comes between, such as a Ctrl-C: an open batch is known to the sender.
        return batch, appended

    def interrupted(self, batch: Batch) -> None:
        """Something was raised while a record was appended, under the lock: a Ctrl-C, most likely, which comes as soon
        as the codec returns. The record is in the batch or not. Nothing may follow it under its number, and the codec
        has to say how many there are."""
        batch.is_counted = False
        self._seal(batch.queue)

    def seal(self, queue: PartitionQueue) -> None:
        """Let nothing more be appended to what is open."""
        with self.lock:
            self._seal(queue)

    def seal_all(self, *, close: bool = False) -> list[Batch]:
        """Seal everything, and return what is not resolved yet. After `close` nothing can be appended."""
        with self.lock:
            if close:
                self.closed = True
                self.routes.clear()
            for batch in self.unresolved:
                batch.due = True
                if batch.queue.open is batch:
                    self._seal(batch.queue)
            return sorted(self.unresolved, key=lambda batch: batch.number)

    def hurry(self) -> None:
        """Somebody waits for room. If all that could give it back is open, let nothing wait for more records."""
        with self.lock:
            if self._open_count < len(self.unresolved):
                return  # Something is full, and on its way.
            hurried = [batch for batch in self.unresolved if not batch.due]
            for batch in hurried:
                batch.due = True
        for batch in hurried:
            self.touched(batch.queue)

    def overdue(self, now: float) -> list[Batch]:
        with self.lock:
            late = [batch for batch in self.unresolved if batch.deadline <= now]
        return sorted(late, key=lambda batch: batch.number)

    def built(self, batch: Batch) -> None:
        """The batch has its bytes: give back what it reserved beyond them."""
        size = len(batch.build())
        with self.lock:
            self._used_bytes += size - batch.reserved_bytes
        batch.reserved_bytes = size
        self._on_room()

    def resolve(self, batch: Batch, *, base_offset: int = -1, error: TailraceError | None = None) -> None:
        """Say what became of a batch, once."""
        with self.lock:
            self.unresolved.discard(batch)
            self._used_bytes -= batch.reserved_bytes
        batch.reserved_bytes = 0
        batch.resolve(base_offset=base_offset, error=error)
        if error is not None:
            self._on_failed(batch)
        self._on_room()

    def has_room(self, wanted_bytes: int) -> bool:
        """A batch larger than the whole buffer has room when it is alone."""
        return self._used_bytes == 0 or self._used_bytes + wanted_bytes <= self._buffer_bytes

    @property
    def used_bytes(self) -> int:
        return self._used_bytes

    def _seal(self, queue: PartitionQueue) -> None:
        if queue.open is not None:
            queue.sealed.append(queue.open)
            queue.open = None
            self._open_count -= 1
            self.touched(queue)

    def _share_bytes(self) -> int:
        """So that batches open in many partitions at once fill a quarter of the buffer at most."""
        return max(BATCH_BYTES_MIN, self._buffer_bytes // (4 * (self._open_count + 1)))


def _note_filled(batch: Batch, before: int, timestamp_ms: int, parts: list[tuple[Batch, int, int]]) -> None:
    if batch.count > before:
        batch.counted(batch.count - before, timestamp_ms)
        parts.append((batch, before, batch.count - before))


def _size_in(topic: TopicInfo, key: bytes | None, value: bytes | None, headers: HeaderList) -> int:
    """Bytes that a record takes, at most. Raises MessageTooLarge."""
    size = RECORD_OVERHEAD_BYTES_MAX + len(key or b"") + len(value or b"")
    if headers:
        size += sum(20 + 3 * len(name) + len(text or b"") for name, text in headers)
    if size > topic.message_bytes_max:
        raise MessageTooLarge(
            f"a record of {size} bytes is over the max.message.bytes = {topic.message_bytes_max} of topic "
            f"{topic.topic!r}",
            remedy="Send it in parts, or raise max.message.bytes of the topic.",
        )
    return size


def _bytes_only(given: bytes | str | None) -> bytes | None:
    if isinstance(given, str):
        raise TypeError
    return given


def closed_error() -> ClientClosed:
    return ClientClosed("the producer was closed", remedy="Send before leaving its `with` block, or make another.")
