"""The seek of a running classic group: what is taken from its members, and what they must know before it holds.

    withheld --all join again--> stripped --all are told what is left--> free --new offsets--> given back

To seek in a running group, partitions are withheld: all members must join again, and what the leader assigns is
stripped of them. Once everybody has been told what is left, nobody has them, and nobody of this generation may commit
them, whatever follows. Then the new offsets are written, and a further rebalance gives the partitions back. A member of
cooperative ones that joins for that, and says that it still has one, has missed what it was told: that partition is
stripped once more, since a client that gets what it has goes on where it was.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from consumer_groups.classic.partitions import claimed, without
from consumer_groups.consumer_protocol import Unreadable, read_assignment
from consumer_groups.errors import AssignmentUnreadable
from consumer_groups.member import ClassicMember
from consumer_groups.requests import CONSUMER, NOTHING, Assignment
from consumer_groups.surroundings import TopicLookup

_STOP_AND_SEEK = "Stop the members of the group, and seek then."


@dataclass(slots=True)
class ClassicSeek:
    """All that is being sought in one group, by one seek or by several. Its sets are replaced, never changed."""

    group: str
    lookup: TopicLookup
    #: What is being sought.
    withheld: Assignment = NOTHING
    #: What nobody of this generation may commit, since it was being sought or is.
    stripped: Assignment = NOTHING
    # Members that have not been told yet what was stripped, and may be at work on it; and what of it was stripped
    # before that, so that they know.
    _untold: frozenset[str] = frozenset()
    _freed: Assignment = NOTHING
    # What was stripped, and members of this generation said when they joined that they have it.
    _claimed: Assignment = NOTHING
    # Why a seek that was begun cannot be ended.
    _unreadable: str | None = None

    def copy(self) -> "ClassicSeek":
        return replace(self)

    def withhold(self, partitions: Assignment, protocol_type: str, members: Mapping[str, ClassicMember]) -> None:
        """Take partitions from whoever has them. Raises AssignmentUnreadable if nobody can say who."""
        if protocol_type != CONSUMER:
            raise AssignmentUnreadable(
                f"group {self.group!r} is of protocol type {protocol_type!r}: what its members have are not partitions"
                " that the server knows of",
                remedy=_STOP_AND_SEEK,
            )
        for member_id, member in members.items():
            try:
                read_assignment(member.assignment)
            except Unreadable as error:
                raise self._cannot_read(member_id, error) from error
        self._unreadable = None
        self.withheld |= partitions

    def begin_generation(self, protocol: str, joined: Iterable[ClassicMember]) -> None:
        """What was sought and is not any more is given out again in this generation; not yet, if somebody claims it."""
        if self.stripped:
            self._claimed = (self.stripped - self._claimed) & claimed(protocol, joined, self.lookup)
            self.stripped &= self.withheld | self._claimed

    def end_generations(self) -> None:
        """Nobody is left."""
        self.stripped &= self.withheld
        self._claimed = NOTHING

    def strip(self, assignments: Mapping[str, bytes]) -> Mapping[str, bytes]:
        """What all members are to be told of what their leader assigns.

        If that cannot be read they are told of all of it: the members go on, and the seek does not.
        """
        if not self._untold:
            self._freed = self.stripped
        self.stripped = self.withheld | self._claimed
        if self.stripped:
            try:
                assignments = {member_id: self._left(member_id, data) for member_id, data in assignments.items()}
            except AssignmentUnreadable as error:
                self._unreadable = str(error)
                self.withheld = self.stripped = self._claimed = NOTHING
        self._freed &= self.withheld
        self._untold = frozenset(assignments if self.withheld - self._freed else ())
        return assignments

    def told(self, member_id: str) -> None:
        """The member knows what is left for it, or is out, or works on nothing."""
        self._untold -= {member_id}

    @property
    def is_to_be_assigned_again(self) -> bool:
        """Once all have synced: something was stripped only because it was claimed."""
        return bool(self._claimed)

    def are_free(self, partitions: Assignment) -> bool:
        """True when no member has any of them, nor may commit it."""
        return partitions <= (self._freed if self._untold else self.stripped)

    def check(self) -> None:
        """Raise AssignmentUnreadable if a seek that was begun cannot be ended. Then nothing is withheld any more."""
        if self._unreadable is not None:
            raise AssignmentUnreadable(self._unreadable, remedy=_STOP_AND_SEEK)

    def give_back(self, partitions: Assignment) -> None:
        self.withheld -= partitions

    def _left(self, member_id: str, assignment: bytes) -> bytes:
        try:
            return without(assignment, self.stripped, self.lookup)
        except Unreadable as error:
            raise self._cannot_read(member_id, error) from error

    def _cannot_read(self, member_id: str, error: Unreadable) -> AssignmentUnreadable:
        return AssignmentUnreadable(
            f"what the leader of group {self.group!r} assigned to member {member_id!r} cannot be read, so nobody can"
            f" say who has what: {error}",
            remedy=_STOP_AND_SEEK,
        )
