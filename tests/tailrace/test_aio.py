import asyncio

import pytest

from tailrace import TopicPartition, errors
from tailrace.aio import Consumer, Producer
from tests.tailrace.fake_server import HOLD, LOSE_ANSWER, FakeServer, wire_error
from tests.tailrace.test_consumer import fill


async def test_send_returns_when_it_is_acknowledged(server: FakeServer) -> None:
    async with Producer(server=server.address, linger=60) as producer:
        metadata = await producer.send("single", "Zürich", key="k", headers={"h": b"v"}, timestamp_ms=1357034400000)
        assert metadata == ("single", 0, 0, 1357034400000)
    (record,) = server.read("single", 0)
    assert (record.key, record.value, record.headers) == (b"k", "Zürich".encode(), (("h", b"v"),))


async def test_sends_at_the_same_time_share_batches(server: FakeServer) -> None:
    async with Producer(server=server.address) as producer:
        await producer.send("single", b"first")
        sent = await asyncio.gather(*(producer.send("single", str(number)) for number in range(1_000)))
    assert sorted(metadata.offset for metadata in sent) == list(range(1, 1_001))
    assert len(server.topics["single"].partitions[0].batches) < 100


async def test_many_sends_at_once_keep_their_order_while_the_topic_is_looked_up(server: FakeServer) -> None:
    async with Producer(server=server.address) as producer:
        await asyncio.gather(*(producer.send("single", str(number), key="k") for number in range(1_000)))
    assert server.topics["single"].partitions[0].values == [str(number).encode() for number in range(1_000)]


async def test_many_sends_at_once_keep_their_order_through_a_full_buffer(server: FakeServer) -> None:
    values = [str(number).ljust(30_000 if number % 5 == 0 else 100) for number in range(60)]
    async with Producer(server=server.address, buffer_bytes=70_000, batch_bytes=16_384) as producer:
        await producer.send("single", "first")
        await asyncio.gather(*(producer.send("single", value, key="k") for value in values))
    assert server.topics["single"].partitions[0].values[1:] == [value.encode() for value in values]


async def test_a_bulk_keeps_its_place_among_sends_at_once(server: FakeServer) -> None:
    async with Producer(server=server.address, buffer_bytes=70_000, batch_bytes=16_384) as producer:
        values = [str(number).ljust(1_000) for number in range(300)]
        await asyncio.gather(
            *(producer.send("single", value) for value in values[:100]),
            producer.send_many("single", values[100:200]),
            *(producer.send("single", value) for value in values[200:]),
        )
        with pytest.raises(errors.InvalidRequest):
            await producer.send_many(["single"], values)  # type: ignore[arg-type]
    assert server.topics["single"].partitions[0].values == [value.encode() for value in values]


async def test_a_send_that_is_given_up_in_line_lets_the_next_one_go_ahead(server: FakeServer) -> None:
    async with Producer(server=server.address) as producer:
        sends = [asyncio.ensure_future(producer.send("single", str(number))) for number in range(4)]
        await asyncio.sleep(0)
        sends[1].cancel()
        sends[2].cancel()
        assert [result for result in await asyncio.gather(*sends, return_exceptions=True)][::3] == [
            ("single", 0, 0, sends[0].result().timestamp_ms),
            ("single", 0, 1, sends[3].result().timestamp_ms),
        ]


async def test_enqueue_gives_a_future_that_may_be_awaited_twice(server: FakeServer) -> None:
    async with Producer(server=server.address, linger=60) as producer:
        first = await producer.enqueue("single", b"a")
        second = await producer.enqueue("single", b"b")
        assert (await second).offset == 1
        assert ((await first).offset, (await first).offset) == (0, 0)
        assert first.done()
        await producer.enqueue("single", b"c")
        await producer.flush()
        assert server.topics["single"].partitions[0].values == [b"a", b"b", b"c"]


async def test_send_many_waits_for_all(server: FakeServer) -> None:
    async with Producer(server=server.address) as producer:
        ranges = await producer.send_many("single", [str(number) for number in range(5_000)])
    assert [(part.base_offset, part.records_count) for part in ranges] == [(0, 5_000)]


async def test_errors_are_raised_where_they_are_awaited_or_at_the_end(server: FakeServer) -> None:
    server.produce_script.append(lambda *_: wire_error("INVALID_TIMESTAMP"))
    async with Producer(server=server.address) as producer:
        with pytest.raises(errors.InvalidTimestamp):
            await producer.send("single", b"x")
        with pytest.raises(errors.InvalidRequest):
            await producer.send("single", 5)  # type: ignore[arg-type]
        server.produce_script.append(lambda *_: wire_error("INVALID_TIMESTAMP"))
        await producer.enqueue("single", b"x")
        with pytest.raises(errors.SendsFailed):
            await producer.flush()
    with pytest.raises(errors.ClientClosed):
        await producer.send("single", b"x")


async def test_a_lost_answer_is_not_noticed(server: FakeServer) -> None:
    server.produce_script.append(LOSE_ANSWER)
    async with Producer(server=server.address) as producer:
        assert (await producer.send("single", b"x")).offset == 0
    assert server.topics["single"].partitions[0].values == [b"x"]


