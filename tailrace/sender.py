"""Sends batches to one server over one long stream and makes sure that each is written once and in its order.

For one partition, in the order of its batches:

    open -> sealed -> in flight -> done
                         |
                         +-- refused for now, or the stream broke --> retries --> in flight again
                         +-- refused for good --------------------> failed, and the numbers after it are broken

The rules that keep the promise:

- At most five batches of a partition are in flight: the server remembers the last five of a producer.
- Once one is refused, nothing more of the partition is sent until everything in flight is answered. Then what was
  refused goes out again, first, in its order.
- A retry is the same bytes with the same numbers. Only a batch that was never in doubt, every attempt of it answered
  with a refusal, may be numbered anew, and only after a hole in the numbers (see sequences.py).
- A batch in doubt whose number the server then does not accept fails, with an error that says so: it may or may not
  have been written, and writing it again could write it twice.

Without idempotence (acks other than "all") only one batch of a partition is in flight, so order still holds, but a
retry after a broken stream may write a batch twice.
"""

import asyncio
import logging
import math
import re
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from logwire.framing import produce_request
from logwire.v1 import records_pb2 as pb
from tailrace import errors
from tailrace.accumulator import Accumulator, PartitionQueue
from tailrace.connection import Backoff, Connection, error_from_wire
from tailrace.delivery import Batch
from tailrace.errors import TailraceError

logger = logging.getLogger("tailrace")

#: What the server remembers of one producer in one partition.
IN_FLIGHT_BATCHES_MAX = 5

#: Of one request, unless one batch is larger. A write costs some 0.1 ms, and up to 5 while another thread computes.
REQUEST_BYTES_MAX = 1 << 20

#: Sent and not answered, on one stream.
IN_FLIGHT_BYTES_MAX = 16 << 20

#: A request not answered for so long means that the connection is not what it seems: it is given up and made anew.
ANSWER_SECONDS_MAX = 45.0

#: A server that refuses in passing is given this long before the same batches come again.
RETRY_PAUSE_SECONDS = 0.02
_by_number = attrgetter("number")

# What is refused now may be taken later.
_RETRIED = (
    errors.Overloaded,
    errors.ShuttingDown,
    errors.ServerUnavailable,
    errors.RequestTimedOut,
    errors.StorageFull,
    errors.StorageFailed,
)
#: In what gRPC says of a message that is too large.
_LIMIT = re.compile(r"vs\. (\d+)\)")
#: Refusals after which the batch may be in the log all the same.
_IN_DOUBT = (
    errors.RequestTimedOut,
    errors.ShuttingDown,
    errors.ServerUnavailable,
    errors.StorageFailed,
    errors.InternalServerError,
)
_TOPIC_GONE = (errors.UnknownTopicId, errors.UnknownTopicOrPartition)


@dataclass(frozen=True, slots=True)
class SenderSettings:
    acks: pb.Acks.ValueType
    idempotent: bool
    linger: float


@dataclass(slots=True)
class _Request:
    batches: list[Batch]
    size: int
    sent_at: float


