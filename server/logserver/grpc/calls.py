"""What every gRPC call goes through: its context made, its errors answered, its client's going away noticed.

A door is an object with one coroutine per method of a service in the .proto, named as there but in snake_case:

    async def create_topic(self, request, context) -> response         unary
    async def fetch_stream(self, stream, context) -> None              streams: `stream.read()`, `stream.write(...)`

Streams carry batches, which the generated code would copy too often: what a door writes to one is the bytes of a
message, and what it reads too for the methods that its `reads_itself` names.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from logserver.context import ANONYMOUS, RequestContext
from logserver.errors import RequestTimedOut, ShuttingDown
from logserver.status import refusal
from logstore.clock import Clock

logger = structlog.get_logger()

Context = grpc.aio.ServicerContext[Any, Any]

CLIENT_ID_KEY = "client-id"
CLIENT_ID_CHARACTERS_MAX = 255
_STATUS_KEY = "grpc-status-details-bin"


class Stream:
    """Both directions of a streaming call. `close` must be called, however it ends."""

    def __init__(self, context: Context, write_timeout_ms: int) -> None:
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._write_timeout_s = write_timeout_ms / 1000
        # One timer for the whole stream: one of each write costs a tenth of the throughput.
        self._watch = self._loop.call_later(self._write_timeout_s, self._look)
        self._writer: asyncio.Task[Any] | None = None
        #: Of the write that is under way.
        self._write_began_s: float | None = None
        self._is_cut = False

    async def read(self) -> Any:
        """The client's next message, or None when it has sent its last."""
        message = await self._context.read()
        return None if message is grpc.aio.EOF else message

    async def write(self, message: bytes) -> None:
        """Return when the transport has taken the message. Raises RequestTimedOut for a client that does not read.

        One task does all the writing.
        """
        assert self._write_began_s is None, "writes do not overlap"
        if self._writer is None:
            self._writer = asyncio.current_task()
        self._write_began_s = self._loop.time()
        try:
            await self._context.write(message)
        except asyncio.CancelledError:
            if not self._is_cut:
                raise
            assert self._writer is not None
            self._writer.uncancel()
            raise RequestTimedOut(
                f"the client took nothing for {self._write_timeout_s:g} s",
                remedy="Read the stream while it is open, and ask for less at a time.",
            ) from None
        finally:
            self._write_began_s = None

    def close(self) -> None:
        self._watch.cancel()

    def _look(self) -> None:
        """Cut a write that takes too long; look again when the one that is under way might."""
        now_s = self._loop.time()
        began_s = now_s if self._write_began_s is None else self._write_began_s
        left_s = began_s + self._write_timeout_s - now_s
        if left_s > 0:
            self._watch = self._loop.call_later(left_s, self._look)
        else:
            assert self._writer is not None
            self._is_cut = True
            self._writer.cancel()


class Calls:
    """Wraps the doors' methods into gRPC handlers, and counts the calls that are open."""

    def __init__(self, clock: Clock, *, write_timeout_ms: int) -> None:
        self._clock = clock
        self._write_timeout_ms = write_timeout_ms
        #: Calls that have begun and not ended.
        self.open_count = 0
        self._idle = asyncio.Event()
        self._idle.set()
        #: Done when the server stops: streams end, and nothing new begins.
        self.stopping: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def serve(self, server: grpc.aio.Server, service: ServiceDescriptor, door: object) -> None:
        """Answer all methods of the service by the door's methods of the same names."""
        handlers = {method.name: self._handler(method, door) for method in service.methods}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service.full_name, handlers),))

    def stop(self) -> None:
        if not self.stopping.done():
            self.stopping.set_result(None)

    async def idle(self) -> None:
        """Return when no call is open. grpc's own stop does not wait for handlers that are cleaning up."""
        await self._idle.wait()

    @staticmethod
    def shutting_down() -> ShuttingDown:
        return ShuttingDown("the server is stopping", remedy="Retry; clients do so by themselves.")

    def _handler(self, method: MethodDescriptor, door: object) -> "grpc.RpcMethodHandler[Any, Any]":
        answer = getattr(door, re.sub(r"(?<!^)(?=[A-Z])", "_", method.name).lower())
        is_raw = method.name in getattr(door, "reads_itself", ())
        parse = None if is_raw else GetMessageClass(method.input_type).FromString
        if method.client_streaming and method.server_streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream(answer), parse, None)
        assert not method.client_streaming
        assert not method.server_streaming, "streams go both ways here"
        serialize = GetMessageClass(method.output_type).SerializeToString
        return grpc.unary_unary_rpc_method_handler(self._unary(answer), parse, serialize)

    def _unary(self, answer: Callable[[Any, RequestContext], Awaitable[Message]]) -> Callable[..., Any]:
        async def call(request: Message, context: Context) -> Message | None:
            self._begin()
            try:
                if self.stopping.done():
                    raise self.shutting_down()
                return await answer(request, self._context(context))
            except Exception as error:
                await self._refuse(context, error)
                return None
            finally:
                self._end()

        return call

    def _stream(self, answer: Callable[[Stream, RequestContext], Awaitable[None]]) -> Callable[..., Any]:
        async def call(requests: AsyncIterator[Message], context: Context) -> None:
            self._begin()
            stream = Stream(context, self._write_timeout_ms)
            try:
                if self.stopping.done():
                    raise self.shutting_down()
                await answer(stream, self._context(context))
            except grpc.aio.InternalError:
                raise  # The client went away during a read or write: there is nobody to answer.
            except Exception as error:
                await self._refuse(context, error)
            finally:
                stream.close()
                self._end()

        return call

    def _begin(self) -> None:
        self.open_count += 1
        self._idle.clear()

    def _end(self) -> None:
        self.open_count -= 1
        if self.open_count == 0:
            self._idle.set()

    def _context(self, context: Context) -> RequestContext:
        remaining_s = context.time_remaining()
        client_id = ""
        for key, value in context.invocation_metadata() or ():
            if key == CLIENT_ID_KEY:
                client_id = str(value)[:CLIENT_ID_CHARACTERS_MAX]
        return RequestContext(
            principal=ANONYMOUS,
            client_id=client_id,
            listener="grpc",
            peer=context.peer(),
            deadline_ms=None if remaining_s is None else self._clock.monotonic_ms() + int(remaining_s * 1000),
        )

    async def _refuse(self, context: Context, error: Exception) -> None:
        """End the call with the error's status. Always raises."""
        code, message, status = refusal(error)
        await context.abort(code, message, ((_STATUS_KEY, status),))
