"""The client of a Tailrace log: send keyed records, read them alone or as a group, replay them from any point.

    from tailrace import Admin, Consumer, Producer

    with Producer() as producer:
        producer.send("flights", value="...", key="N14228")

    with Consumer("flights", group="dashboard") as consumer:
        for record in consumer:
            print(record.key, record.text())

The same clients for asyncio are in `tailrace.aio`. Every error is a TailraceError, is retriable or not, and carries its
remedy; `tailrace.errors` lists them. Settings of times are seconds, fields in milliseconds are named `_ms`.

Reading the source: errors, records and descriptions are what users see. runtime, connection and metadata carry
everything. sequences, delivery, accumulator, arguments and sender are the way of a record out; positions, offsets,
handout, fetcher, membership and committer the way in. How batches are framed on the wire is in logwire.
Each client is a core (producer_core, consumer_core, admin_core) behind two thin fronts, one for threads (producer,
consumer, admin) and one for asyncio (`aio`).
"""

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
