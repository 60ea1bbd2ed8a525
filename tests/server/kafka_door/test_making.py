"""Answers that say much: what they take of others' time, and of memory, while they are made."""

import asyncio
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from logserver.config import Address
from logserver.context import SERVER_ITSELF
from logserver.errors import Overloaded
from logserver.kafka import metadata
from logserver.kafka.answers import LITTLE_BYTES
from logserver.kafka.apis import ApiKey
from logserver.kafka.making import BeingMade, Making, SharedSlice
from logserver.kafka.server import CHANGES_AT_ONCE
from logserver.server import Server
from tests.server.conftest import StartServer
from tests.server.kafka_door.client import UNASKED, KafkaClient
from tests.server.kafka_door.conftest import Connect, Hurrying

MAX = 10 * LITTLE_BYTES


async def test_of_large_answers_beyond_the_bound_that_is_given_up_which_was_begun_last() -> None:
    making = Making(MAX)
    first, second, third, small = (BeingMade(making) for _ in range(4))
    first.grow(2 * LITTLE_BYTES)
    second.grow(2 * LITTLE_BYTES)
    third.grow(2 * LITTLE_BYTES)
    small.grow(LITTLE_BYTES)
    second.grow(5 * LITTLE_BYTES)
    assert [each.is_given_up for each in (first, second, third, small)] == [False, False, True, False]
    assert making.used_bytes == 9 * LITTLE_BYTES
    with pytest.raises(Overloaded, match="begun last"):
        third.grow(1)
    with pytest.raises(Overloaded, match="begun last"):
        second.grow(2 * LITTLE_BYTES)
    first.grow(100 * LITTLE_BYTES)  # alone, it may be larger than the bound of all


async def test_an_answer_that_is_made_or_given_up_counts_no_more() -> None:
    making = Making(MAX)
    with BeingMade(making) as made:
        made.grow(3 * LITTLE_BYTES)
        assert making.used_bytes == 3 * LITTLE_BYTES
    assert making.used_bytes == 0
    with BeingMade(making) as first, BeingMade(making) as last:
        first.grow(9 * LITTLE_BYTES)
        with pytest.raises(Overloaded):
            last.grow(2 * LITTLE_BYTES)
    assert making.used_bytes == 0


async def test_all_large_answers_together_get_one_slice_in_a_turn_of_the_loop() -> None:
    making, clock = Making(MAX), Hurrying()
    slices = turns = 0

    async def make() -> None:
        nonlocal slices
        with BeingMade(making):
            mine = SharedSlice(clock)
            for _ in range(10):
                await mine.give_way()
                slices += 1

    tasks = [asyncio.create_task(make()) for _ in range(50)]
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        turns += 1
    assert slices == 500
    assert turns >= 500


def asked(*names: str, create: bool) -> dict[str, Any]:
    topics = [{"topic_id": None, "name": name} for name in names]
    return {"topics": topics, "allow_auto_topic_creation": create, **UNASKED}


