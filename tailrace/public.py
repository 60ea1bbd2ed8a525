"""What `tailrace` exports. It is apart so that a part of the package can be had without what the clients bring."""

from tailrace.admin import Admin
from tailrace.consumer import Consumer
from tailrace.delivery import BulkFuture, SendFuture, SentRange
from tailrace.descriptions import (
    ClusterDescription,
    CommittedOffset,
    ConfigEntry,
    GroupDescription,
    GroupListing,
    ListedOffset,
    MemberDescription,
    Node,
    PartitionDescription,
    PartitionLag,
    SoughtPartition,
    TopicDescription,
    TopicListing,
    TopicPartitions,
)
from tailrace.errors import FinalError, RetriableError, TailraceError
from tailrace.producer import Producer
from tailrace.records import Record, RecordBatch, RecordMetadata, TopicPartition

__all__ = [
    "Admin",
    "BulkFuture",
    "ClusterDescription",
    "CommittedOffset",
    "ConfigEntry",
    "Consumer",
    "FinalError",
    "GroupDescription",
    "GroupListing",
    "ListedOffset",
    "MemberDescription",
    "Node",
    "PartitionDescription",
    "PartitionLag",
    "Producer",
    "Record",
    "RecordBatch",
    "RecordMetadata",
    "RetriableError",
    "SendFuture",
    "SentRange",
    "SoughtPartition",
    "TailraceError",
    "TopicDescription",
    "TopicListing",
    "TopicPartition",
    "TopicPartitions",
]
