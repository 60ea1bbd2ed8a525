"""The fetcher by itself, against a stream that a test writes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tailrace.errors import IncompatibleServer, TailraceError
from tailrace.fetcher import Fetcher
from tailrace.positions import Hold, PartitionKey


class Stream:
    """Answers with the given messages, and then no more."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = answers

    async def write(self, request: Any) -> None:
        pass

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for answer in self._answers:
            yield answer
        await asyncio.Event().wait()


class StreamConnection:
    address = "server:7070"
    fetch_stream = None

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    @asynccontextmanager
    async def stream(self, method: None) -> AsyncIterator[Stream]:
        yield self._stream


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x0b",  # a field of a kind that there is not
        b"\x0a\x7f",  # a part that is longer than the message
        b"\x0a\x02\x0a\xff",  # a part whose topic is
        b"\x0a\x03\x0a\x01\xff",  # a topic that is no text
    ],
)
async def test_what_is_no_answer_is_told_as_a_server_that_cannot_be_read_from(garbage: bytes) -> None:
    failed: asyncio.Queue[TailraceError] = asyncio.Queue()
    connection: Any = StreamConnection(Stream(garbage))
    fetcher = Fetcher(connection, prefetch_bytes=1000, on_fetched=lambda fetched: None, on_failed=failed.put_nowait)
    fetcher.follow(Hold(PartitionKey("t", bytes(16), 0), 0, committed_offset=-1, end_offset=None), 0)
    async with asyncio.timeout(10):
        error = await failed.get()
    assert isinstance(error, IncompatibleServer)
    assert "server:7070" in str(error)
    await fetcher.close()
