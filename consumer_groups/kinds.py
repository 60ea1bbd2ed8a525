"""The two kinds of group: after KIP-848, and classic. A group is of one at a time, and may change while it is empty.

What it has committed stays when it does, and so does what is being sought in it.
"""

from collections.abc import Mapping

from consumer_groups.classic import ClassicGroup, TopicLookup
from consumer_groups.config import GroupConfig
from consumer_groups.errors import InconsistentGroupProtocol
from consumer_groups.group import Group
from consumer_groups.journal_records import Change, ClassicKey, HoldingKey, Key, Value
from consumer_groups.requests import GroupState

AnyGroup = Group | ClassicGroup


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


def subscribed_topics(group: AnyGroup) -> set[str]:
    """What any of the members reads."""
    if isinstance(group, ClassicGroup):
        return {name for member_id in group.members for name in group.subscribed(member_id)}
    return {name for member in group.members.values() for name in member.profile.topics}


def consumer_draft(group: AnyGroup, config: GroupConfig, lookup: TopicLookup, now_ms: int) -> Group:
    """A draft of the group after KIP-848. Raises InconsistentGroupProtocol while it has classic members."""
    if isinstance(group, Group):
        return group.copy()
    draft = group.copy()
    draft.expire(now_ms)
    if draft.state is not GroupState.EMPTY:
        raise _inconsistent(draft, "with server-side assignment (KIP-848)", "are classic ones")
    return Group(group.name, config, lookup, draft.all_withheld)


def classic_draft(group: AnyGroup, config: GroupConfig, lookup: TopicLookup, now_ms: int) -> ClassicGroup:
    """A draft of the classic group. Raises InconsistentGroupProtocol while it has members after KIP-848."""
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
