"""The client of a Tailrace log: send keyed records, read them alone or as a group, replay them from any point.

    from tailrace import Admin, Consumer, Producer

    with Producer() as producer:
        producer.send("flights", value="...", key="N14228")

    with Consumer("flights", group="dashboard") as consumer:
        for record in consumer:
            print(record.key, record.text())

The same clients for asyncio are in `tailrace.aio`, and a broker for tests is in `tailrace.testing`. Every error is a
TailraceError, is retriable or not, and carries its remedy; `tailrace.errors` lists them. Settings of times are seconds,
fields in milliseconds are named `_ms`.

Reading order: errors, records, descriptions, which are what users see; runtime, connection, metadata, which carry
everything; producer_settings, sequences, delivery, accumulator, arguments, sender, the way of a record out; positions,
offsets, consumer_settings, handout, fetcher, membership, committer, the way in. Each client is a core (producer_core,
consumer_core, admin_core) behind two thin fronts, one for threads (producer, consumer, admin) and one for asyncio
(aio/). At last public, which says what is exported, and testing/. How batches are framed on the wire is in logwire.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tailrace.public import *  # noqa: F403  # which names these are is said there, once


def __getattr__(name: str) -> Any:
    # At first use, since every run of pytest imports `tailrace.testing`, and most of them without any need of gRPC.
    # What begins with a small letter is a module.
    if name == "__all__" or name[:1].isupper():
        public = import_module("tailrace.public")
        if name in ("__all__", *public.__all__):
            return globals().setdefault(name, getattr(public, name))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
