import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logserver.bytes_in_flight import BytesInFlight, Connections
from logserver.errors import Overloaded


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_reading_waits_until_the_stream_has_room() -> None:
    stream = BytesInFlight(10, "this stream")
    stream.add(10)
    waiting = asyncio.create_task(stream.room())
    await settle()
    assert not waiting.done()
    stream.remove(1)
    await waiting


async def test_reading_waits_for_room_in_the_connection_and_in_the_server_too() -> None:
    connections = Connections(connection_bytes_max=10, total_bytes_max=15)
    first, second = connections.enter("a"), connections.enter("b")
    first.add(9)
    second.add(9)
    assert not BytesInFlight(100, "this stream", first).has_room
    waiting = asyncio.create_task(BytesInFlight(100, "this stream", first).room())
    await settle()
    assert not waiting.done()
    second.remove(9)
    await waiting


async def test_a_message_larger_than_the_bound_gets_through_alone() -> None:
    stream = BytesInFlight(10, "this stream")
    await stream.room()
    stream.add(1000)
    assert not stream.has_room
    stream.remove(1000)
    assert stream.has_room


def test_a_call_over_the_bound_is_refused_with_the_figures_and_one_may_retry() -> None:
    counter = BytesInFlight(10, "this connection")
    with counter.hold(10):
        with pytest.raises(
            Overloaded, match="10 bytes are in flight in this connection, where 10 are allowed"
        ) as error:
            counter.hold(1)
        assert error.value.retriable
    with counter.hold(1):
        pass
    assert counter.used_bytes == 0


async def test_a_cancelled_wait_is_forgotten() -> None:
    stream = BytesInFlight(1, "this stream")
    stream.add(1)
    waiting = asyncio.create_task(stream.room())
    await settle()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert not stream._waiting


def test_a_connection_is_forgotten_when_nothing_of_it_is_left() -> None:
    connections = Connections(10, 10)
    assert connections.enter("a") is connections.enter("a")
    connections.leave("a")
    assert len(connections) == 1
    connections.leave("a")
    assert len(connections) == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50))))
def test_the_total_is_the_sum_of_what_the_connections_hold(steps: list[tuple[str, int]]) -> None:
    connections = Connections(10, 10)
    held: list[tuple[BytesInFlight, int]] = []
    for peer, size in steps:
        counter = connections.enter(peer)
        counter.add(size)
        held.append((counter, size))
        assert connections.total.used_bytes == sum(size for _, size in held)
    for counter, size in held:
        counter.remove(size)
    assert connections.total.used_bytes == 0
