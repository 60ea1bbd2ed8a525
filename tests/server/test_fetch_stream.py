import asyncio
import random
import threading
from collections.abc import AsyncIterator, Sequence

import grpc.aio
import pytest

from logserver.context import RequestContext
from logserver.fetch_stream import ANSWER_BYTES_MAX
from logserver.fetches import FetchFrom
from logserver.server import Server
from logstore.batch import iter_headers
from logstore.log import Log
from logstore.reader import LogRead, LogReader
from logwire.v1 import records_pb2 as pb
from logwire.v1 import topics_pb2
from tests.server.conftest import StartServer
from tests.server.test_fetch import until_parked
from tests.server.wire import Client, batch, code, error_of, position

PLENTY = 1 << 30


class Reader:
    """A fetch stream, and what it has brought."""

    def __init__(self, client: Client) -> None:
        self.call = client.fetching.FetchStream()
        self.bytes_received = 0

    async def ask(self, *positions: pb.FetchPosition, credit: int = 0, drop: Sequence[tuple[str, int]] = ()) -> None:
        await self.call.write(
            pb.FetchStreamRequest(
                set=positions,
                credit_bytes=credit,
                drop=[pb.TopicPartition(topic=topic, partition=partition) for topic, partition in drop],
            )
        )

    async def next(self) -> list[pb.PartitionData]:
        async with asyncio.timeout(10):
            response = await self.call.read()
        assert isinstance(response, pb.FetchStreamResponse), "the stream has ended"
        self.bytes_received += sum(len(data.batches) for data in response.partitions)
        return list(response.partitions)

    async def until_offset(self, offset: int, partition: int = 0) -> list[pb.PartitionData]:
        """Everything up to and with the answer that reaches offset."""
        answers = []
        while True:
            for data in await self.next():
                answers.append(data)
                if data.partition == partition and data.next_offset >= offset:
                    return answers


@pytest.fixture
async def reader(client: Client) -> AsyncIterator[Reader]:
    reader = Reader(client)
    yield reader
    reader.call.cancel()


async def test_a_stream_drains_what_is_there_and_goes_on_with_what_comes(client: Client, reader: Reader) -> None:
    await client.produce("t", *[batch(b"%d" % i) for i in range(10)])
    await reader.ask(position("t", position_id=5), credit=PLENTY)
    history = await reader.until_offset(10)
    assert {data.position_id for data in history} == {5}
    assert history[-1].high_watermark == 10
    await client.produce("t", batch(b"x"))
    [live] = await reader.next()
    assert live.next_offset == 11
    everything = b"".join(data.batches for data in [*history, live])
    assert [header.base_offset for _, header in iter_headers(everything)] == list(range(11))


async def test_at_the_end_one_empty_answer_tells_so(client: Client, reader: Reader, server: Server) -> None:
    await client.produce("t", batch(b"a"))
    await reader.ask(position("t", 1, position_id=3), credit=PLENTY)
    [end] = await reader.next()
    assert (end.batches, end.next_offset, end.high_watermark, end.position_id) == (b"", 1, 1, 3)
    await until_parked(server)
    await client.produce("t", batch(b"b"))
    [data] = await reader.next()
    assert data.next_offset == 2


async def test_nothing_is_sent_without_credit_and_one_batch_may_exceed_it(client: Client, reader: Reader) -> None:
    sent = batch(b"x" * 1000)
    await client.produce("t", *[sent] * 10)
    await reader.ask(position("t"))
    await reader.ask(credit=1)
    [data] = await reader.next()
    assert data.next_offset == 1
    pending = asyncio.ensure_future(reader.call.read())
    await client.fetch("t")  # The server has had its turn.
    assert not pending.done()
    await reader.ask(credit=1)  # Still owed.
    await reader.ask(credit=2 * len(sent))
    response = await pending
    assert isinstance(response, pb.FetchStreamResponse)
    assert response.partitions[0].next_offset >= 2


