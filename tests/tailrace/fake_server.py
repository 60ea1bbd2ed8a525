"""A server in memory that does what a test tells it to: lose an answer, refuse a batch, break a stream, move a group.

What it keeps is real (the producers' sequences are checked by the engine's own code), how it fails is scripted. It runs
on a thread and an event loop of its own, and can be stopped and started again on its port.
"""

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Collection, Coroutine
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc.status_pb2 import Status

from logstore import errors as store
from logstore.batch import (
    BatchHeader,
    Record,
    check_batch,
    decode_batch,
    decode_codec_records,
    encode_retained,
    iter_headers,
    read_header,
    stamp,
)
from logstore.producers import ProducerStates
from logwire.v1 import (
    errors_pb2,
    groups_pb2,
    groups_pb2_grpc,
    records_pb2,
    records_pb2_grpc,
    topics_pb2,
    topics_pb2_grpc,
)
from logwire.v1.errors_pb2 import ErrorCode

#: What a test can make of a produce request: see FakeServer.produce_script.
LOSE_ANSWER = "append, then break the stream"
BREAK = "break the stream before anything is appended"
HOLD = "do it now, and answer when released"
TIME_OUT = "append, and answer that it is not known to be on disk"
NO_ACKS = "append, and answer with no ack at all, as no server should"

_CODES: dict[type[Exception], str] = {
    store.OutOfOrderSequence: "OUT_OF_ORDER_SEQUENCE_NUMBER",
    store.DuplicateSequence: "DUPLICATE_SEQUENCE_NUMBER",
    store.InvalidProducerEpoch: "INVALID_PRODUCER_EPOCH",
    store.UnknownProducerId: "UNKNOWN_PRODUCER_ID",
}


def wire_error(code: str, message: str = "as the test told", *, retriable: bool = False) -> errors_pb2.Error:
    return errors_pb2.Error(
        code=ErrorCode.Value(f"ERROR_CODE_{code}"), message=message, remedy="None: it is a test.", retriable=retriable
    )


class FakePartition:
    def __init__(self) -> None:
        self.batches: list[bytes] = []
        self.next_offset = 0
        self.log_start_offset = 0
        self.producers = ProducerStates(producers_max=100)
        self.grown = asyncio.Event()

    def append(self, batch: bytes) -> tuple[int, bool]:
        header = check_batch(batch)
        if header.producer_id >= 0 and (duplicate := self.producers.check(header)) is not None:
            return duplicate.base_offset, True
        base_offset = self.next_offset
        stamped = bytearray(batch)
        stamp(stamped, base_offset, 0)
        self.batches.append(bytes(stamped))
        self.next_offset += header.records_count
        if header.producer_id >= 0:
            self.producers.record(header, base_offset, 0)
        self.grown.set()
        self.grown = asyncio.Event()
        return base_offset, False

    def compact(self, gone: Collection[int]) -> None:
        """Take the records at these offsets out, and batches of which nothing is left."""
        batches = []
        for batch in self.batches:
            kept = [record for record in decode_codec_records(batch) if record.offset not in gone]
            if kept:
                batches.append(encode_retained(read_header(batch), kept))
        self.batches = batches

    def read(self, offset: int, bytes_max: int) -> tuple[bytes, int]:
        found = b""
        next_offset = self.next_offset
        for batch in self.batches:
            header = read_header(batch)
            if header.next_offset > offset and (not found or len(found) + len(batch) <= bytes_max):
                found += batch
                next_offset = header.next_offset
            elif found:
                break
        return found, next_offset

    @property
    def records(self) -> list[tuple[bytes | None, bytes | None]]:
        return [(record.key, record.value) for batch in self.batches for record in decode_batch(batch)]

    @property
    def values(self) -> list[bytes | None]:
        return [value for _, value in self.records]

    @property
    def headers(self) -> list[BatchHeader]:
        return [header for batch in self.batches for _, header in iter_headers(batch)]


class FakeTopic:
    def __init__(self, topic_id: int, partitions: int) -> None:
        self.topic_id = topic_id.to_bytes(16)
        self.partitions = [FakePartition() for _ in range(partitions)]


