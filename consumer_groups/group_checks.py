"""Whether a group of the consumer group protocol takes a request as it is now: its epochs, and what its member claims.

What a request must be whatever the group is, `checks` has.
"""

from consumer_groups.errors import (
    FencedMemberEpoch,
    InvalidRequest,
    NonEmptyGroup,
    StaleMemberEpoch,
    UnknownMemberId,
    UnreleasedInstanceId,
)
from consumer_groups.member import Holding
from consumer_groups.requests import OUTSIDE_EPOCH, Assignment, Committer

JOIN_AS_NEW = "Give up all partitions and join again, with epoch 0."


def check_epoch(group: str, member_id: str, epoch: int, holding: Holding, owned: Assignment | None) -> None:
    """Refuse a member that is not where it should be.

    The epoch before is taken from a member that holds nothing but what it may: the answer with its new epoch was
    lost. A member that claims more than it may hold has missed something that it must not miss.
    """
    mine = holding.assigned | holding.revoking
    if epoch == holding.epoch and (owned is None or owned <= mine):
        return
    if epoch == holding.previous_epoch and owned is not None and owned <= holding.assigned:
        return
    claims = "" if owned is None or owned <= mine else f" and claims {len(owned - mine)} partitions that it lost"
    raise FencedMemberEpoch(
        f"member {member_id!r} of group {group!r} comes with epoch {epoch}{claims}; its epoch is {holding.epoch}",
        remedy=JOIN_AS_NEW,
    )


def check_outsider(group: str, committer: Committer, members_count: int) -> None:
    """Of a commit that names no member."""
    if committer.epoch != OUTSIDE_EPOCH:
        raise InvalidRequest(
            f"a commit without a member id has member epoch {committer.epoch}, not {OUTSIDE_EPOCH}",
            remedy="Give the member's id and epoch, or neither.",
        )
    if members_count:
        raise NonEmptyGroup(
            f"group {group!r} has members ({members_count}), so only they may commit",
            remedy="Stop the members first, or move the running group with a seek.",
        )


def check_commit(group: str, committer: Committer, epoch: int, newest_number: int) -> None:
    """Raise StaleMemberEpoch for a member's commit of another epoch than its own, or an overtaken one."""
    if committer.epoch != epoch:
        raise StaleMemberEpoch(
            f"member {committer.member_id!r} of group {group!r} commits in epoch {committer.epoch}, but is in epoch"
            f" {epoch}",
            remedy="Heartbeat to learn the epoch; commit again only what is still assigned then.",
        )
    if 0 < committer.number < newest_number:
        raise StaleMemberEpoch(
            f"a commit of member {committer.member_id!r} of group {group!r} with number {committer.number} comes after"
            f" number {newest_number}",
            remedy="Nothing: the member has committed something newer since.",
        )


def check_fetch(group: str, member_id: str, epoch: int, current: int) -> None:
    """Raise StaleMemberEpoch for a member that fetches offsets in another epoch than its own."""
    if epoch != current:
        raise StaleMemberEpoch(
            f"member {member_id!r} of group {group!r} fetches offsets in epoch {epoch}, but is in epoch {current}",
            remedy="Heartbeat to learn the epoch; fetch offsets only of what is still assigned then.",
        )


def unknown(group: str, member_id: str) -> UnknownMemberId:
    return UnknownMemberId.of(group, member_id, remedy=JOIN_AS_NEW)


def unreleased(group: str, instance_id: str, holder: str) -> UnreleasedInstanceId:
    return UnreleasedInstanceId(
        f"instance id {instance_id!r} of group {group!r} is in use by member {holder!r}",
        remedy="Stop that member, or wait for its session to time out; each needs its own instance id.",
    )
