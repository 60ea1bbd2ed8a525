"""The server as a whole: the broker and its doors, started and stopped in one order."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING

from logserver.broker import Broker
from logserver.config import Address, ServerConfig
from logserver.grpc.server import GrpcServer
from logstore.clock import Clock, SystemClock

if TYPE_CHECKING:
    from logserver.kafka.server import KafkaServer


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
        #: The Kafka door, where one was asked for.
        self.kafka: KafkaServer | None = None
        self.broker: Broker

    @property
    def grpc_address(self) -> Address:
        """Where gRPC listens: port 0 has become a real one."""
        assert self._grpc is not None
        return self._grpc.address

    @property
    def kafka_address(self) -> Address | None:
        """Where Kafka's clients connect, if anywhere."""
        return None if self.kafka is None else self.kafka.address

    async def start(self) -> None:
        """Return when clients are served. Raises ListenFailed, and what opening the data directory raises."""
        async with AsyncExitStack() as undo:
            # Listen first: opening the directory changes it, which a start that comes to nothing should not.
            grpc = GrpcServer(self._config, self._clock)
            undo.push_async_callback(grpc.abandon)
            kafka = self._listen_for_kafka()
            if kafka is not None:
                undo.push_async_callback(kafka.abandon)
            self.broker = Broker(replace(self._config, listen=grpc.address), self._clock, self._on_failure)
            undo.push_async_callback(self.broker.close)
            undo.push_async_callback(self.broker.release)
            await self.broker.start()
            if kafka is not None:
                await kafka.serve(self.broker)
                undo.push_async_callback(kafka.stop, 0)
                undo.callback(kafka.begin_stop)
            await grpc.serve(self.broker)
            undo.pop_all()
        self._grpc, self.kafka = grpc, kafka

    def _listen_for_kafka(self) -> "KafkaServer | None":
        if self._config.kafka_listen is None:
            return None
        # Its schemas take longer to import than all the rest.
        from logserver.kafka.server import KafkaServer

        return KafkaServer(self._config, self._clock)

    async def stop(self) -> None:
        """Take no new calls, let the open ones end, sync, and mark the stop as clean."""
        if self._grpc is not None:
            if self.kafka is not None:
                self.kafka.begin_stop()
            await self._grpc.stop(self._config.stop_grace_ms)
            if self.kafka is not None:
                await self.kafka.stop(self._config.stop_grace_ms)
            await self.broker.close()
            self._grpc = None

    async def __aenter__(self) -> "Server":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()
