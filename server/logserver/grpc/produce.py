"""ProduceService: batches and plain records in, acknowledgements out."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from logserver.appends import Ack, Acks, BatchAppend, PendingAcks
from logserver.broker import Broker
from logserver.bytes_in_flight import BytesInFlight
from logserver.checks import check_count
from logserver.context import RequestContext
from logserver.errors import InvalidRequest
from logserver.grpc.calls import Calls, Stream
from logserver.status import describe
from logserver.waiters import finish
from logstore.batch import Record
from logwire.framing import (
    ReceivedBatch,
    partition_ack,
    produce_answer,
    produce_response,
    read_produce_request,
    received,
)
from logwire.v1 import records_pb2 as pb

PARTITIONS_PER_REQUEST_MAX = 10_000

#: Plain records are encoded on the loop, about a microsecond each.
PLAIN_RECORDS_MAX = 10_000

#: A message of answers is sent once it is so large.
GROUPED_BYTES_MAX = 64 << 10

_ACKS: dict[int, Acks] = {
    pb.ACKS_UNSPECIFIED: Acks.ALL,
    pb.ACKS_ALL: Acks.ALL,
    pb.ACKS_ONE: Acks.ONE,
    pb.ACKS_ZERO: Acks.ZERO,
}


class ProduceDoor:
    #: Its messages carry batches, and are read without copying them.
    reads_itself = frozenset({"ProduceStream"})

    def __init__(self, broker: Broker, calls: Calls) -> None:
        self.broker = broker
        self.calls = calls

    async def produce(self, request: pb.ProduceRequest, context: RequestContext) -> pb.ProduceResponse:
        acks = requested_acks(request.acks, len(request.partitions))
        connection = self.broker.connections.enter(context.peer)
        try:
            batches = self.batches([received(part) for part in request.partitions], context)
            with connection.hold(_size(batches)):
                answers = await self.broker.appends.append_and_wait(context, batches, acks)
        finally:
            self.broker.connections.leave(context.peer)
        return pb.ProduceResponse(acks=[to_wire(answer, acks) for answer in answers])

    async def produce_stream(self, stream: Stream, context: RequestContext) -> None:
        connection = self.broker.connections.enter(context.peer)
        try:
            await _ProduceStream(self, stream, context, connection).run()
        finally:
            self.broker.connections.leave(context.peer)

    async def init_producer(self, request: pb.InitProducerRequest, context: RequestContext) -> pb.InitProducerResponse:
        return pb.InitProducerResponse(producer_id=self.broker.new_producer_id(context), producer_epoch=0)

    def batches(
        self, partitions: Sequence[ReceivedBatch | pb.PartitionRecords], context: RequestContext
    ) -> list[BatchAppend | Ack]:
        batches: list[BatchAppend | Ack] = []
        records_left = PLAIN_RECORDS_MAX  # in the whole request: encoding them holds up everybody else
        for part in partitions:
            if isinstance(part, ReceivedBatch):
                topic, topic_id, partition = part.head
                if partition is not None:
                    batches.append(BatchAppend(topic, topic_id, partition, part.batch))
                else:
                    batches.append(
                        Ack(topic, -1, error=_incomplete(f"a batch for topic {topic!r} without a partition"))
                    )
                continue
            try:
                batches.extend(self._encoded(part, context, records_left))
                records_left -= len(part.records.records)
            except Exception as refused:
                batches.append(Ack(part.topic, part.partition if part.HasField("partition") else -1, error=refused))
        return batches

    def _encoded(self, part: pb.PartitionRecords, context: RequestContext, records_max: int) -> list[BatchAppend]:
        if part.WhichOneof("payload") != "records":
            raise _incomplete(f"neither a batch nor records for topic {part.topic!r}")
        records = part.records.records
        if not 1 <= len(records) <= records_max:
            raise InvalidRequest(
                f"{len(records)} records came for topic {part.topic!r}, where 1 to {records_max} can be: "
                f"a request may have {PLAIN_RECORDS_MAX} plain records in all",
                remedy="Send fewer at a time, or batches.",
            )
        now_ms = self.broker.clock.wall_ms()
        partition = part.partition if part.HasField("partition") else None
        return self.broker.appends.encode(
            context, part.topic, part.topic_id, partition, [_from_wire(record, now_ms) for record in records]
        )


@dataclass(slots=True, eq=False)
class _Request:
    """One request of a stream, from when it is appended until its answer is sent."""

    request_id: int
    acks: Acks
    reads_others: bool
    size: int
    pending: PendingAcks
    #: Of one that waits.
    give_up_ms: int = 0


class _ProduceStream:
    """One stream: requests are read and appended in order, and answered in the order in which syncs complete.

    One task reads and appends, another writes; so the next request may come while an answer is on its way.
    """

    def __init__(self, door: ProduceDoor, stream: Stream, context: RequestContext, connection: BytesInFlight) -> None:
        broker = door.broker
        self._door = door
        self._stream = stream
        self._context = context
        self._appends = broker.appends
        self._clock = broker.clock
        self._timeout_ms = broker.config.produce_timeout_ms
        self._loop = asyncio.get_running_loop()
        self._in_flight = BytesInFlight(broker.config.stream_bytes_in_flight_max, "this stream", connection)
        #: What is appended and not answered, oldest first.
        self._open: dict[_Request, None] = {}
        #: What of it can be answered now.
        self._ready: deque[_Request] = deque()
        self._is_reading = False
        self._reader = self._loop.create_task(self._read())
        self._writer = self._loop.create_task(self._write())
        self._wake: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Serve the stream to its end: all that was read is answered, also when the server stops."""
        stopping = self._door.calls.stopping
        stopping.add_done_callback(self._stop_reading)
        self._writer.add_done_callback(self._stop_reading)
        self._reader.add_done_callback(self._wake_writer)
        try:
            await asyncio.wait([self._reader, self._writer])
            self._writer.result()
            if stopping.done():
                raise self._door.calls.shutting_down()
            self._reader.result()  # Raises what ended the reading, now that all before it is answered.
        finally:
            stopping.remove_done_callback(self._stop_reading)
            await self._close()

    async def _read(self) -> None:
        stopping = self._door.calls.stopping
        while not stopping.done() and not self._writer.done():
            self._is_reading = True
            if not self._in_flight.has_room:
                await self._in_flight.room()
            message = await self._stream.read()
            self._is_reading = False
            if message is None:
                return
            request = await self._append(message)
            self._open[request] = None
            if request.pending.done:
                self._answer(request)
            else:
                self._wait(request)

    def _stop_reading(self, _: object = None) -> None:
        """Take no more requests. One that is read already is appended and answered."""
        # A reader that has its message gets its turn first: it was due before this call.
        self._loop.call_soon(self._cancel_reading)

    def _cancel_reading(self) -> None:
        if self._is_reading:
            self._reader.cancel()

    async def _append(self, message: bytes) -> _Request:
        try:
            produce = read_produce_request(message, partitions_max=PARTITIONS_PER_REQUEST_MAX)
        except ValueError as error:
            raise InvalidRequest(f"a message is no request: {error}", remedy="Send ProduceStreamRequests.") from error
        acks = requested_acks(produce.acks, len(produce.partitions))
        batches = self._door.batches(produce.partitions, self._context)
        size = len(message)
        self._in_flight.add(size)
        pending = None
        try:
            pending = await self._appends.append(self._context, batches, acks)
        finally:
            if pending is None:
                self._in_flight.remove(size)
        return _Request(produce.request_id, acks, produce.reads_others, size, pending)

    def _wait(self, request: _Request) -> None:
        request.pending.on_done = partial(self._answer, request)
        request.give_up_ms = self._clock.monotonic_ms() + self._timeout_ms
        if self._timer is None:
            self._timer = self._loop.call_later(self._timeout_ms / 1000, self._give_up_overdue)

    def _give_up_overdue(self) -> None:
        """One timer for the whole stream: all its requests are given the same time, so the oldest is due first."""
        self._timer = None
        now_ms = self._clock.monotonic_ms()
        for request in list(self._open):
            if request.pending.done:
                continue
            if request.give_up_ms > now_ms:
                self._timer = self._loop.call_later((request.give_up_ms - now_ms) / 1000, self._give_up_overdue)
                return
            self._appends.give_up(request.pending)
            self._answer(request)

    def _answer(self, request: _Request) -> None:
        self._ready.append(request)
        self._wake_writer()

    def _wake_writer(self, _: object = None) -> None:
        if self._wake is not None:
            finish(self._wake)

    async def _write(self) -> None:
        while self._open or not self._reader.done():
            if not self._ready:
                self._wake = self._loop.create_future()
                await self._wake
                continue
            requests, message = self._next_message()
            await self._stream.write(message)
            for request in requests:
                self._done(request)

    def _next_message(self) -> tuple[list[_Request], bytes]:
        """The next answer, with all others that are ready where their client reads that; and what they answer."""
        request = self._ready.popleft()
        requests, answers = [request], [_encoded_answer(request)]
        size = len(answers[0])
        while request.reads_others and self._ready and self._ready[0].reads_others and size < GROUPED_BYTES_MAX:
            requests.append(self._ready.popleft())
            answers.append(_encoded_answer(requests[-1]))
            size += len(answers[-1])
        return requests, produce_response(answers)

    def _done(self, request: _Request) -> None:
        del self._open[request]
        self._in_flight.remove(request.size)

    async def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._reader.cancel()
        self._writer.cancel()
        await asyncio.gather(self._reader, self._writer, return_exceptions=True)
        for request in list(self._open):
            self._appends.forget(request.pending)
            self._done(request)


