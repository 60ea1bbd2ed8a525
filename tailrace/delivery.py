"""A batch on its way and the futures of its records.

What becomes of a record becomes of its whole batch, so the batch holds it, once, and a future is two words: which
batch, and where in it. That is what lets `send` make a future per record (0.1 us; a concurrent.futures.Future is 2).
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from logstore.batch import BatchBuilder, Compression, Contents, read_header, stamp_producer
from tailrace.errors import ResultTimedOut, TailraceError
from tailrace.records import RecordMetadata
from tailrace.runtime import check_may_wait
from tailrace.sequences import ProducerSequence

if TYPE_CHECKING:
    from tailrace.accumulator import PartitionQueue

logger = logging.getLogger("tailrace")


class Appended(Protocol):
    """What the codec says of a record it wrote."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...


class Batch:
    """Records of one partition that travel together.

    Filled by whoever holds the accumulator's lock; from `build` on it belongs to the I/O thread. What is told to
    futures (`done`, `error`, `base_offset`) is written before `done` and read after it.
    """

    __slots__ = (
        "_builder",
        "_callbacks",
        "_counted",
        "_counted_first_ms",
        "_counted_max_ms",
        "_event",
        "_lock",
        "_read",
        "append_at",
        "base_offset",
        "count",
        "created_at",
        "data",
        "deadline",
        "done",
        "due",
        "error",
        "is_counted",
        "number",
        "queue",
        "reserved_bytes",
        "sequence",
        "uncertain",
    )

    def __init__(
        self,
        queue: "PartitionQueue",
        number: int,
        *,
        bytes_max: int,
        compression: Compression,
        created_at: float,
        deadline: float,
        lock: threading.Lock,
    ) -> None:
        self.queue = queue
        #: Place in the order of the partition's batches.
        self.number = number
        self.created_at = created_at
        self.deadline = deadline
        #: To be sent without waiting for more records.
        self.due = False
        self.count = 0
        #: False when only the codec knows how many records it has.
        self.is_counted = True
        self.reserved_bytes = bytes_max
        self.data: bytearray | None = None
        self.sequence: ProducerSequence | None = None
        #: It was sent and the answer never came, so it may have been written.
        self.uncertain = False
        self.done = False
        self.error: TailraceError | None = None
        self.base_offset = -1
        self._builder = BatchBuilder(bytes_max=bytes_max, compression=compression)
        #: The codec's own method: append_at(count, timestamp_ms or None, key, value, headers) -> Appended or None.
        self.append_at: Callable[..., Any] = self._builder.append_at
        #: Records whose times are known: `send` does not look at what time the codec gave a record.
        self._counted = 0
        self._counted_first_ms = self._counted_max_ms = 0
        self._lock = lock
        self._event: threading.Event | None = None
        self._callbacks: list[Callable[[], None]] | None = None
        self._read: set[int] | None = None

    def counted(self, records_count: int, timestamp_ms: int) -> None:
        """So many records of this time were appended, and are in `count`."""
        if self._counted == 0:
            self._counted_first_ms = timestamp_ms
        if timestamp_ms > self._counted_max_ms:
            self._counted_max_ms = timestamp_ms
        self._counted += records_count

    # Of the sender.

    def build(self) -> bytearray:
        """The bytes to send. No record is appended any more."""
        if self.data is None:
            if self.sequence is not None:
                self._builder.set_producer(*self.sequence)
            contents = Contents(self._counted, self._counted_first_ms, self._counted_max_ms)
            is_known = self.is_counted and self._counted == self.count
            self.data = self._builder.build(contents if is_known else None)
            del self._builder, self.append_at
            if not self.is_counted:
                self.count = read_header(self.data).records_count
        return self.data

    def stamp(self, sequence: ProducerSequence) -> None:
        self.sequence = sequence
        if self.data is not None:
            stamp_producer(self.data, *sequence)

    def resolve(self, *, base_offset: int = -1, error: TailraceError | None = None) -> None:
        """Say what became of the batch, once."""
        assert not self.done
        self.base_offset = base_offset
        self.error = error
        with self._lock:
            self.done = True
            event, callbacks = self._event, self._callbacks
            self._callbacks = None
        self.data = None
        if event is not None:
            event.set()
        for callback in callbacks or ():
            callback()

    @property
    def fate(self) -> str:
        """What is known when it fails."""
        return "it may have been written or not" if self.uncertain else "it was not written"

    def __str__(self) -> str:
        records = "1 record" if self.count == 1 else f"{self.count} records"
        return f"a batch of {records} to {self.queue.topic!r} partition {self.queue.partition}"

    # Of futures, in any thread.

    def wait(self, timeout: float | None) -> None:
        """Until it is done. Raises ResultTimedOut, and WrongThreadError in a callback."""
        check_may_wait()
        with self._lock:
            if self.done:
                return
            if self._event is None:
                self._event = threading.Event()
            event = self._event
        self.queue.hurry(self)
        if not event.wait(timeout):
            raise ResultTimedOut(
                f"the send to {self.queue.topic!r} partition {self.queue.partition} is not decided after {timeout} s",
                remedy="Wait longer; the send goes on until its delivery_timeout.",
            )

    def add_callback(self, callback: Callable[[], None]) -> None:
        """Call back when it is done: on the I/O thread, or now and here when it is done already."""
        with self._lock:
            if not self.done:
                if self._callbacks is None:
                    self._callbacks = []
                self._callbacks.append(callback)
                return
        callback()

    def read(self, first: int, count: int = 1) -> None:
        """Somebody looked at the failure of these records."""
        if self._read is None:
            self._read = set()
        self._read.update(range(first, first + count))

    @property
    def unread_count(self) -> int:
        """Records whose failure nobody looked at."""
        return self.count - len(self._read or ())


