"""The server as a whole: the broker and its doors, started and stopped in one order."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType

from logserver.broker import Broker
from logserver.config import Address, ServerConfig
from logserver.grpc.server import GrpcServer
from logstore.clock import Clock, SystemClock


class Server:
    """`async with Server(config, on_failure) as server:` serves for the length of the block."""

    def __init__(
        self, config: ServerConfig, on_failure: Callable[[BaseException], None], clock: Clock | None = None
    ) -> None:
        """on_failure is called when the disk fails, and must end the process before anything more is acknowledged."""
        self._config = config
        self._on_failure = on_failure
        self._clock = clock or SystemClock()
        self._grpc: GrpcServer | None = None
        self.broker: Broker

    @property
    def grpc_address(self) -> Address:
        """Where gRPC listens: port 0 has become a real one."""
        assert self._grpc is not None
        return self._grpc.address

    async def start(self) -> None:
        """Return when clients are served. Raises ListenFailed, and what opening the data directory raises."""
        async with AsyncExitStack() as undo:
            # Listen first: opening the directory changes it, which a start that comes to nothing should not.
            grpc = GrpcServer(self._config, self._clock)
            undo.push_async_callback(grpc.abandon)
            self.broker = Broker(replace(self._config, listen=grpc.address), self._clock, self._on_failure)
            undo.push_async_callback(self.broker.close)
            undo.push_async_callback(self.broker.release)
            await self.broker.start()
            await grpc.serve(self.broker)
            undo.pop_all()
        self._grpc = grpc

    async def stop(self) -> None:
        """Take no new calls, let the open ones end, sync, and mark the stop as clean."""
        if self._grpc is not None:
            await self._grpc.stop(self._config.stop_grace_ms)
            await self.broker.close()
            self._grpc = None

    async def __aenter__(self) -> "Server":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()
