"""FetchService: whole batches out, or plain records for callers without a codec."""

import asyncio
from functools import partial

from logserver.broker import Broker
from logserver.checks import check_count
from logserver.context import Operation, RequestContext
from logserver.errors import InvalidRequest
from logserver.fetch_stream import FetchStream
from logserver.fetches import FetchFrom, PartitionRead
from logserver.grpc.calls import Calls, Stream
from logserver.status import describe
from logserver.time_slice import TimeSlice
from logstore.batch import Record
from logwire.framing import fetch_response
from logwire.v1 import records_pb2 as pb

POSITIONS_PER_REQUEST_MAX = 10_000


class FetchDoor:
    def __init__(self, broker: Broker, calls: Calls) -> None:
        self._broker = broker
        self._calls = calls

    async def fetch(self, request: pb.FetchRequest, context: RequestContext) -> pb.FetchResponse:
        check_count("positions", len(request.positions), POSITIONS_PER_REQUEST_MAX)
        reads = await self._broker.fetches.fetch(
            context,
            [_start(position) for position in request.positions],
            wait_ms=request.wait_ms_max,
            bytes_max=request.bytes_max,
            decode=request.decode,
        )
        return pb.FetchResponse(partitions=[to_wire(read) for read in reads])

    async def fetch_stream(self, stream: Stream, context: RequestContext) -> None:
        followed = self._broker.fetch_stream(context)
        reader = asyncio.create_task(_obey(stream, followed))
        reader.add_done_callback(partial(_no_more_requests, followed))
        stopping = self._calls.stopping
        stopping.add_done_callback(stop := lambda _: followed.stop())
        try:
            while (reads := await followed.next()) is not None:
                await stream.write(fetch_response((without_batches(read), read.batches) for read in reads))
            if stopping.done():
                raise self._calls.shutting_down()
            reader.result()
        finally:
            stopping.remove_done_callback(stop)
            followed.close()
            reader.cancel()
            await asyncio.wait([reader])

    async def list_offsets(self, request: pb.ListOffsetsRequest, context: RequestContext) -> pb.ListOffsetsResponse:
        check_count("queries", len(request.queries), POSITIONS_PER_REQUEST_MAX)
        time_slice = TimeSlice(self._broker.clock)
        results = []
        for query in request.queries:
            await time_slice.give_way()
            results.append(await self._offset(query, context))
        return pb.ListOffsetsResponse(results=results)

    async def _offset(self, query: pb.ListOffsetsQuery, context: RequestContext) -> pb.ListOffsetsResult:
        result = pb.ListOffsetsResult(topic=query.topic, partition=query.partition, offset=-1)
        try:
            topic = self._broker.topics.find(context, query.topic, Operation.DESCRIBE)
            log = await self._broker.topics.open_log(topic, query.partition)
            result.topic_id = topic.topic_id.bytes
            if query.spec == pb.OFFSET_SPEC_EARLIEST:
                result.offset = log.log_start_offset
            elif query.spec == pb.OFFSET_SPEC_LATEST:
                result.offset = log.high_watermark
            elif query.spec == pb.OFFSET_SPEC_TIMESTAMP and query.timestamp_ms >= 0:
                offset, timestamp_ms = await self._broker.fetches.offset_for_timestamp(log, query.timestamp_ms)
                result.offset = offset
                if timestamp_ms is not None:
                    result.timestamp_ms = timestamp_ms
            else:
                raise InvalidRequest(
                    f"spec={query.spec} with timestamp_ms={query.timestamp_ms} names no offset",
                    remedy="Ask for the earliest, the latest, or a time of 0 or more milliseconds since 1970.",
                )
        except Exception as refused:
            result.error.CopyFrom(describe(refused))
        return result


async def _obey(stream: Stream, followed: FetchStream) -> None:
    """Take the client's requests until it says no more."""
    while (request := await stream.read()) is not None:
        check_count("positions", len(request.set) + len(request.drop), POSITIONS_PER_REQUEST_MAX, least=0)
        for part in request.drop:
            followed.drop(part.topic, part.partition)
        for position in request.set:
            followed.follow(_start(position), position.position_id)
        if request.credit_bytes:
            followed.grant(request.credit_bytes)


def _no_more_requests(followed: FetchStream, reader: "asyncio.Task[None]") -> None:
    if reader.cancelled() or reader.exception() is not None:
        followed.stop()
    else:
        followed.end()  # What credit the client has left may be used up after that.


def to_wire(read: PartitionRead) -> pb.PartitionData:
    data = without_batches(read)
    data.batches = bytes(read.batches)
    return data


def without_batches(read: PartitionRead) -> pb.PartitionData:
    return pb.PartitionData(
        topic=read.topic,
        partition=read.partition,
        position_id=read.position_id,
        next_offset=read.next_offset,
        high_watermark=read.high_watermark,
        log_start_offset=read.log_start_offset,
        error=None if read.error is None else describe(read.error),
        records=[_record(record) for record in read.records],
    )


def _start(position: pb.FetchPosition) -> FetchFrom:
    return FetchFrom(position.topic, position.topic_id, position.partition, position.offset)


def _record(record: Record) -> pb.Record:
    return pb.Record(
        offset=record.offset,
        timestamp_ms=record.timestamp_ms,
        key=record.key,
        value=record.value,
        headers=[pb.Header(key=key, value=value) for key, value in record.headers],
    )
