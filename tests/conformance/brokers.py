"""Where the brokers of the suite come from."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.conformance.apache import ApacheKafka
from tests.processes import SHORT_SESSIONS, ServerProcess


class Broker(NamedTuple):
    kind: str
    #: host:port, for the clients.
    address: str


@contextmanager
def apache(directory: Path) -> Iterator[Broker]:
    with ApacheKafka(directory) as kafka:
        yield Broker("apache", kafka.address)


@contextmanager
def tailrace(directory: Path, *options: str) -> Iterator[Broker]:
    """`logserver` with its Kafka door."""
    with ServerProcess(directory / "data", *SHORT_SESSIONS, *options, kafka=True) as server:
        yield Broker("tailrace", server.kafka_address)


BROKERS: dict[str, Callable[[Path], AbstractContextManager[Broker]]] = {"tailrace": tailrace, "apache": apache}
