"""A member as a client should be one, and a few ways of not being one.

It believes to own what it was told it may hold, works from the committed offset of the moment it got a partition, and
gives up at once what it no longer may hold; all that under times of its own: whoever has not had an answer for the
session timeout, or could not say within the rebalance timeout that it gave up what it was to, has to assume that it was
fenced.
"""

from collections.abc import Iterator
from dataclasses import astuple, dataclass, field

from consumer_groups.classic.group import ClassicGroup
from consumer_groups.coordinator import GroupCoordinator
from consumer_groups.member import ClassicMember, Member
from consumer_groups.requests import HeartbeatReply, HeartbeatRequest, Partition, TopicPartitions
from consumer_groups.room import TEXT_BYTES

REBALANCE_TIMEOUT_MS = 60_000


def partitions_of(assignment: tuple[TopicPartitions, ...]) -> set[Partition]:
    partitions = set()
    for topic in assignment:
        assert topic.topic_id is not None
        partitions |= {Partition(topic.topic_id, number) for number in topic.partitions}
    return partitions


def as_owned(partitions: set[Partition]) -> tuple[TopicPartitions, ...]:
    return tuple(TopicPartitions("", topic_id, (number,)) for topic_id, number in sorted(partitions))


def brought_bytes(coordinator: GroupCoordinator) -> int:
    """What members of all groups have brought: every text in what the groups have of them."""
    return sum(
        TEXT_BYTES + len(text.encode() if isinstance(text, str) else text)
        for live in coordinator._groups.named()
        for text in (
            *_texts(tuple(live.group.members)),
            *(text for member in live.group.members.values() for text in _texts_of(member)),
            *(live.group._pending if isinstance(live.group, ClassicGroup) else ()),
        )
    )


def _texts_of(member: object) -> Iterator[str | bytes]:
    assert isinstance(member, Member | ClassicMember)
    return _texts(astuple(member.profile if isinstance(member, Member) else member))


def _texts(fields: object) -> Iterator[str | bytes]:
    if isinstance(fields, str | bytes):
        yield fields
    elif isinstance(fields, tuple):
        for each in fields:
            yield from _texts(each)


def taken_bytes(coordinator: GroupCoordinator) -> int:
    """The same as the coordinator counts it."""
    return coordinator._groups.room.taken_bytes


@dataclass
class ModelMember:
    member_id: str
    topics: tuple[str, ...]
    instance_id: str = ""
    epoch: int = 0
    owned: set[Partition] = field(default_factory=set)
    #: What it must give up, as it was told, and has not: a stubborn member holds on to it and works on.
    overdue: set[Partition] = field(default_factory=set)
    stubborn: bool = False
    rebalance_timeout_ms: int = REBALANCE_TIMEOUT_MS
    #: What it was told to give up; it is fenced unless the server hears by then that it has.
    must_say_by_ms: dict[Partition, int] = field(default_factory=dict)
    #: The step at which it got each partition.
    acquired: dict[Partition, int] = field(default_factory=dict)
    reported: set[Partition] | None = None
    must_send_full: bool = True
    #: Of the last heartbeat that it sent.
    number: int = 0
    #: When it sent the last heartbeat that was answered.
    answered_ms: int = 0
    gone: bool = False

    def request(self, *, full: bool = False) -> HeartbeatRequest:
        full = full or self.must_send_full or self.epoch == 0
        holds = self.owned | self.overdue
        changed = self.reported != holds
        self.number += 1
        return HeartbeatRequest(
            group="g",
            member_id=self.member_id,
            member_epoch=self.epoch,
            instance_id=self.instance_id,
            subscription=self.topics if full else None,
            owned=as_owned(holds) if full or changed else None,
            number=self.number,
        )

    def answer(self, request: HeartbeatRequest, reply: HeartbeatReply, sent_ms: int, step: int) -> None:
        self.epoch = reply.member_epoch
        answered_before_ms = self.answered_ms
        self.answered_ms = max(self.answered_ms, sent_ms)
        self.must_send_full = False
        if request.owned is not None:
            self.reported = partitions_of(request.owned)
            still_to_say = self.reported - self.owned
            self.must_say_by_ms = {held: at for held, at in self.must_say_by_ms.items() if held in still_to_say}
        if reply.assignment is None:
            return
        assigned = partitions_of(reply.assignment)
        lost = (self.owned | self.overdue) - assigned
        for partition in assigned - self.owned:
            self.acquired[partition] = step
        self.owned = assigned
        # The server may have wanted it back since the last answer that did not say so.
        by_ms = answered_before_ms + self.rebalance_timeout_ms
        self.must_say_by_ms = dict.fromkeys(lost, by_ms) | self.must_say_by_ms
        self.overdue = lost if self.stubborn else set()

    def miss(self) -> None:
        """No answer came: nobody knows what the server made of it."""
        self.must_send_full = True

    def lose_everything(self) -> None:
        """Fenced, unknown, or silent for too long: give all up and join again."""
        self.owned, self.overdue, self.acquired, self.reported = set(), set(), {}, None
        self.epoch = 0
        self.must_send_full = True
        self.must_say_by_ms = {}

    def is_out(self, now_ms: int, session_timeout_ms: int) -> bool:
        """Whether it has to assume that it was fenced."""
        was_heard = now_ms - self.answered_ms < session_timeout_ms
        return not was_heard or now_ms >= min(self.must_say_by_ms.values(), default=now_ms + 1)

    def believes(self, now_ms: int, session_timeout_ms: int) -> set[Partition]:
        """What an honest observer of its rules grants it."""
        if self.gone or self.epoch <= 0 or self.is_out(now_ms, session_timeout_ms):
            return set()
        return self.owned | self.overdue
