"""GroupService: membership, committed offsets, and sending a group elsewhere."""

from collections.abc import Iterable
from uuid import UUID

from consumer_groups import requests as domain
from logserver.broker import Broker
from logserver.checks import check_count
from logserver.context import Operation, RequestContext, Resource, authorize
from logserver.errors import InvalidRequest
from logserver.status import describe
from logserver.topics import parse_topic_id
from logwire.v1 import groups_pb2 as pb

PARTITIONS_PER_REQUEST_MAX = 20_000


class GroupDoor:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._groups = broker.groups

    async def heartbeat(self, request: pb.HeartbeatRequest, context: RequestContext) -> pb.HeartbeatResponse:
        authorize(context, Operation.READ, Resource.GROUP, request.group)
        wait_ms = min(request.wait_ms_max, self._broker.config.fetch_wait_ms_max)
        reply = await self._groups.heartbeat(
            domain.HeartbeatRequest(
                group=request.group,
                member_id=request.member_id,
                member_epoch=request.member_epoch,
                instance_id=request.instance_id,
                rebalance_timeout_ms=request.rebalance_timeout_ms,
                subscription=tuple(request.subscription.topics) if request.HasField("subscription") else None,
                assignor=request.assignor,
                owned=_from_wire(request.owned.topic_partitions) if request.HasField("owned") else None,
                client_id=request.client_id or context.client_id,
                client_host=context.peer,
                number=request.number,
            ),
            context.remaining_ms(self._broker.clock, wait_ms),
        )
        return pb.HeartbeatResponse(
            member_id=reply.member_id,
            member_epoch=reply.member_epoch,
            heartbeat_interval_ms=reply.heartbeat_interval_ms,
            session_timeout_ms=reply.session_timeout_ms,
            assignment=None if reply.assignment is None else _assignment(reply.assignment),
        )

    async def commit_offsets(
        self, request: pb.CommitOffsetsRequest, context: RequestContext
    ) -> pb.CommitOffsetsResponse:
        authorize(context, Operation.READ, Resource.GROUP, request.group)
        check_count("offsets", len(request.offsets), PARTITIONS_PER_REQUEST_MAX)
        errors = await self._groups.commit_offsets(
            request.group,
            domain.Committer(request.member_id, request.member_epoch, request.number),
            [
                domain.OffsetCommit(
                    topic=offset.topic,
                    partition=offset.partition,
                    offset=offset.offset,
                    metadata=offset.metadata,
                    topic_id=_topic_id(offset.topic_id),
                )
                for offset in request.offsets
            ],
        )
        response = pb.CommitOffsetsResponse(offsets=request.offsets)
        for offset, error in zip(response.offsets, errors, strict=True):
            offset.ClearField("error")
            if error is not None:
                offset.error.CopyFrom(describe(error))
        return response

    async def fetch_offsets(self, request: pb.FetchOffsetsRequest, context: RequestContext) -> pb.FetchOffsetsResponse:
        authorize(context, Operation.DESCRIBE, Resource.GROUP, request.group)
        asked = _from_wire(request.topic_partitions)
        committed = await self._groups.fetch_offsets(request.group, asked or None)
        return pb.FetchOffsetsResponse(
            offsets=[
                pb.CommittedOffset(
                    topic=offset.topic,
                    topic_id=offset.topic_id.bytes,
                    partition=offset.partition,
                    offset=offset.offset,
                    metadata=offset.metadata,
                )
                for offset in committed
            ]
        )

    async def list_groups(self, request: pb.ListGroupsRequest, context: RequestContext) -> pb.ListGroupsResponse:
        authorize(context, Operation.DESCRIBE, Resource.CLUSTER, "")
        return pb.ListGroupsResponse(
            groups=[
                pb.GroupListing(group=listed.group, state=listed.state.value, members_count=listed.members_count)
                for listed in self._groups.list_groups()
            ]
        )

    async def describe_group(
        self, request: pb.DescribeGroupRequest, context: RequestContext
    ) -> pb.DescribeGroupResponse:
        authorize(context, Operation.DESCRIBE, Resource.GROUP, request.group)
        group = await self._groups.describe_group(request.group)
        return pb.DescribeGroupResponse(
            group=group.group,
            state=group.state.value,
            group_epoch=group.group_epoch,
            assignment_epoch=group.assignment_epoch,
            assignor=group.assignor,
            members=[_member(member) for member in group.members],
            partitions=[_lag(partition) for partition in group.partitions],
        )

    async def delete_group(self, request: pb.DeleteGroupRequest, context: RequestContext) -> pb.DeleteGroupResponse:
        authorize(context, Operation.DELETE, Resource.GROUP, request.group)
        await self._groups.delete_group(request.group)
        return pb.DeleteGroupResponse()

    async def seek_group(self, request: pb.SeekGroupRequest, context: RequestContext) -> pb.SeekGroupResponse:
        authorize(context, Operation.ALTER, Resource.GROUP, request.group)
        check_count("partitions", len(request.partitions), PARTITIONS_PER_REQUEST_MAX, least=0)
        sought = await self._groups.seek(
            request.group, request.topic, tuple(request.partitions), _target(request.target), request.dry_run
        )
        return pb.SeekGroupResponse(
            partitions=[
                pb.SoughtPartition(
                    topic=partition.topic,
                    partition=partition.partition,
                    old_offset=partition.old_offset,
                    new_offset=partition.new_offset,
                )
                for partition in sought
            ]
        )