async def test_what_an_answer_holds_is_counted_once_and_let_go_when_it_is_sent(
    door: Server, kafka: KafkaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    door.broker.topics.create(SERVER_ITSELF, "t", 10_000, {})
    assert door.kafka is not None
    making = door.kafka._making
    seen: list[int] = []
    grow = making.grow

    def noted(made: BeingMade) -> None:
        grow(made)
        seen.append(making.used_bytes)

    monkeypatch.setattr(making, "grow", noted)
    await kafka.send(ApiKey.METADATA, 12, **asked("t", create=False))
    frame = await kafka.frame()
    assert LITTLE_BYTES < len(frame) - 200 < max(seen) < len(frame)
    assert making.used_bytes == 0


async def test_answers_that_nobody_takes_leave_no_room_for_more_of_them(start_server: StartServer) -> None:
    server: Server = await start_server(kafka_listen=Address("127.0.0.1", 0), kafka_answers_bytes_max=1 << 20)
    server.broker.topics.create(SERVER_ITSELF, "t", 10_000, {})
    assert server.kafka is not None
    client = await KafkaClient.connect(server.kafka_address)
    counter = server.kafka.answers.counter
    counter.add(counter.bytes_max)
    expected = await client.send(ApiKey.METADATA, 12, **asked("t", create=False))
    answer = asyncio.create_task(client.answer(expected))
    making = server.kafka._making
    while making.used_bytes < 200_000:
        await asyncio.sleep(0)
    small = await KafkaClient.connect(server.kafka_address)
    assert (await small.call(ApiKey.METADATA, 12, **asked("u", create=False))).topics  # goes on
    assert not answer.done()
    counter.remove(counter.bytes_max)
    assert len((await answer).topics[0].partitions) == 10_000
    await client.close()
    await small.close()


async def test_one_request_for_metadata_makes_so_many_topics_and_its_client_asks_again(
    kafka: KafkaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metadata, "CREATED_MAX", 2)
    names = [f"t{number}" for number in range(5)]
    codes = []
    for _ in range(3):
        answer = await kafka.call(ApiKey.METADATA, 12, **asked(*names, create=True))
        codes.append([topic.error_code for topic in answer.topics])
    made, later = ErrorCode.none, ErrorCode.leader_not_available
    assert codes == [[made] * 2 + [later] * 3, [made] * 4 + [later], [made] * 5]


async def test_one_topic_is_made_in_a_turn_of_the_loop(
    door: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_in: list[int] = []
    turns = 0
    create = door.broker.topics.create

    def noted(*given: Any) -> Any:
        made_in.append(turns)
        return create(*given)

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(door.broker.topics, "create", noted)
    counting = asyncio.create_task(count())
    clients = [await connect() for _ in range(20)]
    sent = [
        await client.send(ApiKey.METADATA, 12, **asked(f"t{number}", create=True))
        for number, client in enumerate(clients)
    ]
    for client, expected in zip(clients, sent, strict=True):
        assert (await client.answer(expected)).topics[0].error_code == ErrorCode.none
    counting.cancel()
    assert len(set(made_in)) == len(clients)


async def test_all_groups_are_looked_up_for_one_client_in_a_turn_of_the_loop(
    door: Server, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up_in: list[int] = []
    turns = 0

    def look_up() -> list[Any]:
        looked_up_in.append(turns)
        return []

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(door.broker.groups, "list_groups", look_up)
    counting = asyncio.create_task(count())
    clients = [await connect() for _ in range(20)]
    sent = [await client.send(ApiKey.LIST_GROUPS, 5, states_filter=(), types_filter=()) for client in clients]
    for client, expected in zip(clients, sent, strict=True):
        assert (await client.answer(expected)).groups == ()
    counting.cancel()
    assert len(set(looked_up_in)) == len(clients)


async def test_large_requests_that_change_topics_leave_turns_to_those_that_commit(
    door: Server, kafka: KafkaClient, monkeypatch: pytest.MonkeyPatch, connect: Connect
) -> None:
    assert door.kafka is not None
    made = asyncio.Event()
    begun = 0

    async def stuck(*_: object) -> dict[str, Any]:
        nonlocal begun
        begun += 1
        await made.wait()
        return {"topics": ()}

    monkeypatch.setattr(
        door.kafka, "_handlers", {**door.kafka._handlers, ApiKey.CREATE_TOPICS: stuck, ApiKey.METADATA: stuck}
    )
    wanted = [
        {"name": f"t{n}", "num_partitions": 1, "replication_factor": 1, "assignments": (), "configs": ()}
        for n in range(1000)
    ]
    clients = [await connect() for _ in range(10)]
    sent = [
        await client.send(ApiKey.CREATE_TOPICS, 5, topics=wanted, timeout=1000, validate_only=False)
        for client in clients
    ]
    makers = [await connect() for _ in range(10)]
    for maker in makers:
        await maker.send(ApiKey.METADATA, 12, **asked(*(f"t{n}" for n in range(1000)), create=True))
    topics = [{"name": "t", "partition_indexes": tuple(range(2000))}]
    async with asyncio.timeout(10):
        fetched = await kafka.call(ApiKey.OFFSET_FETCH, 7, group_id="g", topics=topics, require_stable=False)
    assert len(fetched.topics[0].partitions) == 2000
    assert begun == CHANGES_AT_ONCE
    made.set()
    for client, expected in zip(clients, sent, strict=True):
        await client.answer(expected)
