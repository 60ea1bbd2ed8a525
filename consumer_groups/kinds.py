"""The two kinds of group, by how their members get partitions, and what is asked of a group of either kind.

    consumer group protocol    KIP-848: the server plans, and members move one by one     group.Group
    classic protocol           all members join anew, and one of them plans for all       classic.group.ClassicGroup

A group is of one kind at a time, and may change while it is empty: when the first member of the other protocol joins.
What it has committed stays when it does, and so does what is being sought in it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Protocol, Self

from consumer_groups.classic.group import ClassicGroup
from consumer_groups.classic.requests import Answer
from consumer_groups.config import GroupConfig
from consumer_groups.errors import InconsistentGroupProtocol
from consumer_groups.group import Group
from consumer_groups.journal_records import Change, ClassicKey, HoldingKey, Key, Value
from consumer_groups.requests import Assignment, Committer, GroupState, HeartbeatRequest, Partition
from consumer_groups.surroundings import TopicLookup


class AnyGroup(Protocol):
    """What the coordinator asks of a group, whichever protocol its members use.

    What members ask is not here: heartbeats of the one protocol, and joins, syncs, heartbeats and leaves of the other.
    Whoever takes these must know which kind the group is of, since a member of the other kind is refused.
    """

    # What it is, and what of it is durable.

    @property
    def name(self) -> str: ...

    @property
    def state(self) -> GroupState: ...

    @property
    def protocol_type(self) -> str:
        """As Kafka lists it; empty when there was never a member."""
        ...

    @property
    def members(self) -> Mapping[str, object]: ...

    @property
    def is_blank(self) -> bool:
        """Nothing of it is durable, and nobody waits to be in it."""
        ...

    @property
    def emptied_ms(self) -> int | None:
        """When the last member went, by the wall clock; None: not known, or none was ever there."""
        ...

    def copy(self) -> Self:
        """A draft to change in this one's place."""
        ...

    def image(self) -> list[Change]:
        """What to write so that a journal has this group, whatever it had of it."""
        ...

    @property
    def records_count(self) -> int:
        """How many records `image` takes."""
        ...

    @property
    def size_bytes(self) -> int:
        """What its members have brought, as it counts in all (see `room`)."""
        ...

    # What its members read.

    def subscribed_topics(self) -> set[str]:
        """What any of the members reads, as far as that is known."""
        ...

    def owners(self) -> Mapping[Partition, str]:
        """All that members hold, as far as that is known, and who does."""
        ...

    def owner(self, partition: Partition) -> str | None: ...

    # What happens to it.

    def next_deadline_ms(self) -> int | None:
        """When `expire` has something to do next, if nothing else happens."""
        ...

    def expire(self, now_ms: int) -> None:
        """Do what is due by now: members whose time is up are out."""
        ...

    def emptied(self, wall_ms: int) -> None:
        """Note when the last member went."""
        ...

    def topics_changed(self, now_ms: int) -> None:
        """There are other topics than before, or more partitions."""
        ...

    # Those who wait for an answer, and what they are told.

    def take_answers(self) -> Sequence[tuple[int, Answer]]:
        """What joins and syncs are to be told now, by ticket. Each is given once."""
        ...

    def has_news(self, request: HeartbeatRequest) -> bool:
        """Whether a heartbeat of the consumer group protocol that waits is to be answered now."""
        ...

    def reconcile_waiting(self, member_ids: Collection[str], now_ms: int) -> None:
        """Move members on whose heartbeats wait."""
        ...

    # Commits.

    def check_committer(self, committer: Committer, now_ms: int) -> None:
        """Raise unless this is a member as it is now, or somebody outside of a group without members. No draft is
        needed: nothing durable changes, though a member that commits may show by it that it lives."""
        ...

    def may_commit(self, committer: Committer, partition: Partition) -> bool:
        """Whether a checked committer may commit this partition."""
        ...

    # Seeks: partitions are withheld, free once nobody holds them or may commit them, and then given back.

    def withheld(self, partitions: Iterable[Partition]) -> list[Partition]:
        """Those of the partitions that are being sought."""
        ...

    @property
    def all_withheld(self) -> Assignment: ...

    def withhold(self, partitions: Assignment, now_ms: int) -> None:
        """Take partitions from whoever has them. Raises AssignmentUnreadable if nobody can say who."""
        ...

    def are_free(self, partitions: Assignment) -> bool:
        """True when nobody has any of them, nor may commit it. Those withheld stay free until `give_back`."""
        ...

    def holdouts(self, partitions: Assignment) -> set[str]:
        """The members for whom partitions that are withheld are not free yet."""
        ...

    def check_seek(self) -> None:
        """Raise AssignmentUnreadable if a seek that was begun cannot be ended."""
        ...

    def give_back(self, partitions: Assignment, now_ms: int) -> None:
        """Assign partitions again that were withheld."""
        ...


def restore(name: str, config: GroupConfig, lookup: TopicLookup, image: Mapping[Key, Value], now_ms: int) -> AnyGroup:
    """The group as the journal has it."""
    # Both kinds are there only if the journal lacks records whose loss was accepted.
    if ClassicKey(name) in image and not any(isinstance(key, HoldingKey) for key in image):
        return ClassicGroup.restore(name, config, lookup, image, now_ms)
    return Group.restore(name, config, lookup, image, now_ms)


def changes(before: AnyGroup, after: AnyGroup) -> list[Change]:
    """What to write so that the journal has the one instead of the other."""
    if isinstance(before, Group) and isinstance(after, Group):
        return after.changes_since(before)
    if isinstance(before, ClassicGroup) and isinstance(after, ClassicGroup):
        return after.changes_since(before)
    return removal(before) + after.image()


def removal(group: AnyGroup) -> list[Change]:
    """What to write so that the journal has nothing of the group."""
    return [(key, None) for key, _ in group.image()]


def consumer_draft(group: AnyGroup, config: GroupConfig, lookup: TopicLookup, now_ms: int) -> Group:
    """A draft of the consumer group protocol. Raises InconsistentGroupProtocol while members use the classic one."""
    if isinstance(group, Group):
        return group.copy()
    draft = group.copy()
    draft.expire(now_ms)
    if draft.state is not GroupState.EMPTY:
        raise _inconsistent(draft, "with server-side assignment (KIP-848)", "are classic ones")
    return Group(group.name, config, lookup, draft.all_withheld)


def classic_draft(group: AnyGroup, config: GroupConfig, lookup: TopicLookup, now_ms: int) -> ClassicGroup:
    """A draft of the classic protocol. Raises InconsistentGroupProtocol while members use the other one."""
    if isinstance(group, ClassicGroup):
        return group.copy()
    draft = group.copy()
    draft.expire(now_ms)
    if draft.members:
        raise _inconsistent(draft, "as a classic one", "use server-side assignment (KIP-848)")
    return ClassicGroup(group.name, config, lookup, draft.all_withheld)


def _inconsistent(group: AnyGroup, how: str, what: str) -> InconsistentGroupProtocol:
    return InconsistentGroupProtocol(
        f"a member joins group {group.name!r} {how}, and its members ({len(group.members)}) {what}",
        remedy="Have all members of a group use one protocol, also tailrace's and Kafka's clients together"
        " (group.protocol=consumer); or stop the members first.",
    )
