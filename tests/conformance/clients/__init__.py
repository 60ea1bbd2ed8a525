"""Kafka's clients behind one face, so that a test is said once and asked of each.

The face is what they have in common; what one of them has not, skips the test with the reason. Errors come as `Refused`
with Kafka's number for them, whichever classes the client has. Each client is its own module, loaded when it is used.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from typing import NamedTuple, Never, Protocol

import pytest

from tests.conformance.absent import Absent

#: Of one call of a client: it fails then, and does not hang.
CALL_SECONDS_MAX = 30

Headers = Sequence[tuple[str, bytes]]

CODECS = ("gzip", "snappy", "lz4", "zstd")


class Refused(Exception):
    """The broker, or the client on its word, has refused. `code` is the protocol's error code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"error {code}: {message}")
        self.code = code


class Message(NamedTuple):
    """What is produced."""

    value: bytes | None = None
    key: bytes | None = None
    headers: Headers = ()
    #: None: the client's partitioner chooses.
    partition: int | None = 0
    timestamp_ms: int | None = None


class Record(NamedTuple):
    """What is consumed."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class Place(NamedTuple):
    """Where a message landed, by the broker's answer."""

    partition: int
    offset: int


class Committed(NamedTuple):
    offset: int
    metadata: str


class GroupDescription(NamedTuple):
    #: Stable, Empty, Dead, ...
    state: str
    member_count: int


class Consumer(Protocol):
    def subscribe(self, topic: str) -> None: ...

    def assign(self, topic: str, partition: int, offset: int | None = None) -> None:
        """From the offset; without one from the committed offset, else from where `reset` says."""

    def poll(self, seconds: float) -> list[Record]:
        """What arrives until then; returns with the first. Raises Refused."""

    def seek(self, topic: str, partition: int, offset: int) -> None: ...

    def position(self, topic: str, partition: int) -> int:
        """The offset of the record that is read next."""

    def pause(self, topic: str, partition: int) -> None: ...

    def resume(self, topic: str, partition: int) -> None: ...

    def log_range(self, topic: str, partition: int) -> tuple[int, int]:
        """Log start and log end offset."""

    def offset_for_time(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        """Of the first record with that timestamp or a later one."""

    def assignment(self) -> set[int]:
        """The partitions this member has now."""

    def commit(self, topic: str, partition: int, offset: int, metadata: str = "") -> None: ...

    def committed(self, topic: str, partition: int) -> int | None: ...

    def close(self) -> None:
        """Leaves the group, if it is in one."""


class Client(ABC):
    """One client library, connected to one broker."""

    name: str

    def __init__(self, address: str) -> None:
        self.address = address

    def has_not(self, what: str) -> Never:
        pytest.skip(f"{self.name} has no {what}")

    @abstractmethod
    def produce(
        self,
        topic: str,
        messages: Sequence[Message],
        *,
        acks: int = -1,
        idempotent: bool = False,
        codec: str | None = None,
        batch_bytes: int = 16_384,
        request_bytes_max: int = 1_000_000,
    ) -> list[Place]:
        """Send all with one producer and wait for the answers. With acks=0 offsets mean nothing. Raises Refused."""

    @abstractmethod
    def consumer(
        self,
        *,
        group: str | None = None,
        reset: str = "earliest",
        strategy: str = "range",
        instance: str | None = None,
    ) -> AbstractContextManager[Consumer]:
        """`reset` is earliest, latest or none; `instance` makes a static member. Nothing is committed by itself."""

    # What an admin client has. Topics have one partition and one replica, unless told otherwise.

    @abstractmethod
    def create_topic(
        self, topic: str, *, partitions: int = 1, replicas: int = 1, config: Mapping[str, str] | None = None
    ) -> None: ...

    @abstractmethod
    def delete_topic(self, topic: str) -> None: ...

    @abstractmethod
    def topics(self) -> set[str]: ...

    @abstractmethod
    def partitions(self, topic: str) -> list[int]:
        """By the metadata. Raises Refused where there is no such topic."""

    @abstractmethod
    def create_partitions(self, topic: str, total: int) -> None: ...

    @abstractmethod
    def config(self, topic: str) -> dict[str, str]:
        """All settings of the topic, also those at their default."""

    def alter_config(self, topic: str, changes: Mapping[str, str | None]) -> None:
        """Only these; None puts one back to its default."""
        self.has_not("incremental alter configs")

    def delete_records(self, topic: str, partition: int, before: int) -> int:
        """Those below the offset; -1 is the log end. Returns the log start offset after it."""
        self.has_not("delete records")

    def offset(self, topic: str, partition: int, which: str) -> int:
        """`which` is earliest, latest or max-timestamp."""
        self.has_not("list offsets in its admin client")

    @abstractmethod
    def broker_ids(self) -> list[int]: ...

    @abstractmethod
    def groups(self) -> set[str]: ...

    @abstractmethod
    def describe_group(self, group: str) -> GroupDescription: ...

    def delete_group(self, group: str) -> None:
        self.has_not("delete groups")

    @abstractmethod
    def group_offsets(self, group: str) -> dict[tuple[str, int], Committed]: ...

    def alter_group_offset(self, group: str, topic: str, partition: int, offset: int) -> None:
        self.has_not("alter group offsets")

    def delete_group_offset(self, group: str, topic: str, partition: int) -> None:
        self.has_not("delete group offsets")

    def close(self) -> None:  # noqa: B027 - one client keeps nothing open
        """End what the client keeps open between calls."""


#: What a client can do in a group, for the tests that ask for each.
STRATEGIES = {
    "confluent": ("range", "roundrobin", "cooperative-sticky", "consumer"),
    "kafka_python": ("range", "roundrobin", "cooperative-sticky"),
    "aiokafka": ("range", "roundrobin"),
}

NAMES = tuple(STRATEGIES)


def open_client(name: str, address: str) -> Client:
    """The client of that name. Raises Absent where its package is not installed."""
    try:
        module = import_module(f"{__name__}.{name}_client")
    except ModuleNotFoundError as error:
        raise Absent(f"{name} needs the package {error.name}: pip install -e '.[conformance]'") from error
    opened: Callable[[str], Client] = module.open_client
    return opened(address)
