"""Where the brokers of the suite come from."""

import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.conformance.apache import ApacheKafka
from tests.processes import SHORT_SESSIONS, Program, program

KAFKA_ADDRESS = re.compile(r"kafka=(\S+)")


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
    command = program("logserver.main")
    listen = ["--listen", "127.0.0.1:0", "--kafka-listen", "127.0.0.1:0"]
    where = ["--data-dir", str(directory / "data")]
    with Program([*command, *where, *listen, *SHORT_SESSIONS, *options], log=directory / "logserver.log") as server:
        server.ready()
        address = KAFKA_ADDRESS.search(server.ready_line)
        assert address is not None, f"the ready line does not say where Kafka clients connect: {server.ready_line!r}"
        yield Broker("tailrace", address[1])


BROKERS: dict[str, Callable[[Path], AbstractContextManager[Broker]]] = {"tailrace": tailrace, "apache": apache}
