"""Members of groups: JoinGroup, SyncGroup, Heartbeat and LeaveGroup of the classic protocol, ConsumerGroupHeartbeat of
the consumer group protocol (KIP-848). What is decided, the coordinator decides.
"""

from typing import Any
from uuid import uuid4

from kio.schema.errors import ErrorCode

from consumer_groups.classic.requests import JoinRequest, Leaver, SyncRequest
from consumer_groups.coordinator import GroupCoordinator
from consumer_groups.errors import MemberIdRequired
from consumer_groups.member import MemberProtocol
from consumer_groups.requests import JOIN_EPOCH, HeartbeatRequest, TopicPartitions
from logserver.context import Operation, RequestContext, Resource, authorize
from logserver.errors import InvalidRequest
from logserver.kafka.errors import InvalidRegularExpression, error_code, refusal
from logserver.kafka.messages import Fields, get, milliseconds
from logstore.errors import ExplainedError

NO_GENERATION = -1
#: Who joins without a member id is given one, and joins again with it (KIP-394).
MEMBER_ID_REQUIRED_FROM = 4
#: The protocol of a join that is refused is null, where it was empty before.
NULL_PROTOCOL_FROM = 7
#: A leader can be told that there is nothing to assign (KIP-814).
SKIP_ASSIGNMENT_FROM = 9
#: Before, the server chose the id of a member that has none (KIP-1082).
MEMBER_CHOOSES_ID_FROM = 1


