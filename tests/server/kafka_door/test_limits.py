"""What one client may have of the door, so that others have something of it."""

import asyncio
from typing import Any

import pytest
from kio.schema.errors import ErrorCode
from structlog.testing import capture_logs

from logserver.appends import Acks, BatchAppend
from logserver.bytes_in_flight import BytesInFlight
from logserver.context import ANONYMOUS, RequestContext
from logserver.errors import Overloaded
from logserver.kafka import fetch_sessions
from logserver.kafka.answers import FetchedBytes
from logserver.kafka.apis import ApiKey
from logserver.kafka.buffers import OWN_BYTES_MIN, SPARE_BYTES_MAX, ReceiveBuffer, SpareBuffers
from logserver.kafka.connection import (
    FIRST_REQUEST_BYTES_MAX,
    OTHER_REQUEST_BYTES_MAX,
    RECEIVED_AT_ONCE,
    REQUEST_MS_MAX,
    Connection,
)
from logserver.kafka.fetch import FetchHandler
from logserver.kafka.fetch_sessions import Fetching, FetchSession, SessionPlaces
from logserver.kafka.messages import ITEMS_MAX, read_body, read_header
from logserver.kafka.server import ITEM_BYTES
from logserver.moved_time import MovedClock
from logserver.server import Server
from logstore.errors import CorruptBatch
from tests.server.kafka_door.client import SOFTWARE, KafkaClient, framed
from tests.server.kafka_door.conftest import Connect, Hurrying
from tests.server.kafka_door.held_transport import HeldTransport, receive
from tests.server.kafka_door.requests import batch, fetch, produce


async def test_nobody_sends_requests_as_large_as_batches_may_be(kafka: KafkaClient, door: Server) -> None:
    await kafka.call(ApiKey.API_VERSIONS, **SOFTWARE)
    assert door.kafka is not None
    assert door.kafka.request_bytes_max > OTHER_REQUEST_BYTES_MAX
    await kafka.send_raw((OTHER_REQUEST_BYTES_MAX + 1).to_bytes(4, "big") + b"\0")
    await asyncio.sleep(0)
    await kafka.send_raw(b"\3")
    assert await kafka.is_closed()


async def test_a_request_of_too_many_items_ends_the_connection(kafka: KafkaClient) -> None:
    await kafka.call(ApiKey.API_VERSIONS, **SOFTWARE)
    names = [{"name": "t"} for _ in range(ITEMS_MAX + 1)]
    fields = {"response_partition_limit": 1, "cursor": None}
    answer = await kafka.call(ApiKey.DESCRIBE_TOPIC_PARTITIONS, topics=names[:-1], **fields)
    assert answer.topics
    await kafka.send(ApiKey.DESCRIBE_TOPIC_PARTITIONS, topics=names, **fields)
    assert await kafka.is_closed()


