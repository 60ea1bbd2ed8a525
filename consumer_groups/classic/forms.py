"""What a request of a classic member must be before it is taken, whatever its group is."""

from collections.abc import Sequence

from consumer_groups.checks import check_group_name, check_name
from consumer_groups.classic.requests import JoinRequest, Leaver, SyncRequest
from consumer_groups.classic.roster import protocols_size
from consumer_groups.config import GroupConfig
from consumer_groups.errors import InconsistentGroupProtocol, InvalidRequest, InvalidSessionTimeout


def check_join(request: JoinRequest, config: GroupConfig) -> None:
    check_group_name(request.group)
    for what, name in (
        ("instance id", request.instance_id),
        ("client id", request.client_id),
        ("client host", request.client_host),
        ("protocol type", request.protocol_type),
        *(("protocol", protocol.name) for protocol in request.protocols),
    ):
        check_name(what, name, required=False)
    if not config.session_timeout_ms_min <= request.session_timeout_ms <= config.session_timeout_ms_max:
        raise InvalidSessionTimeout(
            f"the session timeout is {request.session_timeout_ms} ms, not {config.session_timeout_ms_min} to"
            f" {config.session_timeout_ms_max}",
            remedy="Set session.timeout.ms of the client in that range.",
        )
    if request.rebalance_timeout_ms < 0:
        raise InvalidRequest(
            f"the rebalance timeout is {request.rebalance_timeout_ms} ms",
            remedy="Set max.poll.interval.ms of the client to a positive number.",
        )
    if not request.protocol_type or not request.protocols:
        raise InconsistentGroupProtocol(
            "a member joins without a protocol type, or supports no protocol",
            remedy="Configure an assignor (partition.assignment.strategy).",
        )
    names = {protocol.name for protocol in request.protocols}
    size = protocols_size(request.protocols)
    if len(names) < len(request.protocols) or len(names) > config.protocols_max or size > config.member_bytes_max:
        raise InvalidRequest(
            f"a member supports {len(request.protocols)} protocols, {len(names)} of them different, and says {size}"
            f" bytes of itself; up to {config.protocols_max} are taken, each once, and {config.member_bytes_max} bytes",
            remedy="Name fewer assignors, or subscribe to fewer topics.",
        )


def check_sync(request: SyncRequest, config: GroupConfig) -> None:
    check_group_name(request.group)
    _check_count("assignments", len(request.assignments), config)


def check_leavers(leavers: Sequence[Leaver], config: GroupConfig) -> None:
    _check_count("leaving members", len(leavers), config)


def _check_count(what: str, count: int, config: GroupConfig) -> None:
    if count > config.members_max:
        raise InvalidRequest(
            f"a request names {count} {what}, more than a group has members: {config.members_max}",
            remedy="Name only members of the group.",
        )
