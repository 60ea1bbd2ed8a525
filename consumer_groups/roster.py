"""What of a group is durable: its epochs, its members, what is meant for each, and what each holds. Of a classic group
that is `classic.saved_state`, and `classic.roster` has what is not durable as well.

The state machine changes a copy; `changes_since` is what the journal needs to follow. A copy shares everything until
its first change.
"""

import logging
from collections.abc import Mapping

from consumer_groups.journal_records import Change, GroupEpochs, GroupKey, HoldingKey, Key, MemberKey, TargetKey, Value
from consumer_groups.member import Holding, Member, Profile
from consumer_groups.requests import NOTHING, Assignment, Partition
from consumer_groups.room import texts_size

log = logging.getLogger(__name__)


class Roster:
    def __init__(self, group: str) -> None:
        self.group = group
        self.epoch = 0
        #: The group epoch that the targets were planned for.
        self.assignment_epoch = 0
        #: Wall clock, when the last member went; None: not known, or none was ever there.
        self.emptied_ms: int | None = None
        self._members: dict[str, Member] = {}
        self._targets: dict[str, Assignment] = {}
        # Who holds a partition, be it assigned or still to be given up. Derived from the members.
        self._owners: dict[Partition, str] = {}
        self._size_bytes = 0
        self._shared = False

    @classmethod
    def restore(cls, group: str, image: Mapping[Key, Value]) -> "Roster":
        """The roster as the journal has it.

        A journal may lack records whose loss was accepted. Then members of which only half is there are out, and so is
        who holds, as of an older epoch, what another has: they are told when they come, and join again.
        """
        roster = cls(group)
        profiles: dict[str, Profile] = {}
        holdings: dict[str, Holding] = {}
        for key, value in image.items():
            match key, value:
                case GroupKey(), GroupEpochs():
                    roster.epoch, roster.assignment_epoch = value.epoch, value.assignment_epoch
                    roster.emptied_ms = value.emptied_ms
                case MemberKey(), Profile():
                    profiles[key.member_id] = value
                case TargetKey(), frozenset():
                    roster._targets[key.member_id] = value
                case HoldingKey(), Holding():
                    holdings[key.member_id] = value
        for member_id, holding in sorted(holdings.items(), key=lambda item: -item[1].epoch):
            held_twice = any(partition in roster._owners for partition in holding.assigned | holding.revoking)
            if member_id in profiles and not held_twice:
                roster.put(member_id, Member(profiles[member_id], holding))
            else:
                log.warning("group %s: the journal lacks records, so member %s is out", group, member_id)
        for member_id in roster._targets.keys() - roster._members.keys():
            del roster._targets[member_id]
        newest = max((member.holding.epoch for member in roster._members.values()), default=0)
        if newest > roster.assignment_epoch:  # its targets are lost: plan anew
            roster.epoch = max(roster.epoch, newest + 1)
        return roster

    def copy(self) -> "Roster":
        copy = Roster(self.group)
        copy.epoch, copy.assignment_epoch = self.epoch, self.assignment_epoch
        copy.emptied_ms = self.emptied_ms
        copy._members, copy._targets, copy._owners = self._members, self._targets, self._owners
        copy._size_bytes = self._size_bytes
        self._shared = copy._shared = True
        return copy

    def changes_since(self, before: "Roster") -> list[Change]:
        """What to write so that the journal has this roster instead of the one before."""
        changes: list[Change] = []
        if self._epochs() != before._epochs():
            changes.append((GroupKey(self.group), self._epochs()))
        if self._members is before._members:  # still shared: no member and no target has changed
            return changes
        for member_id in sorted(before._members.keys() - self._members.keys()):
            changes += [
                (HoldingKey(self.group, member_id), None),
                (TargetKey(self.group, member_id), None),
                (MemberKey(self.group, member_id), None),
            ]
        for member_id, member in self._members.items():
            old = before._members.get(member_id)
            if old is None or old.profile != member.profile:
                changes.append((MemberKey(self.group, member_id), member.profile))
            if self._targets.get(member_id) != before._targets.get(member_id):
                changes.append((TargetKey(self.group, member_id), self._targets.get(member_id)))
            if old is None or old.holding != member.holding:
                changes.append((HoldingKey(self.group, member_id), member.holding))
        return changes

    @property
    def members(self) -> Mapping[str, Member]:
        return self._members

    @property
    def size_bytes(self) -> int:
        """What all members have brought, as it counts in all (see `room`)."""
        return self._size_bytes

    @property
    def targets(self) -> Mapping[str, Assignment]:
        return self._targets

    def target(self, member_id: str) -> Assignment:
        return self._targets.get(member_id, NOTHING)

    def owner(self, partition: Partition) -> str | None:
        return self._owners.get(partition)

    @property
    def owners(self) -> Mapping[Partition, str]:
        return self._owners

    def instance(self, instance_id: str) -> str | None:
        """The static member of that instance id."""
        if not instance_id:
            return None
        for member_id, member in self._members.items():
            if member.profile.instance_id == instance_id:
                return member_id
        return None

    def put(self, member_id: str, member: Member) -> None:
        """Add the member, or put it in the place of what it was."""
        self._unshare()
        self._disown(member_id)
        self._recount(member_id, member.profile)
        for partition in member.holding.assigned | member.holding.revoking:
            assert partition not in self._owners, "a partition has one owner"
            self._owners[partition] = member_id
        self._members[member_id] = member

    def drop(self, member_id: str) -> None:
        self._unshare()
        self._disown(member_id)
        self._recount(member_id, None)
        self._members.pop(member_id, None)
        self._targets.pop(member_id, None)

    def set_targets(self, targets: Mapping[str, Assignment]) -> None:
        self._unshare()
        self._targets = dict(targets)

    def set_target(self, member_id: str, target: Assignment) -> None:
        self._unshare()
        self._targets[member_id] = target

    def _epochs(self) -> GroupEpochs:
        return GroupEpochs(self.epoch, self.assignment_epoch, self.emptied_ms)

    def _disown(self, member_id: str) -> None:
        member = self._members.get(member_id)
        if member is not None:
            for partition in member.holding.assigned | member.holding.revoking:
                del self._owners[partition]

    def _recount(self, member_id: str, profile: Profile | None) -> None:
        """Count what the member brings from now on in the place of what it brought; None: it is out."""
        old = self._members.get(member_id)
        if old is not None and old.profile is profile:  # as with every step that it takes
            return
        if old is not None:
            self._size_bytes -= texts_size(member_id) + old.profile.size_bytes
        if profile is not None:
            self._size_bytes += texts_size(member_id) + profile.size_bytes

    def _unshare(self) -> None:
        if self._shared:
            self._members, self._targets = dict(self._members), dict(self._targets)
            self._owners = dict(self._owners)
            self._shared = False