async def test_after_what_nothing_can_interrupt_others_have_as_long_as_it_took(
    door: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert door.kafka is not None
    clock = MovedClock(0)
    monkeypatch.setattr(door.kafka, "_clock", clock)
    loop = asyncio.get_running_loop()
    pauses: list[float] = []
    call_later = loop.call_later

    def noted(delay: float, *given: Any) -> asyncio.TimerHandle:
        pauses.append(delay)
        return call_later(delay, *given)

    monkeypatch.setattr(loop, "call_later", noted)
    async with door.kafka._turn():
        clock.ahead_ms += 200
    assert any(0.2 <= pause < 0.3 for pause in pauses)
    assert door.kafka._uninterrupted.locked()
    async with door.kafka._turn():
        pass  # comes, too


async def test_a_large_request_is_counted_until_it_is_answered(kafka: KafkaClient, door: Server) -> None:
    await kafka.call(ApiKey.API_VERSIONS, **SOFTWARE)
    topics = [{"name": f"t{number}"} for number in range(1000)]
    fields = {"response_partition_limit": 1, "cursor": None}
    in_flight = door.broker.connections.total
    seen = 0
    asked = await kafka.send(ApiKey.DESCRIBE_TOPIC_PARTITIONS, topics=topics, **fields)
    answer = asyncio.create_task(kafka.answer(asked))
    while not answer.done():
        seen = max(seen, in_flight.used_bytes)
        await asyncio.sleep(0)
    assert seen >= 1000 * ITEM_BYTES
    assert in_flight.used_bytes <= OWN_BYTES_MIN


async def test_a_client_gets_no_fetch_session_while_others_remember_too_much(
    kafka: KafkaClient, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_sessions, "PLACES_MAX", 2)
    of_three = {"topics": [{"topic": name, "partitions": fetch("t", 0)["topics"][0]["partitions"]} for name in "abc"]}
    new = {"session_epoch": 0}
    assert (await kafka.call(ApiKey.FETCH, 11, **fetch("t", 0, **new, **of_three))).session_id == 0
    session_id = (await kafka.call(ApiKey.FETCH, 11, **fetch("t", 0, **new))).session_id
    assert session_id != 0
    more = {"session_id": session_id, "session_epoch": 1}
    refused = await kafka.call(ApiKey.FETCH, 11, **fetch("t", 0, **more, **of_three))
    assert refused.error_code == ErrorCode.fetch_session_id_not_found
    other = await connect()
    await other.call(ApiKey.FETCH, 11, **fetch("t", 0, **new))
    await kafka.call(ApiKey.FETCH, 11, **fetch("u", 0, **new))
    assert (await kafka.call(ApiKey.FETCH, 11, **fetch("v", 0, **new))).session_id != 0  # in the place of its own
    third = await connect()
    assert (await third.call(ApiKey.FETCH, 11, **fetch("t", 0, **new))).session_id == 0
    await other.close()
    while (await third.call(ApiKey.FETCH, 11, **fetch("t", 0, **new))).session_id == 0:
        await asyncio.sleep(0)


async def test_a_session_remembers_no_more_than_one_request_may_name(
    kafka: KafkaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch_sessions, "SESSION_PLACES_MAX", 2)
    session_id = (await kafka.call(ApiKey.FETCH, 11, **fetch("a", 0, session_epoch=0))).session_id
    for epoch, topic, code in (
        (1, "b", ErrorCode.none),
        (2, "b", ErrorCode.none),
        (3, "c", ErrorCode.fetch_session_id_not_found),
        (4, "a", ErrorCode.fetch_session_id_not_found),
    ):
        asked = fetch(topic, 0, session_id=session_id, session_epoch=epoch)
        assert (await kafka.call(ApiKey.FETCH, 11, **asked)).error_code == code


async def test_a_fetch_without_a_session_takes_no_session_id(kafka: KafkaClient) -> None:
    first = (await kafka.call(ApiKey.FETCH, 11, **fetch("t", 0, session_epoch=0))).session_id
    for _ in range(5):
        assert (await kafka.call(ApiKey.FETCH, 11, **fetch("t", 0))).session_id == 0
    assert (await kafka.call(ApiKey.FETCH, 11, **fetch("t", 0, session_epoch=0))).session_id == first + 1


async def test_session_ids_begin_again_after_the_last(door: Server, kafka: KafkaClient) -> None:
    assert door.kafka is not None
    door.kafka._fetch._session_id = 2**31 - 2
    for expected in (2**31 - 1, 1):
        assert (await kafka.call(ApiKey.FETCH, 11, **fetch("t", 0, session_epoch=0))).session_id == expected


async def test_a_fetch_that_names_nothing_gives_way_between_the_partitions_of_its_session(
    door: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert door.kafka is not None
    monkeypatch.setattr(door.broker, "clock", Hurrying())
    handler, session = FetchHandler(door.broker, door.kafka.answers), FetchSession(SessionPlaces())
    context = RequestContext(ANONYMOUS, "", "kafka", "", None)
    [asked] = fetch("t", 0)["topics"]
    parts = [asked["partitions"][0] | {"partition": number} for number in range(50)]
    turns = 0

    async def ask(**fields: Any) -> None:
        frame = memoryview(framed(ApiKey.FETCH, 11, **fetch("t", 0, **fields)))[4:]
        header = read_header(frame)
        await handler.fetch(header, read_body(header, frame).body, context, session)

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    await ask(session_epoch=0, topics=[asked | {"partitions": parts}])
    counting = asyncio.create_task(others())
    await ask(session_id=session.session_id, session_epoch=1, topics=[])
    counting.cancel()
    assert turns >= 3 * 50


@pytest.mark.parametrize("topic", ["missing", bytes(16)])
async def test_what_refuses_to_read_a_partition_leaves_no_garbage(door: Server, topic: str | bytes) -> None:
    assert door.kafka is not None
    handler, session = FetchHandler(door.broker, door.kafka.answers), FetchSession(SessionPlaces())
    frame = memoryview(framed(ApiKey.FETCH, 11, **fetch("missing", 0)))[4:]
    request = read_body(read_header(frame), frame).body
    wanted = [(place._replace(topic=topic), want) for place, want in session.begin(request, int).wanted]
    context = RequestContext(ANONYMOUS, "", "kafka", "", None)
    held = FetchedBytes(door.kafka.answers)
    [read] = await handler._read(request, context, Fetching(0, wanted, is_incremental=False), held)
    assert read.error is not None
    assert read.error.__traceback__ is None


@pytest.fixture
def clock(door: Server, monkeypatch: pytest.MonkeyPatch) -> MovedClock:
    """The server's, from now on."""
    clock = MovedClock(0)
    monkeypatch.setattr(door.kafka, "_clock", clock)
    monkeypatch.setattr(door.broker, "clock", clock)
    return clock


async def test_a_byte_a_second_is_not_enough(door: Server, clock: MovedClock) -> None:
    assert door.kafka is not None
    connection, transport = Connection(door.kafka), HeldTransport()
    connection.connection_made(transport)
    seconds = 0
    while not transport.is_closing() and seconds < 1000:
        receive(connection, (100).to_bytes(4, "big") if not seconds else b"\0")
        clock.ahead_ms += 1000
        door.kafka.sweep()
        seconds += 1
    connection.connection_lost(None)
    assert REQUEST_MS_MAX // 1000 <= seconds <= REQUEST_MS_MAX // 1000 + 2


async def test_a_large_request_may_come_slowly_as_long_as_it_comes(door: Server, clock: MovedClock) -> None:
    assert door.kafka is not None
    connection, transport = Connection(door.kafka), HeldTransport()
    connection.connection_made(transport)
    receive(connection, FIRST_REQUEST_BYTES_MAX.to_bytes(4, "big"))
    for _ in range(24):
        receive(connection, bytes(20 << 10))
        clock.ahead_ms += 3500
        door.kafka.sweep()
    assert REQUEST_MS_MAX < 24 * 3500
    assert not transport.is_closing()
    connection.connection_lost(None)


def test_who_announces_a_large_request_gets_memory_for_what_came() -> None:
    buffer = ReceiveBuffer(BytesInFlight(1 << 30, "test"), SpareBuffers())
    buffer.put(memoryview(bytes(4)))
    assert len(buffer.free(100 << 20, at_once=RECEIVED_AT_ONCE)) < OWN_BYTES_MIN
    buffer.release()
    buffer.put(memoryview(bytes(4)))
    assert len(buffer.free(1 << 20, at_once=RECEIVED_AT_ONCE)) == (1 << 20) - 4


def test_who_announces_much_leaves_room_for_those_that_send() -> None:
    counter, spare = BytesInFlight(16 << 20, "test"), SpareBuffers()
    for _ in range(100):
        announced = ReceiveBuffer(counter, spare)
        announced.put(memoryview(bytes(4)))
        announced.free(1 << 20, at_once=RECEIVED_AT_ONCE)
    assert counter.has_room
    assert counter.used_bytes <= (8 << 20) + (1 << 20) + 100 * OWN_BYTES_MIN


def receive_whole(buffer: ReceiveBuffer, size: int) -> None:
    """A request of so many bytes, as it comes."""
    buffer.put(memoryview(bytes(4)))
    while len(buffer) < size:
        buffer.add(len(buffer.free(size, at_once=RECEIVED_AT_ONCE)))


def test_buffers_that_are_empty_leave_room_for_those_that_send() -> None:
    counter, spare = BytesInFlight(8 << 20, "test"), SpareBuffers()
    buffers = [ReceiveBuffer(counter, spare) for _ in range(100)]
    for _ in range(2):
        for buffer in buffers:
            receive_whole(buffer, 1 << 20)
            buffer.take(1 << 20)
    assert counter.used_bytes == 0
    assert SPARE_BYTES_MAX - (1 << 20) <= spare.bytes <= SPARE_BYTES_MAX
    for buffer in buffers:
        buffer.release()
    assert (counter.used_bytes, spare.bytes) == (0, 0)


def test_a_buffer_that_is_empty_is_there_for_the_next_request() -> None:
    counter, spare = BytesInFlight(8 << 20, "test"), SpareBuffers()
    buffer = ReceiveBuffer(counter, spare)
    receive_whole(buffer, 1 << 20)
    memory = buffer.pending.obj
    buffer.take(1 << 20)
    assert spare.bytes == 1 << 20
    receive_whole(buffer, 1 << 19)
    assert buffer.pending.obj is memory
    assert (counter.used_bytes, spare.bytes) == (1 << 20, 0)


def test_a_buffer_larger_than_all_that_may_wait_takes_no_others_place() -> None:
    spare = SpareBuffers()
    small, large = (ReceiveBuffer(BytesInFlight(1 << 30, "test"), spare) for _ in range(2))
    for buffer, size in ((small, 1 << 20), (large, SPARE_BYTES_MAX + 1)):
        receive_whole(buffer, size)
        buffer.take(size)
    assert spare.bytes == 1 << 20


def test_one_request_may_be_larger_than_the_bound() -> None:
    counter = BytesInFlight(1 << 20, "test")
    buffer, other = ReceiveBuffer(counter, SpareBuffers()), ReceiveBuffer(counter, SpareBuffers())
    receive_whole(buffer, 10 << 20)
    assert counter.used_bytes == 10 << 20
    with pytest.raises(Overloaded):
        receive_whole(other, 1)
    assert counter.used_bytes == 10 << 20


async def test_who_meets_an_overload_while_it_receives_is_told_of_in_the_log_and_cut(
    door: Server, kafka: KafkaClient
) -> None:
    await kafka.call(ApiKey.API_VERSIONS, **SOFTWARE)
    await kafka.send_raw((1 << 20).to_bytes(4, "big") + b"\0\0\0\x09" + bytes(1000))
    total = door.broker.connections.total
    while not total.used_bytes:
        await asyncio.sleep(0)
    total.add(total.bytes_max)
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    with capture_logs() as said:
        await kafka.send_raw(bytes(1 << 20))
        assert await kafka.is_closed()
    total.remove(total.bytes_max)
    assert unhandled == []
    assert "bytes of requests that have not come to their end" in said[0]["why"]


async def test_what_a_refused_batch_was_inflated_into_is_let_go(door: Server, kafka: KafkaClient) -> None:
    await kafka.make("t")
    context = RequestContext(ANONYMOUS, "", "kafka", "", None)
    damaged = bytearray(batch(b"v"))
    damaged[-1] ^= 1
    appends = [BatchAppend("t", b"", 0, bytes(damaged))]
    [ack] = await door.broker.appends.append_and_wait(context, appends, Acks.ALL)
    assert isinstance(ack.error, CorruptBatch)
    assert ack.error.__traceback__ is None
    assert ack.error.__context__ is None


async def test_who_sends_many_requests_at_once_gives_way_between_them(
    door: Server, kafka: KafkaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await kafka.make("t")
    await kafka.call(ApiKey.PRODUCE, 9, **produce("t", batch(b"opens the log")))
    assert door.kafka is not None
    log = door.broker.store.log("t", 0)
    monkeypatch.setattr(door.broker, "clock", Hurrying())
    connection, transport = Connection(door.kafka), HeldTransport()
    connection.connection_made(transport)
    receive(connection, 3 * framed(ApiKey.PRODUCE, 9, **produce("t", batch(b"v"), acks=1)))
    assert log.log_end_offset == 2
    assert not transport.is_reading()
    while len(transport.written) < 3:
        await asyncio.sleep(0)
    assert log.log_end_offset == 4
    assert transport.is_reading()
    connection.connection_lost(None)
