from uuid import UUID

import grpc.aio
import pytest

from logserver.config import Address
from logserver.journal import GROUPS_TOPIC
from logserver.server import Server
from logwire.v1 import topics_pb2 as pb
from tests.server.conftest import StartServer
from tests.server.wire import Client, batch, code, error_of


async def refusal(call: object) -> str:
    """The code with which the call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call  # type: ignore[misc]
    error = error_of(refused.value)
    assert error.message
    assert error.remedy
    return code(error)


async def test_a_topic_is_created_listed_described_and_deleted(client: Client) -> None:
    topic_id = await client.create("flights", 3, retention_ms="1000")
    [listed] = (await client.topics.ListTopics(pb.ListTopicsRequest())).topics
    assert (listed.topic, UUID(bytes=listed.topic_id), listed.partitions, listed.internal) == (
        "flights",
        topic_id,
        3,
        False,
    )
    await client.produce("flights", batch(b"a", b"b"), partition=1)
    described = await client.topics.DescribeTopic(pb.DescribeTopicRequest(topic="flights"))
    assert [part.high_watermark for part in described.partitions] == [0, 2, 0]
    assert described.partitions[1].size_bytes > 0
    settings = {entry.name: entry for entry in described.config}
    assert settings["retention.ms"].value == "1000"
    assert not settings["retention.ms"].is_default
    assert settings["durability"].value == "durable"
    assert all(entry.documentation for entry in described.config)
    await client.topics.DeleteTopic(pb.DeleteTopicRequest(topic="flights"))
    assert not (await client.topics.ListTopics(pb.ListTopicsRequest())).topics


async def test_metadata_names_the_leader_of_every_partition(client: Client, server: Server) -> None:
    await client.create("t", 2)
    metadata = await client.topics.GetMetadata(pb.GetMetadataRequest())
    [node] = metadata.nodes
    assert (node.host, node.port) == server.grpc_address
    [topic] = metadata.topics
    assert [part.leader_node_id for part in topic.partitions] == [node.node_id] * 2
    assert topic.message_bytes_max == 1_048_588
    assert metadata.cluster_id


async def test_metadata_tells_what_is_advertised(start_server: StartServer) -> None:
    server = await start_server(advertise=Address("logs.example", 17070))
    client = Client(server.grpc_address)
    [node] = (await client.topics.GetMetadata(pb.GetMetadataRequest())).nodes
    assert (node.host, node.port) == ("logs.example", 17070)
    await client.channel.close()


async def test_metadata_creates_what_is_missing_when_asked_to(client: Client) -> None:
    [missing] = (await client.topics.GetMetadata(pb.GetMetadataRequest(topics=["t"]))).topics
    assert code(missing.error) == "UNKNOWN_TOPIC_OR_PARTITION"
    asked = pb.GetMetadataRequest(topics=["t", "bad name"], auto_create=True)
    created, refused = (await client.topics.GetMetadata(asked)).topics
    assert len(created.partitions) == 1
    assert code(refused.error) == "INVALID_TOPIC"


async def test_creation_on_demand_uses_the_servers_number_of_partitions_or_is_off(start_server: StartServer) -> None:
    server = await start_server(default_partitions=4)
    client = Client(server.grpc_address)
    [topic] = (await client.topics.GetMetadata(pb.GetMetadataRequest(topics=["t"], auto_create=True))).topics
    assert len(topic.partitions) == 4
    await client.channel.close()


async def test_metadata_does_not_create_where_creation_is_off(start_server: StartServer) -> None:
    server = await start_server(auto_create_topics=False)
    client = Client(server.grpc_address)
    [topic] = (await client.topics.GetMetadata(pb.GetMetadataRequest(topics=["t"], auto_create=True))).topics
    assert code(topic.error) == "UNKNOWN_TOPIC_OR_PARTITION"
    await client.channel.close()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "ü", "a" * 250, "a b", "nul\0", "__own"])
async def test_a_bad_name_is_refused(client: Client, name: str) -> None:
    assert await refusal(client.topics.CreateTopic(pb.CreateTopicRequest(topic=name))) == "INVALID_TOPIC"


async def test_names_that_cannot_be_told_apart_are_one(client: Client) -> None:
    await client.create("a.b")
    assert await refusal(client.topics.CreateTopic(pb.CreateTopicRequest(topic="a.b"))) == "TOPIC_ALREADY_EXISTS"
    collides = await refusal(client.topics.CreateTopic(pb.CreateTopicRequest(topic="a_b")))
    assert collides in ("TOPIC_ALREADY_EXISTS", "INVALID_TOPIC")


@pytest.mark.parametrize("partitions", [-1, 10_001, 2**31 - 1, -(2**31)])
async def test_an_absurd_number_of_partitions_is_refused(client: Client, partitions: int) -> None:
    request = pb.CreateTopicRequest(topic="t", partitions=partitions)
    assert await refusal(client.topics.CreateTopic(request)) == "INVALID_PARTITIONS"
    assert not (await client.topics.ListTopics(pb.ListTopicsRequest())).topics


async def test_a_setting_that_is_unknown_or_has_a_bad_value_is_refused(client: Client) -> None:
    for config in ({"retention.days": "1"}, {"retention.ms": "soon"}):
        request = pb.CreateTopicRequest(topic="t", config=config)
        assert await refusal(client.topics.CreateTopic(request)) == "INVALID_CONFIG"


async def test_altering_adds_partitions_and_changes_settings(client: Client) -> None:
    await client.create("t", 1, retention_ms="1000", segment_ms="5000")
    await client.topics.AlterTopic(
        pb.AlterTopicRequest(topic="t", partitions=3, set_config={"retention.ms": "2000"}, unset_config=["segment.ms"])
    )
    described = await client.topics.DescribeTopic(pb.DescribeTopicRequest(topic="t"))
    assert len(described.partitions) == 3
    settings = {entry.name: entry for entry in described.config}
    assert settings["retention.ms"].value == "2000"
    assert settings["segment.ms"].is_default
    [ack] = await client.produce("t", batch(b"a"), partition=2)
    assert ack.base_offset == 0


async def test_a_bound_that_is_altered_holds_from_the_next_batch_on(client: Client) -> None:
    await client.produce("t", batch(b"x" * 1000))
    await client.topics.AlterTopic(pb.AlterTopicRequest(topic="t", set_config={"max.message.bytes": "500"}))
    [ack] = await client.produce("t", batch(b"x" * 1000))
    assert code(ack.error) == "MESSAGE_TOO_LARGE"


async def test_partitions_are_never_taken_away(client: Client) -> None:
    await client.create("t", 3)
    for partitions in (1, 3, -1):
        request = pb.AlterTopicRequest(topic="t", partitions=partitions, set_config={"retention.ms": "1"})
        assert await refusal(client.topics.AlterTopic(request)) == "INVALID_PARTITIONS"
    described = await client.topics.DescribeTopic(pb.DescribeTopicRequest(topic="t"))
    assert {entry.name: entry.is_default for entry in described.config}["retention.ms"]


async def test_what_is_asked_of_an_unknown_topic_is_refused(client: Client) -> None:
    for call in (
        client.topics.DescribeTopic(pb.DescribeTopicRequest(topic="t")),
        client.topics.DeleteTopic(pb.DeleteTopicRequest(topic="t")),
        client.topics.AlterTopic(pb.AlterTopicRequest(topic="t", partitions=2)),
    ):
        assert await refusal(call) == "UNKNOWN_TOPIC_OR_PARTITION"


async def test_the_servers_own_topics_are_hidden_and_safe(client: Client) -> None:
    listed = (await client.topics.ListTopics(pb.ListTopicsRequest(include_internal=True))).topics
    assert [(topic.topic, topic.internal) for topic in listed] == [(GROUPS_TOPIC, True)]
    assert not (await client.topics.ListTopics(pb.ListTopicsRequest())).topics
    assert not (await client.topics.GetMetadata(pb.GetMetadataRequest())).topics
    [ack] = await client.produce(GROUPS_TOPIC, batch(b"forged"))
    assert code(ack.error) == "INVALID_TOPIC"
    assert await refusal(client.topics.DeleteTopic(pb.DeleteTopicRequest(topic=GROUPS_TOPIC))) == "INVALID_TOPIC"
    alter = pb.AlterTopicRequest(topic=GROUPS_TOPIC, set_config={"retention.ms": "1"})
    assert await refusal(client.topics.AlterTopic(alter)) == "INVALID_TOPIC"
    assert code((await client.fetch(GROUPS_TOPIC)).error) == ""


async def test_a_topic_made_again_starts_afresh(client: Client) -> None:
    old_id = await client.create("t")
    await client.produce("t", batch(b"old"))
    await client.topics.DeleteTopic(pb.DeleteTopicRequest(topic="t"))
    assert await client.create("t") != old_id
    [ack] = await client.produce("t", batch(b"new"))
    assert ack.base_offset == 0
