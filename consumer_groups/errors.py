"""Every error of consumer groups. Each says what happened, with the facts, and carries what to do about it.

Names are Kafka's wherever Kafka has the error. What concerns topics and offsets (an unknown topic, an offset out of
range) is raised as the storage engine's error of that name.
"""

from typing import Self

from logstore.errors import ExplainedError


class GroupError(ExplainedError):
    """The root of this package's errors."""


# Of requests as such.


class InvalidRequest(GroupError):
    """A field is missing, negative, absurd or contradicts another."""


class Overloaded(GroupError):
    """A bound of the server is reached: the number of groups, or what all their members may bring together."""

    retriable = True


class ShuttingDown(GroupError):
    """The coordinator is stopping, or is not started yet."""

    retriable = True


class GroupsUnavailable(GroupError):
    """Writing the journal failed, so what is on disk is unknown. Only a restart, which reads it again, helps."""


class JournalUnreadable(GroupError):
    """A record of the journal is damaged, or was written by a newer version. Met at start."""


# Of groups.


class InvalidGroupId(GroupError):
    """The group's name is empty, too long or not printable."""


class GroupIdNotFound(GroupError):
    """There is no such group."""


class NonEmptyGroup(GroupError):
    """The group has members, and what was asked for is done only to groups without."""


class GroupMaxSizeReached(GroupError):
    """The group has as many members as it may have."""

    retriable = True

    @classmethod
    def of(cls, group: str, members_count: int) -> Self:
        return cls(
            f"group {group!r} has as many members as it may: {members_count}",
            remedy="Run fewer members, each with more partitions, or use another group.",
        )


class InconsistentGroupProtocol(GroupError):
    """The member does not go with the group: it uses the other of the two protocols (see `kinds`), or in a classic
    group shares no way of assigning with all its members."""


# Of members.


class UnknownMemberId(GroupError):
    """The group has no such member: it left, was fenced, or never joined."""

    @classmethod
    def of(cls, group: str, member_id: str, *, remedy: str) -> Self:
        """remedy: members of the two protocols join again in different ways."""
        return cls(
            f"group {group!r} has no member {member_id!r}: it left, was fenced for its silence, or never joined",
            remedy=remedy,
        )

    @classmethod
    def without_group(cls, group: str, member_id: str, *, remedy: str) -> Self:
        return cls(f"there is no group {group!r}, so member {member_id!r} is not in it", remedy=remedy)


class FencedMemberEpoch(GroupError):
    """The member's epoch is not the one the coordinator knows, or it claims what is no longer its own."""


class StaleMemberEpoch(GroupError):
    """A commit with an older or newer epoch than the member's, or one that a newer one has overtaken."""


class UnreleasedInstanceId(GroupError):
    """Another live member has the instance id."""

    retriable = True


class FencedInstanceId(GroupError):
    """Another member has taken the instance id over."""

    @classmethod
    def of(cls, group: str, instance_id: str, holder: str, member_id: str) -> Self:
        """Told alike whatever the member asks, and in groups of both protocols."""
        return cls(
            f"instance id {instance_id!r} of group {group!r} was taken over by member {holder!r};"
            f" member {member_id!r} is out",
            remedy="Stop this member: another runs in its place. Give every member its own instance id.",
        )


class UnsupportedAssignor(GroupError):
    """There is no assignor of that name."""


# Of members of classic groups.


class MemberIdRequired(GroupError):
    """The member is to join again, with the id that the error carries, so that none is waited for that is gone."""

    def __init__(self, message: str, *, remedy: str, member_id: str) -> None:
        super().__init__(message, remedy=remedy)
        self.member_id = member_id


class IllegalGeneration(GroupError):
    """The member comes with another generation than the group's."""


class RebalanceInProgress(GroupError):
    """The group is being rebalanced: the member is to join again."""

    retriable = True


class InvalidSessionTimeout(GroupError):
    """The session timeout that a member asks for is shorter or longer than the server allows."""


# Of committed offsets.


class OffsetMetadataTooLarge(GroupError):
    """The text beside a committed offset is larger than the server keeps."""


class PartitionNotOwned(GroupError):
    """A commit of a partition the member does not hold, or of one that is being sought elsewhere."""


class AssignmentUnreadable(GroupError):
    """What a classic group assigns to its members is in no form that the server knows, so it cannot seek the group."""


class GroupSubscribedToTopic(GroupError):
    """Offsets of a topic were to be forgotten that a member of the group reads."""


class SeekInProgress(GroupError):
    """Another seek of one of the partitions is under way."""

    retriable = True


class SeekTimedOut(GroupError):
    """A member did not give its partitions up in time; the old offsets stand."""

    retriable = True
