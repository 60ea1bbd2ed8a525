import asyncio
import threading

import grpc.aio
import pytest

from logserver.server import Server
from logstore.batch import Compression, Record, encode_batch
from logstore.reader import LogReader
from logwire.v1 import records_pb2 as pb
from logwire.v1 import topics_pb2
from tests.server.conftest import StartServer
from tests.server.wire import NOW_MS, Client, batch, code, error_of, position


async def test_what_is_asked_for_begins_with_the_batch_that_holds_it(client: Client) -> None:
    await client.produce("t", batch(b"a", b"b", b"c"), batch(b"d"))
    whole = await client.fetch("t")
    within = await client.fetch("t", 1)
    assert within.batches == whole.batches
    last = await client.fetch("t", 3)
    assert whole.batches.endswith(last.batches)
    assert len(last.batches) < len(whole.batches)
    assert last.next_offset == 4


async def test_an_answer_is_bounded_and_its_first_batch_comes_whole(client: Client) -> None:
    await client.produce("t", batch(b"x" * 1000), batch(b"y" * 1000), batch(b"z" * 1000))
    one = await client.fetch("t", bytes_max=1)
    assert one.next_offset == 1
    assert len(one.batches) > 1000
    two = await client.fetch("t", bytes_max=2300)
    assert two.next_offset == 2


async def test_a_server_bound_holds_whatever_is_asked_for(start_server: StartServer) -> None:
    server = await start_server(fetch_bytes_max=2300)
    client = Client(server.grpc_address)
    await client.produce("t", batch(b"x" * 1000), batch(b"y" * 1000), batch(b"z" * 1000))
    assert (await client.fetch("t", bytes_max=1 << 30)).next_offset == 2
    await client.channel.close()


async def test_a_fetch_at_the_end_waits_for_the_next_record(client: Client, server: Server) -> None:
    await client.produce("t", batch(b"a"))
    waiting = asyncio.create_task(client.fetch("t", 1, wait_ms=9_000))
    await until_parked(server)
    assert not waiting.done()
    await client.produce("t", batch(b"b"))
    assert (await waiting).next_offset == 2


async def test_a_waiting_fetch_makes_a_sync_due(client: Client, server: Server) -> None:
    await client.create("t", flush_ms="60000")
    waiting = asyncio.create_task(client.fetch("t", wait_ms=9_000))
    await until_parked(server)
    await client.produce("t", batch(b"a"), acks=pb.ACKS_ONE)
    assert (await waiting).next_offset == 1
    await client.produce("t", batch(b"b"), acks=pb.ACKS_ONE)
    assert (await client.fetch("t", 1, wait_ms=9_000)).next_offset == 2


async def test_a_wait_that_is_over_is_answered_with_nothing(client: Client, server: Server) -> None:
    await client.create("t")
    read = await client.fetch("t", wait_ms=20)
    assert (read.batches, read.next_offset, read.high_watermark, code(read.error)) == (b"", 0, 0, "")
    assert len(server.broker.waiters) == 0


async def test_a_wait_over_many_partitions_ends_with_the_first_record(client: Client, server: Server) -> None:
    await client.create("t", partitions=50)
    request = pb.FetchRequest(positions=[position("t", partition=p) for p in range(50)], wait_ms_max=9_000)
    waiting = asyncio.ensure_future(client.fetching.Fetch(request))
    await until_parked(server, 50)
    await client.produce("t", batch(b"a"), partition=33)
    answer = await waiting
    assert [data.partition for data in answer.partitions if data.batches] == [33]
    assert len(server.broker.waiters) == 0


async def test_a_cancelled_wait_leaves_nothing_behind(client: Client, server: Server) -> None:
    await client.create("t")
    waiting = asyncio.create_task(client.fetch("t", wait_ms=9_000))
    await until_parked(server)
    waiting.cancel()
    async with asyncio.timeout(5):
        while len(server.broker.waiters):
            await asyncio.sleep(0)


async def test_deleting_the_topic_ends_the_wait(client: Client, server: Server) -> None:
    topic_id = (await client.create("t")).bytes
    by_name = asyncio.create_task(client.fetch("t", wait_ms=9_000))
    by_id = asyncio.create_task(client.fetch("t", wait_ms=9_000, topic_id=topic_id))
    await until_parked(server, 2)
    await client.topics.DeleteTopic(topics_pb2.DeleteTopicRequest(topic="t"))
    assert code((await by_name).error) == "UNKNOWN_TOPIC_OR_PARTITION"
    assert code((await by_id).error) == "UNKNOWN_TOPIC_ID"


async def test_each_position_that_cannot_be_read_says_why_and_hinders_no_other(client: Client) -> None:
    await client.produce("t", batch(b"a"))
    request = pb.FetchRequest(
        positions=[
            position("nothing"),
            position("t", partition=3),
            position("t", partition=-1),
            position("t", 7),
            position("t", -1),
            position("t", topic_id=b"\1" * 16),
            position("t"),
        ],
        wait_ms_max=9_000,
    )
    answers = (await client.fetching.Fetch(request)).partitions
    assert [code(answer.error) for answer in answers] == [
        "UNKNOWN_TOPIC_OR_PARTITION",
        "UNKNOWN_TOPIC_OR_PARTITION",
        "INVALID_REQUEST",
        "OFFSET_OUT_OF_RANGE",
        "INVALID_REQUEST",
        "UNKNOWN_TOPIC_ID",
        "",
    ]
    assert "goes from 0 to 1" in answers[3].error.message
    assert answers[-1].batches


