"""As much of a server as reading needs."""

from collections.abc import Coroutine, Sequence
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from logserver.appends import Ack, Acks, BatchAppend, PendingAcks
from logserver.broker import Broker
from logserver.bytes_in_flight import BytesInFlight, Connections
from logserver.context import RequestContext
from logserver.kafka.answers import Answers
from logserver.kafka.apis import API_VERSIONS
from logserver.kafka.buffers import SpareBuffers
from logserver.kafka.connection import Connection, Frame
from logserver.kafka.fetch_sessions import SessionPlaces
from logserver.kafka.few_lines import FewLines
from logserver.kafka.messages import RequestHeader, read_body
from logserver.kafka.primitives import malformed
from logstore.clock import Clock
from logstore.errors import UnknownTopicId


class StoodStill(Clock):
    def monotonic_ms(self) -> int:
        return 0

    def wall_ms(self) -> int:
        return 0


_ID = UUID(int=1)


class NamedTopics:
    """Has every name, and finds nothing by an id."""

    def topic(self, name: str) -> object:
        return SimpleNamespace(name=name, topic_id=_ID)

    def topic_by_id(self, topic_id: UUID) -> Any:
        raise UnknownTopicId(f"no topic has the id {topic_id}", remedy="Ask again.")


class Appends:
    """Takes every batch, and notes it."""

    def __init__(self) -> None:
        self.appended: list[tuple[str, int, bytes]] = []

    def append_now(
        self, context: RequestContext, batches: Sequence[BatchAppend | Ack], acks: Acks
    ) -> PendingAcks | None:
        told = []
        for batch in batches:
            if isinstance(batch, BatchAppend):
                self.appended.append((batch.topic, batch.partition, bytes(batch.batch)))
                told.append(Ack(batch.topic, batch.partition, base_offset=len(self.appended)))
            else:
                told.append(batch)
        return PendingAcks(told)

    def forget(self, pending: PendingAcks) -> None:
        pass


class FakeBroker:
    def __init__(self) -> None:
        self.clock = StoodStill()
        self.store = NamedTopics()
        self.appends = Appends()
        self.connections = Connections(1 << 20, 1 << 20)


class FakeDoor:
    """Reads every request, and answers with its correlation id."""

    request_bytes_max = 1 << 20
    produce_timeout_ms = 1000

    def __init__(self) -> None:
        self.fake = FakeBroker()
        self.broker = cast(Broker, self.fake)
        self.shared = memoryview(bytearray(1 << 12))
        self.strangers = BytesInFlight(1 << 20, "strangers")
        self.answers = Answers(1 << 20)
        self.lines = FewLines(StoodStill())
        self.spare_buffers = SpareBuffers()
        self.session_places = SessionPlaces()
        #: What was begun, in order.
        self.begun: list[tuple[RequestHeader, bytes]] = []

    def opened(self, connection: Connection) -> bool:
        return True

    def closed(self, connection: Connection) -> None:
        pass

    def answer(self, header: RequestHeader, frame: memoryview, connection: Connection) -> Coroutine[Any, Any, Frame]:
        if header.version not in API_VERSIONS.get(header.api_key, ()):
            raise malformed("no such version")
        read_body(header, frame)
        self.begun.append((header, bytes(frame)))
        return _answered(header)


async def _answered(header: RequestHeader) -> Frame:
    return (header.correlation_id.to_bytes(4, "big", signed=True),)
