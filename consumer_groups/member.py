"""A member of a group: what is durable of it in either protocol, and how one of the consumer group protocol moves from
what it holds to what it is meant to hold.

That is KIP-848's reconciliation. A member that must give something up stays in its epoch until it says that it has;
what it is to get and another still holds, it waits for; it never holds what is not its alone.

    STABLE      has reached the target assignment
    REVOKING    was told to give partitions up, and has not yet said that it did     (UNREVOKED_PARTITIONS)
    WAITING     is in the target's epoch, but others still hold some of its target   (UNRELEASED_PARTITIONS)
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from consumer_groups.requests import AWAY_EPOCH, NOTHING, Assignment, Partition
from consumer_groups.room import texts_size


class MemberState(Enum):
    STABLE = "stable"
    REVOKING = "revoking"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Profile:
    """What a member said of itself when it joined."""

    instance_id: str
    client_id: str
    client_host: str
    rebalance_timeout_ms: int
    topics: tuple[str, ...]
    #: Empty: the group's default.
    assignor: str

    @property
    def size_bytes(self) -> int:
        """As it counts in all (see `room`)."""
        return texts_size(self.instance_id, self.client_id, self.client_host, self.assignor, *self.topics)


@dataclass(frozen=True, slots=True)
class Holding:
    """How far a member has come, and what it holds: what is assigned to it, and what it is still to give up."""

    epoch: int = 0
    #: The epoch before the last change: a member that missed the answer still comes with this one.
    previous_epoch: int = 0
    state: MemberState = MemberState.STABLE
    assigned: Assignment = NOTHING
    revoking: Assignment = NOTHING

    @property
    def away(self) -> bool:
        """A static member that said it would be back. It works on nothing; its partitions are kept for it."""
        return self.epoch == AWAY_EPOCH


@dataclass(frozen=True, slots=True)
class Member:
    profile: Profile
    holding: Holding


class MemberProtocol(NamedTuple):
    """A way of assigning that the member can take part in, as "range", with what the leader needs to know for it."""

    name: str
    metadata: bytes


@dataclass(frozen=True, slots=True)
class ClassicMember:
    """What a member of a classic group said of itself, and what it was assigned."""

    #: Empty for a dynamic member.
    instance_id: str
    client_id: str
    client_host: str
    #: How long the others wait for it to join again.
    rebalance_timeout_ms: int
    session_timeout_ms: int
    #: The one it likes best first.
    protocols: tuple[MemberProtocol, ...]
    #: What the leader of the last generation gave it, untouched but for what was being sought.
    assignment: bytes = b""

    @property
    def is_static(self) -> bool:
        return bool(self.instance_id)

    @property
    def size_bytes(self) -> int:
        """As it counts in all (see `room`)."""
        own = (self.instance_id, self.client_id, self.client_host, self.assignment)
        return texts_size(*own, *(text for protocol in self.protocols for text in protocol))

    def metadata(self, protocol: str) -> bytes:
        """What it said of itself for that protocol; nothing if it does not support it."""
        return next((supported.metadata for supported in self.protocols if supported.name == protocol), b"")


def reconcile(
    holding: Holding,
    *,
    target_epoch: int,
    target: Assignment,
    is_free: Callable[[Partition], bool],
    owned: Assignment | None,
) -> Holding:
    """Return the next step from holding towards target, or holding itself when there is none to take now.

    is_free says that no *other* member holds the partition. owned is what the member just said it holds; None when
    it said nothing, which proves nothing given up.
    """
    if holding.state is MemberState.STABLE and holding.epoch == target_epoch:
        return holding
    if holding.state is MemberState.REVOKING and (owned is None or owned & holding.revoking):
        return holding

    kept = holding.assigned & target
    revoking = holding.assigned - kept
    if revoking and (owned is None or owned & revoking):
        step = Holding(holding.epoch, holding.epoch, MemberState.REVOKING, kept, revoking)
    else:
        missing = target - kept
        free = frozenset(partition for partition in missing if is_free(partition))
        state = MemberState.STABLE if free == missing else MemberState.WAITING
        step = Holding(target_epoch, holding.epoch, state, kept | free)
    # A member that still waits for the same partitions has not moved: keep its previous epoch as it is.
    return holding if _same_place(step, holding) else step


def _same_place(one: Holding, other: Holding) -> bool:
    return (one.epoch, one.state, one.assigned, one.revoking) == (
        other.epoch,
        other.state,
        other.assigned,
        other.revoking,
    )