@pytest.mark.parametrize(("count", "expected"), [(0, "INVALID_REQUEST"), (10_001, "REQUEST_TOO_LARGE")])
async def test_an_absurd_number_of_positions_is_refused(client: Client, count: int, expected: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.fetching.Fetch(pb.FetchRequest(positions=[position("t")] * count))
    assert code(error_of(refused.value)) == expected


async def test_what_is_not_in_memory_is_read_by_a_thread(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await client.produce("t", batch(b"a"))
    readers = []
    read = LogReader.read

    def spied(self: LogReader) -> object:
        readers.append(threading.current_thread().name)
        return read(self)

    monkeypatch.setattr(LogReader, "read_nowait", lambda self: None)
    monkeypatch.setattr(LogReader, "read", spied)
    assert (await client.fetch("t")).next_offset == 1
    assert [name.partition("_")[0] for name in readers] == ["reader"]


async def test_a_read_of_the_disk_whose_caller_left_is_closed_by_its_thread(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.produce("t", batch(b"a"))
    begun, go_on = threading.Event(), threading.Event()
    readers: list[LogReader] = []
    order = []
    read, close = LogReader.read, LogReader.close

    def slow(self: LogReader) -> object:
        readers.append(self)
        begun.set()
        assert go_on.wait(10)
        result = read(self)
        order.append("read")
        return result

    def closed(self: LogReader) -> None:
        if self in readers:
            order.append("closed")
        close(self)

    monkeypatch.setattr(LogReader, "read_nowait", lambda self: None)
    monkeypatch.setattr(LogReader, "read", slow)
    monkeypatch.setattr(LogReader, "close", closed)
    waiting = asyncio.create_task(client.fetch("t"))
    await asyncio.to_thread(begun.wait, 10)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    go_on.set()
    async with asyncio.timeout(5):
        while len(order) < 2:
            await asyncio.sleep(0)
    assert order == ["read", "closed"]


# Decoding for callers without a codec.


@pytest.mark.parametrize("compression", Compression)
async def test_compressed_batches_are_decoded_too(client: Client, compression: Compression) -> None:
    records = [Record(i, NOW_MS + i, b"k%d" % i, b"v" * 100, (("h", None),)) for i in range(5)]
    await client.produce("t", encode_batch(records, compression=compression))
    read = await client.fetch("t", 2, decode=True)
    assert not read.batches
    assert [(record.offset, record.key) for record in read.records] == [(2, b"k2"), (3, b"k3"), (4, b"k4")]
    assert read.next_offset == 5


async def test_decoding_goes_no_further_than_its_bound(client: Client) -> None:
    big = encode_batch([Record(0, NOW_MS, None, bytes(900_000), ())], compression=Compression.GZIP)
    await client.produce("t", *[big] * 4)
    offset, answers = 0, []
    while offset < 4:
        read = await client.fetch("t", offset, decode=True)
        answers.append([record.offset for record in read.records])
        offset = read.next_offset
    assert answers == [[0, 1], [2, 3]]


async def test_a_batch_that_inflates_beyond_all_bounds_is_an_error_of_its_partition(client: Client) -> None:
    honest = encode_batch([Record(0, NOW_MS, None, bytes(1 << 25), ())], compression=Compression.GZIP)
    assert len(honest) < 100_000
    await client.produce("t", honest)
    read = await client.fetch("t", decode=True)
    assert code(read.error) in ("CORRUPT_MESSAGE", "MESSAGE_TOO_LARGE")
    assert not read.records
    assert code((await client.fetch("t")).error) == ""


# Offsets.


async def test_offsets_are_found_by_name_and_by_time(client: Client) -> None:
    await client.produce("t", batch(b"a", timestamp_ms=1000), batch(b"b", b"c", timestamp_ms=2000))
    queries = [
        pb.ListOffsetsQuery(topic="t", spec=pb.OFFSET_SPEC_EARLIEST),
        pb.ListOffsetsQuery(topic="t", spec=pb.OFFSET_SPEC_LATEST),
        pb.ListOffsetsQuery(topic="t", spec=pb.OFFSET_SPEC_TIMESTAMP, timestamp_ms=1500),
        pb.ListOffsetsQuery(topic="t", spec=pb.OFFSET_SPEC_TIMESTAMP, timestamp_ms=2001),
        pb.ListOffsetsQuery(topic="t", spec=pb.OFFSET_SPEC_TIMESTAMP, timestamp_ms=-1),
        pb.ListOffsetsQuery(topic="t"),
        pb.ListOffsetsQuery(topic="t", spec=pb.OFFSET_SPEC_LATEST, partition=1),
        pb.ListOffsetsQuery(topic="nothing", spec=pb.OFFSET_SPEC_LATEST),
    ]
    results = (await client.fetching.ListOffsets(pb.ListOffsetsRequest(queries=queries))).results
    assert [(result.offset, code(result.error)) for result in results] == [
        (0, ""),
        (3, ""),
        (1, ""),
        (3, ""),
        (-1, "INVALID_REQUEST"),
        (-1, "INVALID_REQUEST"),
        (-1, "UNKNOWN_TOPIC_OR_PARTITION"),
        (-1, "UNKNOWN_TOPIC_OR_PARTITION"),
    ]
    assert results[2].timestamp_ms == 2000
    assert not results[3].HasField("timestamp_ms")
    assert all(len(result.topic_id) == 16 for result in results[:6])


async def until_parked(server: Server, count: int = 1) -> None:
    async with asyncio.timeout(5):
        while len(server.broker.waiters) < count:
            await asyncio.sleep(0)
