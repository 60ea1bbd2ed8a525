"""The groups door: thin, so it is tried for what it translates. What groups do is tested in tests/consumer_groups."""

import asyncio
import threading
from pathlib import Path
from uuid import uuid4

import grpc.aio
import pytest

from logserver.server import Server
from logstore.linux_disk import LinuxDisk
from logwire.v1 import groups_pb2 as pb
from logwire.v1 import topics_pb2
from tests.server.conftest import StartServer
from tests.server.wire import Client, batch, code, error_of


class Member:
    """A member of group g that holds whatever it is given."""

    def __init__(self, client: Client, *topics: str) -> None:
        self.client = client
        self.member_id = str(uuid4())
        self.epoch = 0
        self.topics = topics
        self.assignment = pb.Assignment()

    async def heartbeat(self, wait_ms: int = 0) -> pb.HeartbeatResponse:
        request = pb.HeartbeatRequest(
            group="g",
            member_id=self.member_id,
            member_epoch=self.epoch,
            subscription=pb.Subscription(topics=self.topics),
            owned=self.assignment,
            wait_ms_max=wait_ms,
        )
        response = await self.client.groups.Heartbeat(request, timeout=10)
        self.epoch = response.member_epoch
        if response.HasField("assignment"):
            self.assignment = response.assignment
        return response

    async def until_assigned(self, count: int) -> list[int]:
        async with asyncio.timeout(10):
            while sum(len(part.partitions) for part in self.assignment.topic_partitions) != count:
                await self.heartbeat(wait_ms=1000)
        await self.heartbeat()  # Says what it holds now, so that others get what it gave up.
        return sorted(partition for part in self.assignment.topic_partitions for partition in part.partitions)

    async def commit(self, topic: str, partition: int, offset: int) -> str:
        request = pb.CommitOffsetsRequest(
            group="g",
            member_id=self.member_id,
            member_epoch=self.epoch,
            offsets=[pb.CommittedOffset(topic=topic, partition=partition, offset=offset, metadata="so far")],
        )
        [answer] = (await self.client.groups.CommitOffsets(request)).offsets
        return code(answer.error)


async def committed(client: Client, group: str = "g") -> dict[tuple[str, int], int]:
    fetched = await client.groups.FetchOffsets(pb.FetchOffsetsRequest(group=group))
    return {(offset.topic, offset.partition): offset.offset for offset in fetched.offsets}


async def test_a_member_joins_commits_and_is_described(client: Client) -> None:
    topic_id = (await client.create("t", 2)).bytes
    await client.produce("t", batch(b"a", b"b"))
    member = Member(client, "t")
    assert await member.until_assigned(2) == [0, 1]
    assert [part.topic_id for part in member.assignment.topic_partitions] == [topic_id]
    assert await member.commit("t", 0, 1) == ""
    assert await member.commit("t", 7, 1) == "UNKNOWN_TOPIC_OR_PARTITION"
    group = await client.groups.DescribeGroup(pb.DescribeGroupRequest(group="g"))
    assert (group.state, group.assignor) == ("Stable", "uniform")
    [described] = group.members
    assert (described.member_id, list(described.subscribed_topics)) == (member.member_id, ["t"])
    assert described.client_host.startswith("ipv4:127.0.0.1")
    lags = {part.partition: (part.committed_offset, part.lag_records) for part in group.partitions}
    assert lags == {0: (1, 1), 1: (-1, 0)}
    [listed] = (await client.groups.ListGroups(pb.ListGroupsRequest())).groups
    assert (listed.group, listed.state, listed.members_count) == ("g", "Stable", 1)