def requested_acks(acks: int, partitions: int) -> Acks:
    """Check what concerns the request as a whole. Raises InvalidRequest, RequestTooLarge."""
    check_count("partitions", partitions, PARTITIONS_PER_REQUEST_MAX)
    known = _ACKS.get(acks)
    if known is None:
        raise InvalidRequest(f"acks={acks} is no level", remedy="Use ACKS_ALL, ACKS_ONE or ACKS_ZERO.")
    return known


def _incomplete(what: str) -> InvalidRequest:
    return InvalidRequest(
        f"the request has {what}", remedy="Send one batch with its partition, or records with or without one."
    )


def _size(batches: Sequence[BatchAppend | Ack]) -> int:
    """Bytes that are held until the answer. (A message's own ByteSize serializes it to find out.)"""
    return sum(len(append.batch) for append in batches if isinstance(append, BatchAppend))


def to_wire(ack: Ack, acks: Acks) -> pb.PartitionAck:
    if acks is Acks.ZERO:
        return pb.PartitionAck(topic=ack.topic, partition=ack.partition, base_offset=-1, log_start_offset=-1)
    return pb.PartitionAck(
        topic=ack.topic,
        partition=ack.partition,
        base_offset=ack.base_offset,
        duplicate=ack.duplicate,
        log_start_offset=ack.log_start_offset,
        error=None if ack.error is None else describe(ack.error),
        topic_id=ack.topic_id,
    )


def _encoded_answer(request: _Request) -> bytes:
    return produce_answer(request.request_id, [_encoded_ack(ack, request.acks) for ack in request.pending.acks])


def _encoded_ack(ack: Ack, acks: Acks) -> bytes:
    if ack.error is not None or acks is Acks.ZERO:
        return to_wire(ack, acks).SerializeToString()
    return partition_ack(
        ack.topic,
        ack.topic_id,
        ack.partition,
        base_offset=ack.base_offset,
        log_start_offset=ack.log_start_offset,
        duplicate=ack.duplicate,
    )


def _from_wire(record: pb.Record, now_ms: int) -> Record:
    return Record(
        0,
        record.timestamp_ms if record.HasField("timestamp_ms") else now_ms,
        record.key if record.HasField("key") else None,
        record.value if record.HasField("value") else None,
        tuple((header.key, header.value if header.HasField("value") else None) for header in record.headers),
    )
