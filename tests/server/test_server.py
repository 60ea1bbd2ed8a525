"""What belongs to no single service: health, reflection, retention, and starting and stopping in one process."""

import asyncio
import socket
from pathlib import Path

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from consumer_groups.requests import (
    OUTSIDER,
    OffsetCommit,
)
from logserver.config import Address, ServerConfig
from logserver.errors import ListenFailed
from logserver.server import Server
from logstore.config import TopicConfig
from logstore.errors import DataDirectoryUnusable
from tests.logstore.partition import ManualClock
from tests.server.conftest import StartServer
from tests.server.wire import Client, batch, code


def unexpected(failure: BaseException) -> None:
    raise AssertionError("the disk failed") from failure


async def test_health_is_serving_for_the_server_and_each_of_its_services(client: Client) -> None:
    health = health_pb2_grpc.HealthStub(client.channel)
    for service in ("", "logwire.v1.ProduceService", "logwire.v1.FetchService", "logwire.v1.GroupService"):
        reply = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection_lists_the_services_on_loopback(client: Client) -> None:
    call = reflection_pb2_grpc.ServerReflectionStub(client.channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    names = {service.name for service in (await call.read()).list_services_response.service}
    call.cancel()
    assert {"logwire.v1.ProduceService", "logwire.v1.TopicService", "grpc.health.v1.Health"} <= names


async def test_reflection_is_off_where_others_can_connect(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("logserver.grpc.server.is_loopback", lambda host: False)
    server = await start_server()
    async with grpc.aio.insecure_channel(str(server.grpc_address)) as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_group_is_kept_for_as_long_as_is_set(tmp_path: Path) -> None:
    config = ServerConfig(
        data_dir=tmp_path / "data", listen=Address("127.0.0.1", 0), group_offsets_retention_ms=3_600_000
    )
    clock = ManualClock()
    async with Server(config, unexpected, clock) as server:
        server.broker.store.create_topic("t", 1, TopicConfig())
        groups = server.broker.groups
        assert await groups.commit_offsets("g", OUTSIDER, [OffsetCommit("t", 0, 5)]) == [None]
        clock.now_ms += 7_200_000
        groups.run_due()
        async with asyncio.timeout(10):
            while groups.list_groups():
                await asyncio.sleep(0)


async def test_old_segments_are_deleted_and_the_rest_is_read(start_server: StartServer) -> None:
    server = await start_server()
    client = Client(server.grpc_address)
    await client.create("t", segment_bytes="1048576", retention_bytes="1048576", max_message_bytes="700000")
    for _ in range(6):
        await client.produce("t", batch(bytes(600_000)))
    await client.channel.close()
    await server.stop()  # Which seals the segments, so that they may go.
    server = await start_server()
    client = Client(server.grpc_address)
    broker = server.broker
    await broker.retain()
    assert broker.store.log("t", 0).log_start_offset == 4
    assert (await client.fetch("t", 4)).batches
    assert code((await client.fetch("t", 3)).error) == "OFFSET_OUT_OF_RANGE"
    await client.channel.close()


async def test_retention_goes_on_after_it_failed_once(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(retention_interval_ms=1)
    again = asyncio.Event()
    failures = iter([OSError("once")])

    def retain() -> int:
        for failure in failures:
            raise failure
        again.set()
        return 0

    monkeypatch.setattr(server.broker.store, "retain", retain)
    async with asyncio.timeout(10):
        await again.wait()


async def test_what_was_written_is_there_after_a_stop_and_a_start(start_server: StartServer) -> None:
    server = await start_server()
    client = Client(server.grpc_address)
    topic_id = await client.create("t", 3)
    await client.produce("t", batch(b"a", b"b"), partition=2)
    await client.channel.close()
    await server.stop()
    server = await start_server()
    client = Client(server.grpc_address)
    assert server.broker.store.topic("t").topic_id == topic_id
    [ack] = await client.produce("t", batch(b"c"), partition=2)
    assert ack.base_offset == 2
    await client.channel.close()


async def test_a_server_that_cannot_listen_makes_no_directory(server: Server, tmp_path: Path) -> None:
    config = ServerConfig(data_dir=tmp_path / "other", listen=server.grpc_address)
    with pytest.raises(ListenFailed):
        await Server(config, unexpected).start()
    assert not config.data_dir.exists()


async def test_a_server_that_cannot_open_its_directory_lets_go_of_its_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "somebody's file").touch()
    with pytest.raises(DataDirectoryUnusable):
        await Server(ServerConfig(data_dir=strange, listen=Address("127.0.0.1", port)), unexpected).start()
    async with Server(ServerConfig(data_dir=tmp_path / "data", listen=Address("127.0.0.1", port)), unexpected):
        pass
