"""The Kafka door as a whole: one port, its connections, and how it opens and closes."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, nullcontext
from typing import Any

import structlog
from kio.schema.errors import ErrorCode

from logserver.broker import Broker
from logserver.bytes_in_flight import BytesInFlight
from logserver.config import Address, ServerConfig
from logserver.context import RequestContext
from logserver.errors import ListenFailed
from logserver.kafka.answers import LITTLE_BYTES, Answers
from logserver.kafka.apis import API_VERSIONS, ApiKey
from logserver.kafka.buffers import SHARED_BYTES, SpareBuffers
from logserver.kafka.connection import Connection, Frame
from logserver.kafka.fetch import FetchHandler
from logserver.kafka.fetch_sessions import SessionPlaces
from logserver.kafka.few_lines import FewLines
from logserver.kafka.handlers import Handler, handlers
from logserver.kafka.making import BeingMade, Making
from logserver.kafka.messages import Fields, RequestHeader, encode_response, read_body
from logserver.kafka.metadata import api_versions, makes_topics
from logserver.kafka.strangers import not_spoken
from logstore.clock import Clock

logger = structlog.get_logger()

#: Of requests whose connection has had no answer yet.
STRANGERS_BYTES_MAX = 32 << 20
#: Between two looks for connections that say nothing.
SWEEP_MS = 5_000
BACKLOG = 1024
#: A request of more bytes is counted while it is under way, unless it is Produce, which is read in place.
LARGE_BYTES = 4 << 10
#: So many of those are answered at once, each for a slice of time: one that makes a thousand topics must not keep the
#: commits of others waiting, nor a hundred of them anybody.
LARGE_AT_ONCE = 4
#: But of those that make or change topics so many: each of their items waits for the disk, and who commits is not to
#: wait for thousands of those.
CHANGES_AT_ONCE = 2
CHANGES = frozenset(
    {
        ApiKey.CREATE_TOPICS,
        ApiKey.DELETE_TOPICS,
        ApiKey.CREATE_PARTITIONS,
        ApiKey.DELETE_RECORDS,
        ApiKey.ALTER_CONFIGS,
        ApiKey.INCREMENTAL_ALTER_CONFIGS,
    }
)
#: What asks for all that there is, without naming it. What is looked up for so many is held at once.
LISTS_AT_ONCE = 4
LISTS = frozenset({ApiKey.LIST_GROUPS, ApiKey.LIST_CONFIG_RESOURCES})
#: The turn of a request that has few items.
AT_ONCE = nullcontext()
#: What waits for others to do something: the rest has an answer at once.
WAITING = frozenset({ApiKey.FETCH, ApiKey.JOIN_GROUP, ApiKey.SYNC_GROUP})
#: What an item takes while its request is under way.
ITEM_BYTES = 512


class KafkaServer:
    """Holds its address from the moment it is made. Who connects before `serve` is answered from then on."""

    def __init__(self, config: ServerConfig, clock: Clock) -> None:
        """Listen, before anything else is begun. Raises ListenFailed."""
        assert config.kafka_listen is not None
        self._config = config
        self._clock = clock
        self._socket = _listen(config.kafka_listen)
        #: Where it listens: port 0 has become a real one.
        self.address = Address(config.kafka_listen.host, self._socket.getsockname()[1])
        self.shared = memoryview(bytearray(SHARED_BYTES))
        self.request_bytes_max = config.kafka_request_bytes_max
        self.produce_timeout_ms = config.produce_timeout_ms
        self.strangers = BytesInFlight(STRANGERS_BYTES_MAX, "connections that have had no answer yet")
        self.answers = Answers(config.kafka_answers_bytes_max)
        self.lines = FewLines(clock)
        self.spare_buffers = SpareBuffers()
        self.broker: Broker
        self.session_places = SessionPlaces()
        self._making = Making(config.kafka_answers_bytes_max)
        self._large = asyncio.Semaphore(LARGE_AT_ONCE)
        self._changes = asyncio.Semaphore(CHANGES_AT_ONCE)
        self._lists = asyncio.Semaphore(LISTS_AT_ONCE)
        self._uninterrupted = asyncio.Lock()
        self._connections: set[Connection] = set()
        self._connections_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self._server: asyncio.Server | None = None
        self._sweeping: asyncio.TimerHandle | None = None
        self._closed = asyncio.Event()
        self._fetch: FetchHandler
        self._handlers: Mapping[int, Handler]

    async def serve(self, broker: Broker) -> None:
        self.broker = broker
        self._fetch = FetchHandler(broker, self.answers)
        self._handlers = handlers(broker, self._config.kafka_advertise or self.address)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), sock=self._socket, backlog=BACKLOG)
        self._sweep_by_the_clock()

    async def abandon(self) -> None:
        """Let go of the address without having served."""
        self._socket.close()

    def begin_stop(self) -> None:
        """Take no new connections, and begin no more requests."""
        assert self._server is not None, "one that never served is abandoned"
        self._server.close()
        if self._sweeping is not None:
            self._sweeping.cancel()
        for connection in list(self._connections):
            connection.stop()

    async def stop(self, grace_ms: int) -> None:
        """Wait for the requests that were begun, and after grace_ms cut them. What waits for news is to be released
        before."""
        try:
            async with asyncio.timeout(grace_ms / 1000):
                while self._connections:
                    self._closed.clear()
                    await self._closed.wait()
        except TimeoutError:
            logger.warning("Kafka connections are cut: they did not end in time", connections=len(self._connections))
        for connection in list(self._connections):
            connection.abort()
        self.lines.tell_left_out(now=True)

    # What connections call.

    def opened(self, connection: Connection) -> bool:
        self._connections.add(connection)
        return len(self._connections) <= self._connections_max

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._closed.set()

    def answer(self, header: RequestHeader, frame: memoryview, connection: Connection) -> Coroutine[Any, Any, Frame]:
        """Read a request, and return what makes the answer. Raises Malformed, also for what Kafka closes a connection
        for: an API or a version that is not advertised."""
        versions = API_VERSIONS.get(header.api_key)
        if versions is None or header.version not in versions:
            if header.api_key == ApiKey.API_VERSIONS:
                # The client is newer than we are. It learns so in the one version that every client knows.
                return _at_once(header._replace(version=0), api_versions(ErrorCode.unsupported_version))
            raise not_spoken(header)
        if len(frame) > LARGE_BYTES:
            return self._answer_large(header, bytes(frame), connection)
        return self._answer_read(header, read_body(header, frame).body, connection)

    async def _answer_large(self, header: RequestHeader, frame: bytes, connection: Connection) -> Frame:
        """What has many items takes time to read, to answer and to write, so that no more than a few are answered at
        once, each a slice of time after the other, and read and written in turn; and memory until it is answered."""
        with ExitStack() as held:
            held.enter_context(connection.in_flight.hold(len(frame)))
            places = self._changes if header.api_key in CHANGES else self._large
            while True:
                async with places:
                    async with self._turn():
                        request, items = read_body(header, frame)
                    if places is self._large and self._is_change(header, request):
                        del request  # It is read once more, and holds no more than its frame until then.
                        places = self._changes
                        continue
                    held.enter_context(connection.in_flight.hold(items * ITEM_BYTES))
                    del frame  # What is needed of it the request has: who joins a group waits long.
                    if header.api_key not in WAITING:
                        return await self._answer_read(header, request, connection, self._turn())
                return await self._answer_read(header, request, connection, self._turn())

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """For what nothing can interrupt. Before the next of these, others have as long as it took."""
        await self._uninterrupted.acquire()
        begun_ms = self._clock.monotonic_ms()
        try:
            yield
        finally:
            took_ms = self._clock.monotonic_ms() - begun_ms
            asyncio.get_running_loop().call_later(took_ms / 1000, self._uninterrupted.release)

    def _answer_read(
        self,
        header: RequestHeader,
        request: Any,
        connection: Connection,
        turn: AbstractAsyncContextManager[None] = AT_ONCE,
    ) -> Coroutine[Any, Any, Frame]:
        if header.api_key == ApiKey.FETCH:
            return self._fetch.fetch(header, request, connection.context, connection.fetch_session)
        return self._answered(header, self._handlers[header.api_key], request, connection.context, turn)

    async def _answered(
        self,
        header: RequestHeader,
        handler: Handler,
        request: Any,
        context: RequestContext,
        turn: AbstractAsyncContextManager[None],
    ) -> Frame:
        with BeingMade(self._making) as made:
            asks_for_all = _asks_for_all(header, request)
            async with self._lists if asks_for_all else AT_ONCE:
                if asks_for_all or self._is_change(header, request):
                    await self._making.turn()
                answer = await handler(request, context)
            async with turn:
                frame = encode_response(header.api_key, header.version, header.correlation_id, answer)
            if len(frame) <= LITTLE_BYTES:
                return (frame,)
            del answer  # the same bytes once more
            await self.answers.room(lambda: made.is_given_up)
            made.check()
            # It is sent in this same turn of the loop, and what is not taken is counted there.
            return (frame,)

    def _is_change(self, header: RequestHeader, request: Any) -> bool:
        """Whether it makes or changes topics: nothing else runs while the disk does that."""
        return header.api_key in CHANGES or (header.api_key == ApiKey.METADATA and makes_topics(request, self.broker))

    def _sweep_by_the_clock(self) -> None:
        self.sweep()
        self._sweeping = asyncio.get_running_loop().call_later(SWEEP_MS / 1000, self._sweep_by_the_clock)

    def sweep(self) -> None:
        """Cut who has begun a request and does not end it, or takes no answer, or says nothing at all."""
        self.lines.tell_left_out()
        now_ms = self._clock.monotonic_ms()
        for connection in list(self._connections):
            if connection.taking_nothing_ms() > self._config.write_timeout_ms:
                connection.cut(f"nothing in {self._config.write_timeout_ms} ms")
                continue
            waited_ms = now_ms - connection.waiting_since_ms
            if not connection.is_idle:
                continue
            if waited_ms > connection.wait_ms_max:
                connection.tell_closed("it was silent or slow", ms=waited_ms)
                connection.abort()
            elif waited_ms > SWEEP_MS:
                connection.release_memory()


def _asks_for_all(header: RequestHeader, request: Any) -> bool:
    """Whether it asks for all groups or topics. To look them up takes a slice by itself."""
    return header.api_key in LISTS or not getattr(request, "topics", True)


async def _at_once(header: RequestHeader, answer: Fields) -> Frame:
    return (encode_response(header.api_key, header.version, header.correlation_id, answer),)


def _listen(listen: Address) -> socket.socket:
    try:
        found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            listening.listen(BACKLOG)
            listening.setblocking(False)
        except OSError:
            listening.close()
            raise
    except OSError as error:
        raise ListenFailed(
            f"{listen} cannot be listened on: {(error.strerror or str(error)).lower()}",
            remedy="End what listens there, or choose another address with --kafka-listen.",
        ) from error
    return listening
