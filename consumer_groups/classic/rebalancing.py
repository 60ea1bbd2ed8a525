"""A classic group as it moves by itself: its states, its generations, and whom it waits for.

    EMPTY --a join--> PREPARING_REBALANCE --all have joined--> COMPLETING_REBALANCE --the leader's sync--> STABLE
      ^                   |    ^                                        |                                     |
      |-- nobody is left -|    |-------- a join, a leave, a silence ----|-------------------------------------|

Members join with what they can do; when all have, a *generation* begins. One of them, the *leader*, is told who is
there, and brings with its sync what each is to have, which the server passes on untouched. Whatever changes makes all
of them join again. One with an *instance id* is static: it may come back under another member id without that.

Requests that wait for others are named by *tickets*, and `take_answers` gives what is to be told to whom then. Durable
are a generation, before anybody hears of it, so that no two have one number; its members; and what they were assigned.
After a restart a group is stable if its generation was, or else waits for its members to join again; who was about to
join is forgotten, and told so.
"""

from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import replace
from typing import Self

from consumer_groups.classic import checks
from consumer_groups.classic.join_phase import JoinPhase
from consumer_groups.classic.requests import Answer, JoinedMember, JoinReply, SyncReply
from consumer_groups.classic.roster import ClassicRoster
from consumer_groups.classic.saved_state import ClassicSaved
from consumer_groups.classic.seek import ClassicSeek
from consumer_groups.config import GroupConfig
from consumer_groups.errors import GroupError, RebalanceInProgress, UnknownMemberId
from consumer_groups.journal_records import Change, ClassicGeneration, Key, Value
from consumer_groups.member import ClassicMember
from consumer_groups.requests import GroupState, Partition
from consumer_groups.room import texts_size
from consumer_groups.surroundings import TopicLookup


