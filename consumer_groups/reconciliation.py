"""A group of the consumer group protocol as it moves by itself: its epochs, its plans, and by when members must have
followed them.

Three epochs move in turn. The *group epoch* rises when the members or what there is to read change; the *assignment
epoch* says for which group epoch the target assignment was planned; a *member epoch* says which target the member has
reached. Partitions move one by one: the old owner gives its up, then the new one gets them, and all others go on.

Deadlines, and what members said or were told last, are not durable: after a restart sessions start afresh.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Self

from consumer_groups.config import GroupConfig
from consumer_groups.contacts import Contact, Contacts
from consumer_groups.journal_records import Change, Key, Value
from consumer_groups.member import Member, MemberState, reconcile
from consumer_groups.planning import Withheld, chosen_assignor, plan, withhold
from consumer_groups.requests import (
    CONSUMER,
    NOTHING,
    Assignment,
    GroupState,
    Partition,
)
from consumer_groups.roster import Roster
from consumer_groups.surroundings import TopicLookup

RECORDS_PER_MEMBER = 3


class Reconciliation:
    """What `group.Group` stands on, which takes the requests."""

    def __init__(self, name: str, config: GroupConfig, lookup: TopicLookup, withheld: Iterable[Partition] = ()) -> None:
        """withheld: what is being sought in the group of the other protocol that it was, of which nobody was left."""
        self.name = name
        self._config = config
        self._lookup = lookup
        self._roster = Roster(name)
        # Partitions being sought, with the member they were planned for: in no target until the seek is done.
        self._withheld: Withheld = dict.fromkeys(withheld)
        # When members must have given up what they were told to. Replaced, never changed: drafts share it.
        self._revocation_deadlines_ms: Mapping[str, int] = {}
        self._contacts = Contacts()

    @classmethod
    def restore(
        cls, name: str, config: GroupConfig, lookup: TopicLookup, image: Mapping[Key, Value], now_ms: int
    ) -> Self:
        """The group as the journal has it. Members go on in their epochs; their sessions start now."""
        group = cls(name, config, lookup)
        group._roster = Roster.restore(name, image)
        for member_id, member in group.members.items():
            group._heard_of(member_id, now_ms)
            group._time_revocation(member_id, NOTHING, member, now_ms)
        return group

    # Drafts.

    def copy(self) -> Self:
        """A draft to change in this one's place. Neither sees the other's changes, but for what is not durable."""
        self._contacts.keep_only(self.members)
        draft = type(self)(self.name, self._config, self._lookup)
        draft._roster = self._roster.copy()
        draft._revocation_deadlines_ms = self._revocation_deadlines_ms
        draft._withheld, draft._contacts = self._withheld, self._contacts
        return draft

    def changes_since(self, before: Self) -> list[Change]:
        """What to write so that the journal has this group instead of the one before."""
        return self._roster.changes_since(before._roster)

    def image(self) -> list[Change]:
        """What to write so that a journal has this group, whatever it had of it."""
        return self._roster.changes_since(Roster(self.name))

    # What is asked of a group.

    @property
    def is_blank(self) -> bool:
        """Nothing of it is durable."""
        return self.epoch == 0

    @property
    def records_count(self) -> int:
        """How many records `image` takes."""
        return (not self.is_blank) + RECORDS_PER_MEMBER * len(self.members)

    @property
    def size_bytes(self) -> int:
        """What its members have brought, as it counts in all (see `room`)."""
        return self._roster.size_bytes

    @property
    def protocol_type(self) -> str:
        """As Kafka lists it; empty when there was never a member."""
        return "" if self.is_blank else CONSUMER

    @property
    def epoch(self) -> int:
        return self._roster.epoch

    @property
    def assignment_epoch(self) -> int:
        return self._roster.assignment_epoch

    @property
    def state(self) -> GroupState:
        if not self.members:
            return GroupState.EMPTY
        if self.epoch > self.assignment_epoch:
            return GroupState.ASSIGNING
        for member in self.members.values():
            if member.holding.epoch != self.assignment_epoch or member.holding.state is not MemberState.STABLE:
                return GroupState.RECONCILING
        return GroupState.STABLE

    @property
    def emptied_ms(self) -> int | None:
        """When the last member went, by the wall clock; None: not known, or none was ever there."""
        return self._roster.emptied_ms

    @property
    def members(self) -> Mapping[str, Member]:
        return self._roster.members

    @property
    def assignor(self) -> str:
        """The one most members ask for; the default when none asks."""
        return chosen_assignor(self.members.values(), self._config.assignor)

    def target(self, member_id: str) -> Assignment:
        return self._roster.target(member_id)

    def subscribed_topics(self) -> set[str]:
        """What any of the members reads."""
        return {name for member in self.members.values() for name in member.profile.topics}

    def owners(self) -> Mapping[Partition, str]:
        """All that is held, or still to be given up, and by whom."""
        return self._roster.owners

    def owner(self, partition: Partition) -> str | None:
        """Who holds the partition, or is still to give it up."""
        return self._roster.owner(partition)

    def next_deadline_ms(self) -> int | None:
        """When `expire` has something to do next, if nothing else happens."""
        deadlines = [self._contacts[member_id].session_deadline_ms for member_id in self.members]
        deadlines.extend(self._revocation_deadlines_ms.values())
        if self.epoch > self.assignment_epoch:
            deadlines.append(self._plan_due_ms())
        return min(deadlines, default=None)

    # Events.

    def expire(self, now_ms: int) -> None:
        """Fence the members whose time is up, and plan if that is due."""
        late = {member_id for member_id in self.members if now_ms >= self._contacts[member_id].session_deadline_ms}
        late.update(
            member_id for member_id, deadline_ms in self._revocation_deadlines_ms.items() if now_ms >= deadline_ms
        )
        if late:
            self._remove(sorted(late), now_ms)
        else:
            self._plan_if_due(now_ms)

    def emptied(self, wall_ms: int) -> None:
        """Note when the last member went. What it read to is kept for a while from then on."""
        self._roster.emptied_ms = wall_ms

    def topics_changed(self, now_ms: int) -> None:
        """Plan again, and leave things as they are if that changes nothing."""
        if not self.members:
            return
        targets, _ = withhold(self._planned(), self._withheld)
        if self.epoch > self.assignment_epoch or targets != self._roster.targets:
            self._roster.epoch += 1
            self._plan(now_ms)

    def reconcile_waiting(self, member_ids: Collection[str], now_ms: int) -> None:
        """Move members on that wait for an answer: what they are told next is told at once."""
        for member_id in sorted(member_ids):
            if member_id in self.members:
                self._reconcile(member_id, None, now_ms)

    # Seeks.

    def withheld(self, partitions: Iterable[Partition]) -> list[Partition]:
        """Those of the partitions that are being sought."""
        return [partition for partition in partitions if partition in self._withheld]

    @property
    def all_withheld(self) -> Assignment:
        return frozenset(self._withheld)

    def withhold(self, partitions: Assignment, now_ms: int) -> None:
        """Take partitions out of the target assignment, for a seek. They are free once their owners gave them up."""
        assert not self.withheld(partitions), "a seek takes what no other seek has"
        homes = {partition: member_id for member_id, target in self._roster.targets.items() for partition in target}
        self._withheld = {**self._withheld, **{partition: homes.get(partition) for partition in partitions}}
        self._roster.epoch += 1
        self._plan(now_ms)

    def are_free(self, partitions: Assignment) -> bool:
        """True when nobody holds any of them. Those withheld for a seek then stay free until `give_back`."""
        return not self.holdouts(partitions)

    def holdouts(self, partitions: Assignment) -> set[str]:
        """Who still holds any of them."""
        return {owner for partition in partitions if (owner := self.owner(partition)) is not None}

    def check_seek(self) -> None:
        """Nothing: what members hold is known, so a seek that was begun can be ended."""

    def give_back(self, partitions: Assignment, now_ms: int) -> None:
        """Assign partitions again that were withheld."""
        # The member they were taken from is the first choice for them: tell the planner so before they are let go.
        for partition in partitions:
            member_id = self._withheld.get(partition)
            if member_id is not None and member_id in self.members:
                self._roster.set_target(member_id, self.target(member_id) | {partition})
        self._withheld = {partition: home for partition, home in self._withheld.items() if partition not in partitions}
        self._roster.epoch += 1
        self._plan(now_ms)

    # Planning and moving on.

    def _plan_due_ms(self) -> int:
        if self._contacts.planned_ms is None:
            return 0
        return self._contacts.planned_ms + self._config.assignment_interval_ms

    def _plan_if_due(self, now_ms: int) -> None:
        if self.epoch > self.assignment_epoch and now_ms >= self._plan_due_ms():
            self._plan(now_ms)

    def _plan(self, now_ms: int) -> None:
        """Make a target assignment for the group as it is now."""
        targets, self._withheld = withhold(self._planned(), self._withheld)
        self._roster.set_targets(targets)
        self._roster.assignment_epoch = self.epoch
        self._contacts.planned_ms = now_ms
        for member_id, member in list(self.members.items()):
            # Nobody works on what a member that is away holds: what is no longer meant for it is free at once.
            if member.holding.away and not member.holding.assigned <= self.target(member_id):
                kept = member.holding.assigned & self.target(member_id)
                self._put(member_id, Member(member.profile, replace(member.holding, assigned=kept)), now_ms)

    def _planned(self) -> dict[str, Assignment]:
        """Who should have what, as if nothing were being sought: a seek must not shuffle what it does not touch."""
        return plan(self.members, self._roster.targets, self._withheld, self.assignor, self._lookup)

    def _reconcile(self, member_id: str, owned: Assignment | None, now_ms: int) -> None:
        member = self.members[member_id]
        if member.holding.away:
            return
        step = reconcile(
            member.holding,
            target_epoch=self.assignment_epoch,
            target=self.target(member_id),
            is_free=lambda partition: self.owner(partition) in (None, member_id),
            owned=owned,
        )
        if step is not member.holding:
            self._put(member_id, Member(member.profile, step), now_ms)

    # Members, and by when what is heard of them.

    def _remove(self, member_ids: Iterable[str], now_ms: int) -> None:
        for member_id in member_ids:
            self._drop(member_id)
        self._roster.epoch += 1
        self._plan_if_due(now_ms)

    def _put(self, member_id: str, member: Member, now_ms: int) -> None:
        old = self.members.get(member_id)
        self._roster.put(member_id, member)
        if member_id not in self._contacts:
            self._heard_of(member_id, now_ms)
        self._time_revocation(member_id, NOTHING if old is None else old.holding.revoking, member, now_ms)

    def _drop(self, member_id: str) -> None:
        self._roster.drop(member_id)
        self._end_revocation(member_id)

    def _time_revocation(self, member_id: str, before: Assignment, member: Member, now_ms: int) -> None:
        """Whoever is told to give up something more gets its own time for it."""
        if not member.holding.revoking:
            self._end_revocation(member_id)
        elif member.holding.revoking != before:
            deadline_ms = now_ms + member.profile.rebalance_timeout_ms
            self._revocation_deadlines_ms = {**self._revocation_deadlines_ms, member_id: deadline_ms}

    def _end_revocation(self, member_id: str) -> None:
        if member_id in self._revocation_deadlines_ms:
            self._revocation_deadlines_ms = {
                other: deadline_ms for other, deadline_ms in self._revocation_deadlines_ms.items() if other != member_id
            }

    def _contact(self, member_id: str) -> Contact | None:
        """None for one that is no member: what is left of it says nothing."""
        return self._contacts[member_id] if member_id in self.members else None

    def _heard_of(self, member_id: str, now_ms: int) -> Contact:
        """Note that the member was heard of, and return what else is known of it."""
        return self._contacts.heard_of(member_id, now_ms + self._config.session_timeout_ms)
