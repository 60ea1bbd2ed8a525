"""Whether a classic group takes a request as it is now: its room, its protocols, its members, its generation.

What a request must be whatever the group is, `checks` has.
"""

from collections.abc import Mapping

from consumer_groups.classic.requests import JoinRequest, SyncRequest
from consumer_groups.classic.roster import ClassicRoster, protocols_size
from consumer_groups.config import GroupConfig
from consumer_groups.errors import (
    FencedInstanceId,
    GroupMaxSizeReached,
    IllegalGeneration,
    InconsistentGroupProtocol,
    InvalidRequest,
    RebalanceInProgress,
    UnknownMemberId,
)

REJOIN = "Join the group again."
JOIN_AS_NEW = "Give up all partitions and join again, without a member id."


def check_room(group: str, request: JoinRequest, roster: ClassicRoster, taken: int, config: GroupConfig) -> None:
    """Raise GroupMaxSizeReached if all places are taken, or the members say too much of themselves."""
    if taken >= config.members_max:
        raise GroupMaxSizeReached.of(group, taken)
    size = roster.said_bytes + protocols_size(request.protocols)
    if request.member_id in roster:
        size -= protocols_size(roster[request.member_id].protocols)
    if size > config.group_bytes_max:
        raise GroupMaxSizeReached(
            f"the members of group {group!r} say {size} bytes of themselves, more than {config.group_bytes_max}",
            remedy="Run fewer members, with shorter subscriptions, or use another group.",
        )


def check_protocols(group: str, request: JoinRequest, roster: ClassicRoster, protocol_type: str) -> None:
    """Raise InconsistentGroupProtocol unless the member goes with those who are there."""
    if request.protocol_type != protocol_type:
        raise InconsistentGroupProtocol(
            f"a member of protocol type {request.protocol_type!r} joins group {group!r}, whose members are of type"
            f" {protocol_type!r}",
            remedy="Use another group.",
        )
    names = [protocol.name for protocol in request.protocols]
    if not any(map(roster.all_support, names)):
        raise InconsistentGroupProtocol(
            f"a member of group {group!r} supports {', '.join(names)}, none of which all of its members"
            f" ({len(roster)}) support",
            remedy="Give all members of the group a common assignor, or use another group.",
        )


def check_synced_protocols(group: str, request: SyncRequest, protocol_type: str, protocol: str) -> None:
    for what, given, known in (
        ("protocol type", request.protocol_type, protocol_type),
        ("protocol", request.protocol, protocol),
    ):
        if given and given != known:
            raise InconsistentGroupProtocol(
                f"member {request.member_id!r} syncs for {what} {given!r}, but that of group {group!r} is {known!r}",
                remedy=REJOIN,
            )


def check_assignments(group: str, assignments: Mapping[str, bytes], config: GroupConfig) -> None:
    sizes = [len(assignment) for assignment in assignments.values()]
    if max(sizes) > config.member_bytes_max or sum(sizes) > config.group_bytes_max:
        raise InvalidRequest(
            f"the leader of group {group!r} assigns {sum(sizes)} bytes, up to {max(sizes)} to a member; up to"
            f" {config.group_bytes_max}, and {config.member_bytes_max} to one, are taken",
            remedy="Use an assignor that writes less, or several groups.",
        )


def check_dynamic(group: str, request: JoinRequest) -> None:
    """Of a member that was given its id before it joined."""
    if request.instance_id:
        raise InvalidRequest(
            f"member {request.member_id!r} of group {group!r} got its id as a dynamic member, and joins as the static"
            f" one {request.instance_id!r}",
            remedy="A static member joins without a member id at first.",
        )


def check_known(group: str, roster: ClassicRoster, member_id: str, instance_id: str) -> None:
    holder = roster.instance(instance_id)
    if holder is not None and holder != member_id:
        raise FencedInstanceId.of(group, instance_id, holder, member_id)
    if member_id not in roster or (instance_id and holder is None):
        raise UnknownMemberId.of(group, member_id or instance_id, remedy=JOIN_AS_NEW)


def check_generation(group: str, member_id: str, given: int, generation: int) -> None:
    if given != generation:
        raise IllegalGeneration(
            f"member {member_id!r} of group {group!r} comes with generation {given}; the group's is {generation}",
            remedy=REJOIN,
        )


def rebalancing(group: str) -> RebalanceInProgress:
    return RebalanceInProgress(f"group {group!r} is being rebalanced", remedy=REJOIN)
