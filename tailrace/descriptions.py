"""What an Admin answers with: the messages of topics.proto and groups.proto as frozen records, field names as there.

Topic ids are 32 hexadecimal digits here.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Node:
    node_id: int
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class ClusterDescription:
    cluster_id: str
    nodes: tuple[Node, ...]
    server_version: str


@dataclass(frozen=True, slots=True)
class TopicListing:
    topic: str
    topic_id: str
    partitions: int
    internal: bool


@dataclass(frozen=True, slots=True)
class PartitionDescription:
    partition: int
    log_start_offset: int
    #: Where the next readable record will be.
    high_watermark: int
    log_end_offset: int
    size_bytes: int
    segments_count: int
    leader_node_id: int
    leader_epoch: int


@dataclass(frozen=True, slots=True)
class ConfigEntry:
    name: str
    value: str
    is_default: bool
    documentation: str


@dataclass(frozen=True, slots=True)
class TopicDescription:
    topic: str
    topic_id: str
    partitions: tuple[PartitionDescription, ...]
    config: tuple[ConfigEntry, ...]
    internal: bool


@dataclass(frozen=True, slots=True)
class ListedOffset:
    topic: str
    partition: int
    offset: int
    #: Of the record found by a time; None when there is none, and for "earliest" and "latest".
    timestamp_ms: int | None


@dataclass(frozen=True, slots=True)
class TopicPartitions:
    topic: str
    topic_id: str
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GroupListing:
    group: str
    #: "Empty", "Assigning", "Reconciling" or "Stable"; of Kafka clients with the classic protocol "Empty",
    #: "PreparingRebalance", "CompletingRebalance" or "Stable".
    state: str
    members_count: int


@dataclass(frozen=True, slots=True)
class MemberDescription:
    member_id: str
    instance_id: str
    client_id: str
    client_host: str
    member_epoch: int
    state: str
    subscribed_topics: tuple[str, ...]
    assignment: tuple[TopicPartitions, ...]
    target: tuple[TopicPartitions, ...]


@dataclass(frozen=True, slots=True)
class PartitionLag:
    topic: str
    partition: int
    #: -1: nothing is committed.
    committed_offset: int
    log_start_offset: int
    high_watermark: int
    lag_records: int
    #: Age of the oldest record not yet committed, by the time it was appended; 0 without lag.
    lag_seconds: float
    #: Who holds the partition; empty when nobody does.
    member_id: str


@dataclass(frozen=True, slots=True)
class GroupDescription:
    group: str
    state: str
    group_epoch: int
    assignment_epoch: int
    assignor: str
    members: tuple[MemberDescription, ...]
    partitions: tuple[PartitionLag, ...]


@dataclass(frozen=True, slots=True)
class CommittedOffset:
    topic: str
    partition: int
    #: The next offset to read.
    offset: int
    metadata: str = ""


@dataclass(frozen=True, slots=True)
class SoughtPartition:
    topic: str
    partition: int
    #: -1: nothing was committed.
    old_offset: int
    new_offset: int
