import asyncio
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc.aio
import pytest

from logserver.context import RequestContext
from logserver.errors import ShuttingDown
from logserver.grpc.calls import Calls, Stream
from logserver.grpc.produce import GROUPED_BYTES_MAX, ProduceDoor
from logserver.server import Server
from logstore import linux_disk
from logstore.batch import Record, decode_batch
from logstore.partitioner import partition_for_key
from logwire.v1 import records_pb2 as pb
from logwire.v1 import topics_pb2
from tests.logstore.partition import ManualClock
from tests.server.conftest import StartServer
from tests.server.wire import NOW_MS, Client, batch, code, error_of


@pytest.fixture
def held_syncs(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """While it is not set, no sync of a file ends."""
    may_end = threading.Event()
    may_end.set()

    def held(descriptor: int, sync: Callable[[int], None] = os.fdatasync) -> None:
        assert may_end.wait(20)
        sync(descriptor)

    monkeypatch.setattr(linux_disk, "_fdatasync", held)
    yield may_end
    may_end.set()


def stamped(sent: bytes, stored: bytes) -> bytes:
    """sent, with what the log stamps taken from stored: base offset and leader epoch."""
    return stored[:8] + sent[8:12] + stored[12:16] + sent[16:]


async def test_a_batch_comes_back_byte_for_byte(client: Client) -> None:
    sent = batch(b"first", None, b"third")
    [ack] = await client.produce("t", sent)
    assert (ack.base_offset, ack.duplicate, code(ack.error)) == (0, False, "")
    read = await client.fetch("t")
    assert read.batches == stamped(sent, read.batches)
    assert read.next_offset == read.high_watermark == 3


@pytest.mark.parametrize("acks", [pb.ACKS_UNSPECIFIED, pb.ACKS_ALL])
async def test_an_ack_of_all_comes_after_the_sync(client: Client, server: Server, acks: "pb.Acks.ValueType") -> None:
    await client.create("t")
    for expected in range(20):
        [ack] = await client.produce("t", batch(b"x"), acks=acks)
        assert ack.base_offset == expected
        assert server.broker.store.log("t", 0).high_watermark == expected + 1


async def test_an_ack_of_the_leader_does_not_wait_for_a_sync(client: Client, server: Server) -> None:
    await client.create("t", flush_ms="60000")
    [ack] = await client.produce("t", batch(b"x"), acks=pb.ACKS_ONE)
    assert ack.base_offset == 0
    log = server.broker.store.log("t", 0)
    assert (log.high_watermark, log.log_end_offset) == (0, 1)
    assert not (await client.fetch("t")).batches


async def test_an_ack_of_none_says_nothing(client: Client, server: Server) -> None:
    await client.create("t")
    acks = await client.produce("t", batch(b"x"), batch(b"y")[:-1], acks=pb.ACKS_ZERO)
    assert [(ack.base_offset, code(ack.error)) for ack in acks] == [(-1, ""), (-1, "")]
    assert server.broker.store.log("t", 0).log_end_offset == 1
    assert server.broker.store.log("t", 0).log_end_offset == 1


async def test_a_topic_nobody_has_known_is_created_with_one_partition(client: Client) -> None:
    [ack] = await client.produce("new", batch(b"x"))
    assert len(ack.topic_id) == 16
    [unknown] = await client.produce("new", batch(b"x"), partition=1)
    assert code(unknown.error) == "UNKNOWN_TOPIC_OR_PARTITION"


async def test_creation_can_be_turned_off(start_server: StartServer) -> None:
    server = await start_server(auto_create_topics=False)
    client = Client(server.grpc_address)
    [ack] = await client.produce("new", batch(b"x"))
    assert code(ack.error) == "UNKNOWN_TOPIC_OR_PARTITION"
    assert ack.base_offset == -1
    assert ack.error.remedy
    await client.channel.close()


async def test_a_topic_known_by_another_id_is_refused_and_never_created(client: Client) -> None:
    old_id = (await client.create("t")).bytes
    await client.topics.DeleteTopic(topics_pb2.DeleteTopicRequest(topic="t"))
    [gone] = await client.produce("t", batch(b"x"), topic_id=old_id)
    assert code(gone.error) == "UNKNOWN_TOPIC_ID"
    new_id = (await client.create("t")).bytes
    [other] = await client.produce("t", batch(b"x"), topic_id=old_id)
    assert code(other.error) == "UNKNOWN_TOPIC_ID"
    [right] = await client.produce("t", batch(b"x"), topic_id=new_id)
    assert code(right.error) == ""
    [short] = await client.produce("t", batch(b"x"), topic_id=b"short")
    assert code(short.error) == "INVALID_REQUEST"


async def test_what_is_refused_of_one_partition_hinders_no_other(client: Client) -> None:
    await client.create("t", partitions=2)
    request = pb.ProduceRequest(
        partitions=[
            pb.PartitionRecords(topic="t", partition=0, batch=batch(b"x")[:-1]),
            pb.PartitionRecords(topic="t", partition=7, batch=batch(b"x")),
            pb.PartitionRecords(topic="t", partition=-1, batch=batch(b"x")),
            pb.PartitionRecords(topic="t", batch=batch(b"x")),
            pb.PartitionRecords(topic="t", partition=1),
            pb.PartitionRecords(topic="t", partition=1, batch=batch(b"x")),
            pb.PartitionRecords(topic="../t", partition=1, batch=batch(b"x")),
        ]
    )
    acks = (await client.producing.Produce(request)).acks
    assert [code(ack.error) for ack in acks] == [
        "CORRUPT_MESSAGE",
        "UNKNOWN_TOPIC_OR_PARTITION",
        "INVALID_REQUEST",
        "INVALID_REQUEST",
        "INVALID_REQUEST",
        "",
        "INVALID_TOPIC",
    ]
    assert all(ack.error.message and ack.error.remedy for ack in acks if code(ack.error))


def _flip(at: int) -> Callable[[bytes], bytes]:
    return lambda sent: sent[:at] + bytes([sent[at] ^ 1]) + sent[at + 1 :]


@pytest.mark.parametrize(
    ("what", "damage"),
    [
        ("length", _flip(11)),
        ("magic", _flip(16)),
        ("crc", _flip(20)),
        ("attributes", _flip(22)),
        ("last offset delta", _flip(26)),
        ("count", _flip(60)),
        ("body", _flip(-1)),
        ("something behind it", lambda sent: sent + b"\0"),
        ("two in one", lambda sent: sent + sent),
        ("empty", lambda sent: b""),
    ],
)
async def test_a_damaged_batch_is_refused_and_nothing_is_written(
    client: Client, server: Server, what: str, damage: Callable[[bytes], bytes]
) -> None:
    await client.create("t")
    [ack] = await client.produce("t", damage(batch(b"some value")))
    assert code(ack.error) == "CORRUPT_MESSAGE", what
    assert server.broker.store.log("t", 0).log_end_offset == 0
    [ack] = await client.produce("t", batch(b"some value"))
    assert ack.base_offset == 0


async def test_a_batch_cut_after_any_byte_is_refused(client: Client, server: Server) -> None:
    await client.create("t")
    whole = batch(b"some value", None)
    acks = await client.produce("t", *[whole[:size] for size in range(len(whole))])
    assert {code(ack.error) for ack in acks} == {"CORRUPT_MESSAGE"}
    assert server.broker.store.log("t", 0).log_end_offset == 0


async def test_a_batch_over_the_topics_bound_is_refused(client: Client) -> None:
    await client.create("t", max_message_bytes="1000")
    [ack] = await client.produce("t", batch(b"x" * 1000))
    assert code(ack.error) == "MESSAGE_TOO_LARGE"
    assert "1000" in ack.error.message


async def test_a_time_in_the_far_future_is_refused(client: Client) -> None:
    ahead_ms = int(time.time() * 1000) + 2 * 3_600_000
    [ack] = await client.produce("t", batch(b"x", timestamp_ms=ahead_ms))
    assert code(ack.error) == "INVALID_TIMESTAMP"


async def test_a_message_over_the_limit_ends_the_call_and_harms_nobody(client: Client, server: Server) -> None:
    request = pb.ProduceRequest(
        partitions=[pb.PartitionRecords(topic="t", partition=0, batch=b"x" * (server.broker.config.request_bytes_max))]
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.producing.Produce(request)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert code((await client.produce("t", batch(b"x")))[0].error) == ""


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (pb.ProduceRequest(), "INVALID_REQUEST"),
        (pb.ProduceRequest(acks=7, partitions=[pb.PartitionRecords(topic="t")]), "INVALID_REQUEST"),  # type: ignore[arg-type]
        (pb.ProduceRequest(partitions=[pb.PartitionRecords()] * 10_001), "REQUEST_TOO_LARGE"),
    ],
)
async def test_a_request_that_makes_no_sense_is_refused_as_a_whole(
    client: Client, request_: pb.ProduceRequest, expected: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.producing.Produce(request_)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    error = error_of(refused.value)
    assert code(error) == expected
    assert error.message == refused.value.details()
    assert error.remedy
    assert not error.retriable


# Idempotent producers.


async def test_a_batch_sent_again_is_acknowledged_with_the_offset_of_the_first(client: Client) -> None:
    await client.create("t")
    producer_id = (await client.producing.InitProducer(pb.InitProducerRequest())).producer_id
    await client.produce("t", batch(b"before"))
    sent = batch(b"a", b"b", producer_id=producer_id, epoch=0, sequence=0)
    [first] = await client.produce("t", sent)
    await client.produce("t", batch(b"between"))
    [again] = await client.produce("t", sent)
    assert (first.base_offset, first.duplicate) == (1, False)
    assert (again.base_offset, again.duplicate) == (1, True)
    assert (await client.fetch("t")).high_watermark == 4


async def test_a_gap_in_the_sequence_is_refused(client: Client) -> None:
    producer_id = (await client.producing.InitProducer(pb.InitProducerRequest())).producer_id
    await client.produce("t", batch(b"a", producer_id=producer_id, epoch=0, sequence=0))
    [ack] = await client.produce("t", batch(b"c", producer_id=producer_id, epoch=0, sequence=2))
    assert code(ack.error) == "OUT_OF_ORDER_SEQUENCE_NUMBER"


async def test_no_two_producers_get_one_id(client: Client) -> None:
    replies = await asyncio.gather(*[client.producing.InitProducer(pb.InitProducerRequest()) for _ in range(50)])
    assert len({reply.producer_id for reply in replies}) == 50


# Plain records.


async def test_plain_records_are_encoded_and_decoded_by_the_server(client: Client) -> None:
    records = [
        pb.Record(
            key=b"k", value=b"v", timestamp_ms=NOW_MS, headers=[pb.Header(key="h", value=b"1"), pb.Header(key="n")]
        ),
        pb.Record(timestamp_ms=NOW_MS + 1),
        pb.Record(key=b"", value=b"", timestamp_ms=NOW_MS + 2),
    ]
    await client.produce_records("t", records, partition=0)
    read = await client.fetch("t", 1, decode=True)
    assert [(record.offset, record.timestamp_ms) for record in read.records] == [(1, NOW_MS + 1), (2, NOW_MS + 2)]
    assert not read.records[0].HasField("key")
    assert not read.records[0].HasField("value")
    assert read.records[1].HasField("key")
    [first, *_] = (await client.fetch("t", decode=True)).records
    assert first.headers == records[0].headers
    assert decode_batch((await client.fetch("t")).batches)[0] == Record(
        0, NOW_MS, b"k", b"v", (("h", b"1"), ("n", None))
    )


async def test_plain_records_go_where_kafkas_clients_would_send_them(client: Client) -> None:
    await client.create("t", partitions=5)
    keys = [b"key %d" % i for i in range(40)]
    acks = await client.produce_records("t", [pb.Record(key=key, value=key) for key in keys])
    assert sorted(ack.partition for ack in acks) == sorted({partition_for_key(key, 5) for key in keys})
    for partition in range(5):
        read = await client.fetch("t", partition=partition, decode=True)
        assert [record.key for record in read.records] == [
            key for key in keys if partition_for_key(key, 5) == partition
        ]


async def test_plain_records_without_key_and_time_take_turns_and_get_the_servers_time(client: Client) -> None:
    await client.create("t", partitions=3)
    before_ms = int(time.time() * 1000)
    seen = set()
    for _ in range(3):
        [ack] = await client.produce_records("t", [pb.Record(value=b"a"), pb.Record(value=b"b")])
        seen.add(ack.partition)
    assert seen == {0, 1, 2}
    read = await client.fetch("t", decode=True)
    assert all(before_ms <= record.timestamp_ms <= int(time.time() * 1000) for record in read.records)


@pytest.mark.parametrize("count", [0, 10_001])
async def test_an_absurd_number_of_plain_records_is_refused(client: Client, count: int) -> None:
    [ack] = await client.produce_records("t", [pb.Record()] * count)
    assert code(ack.error) == "INVALID_REQUEST"
    assert str(count) in ack.error.message


# Streams.


async def test_a_stream_appends_in_order_and_answers_every_request_once(client: Client) -> None:
    await client.create("t")
    call = client.producing.ProduceStream()
    for number in range(200):
        await call.write(_stream_request(number, batch(b"%d" % number)))
    await call.done_writing()
    answers = {response.request_id: response.acks[0] async for response in call}
    assert sorted(answers) == list(range(200))
    assert [answers[number].base_offset for number in range(200)] == list(range(200))
    read = await client.fetch("t", decode=True)
    assert [record.value for record in read.records] == [b"%d" % number for number in range(200)]


async def test_a_stream_with_a_senseless_request_answers_what_came_before_it(client: Client) -> None:
    await client.create("t")
    call = client.producing.ProduceStream()
    await call.write(_stream_request(1, batch(b"x")))
    await call.write(pb.ProduceStreamRequest(request_id=2))
    first = await call.read()
    assert isinstance(first, pb.ProduceStreamResponse)
    assert first.request_id == 1
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    assert code(error_of(refused.value)) == "INVALID_REQUEST"


async def test_a_message_that_is_no_request_ends_the_stream_once_what_came_before_is_answered(client: Client) -> None:
    await client.create("t")
    method = "/logwire.v1.ProduceService/ProduceStream"
    call = client.channel.stream_stream(method, lambda message: message, pb.ProduceStreamResponse.FromString)()
    await call.write(_stream_request(1, batch(b"x")).SerializeToString())
    await call.write(b"\x1a\x05nonsense")
    answer = await call.read()
    assert isinstance(answer, pb.ProduceStreamResponse)
    assert answer.request_id == 1
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    assert code(error_of(refused.value)) == "INVALID_REQUEST"


async def test_a_stream_takes_plain_records_and_batches_in_one_request(client: Client) -> None:
    await client.create("t", partitions=2)
    records = pb.RecordList(records=[pb.Record(value=b"plain")])
    request = _stream_request(1, batch(b"ready"))
    request.partitions.add(topic="t", partition=1, records=records)
    request.partitions.add(topic="t", batch=batch(b"nowhere"))
    call = client.producing.ProduceStream()
    await call.write(request)
    answer = await call.read()
    assert isinstance(answer, pb.ProduceStreamResponse)
    assert [(ack.partition, code(ack.error)) for ack in answer.acks] == [(0, ""), (1, ""), (-1, "INVALID_REQUEST")]
    for partition, value in enumerate((b"ready", b"plain")):
        [record] = (await client.fetch("t", partition=partition, decode=True)).records
        assert record.value == value
    call.cancel()


@pytest.mark.parametrize("acks", [pb.ACKS_ALL, pb.ACKS_ONE, pb.ACKS_ZERO])
async def test_a_stream_answers_as_a_call_does(client: Client, acks: "pb.Acks.ValueType") -> None:
    topic_id = (await client.create("t", partitions=2)).bytes
    sent = batch(b"x", producer_id=5, epoch=0, sequence=0)
    answers = []
    for _ in range(2):  # The second is a duplicate.
        request = _stream_request(1, sent, acks=acks)
        request.partitions[0].topic_id = topic_id
        call = client.producing.ProduceStream()
        await call.write(request)
        answer = await call.read()
        assert isinstance(answer, pb.ProduceStreamResponse)
        answers.append(answer.acks[0])
        await call.done_writing()
    [expected] = await client.produce("t", sent, partition=1, acks=acks, topic_id=topic_id)
    expected.partition = 0
    assert answers[0] == expected
    expected.duplicate = acks != pb.ACKS_ZERO
    assert answers[1] == expected


@pytest.mark.parametrize("reads_others", [True, False])
async def test_what_one_sync_covers_is_answered_by_one_message_to_a_client_that_reads_it(
    client: Client, server: Server, held_syncs: threading.Event, reads_others: bool
) -> None:
    await client.create("t")
    held_syncs.clear()
    call = client.producing.ProduceStream()
    for number in range(20):
        request = _stream_request(number, batch(b"x"))
        request.reads_others = reads_others
        await call.write(request)
    await _until_appended(server, 20)
    held_syncs.set()
    await call.done_writing()
    messages = [message async for message in call]
    answers = [answer for message in messages for answer in (message, *message.others)]
    assert [answer.request_id for answer in answers] == list(range(20))
    assert [answer.acks[0].base_offset for answer in answers] == list(range(20))
    # The first may have had a sync of its own.
    assert len(messages) <= 2 if reads_others else len(messages) == 20


async def test_a_message_of_many_answers_ends_somewhere(
    client: Client, server: Server, held_syncs: threading.Event
) -> None:
    await client.create("t")
    refused = [pb.PartitionRecords(topic="t", partition=number, batch=batch(b"x")) for number in range(1, 200)]
    held_syncs.clear()
    call = client.producing.ProduceStream()
    for number in range(20):
        request = _stream_request(number, batch(b"x"))
        request.partitions.extend(refused)
        request.reads_others = True
        await call.write(request)
    await _until_appended(server, 20)
    held_syncs.set()
    await call.done_writing()
    messages = [message async for message in call]
    assert sum(1 + len(message.others) for message in messages) == 20
    answer_bytes = max(pb.ProduceStreamResponse(acks=message.acks).ByteSize() for message in messages)
    assert answer_bytes > GROUPED_BYTES_MAX // 20
    assert max(message.ByteSize() for message in messages) < GROUPED_BYTES_MAX + 2 * answer_bytes


async def test_many_streams_share_the_syncs(client: Client, server: Server) -> None:
    await client.create("t", partitions=4)

    async def send(partition: int) -> list[int]:
        call = client.producing.ProduceStream()
        for number in range(25):
            await call.write(_stream_request(number, batch(b"x" * 100), partition))
        await call.done_writing()
        return [response.request_id async for response in call]

    answered = await asyncio.gather(*[send(stream % 4) for stream in range(8)])
    assert all(sorted(ids) == list(range(25)) for ids in answered)
    for partition in range(4):
        assert server.broker.store.log("t", partition).high_watermark == 50


async def test_a_stopping_server_answers_what_it_has_read_and_then_says_so(start_server: StartServer) -> None:
    server = await start_server()
    client = Client(server.grpc_address)
    await client.create("t")
    call = client.producing.ProduceStream()
    await call.write(_stream_request(1, batch(b"x")))
    assert isinstance(await call.read(), pb.ProduceStreamResponse)
    stopping = asyncio.create_task(server.stop())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call.read()
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
    error = error_of(refused.value)
    assert code(error) == "SHUTTING_DOWN"
    assert error.retriable
    await stopping
    await client.channel.close()


class HandedStream(Stream):
    """One message comes when the test says so; no transport is behind it."""

    def __init__(self) -> None:
        self.coming: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.written: list[bytes] = []

    async def read(self) -> bytes:
        return await self.coming

    async def write(self, message: bytes) -> None:
        self.written.append(message)


async def test_a_request_that_is_read_in_the_very_turn_of_a_stop_is_answered(server: Server, client: Client) -> None:
    await client.create("t")
    calls = Calls(ManualClock(), write_timeout_ms=1000)
    stream = HandedStream()
    door = ProduceDoor(server.broker, calls)
    serving = asyncio.create_task(door.produce_stream(stream, RequestContext("", "", "", "", None)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    calls.stop()
    stream.coming.set_result(_stream_request(7, batch(b"x")).SerializeToString())
    with pytest.raises(ShuttingDown):
        await serving
    [answer] = stream.written
    assert pb.ProduceStreamResponse.FromString(answer).request_id == 7
    assert server.broker.store.log("t", 0).high_watermark == 1


# Bounds.


async def test_a_producer_waits_for_room_and_is_not_refused(start_server: StartServer) -> None:
    server = await start_server(dirty_bytes_max=1 << 20)
    client = Client(server.grpc_address)
    await client.create("t")
    big = batch(b"x" * 200_000)
    call = client.producing.ProduceStream()
    dirtiest = 0
    for number in range(40):
        await call.write(_stream_request(number, big, acks=pb.ACKS_ONE))
        dirtiest = max(dirtiest, server.broker.store.dirty_bytes)
    await call.done_writing()
    answers = [response async for response in call]
    assert [code(answer.acks[0].error) for answer in answers] == [""] * 40
    assert dirtiest <= 1 << 20
    await client.channel.close()


async def test_a_producer_that_finds_no_room_in_its_time_is_told(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(produce_timeout_ms=50)
    client = Client(server.grpc_address)
    monkeypatch.setattr(type(server.broker.store), "has_room", lambda store, size: False)
    [ack] = await client.produce("t", batch(b"x"))
    assert code(ack.error) == "REQUEST_TIMED_OUT"
    assert ack.error.retriable
    await client.channel.close()


def test_an_answer_is_given_before_the_callers_deadline() -> None:
    def wait_ms(deadline_ms: int | None) -> int:
        return RequestContext("", "", "", "", deadline_ms).remaining_ms(ManualClock(), 10_000)

    assert [wait_ms(at) for at in (None, 60_000, 1000, 100, 1, 0, -5)] == [10_000, 10_000, 950, 80, 1, 0, 0]


async def test_a_stream_is_read_no_further_than_its_bytes_in_flight(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(stream_bytes_in_flight_max=100_000)
    client = Client(server.grpc_address)
    await client.create("t")
    store = type(server.broker.store)
    with monkeypatch.context() as patched:
        patched.setattr(store, "has_room", lambda store, size: False)
        call = client.producing.ProduceStream()
        for number in range(10):
            await call.write(_stream_request(number, batch(b"x" * 90_000)))
        total = server.broker.connections.total
        async with asyncio.timeout(5):
            while total.used_bytes == 0:
                await asyncio.sleep(0)
        assert total.used_bytes < 200_000
    server.broker.store.log("t", 0).append(batch(b"y"), NOW_MS)  # Its sync makes room known.
    await call.done_writing()
    assert [response.request_id async for response in call] == list(range(10))
    assert total.used_bytes == 0
    await client.channel.close()


async def test_a_client_that_leaves_while_it_waits_for_a_sync_leaves_nothing_behind(
    client: Client, server: Server, held_syncs: threading.Event
) -> None:
    await client.create("t")
    held_syncs.clear()
    call = client.producing.ProduceStream()
    await call.write(_stream_request(1, batch(b"x")))
    await _until_appended(server, 1)
    call.cancel()
    await _until_nothing_is_left(server)


async def test_a_client_that_leaves_while_it_waits_for_room_leaves_nothing_behind(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.create("t")
    monkeypatch.setattr(type(server.broker.store), "has_room", lambda store, size: False)
    call = client.producing.ProduceStream()
    await call.write(_stream_request(1, batch(b"x")))
    async with asyncio.timeout(5):
        while server.broker.connections.total.used_bytes == 0:
            await asyncio.sleep(0)
    call.cancel()
    await _until_nothing_is_left(server)


async def test_a_stream_whose_answers_nobody_reads_is_ended(start_server: StartServer) -> None:
    server = await start_server(write_timeout_ms=1500, auto_create_topics=False)
    client = Client(server.grpc_address)
    refused = pb.ProduceStreamRequest(
        partitions=[pb.PartitionRecords(topic="x" * 249, partition=0, batch=batch(b"x"))] * 1000
    )
    call = client.producing.ProduceStream()
    for _ in range(20):  # Each is answered with some 700 kB.
        await call.write(refused)
    await _until_nothing_is_left(server)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await _read_to_the_end(call)
    assert ended.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert code(error_of(ended.value)) == "REQUEST_TIMED_OUT"
    await client.channel.close()


async def _read_to_the_end(call: "grpc.aio.StreamStreamCall[Any, Any]") -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


async def _until_nothing_is_left(server: Server) -> None:
    broker = server.broker
    async with asyncio.timeout(10):
        while len(broker.connections) or len(broker.waiters) or broker.connections.total.used_bytes:
            await asyncio.sleep(0)


async def _until_appended(server: Server, offset: int) -> None:
    log = server.broker.store.log("t", 0)
    async with asyncio.timeout(10):
        while log.log_end_offset < offset:
            await asyncio.sleep(0)


def _stream_request(
    number: int, sent: bytes, partition: int = 0, acks: "pb.Acks.ValueType" = pb.ACKS_ALL
) -> pb.ProduceStreamRequest:
    return pb.ProduceStreamRequest(
        request_id=number,
        acks=acks,
        partitions=[pb.PartitionRecords(topic="t", partition=partition, batch=sent)],
    )
