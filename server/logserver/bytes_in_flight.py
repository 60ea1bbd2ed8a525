"""Bounds on what is in flight: bytes a client has sent and the server has not answered yet."""

import asyncio
from collections import deque
from types import TracebackType

from logserver.errors import Overloaded


class BytesInFlight:
    """Counts bytes against a bound, and against the bound of its parent: a stream's within its connection's within all.

    The size of a message is known only once it is read, so a bound is checked before reading and may be exceeded by one
    message of each stream; a message larger than the bound gets through alone.
    """

    def __init__(self, bytes_max: int, name: str, parent: "BytesInFlight | None" = None) -> None:
        self.used_bytes = 0
        self.bytes_max = bytes_max
        self._name = name
        self._parent = parent
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def has_room(self) -> bool:
        counter: BytesInFlight | None = self
        while counter is not None:
            if counter.used_bytes >= counter.bytes_max:
                return False
            counter = counter._parent
        return True

    @property
    def is_half_empty(self) -> bool:
        """Here and in every parent."""
        return 2 * self.used_bytes < self.bytes_max and (self._parent is None or self._parent.is_half_empty)

    def add(self, size: int) -> None:
        counter: BytesInFlight | None = self
        while counter is not None:
            counter.used_bytes += size
            counter = counter._parent

    def remove(self, size: int) -> None:
        counter: BytesInFlight | None = self
        while counter is not None:
            counter.used_bytes -= size
            assert counter.used_bytes >= 0
            if counter._waiting and counter.used_bytes < counter.bytes_max:
                counter._wake()
            counter = counter._parent

    async def room(self) -> None:
        """Return when there is room here and in every parent."""
        while not self.has_room:
            full = self.full
            waiting = asyncio.get_running_loop().create_future()
            full._waiting.append(waiting)
            try:
                await waiting
            finally:
                if not waiting.done() or waiting.cancelled():
                    full._forget(waiting)

    def hold(self, size: int) -> "Held":
        """Count size for the length of a with statement. Raises Overloaded when there is no room now."""
        if not self.has_room:
            full = self.full
            raise Overloaded(
                f"{full.used_bytes} bytes are in flight in {full._name}, where {full.bytes_max} are allowed",
                remedy="Retry after a pause, or send on a stream, which waits for room by itself.",
            )
        return Held(self, size)

    @property
    def full(self) -> "BytesInFlight":
        """Where there is no room: here or in a parent."""
        if self.used_bytes >= self.bytes_max or self._parent is None:
            return self
        return self._parent.full

    def _wake(self) -> None:
        while self._waiting:
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(None)

    def _forget(self, waiting: asyncio.Future[None]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)


class Held:
    def __init__(self, counter: BytesInFlight, size: int) -> None:
        self._counter = counter
        self._size = size

    def __enter__(self) -> None:
        self._counter.add(self._size)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._counter.remove(self._size)


class Connections:
    """The counter of each connection, for as long as something of it is in flight."""

    def __init__(self, connection_bytes_max: int, total_bytes_max: int) -> None:
        self.total = BytesInFlight(total_bytes_max, "the server")
        self._connection_bytes_max = connection_bytes_max
        self._counters: dict[str, BytesInFlight] = {}
        self._users: dict[str, int] = {}

    def enter(self, peer: str) -> BytesInFlight:
        """The counter of a peer's connection. Every enter is followed by one leave."""
        counter = self._counters.get(peer)
        if counter is None:
            counter = BytesInFlight(self._connection_bytes_max, "this connection", self.total)
            self._counters[peer] = counter
            self._users[peer] = 0
        self._users[peer] += 1
        return counter

    def leave(self, peer: str) -> None:
        self._users[peer] -= 1
        if self._users[peer] == 0:
            del self._users[peer], self._counters[peer]

    def __len__(self) -> int:
        return len(self._counters)
