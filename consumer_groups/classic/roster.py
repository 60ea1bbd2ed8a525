"""The members of a classic group as they are now, who of them waits for an answer, and what they have in common. What
is durable, as the `roster` of the other protocol is, is `saved_state`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from consumer_groups.member import ClassicMember, MemberProtocol
from consumer_groups.room import texts_size


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

    @property
    def is_excused(self) -> bool:
        """It waits for an answer, so its silence is in order; but not for ever with one that has just come."""
        return not self.is_new and bool(self.tickets)


class ClassicRoster:
    """What is asked at every request is counted as things change: there may be a thousand members."""

    def __init__(self, members: Mapping[str, ClassicMember], now_ms: int) -> None:
        """The members that a group has at now_ms, with whole sessions before them."""
        self._members: dict[str, ClassicMember] = {}
        self._presences: dict[str, Presence] = {}
        self._supporters: Counter[str] = Counter()
        self._said_bytes = self._size_bytes = 0
        self._joined_count = 0
        # No session ends before; None: none is running.
        self._earliest_ms: int | None = None
        for member_id, member in members.items():
            self.add(member_id, member, Presence(now_ms + member.session_timeout_ms))

    def copy(self) -> "ClassicRoster":
        copy = ClassicRoster({}, 0)
        copy.__dict__.update(self.__dict__)
        copy._members, copy._presences = dict(self._members), dict(self._presences)
        copy._supporters = self._supporters.copy()
        return copy

    # What is asked of it.

    @property
    def members(self) -> Mapping[str, ClassicMember]:
        return self._members

    @property
    def presences(self) -> Mapping[str, Presence]:
        return self._presences

    def __contains__(self, member_id: str) -> bool:
        return member_id in self._members

    def __getitem__(self, member_id: str) -> ClassicMember:
        return self._members[member_id]

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def instance(self, instance_id: str) -> str | None:
        """The static member of that instance id."""
        if instance_id:
            for member_id, member in self._members.items():
                if member.instance_id == instance_id:
                    return member_id
        return None

    @property
    def joined_count(self) -> int:
        """How many wait for the others to join."""
        return self._joined_count

    def has_joined(self, member_id: str) -> bool:
        presence = self._presences.get(member_id)
        return presence is not None and presence.join is not None

    @property
    def next_deadline_ms(self) -> int | None:
        """When a session may end next: one that has begun anew meanwhile does not."""
        return self._earliest_ms

    def silent(self, now_ms: int) -> list[str]:
        """Whose session has ended."""
        if self._earliest_ms is None or now_ms < self._earliest_ms:
            return []
        running = {
            member_id: presence.session_deadline_ms
            for member_id, presence in self._presences.items()
            if not presence.is_excused
        }
        self._earliest_ms = min(running.values(), default=None)
        return [member_id for member_id, deadline_ms in running.items() if now_ms >= deadline_ms]

    @property
    def rebalance_timeout_ms(self) -> int:
        """The slowest member's; 0 without members."""
        return max((member.rebalance_timeout_ms for member in self._members.values()), default=0)

    def all_support(self, protocol: str) -> bool:
        return self._supporters[protocol] == len(self._members)

    def selected_protocol(self) -> str:
        """Of those that all support the one that most like best; of equals the first by name."""
        votes = Counter(
            next(protocol.name for protocol in member.protocols if self.all_support(protocol.name))
            for member in self._members.values()
        )
        return min(votes, key=lambda name: (-votes[name], name))

    @property
    def said_bytes(self) -> int:
        """What all have said of themselves."""
        return self._said_bytes

    @property
    def size_bytes(self) -> int:
        """What all have brought, as it counts in all (see `room`)."""
        return self._size_bytes

    # Changes.

    def add(self, member_id: str, member: ClassicMember, presence: Presence) -> None:
        self.put(member_id, member)
        self._put_presence(member_id, presence)

    def put(self, member_id: str, member: ClassicMember) -> None:
        """Put the member in the place of what it was, if it was there."""
        self._take_away(member_id)
        self._members[member_id] = member
        self._supporters.update(protocol.name for protocol in member.protocols)
        self._said_bytes += protocols_size(member.protocols)
        self._size_bytes += texts_size(member_id) + member.size_bytes

    def assign(self, member_id: str, assignment: bytes) -> None:
        member = self._members[member_id]
        self._members[member_id] = replace(member, assignment=assignment)
        self._size_bytes += len(assignment) - len(member.assignment)

    def remove(self, member_id: str) -> list[int]:
        """Take the member out; return the tickets with which it waits."""
        self._take_away(member_id)
        del self._members[member_id]
        presence = self._presences.pop(member_id)
        self._joined_count -= presence.join is not None
        return presence.tickets

    def rename(self, old_id: str, new_id: str, now_ms: int) -> list[int]:
        """Give a static member that is back its new id; return the tickets with which the old one waits."""
        member = self._members[old_id]
        tickets = self.remove(old_id)
        self.add(new_id, member, Presence(now_ms + member.session_timeout_ms))
        return tickets

    def wait(self, member_id: str, *, join: int | None = None, sync: int | None = None) -> int | None:
        """Let a join or a sync wait; return the ticket of one that it gave up for this one."""
        presence = self._presences[member_id]
        if join is not None:
            self._put_presence(member_id, replace(presence, join=join))
            return presence.join
        self._put_presence(member_id, replace(presence, sync=sync))
        return presence.sync

    def heard_of(self, member_id: str, now_ms: int) -> None:
        deadline_ms = now_ms + self._members[member_id].session_timeout_ms
        self._put_presence(member_id, replace(self._presences[member_id], session_deadline_ms=deadline_ms))

    def end_sync(self, member_id: str, now_ms: int) -> None:
        """Its sync no longer waits."""
        self._put_presence(member_id, replace(self._presences[member_id], sync=None))
        self.heard_of(member_id, now_ms)

    def end_waits(self, member_id: str, now_ms: int) -> None:
        """Nothing of the member waits any more, and its session begins anew."""
        self._put_presence(member_id, Presence(now_ms + self._members[member_id].session_timeout_ms))

    def _take_away(self, member_id: str) -> None:
        member = self._members.get(member_id)
        if member is not None:
            self._supporters.subtract(protocol.name for protocol in member.protocols)
            self._said_bytes -= protocols_size(member.protocols)
            self._size_bytes -= texts_size(member_id) + member.size_bytes

    def _put_presence(self, member_id: str, presence: Presence) -> None:
        self._joined_count += (presence.join is not None) - self.has_joined(member_id)
        self._presences[member_id] = presence
        if not presence.is_excused and (self._earliest_ms is None or presence.session_deadline_ms < self._earliest_ms):
            self._earliest_ms = presence.session_deadline_ms


def protocols_size(protocols: Iterable[MemberProtocol]) -> int:
    """In bytes."""
    return sum(len(protocol.name.encode()) + len(protocol.metadata) for protocol in protocols)
