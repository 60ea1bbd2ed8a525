"""Reads partitions over one long stream, ahead of the application but never more than so many bytes.

The server sends only what it was given credit for, counted in bytes of batches. What lies here unread and what the
server may still send are together at most `prefetch_bytes`. Data carries the position id it was asked for with, so that
what was on its way when a position changed is known for stale and dropped.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from google.protobuf.message import DecodeError

from logwire.framing import read_fetch_response
from logwire.v1 import records_pb2 as pb
from tailrace import errors
from tailrace.connection import TRANSIENT, Backoff, Connection, error_from_wire
from tailrace.errors import TailraceError
from tailrace.positions import FetchedBatches, Hold

logger = logging.getLogger("tailrace")

POSITIONS_PER_REQUEST = 5_000

#: After these a stream is opened again. A connection that breaks in the middle of an answer may end as INTERNAL, too.
_REOPENED_AFTER = (errors.RetriableError, errors.InternalServerError)


class Fetcher:
    """Reads what one server leads. On the I/O thread."""

    def __init__(
        self,
        connection: Connection,
        *,
        prefetch_bytes: int,
        on_fetched: Callable[[FetchedBatches], None],
        on_failed: Callable[[TailraceError], None],
    ) -> None:
        """on_failed is told, once, when the server refuses to be read from for good."""
        self._connection = connection
        self._prefetch_bytes = prefetch_bytes
        self._on_fetched = on_fetched
        self._on_failed = on_failed
        self._followed: dict[tuple[str, int], tuple[Hold, int, int]] = {}  # hold, position id, next offset
        #: Changes that the server does not know yet; None: to be dropped.
        self._changed: dict[tuple[str, int], Hold | None] = {}
        self._unread_bytes = 0
        self._credit_bytes = 0  # What the server may still send.
        self._wake = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def follow(self, hold: Hold, offset: int) -> None:
        """Read from an offset on, under the hold's position id of now."""
        part = (hold.key.topic, hold.key.partition)
        self._followed[part] = (hold, hold.position_id, offset)
        self._changed[part] = hold
        self._wake.set()

    def drop(self, hold: Hold) -> None:
        part = (hold.key.topic, hold.key.partition)
        followed = self._followed.get(part)
        if followed is not None and followed[0] is hold:
            del self._followed[part]
            self._changed[part] = None
            self._wake.set()

    def read(self, size: int) -> None:
        """The application is done with, or will never see, so many bytes that came."""
        self._unread_bytes -= size
        self._wake.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        backoff = Backoff()
        while True:
            self._wake.clear()
            if not self._followed:
                self._changed.clear()
                await self._wake.wait()
                continue
            try:
                await self._stream(backoff)
            except _REOPENED_AFTER as error:
                logger.info("reading from %s is interrupted: %s", self._connection.address, error)
                await asyncio.sleep(backoff.next())
            except TailraceError as error:
                self._on_failed(error)
                return
            except Exception as error:  # A bug, of gRPC's or ours: a new stream begins where the last one ended.
                logger.exception("reading from %s failed unexpectedly", self._connection.address, exc_info=error)
                await asyncio.sleep(backoff.next())

    async def _stream(self, backoff: Backoff) -> None:
        self._credit_bytes = 0
        self._changed = {part: hold for part, (hold, _, _) in self._followed.items()}
        async with self._connection.stream(self._connection.fetch_stream) as call:
            reader = asyncio.get_running_loop().create_task(self._read(call, backoff))
            reader.add_done_callback(lambda _: self._wake.set())
            try:
                with suppress(asyncio.InvalidStateError):  # The call has ended; why, it tells who reads from it.
                    while not reader.done():
                        self._wake.clear()
                        for request in self._requests():
                            await call.write(request)
                        await self._wake.wait()
                await reader
                raise errors.ServerUnavailable(
                    f"{self._connection.address} ended the stream", remedy="Retry; the client reconnects by itself."
                )
            finally:
                reader.cancel()
                await asyncio.gather(reader, return_exceptions=True)

    def _requests(self) -> Iterable[pb.FetchStreamRequest]:
        """What the server is to know now. Credit is given in steps, so that it costs a message per many answers."""
        while self._changed:
            request = pb.FetchStreamRequest()
            for part in list(self._changed)[:POSITIONS_PER_REQUEST]:
                hold = self._changed.pop(part)
                if hold is None:
                    request.drop.add(topic=part[0], partition=part[1])
                elif (followed := self._followed.get(part)) is not None:
                    _, position_id, offset = followed
                    request.set.add(
                        topic=part[0],
                        topic_id=hold.key.topic_id,
                        partition=part[1],
                        offset=offset,
                        position_id=position_id,
                    )
            yield request
        owed = self._prefetch_bytes - self._unread_bytes - self._credit_bytes
        if owed >= self._prefetch_bytes // 4 or (owed > 0 and self._credit_bytes <= 0):
            self._credit_bytes += owed
            yield pb.FetchStreamRequest(credit_bytes=owed)

    async def _read(self, call: Any, backoff: Backoff) -> None:
        async for response in call:
            backoff.reset()
            try:
                parts = list(read_fetch_response(response))
            except (ValueError, DecodeError) as error:
                raise errors.IncompatibleServer(
                    f"what {self._connection.address} sends is no answer to a fetch: {error}",
                    remedy="Look whether this is the gRPC port of a logserver, of this version or newer.",
                ) from error
            for data, batches in parts:
                self._take(data, batches)

    def _take(self, data: pb.PartitionData, batches: memoryview) -> None:
        size = len(batches)
        self._credit_bytes -= size
        part = (data.topic, data.partition)
        followed = self._followed.get(part)
        if followed is None or followed[1] != data.position_id:
            self._wake.set()  # Stale: its bytes are credit again.
            return
        hold, position_id, next_offset = followed
        if data.HasField("error"):
            self._failed(hold, position_id, error_from_wire(data.error))
            return
        if size or data.next_offset > next_offset:  # Without batches, where compaction has left none up to there.
            self._followed[part] = (hold, position_id, data.next_offset)
            self._unread_bytes += size
            self._on_fetched(FetchedBatches(hold, position_id, batches, data.next_offset))

    def _failed(self, hold: Hold, position_id: int, error: TailraceError) -> None:
        """The server has stopped reading the partition."""
        if isinstance(error, TRANSIENT):
            logger.info("%s partition %d cannot be read now: %s", hold.key.topic, hold.key.partition, error)
            asyncio.get_running_loop().call_later(0.2, self._follow_again, hold, position_id)
            return
        del self._followed[hold.key.topic, hold.key.partition]
        self._on_fetched(FetchedBatches(hold, position_id, b"", -1, error))

    def _follow_again(self, hold: Hold, position_id: int) -> None:
        part = (hold.key.topic, hold.key.partition)
        followed = self._followed.get(part)
        if followed is not None and followed[0] is hold and followed[1] == position_id:
            self._changed[part] = hold
            self._wake.set()