@pytest.mark.parametrize("seed", range(5))
async def test_what_is_sent_never_exceeds_the_credit_by_more_than_one_batch(client: Client, seed: int) -> None:
    rng = random.Random(seed)
    sent = [batch(rng.randbytes(rng.randrange(1, 5000))) for _ in range(60)]
    await client.create("t", partitions=3)
    for partition in range(3):
        await client.produce("t", *sent[partition::3], partition=partition)
    reader = Reader(client)
    await reader.ask(*[position("t", partition=p) for p in range(3)])
    granted, reached = 0, dict.fromkeys(range(3), 0)
    while sum(reached.values()) < len(sent):
        if reader.bytes_received >= granted:
            more = rng.randrange(1, 20_000)
            granted += more
            await reader.ask(credit=more)
            if reader.bytes_received >= granted:
                continue
        for data in await reader.next():
            assert data.next_offset > reached[data.partition]
            reached[data.partition] = data.next_offset
        assert reader.bytes_received <= granted + 5200
    reader.call.cancel()


async def test_many_partitions_get_their_share_of_every_answer(client: Client, reader: Reader) -> None:
    await client.create("t", partitions=5)
    for partition in range(5):
        await client.produce("t", *[batch(b"x" * 60_000)] * 20, partition=partition)
    await reader.ask(*[position("t", partition=p) for p in range(5)], credit=PLENTY)
    first = await reader.next()
    assert [data.partition for data in first] == [0, 1, 2, 3, 4]
    assert sum(len(data.batches) for data in first) <= ANSWER_BYTES_MAX + 61_000
    assert max(len(data.batches) for data in first) <= 2 * min(len(data.batches) for data in first)


async def test_a_moved_position_is_told_apart_by_its_id(client: Client, reader: Reader) -> None:
    await client.produce("t", *[batch(b"%d" % i) for i in range(5)])
    await reader.ask(position("t", position_id=1), credit=PLENTY)
    await reader.until_offset(5)
    await reader.ask(position("t", 2, position_id=2))
    moved = await reader.until_offset(5)
    assert {data.position_id for data in moved} == {2}
    assert [header.base_offset for _, header in iter_headers(b"".join(data.batches for data in moved))] == [2, 3, 4]


async def test_a_dropped_partition_is_sent_no_more(client: Client, reader: Reader, server: Server) -> None:
    await client.create("t", partitions=2)
    await reader.ask(position("t", partition=0), position("t", partition=1), credit=PLENTY)
    seen = 0
    while seen < 2:
        seen += len(await reader.next())
    await until_parked(server, 2)
    await reader.ask(drop=[("t", 0), ("t", 77)])
    async with asyncio.timeout(5):
        while len(server.broker.waiters) != 1:
            await asyncio.sleep(0)
    await client.produce("t", batch(b"a"), partition=0)
    await client.produce("t", batch(b"b"), partition=1)
    assert [data.partition for data in await reader.next()] == [1]


async def test_a_position_that_cannot_be_read_rests_until_it_is_set_again(client: Client, reader: Reader) -> None:
    await client.produce("t", batch(b"a"))
    await reader.ask(position("t", 9, position_id=1), position("nothing", position_id=2), credit=PLENTY)
    errors: dict[int, str] = {}
    while len(errors) < 2:
        errors |= {data.position_id: code(data.error) for data in await reader.next()}
    assert errors == {1: "OFFSET_OUT_OF_RANGE", 2: "UNKNOWN_TOPIC_OR_PARTITION"}
    await reader.ask(position("t", position_id=3))
    [data] = await reader.next()
    assert (data.position_id, data.next_offset) == (3, 1)


