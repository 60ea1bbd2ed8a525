"""What a request must look like, whatever the state of its group is. Checked before anything else is done with it."""

from collections.abc import Sequence

from consumer_groups.assignors import ASSIGNORS
from consumer_groups.classic_requests import JoinRequest, Leaver, SyncRequest
from consumer_groups.classic_roster import protocols_size
from consumer_groups.config import GroupConfig
from consumer_groups.errors import (
    InconsistentGroupProtocol,
    InvalidGroupId,
    InvalidRequest,
    InvalidSessionTimeout,
    UnsupportedAssignor,
)
from consumer_groups.requests import AWAY_EPOCH, JOIN_EPOCH, HeartbeatRequest, SeekTarget

#: Characters of a group's name, a member's id and the like.
NAME_LENGTH_MAX = 249


def check_group_name(name: str) -> None:
    if not name or len(name) > NAME_LENGTH_MAX or not name.isprintable():
        raise InvalidGroupId(
            f"group name {name[:60]!r} has {len(name)} characters, or some that cannot be printed",
            remedy=f"Use 1 to {NAME_LENGTH_MAX} printable characters.",
        )


def check_heartbeat(request: HeartbeatRequest, config: GroupConfig) -> None:
    check_group_name(request.group)
    _check_name("member id", request.member_id, required=True)
    for what, name in (
        ("instance id", request.instance_id),
        ("client id", request.client_id),
        ("client host", request.client_host),
    ):
        _check_name(what, name, required=False)
    if request.member_epoch < AWAY_EPOCH:
        raise InvalidRequest(
            f"member epoch {request.member_epoch} means nothing",
            remedy="Join with 0, leave with -1, leave for a while with -2, and else give the epoch of the last answer.",
        )
    check_number("heartbeat", request.number)
    if request.rebalance_timeout_ms < 0:
        raise InvalidRequest(
            f"the rebalance timeout is {request.rebalance_timeout_ms} ms",
            remedy="Give a positive number, or 0 for the server's default.",
        )
    if request.assignor and request.assignor not in ASSIGNORS:
        raise UnsupportedAssignor(
            f"there is no assignor {request.assignor!r}", remedy=f"Use one of: {', '.join(sorted(ASSIGNORS))}."
        )
    _check_topics(request, config)


def check_join(request: JoinRequest, config: GroupConfig) -> None:
    check_group_name(request.group)
    for what, name in (
        ("instance id", request.instance_id),
        ("client id", request.client_id),
        ("client host", request.client_host),
        ("protocol type", request.protocol_type),
        *(("protocol", protocol.name) for protocol in request.protocols),
    ):
        _check_name(what, name, required=False)
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


def check_number(what: str, number: int) -> None:
    if number < 0:
        raise InvalidRequest(
            f"{what} number {number} is negative", remedy=f"Count the member's {what}s from 1, or give 0 for all."
        )


def _check_topics(request: HeartbeatRequest, config: GroupConfig) -> None:
    if request.member_epoch == JOIN_EPOCH:
        if request.subscription is None:
            raise InvalidRequest("a member joins without a subscription", remedy="Name the topics to read.")
        if request.owned:
            raise InvalidRequest(
                "a member that joins says that it holds partitions",
                remedy="Give them up before joining: they are not this member's until it is told so.",
            )
    if request.subscription is not None:
        if len(request.subscription) > config.subscription_topics_max:
            raise InvalidRequest(
                f"a subscription names {len(request.subscription)} topics, more than {config.subscription_topics_max}",
                remedy="Use several groups, or fewer topics with more partitions.",
            )
        for topic in request.subscription:
            _check_name("topic", topic, required=True)


def _check_name(what: str, name: str, *, required: bool) -> None:
    if (required and not name) or len(name) > NAME_LENGTH_MAX or not (name == "" or name.isprintable()):
        raise InvalidRequest(
            f"{what} {name[:60]!r} has {len(name)} characters, or some that cannot be printed",
            remedy=f"Use {1 if required else 0} to {NAME_LENGTH_MAX} printable characters.",
        )


def check_seek_target(target: SeekTarget) -> None:
    given = [
        target.offset is not None,
        target.timestamp_ms is not None,
        target.beginning,
        target.end,
        target.shift_by is not None,
    ]
    if sum(given) != 1:
        raise InvalidRequest(
            f"a seek names {sum(given)} targets",
            remedy="Give one of: an offset, a timestamp, the beginning, the end, or a shift.",
        )