def _target(target: pb.SeekTarget) -> domain.SeekTarget:
    match target.WhichOneof("target"):
        case "offset":
            return domain.SeekTarget(offset=target.offset)
        case "timestamp_ms":
            return domain.SeekTarget(timestamp_ms=target.timestamp_ms)
        case "beginning" if target.beginning:
            return domain.SeekTarget(beginning=True)
        case "end" if target.end:
            return domain.SeekTarget(end=True)
        case "shift_by":
            return domain.SeekTarget(shift_by=target.shift_by)
        case _:
            raise InvalidRequest(
                "the seek names no target", remedy="Name an offset, a time, the beginning, the end, or a shift."
            )


def _topic_id(topic_id: bytes) -> UUID | None:
    """None for one that is not given. Raises InvalidRequest."""
    return parse_topic_id(topic_id) if topic_id else None


def _from_wire(parts: Iterable[pb.TopicPartitions]) -> tuple[domain.TopicPartitions, ...]:
    found = tuple(
        domain.TopicPartitions(part.topic, _topic_id(part.topic_id), tuple(part.partitions)) for part in parts
    )
    check_count("partitions", sum(len(part.partitions) for part in found), PARTITIONS_PER_REQUEST_MAX, least=0)
    return found


def _assignment(parts: Iterable[domain.TopicPartitions]) -> pb.Assignment:
    return pb.Assignment(
        topic_partitions=[
            pb.TopicPartitions(
                topic=part.topic,
                topic_id=b"" if part.topic_id is None else part.topic_id.bytes,
                partitions=part.partitions,
            )
            for part in parts
        ]
    )


def _member(member: domain.MemberDescription) -> pb.MemberDescription:
    return pb.MemberDescription(
        member_id=member.member_id,
        instance_id=member.instance_id,
        client_id=member.client_id,
        client_host=member.client_host,
        member_epoch=member.member_epoch,
        state=member.state,
        subscribed_topics=member.subscribed_topics,
        assignment=_assignment(member.assignment),
        target=_assignment(member.target),
    )


def _lag(partition: domain.PartitionLag) -> pb.PartitionLag:
    return pb.PartitionLag(
        topic=partition.topic,
        partition=partition.partition,
        committed_offset=partition.committed_offset,
        log_start_offset=partition.log_start_offset,
        high_watermark=partition.high_watermark,
        lag_records=partition.lag_records,
        lag_seconds=partition.lag_seconds,
        member_id=partition.member_id,
    )
