"""The members of a classic group, who of them waits for an answer, and what they have in common."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from consumer_groups.classic_member import ClassicMember, MemberProtocol


@dataclass(frozen=True, slots=True)
class Presence:
    """What is known of a member beyond what is durable. Requests that wait for an answer are named by tickets."""

    session_deadline_ms: int
    #: Of its join that waits for the others.
    join: int | None = None
    #: Of its sync that waits for the leader's.
    sync: int | None = None
    #: It has not been in a generation yet.
    is_new: bool = False

    @property
    def tickets(self) -> list[int]:
        return [ticket for ticket in (self.join, self.sync) if ticket is not None]

    def is_silent(self, now_ms: int) -> bool:
        return not self.is_excused and now_ms >= self.session_deadline_ms

    @property
    def is_excused(self) -> bool:
        """It waits for an answer, so its silence is in order; but not for ever with one that has just come."""
        return not self.is_new and bool(self.tickets)


class ClassicRoster:
    def __init__(self, members: Mapping[str, ClassicMember], now_ms: int) -> None:
        """The members that a group has at now_ms, with whole sessions before them."""
        self._members = dict(members)
        self._presences = {
            member_id: Presence(now_ms + member.session_timeout_ms) for member_id, member in members.items()
        }

    def copy(self) -> "ClassicRoster":
        copy = ClassicRoster({}, 0)
        copy._members, copy._presences = dict(self._members), dict(self._presences)
        return copy

    # What is asked of it.

    @property
    def members(self) -> Mapping[str, ClassicMember]:
        return self._members

    def __contains__(self, member_id: str) -> bool:
        return member_id in self._members

    def __getitem__(self, member_id: str) -> ClassicMember:
        return self._members[member_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    @property
    def presences(self) -> Mapping[str, Presence]:
        return self._presences

    def instance(self, instance_id: str) -> str | None:
        """The static member of that instance id."""
        if instance_id:
            for member_id, member in self._members.items():
                if member.instance_id == instance_id:
                    return member_id
        return None

    def joined(self) -> list[str]:
        """Who waits for the others to join."""
        return [member_id for member_id, presence in self._presences.items() if presence.join is not None]

    def silent(self, now_ms: int) -> list[str]:
        """Whose session has ended."""
        return [member_id for member_id, presence in self._presences.items() if presence.is_silent(now_ms)]

    def next_deadline_ms(self) -> int | None:
        """When a session ends next."""
        running = (presence for presence in self._presences.values() if not presence.is_excused)
        return min((presence.session_deadline_ms for presence in running), default=None)

    @property
    def rebalance_timeout_ms(self) -> int:
        """The slowest member's; 0 without members."""
        return max((member.rebalance_timeout_ms for member in self._members.values()), default=0)

    def all_support(self, protocol: str) -> bool:
        return all(member.supports(protocol) for member in self._members.values())

    def selected_protocol(self) -> str:
        """Of those that all support the one that most like best; of equals the first by name."""
        some = next(iter(self._members.values()))
        common = {protocol.name for protocol in some.protocols if self.all_support(protocol.name)}
        votes = Counter(
            next(protocol.name for protocol in member.protocols if protocol.name in common)
            for member in self._members.values()
        )
        return min(votes, key=lambda name: (-votes[name], name))

    @property
    def size_bytes(self) -> int:
        """What all have said of themselves."""
        return sum(protocols_size(member.protocols) for member in self._members.values())

    # Changes.

    def add(self, member_id: str, member: ClassicMember, presence: Presence) -> None:
        self._members[member_id], self._presences[member_id] = member, presence

    def put(self, member_id: str, member: ClassicMember) -> None:
        """Put the member in the place of what it was."""
        self._members[member_id] = member

    def remove(self, member_id: str) -> list[int]:
        """Take the member out; return the tickets with which it waits."""
        del self._members[member_id]
        return self._presences.pop(member_id).tickets

    def rename(self, old_id: str, new_id: str, now_ms: int) -> list[int]:
        """Give a static member that is back its new id; return the tickets with which the old one waits."""
        member = self._members[old_id]
        tickets = self.remove(old_id)
        self.add(new_id, member, Presence(now_ms + member.session_timeout_ms))
        return tickets

    def wait(self, member_id: str, *, join: int | None = None, sync: int | None = None) -> int | None:
        """Let a join or a sync wait; return the ticket of one that it gave up for this one."""
        presence = self._presences[member_id]
        given_up = presence.sync if join is None else presence.join
        self._presences[member_id] = replace(
            presence, join=presence.join if join is None else join, sync=presence.sync if sync is None else sync
        )
        return given_up

    def heard_of(self, member_id: str, now_ms: int) -> None:
        deadline_ms = now_ms + self._members[member_id].session_timeout_ms
        self._presences[member_id] = replace(self._presences[member_id], session_deadline_ms=deadline_ms)

    def end_sync(self, member_id: str, now_ms: int) -> None:
        """Its sync no longer waits."""
        self._presences[member_id] = replace(self._presences[member_id], sync=None)
        self.heard_of(member_id, now_ms)

    def end_waits(self, member_id: str, now_ms: int) -> None:
        """Nothing of the member waits any more, and its session begins anew."""
        self._presences[member_id] = Presence(now_ms + self._members[member_id].session_timeout_ms)


def protocols_size(protocols: Iterable[MemberProtocol]) -> int:
    """In bytes."""
    return sum(len(protocol.name.encode()) + len(protocol.metadata) for protocol in protocols)
