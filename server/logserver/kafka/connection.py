"""One Kafka connection: frames in, answers out in the order of the requests.

    frame    size: i32, not counted itself | request: header, body

A request is begun when all before it are answered. But produce requests follow one another at once: each is appended
as it comes, out of the buffer it was received into, and answered when a sync covers it. Nothing is read while a request
that is no produce request is under way, nor while the client does not take its answers: TCP tells it to wait.
"""

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from functools import partial
from struct import Struct
from typing import Any, Protocol, cast

from logserver.appends import Ack, Acks, PendingAcks
from logserver.broker import Broker
from logserver.bytes_in_flight import BytesInFlight
from logserver.context import ANONYMOUS, RequestContext
from logserver.errors import LogServerError
from logserver.kafka.answers import Answers
from logserver.kafka.apis import API_VERSIONS, ApiKey
from logserver.kafka.buffers import ReceiveBuffer, SpareBuffers
from logserver.kafka.fetch_sessions import FetchSession, SessionPlaces
from logserver.kafka.few_lines import FewLines
from logserver.kafka.messages import RequestHeader, read_header
from logserver.kafka.primitives import Malformed
from logserver.kafka.produce import ProduceRequest, encode_produce_answer, read_produce
from logserver.kafka.strangers import no_size
from logserver.time_slice import SLICE_MS
from logstore.batch import Buffer

#: The largest request of a connection that has not had an answer yet: enough for any first request, and little to lose.
FIRST_REQUEST_BYTES_MAX = 512 << 10
#: The largest request but Produce: the assignments of a group of thousands.
OTHER_REQUEST_BYTES_MAX = 16 << 20
#: A request of up to so much gets its memory at once, a larger one as it comes.
RECEIVED_AT_ONCE = 2 << 20
#: Kafka's connections.max.idle.ms.
IDLE_MS_MAX = 600_000
#: A request that was begun must come whole in so long, a large one at so many bytes a second after that.
REQUEST_MS_MAX = 60_000
BYTES_PER_SECOND_MIN = 16 << 10
#: So long a produce request waits for its sync at least, also when it asks for less. Apache Kafka answers timeout 0 at
#: once, as its one replica has the batch in memory. Here a sync takes milliseconds, on a busy disk some hundred, and
#: who is told of a timeout would send again what is about to be durable.
PRODUCE_MS_MIN = 500
#: Produce requests of one connection that wait for a sync.
PIPELINED_MAX = 100

_SIZE = Struct(">i")
_SIZE_BYTES = 4
_KEY_BYTES = 2
#: So much of a client's id is written to the log.
_SHOWN_MAX = 249

#: The answer's frame, in parts that are sent one after the other.
Frame = Sequence[Buffer]


class Door(Protocol):
    """What a connection needs of the door that it came through."""

    broker: Broker
    #: What all connections receive into, while they have no buffer of their own.
    shared: memoryview
    request_bytes_max: int
    produce_timeout_ms: int
    #: Counts what connections have sent that have had no answer yet.
    strangers: BytesInFlight
    #: Of all connections.
    answers: Answers
    #: What it logs of connections.
    lines: FewLines
    spare_buffers: SpareBuffers
    #: Of the fetch sessions of all connections.
    session_places: SessionPlaces

    def opened(self, connection: "Connection") -> bool:
        """False: there are too many already."""
        ...

    def closed(self, connection: "Connection") -> None: ...

    def answer(self, header: RequestHeader, frame: memoryview, connection: "Connection") -> Coroutine[Any, Any, Frame]:
        """Read a request, whatever it is but Produce: the frame is gone afterwards. Raises Malformed. What is returned
        makes the answer."""
        ...


class _Answer:
    """A place in the order of answers, which is filled when the answer is known."""

    __slots__ = ("frame", "pending", "timer")

    def __init__(self) -> None:
        self.frame: Frame | None = None
        self.pending: PendingAcks | None = None
        self.timer: asyncio.TimerHandle | None = None


