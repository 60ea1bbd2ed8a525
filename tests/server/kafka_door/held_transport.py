"""A transport that is not there: what a connection writes and whether it reads, without a socket."""

import asyncio
from typing import Any

from logserver.kafka.connection import Connection


class HeldTransport(asyncio.Transport):
    """Takes what is written, and is told when to read."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.written: list[bytes] = []
        #: How many bytes of that nobody has taken.
        self.untaken = 0
        self._reads = True
        self._closing = False

    def pause_reading(self) -> None:
        self._reads = False

    def resume_reading(self) -> None:
        self._reads = True

    def is_reading(self) -> bool:
        return self._reads

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        self._closing = True

    def abort(self) -> None:
        self._closing = True

    def get_write_buffer_size(self) -> int:
        return self.untaken

    def writelines(self, list_of_data: Any) -> None:
        self.written += [bytes(part) for part in list_of_data]


def receive(connection: Connection, data: bytes) -> None:
    """Give it the bytes as a loop does that has them from a socket."""
    while data:
        buffer = connection.get_buffer(1 << 16)
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        connection.buffer_updated(size)
        data = data[size:]