class SendFuture:
    """The outcome of one `send`."""

    __slots__ = ("_appended", "_batch")

    # Made by hand in the producer's fast path: calling a constructor would double the cost.
    _batch: Batch
    _appended: Appended

    def done(self) -> bool:
        return self._batch.done

    def result(self, timeout: float | None = None) -> RecordMetadata:
        """Wait for the acknowledgement, up to timeout seconds; the record is then sent without linger.

        Raises the send's error, or ResultTimedOut.
        """
        error = self.exception(timeout)
        if error is not None:
            raise error
        return self._metadata()

    def exception(self, timeout: float | None = None) -> TailraceError | None:
        """Wait for the outcome and return its error, or None. Raises ResultTimedOut."""
        batch = self._batch
        if not batch.done:
            batch.wait(timeout)
        if batch.error is not None:
            batch.read(self._appended.offset)
        return batch.error

    def add_done_callback(self, callback: Callable[["SendFuture"], object]) -> None:
        """Call back with this future when it is done: on the library's thread, so briefly, or now if it is done.

        There the callback may send, but not wait: what would block raises WrongThreadError.
        """
        self._batch.add_callback(lambda: _call(callback, self))

    def _metadata(self) -> RecordMetadata:
        batch = self._batch
        offset = -1 if batch.base_offset < 0 else batch.base_offset + self._appended.offset
        return RecordMetadata(batch.queue.topic, batch.queue.partition, offset, self._appended.timestamp)

    def __repr__(self) -> str:
        batch = self._batch
        state = "pending" if not batch.done else "failed" if batch.error is not None else "done"
        return f"<SendFuture {state}, topic={batch.queue.topic!r}, partition={batch.queue.partition}>"


class SentRange(NamedTuple):
    """Records of one `send_many` that follow each other in one partition. `base_offset` is -1 when it is not known."""

    topic: str
    partition: int
    base_offset: int
    records_count: int


class BulkFuture:
    """The outcome of one `send_many`."""

    __slots__ = ("_parts",)

    def __init__(self, parts: Sequence[tuple[Batch, int, int]]) -> None:
        """Each part is a batch, the place of the first record in it, and how many there are."""
        self._parts = parts

    def done(self) -> bool:
        return all(batch.done for batch, _, _ in self._parts)

    def result(self, timeout: float | None = None) -> list[SentRange]:
        """Wait for all acknowledgements. Raises the first error, or ResultTimedOut."""
        self.exception(timeout)
        return ranges_of(self._parts)

    def exception(self, timeout: float | None = None) -> TailraceError | None:
        """Wait for all outcomes and return the first error, or None. Raises ResultTimedOut."""
        until = None if timeout is None else time.monotonic() + timeout
        for batch, _, _ in self._parts:
            if not batch.done:
                batch.wait(None if until is None else max(0.0, until - time.monotonic()))
        return _first_error(self._parts)


def ranges_of(parts: Sequence[tuple[Batch, int, int]]) -> list[SentRange]:
    """What parts of batches that are done have become, in their order. Raises the first error."""
    error = _first_error(parts)
    if error is not None:
        raise error
    ranges: list[SentRange] = []
    by_partition: dict[tuple[str, int], int] = {}
    for batch, start, count in parts:
        base_offset = -1 if batch.base_offset < 0 else batch.base_offset + start
        part = (batch.queue.topic, batch.queue.partition)
        place = by_partition.get(part)
        if place is not None and base_offset >= 0:
            before = ranges[place]
            if before.base_offset + before.records_count == base_offset:
                ranges[place] = before._replace(records_count=before.records_count + count)
                continue
        by_partition[part] = len(ranges)
        ranges.append(SentRange(*part, base_offset, count))
    return ranges


def _first_error(parts: Sequence[tuple[Batch, int, int]]) -> TailraceError | None:
    """All failures count as read, since one of them is told."""
    first: TailraceError | None = None
    for batch, start, count in parts:
        if batch.error is not None:
            batch.read(start, count)
            first = first or batch.error
    return first


def _call(callback: Callable[[SendFuture], object], future: SendFuture) -> None:
    try:
        callback(future)
    except BaseException:
        # The one who resolves must not suffer for the one who listens: not even by sys.exit(), which asyncio lets
        # through and which would end the thread of all clients.
        logger.exception("a callback of a send failed")
