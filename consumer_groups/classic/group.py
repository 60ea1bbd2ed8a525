"""A group of the classic protocol: Kafka's JoinGroup, SyncGroup, Heartbeat and LeaveGroup as a state machine that takes
requests and a time, and never waits, sleeps or writes.

How it gets from state to state and from generation to generation, `rebalancing` tells; this is what members say, and
what others ask. A change is made on a copy, as with a group of the other protocol, and put in its place once
`changes_since` is durable. How partitions are taken from a running group for a seek, and given back, `seek` tells.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from consumer_groups.classic import checks
from consumer_groups.classic.partitions import assigned, subscribed, subscription
from consumer_groups.classic.rebalancing import Rebalancing
from consumer_groups.classic.requests import JoinRequest, Leaver, SyncRequest
from consumer_groups.classic.roster import Presence
from consumer_groups.errors import FencedInstanceId, GroupError, MemberIdRequired, UnknownMemberId
from consumer_groups.member import ClassicMember
from consumer_groups.requests import Assignment, Committer, GroupState, HeartbeatRequest, Partition

#: A member that has not been in a generation yet is silent while it waits for one, so its session says nothing. One
#: that is gone is waited for no longer than this. Kafka's constant.
NEW_MEMBER_TIMEOUT_MS = 300_000


class ClassicGroup(Rebalancing):
    """One group. A method that raises may have changed something: then the draft is dropped."""

    # What is asked of a group.

    def subscribed(self, member_id: str) -> frozenset[str]:
        """Topics that the member subscribes to, as far as they can be read."""
        return subscribed(self.protocol_type, self.protocol, self._roster[member_id])

    def subscribed_topics(self) -> set[str]:
        """What any of the members reads, as far as that can be read."""
        return {topic for member_id in self._roster for topic in self.subscribed(member_id)}

    def owners(self) -> Mapping[Partition, str]:
        """All that was assigned last, as far as that can be read, and to whom."""
        return assigned(self.protocol_type, self.members, self._lookup)

    def owner(self, partition: Partition) -> str | None:
        """Who has the partition by what was assigned last, as far as that can be read."""
        return self.owners().get(partition)

    # Requests, whose form has been checked.

    def join(self, request: JoinRequest, ticket: int, new_member_id: str, now_ms: int) -> None:
        """Take a JoinGroup. It is answered by its ticket, once all have joined or at once.

        new_member_id: one that nobody else has, for a member without.
        """
        self.expire(now_ms)
        checks.check_room(self.name, request, self._roster, self._places_taken(request), self._config)
        if self.state is not GroupState.EMPTY:
            checks.check_protocols(self.name, request, self._roster, self.protocol_type)
        if request.member_id:
            self._join_known(request, ticket, now_ms)
        elif request.instance_id:
            self._join_static(request, ticket, new_member_id, now_ms)
        elif request.requires_member_id:
            self._pending[new_member_id] = now_ms + request.session_timeout_ms
            required = MemberIdRequired(
                f"a member of group {self.name!r} must join with an id: this one's is {new_member_id!r}",
                remedy="Join again with that id.",
                member_id=new_member_id,
            )
            self._answer([ticket], required)
        else:
            self._add(request, ticket, new_member_id, now_ms)

    def sync(self, request: SyncRequest, ticket: int, now_ms: int) -> None:
        """Take a SyncGroup. It is answered by its ticket, once the leader has assigned."""
        self.expire(now_ms)
        member_id = request.member_id
        self._check_member(member_id, request.instance_id, request.generation)
        checks.check_synced_protocols(self.name, request, self.protocol_type, self.protocol)
        if self.state is GroupState.PREPARING_REBALANCE:
            raise self._rebalancing()
        leads = self.state is GroupState.COMPLETING_REBALANCE and member_id == self.leader
        if leads:
            self._assign(request.assignments)
        self._to_sync -= {member_id}
        if not self._to_sync:
            self._sync_deadline_ms = None
        self._give_up(self._roster.wait(member_id, sync=ticket))
        if self.state is GroupState.STABLE:
            self._answer_syncs(list(self._roster) if leads else [member_id], now_ms)
            if self._seek.is_to_be_assigned_again and not self._to_sync:
                self._prepare(now_ms)

    def heartbeat(self, member_id: str, instance_id: str, generation: int, now_ms: int) -> None:
        """Take a Heartbeat of a member whose session has not ended. Only its deadline changes, so it needs no draft."""
        self._check_member(member_id, instance_id, generation)
        self._roster.heard_of(member_id, now_ms)
        if self.state is GroupState.PREPARING_REBALANCE:
            raise self._rebalancing()

    def leave(self, leavers: Sequence[Leaver], now_ms: int) -> list[GroupError | None]:
        """Take a LeaveGroup; return for each whether it left, or why not."""
        self.expire(now_ms)
        results: list[GroupError | None] = []
        for leaver in leavers:
            try:
                self._leave(leaver)
            except GroupError as error:
                results.append(error)
            else:
                results.append(None)
        if None in results:
            self._go_on_without(now_ms)
        return results

    def check_committer(self, committer: Committer, now_ms: int) -> None:
        """Raise unless this is a member in the group's generation, or somebody outside of a group without members.

        It needs no draft, either, and a member that commits is alive.
        """
        member_id, instance_id, generation = committer.member_id, committer.instance_id, committer.epoch
        if generation < 0 and self.state is GroupState.EMPTY:
            return
        if generation < 0 and not member_id and not instance_id:
            raise UnknownMemberId(
                f"group {self.name!r} has members ({len(self._roster)}), so only they may commit",
                remedy="Stop the members first, or move the running group with a seek.",
            )
        self._check_member(member_id, instance_id, generation)
        self._roster.heard_of(member_id, now_ms)
        if self.state is GroupState.COMPLETING_REBALANCE:
            raise self._rebalancing()

    def may_commit(self, committer: Committer, partition: Partition) -> bool:
        """Whether a checked committer may commit this partition: any that is not being sought. Who has one that is may
        commit it until the next generation."""
        return partition not in (self._seek.stripped if self._roster else self._seek.withheld)

    def topics_changed(self, now_ms: int) -> None:
        """Nothing: the leader looks at the topics by itself, and joins again if they have changed."""

    # Seeks.

    def withheld(self, partitions: Iterable[Partition]) -> list[Partition]:
        """Those of the partitions that are being sought."""
        return [partition for partition in partitions if partition in self._seek.withheld]

    @property
    def all_withheld(self) -> Assignment:
        return self._seek.withheld

    def withhold(self, partitions: Assignment, now_ms: int) -> None:
        """Take partitions from whoever has them, for a seek. Raises AssignmentUnreadable if nobody can say who."""
        assert not self.withheld(partitions), "a seek takes what no other seek has"
        self._seek.withhold(partitions, self.protocol_type, self.members)
        if self.state is GroupState.STABLE:
            self._prepare(now_ms)

    def are_free(self, partitions: Assignment) -> bool:
        """True when nobody has any of them, nor may commit it. Those withheld then stay free until `give_back`."""
        return not self._roster or self._seek.are_free(partitions)

    def holdouts(self, partitions: Assignment) -> set[str]:
        """Who keeps the partitions from being free: all must join, and sync, whatever they have."""
        return {member_id for member_id in self._roster if self.waits_for(member_id)}

    def give_back(self, partitions: Assignment, now_ms: int) -> None:
        """Assign partitions again that were withheld: in the generation that is about to be assigned, or a new one."""
        self._seek.give_back(partitions)
        if self.state is GroupState.STABLE:
            self._prepare(now_ms)

    def check_seek(self) -> None:
        """Raise AssignmentUnreadable if a seek that was begun cannot be ended. Then nothing is withheld any more."""
        self._seek.check()

    # Members of the other protocol, who wait for an answer of the group that this one was.

    def has_news(self, request: HeartbeatRequest) -> bool:
        """True: none of them is a member any more."""
        return True

    def reconcile_waiting(self, member_ids: Collection[str], now_ms: int) -> None:
        """Nothing: none of them is a member any more."""

    # Joining.

    def _join_known(self, request: JoinRequest, ticket: int, now_ms: int) -> None:
        member_id = request.member_id
        if member_id in self._pending:
            checks.check_dynamic(self.name, request)
            self._add(request, ticket, member_id, now_ms)
            return
        self._check_known(member_id, request.instance_id)
        is_same = self._roster[member_id].protocols == request.protocols
        is_stable = self.state is GroupState.STABLE
        if self.state is GroupState.PREPARING_REBALANCE or not is_same or (is_stable and member_id == self.leader):
            # A leader joins again when it has seen that topics changed, which its subscription does not show.
            self._update(member_id, request, ticket)
            self._rebalance(now_ms)
        else:  # It missed the answer.
            self._roster.heard_of(member_id, now_ms)
            self._answers.append((ticket, self._reply(member_id)))

    def _join_static(self, request: JoinRequest, ticket: int, new_member_id: str, now_ms: int) -> None:
        old_id = self._roster.instance(request.instance_id)
        if old_id is None:
            self._add(request, ticket, new_member_id, now_ms)
            return
        old, leader = self._roster[old_id], self.leader
        self._answer(
            self._roster.rename(old_id, new_member_id, now_ms),
            FencedInstanceId.of(self.name, request.instance_id, new_member_id, old_id),
        )
        self._seek.told(old_id)  # What comes back has nothing.
        if leader == old_id:
            self.leader = new_member_id
        self._update(new_member_id, request, ticket)
        if self.state is not GroupState.STABLE or not self._goes_on_with(old, self._roster[new_member_id]):
            self._to_sync -= {old_id}
            self._rebalance(now_ms)
            return
        if old_id in self._to_sync:
            self._to_sync = self._to_sync - {old_id} | {new_member_id}
        self._roster.end_waits(new_member_id, now_ms)
        self._save(settled=True)
        reply = self._reply(new_member_id)
        if request.can_skip_assignment:
            reply = reply._replace(skip_assignment=new_member_id == self.leader)
        else:  # If told of itself it would assign, though nobody waits for that: so the leader is who it was.
            reply = reply._replace(leader=leader, members=())
        self._answers.append((ticket, reply))

    def _goes_on_with(self, old: ClassicMember, new: ClassicMember) -> bool:
        """Whether a static member that is back reads what it did before, so that its assignment stays right."""
        if self._roster.selected_protocol() != self.protocol:
            return False
        before, after = old.metadata(self.protocol), new.metadata(self.protocol)
        if before == after:
            return True
        # Other bytes alone say nothing: sticky assignors write into them what the member had before it stopped.
        topics = subscription(self.protocol_type, after)
        return topics is not None and topics == subscription(self.protocol_type, before)

    def _add(self, request: JoinRequest, ticket: int, member_id: str, now_ms: int) -> None:
        self._pending.pop(member_id, None)
        if not self._roster:
            self.protocol_type = request.protocol_type
        presence = Presence(now_ms + NEW_MEMBER_TIMEOUT_MS, join=ticket, is_new=True)
        self._roster.add(member_id, request.member(self._config.rebalance_timeout_ms_max), presence)
        self.leader = self.leader or member_id
        self._join_phase.joined()
        self._rebalance(now_ms)

    def _update(self, member_id: str, request: JoinRequest, ticket: int) -> None:
        member = request.member(self._config.rebalance_timeout_ms_max)
        self._roster.put(member_id, replace(member, assignment=self._roster[member_id].assignment))
        self._give_up(self._roster.wait(member_id, join=ticket))

    # Leaving.

    def _leave(self, leaver: Leaver) -> None:
        member_id = leaver.member_id
        if member_id in self._pending:
            del self._pending[member_id]
            return
        if not member_id:
            member_id = self._roster.instance(leaver.instance_id) or ""
        self._check_known(member_id, leaver.instance_id)
        self._remove(member_id, "left")

    # Checks.

    def _places_taken(self, request: JoinRequest) -> int:
        """By others."""
        if self.state is GroupState.PREPARING_REBALANCE:
            taken = self._roster.joined_count - self._roster.has_joined(request.member_id)
        else:
            taken = len(self._roster) - (request.member_id in self._roster)
        if not request.member_id and not request.instance_id:
            taken = max(taken, len(self._pending))
        return taken

    def _check_member(self, member_id: str, instance_id: str, generation: int) -> None:
        self._check_known(member_id, instance_id)
        checks.check_generation(self.name, member_id, generation, self.generation)

    def _check_known(self, member_id: str, instance_id: str) -> None:
        checks.check_known(self.name, self._roster, member_id, instance_id)
