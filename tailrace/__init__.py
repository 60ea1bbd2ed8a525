"""The client of a Tailrace log: send keyed records, read them alone or as a group, replay them from any point.

    from tailrace import Admin, Consumer, Producer

    with Producer() as producer:
        producer.send("flights", value="...", key="N14228")

    with Consumer("flights", group="dashboard") as consumer:
        for record in consumer:
            print(record.key, record.text())

The same clients for asyncio are in `tailrace.aio`. Every error is a TailraceError, is retriable or not, and carries its
remedy; `tailrace.errors` lists them. Settings of times are seconds, fields in milliseconds are named `_ms`.

Reading the source: records and errors are what users see. delivery, accumulator, sequences and sender are the way of a
record out; positions, handout, fetcher, membership, committing and consuming the way in; connection and runtime carry
both.
Each client is a core (producing, consuming, administering) behind two thin fronts, one for threads and one for asyncio.
"""

from tailrace.admin import Admin
from tailrace.consumer import Consumer
from tailrace.errors import FinalError, RetriableError, TailraceError
from tailrace.producer import Producer
from tailrace.records import Record, RecordBatch, RecordMetadata, TopicPartition

__all__ = [
    "Admin",
    "Consumer",
    "FinalError",
    "Producer",
    "Record",
    "RecordBatch",
    "RecordMetadata",
    "RetriableError",
    "TailraceError",
    "TopicPartition",
]
