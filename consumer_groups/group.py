"""A group of the consumer group protocol (KIP-848), as a state machine that takes requests and a time, and never waits,
sleeps or writes.

Three epochs move in turn. The *group epoch* rises when the members or what there is to read change; the *assignment
epoch* says for which group epoch the target assignment was planned; a *member epoch* says which target the member has
reached. Partitions move one by one: the old owner gives its up, then the new one gets them, and all others go on.

A change is made on a copy, and the caller puts it in the group's place once `changes_since` is durable:

    draft = group.copy()
    draft.heartbeat(request, now_ms)
    journal(draft.changes_since(group))
    group = draft

So what has been answered is always on disk, and what could not be written has not happened. Deadlines, and what
members said or were told last, are not durable: after a restart sessions start afresh.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from uuid import UUID

from consumer_groups import group_checks as checks
from consumer_groups.config import GroupConfig
from consumer_groups.contacts import Contact, Contacts
from consumer_groups.errors import FencedInstanceId, GroupMaxSizeReached, InvalidRequest
from consumer_groups.journal_records import Change, Key, Value
from consumer_groups.member import Holding, Member, MemberState, Profile, reconcile
from consumer_groups.planning import Withheld, chosen_assignor, plan, withhold
from consumer_groups.requests import (
    AWAY_EPOCH,
    CONSUMER,
    JOIN_EPOCH,
    LEAVE_EPOCH,
    NOTHING,
    Assignment,
    Committer,
    GroupState,
    HeartbeatRequest,
    Partition,
    TopicPartitions,
)
from consumer_groups.roster import Roster
from consumer_groups.surroundings import TopicLookup

RECORDS_PER_MEMBER = 3


class Group:
    """One group. Methods that change it raise before they change anything, or not at all."""

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
    ) -> "Group":
        """The group as the journal has it. Members go on in their epochs; their sessions start now."""
        group = cls(name, config, lookup)
        group._roster = Roster.restore(name, image)
        for member_id, member in group.members.items():
            group._heard_of(member_id, now_ms)
            group._time_revocation(member_id, NOTHING, member, now_ms)
        return group

    # Drafts.

    def copy(self) -> "Group":
        """A draft to change in this one's place. Neither sees the other's changes, but for what is not durable."""
        self._contacts.keep_only(self.members)
        draft = Group(self.name, self._config, self._lookup)
        draft._roster = self._roster.copy()
        draft._revocation_deadlines_ms = self._revocation_deadlines_ms
        draft._withheld, draft._contacts = self._withheld, self._contacts
        return draft

    def changes_since(self, before: "Group") -> list[Change]:
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

    def withheld(self, partitions: Iterable[Partition]) -> list[Partition]:
        """Those of the partitions that are being sought."""
        return [partition for partition in partitions if partition in self._withheld]

    @property
    def all_withheld(self) -> Assignment:
        return frozenset(self._withheld)

    def next_deadline_ms(self) -> int | None:
        """When `expire` has something to do next, if nothing else happens."""
        deadlines = [self._contacts[member_id].session_deadline_ms for member_id in self.members]
        deadlines.extend(self._revocation_deadlines_ms.values())
        if self.epoch > self.assignment_epoch:
            deadlines.append(self._plan_due_ms())
        return min(deadlines, default=None)

    # Events.

    def heartbeat(self, request: HeartbeatRequest, now_ms: int) -> None:
        """Take a heartbeat, whose form has been checked.

        One that was taken already, or is older than one that was, is not taken: what it says of what the member holds
        may be from before the member got a partition, and would free it while the member is at work on it.
        """
        self.expire(now_ms)
        contact = self._contact(request.member_id)
        if contact is not None and 0 < request.number <= contact.number:
            return
        if request.member_epoch == JOIN_EPOCH:
            self._join(request, now_ms)
        elif request.member_epoch == LEAVE_EPOCH:
            self._known(request)
            self._remove([request.member_id], now_ms)
        elif request.member_epoch == AWAY_EPOCH:
            self._step_away(request, now_ms)
        else:
            self._beat(request, now_ms)
        contact = self._contact(request.member_id)
        if contact is not None:
            contact.number = max(contact.number, request.number)

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

    def reconcile_waiting(self, member_ids: Collection[str], now_ms: int) -> None:
        """Move members on that wait for an answer: what they are told next is told at once."""
        for member_id in sorted(member_ids):
            if member_id in self.members:
                self._reconcile(member_id, None, now_ms)

    # Answers.

    def has_news(self, request: HeartbeatRequest) -> bool:
        """True when the answer to the request says something that the member does not know."""
        if request.member_id not in self.members or self._is_overtaken(request):
            return True
        holding = self.members[request.member_id].holding
        if request.member_epoch != holding.epoch:
            return True
        if request.owned is not None and self._owned(request) == holding.assigned:
            return False
        full = request.subscription is not None and request.owned is not None
        return full or self._contacts[request.member_id].told != (holding.epoch, holding.assigned)

    def answer(self, request: HeartbeatRequest) -> tuple[int, Assignment | None]:
        """The member's epoch, and what it may hold if it has not said that it does. Raises UnknownMemberId."""
        if self._is_overtaken(request):
            # Nobody may be waiting for this answer any more, so it does not count as told.
            holding = self.members[request.member_id].holding
            return holding.epoch, holding.assigned
        if request.member_epoch in (LEAVE_EPOCH, AWAY_EPOCH):
            return request.member_epoch, None
        holding = self._known(request).holding
        contact = self._contacts[request.member_id]
        knows = (
            request.member_epoch == holding.epoch
            and not (request.subscription is not None and request.owned is not None)
            and contact.reported == holding.assigned
            and contact.told is not None
            and contact.told[1] == holding.assigned
        )
        contact.told = holding.epoch, holding.assigned
        return holding.epoch, None if knows else holding.assigned

    def take_answers(self) -> tuple[()]:
        """None: nobody here waits to join or to sync, as members of the classic protocol do."""
        return ()

    # Commits.

    def check_committer(self, committer: Committer, now_ms: int) -> None:
        """Raise unless this is a member in its current epoch, or somebody outside of a group without members.

        A member's commit that a newer one has overtaken is refused, too.
        """
        if not committer.member_id:
            checks.check_outsider(self.name, committer, len(self.members))
            return
        member = self.members.get(committer.member_id)
        if member is None:
            raise checks.unknown(self.name, committer.member_id)
        contact = self._contacts[committer.member_id]
        checks.check_commit(self.name, committer, member.holding.epoch, contact.commit_number)
        contact.commit_number = max(contact.commit_number, committer.number)

    def check_member(self, member_id: str, epoch: int) -> None:
        """Raise UnknownMemberId or StaleMemberEpoch unless this is a member in its current epoch."""
        member = self.members.get(member_id)
        if member is None:
            raise checks.unknown(self.name, member_id)
        checks.check_fetch(self.name, member_id, epoch, member.holding.epoch)

    def may_commit(self, committer: Committer, partition: Partition) -> bool:
        """Whether a checked committer may commit this partition: its owner to the last, and nobody else."""
        if not committer.member_id:
            return partition not in self._withheld
        return self.owner(partition) == committer.member_id

    # Membership.

    def _join(self, request: HeartbeatRequest, now_ms: int) -> None:
        assert request.subscription is not None, "checked with the request's form"
        member_id = request.member_id
        current = self.members.get(member_id)
        predecessor = self._roster.instance(request.instance_id)
        if predecessor is not None and predecessor != member_id:
            if not self.members[predecessor].holding.away:
                raise checks.unreleased(self.name, request.instance_id, predecessor)
        elif current is None and len(self.members) >= self._config.members_max:
            raise GroupMaxSizeReached.of(self.name, len(self.members))

        old = current
        if predecessor is not None and predecessor != member_id:
            old = self._take_over(predecessor, member_id)
        profile = self._profile(request, old)
        if old is None or set(old.profile.topics) != set(profile.topics) or old.profile.assignor != profile.assignor:
            self._roster.epoch += 1
        # Whoever joins holds nothing, also a member that is known: what it was to give up is given up. What is
        # assigned to it is kept for it, and told again.
        assigned = NOTHING if old is None else old.holding.assigned
        self._put(member_id, Member(profile, Holding(assigned=assigned)), now_ms)
        self._heard_of(member_id, now_ms).reported = NOTHING
        self._plan_if_due(now_ms)
        self._reconcile(member_id, NOTHING, now_ms)

    def _beat(self, request: HeartbeatRequest, now_ms: int) -> None:
        member_id = request.member_id
        member = self._known(request)
        owned = self._owned(request)
        checks.check_epoch(self.name, member_id, request.member_epoch, member.holding, owned)

        contact = self._heard_of(member_id, now_ms)
        if owned is not None:
            contact.reported = owned
        if request.subscription is not None:
            profile = self._profile(request, member)
            if profile != member.profile:
                if set(profile.topics) != set(member.profile.topics) or profile.assignor != member.profile.assignor:
                    self._roster.epoch += 1
                self._put(member_id, Member(profile, member.holding), now_ms)
        self._plan_if_due(now_ms)
        self._reconcile(member_id, owned, now_ms)

    def _step_away(self, request: HeartbeatRequest, now_ms: int) -> None:
        member = self._known(request)
        if not member.profile.instance_id:
            raise InvalidRequest(
                f"member {request.member_id!r} of group {self.name!r} has no instance id: it cannot leave for a while",
                remedy="Leave with epoch -1, or join with an instance id.",
            )
        # It has stopped, so what it was to give up is given up; what it may keep is kept until its session ends.
        holding = Holding(AWAY_EPOCH, AWAY_EPOCH, MemberState.STABLE, member.holding.assigned)
        self._put(request.member_id, Member(member.profile, holding), now_ms)
        self._heard_of(request.member_id, now_ms).reported = NOTHING

    def _take_over(self, predecessor: str, member_id: str) -> Member:
        """Let a static member that comes back, under a new id, have what was kept for it."""
        old, target = self.members[predecessor], self.target(predecessor)
        self._drop(member_id)
        self._drop(predecessor)
        self._roster.set_target(member_id, target)
        self._withheld = {
            partition: member_id if home == predecessor else home for partition, home in self._withheld.items()
        }
        return old

    def _remove(self, member_ids: Iterable[str], now_ms: int) -> None:
        for member_id in member_ids:
            self._drop(member_id)
        self._roster.epoch += 1
        self._plan_if_due(now_ms)

    def _known(self, request: HeartbeatRequest) -> Member:
        holder = self._roster.instance(request.instance_id)
        if holder is not None and holder != request.member_id:
            raise FencedInstanceId.of(self.name, request.instance_id, holder, request.member_id)
        member = self.members.get(request.member_id)
        if member is None:
            raise checks.unknown(self.name, request.member_id)
        return member

    def _profile(self, request: HeartbeatRequest, old: Member | None) -> Profile:
        assert request.subscription is not None
        timeout_ms = request.rebalance_timeout_ms
        if timeout_ms == 0:
            timeout_ms = self._config.rebalance_timeout_ms if old is None else old.profile.rebalance_timeout_ms
        return Profile(
            instance_id=request.instance_id or ("" if old is None else old.profile.instance_id),
            client_id=request.client_id,
            client_host=request.client_host,
            rebalance_timeout_ms=min(timeout_ms, self._config.rebalance_timeout_ms_max),
            topics=tuple(sorted(set(request.subscription))),
            assignor=request.assignor,
        )

    def _owned(self, request: HeartbeatRequest) -> Assignment | None:
        if request.owned is None:
            return None
        return frozenset(
            Partition(topic_id, number)
            for topic in request.owned
            if (topic_id := self._topic_id(topic)) is not None
            for number in topic.partitions
        )

    def _topic_id(self, topic: TopicPartitions) -> UUID | None:
        if topic.topic_id is not None:
            return topic.topic_id
        info = self._lookup(topic.topic)
        return None if info is None else info.topic_id

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

    def _is_overtaken(self, request: HeartbeatRequest) -> bool:
        contact = self._contact(request.member_id)
        return contact is not None and 0 < request.number < contact.number

    def _contact(self, member_id: str) -> Contact | None:
        """None for one that is no member: what is left of it says nothing."""
        return self._contacts[member_id] if member_id in self.members else None

    def _heard_of(self, member_id: str, now_ms: int) -> Contact:
        """Note that the member was heard of, and return what else is known of it."""
        return self._contacts.heard_of(member_id, now_ms + self._config.session_timeout_ms)
