"""What is asked of the coordinator and what it answers: groups.proto in Python, with topic ids as UUIDs."""

from enum import Enum
from typing import NamedTuple
from uuid import UUID

#: Member epochs with a meaning of their own, as in KIP-848.
JOIN_EPOCH = 0
LEAVE_EPOCH = -1
AWAY_EPOCH = -2
#: With an empty member id: a commit from outside the group.
OUTSIDE_EPOCH = -1
#: In an answer: nothing is committed.
NO_OFFSET = -1
#: The leader epoch of a record is not known.
NO_LEADER_EPOCH = -1
#: The protocol type of consumers: what they exchange is known (`consumer_protocol`), of other types it is not.
CONSUMER = "consumer"


class Partition(NamedTuple):
    """One partition, by topic id: a topic deleted and made again has other partitions."""

    topic_id: UUID
    number: int


class TopicPartitions(NamedTuple):
    """Some partitions of one topic. In a request one of topic and topic_id is enough; an answer has both."""

    topic: str
    topic_id: UUID | None
    partitions: tuple[int, ...]


class HeartbeatRequest(NamedTuple):
    """KIP-848's heartbeat. None in an optional field means: as in the member's last heartbeat.

    A *full* heartbeat has both subscription and owned. A member sends one when it joins, and again after any call
    that failed, since it cannot know whether that one was taken: with only its old epoch and nothing said about what
    it owns, a member that missed an answer is fenced.
    """

    group: str
    #: Chosen by the member, unique to its process.
    member_id: str
    #: 0 joins, -1 leaves, -2 leaves for a while (static members).
    member_epoch: int
    instance_id: str = ""
    #: 0: the server's default. Read when joining.
    rebalance_timeout_ms: int = 0
    subscription: tuple[str, ...] | None = None
    #: Empty: the group's default. Read when joining, and in any full heartbeat.
    assignor: str = ""
    #: What the member holds now, given whenever it changes: this is how partitions are given up.
    owned: tuple[TopicPartitions, ...] | None = None
    client_id: str = ""
    client_host: str = ""
    #: Higher in each heartbeat that the member sends, also in one that repeats another, so that one which was overtaken
    #: on its way is known when it arrives, and not taken. 0: not numbered, for members whose requests keep their order.
    number: int = 0


class HeartbeatReply(NamedTuple):
    member_id: str
    member_epoch: int
    heartbeat_interval_ms: int
    #: A member that is not heard of for so long is fenced.
    session_timeout_ms: int
    #: What the member may hold now, in full. None: unchanged.
    assignment: tuple[TopicPartitions, ...] | None


class OffsetCommit(NamedTuple):
    topic: str
    partition: int
    #: The next offset to read.
    offset: int
    metadata: str = ""
    #: Refused if the topic's id is another by now. None: whatever topic has the name.
    topic_id: UUID | None = None
    #: Of the last record read; kept, and given back. -1: not known.
    leader_epoch: int = NO_LEADER_EPOCH


class Committer(NamedTuple):
    """Who commits, as it says: a member, or without a member id somebody from outside of the group."""

    member_id: str
    #: Of a classic member its generation.
    epoch: int
    #: Higher in each commit of the member, the same in one that repeats another; 0 for none.
    number: int = 0
    #: Of a classic member.
    instance_id: str = ""


OUTSIDER = Committer("", OUTSIDE_EPOCH)


class CommittedOffset(NamedTuple):
    topic: str
    topic_id: UUID
    partition: int
    #: -1: nothing is committed.
    offset: int
    metadata: str = ""
    #: Wall clock; 0 when nothing is committed.
    commit_time_ms: int = 0
    leader_epoch: int = NO_LEADER_EPOCH


class GroupState(Enum):
    """The states of a group of the consumer group protocol (KIP-848), and those of the classic protocol."""

    EMPTY = "Empty"
    #: The group has changed since the target assignment was planned.
    ASSIGNING = "Assigning"
    #: Some member has not reached the target assignment yet.
    RECONCILING = "Reconciling"
    STABLE = "Stable"
    #: Classic: members are to join again, and those that have done so wait for the others.
    PREPARING_REBALANCE = "PreparingRebalance"
    #: Classic: a generation has begun, and its leader has yet to say who gets what.
    COMPLETING_REBALANCE = "CompletingRebalance"
    #: Classic: deleted. No listing has such a group; it is what Kafka answers of one that is not there.
    DEAD = "Dead"


class GroupListing(NamedTuple):
    group: str
    state: GroupState
    members_count: int
    #: Of the classic protocol; else of the consumer group protocol.
    is_classic: bool = False
    #: "consumer" but for a classic group of something else; empty when only offsets are known of the group.
    protocol_type: str = ""


class MemberDescription(NamedTuple):
    member_id: str
    instance_id: str
    client_id: str
    client_host: str
    #: -2: a static member that is away for a while.
    member_epoch: int
    state: str
    subscribed_topics: tuple[str, ...]
    assignment: tuple[TopicPartitions, ...]
    target: tuple[TopicPartitions, ...]


class PartitionLag(NamedTuple):
    topic: str
    topic_id: UUID
    partition: int
    #: -1: nothing is committed.
    committed_offset: int
    log_start_offset: int
    high_watermark: int
    lag_records: int
    #: Age of the oldest record not yet committed, by the time it was appended; 0 without lag.
    lag_seconds: float
    #: Who holds it; empty when nobody does.
    member_id: str


class GroupDescription(NamedTuple):
    group: str
    state: GroupState
    group_epoch: int
    assignment_epoch: int
    assignor: str
    members: tuple[MemberDescription, ...]
    partitions: tuple[PartitionLag, ...]


class SeekTarget(NamedTuple):
    """Where to seek: exactly one of the fields is set."""

    offset: int | None = None
    timestamp_ms: int | None = None
    beginning: bool = False
    end: bool = False
    #: Relative to the committed offset.
    shift_by: int | None = None


class SoughtPartition(NamedTuple):
    topic: str
    partition: int
    #: -1: nothing was committed.
    old_offset: int
    new_offset: int


#: What a plan or a member holds, as a set; answers list it by topic.
Assignment = frozenset[Partition]
NOTHING: Assignment = frozenset()


class TopicInfo(NamedTuple):
    name: str
    topic_id: UUID
    #: How many: they are numbered from 0.
    partitions: int


class OffsetRange(NamedTuple):
    log_start_offset: int
    high_watermark: int
