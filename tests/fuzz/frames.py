"""A connection that gets bytes in pieces. However they are cut, the same requests are begun, the same is answered, and
it ends at the same place; afterwards nothing is held.

    cut: u8    the pieces have 1 to 256 bytes, by a generator with this seed; 0: it comes as one
    bytes      as from the socket
"""

import asyncio
import random
from collections.abc import Iterator
from functools import cache
from struct import Struct
from typing import Any

from logserver.kafka.apis import ApiKey
from logserver.kafka.connection import Connection
from tests.fuzz.fakes import FakeDoor
from tests.server.kafka_door.examples import example_request
from tests.server.kafka_door.held_transport import HeldTransport

_SIZE = Struct(">i")
#: Turns of the loop in which nothing more happens, after which nothing will.
_QUIET_TURNS = 4


def run(data: bytes) -> bool:
    if not data:
        return False
    in_pieces = _loop().run_until_complete(_received(data[1:], data[0]))
    if data[0]:
        assert in_pieces == _loop().run_until_complete(_received(data[1:], 0))
    return True


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for all: to make one takes longer than what is tried in it."""
    loop = asyncio.new_event_loop()

    def fail(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        _failures.append(context.get("exception") or AssertionError(context["message"]))

    loop.set_exception_handler(fail)
    return loop


#: What callbacks of the loop have raised.
_failures: list[BaseException] = []


async def _received(data: bytes, cut: int) -> tuple[object, ...]:
    rng = random.Random(cut)
    door, transport = FakeDoor(), HeldTransport()
    connection = Connection(door)
    connection.connection_made(transport)
    position = 0
    while position < len(data) and not transport.is_closing():
        if not transport.is_reading():
            await asyncio.sleep(0)
            if _failures:
                raise _failures.pop()
            continue
        buffer = connection.get_buffer(-1)
        size = min(len(buffer), len(data) - position, rng.randint(1, 256) if cut else len(data))
        buffer[:size] = data[position : position + size]
        connection.buffer_updated(size)
        position += size
    seen = (-1, -1)
    quiet = 0
    while quiet < _QUIET_TURNS:
        await asyncio.sleep(0)
        now = (len(door.begun), len(transport.written))
        quiet, seen = (quiet + 1, seen) if now == seen else (0, now)
        if _failures:
            raise _failures.pop()
    held = len(connection._received)
    connection.connection_lost(None)
    assert door.strangers.used_bytes == door.fake.connections.total.used_bytes == 0
    assert len(door.fake.connections) == 0
    assert held <= len(data)
    return door.begun, door.fake.appends.appended, transport.written, transport.is_closing()


def seeds() -> Iterator[bytes]:
    requests = [
        example_request(ApiKey.API_VERSIONS, 3, 1),
        example_request(ApiKey.METADATA, 12, 2),
        example_request(ApiKey.PRODUCE, 9, 3, acks=-1, transactional_id=None),
        example_request(ApiKey.PRODUCE, 9, 4, acks=0, transactional_id=None),
        example_request(ApiKey.PRODUCE, 9, 5, acks=-1),
        example_request(ApiKey.FETCH, 11, 6),
    ]
    framed = [_SIZE.pack(len(request)) + request for request in requests]
    for cut in (0, 1, 2, 3):
        yield bytes((cut,)) + b"".join(framed)
        yield bytes((cut,)) + b"".join(reversed(framed)) + framed[0][:7]
    yield b"\0\x16\x03\x01\x02\0"
    yield b"\0GET / HTTP/1.1\r\n\r\n"
    yield b"\0\x7f\xff\xff\xff"
    yield b"\1" + framed[0] + b"\x06\x40\0\1" + bytes(100)
