import asyncio
from pathlib import Path
from uuid import UUID

import grpc.aio
import pytest

from logserver.config import Address
from logserver.journal import GROUPS_TOPIC
from logserver.server import Server
from logserver.topics import REQUEST_OVERHEAD_BYTES
from logstore.errors import StorageFull
from logstore.log import Hole, Log
from logwire.v1 import topics_pb2 as pb
from tests.server.conftest import StartServer, running
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


async def test_names_that_metrics_cannot_tell_apart_are_refused(client: Client) -> None:
    await client.create("a.b")
    assert await refusal(client.topics.CreateTopic(pb.CreateTopicRequest(topic="a.b"))) == "TOPIC_ALREADY_EXISTS"
    assert await refusal(client.topics.CreateTopic(pb.CreateTopicRequest(topic="a_b"))) == "INVALID_TOPIC"


@pytest.mark.parametrize("partitions", [-1, 10_001, 2**31 - 1, -(2**31)])
async def test_an_absurd_number_of_partitions_is_refused(client: Client, partitions: int) -> None:
    request = pb.CreateTopicRequest(topic="t", partitions=partitions)
    assert await refusal(client.topics.CreateTopic(request)) == "INVALID_PARTITIONS"
    assert not (await client.topics.ListTopics(pb.ListTopicsRequest())).topics


async def test_a_setting_that_is_unknown_or_has_a_bad_value_is_refused(client: Client) -> None:
    for config in ({"retention.days": "1"}, {"retention.ms": "soon"}):
        request = pb.CreateTopicRequest(topic="t", config=config)
        assert await refusal(client.topics.CreateTopic(request)) == "INVALID_CONFIG"


async def test_messages_larger_than_a_request_may_be_are_not_allowed(start_server: StartServer) -> None:
    server = await start_server(request_bytes_max=2 << 20)
    client = Client(server.grpc_address)
    most = (2 << 20) - REQUEST_OVERHEAD_BYTES
    await client.create("most", max_message_bytes=str(most))
    config = {"max.message.bytes": str(most + 1)}
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.topics.CreateTopic(pb.CreateTopicRequest(topic="t", config=config))
    error = error_of(refused.value)
    assert code(error) == "INVALID_CONFIG"
    assert str(most) in error.message
    assert "--request-bytes-max" in error.remedy
    alter = client.topics.AlterTopic(pb.AlterTopicRequest(topic="most", set_config=config))
    assert await refusal(alter) == "INVALID_CONFIG"
    # A batch as large as is allowed does arrive, whatever the topic is called.
    name = "n" * 249
    await client.create(name, max_message_bytes=str(most))
    sent = batch(b"x" * (most - len(batch(b"")) - 6))
    assert most - 6 <= len(sent) <= most
    assert code((await client.produce(name, sent))[0].error) == ""
    await client.channel.close()


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


# Records deleted.


def before(topic: str, **offsets: int) -> pb.DeleteRecordsRequest:
    """p0=3: those of partition 0 before offset 3."""
    partitions = [
        pb.RecordsToDelete(partition=int(name.removeprefix("p")), before_offset=offset)
        for name, offset in offsets.items()
    ]
    return pb.DeleteRecordsRequest(topic=topic, partitions=partitions)


async def starts(client: Client, topic: str) -> list[int]:
    described = await client.topics.DescribeTopic(pb.DescribeTopicRequest(topic=topic))
    return [part.log_start_offset for part in described.partitions]


