"""A group of the consumer group protocol (KIP-848), as a state machine that takes requests and a time, and never waits,
sleeps or writes.

How it moves from epoch to epoch, `reconciliation` tells; this is what members say, and what they are answered.

A change is made on a copy, and the caller puts it in the group's place once `changes_since` is durable:

    draft = group.copy()
    draft.heartbeat(request, now_ms)
    journal(draft.changes_since(group))
    group = draft

So what has been answered is always on disk, and what could not be written has not happened.
"""

from uuid import UUID

from consumer_groups import group_checks as checks
from consumer_groups.errors import FencedInstanceId, GroupMaxSizeReached, InvalidRequest
from consumer_groups.member import Holding, Member, MemberState, Profile
from consumer_groups.reconciliation import Reconciliation
from consumer_groups.requests import (
    AWAY_EPOCH,
    JOIN_EPOCH,
    LEAVE_EPOCH,
    NOTHING,
    Assignment,
    Committer,
    HeartbeatRequest,
    Partition,
    TopicPartitions,
)


class Group(Reconciliation):
    """One group. Methods that change it raise before they change anything, or not at all."""

    # Heartbeats, whose form has been checked.

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

    def _is_overtaken(self, request: HeartbeatRequest) -> bool:
        contact = self._contact(request.member_id)
        return contact is not None and 0 < request.number < contact.number