class FakeMember:
    def __init__(self) -> None:
        self.epoch = 0
        self.owned: set[tuple[str, int]] | None = None
        self.assignment: set[tuple[str, int]] | None = None
        self.changed = asyncio.Event()
        self.subscribed: list[str] = []


class FakeServer:
    """Everything that is read by tests may be read at any time; it is changed through the methods, or before use."""

    def __init__(self, **topics: int) -> None:
        self.topics: dict[str, FakeTopic] = {}
        self._next_topic_id = 1
        self.message_bytes_max = 1_048_588
        self.auto_create_partitions = 1
        for topic, partitions in topics.items():
            self.add_topic(topic, partitions)
        #: What becomes of the next produce requests: LOSE_ANSWER, BREAK, HOLD, TIME_OUT, NO_ACKS, None, or a function
        #: of each of its batches (topic, partition, header) that gives an Error or None.
        self.produce_script: deque[Any] = deque()
        self.produce_requests: list[records_pb2.ProduceStreamRequest] = []
        self.next_producer_id = 1000
        #: Errors with which the next calls of a method are refused as a whole.
        self.refusals: dict[str, deque[errors_pb2.Error]] = defaultdict(deque)
        #: How many of the next ListOffsets end as if the server had been killed meanwhile.
        self.list_offsets_breaks = 0
        self.fetch_script: deque[str] = deque()
        self.fetch_requests: list[records_pb2.FetchStreamRequest] = []
        #: Most bytes in one answer of a fetch stream.
        self.answer_bytes_max = 1 << 20
        self.members: dict[str, FakeMember] = {}
        #: Member ids in the order they joined.
        self.joined: list[str] = []
        self.heartbeats: list[groups_pb2.HeartbeatRequest] = []
        self.session_timeout_ms = 45_000
        self.commits: list[groups_pb2.CommitOffsetsRequest] = []
        self.committed: dict[tuple[str, int], int] = {}
        #: With which codes the offsets of the next commits are refused; HOLD: nothing is refused, the answer waits.
        self.commit_script: deque[str] = deque()
        #: What becomes of the next heartbeats, and FetchOffsets: HOLD or None.
        self.heartbeat_script: deque[str | None] = deque()
        self.fetch_offsets_script: deque[str | None] = deque()
        #: What calls are answered with that the fake has no notion of, by method; and what was asked of each.
        self.answers: dict[str, Message] = {}
        self.asked: dict[str, list[Any]] = defaultdict(list)
        #: How many of the next calls of each of those methods break, as if the server had been killed meanwhile.
        self.breaks: dict[str, int] = defaultdict(int)
        #: What a member that joins is given, when a test has not said it by `assign`.
        self.first_assignment: set[tuple[str, int]] = set()
        self._released = asyncio.Event()
        self.address = ""
        self._port = 0
        self._server: grpc.aio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="fake-server", daemon=True)
        self._changed = threading.Condition()

    def add_topic(self, topic: str, partitions: int) -> FakeTopic:
        self.topics[topic] = FakeTopic(self._next_topic_id, partitions)
        self._next_topic_id += 1
        return self.topics[topic]

    # For tests, from their thread.

    def __enter__(self) -> Self:
        self._thread.start()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        self._on_loop(_end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def start(self) -> None:
        self._on_loop(self._start())

    def stop(self) -> None:
        """As a kill: what is open breaks."""
        self._on_loop(self._stop())

    def release(self) -> None:
        """Answer what is held."""
        self._loop.call_soon_threadsafe(self._released.set)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run a function on the server's loop."""

        async def run() -> Any:
            return function(*arguments)

        return self._on_loop(run())

    def assign(self, member: str, partitions: set[tuple[str, int]]) -> None:
        """Give a member another assignment, which it learns by its heartbeat."""

        def change() -> None:
            known = self.members[member]
            known.assignment = partitions
            known.epoch += 1
            known.changed.set()

        self.call(change)

    def fence(self, member: str) -> None:
        def change() -> None:
            self.members.pop(member).changed.set()

        self.call(change)

    def wait_until(self, condition: Callable[[], bool], timeout: float = 10.0) -> None:
        """Until something is true that changes with a request."""
        with self._changed:
            assert self._changed.wait_for(condition, timeout), "what the test waits for did not happen"

    def append(self, topic: str, partition: int, batch: bytes) -> int:
        offset: int
        offset, _ = self.call(self.topics[topic].partitions[partition].append, batch)
        return offset

    def compact(self, topic: str, partition: int, gone: Collection[int]) -> None:
        self.call(self.topics[topic].partitions[partition].compact, gone)

    def grow(self, topic: str, partitions: int) -> None:
        known = self.topics[topic].partitions
        known += [FakePartition() for _ in range(partitions - len(known))]

    def forget_producers(self, topic: str) -> None:
        for partition in self.topics[topic].partitions:
            partition.producers = ProducerStates(producers_max=100)

    def read(self, topic: str, partition: int) -> list[Record]:
        return [record for batch in self.topics[topic].partitions[partition].batches for record in decode_batch(batch)]

    # On its loop.

    def _on_loop(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _start(self) -> None:
        options = [("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", 16 << 20)]
        self._server = grpc.aio.server(options=options)
        records_pb2_grpc.add_ProduceServiceServicer_to_server(_Produce(self), self._server)  # type: ignore[abstract]
        records_pb2_grpc.add_FetchServiceServicer_to_server(_Fetch(self), self._server)  # type: ignore[abstract]
        topics_pb2_grpc.add_TopicServiceServicer_to_server(_Topics(self), self._server)
        groups_pb2_grpc.add_GroupServiceServicer_to_server(_Groups(self), self._server)
        self._port = self._server.add_insecure_port(f"127.0.0.1:{self._port}")
        self.address = f"127.0.0.1:{self._port}"
        await self._server.start()

    async def _stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    async def refuse(self, context: Any, error: errors_pb2.Error, status: grpc.StatusCode) -> None:
        rich = Status(code=status.value[0], message=error.message)
        detail = AnyMessage()
        detail.Pack(error)
        rich.details.append(detail)
        context.set_trailing_metadata((("grpc-status-details-bin", rich.SerializeToString()),))
        await context.abort(status, error.message)

    async def refuse_as_told(self, method: str, context: Any) -> None:
        if self.refusals[method]:
            await self.refuse(context, self.refusals[method].popleft(), grpc.StatusCode.FAILED_PRECONDITION)

    async def answer(self, method: str, request: Message, context: Any) -> Any:
        self.asked[method].append(request)
        if self.breaks[method]:
            self.breaks[method] -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        await self.refuse_as_told(method, context)
        if method not in self.answers:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "the test gave no answer")
        return self.answers[method]

    def changed(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def find(self, topic: str, topic_id: bytes, partition: int) -> FakePartition | errors_pb2.Error:
        known = self.topics.get(topic)
        if topic_id and (known is None or known.topic_id != topic_id):
            return wire_error("UNKNOWN_TOPIC_ID", f"topic {topic!r} is another by now")
        if known is None or partition >= len(known.partitions):
            return wire_error("UNKNOWN_TOPIC_OR_PARTITION", f"there is no {topic!r} partition {partition}")
        return known.partitions[partition]


class _Topics(topics_pb2_grpc.TopicServiceServicer):
    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake

    async def GetMetadata(self, request: topics_pb2.GetMetadataRequest, context: Any) -> topics_pb2.GetMetadataResponse:
        await self._fake.refuse_as_told("GetMetadata", context)
        host, port = self._fake.address.split(":")
        reply = topics_pb2.GetMetadataResponse(
            cluster_id="fake", nodes=[topics_pb2.Node(node_id=1, host=host, port=int(port))]
        )
        for name in request.topics or self._fake.topics:
            if name not in self._fake.topics and request.auto_create:
                self._fake.add_topic(name, self._fake.auto_create_partitions)
            known = self._fake.topics.get(name)
            if known is None:
                error = wire_error("UNKNOWN_TOPIC_OR_PARTITION", f"there is no topic {name!r}")
                reply.topics.append(topics_pb2.TopicMetadata(topic=name, error=error))
                continue
            partitions = [
                topics_pb2.PartitionMetadata(partition=number, leader_node_id=1)
                for number in range(len(known.partitions))
            ]
            reply.topics.append(
                topics_pb2.TopicMetadata(
                    topic=name,
                    topic_id=known.topic_id,
                    partitions=partitions,
                    message_bytes_max=self._fake.message_bytes_max,
                )
            )
        return reply

    async def CreateTopic(self, request: topics_pb2.CreateTopicRequest, context: Any) -> Any:
        return await self._fake.answer("CreateTopic", request, context)

    async def DeleteTopic(self, request: topics_pb2.DeleteTopicRequest, context: Any) -> Any:
        return await self._fake.answer("DeleteTopic", request, context)

    async def AlterTopic(self, request: topics_pb2.AlterTopicRequest, context: Any) -> Any:
        return await self._fake.answer("AlterTopic", request, context)

    async def DeleteRecords(self, request: topics_pb2.DeleteRecordsRequest, context: Any) -> Any:
        return await self._fake.answer("DeleteRecords", request, context)

    async def DescribeTopic(self, request: topics_pb2.DescribeTopicRequest, context: Any) -> Any:
        return await self._fake.answer("DescribeTopic", request, context)

    async def ListTopics(self, request: topics_pb2.ListTopicsRequest, context: Any) -> Any:
        return await self._fake.answer("ListTopics", request, context)


class _Produce(records_pb2_grpc.ProduceServiceServicer):
    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake

    async def InitProducer(self, request: Any, context: Any) -> records_pb2.InitProducerResponse:
        await self._fake.refuse_as_told("InitProducer", context)
        self._fake.next_producer_id += 1
        return records_pb2.InitProducerResponse(producer_id=self._fake.next_producer_id, producer_epoch=0)

    async def ProduceStream(
        self, requests: AsyncIterator[records_pb2.ProduceStreamRequest], context: Any
    ) -> AsyncIterator[records_pb2.ProduceStreamResponse]:
        async for request in requests:
            script = self._fake.produce_script.popleft() if self._fake.produce_script else None
            self._fake.produce_requests.append(request)
            if script == BREAK:
                self._fake.changed()
                await context.abort(grpc.StatusCode.UNAVAILABLE, "broken by the test")
            acks = [self._append(part, script) for part in request.partitions]
            self._fake.changed()
            if script == LOSE_ANSWER:
                await context.abort(grpc.StatusCode.UNAVAILABLE, "broken by the test")
            if script == HOLD:
                await self._fake._released.wait()
            if script == NO_ACKS:
                acks = []
            yield records_pb2.ProduceStreamResponse(request_id=request.request_id, acks=acks)

    def _append(self, part: records_pb2.PartitionRecords, script: Any) -> records_pb2.PartitionAck:
        ack = records_pb2.PartitionAck(topic=part.topic, partition=part.partition, base_offset=-1)
        found = self._fake.find(part.topic, part.topic_id, part.partition)
        if isinstance(found, errors_pb2.Error):
            ack.error.CopyFrom(found)
            return ack
        error = script(part.topic, part.partition, read_header(part.batch)) if callable(script) else None
        if error is not None:
            ack.error.CopyFrom(error)
            return ack
        try:
            ack.base_offset, ack.duplicate = found.append(part.batch)
        except store.LogStoreError as refused:
            ack.error.CopyFrom(wire_error(_CODES[type(refused)], str(refused)))
        if script == TIME_OUT:
            ack.error.CopyFrom(wire_error("REQUEST_TIMED_OUT", retriable=True))
        return ack


class _Fetch(records_pb2_grpc.FetchServiceServicer):
    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake

    async def ListOffsets(
        self, request: records_pb2.ListOffsetsRequest, context: Any
    ) -> records_pb2.ListOffsetsResponse:
        if self._fake.list_offsets_breaks:
            self._fake.list_offsets_breaks -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Socket closed")
        reply = records_pb2.ListOffsetsResponse()
        for query in request.queries:
            result = records_pb2.ListOffsetsResult(topic=query.topic, partition=query.partition)
            found = self._fake.find(query.topic, b"", query.partition)
            if isinstance(found, errors_pb2.Error):
                result.error.CopyFrom(found)
            elif query.spec == records_pb2.OFFSET_SPEC_EARLIEST:
                result.offset = found.log_start_offset
            elif query.spec == records_pb2.OFFSET_SPEC_LATEST:
                result.offset = found.next_offset
            else:
                result.offset = found.next_offset
                for record in (record for batch in found.batches for record in decode_batch(batch)):
                    if record.timestamp_ms >= query.timestamp_ms:
                        result.offset, result.timestamp_ms = record.offset, record.timestamp_ms
                        break
            reply.results.append(result)
        return reply

    async def FetchStream(self, requests: Any, context: Any) -> AsyncIterator[records_pb2.FetchStreamResponse]:
        if self._fake.refusals["FetchStream"]:
            # When all was said, as the server refuses what it has read: gRPC tells a client that still writes less.
            async for request in requests:
                if request.credit_bytes:
                    await self._fake.refuse_as_told("FetchStream", context)
        positions: dict[tuple[str, int], records_pb2.FetchPosition] = {}
        told: set[int] = set()
        credit = 0
        news = asyncio.Event()

        async def obey() -> None:
            nonlocal credit
            async for request in requests:
                self._fake.fetch_requests.append(request)
                for part in request.drop:
                    positions.pop((part.topic, part.partition), None)
                for position in request.set:
                    positions[position.topic, position.partition] = position
                credit += request.credit_bytes
                news.set()
                self._fake.changed()

        reader = asyncio.create_task(obey())
        try:
            while True:
                if self._fake.fetch_script:
                    self._fake.fetch_script.popleft()
                    await context.abort(grpc.StatusCode.UNAVAILABLE, "broken by the test")
                sent = False
                growing = [news]
                for position in list(positions.values()):
                    data = self._read(position, credit)
                    if data is None:
                        continue
                    if data.HasField("error"):
                        positions.pop((position.topic, position.partition))
                    elif not data.batches and data.next_offset == position.offset:
                        found = self._fake.find(position.topic, b"", position.partition)
                        assert isinstance(found, FakePartition)
                        growing.append(found.grown)
                        if position.position_id in told:
                            continue
                    told.add(position.position_id)
                    credit -= len(data.batches)
                    position.offset = data.next_offset
                    sent = True
                    yield records_pb2.FetchStreamResponse(partitions=[data])
                if not sent:
                    await _any_of(growing)
                    news.clear()
        finally:
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)

    def _read(self, position: records_pb2.FetchPosition, credit: int) -> records_pb2.PartitionData | None:
        found = self._fake.find(position.topic, position.topic_id, position.partition)
        data = records_pb2.PartitionData(
            topic=position.topic,
            partition=position.partition,
            position_id=position.position_id,
            next_offset=position.offset,
        )
        if isinstance(found, errors_pb2.Error):
            data.error.CopyFrom(found)
            return data
        data.high_watermark, data.log_start_offset = found.next_offset, found.log_start_offset
        if not found.log_start_offset <= position.offset <= found.next_offset:
            data.error.CopyFrom(
                wire_error(
                    "OFFSET_OUT_OF_RANGE",
                    f"offset {position.offset} is not in [{found.log_start_offset}, {found.next_offset}]",
                )
            )
            return data
        if position.offset < found.next_offset:
            if credit <= 0:
                return None
            data.batches, data.next_offset = found.read(position.offset, min(credit, self._fake.answer_bytes_max))
        return data


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _any_of(events: list[asyncio.Event]) -> None:
    """Until one of the events is set, or a moment later: a credit may have come between looking and waiting."""
    tasks = [asyncio.create_task(event.wait()) for event in events]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=0.05)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Groups(groups_pb2_grpc.GroupServiceServicer):
    def __init__(self, fake: FakeServer) -> None:
        self._fake = fake

    async def Heartbeat(self, request: groups_pb2.HeartbeatRequest, context: Any) -> groups_pb2.HeartbeatResponse:
        fake = self._fake
        fake.heartbeats.append(request)
        fake.changed()
        await fake.refuse_as_told("Heartbeat", context)
        reply = groups_pb2.HeartbeatResponse(member_id=request.member_id, heartbeat_interval_ms=200)
        reply.session_timeout_ms = fake.session_timeout_ms
        if request.member_epoch < 0:
            fake.members.pop(request.member_id, None)
            reply.member_epoch = request.member_epoch
            return reply
        member = fake.members.get(request.member_id)
        if request.member_epoch == 0:
            member = fake.members[request.member_id] = FakeMember()
            member.assignment = set(fake.first_assignment)
            member.epoch = 1
            member.subscribed = list(request.subscription.topics)
            fake.joined.append(request.member_id)
            member.changed.set()
        if member is None:
            error = wire_error("UNKNOWN_MEMBER_ID", f"there is no member {request.member_id}")
            await fake.refuse(context, error, grpc.StatusCode.NOT_FOUND)
            raise AssertionError
        if request.HasField("owned"):
            member.owned = {
                (part.topic, number) for part in request.owned.topic_partitions for number in part.partitions
            }
            if member.owned != member.assignment:
                member.changed.set()
        script = fake.heartbeat_script.popleft() if fake.heartbeat_script else None
        fake.changed()
        if script == HOLD:
            await fake._released.wait()
        if not member.changed.is_set():
            try:
                async with asyncio.timeout(min(request.wait_ms_max, 200) / 1000):
                    await member.changed.wait()
            except TimeoutError:
                pass
        if request.member_id not in fake.members:
            error = wire_error("FENCED_MEMBER_EPOCH", "the test fenced the member")
            await fake.refuse(context, error, grpc.StatusCode.FAILED_PRECONDITION)
        if member.changed.is_set():
            member.changed.clear()
            for topic, number in sorted(member.assignment or ()):
                reply.assignment.topic_partitions.append(
                    groups_pb2.TopicPartitions(topic=topic, topic_id=fake.topics[topic].topic_id, partitions=[number])
                )
            reply.assignment.SetInParent()
        reply.member_epoch = member.epoch
        return reply

    async def FetchOffsets(
        self, request: groups_pb2.FetchOffsetsRequest, context: Any
    ) -> groups_pb2.FetchOffsetsResponse:
        await self._fake.refuse_as_told("FetchOffsets", context)
        reply = groups_pb2.FetchOffsetsResponse()
        if not request.topic_partitions:
            for (topic, number), offset in sorted(self._fake.committed.items()):
                topic_id = self._fake.topics[topic].topic_id
                reply.offsets.add(topic=topic, topic_id=topic_id, partition=number, offset=offset)
        for part in request.topic_partitions:
            for number in part.partitions:
                offset = self._fake.committed.get((part.topic, number), -1)
                topic_id = self._fake.topics[part.topic].topic_id
                reply.offsets.add(topic=part.topic, topic_id=topic_id, partition=number, offset=offset)
        script = self._fake.fetch_offsets_script.popleft() if self._fake.fetch_offsets_script else None
        self._fake.changed()
        if script == HOLD:
            await self._fake._released.wait()
            await self._fake.refuse_as_told("FetchOffsets", context)
        return reply

    async def CommitOffsets(
        self, request: groups_pb2.CommitOffsetsRequest, context: Any
    ) -> groups_pb2.CommitOffsetsResponse:
        fake = self._fake
        fake.commits.append(request)
        await fake.refuse_as_told("CommitOffsets", context)
        code = fake.commit_script.popleft() if fake.commit_script else ""
        if code == HOLD:
            code = ""
            fake.changed()
            await fake._released.wait()
        reply = groups_pb2.CommitOffsetsResponse()
        for offset in request.offsets:
            answer = reply.offsets.add()
            answer.CopyFrom(offset)
            if code:
                answer.error.CopyFrom(wire_error(code))
            else:
                fake.committed[offset.topic, offset.partition] = offset.offset
        fake.changed()
        return reply

    async def ListGroups(self, request: groups_pb2.ListGroupsRequest, context: Any) -> Any:
        return await self._fake.answer("ListGroups", request, context)

    async def DescribeGroup(self, request: groups_pb2.DescribeGroupRequest, context: Any) -> Any:
        return await self._fake.answer("DescribeGroup", request, context)

    async def DeleteGroup(self, request: groups_pb2.DeleteGroupRequest, context: Any) -> Any:
        return await self._fake.answer("DeleteGroup", request, context)

    async def SeekGroup(self, request: groups_pb2.SeekGroupRequest, context: Any) -> Any:
        return await self._fake.answer("SeekGroup", request, context)
