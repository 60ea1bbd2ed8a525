from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from logserver.config import Address
from logserver.server import Server
from logstore.clock import Clock
from tests.server.conftest import StartServer
from tests.server.kafka_door.client import KafkaClient

Connect = Callable[[], Awaitable[KafkaClient]]


class Hurrying(Clock):
    """Each look at it is as long after the one before as a slice is."""

    def __init__(self) -> None:
        self._now_ms = 0

    def monotonic_ms(self) -> int:
        self._now_ms += 10
        return self._now_ms

    def wall_ms(self) -> int:
        raise NotImplementedError


@pytest.fixture(autouse=True)
def nobody_calls_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    """So a server that stops need not wait for calls on their way in, which takes longer than most of these tests."""
    monkeypatch.setattr("logserver.grpc.server._LAST_CALLS_S", 0)


@pytest.fixture
async def door(start_server: StartServer) -> Server:
    """A server with both doors."""
    started: Server = await start_server(kafka_listen=Address("127.0.0.1", 0))
    return started


@pytest.fixture
async def connect(door: Server) -> AsyncIterator[Connect]:
    clients: list[KafkaClient] = []

    async def connected() -> KafkaClient:
        clients.append(await KafkaClient.connect(door.kafka_address))
        return clients[-1]

    yield connected
    for client in clients:
        await client.close()


@pytest.fixture
async def kafka(connect: Connect) -> KafkaClient:
    return await connect()
