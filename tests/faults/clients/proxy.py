"""A TCP proxy that does to connections what networks do: it holds, delays, slows, half-closes, cuts and resets them.

    with Proxy(server.address) as proxy:
        ...                                  # clients connect to proxy.address
        proxy.hold(Direction.DOWN)           # requests arrive, replies do not
        proxy.reset()                        # all connections end as by a crash, what was held is gone
        proxy.release()

What is held is late, as in a network that loses packets and sends them again; only `reset` and `cut_after` lose it.
Everything holds for the connections there are and for new ones, until `release`. Runs in a thread of its own.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from enum import Enum, auto
from types import TracebackType
from typing import Any, Self

CHUNK_BYTES = 64 << 10
SLOW_BYTES_PER_SECOND = 1
#: close() then sends RST and forgets what was not sent.
_LINGER_NOT = struct.pack("ii", 1, 0)


class Direction(Enum):
    UP = auto()  # requests, from the client to the server
    DOWN = auto()  # replies


class _Pipe:
    """One direction of one connection."""

    def __init__(
        self, proxy: "Proxy", direction: Direction, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ):
        self.direction = direction
        self.writer = writer
        self._proxy = proxy
        self._reader = reader

    async def run(self) -> None:
        """Until the sender is at its end, which the receiver is then told."""
        while chunk := await self._reader.read(CHUNK_BYTES):
            await self._proxy.pass_on(chunk, self)
        if self.writer.can_write_eof():
            self.writer.write_eof()

    def reset(self) -> None:
        connection: socket.socket = self.writer.get_extra_info("socket")
        if connection.fileno() >= 0:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
        self.writer.transport.abort()


class Proxy:
    def __init__(self, target: str) -> None:
        """`target` is HOST:PORT."""
        self.address = ""
        self._target = target.rpartition(":")
        self._server: asyncio.Server
        self._pipes: set[_Pipe] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._open: dict[Direction, asyncio.Event] = {}
        self._delay_seconds = 0.0
        self._is_slow = False
        self._left: dict[Direction, int] = {}  # bytes until all is reset
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    # What a network does. From any thread.

    def reset(self) -> None:
        """End all connections at once, by RST on both sides."""
        self._call(self._reset)

    def hold(self, *directions: Direction) -> None:
        def close() -> None:
            for direction in directions:
                self._open[direction].clear()

        self._call(close)

    def delay(self, seconds: float) -> None:
        """Pass everything on, each chunk so much later."""
        self._call(lambda: setattr(self, "_delay_seconds", seconds))

    def slow(self) -> None:
        """Pass on one byte a second."""
        self._call(lambda: setattr(self, "_is_slow", True))

    def cut_after(self, direction: Direction, size: int) -> None:
        """Reset everything once so many bytes more went that way, in the middle of whatever it is."""
        self._call(lambda: self._left.update({direction: size}))

    def half_close(self, direction: Direction) -> None:
        """Tell whoever receives that way that no more comes."""

        def end() -> None:
            for pipe in self._pipes:
                if pipe.direction is direction:
                    with suppress(OSError):  # whoever receives is gone already
                        pipe.writer.write_eof()

        self._call(end)

    def release(self) -> None:
        """Be a wire again."""

        def undo() -> None:
            self._delay_seconds, self._is_slow = 0.0, False
            self._left.clear()
            for event in self._open.values():
                event.set()

        self._call(undo)

    # How.

    async def pass_on(self, chunk: bytes, pipe: _Pipe) -> None:
        if self._delay_seconds:
            await asyncio.sleep(self._delay_seconds)
        while self._is_slow and chunk:
            pipe.writer.write(chunk[:1])
            chunk = chunk[1:]
            await asyncio.sleep(1 / SLOW_BYTES_PER_SECOND)
        await self._open[pipe.direction].wait()
        left = self._left.get(pipe.direction)
        if left is not None:
            self._left[pipe.direction] = left - len(chunk)
            chunk = chunk[: max(left, 0)]
        if not pipe.writer.is_closing():
            pipe.writer.write(chunk)
            await pipe.writer.drain()
        if left is not None and self._left.get(pipe.direction, 1) <= 0:
            del self._left[pipe.direction]
            self._reset()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._serve(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass  # one side is gone, or the proxy, and now the other
        finally:
            self._tasks.remove(task)
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target
        upstream_reader, upstream_writer = await asyncio.open_connection(host, int(port))
        pipes = {
            _Pipe(self, Direction.UP, reader, upstream_writer),
            _Pipe(self, Direction.DOWN, upstream_reader, writer),
        }
        self._pipes |= pipes
        try:
            await asyncio.gather(*(pipe.run() for pipe in pipes))
            for pipe in pipes:
                pipe.writer.close()
                await pipe.writer.wait_closed()
        except BaseException:
            for pipe in pipes:
                pipe.reset()
            raise
        finally:
            self._pipes -= pipes

    def _reset(self) -> None:
        for pipe in self._pipes:
            pipe.reset()

    def _call(self, change: Callable[[], object]) -> None:
        async def run() -> None:
            change()

        self._run(run())

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _listen(self) -> None:
        self._open = {direction: asyncio.Event() for direction in Direction}
        for event in self._open.values():
            event.set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _close(self) -> None:
        self._server.close()
        self._reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