class Sender:
    """On the I/O thread."""

    def __init__(
        self,
        connection: Connection,
        accumulator: Accumulator,
        settings: SenderSettings,
        *,
        on_topic_gone: Callable[[PartitionQueue, TailraceError], None],
    ) -> None:
        self._connection = connection
        self._accumulator = accumulator
        self._settings = settings
        self._on_topic_gone = on_topic_gone
        self._in_flight_max = IN_FLIGHT_BATCHES_MAX if settings.idempotent or settings.acks == pb.ACKS_ZERO else 1
        #: Queues that may have something to send; a dict for its order.
        self._active: dict[PartitionQueue, None] = {}
        #: Queues with something in flight.
        self._awaiting: set[PartitionQueue] = set()
        self._requests: dict[int, _Request] = {}
        self._next_request_id = 0
        self._in_flight_bytes = 0
        self._request_bytes_max = REQUEST_BYTES_MAX
        self._identity: tuple[int, int] | None = None
        self._call: Any = None
        self._last_error: TailraceError | None = None
        self._wake = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def touched(self, queue: PartitionQueue) -> None:
        self._active[queue] = None
        self._wake.set()

    def expire(self, now: float) -> None:
        """Fail what is past its deadline, and give up a stream that has stopped answering."""
        for batch in self._accumulator.overdue(now):
            queue = batch.queue
            if queue.in_flight and batch in queue.in_flight:
                # Its answer may still come, and is then ignored: see _answered.
                queue.sequence.broken = True
                batch.uncertain = True
            else:
                self._take_back(batch)
            self._accumulator.resolve(batch, error=_delivery_timed_out(batch, self._last_error))
        oldest = next(iter(self._requests.values()), None)
        if oldest is not None and now - oldest.sent_at > ANSWER_SECONDS_MAX and self._call is not None:
            self._call.cancel()

    def fail_queue(self, queue: PartitionQueue, error: TailraceError) -> None:
        """Fail all that the queue holds. What is in flight is ignored when it is answered."""
        self._active.pop(queue, None)
        batches = [*queue.in_flight, *queue.retries, *queue.sealed]
        queue.in_flight.clear()
        self._awaiting.discard(queue)
        queue.retries.clear()
        queue.sealed.clear()
        for batch in batches:
            if not batch.done:
                self._accumulator.resolve(batch, error=error)

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    # The stream.

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            self._wake.clear()
            if not self._active:
                await self._wake.wait()
                continue
            try:
                if self._settings.idempotent and self._identity is None:
                    answer = await self._connection.call(
                        self._connection.produce.InitProducer, pb.InitProducerRequest()
                    )
                    self._identity = (answer.producer_id, answer.producer_epoch)
                await self._stream(backoff)
            except TailraceError as error:
                self._last_error = error
                logger.info("sending to %s is interrupted: %s", self._connection.address, error)
                if isinstance(error, errors.RequestTooLarge):
                    self._too_large(error)
                await asyncio.sleep(backoff.next())
                if error.retriable and (absence := await self._connection.absence()):
                    self._last_error = absence
            except Exception as error:
                # A bug, but one that must not leave senders waiting for what nobody will send.
                logger.exception("sending to %s failed unexpectedly", self._connection.address, exc_info=error)
                await asyncio.sleep(backoff.next())

    async def _stream(self, backoff: Backoff) -> None:
        async with self._connection.stream(self._connection.produce_stream) as call:
            self._call = call
            reader = asyncio.get_running_loop().create_task(self._read(call, backoff))
            reader.add_done_callback(lambda _: self._wake.set())
            try:
                while not reader.done():
                    self._wake.clear()
                    now = asyncio.get_running_loop().time()
                    if (request := self._collect(now)) is not None:
                        await call.write(request)
                        self._written()
                    elif self._settings.idempotent and self._identity is None:
                        return  # Epochs have run out: begin again with another producer id.
                    else:
                        await self._wait(self._next_due(now))
                await reader
                raise errors.ServerUnavailable(
                    f"{self._connection.address} ended the stream", remedy="Retry; the client reconnects by itself."
                )
            finally:
                self._call = None
                reader.cancel()
                try:
                    await asyncio.gather(reader, return_exceptions=True)
                finally:
                    self._stream_ended()

    def _written(self) -> None:
        """Only now its answer is waited for: a call cancelled before it began leaves its writer waiting for ever."""
        request = self._requests.get(self._next_request_id - 1)
        if request is not None:
            request.sent_at = asyncio.get_running_loop().time()

    async def _read(self, call: Any, backoff: Backoff) -> None:
        async for response in call:
            backoff.reset()
            self._last_error = None
            for answer in (response, *response.others):
                request = self._requests.pop(answer.request_id, None)
                if request is None:
                    continue
                self._in_flight_bytes -= request.size
                for batch, ack in zip(request.batches, answer.acks, strict=True):
                    self._answered(batch, ack)
            self._wake.set()

    async def _wait(self, until: float | None) -> None:
        """Until something is touched, or a time of the loop's clock."""
        if until is None:
            await self._wake.wait()
            return
        timer = asyncio.get_running_loop().call_at(until, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    # What to send.

    def _collect(self, now: float) -> bytes | None:
        """The next request, with batches of as many partitions as have something to send."""
        if self._in_flight_bytes >= IN_FLIGHT_BYTES_MAX:
            return None
        batches: list[Batch] = []
        size = 0
        for queue in list(self._active):
            while size < self._request_bytes_max and (batch := self._next_batch(queue, now)) is not None:
                size += len(batch.build())
                queue.in_flight.append(batch)
                self._awaiting.add(queue)
                batches.append(batch)
            if size >= self._request_bytes_max:
                # Others first, next time.
                if self._active.pop(queue, queue) is None:
                    self._active[queue] = None
                break
            if not (queue.open or queue.sealed or queue.retries):
                self._active.pop(queue, None)
        if not batches:
            return None
        request_id = self._next_request_id
        self._next_request_id += 1
        self._requests[request_id] = _Request(batches, size, math.inf)
        self._in_flight_bytes += size
        return produce_request(
            request_id, self._settings.acks, ((batch.queue.head, batch.build()) for batch in batches)
        )

    def _next_batch(self, queue: PartitionQueue, now: float) -> Batch | None:
        """The batch of the partition that may be sent now, numbered; None when there is none."""
        if queue.muted or len(queue.in_flight) >= self._in_flight_max or now < queue.retry_at:
            return None
        if queue.retries:
            head = queue.retries[0]
        elif queue.sealed:
            head = queue.sealed[0]
        elif queue.open is not None and self._is_due(queue.open, now):
            self._accumulator.seal(queue)
            head = queue.sealed[0]
        else:
            return None
        if self._settings.idempotent and not self._ensure_numbered(queue, head):
            return None
        self._accumulator.built(head)
        # Only now: had it failed, the batch would still be there to be sent, or to expire.
        if queue.retries:
            queue.retries.pop(0)
        else:
            queue.sealed.popleft()
        return head

    def _ensure_numbered(self, queue: PartitionQueue, batch: Batch) -> bool:
        """See that the batch has its numbers. False while it must wait for what is in flight."""
        if batch.sequence is not None:
            return True
        if queue.sequence.broken:
            if queue.in_flight:
                return False
            assert self._identity is not None
            if not queue.sequence.renew(*self._identity):
                self._identity = None
                return False
        if not batch.is_counted:
            batch.build()
        batch.stamp(queue.sequence.take(batch.count))
        return True

    def _is_due(self, batch: Batch, now: float) -> bool:
        return batch.due or now >= batch.created_at + self._settings.linger

    def _next_due(self, now: float) -> float | None:
        """When there may be something to send though nothing is touched until then.

        `now` is the time at which there was nothing: what has become due since then is due, and not over.
        """
        times = []
        for queue in self._active:
            if queue.retries or queue.sealed:
                times.append(queue.retry_at)
            elif queue.open is not None and len(queue.in_flight) < self._in_flight_max:
                times.append(max(queue.open.created_at + self._settings.linger, queue.retry_at))
        return min((time for time in times if time > now), default=None)

    # What became of it.

    def _answered(self, batch: Batch, ack: pb.PartitionAck) -> None:
        queue = batch.queue
        if batch in queue.in_flight:
            queue.in_flight.remove(batch)
        if not batch.done:
            if not ack.HasField("error"):
                self._accumulator.resolve(batch, base_offset=ack.base_offset)
            else:
                self._refused(batch, error_from_wire(ack.error))
        if not queue.in_flight:
            self._awaiting.discard(queue)
            if queue.muted:
                self._unmute(queue)
        if not queue.is_idle:
            self._active[queue] = None

    def _refused(self, batch: Batch, error: TailraceError) -> None:
        queue = batch.queue
        if isinstance(error, _IN_DOUBT):
            batch.uncertain = True
        if isinstance(error, errors.DuplicateSequenceNumber):
            self._accumulator.resolve(batch)  # Written, too long ago to say where.
        elif isinstance(error, _TOPIC_GONE):
            self._accumulator.resolve(batch, error=error)
            self._on_topic_gone(queue, error)
        elif isinstance(error, _RETRIED):
            self._again(batch)
        elif isinstance(error, errors.OutOfOrderSequenceNumber) and self._has_earlier(queue, batch):
            self._again(batch)  # An earlier one was refused, so this one had to be.
        elif (
            isinstance(error, errors.OutOfOrderSequenceNumber | errors.UnknownProducerId)
            and not batch.uncertain
            and (queue.sequence.broken or isinstance(error, errors.UnknownProducerId))
        ):
            # Certainly not written, and never will be under these numbers.
            queue.sequence.broken = True
            self._again(batch)
        else:
            queue.sequence.broken = True
            queue.muted = True
            self._accumulator.resolve(batch, error=_doubtful(error) if batch.uncertain else error)

    def _has_earlier(self, queue: PartitionQueue, batch: Batch) -> bool:
        return any(other.number < batch.number for other in (*queue.retries, *queue.in_flight))

    def _again(self, batch: Batch) -> None:
        insort(batch.queue.retries, batch, key=_by_number)
        batch.queue.muted = True

    def _unmute(self, queue: PartitionQueue) -> None:
        """All answers are in: prepare what was refused to be sent again."""
        queue.muted = False
        if queue.retries:
            queue.retry_at = asyncio.get_running_loop().time() + RETRY_PAUSE_SECONDS
        self._clear_numbers(queue)

    def _clear_numbers(self, queue: PartitionQueue) -> None:
        """After a hole, take the numbers from what was certainly not written.

        What stands behind such a batch was not written either, whatever is known of it: the server lets nothing pass
        a hole.
        """
        if queue.sequence.broken and queue.retries and not queue.retries[0].uncertain:
            for batch in queue.retries:
                batch.sequence = None
                batch.uncertain = False

    def _stream_ended(self) -> None:
        """The stream ended, however it did: what was in flight is in doubt, and goes out again first."""
        queues = list(self._awaiting)
        self._awaiting.clear()
        self._requests.clear()
        self._in_flight_bytes = 0
        for queue in queues:
            for batch in queue.in_flight:
                if not batch.done:
                    batch.uncertain = True
                    insort(queue.retries, batch, key=_by_number)
            queue.in_flight.clear()
            queue.muted = False
            self._clear_numbers(queue)
            if not queue.is_idle:
                self._active[queue] = None

    def _too_large(self, error: errors.RequestTooLarge) -> None:
        """The connection does not take what was in flight. Send fewer batches at once; one that is too large alone is
        given up."""
        sent = (batch for queue in self._active for batch in queue.retries if not batch.done)
        largest = max(sent, key=lambda batch: len(batch.build()), default=None)
        limit = _LIMIT.search(error.message)
        is_alone = largest is not None and limit is not None and len(largest.build()) > int(limit[1])
        if largest is None or (not is_alone and self._request_bytes_max > 1):
            self._request_bytes_max = max(self._request_bytes_max // 2, 1)
            return
        fate = "it was not written" if is_alone else largest.fate
        self._take_back(largest)
        self._accumulator.resolve(
            largest,
            error=errors.RequestTooLarge(f"{largest} was refused, {fate}: {error.message}", remedy=error.remedy),
        )

    def _take_back(self, batch: Batch) -> None:
        """Remove from its queue a batch that is not in flight."""
        queue = batch.queue
        if queue.open is batch:
            self._accumulator.seal(queue)
        if batch in queue.retries:
            queue.retries.remove(batch)
        elif batch in queue.sealed:
            queue.sealed.remove(batch)
        if batch.sequence is not None:
            queue.sequence.broken = True


def _delivery_timed_out(batch: Batch, last_error: TailraceError | None) -> errors.DeliveryTimedOut:
    attempt = "" if last_error is None else f"; the last attempt met this: {last_error.message}"
    return errors.DeliveryTimedOut(
        f"{batch} was not acknowledged within {batch.deadline - batch.created_at:g} s; {batch.fate}{attempt}",
        remedy="See whether the server is up and its disk keeps pace; a longer delivery_timeout rides out more.",
    )


def _doubtful(error: TailraceError) -> TailraceError:
    return type(error)(
        f"{error.message}; it was sent before and never answered, so it may have been written then",
        remedy="Read the end of the partition to find out. " + error.remedy,
        code=error.code,
    )