async def test_records_before_an_offset_are_gone_and_stay_gone_after_a_restart(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as server:
        client = Client(server.grpc_address)
        await client.create("t", 3)
        for partition in range(3):
            await client.produce("t", batch(b"a", b"b", b"c", b"d"), partition=partition)
        deleted = (await client.topics.DeleteRecords(before("t", p2=3, p0=-1))).partitions
        assert [(part.partition, part.log_start_offset) for part in deleted] == [(2, 3), (0, 4)]
        assert code((await client.fetch("t", 2, partition=2)).error) == "OFFSET_OUT_OF_RANGE"
        [record] = (await client.fetch("t", 3, partition=2, decode=True)).records
        assert (record.offset, record.value) == (3, b"d")
        await client.channel.close()
    async with running(tmp_path / "data") as server:
        client = Client(server.grpc_address)
        assert await starts(client, "t") == [4, 0, 3]
        [ack] = await client.produce("t", batch(b"next"))
        assert ack.base_offset == 4
        await client.channel.close()


async def test_a_log_start_never_moves_back(client: Client) -> None:
    await client.produce("t", batch(b"a", b"b", b"c"))
    for offset in (2, 1, 0):
        [deleted] = (await client.topics.DeleteRecords(before("t", p0=offset))).partitions
        assert deleted.log_start_offset == 2


async def test_when_one_partition_is_refused_nothing_is_deleted_in_any(client: Client, server: Server) -> None:
    await client.create("t", 2)
    for partition in range(2):
        await client.produce("t", batch(b"a", b"b"), partition=partition)
    for offset in (3, -2, 2**63 - 1):
        request = before("t", p0=1, p1=offset)
        with pytest.raises(grpc.aio.AioRpcError, match="partition 1 of topic 't', which goes from 0 to 2") as refused:
            await client.topics.DeleteRecords(request)
        assert code(error_of(refused.value)) == "OFFSET_OUT_OF_RANGE"
    for refused_partition, expected in ((2, "UNKNOWN_TOPIC_OR_PARTITION"), (-1, "INVALID_REQUEST")):
        request = pb.DeleteRecordsRequest(
            topic="t",
            partitions=[
                pb.RecordsToDelete(partition=0, before_offset=1),
                pb.RecordsToDelete(partition=refused_partition, before_offset=0),
            ],
        )
        assert await refusal(client.topics.DeleteRecords(request)) == expected
    server.broker.store.log("t", 1).holes = (Hole(1, 2, "rot"),)
    assert await refusal(client.topics.DeleteRecords(before("t", p0=1, p1=1))) == "DATA_LOSS"
    assert await starts(client, "t") == [0, 0]


async def test_records_of_a_topic_that_is_compacted_only_are_not_deleted_by_offset(client: Client) -> None:
    await client.create("t", 1, cleanup_policy="compact")
    with pytest.raises(grpc.aio.AioRpcError, match=r"cleanup\.policy = compact") as refused:
        await client.topics.DeleteRecords(before("t", p0=-1))
    assert code(error_of(refused.value)) == "POLICY_VIOLATION"
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "compact,delete" in error_of(refused.value).remedy


async def test_records_of_an_unknown_topic_or_of_one_of_the_servers_own_are_not_deleted(client: Client) -> None:
    assert await refusal(client.topics.DeleteRecords(before("t", p0=0))) == "UNKNOWN_TOPIC_OR_PARTITION"
    assert await refusal(client.topics.DeleteRecords(before(GROUPS_TOPIC, p0=-1))) == "INVALID_TOPIC"


@pytest.mark.parametrize(
    ("partitions", "expected"),
    [(range(0), "INVALID_REQUEST"), (range(10_001), "REQUEST_TOO_LARGE"), ((0, 1, 0), "INVALID_REQUEST")],
    ids=["none", "too many", "one twice"],
)
async def test_partitions_are_named_once_each_and_not_too_many(
    client: Client, partitions: range, expected: str
) -> None:
    await client.create("t", 2)
    request = pb.DeleteRecordsRequest(topic="t", partitions=[pb.RecordsToDelete(partition=n) for n in partitions])
    assert await refusal(client.topics.DeleteRecords(request)) == expected


async def test_whoever_deletes_on_a_full_disk_is_told(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    await client.produce("t", batch(b"a", b"b", b"c"))

    def full(self: Log, synced_offset: int) -> None:
        raise StorageFull("no room", remedy="Free space.")

    with monkeypatch.context() as patched:
        patched.setattr(Log, "store_snapshot", full)
        assert await refusal(client.topics.DeleteRecords(before("t", p0=2))) == "STORAGE_FULL"
    [deleted] = (await client.topics.DeleteRecords(before("t", p0=2))).partitions
    assert deleted.log_start_offset == 2


async def test_a_deletion_is_answered_by_its_deadline_and_can_be_asked_for_again(
    client: Client, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.produce("t", batch(b"a", b"b", b"c"))
    with monkeypatch.context() as patched:
        patched.setattr(server.broker.store, "delete_records", lambda *request: None)
        patched.setattr(server.broker.topics, "_timeout_ms", 1)
        assert await refusal(client.topics.DeleteRecords(before("t", p0=2))) == "REQUEST_TIMED_OUT"
    [deleted] = (await client.topics.DeleteRecords(before("t", p0=2))).partitions
    assert deleted.log_start_offset == 2


async def test_many_delete_at_the_same_time(client: Client) -> None:
    await client.create("t", 20)
    for partition in range(20):
        await client.produce("t", batch(b"a", b"b", b"c"), partition=partition)
    requests = [before("t", **{f"p{n}": 1 + n % 3}) for n in range(20)]
    answers = await asyncio.gather(*map(client.topics.DeleteRecords, requests))
    assert [part.log_start_offset for answer in answers for part in answer.partitions] == [1 + n % 3 for n in range(20)]
    assert await starts(client, "t") == [1 + n % 3 for n in range(20)]