async def test_a_lag_that_lies_in_a_sealed_segment_is_looked_up_off_the_loop(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart, when its index has to be read from the disk."""
    server = await start_server()
    client = Client(server.grpc_address)
    await client.create("t", segment_bytes="1048576", max_message_bytes="700000")
    for _ in range(3):
        await client.produce("t", batch(bytes(600_000)))
    commit = pb.CommitOffsetsRequest(
        group="g", member_epoch=-1, offsets=[pb.CommittedOffset(topic="t", partition=0, offset=0)]
    )
    await client.groups.CommitOffsets(commit)
    before = await client.groups.DescribeGroup(pb.DescribeGroupRequest(group="g"))
    await client.channel.close()
    await server.stop()

    read_by: list[int] = []
    read_array = LinuxDisk.read_array

    def read_and_note(disk: LinuxDisk, path: Path) -> bytes:
        read_by.append(threading.get_ident())
        return read_array(disk, path)

    client = Client((await start_server()).grpc_address)
    await client.fetch("t", 3)  # Which opens the log.
    monkeypatch.setattr(LinuxDisk, "read_array", read_and_note)
    after = await client.groups.DescribeGroup(pb.DescribeGroupRequest(group="g"))
    assert read_by
    assert threading.get_ident() not in read_by
    [lag_before], [lag_after] = before.partitions, after.partitions
    assert (lag_before.lag_records, lag_after.lag_records) == (3, 3)
    assert lag_after.lag_seconds >= lag_before.lag_seconds > 0
    await client.channel.close()


async def test_a_held_heartbeat_is_answered_when_there_is_news(client: Client) -> None:
    await client.create("t", 2)
    first, second = Member(client, "t"), Member(client, "t")
    await first.until_assigned(2)
    held = asyncio.create_task(first.heartbeat(wait_ms=9_000))
    await second.heartbeat()
    async with asyncio.timeout(5):
        assert (await held).HasField("assignment")
    assert await first.until_assigned(1) != await second.until_assigned(1)


async def test_a_heartbeat_that_comes_after_a_newer_one_frees_nothing(client: Client) -> None:
    await client.create("t", 2)
    member, other = Member(client, "t"), Member(client, "t")
    join = pb.HeartbeatRequest(
        group="g",
        member_id=member.member_id,
        subscription=pb.Subscription(topics=["t"]),
        owned=pb.Assignment(),
        number=1,
    )
    joined = await client.groups.Heartbeat(join)
    await client.groups.Heartbeat(
        pb.HeartbeatRequest(
            group="g",
            member_id=member.member_id,
            member_epoch=joined.member_epoch,
            owned=joined.assignment,
            number=2,
        )
    )
    async with asyncio.timeout(10):
        while (await client.groups.DescribeGroup(pb.DescribeGroupRequest(group="g"))).assignment_epoch < 2:
            await other.heartbeat(wait_ms=50)
    again = await client.groups.Heartbeat(join)
    assert again.member_epoch == joined.member_epoch
    await other.heartbeat()
    assert not other.assignment.topic_partitions


async def test_a_commit_that_comes_after_a_newer_one_is_refused(client: Client) -> None:
    await client.create("t")
    member = Member(client, "t")
    await member.until_assigned(1)
    request = pb.CommitOffsetsRequest(group="g", member_id=member.member_id, member_epoch=member.epoch, number=2)
    request.offsets.add(topic="t", partition=0, offset=1)
    await client.groups.CommitOffsets(request)
    request.number = 1
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.groups.CommitOffsets(request)
    assert code(error_of(refused.value)) == "STALE_MEMBER_EPOCH"


async def test_a_member_of_an_older_epoch_cannot_commit(client: Client) -> None:
    await client.create("t")
    member = Member(client, "t")
    await member.until_assigned(1)
    member.epoch += 5
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await member.commit("t", 0, 1)
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert code(error_of(refused.value)) == "STALE_MEMBER_EPOCH"


async def test_committed_offsets_and_members_survive_a_restart(start_server: StartServer) -> None:
    server = await start_server()
    client = Client(server.grpc_address)
    await client.create("t")
    await client.produce("t", batch(b"a", b"b"))
    member = Member(client, "t")
    await member.until_assigned(1)
    assert await member.commit("t", 0, 2) == ""
    await client.channel.close()
    await server.stop()

    again = await start_server()
    client = member.client = Client(again.grpc_address)
    assert await committed(client) == {("t", 0): 2}
    await member.heartbeat()
    assert await member.until_assigned(1) == [0]
    assert await member.commit("t", 0, 1) == ""
    await client.channel.close()


async def test_offsets_are_asked_for_by_partition(client: Client) -> None:
    await client.create("t", 3)
    await client.produce("t", batch(b"a"), partition=1)
    request = pb.CommitOffsetsRequest(
        group="g", member_epoch=-1, offsets=[pb.CommittedOffset(topic="t", partition=1, offset=1, metadata="m")]
    )
    [answer] = (await client.groups.CommitOffsets(request)).offsets
    assert code(answer.error) == ""
    asked = pb.FetchOffsetsRequest(group="g", topic_partitions=[pb.TopicPartitions(topic="t", partitions=[0, 1])])
    offsets = (await client.groups.FetchOffsets(asked)).offsets
    assert [(offset.partition, offset.offset, offset.metadata) for offset in offsets] == [(0, -1, ""), (1, 1, "m")]
    assert all(len(offset.topic_id) == 16 for offset in offsets)


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (pb.SeekTarget(offset=3), 3),
        (pb.SeekTarget(timestamp_ms=2000), 2),
        (pb.SeekTarget(beginning=True), 0),
        (pb.SeekTarget(end=True), 4),
        (pb.SeekTarget(shift_by=-1), 1),
    ],
)
async def test_a_group_is_sent_wherever_the_target_says(client: Client, target: pb.SeekTarget, expected: int) -> None:
    await client.produce("t", *[batch(b"x", timestamp_ms=1000 * i) for i in range(4)])
    at_two = pb.CommitOffsetsRequest(
        group="g", member_epoch=-1, offsets=[pb.CommittedOffset(topic="t", partition=0, offset=2)]
    )
    await client.groups.CommitOffsets(at_two)
    dry = await client.groups.SeekGroup(pb.SeekGroupRequest(group="g", topic="t", target=target, dry_run=True))
    assert await committed(client) == {("t", 0): 2}
    sought = await client.groups.SeekGroup(pb.SeekGroupRequest(group="g", topic="t", target=target))
    assert dry.partitions == sought.partitions
    [partition] = sought.partitions
    assert (partition.old_offset, partition.new_offset) == (2, expected)
    assert await committed(client) == {("t", 0): expected}


async def test_senseless_requests_are_refused_with_their_codes(client: Client) -> None:
    await client.create("t")
    for call, expected in (
        (client.groups.SeekGroup(pb.SeekGroupRequest(group="g", topic="t")), "INVALID_REQUEST"),
        (client.groups.CommitOffsets(pb.CommitOffsetsRequest(group="g")), "INVALID_REQUEST"),
        (
            client.groups.CommitOffsets(
                pb.CommitOffsetsRequest(
                    group="g", member_epoch=-1, offsets=[pb.CommittedOffset(topic="t", topic_id=b"short")]
                )
            ),
            "INVALID_REQUEST",
        ),
        (client.groups.DescribeGroup(pb.DescribeGroupRequest(group="g")), "GROUP_ID_NOT_FOUND"),
        (client.groups.DeleteGroup(pb.DeleteGroupRequest(group="g")), "GROUP_ID_NOT_FOUND"),
        (client.groups.Heartbeat(pb.HeartbeatRequest(member_id="m")), "INVALID_GROUP_ID"),
        (
            client.groups.Heartbeat(pb.HeartbeatRequest(group="g", member_id="m", member_epoch=-7)),
            "INVALID_REQUEST",
        ),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call
        error = error_of(refused.value)
        assert code(error) == expected
        assert error.remedy


async def test_a_group_is_deleted_and_a_topics_offsets_go_with_it(client: Client) -> None:
    await client.produce("t", batch(b"a"))
    commit = pb.CommitOffsetsRequest(
        group="g", member_epoch=-1, offsets=[pb.CommittedOffset(topic="t", partition=0, offset=1)]
    )
    await client.groups.CommitOffsets(commit)
    await client.topics.DeleteTopic(topics_pb2.DeleteTopicRequest(topic="t"))
    await client.produce("t", batch(b"b"))
    # Nothing is left of the group but its name, so it is gone as well.
    assert not (await client.groups.ListGroups(pb.ListGroupsRequest())).groups
    await client.groups.CommitOffsets(commit)
    assert await committed(client) == {("t", 0): 1}
    await client.groups.DeleteGroup(pb.DeleteGroupRequest(group="g"))
    assert not (await client.groups.ListGroups(pb.ListGroupsRequest())).groups


async def test_a_stopping_server_answers_the_heartbeats_it_holds(start_server: StartServer) -> None:
    server: Server = await start_server()
    client = Client(server.grpc_address)
    await client.create("t")
    member = Member(client, "t")
    await member.until_assigned(1)
    held = asyncio.create_task(member.heartbeat(wait_ms=9_000))
    await client.topics.ListTopics(topics_pb2.ListTopicsRequest())
    async with asyncio.timeout(5):
        await server.stop()
        await asyncio.gather(held, return_exceptions=True)
    await client.channel.close()
