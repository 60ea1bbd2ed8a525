"""A classic consumer group, as Kafka's JoinGroup, SyncGroup, Heartbeat and LeaveGroup have it: a state machine that
takes requests and a time, and never waits, sleeps or writes.

    EMPTY --a join--> PREPARING_REBALANCE --all have joined--> COMPLETING_REBALANCE --the leader's sync--> STABLE
      ^                   |    ^                                        |                                     |
      |-- nobody is left -|    |-------- a join, a leave, a silence ----|-------------------------------------|

Members join with what they can do; when all have, a *generation* begins. One of them, the *leader*, is told who is
there, and brings with its sync what each is to have, which the server passes on untouched. Whatever changes makes all
of them join again. One with an *instance id* is static: it may come back under another member id without that.

A change is made on a copy, as with `group.Group`, and put in its place once `changes_since` is durable. Requests that
wait for others are named by *tickets*, and `take_answers` gives what is to be told to whom then. Durable are a
generation, before anybody hears of it, so that no two have one number; its members; and what they were assigned. After
a restart a group is stable if its generation was, or else waits for its members to join again; who was about to join
is forgotten, and told so.

To seek in a running group, partitions are withheld: all members must join again, and what the leader assigns is
stripped of them. Once everybody has been told what is left, nobody has them, and nobody of this generation may commit
them, whatever follows. Then the new offsets are written, and a further rebalance gives the partitions back. A member of
cooperative ones that joins for that, and says that it still has one, has missed what it was told: that partition is
stripped once more, since a client that gets what it has goes on where it was.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from consumer_groups.classic_member import ClassicMember
from consumer_groups.classic_requests import (
    CONSUMER,
    JoinedMember,
    JoinReply,
    JoinRequest,
    Leaver,
    SyncReply,
    SyncRequest,
)
from consumer_groups.classic_roster import ClassicRoster, Presence, protocols_size
from consumer_groups.config import GroupConfig
from consumer_groups.consumer_protocol import Unreadable, read_assignment, read_owned, read_subscription, strip
from consumer_groups.errors import (
    AssignmentUnreadable,
    FencedInstanceId,
    GroupError,
    GroupMaxSizeReached,
    IllegalGeneration,
    InconsistentGroupProtocol,
    InvalidRequest,
    MemberIdRequired,
    RebalanceInProgress,
    UnknownMemberId,
)
from consumer_groups.journal_records import Change, ClassicGeneration, ClassicKey, ClassicMemberKey, Key, Value
from consumer_groups.requests import NOTHING, Assignment, GroupState, Partition, TopicInfo

#: What is known of a topic by its name now; None if there is none.
TopicLookup = Callable[[str], TopicInfo | None]

#: A member that has not been in a generation yet is silent while it waits for one, so its session says nothing. One
#: that is gone is waited for no longer than this. Kafka's constant.
NEW_MEMBER_TIMEOUT_MS = 300_000

#: What a request that waited is answered: what it waited for, or why it is in vain.
Answer = JoinReply | SyncReply | GroupError

_REJOIN = "Join the group again."
_JOIN_AS_NEW = "Give up all partitions and join again, without a member id."
_STOP_AND_SEEK = "Stop the members of the group, and seek then."


class ClassicGroup:
    """One group. A method that raises may have changed something: then the draft is dropped."""

    def __init__(self, name: str, config: GroupConfig, lookup: TopicLookup, withheld: Iterable[Partition] = ()) -> None:
        """withheld: what is being sought in the group of the other protocol that it was, of which nobody was left."""
        self.name = name
        self._config = config
        self._lookup = lookup
        self._roster = ClassicRoster({}, 0)
        self._state = GroupState.EMPTY
        self._generation = 0
        self._protocol_type = ""
        self._protocol = ""
        self._leader = ""
        # Ids that were given out and with which nobody has joined yet, with until when that is waited for.
        self._pending: dict[str, int] = {}
        # Members that have not asked yet for what they have in this generation.
        self._to_sync: frozenset[str] = frozenset()
        self._join_deadline_ms: int | None = None
        self._sync_deadline_ms: int | None = None
        # Of the rebalance of an empty group: how long it may be delayed further by members that come; None: no such.
        self._delay_left_ms: int | None = None
        self._joined_during_delay = False
        # What is being sought; and what nobody of this generation may commit, since it was or is.
        self._withheld: Assignment = frozenset(withheld)
        self._stripped: Assignment = self._withheld
        # Members that have not been told yet what was stripped, and may be at work on it; and what of it was stripped
        # before that, so that they know.
        self._untold: frozenset[str] = frozenset()
        self._freed: Assignment = NOTHING
        # What was stripped, and members of this generation said when they joined that they have it.
        self._claimed: Assignment = NOTHING
        # Why a seek that was begun cannot be ended.
        self._unreadable: str | None = None
        self._emptied_ms: int | None = None
        self._saved: ClassicGeneration | None = None
        self._saved_members: Mapping[str, ClassicMember] = {}
        self._answers: list[tuple[int, Answer]] = []

    @classmethod
    def restore(
        cls, name: str, config: GroupConfig, lookup: TopicLookup, image: Mapping[Key, Value], now_ms: int
    ) -> "ClassicGroup":
        """The group as the journal has it. Sessions of members start now."""
        group = cls(name, config, lookup)
        saved = image.get(ClassicKey(name))
        if not isinstance(saved, ClassicGeneration):  # A journal whose loss was accepted has members without it.
            return group
        group._saved = saved
        group._saved_members = {
            key.member_id: value
            for key, value in image.items()
            if isinstance(key, ClassicMemberKey) and isinstance(value, ClassicMember)
        }
        group._generation, group._protocol_type, group._stripped = saved.generation, saved.protocol_type, saved.stripped
        group._emptied_ms = saved.emptied_ms
        if group._saved_members:
            group._roster = ClassicRoster(group._saved_members, now_ms)
            group._protocol = saved.protocol
            group._leader = saved.leader if saved.leader in group._saved_members else next(iter(group._saved_members))
            if saved.settled and not saved.stripped:
                group._state = GroupState.STABLE
            else:  # What was assigned is not this generation's, or lacks what was being sought.
                group._state = GroupState.PREPARING_REBALANCE
                group._join_deadline_ms = now_ms + group._roster.rebalance_timeout_ms
        return group

    # Drafts.

    def copy(self) -> "ClassicGroup":
        """A draft to change in this one's place. Neither sees the other's changes."""
        draft = ClassicGroup(self.name, self._config, self._lookup)
        draft.__dict__.update(self.__dict__)
        draft._roster, draft._pending, draft._answers = self._roster.copy(), dict(self._pending), []
        return draft

    def changes_since(self, before: "ClassicGroup") -> list[Change]:
        """What to write so that the journal has this group instead of the one before."""
        changes: list[Change] = []
        if self._saved != before._saved:
            changes.append((ClassicKey(self.name), self._saved))
        if self._saved_members is before._saved_members:
            return changes
        for member_id in before._saved_members:
            if member_id not in self._saved_members:
                changes.append((ClassicMemberKey(self.name, member_id), None))
        for member_id, member in self._saved_members.items():
            if before._saved_members.get(member_id) != member:
                changes.append((ClassicMemberKey(self.name, member_id), member))
        return changes

    def image(self) -> list[Change]:
        """What to write so that a journal has this group, whatever it had of it."""
        return self.changes_since(ClassicGroup(self.name, self._config, self._lookup))

    def take_answers(self) -> list[tuple[int, Answer]]:
        """What is to be told now, by ticket. Each is given once."""
        answers, self._answers = self._answers, []
        return answers

    # What is asked of a group.

    @property
    def is_blank(self) -> bool:
        """Nothing of it is durable, and nobody waits to be in it."""
        return self._saved is None and not self._roster and not self._pending

    @property
    def records_count(self) -> int:
        """How many records `image` takes."""
        return (self._saved is not None) + len(self._saved_members)

    @property
    def state(self) -> GroupState:
        return self._state

    @property
    def generation(self) -> int:
        return self._generation

    @property
    def protocol_type(self) -> str:
        """Of the members, or of the last one if none is left; empty when none was ever there."""
        return self._protocol_type

    @property
    def protocol(self) -> str:
        """What the members agreed on in this generation; empty when there are none."""
        return self._protocol

    @property
    def leader(self) -> str:
        return self._leader

    @property
    def members(self) -> Mapping[str, ClassicMember]:
        return self._roster.members

    @property
    def emptied_ms(self) -> int | None:
        """When the last member went, by the wall clock; None: not known, or none was ever there."""
        return self._emptied_ms

    def waits_for(self, member_id: str) -> bool:
        """Whether the rebalance goes on only when this member has joined, or this generation when it has synced."""
        if self._state is GroupState.PREPARING_REBALANCE:
            return not self._roster.has_joined(member_id)
        return member_id in self._to_sync

    def assigned(self, member_id: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
        """Topics and partitions that the member has by the last generation that was assigned; none if what its leader
        assigned cannot be read."""
        if self._protocol_type == CONSUMER:
            try:
                return read_assignment(self._roster[member_id].assignment).topics
            except Unreadable:
                pass
        return ()

    def subscribed(self, member_id: str) -> frozenset[str]:
        """Topics that the member subscribes to, as far as they can be read."""
        member = self._roster[member_id]
        metadata = member.metadata(self._protocol) or next((known.metadata for known in member.protocols), b"")
        return self._topics_of(metadata) or frozenset()

    def next_deadline_ms(self) -> int | None:
        """When `expire` has something to do next, if nothing else happens."""
        deadlines = [self._roster.next_deadline_ms, self._join_deadline_ms, self._sync_deadline_ms]
        known = [deadline_ms for deadline_ms in deadlines if deadline_ms is not None]
        return min([*known, *self._pending.values()], default=None)

    # Requests, whose form has been checked.

    def join(self, request: JoinRequest, ticket: int, new_member_id: str, now_ms: int) -> None:
        """Take a JoinGroup. It is answered by its ticket, once all have joined or at once.

        new_member_id: one that nobody else has, for a member without.
        """
        self.expire(now_ms)
        self._check_place(request)
        self._check_protocols(request)
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
        for what, given, known in (
            ("protocol type", request.protocol_type, self._protocol_type),
            ("protocol", request.protocol, self._protocol),
        ):
            if given and given != known:
                raise InconsistentGroupProtocol(
                    f"member {member_id!r} syncs for {what} {given!r}, but that of group {self.name!r} is {known!r}",
                    remedy=_REJOIN,
                )
        if self._state is GroupState.PREPARING_REBALANCE:
            raise self._rebalancing()
        leads = self._state is GroupState.COMPLETING_REBALANCE and member_id == self._leader
        if leads:
            self._assign(request.assignments)
        self._to_sync -= {member_id}
        if not self._to_sync:
            self._sync_deadline_ms = None
        self._give_up(self._roster.wait(member_id, sync=ticket))
        if self._state is GroupState.STABLE:
            self._answer_syncs(list(self._roster) if leads else [member_id], now_ms)
            if self._claimed and not self._to_sync:
                self._prepare(now_ms)

    def heartbeat(self, member_id: str, instance_id: str, generation: int, now_ms: int) -> None:
        """Take a Heartbeat of a member whose session has not ended. Only its deadline changes, so it needs no draft."""
        self._check_member(member_id, instance_id, generation)
        self._roster.heard_of(member_id, now_ms)
        if self._state is GroupState.PREPARING_REBALANCE:
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

    def check_committer(self, member_id: str, instance_id: str, generation: int, now_ms: int) -> None:
        """Raise unless this is a member in the group's generation, or somebody outside of a group without members.

        It needs no draft, either, and a member that commits is alive.
        """
        if generation < 0 and self._state is GroupState.EMPTY:
            return
        if generation < 0 and not member_id and not instance_id:
            raise UnknownMemberId(
                f"group {self.name!r} has members ({len(self._roster)}), so only they may commit",
                remedy="Stop the members first, or move the running group with a seek.",
            )
        self._check_member(member_id, instance_id, generation)
        self._roster.heard_of(member_id, now_ms)
        if self._state is GroupState.COMPLETING_REBALANCE:
            raise self._rebalancing()

    def may_commit(self, partition: Partition) -> bool:
        """Whether a checked committer may commit this partition: any that is not being sought. Who has one that is may
        commit it until the next generation."""
        return partition not in (self._stripped if self._roster else self._withheld)

    def expire(self, now_ms: int) -> None:
        """Do what is due: drop who is silent or did not come, and end what was waited for."""
        self._pending = {member_id: due_ms for member_id, due_ms in self._pending.items() if now_ms < due_ms}
        silent = self._roster.silent(now_ms)
        for member_id in silent:
            self._remove(member_id, "was silent for too long")
        if silent:
            self._go_on_without(now_ms)
        else:
            self._complete_if_all_joined(now_ms)
        if self._join_deadline_ms is not None and now_ms >= self._join_deadline_ms:
            self._end_join(now_ms)
        if self._sync_deadline_ms is not None and now_ms >= self._sync_deadline_ms:
            for member_id in [member_id for member_id in self._roster if member_id in self._to_sync]:
                self._remove(member_id, "did not sync in time")
            self._prepare(now_ms)

    def emptied(self, wall_ms: int) -> None:
        """Note when the last member went. What it read to is kept for a while from then on."""
        self._emptied_ms = wall_ms
        if self._saved is not None:
            self._saved = replace(self._saved, emptied_ms=wall_ms)

    def topics_changed(self, now_ms: int) -> None:
        """Nothing: the leader looks at the topics by itself, and joins again if they have changed."""

    # Seeks.

    def withheld(self, partitions: Iterable[Partition]) -> list[Partition]:
        """Those of the partitions that are being sought."""
        return [partition for partition in partitions if partition in self._withheld]

    @property
    def all_withheld(self) -> Assignment:
        return self._withheld

    def withhold(self, partitions: Assignment, now_ms: int) -> None:
        """Take partitions from whoever has them, for a seek. Raises AssignmentUnreadable if nobody can say who."""
        assert not self.withheld(partitions), "a seek takes what no other seek has"
        if self._protocol_type != CONSUMER:
            raise AssignmentUnreadable(
                f"group {self.name!r} is of protocol type {self._protocol_type!r}: what its members have are not"
                " partitions that the server knows of",
                remedy=_STOP_AND_SEEK,
            )
        for member_id, member in self.members.items():
            try:
                read_assignment(member.assignment)
            except Unreadable as error:
                raise self._cannot_read(member_id, error) from error
        self._unreadable = None
        self._withheld |= partitions
        if self._state is GroupState.STABLE:
            self._prepare(now_ms)

    def are_free(self, partitions: Assignment) -> bool:
        """True when nobody has any of them, nor may commit it. Those withheld then stay free until `give_back`."""
        return not self._roster or partitions <= (self._freed if self._untold else self._stripped)

    def give_back(self, partitions: Assignment, now_ms: int) -> None:
        """Assign partitions again that were withheld: in the generation that is about to be assigned, or a new one."""
        self._withheld -= partitions
        if self._state is GroupState.STABLE:
            self._prepare(now_ms)

    def check_seek(self) -> None:
        """Raise AssignmentUnreadable if a seek that was begun cannot be ended. Then nothing is withheld any more."""
        if self._unreadable is not None:
            raise AssignmentUnreadable(self._unreadable, remedy=_STOP_AND_SEEK)

    def owner(self, partition: Partition) -> str | None:
        """Who has the partition by what was assigned last, as far as that can be read."""
        return self.owners().get(partition)

    def owners(self) -> dict[Partition, str]:
        """All that was assigned last, and to whom."""
        return {
            partition: member_id for member_id in self._roster for partition in self._known(self.assigned(member_id))
        }

    def _owned(self, member_ids: Iterable[str]) -> Assignment:
        """What members said when they joined that they have."""
        owned: set[Partition] = set()
        for member_id in member_ids:
            with suppress(Unreadable):
                owned.update(self._known(read_owned(self._roster[member_id].metadata(self._protocol))))
        return frozenset(owned)

    def _known(self, topics: Iterable[tuple[str, tuple[int, ...]]]) -> Iterator[Partition]:
        for topic, numbers in topics:
            info = self._lookup(topic)
            if info is not None:
                yield from (Partition(info.topic_id, number) for number in numbers)

    # Joining.

    def _join_known(self, request: JoinRequest, ticket: int, now_ms: int) -> None:
        member_id = request.member_id
        if member_id in self._pending:
            if request.instance_id:
                raise InvalidRequest(
                    f"member {member_id!r} of group {self.name!r} got its id as a dynamic member, and joins as the"
                    f" static one {request.instance_id!r}",
                    remedy="A static member joins without a member id at first.",
                )
            self._add(request, ticket, member_id, now_ms)
            return
        self._check_known(member_id, request.instance_id)
        is_same = self._roster[member_id].protocols == request.protocols
        is_stable = self._state is GroupState.STABLE
        if self._state is GroupState.PREPARING_REBALANCE or not is_same or (is_stable and member_id == self._leader):
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
        old, leader = self._roster[old_id], self._leader
        self._answer(
            self._roster.rename(old_id, new_member_id, now_ms),
            self._fenced(request.instance_id, new_member_id, old_id),
        )
        self._untold -= {old_id}  # What comes back has nothing.
        if leader == old_id:
            self._leader = new_member_id
        self._update(new_member_id, request, ticket)
        if self._state is not GroupState.STABLE or not self._goes_on_with(old, self._roster[new_member_id]):
            self._to_sync -= {old_id}
            self._rebalance(now_ms)
            return
        if old_id in self._to_sync:
            self._to_sync = self._to_sync - {old_id} | {new_member_id}
        self._roster.end_waits(new_member_id, now_ms)
        self._save(settled=True)
        reply = self._reply(new_member_id)
        if request.can_skip_assignment:
            reply = replace(reply, skip_assignment=new_member_id == self._leader)
        else:  # If told of itself it would assign, though nobody waits for that: so the leader is who it was.
            reply = replace(reply, leader=leader, members=())
        self._answers.append((ticket, reply))

    def _goes_on_with(self, old: ClassicMember, new: ClassicMember) -> bool:
        """Whether a static member that is back reads what it did before, so that its assignment stays right."""
        if self._roster.selected_protocol() != self._protocol:
            return False
        before, after = old.metadata(self._protocol), new.metadata(self._protocol)
        if before == after:
            return True
        # Other bytes alone say nothing: sticky assignors write into them what the member had before it stopped.
        topics = self._topics_of(after)
        return topics is not None and topics == self._topics_of(before)

    def _add(self, request: JoinRequest, ticket: int, member_id: str, now_ms: int) -> None:
        self._pending.pop(member_id, None)
        if not self._roster:
            self._protocol_type = request.protocol_type
        presence = Presence(now_ms + NEW_MEMBER_TIMEOUT_MS, join=ticket, is_new=True)
        self._roster.add(member_id, self._member(request), presence)
        self._leader = self._leader or member_id
        self._joined_during_delay = self._delay_left_ms is not None
        self._rebalance(now_ms)

    def _update(self, member_id: str, request: JoinRequest, ticket: int) -> None:
        member = self._member(request)
        self._roster.put(member_id, replace(member, assignment=self._roster[member_id].assignment))
        self._give_up(self._roster.wait(member_id, join=ticket))

    def _member(self, request: JoinRequest) -> ClassicMember:
        return ClassicMember(
            instance_id=request.instance_id,
            client_id=request.client_id,
            client_host=request.client_host,
            rebalance_timeout_ms=min(request.rebalance_timeout_ms, self._config.rebalance_timeout_ms_max),
            session_timeout_ms=request.session_timeout_ms,
            protocols=request.protocols,
        )

    # Rebalancing.

    def _rebalance(self, now_ms: int) -> None:
        """Have everybody join again; if that is asked of them already, see whether all have."""
        if self._state is GroupState.PREPARING_REBALANCE:
            self._complete_if_all_joined(now_ms)
        else:
            self._prepare(now_ms)

    def _go_on_without(self, now_ms: int) -> None:
        """After members went."""
        if self._state is not GroupState.EMPTY:
            self._rebalance(now_ms)

    def _prepare(self, now_ms: int) -> None:
        for member_id, presence in list(self._roster.presences.items()):
            if presence.sync is not None:
                self._answer([presence.sync], self._rebalancing())
                self._roster.end_sync(member_id, now_ms)
        self._to_sync = frozenset()
        self._sync_deadline_ms = None
        was_empty = self._state is GroupState.EMPTY
        self._state = GroupState.PREPARING_REBALANCE
        if was_empty:
            delay_ms = self._config.initial_rebalance_delay_ms
            self._delay_left_ms = max(0, self._roster.rebalance_timeout_ms - delay_ms)
            self._joined_during_delay = False
            self._join_deadline_ms = now_ms + delay_ms
        else:
            self._join_deadline_ms = now_ms + self._roster.rebalance_timeout_ms
            self._complete_if_all_joined(now_ms)

    def _complete_if_all_joined(self, now_ms: int) -> None:
        if self._state is not GroupState.PREPARING_REBALANCE or self._pending:
            return
        if self._roster and self._delay_left_ms is not None:
            return  # An empty group waits for more, also when all who are there have joined.
        if self._roster.joined_count == len(self._roster):
            self._complete(now_ms)

    def _end_join(self, now_ms: int) -> None:
        """The time is over: go on with those who are there. One that was empty waits for more as long as they come."""
        left_ms = self._delay_left_ms
        delay_ms = min(self._config.initial_rebalance_delay_ms, left_ms or 0)
        if left_ms is None or not self._joined_during_delay or not delay_ms:
            self._complete(now_ms)
            return
        self._joined_during_delay = False
        self._delay_left_ms = left_ms - delay_ms
        self._join_deadline_ms = now_ms + delay_ms

    def _complete(self, now_ms: int) -> None:
        """Begin the next generation with those who have joined, and static members whose sessions last."""
        self._delay_left_ms = None
        joined = [member_id for member_id in self._roster if self._roster.has_joined(member_id)]
        for member_id, member in list(self.members.items()):
            if not self._roster.has_joined(member_id) and not member.is_static:
                self._remove(member_id, "did not join again in time")
        if self._roster and not joined:  # Nobody can lead. Static members are waited for until their sessions end.
            self._join_deadline_ms = now_ms + self._roster.rebalance_timeout_ms
            return
        self._join_deadline_ms = None
        self._generation += 1
        if not joined:
            self._state = GroupState.EMPTY
            self._protocol = self._leader = ""
            self._stripped &= self._withheld
            self._claimed = NOTHING
            self._save(settled=False)
            return
        if not self._roster.has_joined(self._leader):
            self._leader = joined[0]
        self._protocol = self._roster.selected_protocol()
        # What was sought and is not any more is given out again in this generation; but not yet, if somebody claims it.
        if self._stripped:
            self._claimed = (self._stripped - self._claimed) & self._owned(joined)
            self._stripped &= self._withheld | self._claimed
        self._state = GroupState.COMPLETING_REBALANCE
        self._to_sync = frozenset(self._roster)
        self._sync_deadline_ms = now_ms + self._roster.rebalance_timeout_ms
        self._save(settled=False)
        for member_id, presence in list(self._roster.presences.items()):
            if presence.join is not None:
                self._answers.append((presence.join, self._reply(member_id)))
            self._roster.end_waits(member_id, now_ms)

    def _assign(self, assignments: Mapping[str, bytes]) -> None:
        """Take what the leader brings. Members that it left out get nothing."""
        assignments = {member_id: assignments.get(member_id, b"") for member_id in self._roster}
        self._check_assignments([len(assignment) for assignment in assignments.values()])
        if not self._untold:
            self._freed = self._stripped
        self._stripped = self._withheld | self._claimed
        if self._stripped:
            try:
                assignments = {member_id: self._strip(member_id, data) for member_id, data in assignments.items()}
            except AssignmentUnreadable as error:  # The members go on, and the seek does not.
                self._unreadable = str(error)
                self._withheld = self._stripped = self._claimed = NOTHING
        self._freed &= self._withheld
        self._untold = frozenset(self._roster if self._withheld - self._freed else ())
        for member_id, assignment in assignments.items():
            self._roster.assign(member_id, assignment)
        self._state = GroupState.STABLE
        self._save(settled=True)

    def _answer_syncs(self, member_ids: Iterable[str], now_ms: int) -> None:
        for member_id in member_ids:
            ticket = self._roster.presences[member_id].sync
            if ticket is not None:
                reply = SyncReply(self._protocol_type, self._protocol, self._roster[member_id].assignment)
                self._answers.append((ticket, reply))
                self._untold -= {member_id}
                self._roster.end_waits(member_id, now_ms)

    def _strip(self, member_id: str, assignment: bytes) -> bytes:
        def is_sought(topic: str, number: int) -> bool:
            info = self._lookup(topic)
            return info is not None and Partition(info.topic_id, number) in self._stripped

        try:
            return strip(assignment, is_sought)
        except Unreadable as error:
            raise self._cannot_read(member_id, error) from error

    def _reply(self, member_id: str) -> JoinReply:
        members: tuple[JoinedMember, ...] = ()
        if member_id == self._leader:
            members = tuple(
                JoinedMember(other_id, other.instance_id, other.metadata(self._protocol))
                for other_id, other in self.members.items()
            )
        return JoinReply(member_id, self._generation, self._protocol_type, self._protocol, self._leader, members)

    # Members and what they wait for.

    def _leave(self, leaver: Leaver) -> None:
        member_id = leaver.member_id
        if member_id in self._pending:
            del self._pending[member_id]
            return
        if not member_id:
            member_id = self._roster.instance(leaver.instance_id) or ""
        self._check_known(member_id, leaver.instance_id)
        self._remove(member_id, "left")

    def _remove(self, member_id: str, why: str) -> None:
        out = UnknownMemberId(
            f"member {member_id!r} of group {self.name!r} {why}, so it is out of the group", remedy=_JOIN_AS_NEW
        )
        self._answer(self._roster.remove(member_id), out)
        self._to_sync -= {member_id}
        self._untold -= {member_id}
        if self._leader == member_id:
            self._leader = next(iter(self._roster), "")

    def _answer(self, tickets: Iterable[int], error: GroupError) -> None:
        self._answers.extend((ticket, error) for ticket in tickets)

    def _give_up(self, ticket: int | None) -> None:
        """Answer a request whose member has sent it once more, in case that somebody still listens."""
        if ticket is not None:
            self._answer([ticket], self._rebalancing())

    def _save(self, *, settled: bool) -> None:
        """Have the journal hold the group as it is now."""
        self._saved = ClassicGeneration(
            self._generation,
            self._protocol_type,
            self._protocol,
            self._leader,
            settled,
            self._stripped,
            self._emptied_ms,
        )
        self._saved_members = dict(self.members)

    def _topics_of(self, metadata: bytes) -> frozenset[str] | None:
        if self._protocol_type == CONSUMER:
            try:
                return read_subscription(metadata)
            except Unreadable:
                pass
        return None

    # Checks.

    def _check_place(self, request: JoinRequest) -> None:
        """Raise GroupMaxSizeReached unless the member has a place already, or there is one for it."""
        if self._state is GroupState.PREPARING_REBALANCE:
            taken = self._roster.joined_count - self._roster.has_joined(request.member_id)
        else:
            taken = len(self._roster) - (request.member_id in self._roster)
        if not request.member_id and not request.instance_id:
            taken = max(taken, len(self._pending))
        if taken >= self._config.members_max:
            raise GroupMaxSizeReached(
                f"group {self.name!r} has as many members as it may: {taken}",
                remedy="Run fewer members, each with more partitions, or use another group.",
            )
        size = self._roster.size_bytes + protocols_size(request.protocols)
        if request.member_id in self._roster:
            size -= protocols_size(self._roster[request.member_id].protocols)
        if size > self._config.group_bytes_max:
            raise GroupMaxSizeReached(
                f"the members of group {self.name!r} say {size} bytes of themselves, more than"
                f" {self._config.group_bytes_max}",
                remedy="Run fewer members, with shorter subscriptions, or use another group.",
            )

    def _check_protocols(self, request: JoinRequest) -> None:
        if self._state is GroupState.EMPTY:
            return
        if request.protocol_type != self._protocol_type:
            raise InconsistentGroupProtocol(
                f"a member of protocol type {request.protocol_type!r} joins group {self.name!r}, whose members are of"
                f" type {self._protocol_type!r}",
                remedy="Use another group.",
            )
        names = [protocol.name for protocol in request.protocols]
        if not any(map(self._roster.all_support, names)):
            raise InconsistentGroupProtocol(
                f"a member of group {self.name!r} supports {', '.join(names)}, none of which all of its members"
                f" ({len(self._roster)}) support",
                remedy="Give all members of the group a common assignor, or use another group.",
            )

    def _check_assignments(self, sizes: Sequence[int]) -> None:
        if max(sizes) > self._config.member_bytes_max or sum(sizes) > self._config.group_bytes_max:
            raise InvalidRequest(
                f"the leader of group {self.name!r} assigns {sum(sizes)} bytes, up to {max(sizes)} to a member; up to"
                f" {self._config.group_bytes_max}, and {self._config.member_bytes_max} to one, are taken",
                remedy="Use an assignor that writes less, or several groups.",
            )

    def _check_member(self, member_id: str, instance_id: str, generation: int) -> None:
        self._check_known(member_id, instance_id)
        if generation != self._generation:
            raise IllegalGeneration(
                f"member {member_id!r} of group {self.name!r} comes with generation {generation}; the group's is"
                f" {self._generation}",
                remedy=_REJOIN,
            )

    def _check_known(self, member_id: str, instance_id: str) -> None:
        holder = self._roster.instance(instance_id)
        if holder is not None and holder != member_id:
            raise self._fenced(instance_id, holder, member_id)
        if member_id not in self._roster or (instance_id and holder is None):
            raise UnknownMemberId(
                f"group {self.name!r} has no member {member_id or instance_id!r}: it left, was removed for its silence,"
                " or never joined",
                remedy=_JOIN_AS_NEW,
            )

    def _fenced(self, instance_id: str, holder: str, member_id: str) -> FencedInstanceId:
        return FencedInstanceId(
            f"instance id {instance_id!r} of group {self.name!r} was taken over by member {holder!r};"
            f" member {member_id!r} is out",
            remedy="Stop this member: another runs in its place. Give every member its own instance id.",
        )

    def _rebalancing(self) -> RebalanceInProgress:
        return RebalanceInProgress(f"group {self.name!r} is being rebalanced", remedy=_REJOIN)

    def _cannot_read(self, member_id: str, error: Unreadable) -> AssignmentUnreadable:
        return AssignmentUnreadable(
            f"what the leader of group {self.name!r} assigned to member {member_id!r} cannot be read, so nobody can say"
            f" who has what: {error}",
            remedy=_STOP_AND_SEEK,
        )