async def test_what_was_read_of_a_partition_is_dropped_when_it_is_moved_while_another_is_read(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.create("t", partitions=2)
    for partition in range(2):
        await client.produce("t", batch(b"a"), batch(b"b"), partition=partition)
    begun, go_on = threading.Event(), threading.Event()
    stream = server.broker.fetch_stream(RequestContext("", "", "", "", None))
    cold = server.broker.store.log("t", 1)
    open_read = Log.open_read

    def open_slowly(log: Log, *arguments: int) -> LogReader:
        reader = open_read(log, *arguments)

        def slow() -> LogRead:
            begun.set()
            assert go_on.wait(10)
            return LogReader.read(reader)

        if log is cold:
            monkeypatch.setattr(reader, "read_nowait", lambda: None)
            monkeypatch.setattr(reader, "read", slow)
        return reader

    monkeypatch.setattr(Log, "open_read", open_slowly)
    for partition in range(2):
        stream.follow(FetchFrom("t", b"", partition, 0), position_id=partition)
    stream.grant(PLENTY)
    answer = asyncio.create_task(stream.next())
    await asyncio.to_thread(begun.wait, 10)
    stream.follow(FetchFrom("t", b"", 0, 1), position_id=7)
    go_on.set()
    assert [read.position_id for read in await answer or []] == [1]
    assert next((read.position_id, read.next_offset) for read in await stream.next() or []) == (7, 2)
    stream.close()


async def test_a_topic_deleted_and_made_again_is_not_followed_into_its_new_life(
    client: Client, reader: Reader, server: Server
) -> None:
    await client.produce("t", batch(b"a"))
    await reader.ask(position("t"), credit=PLENTY)
    await reader.until_offset(1)
    await until_parked(server)
    await client.topics.DeleteTopic(topics_pb2.DeleteTopicRequest(topic="t"))
    [gone] = await reader.next()
    assert code(gone.error) == "UNKNOWN_TOPIC_ID"
    await client.produce("t", batch(b"b"))
    await reader.ask(position("t", position_id=8))
    [data] = await reader.next()
    assert (data.position_id, data.next_offset) == (8, 1)


async def test_a_reader_of_the_tail_makes_a_sync_due(client: Client, reader: Reader, server: Server) -> None:
    await client.create("t", flush_ms="60000")
    await reader.ask(position("t"), credit=PLENTY)
    await reader.next()
    await until_parked(server)
    await client.produce("t", batch(b"a"), acks=pb.ACKS_ONE)
    [data] = await reader.next()
    assert data.next_offset == 1


async def test_a_half_closed_stream_goes_on_until_its_credit_is_used(client: Client) -> None:
    await client.produce("t", *[batch(b"x" * 1000)] * 3)
    reader = Reader(client)
    await reader.ask(position("t"), credit=2000)
    await reader.call.done_writing()
    received = [response async for response in reader.call]
    assert received[-1].partitions[-1].next_offset >= 2
    assert await reader.call.code() is grpc.StatusCode.OK


async def test_a_reader_that_leaves_leaves_nothing_behind(client: Client, server: Server) -> None:
    await client.create("t", partitions=20)
    for _ in range(10):
        reader = Reader(client)
        await reader.ask(*[position("t", partition=p) for p in range(20)], credit=PLENTY)
        await reader.next()
        reader.call.cancel()
    async with asyncio.timeout(5):
        while len(server.broker.waiters):
            await asyncio.sleep(0)


async def test_a_reader_that_does_not_read_holds_up_nobody_else(client: Client, server: Server) -> None:
    await client.create("t", max_message_bytes="2000000")
    for _ in range(8):
        await client.produce("t", *[batch(bytes(1_500_000))] * 8)
    stuck = Reader(client)
    await stuck.ask(position("t"), credit=PLENTY)
    other_client = Client(server.grpc_address)
    other = Reader(other_client)
    await other.ask(position("t"), credit=PLENTY)
    await other.until_offset(64)
    stuck.call.cancel()
    await other_client.channel.close()


async def test_a_stopping_server_ends_the_stream_with_a_retriable_error(start_server: StartServer) -> None:
    server = await start_server()
    client = Client(server.grpc_address)
    await client.create("t")
    reader = Reader(client)
    await reader.ask(position("t"), credit=PLENTY)
    await reader.next()
    stopping = asyncio.create_task(server.stop())
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await reader.next()
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert error_of(ended.value).retriable
    await stopping
    await client.channel.close()
