"""A server whose members may bring no more says so through both doors, by a name after which clients try again."""

import grpc.aio
import pytest
from kio.schema.errors import ErrorCode

from logserver.config import Address
from logserver.kafka.apis import ApiKey
from logwire.v1 import groups_pb2 as pb
from tests.server.conftest import StartServer
from tests.server.kafka_door.client import KafkaClient
from tests.server.wire import Client, code, error_of


async def test_both_doors_refuse_a_member_for_which_there_is_no_room_for_now(start_server: StartServer) -> None:
    server = await start_server(kafka_listen=Address("127.0.0.1", 0), group_total_bytes_max=100)
    client, kafka = Client(server.grpc_address), await KafkaClient.connect(server.kafka_address)
    try:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client.groups.Heartbeat(
                pb.HeartbeatRequest(
                    group="g", member_id="m", subscription=pb.Subscription(topics=["t"]), owned=pb.Assignment()
                )
            )
        error = error_of(refused.value)
        assert (code(error), error.retriable) == ("OVERLOADED", True)
        assert "--group-total-bytes-max" in error.remedy
        heartbeat = await kafka.call(
            ApiKey.CONSUMER_GROUP_HEARTBEAT,
            0,
            group_id="g",
            member_id="m",
            member_epoch=0,
            instance_id=None,
            rack_id=None,
            rebalance_timeout=60_000,
            subscribed_topic_names=["t"],
            server_assignor=None,
            topic_partitions=[],
        )
        assert heartbeat.error_code == ErrorCode.coordinator_not_available
        assert "the members of all groups" in heartbeat.error_message
        join = await kafka.call(
            ApiKey.JOIN_GROUP,
            3,
            group_id="g",
            session_timeout=10_000,
            rebalance_timeout=60_000,
            member_id="",
            protocol_type="consumer",
            protocols=[{"name": "range", "metadata": b"m"}],
        )
        assert join.error_code == ErrorCode.coordinator_not_available
    finally:
        await kafka.close()
        await client.channel.close()
