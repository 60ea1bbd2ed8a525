from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from logserver.config import Address, ServerConfig
from logserver.server import Server
from tests.server.wire import Client

#: Starts the real server on the test's directory with some settings changed; it stops when the test ends.
StartServer = Callable[..., Any]


@asynccontextmanager
async def running(data_dir: Path, **changes: Any) -> AsyncIterator[Server]:
    """A server in this process. A failure of its disk fails the test, unless it brings its own on_failure."""
    failures: list[BaseException] = []
    on_failure = changes.pop("on_failure", failures.append)
    config = ServerConfig(data_dir=data_dir, listen=Address("127.0.0.1", 0), stop_grace_ms=2000)
    async with Server(replace(config, **changes), on_failure) as server:
        yield server
    assert failures == []


@pytest.fixture
async def start_server(tmp_path: Path) -> AsyncIterator[StartServer]:
    async with AsyncExitStack() as stack:

        async def start(**changes: Any) -> Server:
            return await stack.enter_async_context(running(tmp_path / "data", **changes))

        yield start


@pytest.fixture
async def server(start_server: StartServer) -> Server:
    started: Server = await start_server()
    return started


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    client = Client(server.grpc_address)
    yield client
    await client.channel.close()
