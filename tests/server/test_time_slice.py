"""A call that names many partitions lets others run between them."""

import asyncio
from collections.abc import Awaitable, Callable, Sized
from contextlib import suppress
from pathlib import Path

import pytest

from logserver.appends import Acks, BatchAppend
from logserver.config import Address, ServerConfig
from logserver.context import RequestContext
from logserver.fetches import FetchFrom
from logserver.grpc.calls import Calls
from logserver.grpc.fetch import FetchDoor
from logserver.grpc.topics import TopicDoor
from logserver.server import Server
from logserver.time_slice import SLICE_MS, TimeSlice
from logstore.clock import SystemClock
from logwire.v1 import records_pb2, topics_pb2
from tests.logstore.partition import ManualClock
from tests.server.wire import batch

PARTITIONS = 60
CONTEXT = RequestContext(principal="", client_id="", listener="", peer="", deadline_ms=None)


def unexpected(failure: BaseException) -> None:
    raise AssertionError("the disk failed") from failure


class SlowClock(SystemClock):
    """Everything takes a millisecond: one goes by with every look at it."""

    def __init__(self) -> None:
        self._now_ms = 0

    def monotonic_ms(self) -> int:
        self._now_ms += 1
        return self._now_ms


class Others:
    """Counts how often anybody else had a turn."""

    def __init__(self) -> None:
        self.turns = 0

    async def __aenter__(self) -> "Others":
        self._task = asyncio.create_task(self._count())
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _count(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.turns += 1


async def test_others_run_when_the_turn_is_over_and_not_before() -> None:
    clock = ManualClock()
    turn = TimeSlice(clock)
    async with Others() as others:
        clock.now_ms = SLICE_MS - 1
        for _ in range(100):
            await turn.give_way()
        assert others.turns == 0
        clock.now_ms = SLICE_MS
        for _ in range(100):
            await turn.give_way()
        assert others.turns <= 1
        clock.now_ms = 2 * SLICE_MS
        await turn.give_way()
        assert others.turns >= 1


async def describe(server: Server) -> Sized:
    request = topics_pb2.DescribeTopicRequest(topic="t")
    return (await TopicDoor(server.broker).describe_topic(request, CONTEXT)).partitions


async def delete_records(server: Server) -> Sized:
    request = topics_pb2.DeleteRecordsRequest(
        topic="t", partitions=[topics_pb2.RecordsToDelete(partition=n) for n in range(PARTITIONS)]
    )
    return (await TopicDoor(server.broker).delete_records(request, CONTEXT)).partitions


async def create_by_metadata(server: Server) -> Sized:
    request = topics_pb2.GetMetadataRequest(topics=[f"new-{n}" for n in range(PARTITIONS)], auto_create=True)
    return (await TopicDoor(server.broker).get_metadata(request, CONTEXT)).topics


async def list_offsets(server: Server) -> Sized:
    queries = [
        records_pb2.ListOffsetsQuery(topic="t", partition=n, spec=records_pb2.OFFSET_SPEC_LATEST)
        for n in range(PARTITIONS)
    ]
    door = FetchDoor(server.broker, Calls(server.broker.clock, write_timeout_ms=1000))
    return (await door.list_offsets(records_pb2.ListOffsetsRequest(queries=queries), CONTEXT)).results


async def fetch(server: Server) -> Sized:
    starts = [FetchFrom("t", b"", n, 0) for n in range(PARTITIONS)]
    return await server.broker.fetches.fetch(CONTEXT, starts, wait_ms=0, bytes_max=0, decode=False)


async def follow(server: Server) -> Sized:
    stream = server.broker.fetch_stream(CONTEXT)
    for n in range(PARTITIONS):
        stream.follow(FetchFrom("t", b"", n, 0), n)
    stream.grant(1)
    try:
        return await stream.next() or []
    finally:
        stream.close()


async def append(server: Server) -> Sized:
    batches = [BatchAppend("t", b"", n, batch(b"x")) for n in range(PARTITIONS)]
    return (await server.broker.appends.append(CONTEXT, batches, Acks.ONE)).acks


@pytest.mark.parametrize("call", [describe, delete_records, create_by_metadata, list_offsets, fetch, follow, append])
async def test_a_call_of_many_partitions_lets_others_run(
    tmp_path: Path, call: Callable[[Server], Awaitable[Sized]]
) -> None:
    config = ServerConfig(data_dir=tmp_path / "data", listen=Address("127.0.0.1", 0))
    async with Server(config, unexpected, SlowClock()) as server:
        server.broker.topics.create(CONTEXT, "t", PARTITIONS, {})
        async with Others() as others:
            assert len(await call(server)) == PARTITIONS
            assert others.turns >= PARTITIONS // SLICE_MS // 2
