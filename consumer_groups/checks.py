"""What a request must look like, whatever the state of its group is. Checked before anything else is done with it.
Those of classic members are in `classic.forms`.
"""

from consumer_groups.assignors import ASSIGNORS
from consumer_groups.config import GroupConfig
from consumer_groups.errors import InvalidGroupId, InvalidRequest, UnsupportedAssignor
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
    check_name("member id", request.member_id, required=True)
    for what, name in (
        ("instance id", request.instance_id),
        ("client id", request.client_id),
        ("client host", request.client_host),
    ):
        check_name(what, name, required=False)
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
            check_name("topic", topic, required=True)


def check_name(what: str, name: str, *, required: bool) -> None:
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