class Rebalancing:
    """What `group.ClassicGroup` stands on, which takes the requests."""

    def __init__(self, name: str, config: GroupConfig, lookup: TopicLookup, withheld: Iterable[Partition] = ()) -> None:
        """withheld: what is being sought in the group of the other protocol that it was, of which nobody was left."""
        self.name = name
        self._config = config
        self._lookup = lookup
        self._roster = ClassicRoster({}, 0)
        self._saved = ClassicSaved()
        self._emptied_ms: int | None = None
        self.state = GroupState.EMPTY
        self.generation = 0
        #: Of the members, or of the last one if none is left; empty when none was ever there.
        self.protocol_type = ""
        #: What the members agreed on in this generation; empty when there are none.
        self.protocol = ""
        self.leader = ""
        # Ids that were given out and with which nobody has joined yet, with until when that is waited for.
        self._pending: dict[str, int] = {}
        # Members that have not asked yet for what they have in this generation.
        self._to_sync: frozenset[str] = frozenset()
        self._join_phase = JoinPhase()
        self._sync_deadline_ms: int | None = None
        sought = frozenset(withheld)
        self._seek = ClassicSeek(name, lookup, withheld=sought, stripped=sought)
        self._answers: list[tuple[int, Answer]] = []

    @classmethod
    def restore(
        cls, name: str, config: GroupConfig, lookup: TopicLookup, image: Mapping[Key, Value], now_ms: int
    ) -> Self:
        """The group as the journal has it. Sessions of members start now."""
        group = cls(name, config, lookup)
        group._saved = ClassicSaved.restore(name, image)
        saved, members = group._saved.generation, group._saved.members
        if saved is None:
            return group
        group.generation, group.protocol_type = saved.generation, saved.protocol_type
        group._seek.stripped, group._emptied_ms = saved.stripped, saved.emptied_ms
        if members:
            group._roster = ClassicRoster(members, now_ms)
            group.protocol = saved.protocol
            group.leader = saved.leader if saved.leader in members else next(iter(members))
            if saved.settled and not saved.stripped:
                group.state = GroupState.STABLE
            else:  # What was assigned is not this generation's, or lacks what was being sought.
                group.state = GroupState.PREPARING_REBALANCE
                group._join_phase.begin(now_ms, group._roster.rebalance_timeout_ms)
        return group

    # Drafts.

    def copy(self) -> Self:
        """A draft to change in this one's place. Neither sees the other's changes."""
        draft = copy(self)
        draft._roster, draft._join_phase, draft._seek = self._roster.copy(), self._join_phase.copy(), self._seek.copy()
        draft._pending, draft._answers = dict(self._pending), []
        return draft

    def changes_since(self, before: Self) -> list[Change]:
        """What to write so that the journal has this group instead of the one before."""
        return self._saved.changes_since(self.name, before._saved)

    def image(self) -> list[Change]:
        """What to write so that a journal has this group, whatever it had of it."""
        return self._saved.changes_since(self.name, ClassicSaved())

    def take_answers(self) -> list[tuple[int, Answer]]:
        """What is to be told now, by ticket. Each is given once."""
        answers, self._answers = self._answers, []
        return answers

    # What is asked of a group.

    @property
    def is_blank(self) -> bool:
        """Nothing of it is durable, and nobody waits to be in it."""
        return self._saved.generation is None and not self._roster and not self._pending

    @property
    def records_count(self) -> int:
        """How many records `image` takes."""
        return self._saved.records_count

    @property
    def size_bytes(self) -> int:
        """What its members have brought, and the ids that were given out, as it counts in all (see `room`)."""
        return self._roster.size_bytes + texts_size(*self._pending)

    @property
    def members(self) -> Mapping[str, ClassicMember]:
        return self._roster.members

    @property
    def emptied_ms(self) -> int | None:
        """When the last member went, by the wall clock; None: not known, or none was ever there."""
        return self._emptied_ms

    def waits_for(self, member_id: str) -> bool:
        """Whether the rebalance goes on only when this member has joined, or this generation when it has synced."""
        if self.state is GroupState.PREPARING_REBALANCE:
            return not self._roster.has_joined(member_id)
        return member_id in self._to_sync

    def next_deadline_ms(self) -> int | None:
        """When `expire` has something to do next, if nothing else happens."""
        deadlines = [self._roster.next_deadline_ms, self._join_phase.deadline_ms, self._sync_deadline_ms]
        known = [deadline_ms for deadline_ms in deadlines if deadline_ms is not None]
        return min([*known, *self._pending.values()], default=None)

    # Events.

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
        if self._join_phase.expire(now_ms, self._config.initial_rebalance_delay_ms):
            self._complete(now_ms)
        if self._sync_deadline_ms is not None and now_ms >= self._sync_deadline_ms:
            for member_id in [member_id for member_id in self._roster if member_id in self._to_sync]:
                self._remove(member_id, "did not sync in time")
            self._prepare(now_ms)

    def emptied(self, wall_ms: int) -> None:
        """Note when the last member went. What it read to is kept for a while from then on."""
        self._emptied_ms = wall_ms
        if self._saved.generation is not None:
            self._saved = replace(self._saved, generation=replace(self._saved.generation, emptied_ms=wall_ms))

    # Rebalancing.

    def _rebalance(self, now_ms: int) -> None:
        """Have everybody join again; if that is asked of them already, see whether all have."""
        if self.state is GroupState.PREPARING_REBALANCE:
            self._complete_if_all_joined(now_ms)
        else:
            self._prepare(now_ms)

    def _go_on_without(self, now_ms: int) -> None:
        """After members went."""
        if self.state is not GroupState.EMPTY:
            self._rebalance(now_ms)

    def _prepare(self, now_ms: int) -> None:
        for member_id, presence in list(self._roster.presences.items()):
            if presence.sync is not None:
                self._answer([presence.sync], self._rebalancing())
                self._roster.end_sync(member_id, now_ms)
        self._to_sync = frozenset()
        self._sync_deadline_ms = None
        was_empty = self.state is GroupState.EMPTY
        self.state = GroupState.PREPARING_REBALANCE
        if was_empty:
            delay_ms = self._config.initial_rebalance_delay_ms
            self._join_phase.begin_empty(now_ms, self._roster.rebalance_timeout_ms, delay_ms)
        else:
            self._join_phase.begin(now_ms, self._roster.rebalance_timeout_ms)
            self._complete_if_all_joined(now_ms)

    def _complete_if_all_joined(self, now_ms: int) -> None:
        if self.state is not GroupState.PREPARING_REBALANCE or self._pending:
            return
        if self._roster and self._join_phase.is_delayed:
            return
        if self._roster.joined_count == len(self._roster):
            self._complete(now_ms)

    def _complete(self, now_ms: int) -> None:
        """Begin the next generation with those who have joined, and static members whose sessions last."""
        self._join_phase.end()
        joined = [member_id for member_id in self._roster if self._roster.has_joined(member_id)]
        for member_id, member in list(self.members.items()):
            if not self._roster.has_joined(member_id) and not member.is_static:
                self._remove(member_id, "did not join again in time")
        if self._roster and not joined:  # Nobody can lead. Static members are waited for until their sessions end.
            self._join_phase.begin(now_ms, self._roster.rebalance_timeout_ms)
            return
        self.generation += 1
        if not joined:
            self.state = GroupState.EMPTY
            self.protocol = self.leader = ""
            self._seek.end_generations()
            self._save(settled=False)
            return
        if not self._roster.has_joined(self.leader):
            self.leader = joined[0]
        self.protocol = self._roster.selected_protocol()
        self._seek.begin_generation(self.protocol, [self._roster[member_id] for member_id in joined])
        self.state = GroupState.COMPLETING_REBALANCE
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
        checks.check_assignments(self.name, assignments, self._config)
        assignments = self._seek.strip(assignments)
        for member_id, assignment in assignments.items():
            self._roster.assign(member_id, assignment)
        self.state = GroupState.STABLE
        self._save(settled=True)

    def _answer_syncs(self, member_ids: Iterable[str], now_ms: int) -> None:
        for member_id in member_ids:
            ticket = self._roster.presences[member_id].sync
            if ticket is not None:
                reply = SyncReply(self.protocol_type, self.protocol, self._roster[member_id].assignment)
                self._answers.append((ticket, reply))
                self._seek.told(member_id)
                self._roster.end_waits(member_id, now_ms)

    def _reply(self, member_id: str) -> JoinReply:
        members: tuple[JoinedMember, ...] = ()
        if member_id == self.leader:
            members = tuple(
                JoinedMember(other_id, other.instance_id, other.metadata(self.protocol))
                for other_id, other in self.members.items()
            )
        return JoinReply(member_id, self.generation, self.protocol_type, self.protocol, self.leader, members)

    # Members and what they wait for.

    def _remove(self, member_id: str, why: str) -> None:
        out = UnknownMemberId(
            f"member {member_id!r} of group {self.name!r} {why}, so it is out of the group", remedy=checks.JOIN_AS_NEW
        )
        self._answer(self._roster.remove(member_id), out)
        self._to_sync -= {member_id}
        self._seek.told(member_id)
        if self.leader == member_id:
            self.leader = next(iter(self._roster), "")

    def _answer(self, tickets: Iterable[int], error: GroupError) -> None:
        self._answers.extend((ticket, error) for ticket in tickets)

    def _give_up(self, ticket: int | None) -> None:
        """Answer a request whose member has sent it once more, in case that somebody still listens."""
        if ticket is not None:
            self._answer([ticket], self._rebalancing())

    def _save(self, *, settled: bool) -> None:
        """Have the journal hold the group as it is now."""
        generation = ClassicGeneration(
            self.generation,
            self.protocol_type,
            self.protocol,
            self.leader,
            settled,
            self._seek.stripped,
            self._emptied_ms,
        )
        self._saved = ClassicSaved(generation, dict(self.members))

    def _rebalancing(self) -> RebalanceInProgress:
        return checks.rebalancing(self.name)