class Connection(asyncio.BufferedProtocol):
    def __init__(self, door: Door) -> None:
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._clock = door.broker.clock
        self._transport: asyncio.Transport | None = None
        self._received = ReceiveBuffer(door.strangers, door.spare_buffers)
        self._overload: LogServerError | None = None  # there is no memory for what comes
        self._answers: deque[_Answer] = deque()
        self._task: asyncio.Task[None] | None = None
        self._is_proven = False
        self._is_writable = True
        self._untaken_bytes = 0  # and from when on it were so many
        self._untaken_since_ms = 0
        self._is_reading = True
        self._is_waiting_for_turn = False  # a whole request is here, and those before it are not answered
        self._is_stopping = False
        self._is_going_on = False  # soon
        self.fetch_session = FetchSession(door.session_places)
        self.peer = ""
        self.context = RequestContext(ANONYMOUS, "", "kafka", "", None)
        #: Monotonic: since when the connection waits for the rest of a request, or for the next one. Another byte of
        #: one is no new beginning.
        self.waiting_since_ms = self._clock.monotonic_ms()

    # The transport's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        name = transport.get_extra_info("peername")
        self.peer = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name)
        self.context = RequestContext(ANONYMOUS, "", "kafka", self.peer, None)
        if not self._door.opened(self):
            self._door.lines.warning(
                "a Kafka connection is refused: there are as many as may be",
                peer=self.peer,
                remedy="Close some, or let the server have more open files (ulimit -n): half of them are for these.",
            )
            self._transport.abort()

    def get_buffer(self, sizehint: int) -> memoryview:
        if not len(self._received):
            return self._door.shared
        try:
            return self._received.free(self._wanted_bytes(), at_once=RECEIVED_AT_ONCE if self._is_proven else 0)
        except LogServerError as error:
            # To abort within this call ends the process: libuv goes on to read. What it reads is thrown away.
            self._overload = error
            return self._door.shared

    def buffer_updated(self, nbytes: int) -> None:
        if self._overload is not None:
            self._end(self._overload)
            return
        try:
            if len(self._received):
                self._received.add(nbytes)
                self._handle_received()
            else:
                self.waiting_since_ms = self._clock.monotonic_ms()
                data = self._door.shared[:nbytes]
                handled = self._handle(data)
                if handled < nbytes and not self._is_closing:
                    self._received.put(data[handled:])
        except LogServerError as error:
            self._end(error)

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._is_writable = False
        self._untaken_bytes = 0

    def resume_writing(self) -> None:
        self._is_writable = True
        self._door.answers.taken(self)
        self._go_on_soon()

    def connection_lost(self, error: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()
        for answer in self._answers:
            self._forget(answer)
        self._answers.clear()
        self._received.release()
        self._door.answers.taken(self)
        self.fetch_session.close()
        if self._is_proven:
            self._door.broker.connections.leave(self.peer)
        self._door.closed(self)

    # The door's side.

    @property
    def is_idle(self) -> bool:
        return not self._answers

    @property
    def in_flight(self) -> BytesInFlight:
        """What of this connection is held."""
        return self._received.counter

    @property
    def wait_ms_max(self) -> int:
        """How long it may be silent, or take for a request that it has begun, so that a byte a second is not enough."""
        if self._is_waiting_for_turn or not len(self._received):
            return IDLE_MS_MAX
        return REQUEST_MS_MAX + len(self._received) * 1000 // BYTES_PER_SECOND_MIN

    def release_memory(self) -> None:
        """Called now and then for those that are idle."""
        if not len(self._received):
            self._received.release()

    def stop(self) -> None:
        """Begin nothing more, and close when all is answered that was begun."""
        self._is_stopping = True
        self._pause()
        if self.is_idle:
            self._close()

    def abort(self) -> None:
        assert self._transport is not None
        self._transport.abort()

    def cut(self, why: str) -> None:
        """Its client does not take its answers."""
        self.tell_closed("it takes no answer", why=why)
        self.abort()

    def tell_closed(self, reason: str, **facts: Any) -> None:
        """reason: one that the code has, and no client."""
        self._door.lines.info(f"a Kafka connection is closed: {reason}", **self._whose(), **facts)

    def _whose(self) -> dict[str, str]:
        client_id = self.context.client_id[:_SHOWN_MAX]
        shown = client_id if client_id.isprintable() else ascii(client_id)
        return {"peer": self.peer} | ({"client_id": shown} if shown else {})

    def taking_nothing_ms(self) -> int:
        """For how long its client has taken nothing of an answer. Asked now and then."""
        if self._is_writable:
            return 0
        assert self._transport is not None
        now_ms, untaken = self._clock.monotonic_ms(), self._transport.get_write_buffer_size()
        if untaken != self._untaken_bytes:
            self._untaken_bytes, self._untaken_since_ms = untaken, now_ms
        return now_ms - self._untaken_since_ms

    @property
    def _is_closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    def _close(self) -> None:
        assert self._transport is not None
        self._transport.close()

    def _end(self, error: LogServerError) -> None:
        """What came cannot be answered."""
        reason = error.reason if isinstance(error, Malformed) else "its request cannot be answered"
        self.tell_closed(reason, why=str(error), remedy=error.remedy)
        self.abort()

    # Requests.

    def _handle_received(self) -> None:
        self._received.take(self._handle(self._received.pending))

    def _handle(self, data: memoryview) -> int:
        """Begin the requests that are whole, as far as it is their turn; return how many bytes those were."""
        at = 0
        self._is_waiting_for_turn = False
        until_ms = self._clock.monotonic_ms() + SLICE_MS
        while len(data) - at >= _SIZE_BYTES:
            size = self._checked_size(data[at:])
            end = at + _SIZE_BYTES + size
            if end > len(data):
                break
            frame = data[at + _SIZE_BYTES : end]
            header = read_header(frame)
            is_over = at > 0 and self._clock.monotonic_ms() >= until_ms
            if is_over or not self._is_turn_of(header):
                if is_over:
                    self._go_on_soon()  # after others
                self._pause()
                self._is_waiting_for_turn = True
                return at
            self._begin(header, frame)
            at = end
            if self._is_closing:
                break
        return at

    def _wanted_bytes(self) -> int:
        """Of the request whose beginning was received, or of enough to know that."""
        pending = self._received.pending
        if len(pending) < _SIZE_BYTES:
            return _SIZE_BYTES
        size: int = _SIZE.unpack_from(pending)[0]
        return _SIZE_BYTES + size

    def _checked_size(self, data: memoryview) -> int:
        size: int = _SIZE.unpack_from(data)[0]
        most = self._bytes_max(data)
        if 0 < size <= most:
            return size
        raise no_size(bytes(data[:_SIZE_BYTES]), size, most, is_proven=self._is_proven)

    def _bytes_max(self, data: memoryview) -> int:
        if not self._is_proven:
            return FIRST_REQUEST_BYTES_MAX
        key = data[_SIZE_BYTES : _SIZE_BYTES + _KEY_BYTES]
        if len(key) == _KEY_BYTES and int.from_bytes(key, "big") != ApiKey.PRODUCE:
            return min(OTHER_REQUEST_BYTES_MAX, self._door.request_bytes_max)
        return self._door.request_bytes_max

    def _is_turn_of(self, header: RequestHeader) -> bool:
        if self._is_stopping or not self._is_writable:
            return False
        if header.api_key == ApiKey.PRODUCE:
            return self._task is None and len(self._answers) < PIPELINED_MAX
        return not self._answers

    def _begin(self, header: RequestHeader, frame: memoryview) -> None:
        self.waiting_since_ms = self._clock.monotonic_ms()
        if header.client_id != self.context.client_id:
            self.context = RequestContext(ANONYMOUS, header.client_id, "kafka", self.peer, None)
        if header.api_key == ApiKey.PRODUCE and header.version in API_VERSIONS[ApiKey.PRODUCE]:
            self._produce(header, frame)
        else:
            self._start(self._door.answer(header, frame, self))

    def _start(self, work: Coroutine[Any, Any, Frame]) -> None:
        answer = _Answer()
        self._answers.append(answer)
        self._task = self._loop.create_task(self._run(work, answer))

    async def _run(self, work: Coroutine[Any, Any, Frame], answer: _Answer) -> None:
        try:
            answer.frame = await work
        except LogServerError as error:
            self._end(error)
            return
        except Exception:
            self._door.lines.exception(
                "a Kafka request met an unexpected error, and its connection is closed", **self._whose()
            )
            self.abort()
            return
        finally:
            self._task = None
        self._go_on()

    # Produce.

    def _produce(self, header: RequestHeader, frame: memoryview) -> None:
        request = read_produce(header, frame, self._door.broker.store)
        acks = request.acks or Acks.ALL
        pending = self._door.broker.appends.append_now(self.context, request.appends, acks)
        if pending is None:
            # It has to wait for room. The buffer that it is in is needed for others meanwhile.
            kept = read_produce(header, memoryview(bytes(frame)), self._door.broker.store)
            self._start(self._produce_slowly(header, kept, acks))
        elif acks is Acks.ZERO:
            self._produced_unasked(pending.acks)
        else:
            answer = _Answer()
            answer.pending = pending
            self._answers.append(answer)
            if pending.done:
                self._produced(header, request, answer)
            else:
                pending.on_done = partial(self._produced, header, request, answer)
                timeout_ms = min(max(request.timeout_ms, PRODUCE_MS_MIN), self._door.produce_timeout_ms)
                answer.timer = self._loop.call_later(timeout_ms / 1000, self._give_up, header, request, answer)

    async def _produce_slowly(self, header: RequestHeader, request: ProduceRequest, acks: Acks) -> Frame:
        """The same, while the disk is behind."""
        context = RequestContext(
            ANONYMOUS,
            self.context.client_id,
            "kafka",
            self.peer,
            self._clock.monotonic_ms() + max(request.timeout_ms, PRODUCE_MS_MIN),
        )
        answered = await self._door.broker.appends.append_and_wait(context, request.appends, acks)
        if acks is Acks.ZERO:
            self._produced_unasked(answered)
            return ()
        return (encode_produce_answer(header, request, answered),)

    def _produced(self, header: RequestHeader, request: ProduceRequest, answer: _Answer) -> None:
        assert answer.pending is not None
        if answer.timer is not None:
            answer.timer.cancel()
        answer.frame = (encode_produce_answer(header, request, answer.pending.acks),)
        answer.pending = None
        self._go_on_soon()

    def _produced_unasked(self, acks: Sequence[Ack]) -> None:
        """With acks=0 a client learns of an error only by its connection that ends, as with Kafka."""
        refused = [ack for ack in acks if ack.error is not None]
        if refused:
            self.tell_closed("a batch with acks=0 was refused", why=str(refused[0].error))
            self._close()

    def _give_up(self, header: RequestHeader, request: ProduceRequest, answer: _Answer) -> None:
        assert answer.pending is not None
        self._door.broker.appends.give_up(answer.pending)
        self._produced(header, request, answer)

    def _forget(self, answer: _Answer) -> None:
        if answer.timer is not None:
            answer.timer.cancel()
        if answer.pending is not None:
            self._door.broker.appends.forget(answer.pending)

    # Answers.

    def _go_on_soon(self) -> None:
        """One sync answers many requests, and one read brings many: their answers are one write. And who has just begun
        a request is not to begin the next one within."""
        if not self._is_going_on:
            self._is_going_on = True
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Send what is to be sent, and begin what may be begun by now."""
        self._is_going_on = False
        if self._is_closing:
            return
        self._send()
        if self._is_stopping:
            if self.is_idle:
                self._close()
            return
        try:
            self._handle_received()
        except LogServerError as error:
            self._end(error)
            return
        if not self._is_waiting_for_turn:
            self._read_on()

    def _send(self) -> None:
        parts: list[Buffer] = []
        while self._answers and self._answers[0].frame is not None:
            parts += self._answers.popleft().frame or ()
        if not parts:
            return
        self.waiting_since_ms = self._clock.monotonic_ms()
        if not self._is_proven:
            self._prove()
        assert self._transport is not None
        self._transport.writelines(parts)
        if not self._is_writable:  # For as long as it has not taken all, all of it is there.
            self._door.answers.wait(self, sum(map(len, parts)))

    def _prove(self) -> None:
        """It speaks the protocol: it may send large requests."""
        self._is_proven = True
        self._received.move_to(self._door.broker.connections.enter(self.peer))

    def _pause(self) -> None:
        if self._is_reading and not self._is_closing:
            assert self._transport is not None
            self._is_reading = False
            self._transport.pause_reading()

    def _read_on(self) -> None:
        if not self._is_reading and not self._is_closing:
            assert self._transport is not None
            self._is_reading = True
            self._transport.resume_reading()