class MembershipHandlers:
    def __init__(self, groups: GroupCoordinator) -> None:
        self._groups = groups

    async def join_group(self, request: Any, context: RequestContext) -> Fields:
        authorize(context, Operation.READ, Resource.GROUP, request.group_id)
        version = request.__version__
        session_timeout_ms = milliseconds(request.session_timeout)
        rebalance_timeout = get(request, "rebalance_timeout", None)
        try:
            joined = await self._groups.join_group(
                JoinRequest(
                    group=request.group_id,
                    member_id=request.member_id,
                    protocol_type=request.protocol_type,
                    protocols=tuple(MemberProtocol(each.name, each.metadata) for each in request.protocols),
                    session_timeout_ms=session_timeout_ms,
                    rebalance_timeout_ms=(
                        session_timeout_ms if rebalance_timeout is None else milliseconds(rebalance_timeout)
                    ),
                    instance_id=get(request, "group_instance_id", None) or "",
                    client_id=context.client_id,
                    client_host=client_host(context),
                    requires_member_id=version >= MEMBER_ID_REQUIRED_FROM,
                    can_skip_assignment=version >= SKIP_ASSIGNMENT_FROM,
                )
            )
        except ExplainedError as refused:
            return {
                "error_code": error_code(refused),
                "generation_id": NO_GENERATION,
                "protocol_type": None,
                "protocol_name": None if version >= NULL_PROTOCOL_FROM else "",
                "leader": "",
                "member_id": refused.member_id if isinstance(refused, MemberIdRequired) else request.member_id,
                "members": (),
            }
        return {
            "generation_id": joined.generation,
            "protocol_type": joined.protocol_type,
            "protocol_name": joined.protocol,
            "leader": joined.leader,
            "skip_assignment": joined.skip_assignment,
            "member_id": joined.member_id,
            "members": [
                {
                    "member_id": member.member_id,
                    "group_instance_id": member.instance_id or None,
                    "metadata": member.metadata,
                }
                for member in joined.members
            ],
        }

    async def sync_group(self, request: Any, context: RequestContext) -> Fields:
        authorize(context, Operation.READ, Resource.GROUP, request.group_id)
        try:
            synced = await self._groups.sync_group(
                SyncRequest(
                    group=request.group_id,
                    member_id=request.member_id,
                    generation=request.generation_id,
                    instance_id=get(request, "group_instance_id", None) or "",
                    protocol_type=get(request, "protocol_type", None) or "",
                    protocol=get(request, "protocol_name", None) or "",
                    assignments={each.member_id: each.assignment for each in request.assignments},
                )
            )
        except ExplainedError as refused:
            return {
                "error_code": error_code(refused),
                "protocol_type": None,
                "protocol_name": None,
                "assignment": b"",
            }
        return {
            "protocol_type": synced.protocol_type,
            "protocol_name": synced.protocol,
            "assignment": synced.assignment,
        }

    async def heartbeat(self, request: Any, context: RequestContext) -> Fields:
        authorize(context, Operation.READ, Resource.GROUP, request.group_id)
        try:
            await self._groups.classic_heartbeat(
                request.group_id,
                request.member_id,
                request.generation_id,
                get(request, "group_instance_id", None) or "",
            )
        except ExplainedError as refused:
            return {"error_code": error_code(refused)}
        return {}

    async def leave_group(self, request: Any, context: RequestContext) -> Fields:
        """Of many members from version 3 on, of one before."""
        authorize(context, Operation.READ, Resource.GROUP, request.group_id)
        named = get(request, "members", None)
        if named is None:
            leavers = [Leaver(request.member_id)]
        else:
            leavers = [Leaver(each.member_id, get(each, "group_instance_id", None) or "") for each in named]
        try:
            refusals = await self._groups.leave_group(request.group_id, leavers)
        except ExplainedError as refused:
            return {"error_code": error_code(refused), "members": ()}
        codes = [ErrorCode.none if each is None else error_code(each) for each in refusals]
        return {
            "error_code": codes[0] if named is None else ErrorCode.none,
            "members": [
                {
                    "member_id": leaver.member_id,
                    "group_instance_id": leaver.instance_id or None,
                    "error_code": code,
                }
                for leaver, code in zip(leavers, codes, strict=True)
            ],
        }

    async def consumer_group_heartbeat(self, request: Any, context: RequestContext) -> Fields:
        authorize(context, Operation.READ, Resource.GROUP, request.group_id)
        try:
            return await self._consumer_heartbeat(request, context)
        except ExplainedError as refused:
            return refusal(refused) | {
                "member_id": request.member_id,
                "member_epoch": 0,
                "heartbeat_interval": 0,
                "assignment": None,
            }

    async def _consumer_heartbeat(self, request: Any, context: RequestContext) -> Fields:
        _check_consumer(request)
        member_id = request.member_id
        if not member_id and request.__version__ < MEMBER_CHOOSES_ID_FROM:
            member_id = str(uuid4())
        if get(request, "subscribed_topic_regex", None):
            raise InvalidRegularExpression(
                "this server does not choose topics by a regular expression",
                remedy="Subscribe to topics by their names, or use group.protocol=classic, where the client chooses.",
            )
        reply = await self._groups.heartbeat(
            HeartbeatRequest(
                group=request.group_id,
                member_id=member_id,
                member_epoch=request.member_epoch,
                instance_id=request.instance_id or "",
                rebalance_timeout_ms=max(0, milliseconds(request.rebalance_timeout)),
                subscription=request.subscribed_topic_names,
                assignor=request.server_assignor or "",
                owned=_owned(request.topic_partitions),
                client_id=context.client_id,
                client_host=client_host(context),
            ),
            wait_ms=0,
        )
        return {
            "member_id": reply.member_id,
            "member_epoch": reply.member_epoch,
            "heartbeat_interval": reply.heartbeat_interval_ms,
            "assignment": (
                None if reply.assignment is None else {"topic_partitions": topic_partitions(reply.assignment)}
            ),
        }


def _check_consumer(request: Any) -> None:
    """What Kafka wants of every such heartbeat, and of one that joins. Raises InvalidRequest."""
    wrong = ""
    if not request.group_id:
        wrong = "the group's id is empty"
    elif request.instance_id == "":
        wrong = "the instance id is empty, where it may be left out"
    elif request.member_epoch == JOIN_EPOCH:
        if milliseconds(request.rebalance_timeout) < 0:
            wrong = "a member joins without its rebalance timeout"
        elif request.topic_partitions is None or request.topic_partitions:
            wrong = "a member joins, and does not say that it owns nothing"
        elif request.subscribed_topic_names is None and not get(request, "subscribed_topic_regex", None):
            wrong = "a member joins without a subscription"
    if wrong:
        raise InvalidRequest(wrong, remedy="Send what KIP-848 asks of a member.")


def _owned(partitions: Any) -> tuple[TopicPartitions, ...] | None:
    if partitions is None:
        return None
    return tuple(TopicPartitions("", topic.topic_id, topic.partitions) for topic in partitions)


def topic_partitions(assignment: tuple[TopicPartitions, ...]) -> list[Fields]:
    return [
        {"topic_id": topic.topic_id, "topic_name": topic.topic, "partitions": topic.partitions} for topic in assignment
    ]


def client_host(context: RequestContext) -> str:
    """As Kafka writes it."""
    return "/" + context.peer.rpartition(":")[0]
