"""What answers that nobody takes may hold, and who is cut for it."""

import asyncio

import pytest

from logserver.config import Address, ServerConfig
from logserver.kafka.answers import LITTLE_BYTES, PARTS, TAKING_MS_MIN, Answers, FetchedBytes
from logserver.kafka.apis import ApiKey
from logserver.kafka.connection import Connection
from logserver.kafka.server import SWEEP_MS
from logserver.moved_time import MovedClock
from logserver.server import Server
from tests.server.conftest import StartServer
from tests.server.kafka_door.client import KafkaClient, framed
from tests.server.kafka_door.held_transport import HeldTransport, receive
from tests.server.kafka_door.requests import batch, fetch, produce

MUCH = 1 << 30
ANSWERS_BYTES_MAX = 8 << 20


class Slow:
    def __init__(self, nothing_for_ms: int = 0) -> None:
        self.nothing_for_ms = nothing_for_ms
        self.is_cut = False

    def taking_nothing_ms(self) -> int:
        return self.nothing_for_ms

    def cut(self, why: str) -> None:
        self.is_cut = True


@pytest.fixture
def answers() -> Answers:
    return Answers(ANSWERS_BYTES_MAX)


async def test_a_fetch_gets_less_the_less_is_left(answers: Answers) -> None:
    assert await FetchedBytes(answers).room(1000) == 1000
    assert await FetchedBytes(answers).room(MUCH) == ANSWERS_BYTES_MAX // PARTS
    answers.wait(Slow(), ANSWERS_BYTES_MAX // 2)
    assert await FetchedBytes(answers).room(MUCH) == ANSWERS_BYTES_MAX // 2 // PARTS
    answers.wait(Slow(), ANSWERS_BYTES_MAX // 2 - 1)
    assert await FetchedBytes(answers).room(MUCH) == LITTLE_BYTES


async def test_how_much_answers_may_hold_is_a_setting(start_server: StartServer) -> None:
    assert ServerConfig().kafka_answers_bytes_max == 32 << 20
    server = await start_server(kafka_listen=Address("127.0.0.1", 0), kafka_answers_bytes_max=1 << 20)
    assert server.kafka.answers.counter.bytes_max == 1 << 20


async def test_what_a_fetch_holds_is_let_go_when_it_reads_again(answers: Answers) -> None:
    held = FetchedBytes(answers)
    await held.room(MUCH)
    held.hold(1000)
    held.hold(-900)
    assert answers.counter.used_bytes == 100
    await held.room(MUCH)
    assert answers.counter.used_bytes == 0


async def test_who_has_taken_nothing_for_longest_is_cut_for_those_that_wait(answers: Answers) -> None:
    taking, stuck, longer = Slow(), Slow(TAKING_MS_MIN), Slow(TAKING_MS_MIN + 1)
    answers.wait(taking, ANSWERS_BYTES_MAX // 2)
    answers.wait(stuck, ANSWERS_BYTES_MAX // 4)
    answers.wait(longer, ANSWERS_BYTES_MAX // 4)
    async with asyncio.timeout(1):
        await answers.room()
    assert (taking.is_cut, stuck.is_cut, longer.is_cut) == (False, False, True)


async def test_who_is_taking_for_a_moment_only_is_waited_for(answers: Answers) -> None:
    slow = Slow()
    answers.wait(slow, ANSWERS_BYTES_MAX)
    waiting = asyncio.create_task(answers.room())
    await asyncio.sleep(0)
    assert not waiting.done()
    answers.taken(slow)
    async with asyncio.timeout(1):
        await waiting
    assert not slow.is_cut


class TakenSlowly(HeldTransport):
    """By a client that has not taken all of what is written."""

    connection: Connection

    def writelines(self, list_of_data: object) -> None:
        super().writelines(list_of_data)
        self.untaken = sum(map(len, self.written))
        self.connection.pause_writing()


@pytest.fixture
async def untaken(door: Server, kafka: KafkaClient) -> tuple[Connection, TakenSlowly]:
    """An answer with a record that its client has not taken."""
    await kafka.make("t")
    await kafka.call(ApiKey.PRODUCE, 9, **produce("t", batch(bytes(100_000))))
    assert door.kafka is not None
    connection, transport = Connection(door.kafka), TakenSlowly()
    transport.connection = connection
    connection.connection_made(transport)
    receive(connection, framed(ApiKey.FETCH, 11, **fetch("t", 0)))
    while not transport.written:
        await asyncio.sleep(0)
    return connection, transport


async def test_an_answer_counts_until_it_is_taken(door: Server, untaken: tuple[Connection, TakenSlowly]) -> None:
    assert door.kafka is not None
    connection, transport = untaken
    counter = door.kafka.answers.counter
    assert counter.used_bytes == sum(map(len, transport.written)) > 100_000
    connection.resume_writing()
    assert counter.used_bytes == 0
    connection.connection_lost(None)
    assert counter.used_bytes == 0


async def test_an_answer_counts_no_more_when_its_connection_is_gone(
    door: Server, untaken: tuple[Connection, TakenSlowly]
) -> None:
    assert door.kafka is not None
    untaken[0].connection_lost(None)
    assert door.kafka.answers.counter.used_bytes == 0


async def test_who_takes_nothing_for_long_is_cut_and_who_takes_slowly_is_not(
    door: Server, untaken: tuple[Connection, TakenSlowly], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert door.kafka is not None
    connection, transport = untaken
    clock = MovedClock(0)
    monkeypatch.setattr(connection, "_clock", clock)

    def sweep_for(timeouts: int, taken: int) -> None:
        assert door.kafka is not None
        for _ in range(timeouts * door.broker.config.write_timeout_ms // SWEEP_MS + 2):
            transport.untaken -= taken
            door.kafka.sweep()
            clock.ahead_ms += SWEEP_MS

    sweep_for(3, taken=1)
    assert not transport.is_closing()
    sweep_for(1, taken=0)
    assert transport.is_closing()
    connection.connection_lost(None)


async def test_a_fetch_that_waits_for_more_than_there_is_holds_nothing(door: Server, kafka: KafkaClient) -> None:
    await kafka.make("t")
    await kafka.call(ApiKey.PRODUCE, 9, **produce("t", batch(bytes(100_000))))
    assert door.kafka is not None
    parked = door.broker.fetches._parked
    asked = await kafka.send(ApiKey.FETCH, 11, **fetch("t", 0, min_bytes=150_000, max_wait=60_000))
    while not parked:
        await asyncio.sleep(0)
    assert door.kafka.answers.counter.used_bytes == 0
    await kafka.close()
    while parked:
        await asyncio.sleep(0)
    del asked
