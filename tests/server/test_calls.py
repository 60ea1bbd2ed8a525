"""What every call goes through, tried with a door of this file over a real connection."""

import asyncio
import logging
from collections.abc import AsyncIterator

import grpc.aio
import pytest

from logserver.context import RequestContext
from logserver.errors import InvalidRequest
from logserver.grpc.calls import Calls, Stream
from logstore.clock import SystemClock
from logwire.v1 import records_pb2 as pb
from logwire.v1 import records_pb2_grpc
from tests.server.wire import code, error_of

SERVICE = pb.DESCRIPTOR.services_by_name["ProduceService"]


class Door:
    """Does what a test tells it to by acks or request_id, and remembers how its calls ended."""

    def __init__(self) -> None:
        self.contexts: list[RequestContext] = []
        self.ended: asyncio.Queue[str] = asyncio.Queue()
        self.begun = asyncio.Event()

    async def produce(self, request: pb.ProduceRequest, context: RequestContext) -> pb.ProduceResponse:
        self.contexts.append(context)
        self.begun.set()
        if request.acks == pb.ACKS_ONE:
            raise InvalidRequest("that makes no sense", remedy="Ask for something else.")
        if request.acks == pb.ACKS_ZERO:
            raise KeyError("a bug")
        return pb.ProduceResponse()

    async def produce_stream(self, stream: Stream, context: RequestContext) -> None:
        try:
            while (request := await stream.read()) is not None:
                self.begun.set()
                if request.request_id == 1:
                    await asyncio.get_running_loop().create_future()
                while request.request_id == 2:
                    await stream.write(
                        pb.ProduceStreamResponse(acks=[pb.PartitionAck(topic="x" * 100_000)]).SerializeToString()
                    )
                await stream.write(pb.ProduceStreamResponse(request_id=request.request_id).SerializeToString())
            await self.ended.put("EOF")
        except BaseException as error:
            await self.ended.put(type(error).__name__)
            raise

    async def init_producer(self, request: pb.InitProducerRequest, context: RequestContext) -> pb.InitProducerResponse:
        self.contexts.append(context)
        return pb.InitProducerResponse()


class Wired:
    def __init__(self, door: Door, calls: Calls, stub: "records_pb2_grpc.ProduceServiceAsyncStub") -> None:
        self.door = door
        self.calls = calls
        self.stub = stub


@pytest.fixture
async def wired() -> AsyncIterator[Wired]:
    door, calls = Door(), Calls(SystemClock(), write_timeout_ms=300)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    calls.serve(server, SERVICE, door)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Wired(door, calls, records_pb2_grpc.ProduceServiceStub(channel))
    await server.stop(0)
    await calls.idle()


async def test_the_door_learns_who_asks_and_until_when(wired: Wired) -> None:
    before_ms = SystemClock().monotonic_ms()
    await wired.stub.InitProducer(pb.InitProducerRequest(), timeout=5, metadata=(("client-id", "me"),))
    await wired.stub.InitProducer(pb.InitProducerRequest())
    first, second = wired.door.contexts
    assert (first.client_id, second.client_id) == ("me", "")
    assert first.peer == second.peer
    assert first.peer.startswith("ipv4:127.0.0.1:")
    assert first.deadline_ms is not None
    # gRPC sends what is left of the 5 s, rounded to its own steps.
    assert before_ms < first.deadline_ms <= SystemClock().monotonic_ms() + 5100
    assert second.deadline_ms is None


async def test_a_refusal_is_answered_with_its_status(wired: Wired) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await wired.stub.Produce(pb.ProduceRequest(acks=pb.ACKS_ONE))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert code(error_of(refused.value)) == "INVALID_REQUEST"


async def test_a_bug_is_answered_as_internal_and_the_next_call_is_served(wired: Wired) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await wired.stub.Produce(pb.ProduceRequest(acks=pb.ACKS_ZERO))
    assert refused.value.code() is grpc.StatusCode.INTERNAL
    assert code(error_of(refused.value)) == "INTERNAL"
    await wired.stub.Produce(pb.ProduceRequest())


async def test_a_stream_ends_when_the_client_has_said_its_last(wired: Wired) -> None:
    call = wired.stub.ProduceStream()
    await call.write(pb.ProduceStreamRequest(request_id=7))
    await call.done_writing()
    assert [response.request_id async for response in call] == [7]
    assert await wired.door.ended.get() == "EOF"


@pytest.mark.parametrize(("request_id", "during"), [(1, "a wait"), (2, "a write"), (3, "a read")])
async def test_a_client_that_goes_away_is_noticed_and_logged_as_no_error(
    wired: Wired, request_id: int, during: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        call = wired.stub.ProduceStream()
        await call.write(pb.ProduceStreamRequest(request_id=request_id))
        await wired.door.begun.wait()
        call.cancel()
        # A read may also find the stream at its end: gRPC completes it with nothing when it sees the cancel first.
        endings = {"CancelledError", "ExecuteBatchError"} | ({"EOF"} if during == "a read" else set())
        async with asyncio.timeout(5):
            assert await wired.door.ended.get() in endings
            await wired.calls.idle()
    assert caplog.records == []


async def test_a_client_that_takes_nothing_is_cut_after_the_timeout(wired: Wired) -> None:
    call = wired.stub.ProduceStream()
    await call.write(pb.ProduceStreamRequest(request_id=2))
    async with asyncio.timeout(5):
        assert await wired.door.ended.get() == "RequestTimedOut"
    with pytest.raises(grpc.aio.AioRpcError) as cut:
        async for _ in call:
            pass
    assert code(error_of(cut.value)) == "REQUEST_TIMED_OUT"


async def test_once_stopping_nothing_new_begins(wired: Wired) -> None:
    wired.calls.stop()
    for call in (wired.stub.Produce(pb.ProduceRequest()), wired.stub.ProduceStream().read()):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert error_of(refused.value).retriable


async def test_idle_is_when_the_last_call_has_cleaned_up(wired: Wired) -> None:
    call = wired.stub.ProduceStream()
    await call.write(pb.ProduceStreamRequest(request_id=1))
    await wired.door.begun.wait()
    idle = asyncio.create_task(wired.calls.idle())
    await asyncio.sleep(0)
    assert not idle.done()
    call.cancel()
    async with asyncio.timeout(5):
        await idle
