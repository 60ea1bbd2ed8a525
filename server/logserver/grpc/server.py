"""The gRPC door as a whole: one port, its services, and how it opens and closes."""

import asyncio
import socket

import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from logserver.broker import Broker
from logserver.config import Address, ServerConfig, is_loopback
from logserver.errors import ListenFailed
from logserver.grpc.calls import Calls
from logserver.grpc.fetch import FetchDoor
from logserver.grpc.groups import GroupDoor
from logserver.grpc.produce import ProduceDoor
from logserver.grpc.topics import TopicDoor
from logstore.clock import Clock
from logwire.v1 import groups_pb2, records_pb2, topics_pb2

logger = structlog.get_logger()

#: For calls that are on their way in when the server stops.
_LAST_CALLS_S = 0.1


class GrpcServer:
    """Holds its address from the moment it is made. Who connects before `serve` is answered from then on."""

    def __init__(self, config: ServerConfig, clock: Clock) -> None:
        """Listen, before anything else is begun. Raises ListenFailed."""
        self._calls = Calls(clock, write_timeout_ms=config.write_timeout_ms)
        self._health = health.aio.HealthServicer()
        self._broker: Broker | None = None
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=config.concurrent_calls_max,
            options=[
                ("grpc.so_reuseport", 0),  # Else a second server on the port starts, and gets half of the clients.
                ("grpc.max_receive_message_length", config.request_bytes_max),
                # Answers end by their own bounds, which one large batch may exceed.
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", config.connection_streams_max),
                ("grpc.keepalive_time_ms", 30_000),
                ("grpc.keepalive_timeout_ms", 10_000),
                ("grpc.keepalive_permit_without_calls", 1),
                # Clients may ping this often; by default more than one ping in 5 minutes costs the connection.
                ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ],
        )
        #: Where it listens: port 0 has become a real one.
        self.address = self._listen(config.listen)

    def _listen(self, listen: Address) -> Address:
        try:
            port = self._server.add_insecure_port(str(listen))
        except RuntimeError as error:
            raise ListenFailed(
                f"{listen} cannot be listened on: {_reason(listen)}",
                remedy="End what listens there, or choose another address with --listen.",
            ) from error
        return Address(listen.host, port)

    async def serve(self, broker: Broker) -> None:
        services = [
            (records_pb2, "ProduceService", ProduceDoor(broker, self._calls)),
            (records_pb2, "FetchService", FetchDoor(broker, self._calls)),
            (topics_pb2, "TopicService", TopicDoor(broker)),
            (groups_pb2, "GroupService", GroupDoor(broker)),
        ]
        names = [health.SERVICE_NAME]
        for module, name, door in services:
            service = module.DESCRIPTOR.services_by_name[name]
            self._calls.serve(self._server, service, door)
            names.append(service.full_name)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if is_loopback(self.address.host):
            # Whoever can connect here may see the services; grpcurl works without the .proto files.
            from grpc_reflection.v1alpha import reflection

            reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], self._server)
        await self._server.start()
        self._broker = broker
        for name in ("", *names):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    async def abandon(self) -> None:
        """Let go of the address without having served."""
        if self._broker is None:
            await self._server.start()  # gRPC keeps the port of a server that was never started.
        await self._server.stop(None)

    async def stop(self, grace_ms: int) -> None:
        """Take no new calls, let the open ones end, and after grace_ms cut them."""
        await self._health.enter_graceful_shutdown()
        self._calls.stop()
        assert self._broker is not None, "one that never served is abandoned"
        await self._broker.release()
        try:
            async with asyncio.timeout(grace_ms / 1000):
                await self._calls.idle()
        except TimeoutError:
            logger.warning("calls are cut: they did not end in time", calls=self._calls.open_count, grace_ms=grace_ms)
        # A call that gRPC's own stop catches on its way in is answered CANCELLED, which its client cannot tell from a
        # cancellation of its own. So for a moment what still comes is answered by us.
        await asyncio.sleep(_LAST_CALLS_S)
        await self._server.stop(_LAST_CALLS_S)
        # It does not wait for handlers that are cleaning up.
        await self._calls.idle()


def _reason(listen: Address) -> str:
    """Why binding fails. gRPC does not say, so it is tried again to hear it from the system."""
    try:
        found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in found:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen(1)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return "gRPC refused it without a reason"
