"""Groups as a whole: FindCoordinator, ListGroups, DescribeGroups, ConsumerGroupDescribe, DeleteGroups."""

from typing import Any

from kio.schema.errors import ErrorCode

from consumer_groups.coordinator import GroupCoordinator
from consumer_groups.errors import GroupIdNotFound
from consumer_groups.requests import GroupState, MemberDescription
from logserver.broker import Broker
from logserver.config import Address
from logserver.context import Operation, RequestContext, Resource, authorize
from logserver.errors import InvalidRequest
from logserver.kafka.errors import error_code, refusal, transactions_unsupported
from logserver.kafka.membership import topic_partitions
from logserver.kafka.messages import Fields, Items, get
from logstore.errors import ExplainedError

#: Whose coordinator is looked for.
GROUP_KEY = 0
TRANSACTION_KEY = 1
#: From this version of DescribeGroups on a group that is not there is an error, and not one that is dead (KIP-1043).
NOT_FOUND_FROM = 6

CLASSIC_TYPE = "classic"
CONSUMER_TYPE = "consumer"
#: Of a member: how it takes part (KIP-1099).
_CONSUMER_MEMBER = 1


class GroupHandlers:
    def __init__(self, broker: Broker, advertised: Address) -> None:
        self._groups: GroupCoordinator = broker.groups
        self._clock = broker.clock
        self._node_id = broker.store.node_id
        self._advertised = advertised

    async def find_coordinator(self, request: Any, context: RequestContext) -> Fields:
        """Of many from version 4 on, of one before."""
        key_type = get(request, "key_type", GROUP_KEY)
        keys = get(request, "coordinator_keys", None)
        if keys is None:
            return self._coordinator(request.key, key_type)
        return {"coordinators": [self._coordinator(key, key_type) for key in keys]}

    def _coordinator(self, key: str, key_type: int) -> Fields:
        nowhere: dict[str, Any] = {"key": key, "node_id": -1, "host": "", "port": -1}
        if key_type == TRANSACTION_KEY:
            return nowhere | refusal(transactions_unsupported(key))
        if key_type != GROUP_KEY:
            return nowhere | refusal(
                InvalidRequest(
                    f"keys of type {key_type} have no coordinator", remedy=f"Ask for a group's, of type {GROUP_KEY}."
                )
            )
        return {
            "key": key,
            "node_id": self._node_id,
            "host": self._advertised.host,
            "port": self._advertised.port,
            "error_code": ErrorCode.none,
            "error_message": None,
        }

    async def list_groups(self, request: Any, context: RequestContext) -> Fields:
        authorize(context, Operation.DESCRIBE, Resource.CLUSTER, "")
        states = {state.lower() for state in get(request, "states_filter", ())}
        types = {kind.lower() for kind in get(request, "types_filter", ())}
        groups = Items.of_answer(request, "groups", self._clock)
        for listed in self._groups.list_groups():
            kind = CLASSIC_TYPE if listed.is_classic else CONSUMER_TYPE
            if (states and listed.state.value.lower() not in states) or (types and kind not in types):
                continue
            await groups.add(
                {
                    "group_id": listed.group,
                    "protocol_type": listed.protocol_type,
                    "group_state": listed.state.value,
                    "group_type": kind,
                }
            )
        return {"groups": groups}

    async def describe_groups(self, request: Any, context: RequestContext) -> Fields:
        described = Items.of_answer(request, "groups", self._clock)
        for name in request.groups:
            await described.add(self._describe(name, request.__version__, context))
        return {"groups": described}

    def _describe(self, name: str, version: int, context: RequestContext) -> Fields:
        authorize(context, Operation.DESCRIBE, Resource.GROUP, name)
        try:
            group = self._groups.describe_classic_group(name)
        except ExplainedError as refused:
            is_missing = isinstance(refused, GroupIdNotFound) and version < NOT_FOUND_FROM
            nothing = {
                "group_id": name,
                "group_state": GroupState.DEAD.value,
                "protocol_type": "",
                "protocol_data": "",
                "members": (),
            }
            return refusal(refused) | nothing | ({"error_code": ErrorCode.none} if is_missing else {})
        return {
            "error_code": ErrorCode.none,
            "group_id": name,
            "group_state": group.state.value,
            "protocol_type": group.protocol_type,
            "protocol_data": group.protocol,
            "members": [
                {
                    "member_id": member.member_id,
                    "group_instance_id": member.instance_id or None,
                    "client_id": member.client_id,
                    "client_host": member.client_host,
                    "member_metadata": member.metadata,
                    "member_assignment": member.assignment,
                }
                for member in group.members
            ],
        }

    async def consumer_group_describe(self, request: Any, context: RequestContext) -> Fields:
        described = Items.of_answer(request, "groups", self._clock)
        for name in request.group_ids:
            await described.add(self._describe_consumers(name, context))
        return {"groups": described}

    def _describe_consumers(self, name: str, context: RequestContext) -> Fields:
        authorize(context, Operation.DESCRIBE, Resource.GROUP, name)
        try:
            group = self._groups.describe_consumer_group(name)
        except ExplainedError as refused:
            return refusal(refused) | {
                "group_id": name,
                "group_state": GroupState.DEAD.value,
                "group_epoch": 0,
                "assignment_epoch": 0,
                "assignor_name": "",
                "members": (),
            }
        return {
            "error_code": ErrorCode.none,
            "group_id": name,
            "group_state": group.state.value,
            "group_epoch": group.group_epoch,
            "assignment_epoch": group.assignment_epoch,
            "assignor_name": group.assignor,
            "members": [_member(member) for member in group.members],
        }

    async def delete_groups(self, request: Any, context: RequestContext) -> Fields:
        results = []
        for name in request.groups_names:
            authorize(context, Operation.DELETE, Resource.GROUP, name)
            code = ErrorCode.none
            try:
                await self._groups.delete_group(name)
            except ExplainedError as refused:
                code = error_code(refused)
            results.append({"group_id": name, "error_code": code})
        return {"results": results}


def _member(member: MemberDescription) -> Fields:
    return {
        "member_id": member.member_id,
        "instance_id": member.instance_id or None,
        "member_epoch": member.member_epoch,
        "client_id": member.client_id,
        "client_host": member.client_host,
        "subscribed_topic_names": member.subscribed_topics,
        "assignment": {"topic_partitions": topic_partitions(member.assignment)},
        "target_assignment": {"topic_partitions": topic_partitions(member.target)},
        "member_type": _CONSUMER_MEMBER,
    }