async def test_cancelling_a_wait_leaves_the_producer_usable(server: FakeServer) -> None:
    server.produce_script.append(HOLD)
    async with Producer(server=server.address) as producer:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await producer.send("single", b"x")
        server.release()
        assert (await producer.send("single", b"y")).offset == 1


async def test_a_full_buffer_makes_senders_wait(server: FakeServer) -> None:
    async with Producer(server=server.address, buffer_bytes=40_000, batch_bytes=16_384) as producer:
        for _ in range(300):
            await producer.enqueue("single", bytes(1_000))
    assert server.topics["single"].partitions[0].next_offset == 300


async def test_records_are_read_and_committed_as_by_threads(server: FakeServer) -> None:
    fill(server, {0: 10, 1: 5})
    server.first_assignment = {("flights", 0), ("flights", 1)}
    told: list[tuple[str, list[TopicPartition]]] = []

    async def on_assigned(partitions: list[TopicPartition]) -> None:
        await asyncio.sleep(0)
        told.append(("assigned", partitions))

    def on_revoked(partitions: list[TopicPartition]) -> None:
        told.append(("revoked", partitions))

    async with Consumer(
        "flights",
        group="g",
        stop_at_end=True,
        on_assigned=on_assigned,
        on_revoked=on_revoked,
        server=server.address,
    ) as consumer:
        assert len([record async for record in consumer]) == 15
    both = [TopicPartition("flights", 0), TopicPartition("flights", 1)]
    assert told == [("assigned", both), ("revoked", both)]
    assert server.committed == {("flights", 0): 10, ("flights", 1): 5}


async def test_a_callback_that_failed_is_called_again_before_its_partitions_are_read(server: FakeServer) -> None:
    fill(server, {0: 10})
    server.first_assignment = {("flights", 0)}
    calls: list[list[TopicPartition]] = []

    async def on_assigned(partitions: list[TopicPartition]) -> None:
        calls.append(partitions)
        if len(calls) < 2:
            raise RuntimeError("of the application")

    async with Consumer("flights", group="g", on_assigned=on_assigned, server=server.address) as consumer:
        with pytest.raises(RuntimeError):
            await consumer.poll(10)
        assert await consumer.poll(10) is not None
    assert calls == [[TopicPartition("flights", 0)]] * 2


async def test_poll_batches_seek_pause_and_commit(server: FakeServer) -> None:
    fill(server, {0: 10})
    async with Consumer("flights", partitions=[0], group="g", auto_commit=False, server=server.address) as consumer:
        record = await consumer.poll(10)
        assert record is not None
        assert record.offset == 0
        async for batch in consumer.batches():
            assert list(batch.offsets) == [1, 2]
            break
        await consumer.seek("flights", 0, offset=8)
        assert await consumer.position("flights", 0) == 8
        await consumer.pause("flights", 0)
        assert await consumer.poll(0.01) is None
        await consumer.resume()
        record = await consumer.poll(10)
        assert record is not None
        assert record.offset == 8
        assert await consumer.commit()
        assert await consumer.commit(record)
    assert server.committed == {("flights", 0): 9}


async def test_an_exception_commits_all_but_the_record_in_hand(server: FakeServer) -> None:
    fill(server, {0: 10})

    async def fail() -> None:
        async with Consumer("flights", partitions=[0], group="g", server=server.address) as consumer:
            async for record in consumer:
                if record.offset == 4:
                    raise RuntimeError("of the application")

    with pytest.raises(RuntimeError):
        await fail()
    assert server.committed == {("flights", 0): 4}


async def test_a_blocked_event_loop_does_not_cost_the_membership(server: FakeServer) -> None:
    fill(server, {0: 10})
    server.first_assignment = {("flights", 0)}
    async with Consumer("flights", group="g", server=server.address) as consumer:
        await consumer.poll(10)
        beats = len(server.heartbeats)
        # This blocks the event loop, as a computation would.
        server.wait_until(lambda: len(server.heartbeats) > beats + 3)


async def test_stop_ends_the_iteration(server: FakeServer) -> None:
    async with Consumer("flights", server=server.address) as consumer:
        asyncio.get_running_loop().call_later(0.05, consumer.stop)
        assert [record async for record in consumer] == []


def test_a_consumer_belongs_to_one_event_loop(server: FakeServer) -> None:
    fill(server, {0: 10})
    consumer = Consumer("flights", partitions=[0], server=server.address)

    async def poll() -> None:
        assert await consumer.poll(10) is not None

    asyncio.run(poll())
    with pytest.raises(errors.WrongThreadError):
        asyncio.run(poll())


def test_a_producer_outlives_event_loops(server: FakeServer) -> None:
    producer = Producer(server=server.address)

    async def send() -> int:
        return (await producer.send("single", b"x")).offset

    assert [asyncio.run(send()), asyncio.run(send())] == [0, 1]
    asyncio.run(producer.close())
