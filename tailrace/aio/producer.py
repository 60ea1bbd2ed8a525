"""The asyncio producer: `send` waits for the acknowledgement, `enqueue` gives a future of it."""

import asyncio
import time
from collections.abc import Generator, Iterable
from random import Random
from types import TracebackType
from typing import Any

from tailrace import delivery
from tailrace.aio.lines import Lines
from tailrace.arguments import Headers, checked_many
from tailrace.connection import CONNECT_SECONDS_MAX
from tailrace.delivery import Batch, SentRange, ranges_of
from tailrace.errors import TailraceError
from tailrace.producer import BATCH_BYTES, BUFFER_BYTES, LINGER_SECONDS
from tailrace.producer_core import Obstacle, ProducerCore
from tailrace.producer_settings import ProducerSettings
from tailrace.records import RecordMetadata
from tailrace.runtime import call_from_any_thread, io_thread


class SendFuture:
    """The outcome of one `enqueue`. Awaiting it gives RecordMetadata or raises; it may be awaited more than once."""

    __slots__ = ("_future",)

    def __init__(self, future: delivery.SendFuture) -> None:
        self._future = future

    def done(self) -> bool:
        return self._future.done()

    def __await__(self) -> Generator[Any, None, RecordMetadata]:
        batch = self._future._batch
        if not batch.done:
            batch.queue.hurry(batch)
            yield from _until_done(batch).__await__()
        return self._future.result()


class Producer:
    """As tailrace.Producer, for one event loop. Leave its `async with` block so that what is in the buffer is sent."""

    def __init__(
        self,
        *,
        server: str | None = None,
        acks: str | int = "all",
        linger: float = LINGER_SECONDS,
        batch_bytes: int = BATCH_BYTES,
        buffer_bytes: int = BUFFER_BYTES,
        compression: str = "none",
        max_block: float = 60.0,
        delivery_timeout: float = 120.0,
        connect_timeout: float = CONNECT_SECONDS_MAX,
    ) -> None:
        """linger is for `enqueue` only: `send` does not wait for company, and shares a batch with what is sent at the
        same time. The other settings are those of tailrace.Producer."""
        self._core = ProducerCore(
            ProducerSettings(
                server=server or "",
                acks=acks,
                linger=linger,
                batch_bytes=batch_bytes,
                buffer_bytes=buffer_bytes,
                compression=compression,
                max_block=max_block,
                delivery_timeout=delivery_timeout,
                connect_timeout=connect_timeout,
            ),
            Random(),
        )
        self._lines = Lines()
        self._closed = False

    async def send(
        self,
        topic: str,
        value: bytes | str | None = None,
        key: bytes | str | None = None,
        *,
        json: Any = ...,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
        partition: int | None = None,
    ) -> RecordMetadata:
        """Send a record and wait until it is acknowledged. Arguments and errors are those of tailrace.Producer.send;
        cancelling the wait does not take the record back."""
        return await SendFuture(await self._append(topic, value, key, json, headers, timestamp_ms, partition))

    async def enqueue(
        self,
        topic: str,
        value: bytes | str | None = None,
        key: bytes | str | None = None,
        *,
        json: Any = ...,
        headers: Headers | None = None,
        timestamp_ms: int | None = None,
        partition: int | None = None,
    ) -> SendFuture:
        """Put a record into the buffer, waiting only while that is full, and return the future of its
        acknowledgement."""
        return SendFuture(await self._append(topic, value, key, json, headers, timestamp_ms, partition))

    async def send_many(
        self,
        topic: str,
        values: Iterable[bytes | str | None],
        keys: Iterable[bytes | str | None] | None = None,
    ) -> list[SentRange]:
        """Send many records and wait until all are acknowledged. Raises the first error."""
        values, keys = checked_many(values, keys)
        parts: list[tuple[Batch, int, int]] = []
        async with self._lines.turn(topic):
            for alone in self._core.append_many(topic, values, keys, parts):
                if alone is None:
                    await asyncio.sleep(0)  # Other tasks of this loop, too, have something to do.
                else:
                    future = await self._append_in_turn(topic, *alone, ..., None, None, None)
                    parts.append((future._batch, future._appended.offset, 1))
        for batch in dict.fromkeys(batch for batch, _, _ in parts):
            if not batch.done:
                batch.queue.hurry(batch)
                await _until_done(batch)
        return ranges_of(parts)

    async def flush(self) -> None:
        """Wait until all that was enqueued before is acknowledged. Raises SendsFailed for sends that failed and whose
        future nobody has awaited."""
        self._core.check_usable()
        if self._core.is_connected:
            await io_thread().run_from_another_loop(self._core.flush())
        self._raise_failures()

    async def close(self, *, timeout: float | None = None) -> None:
        """Send what is in the buffer, then disconnect. Raises as `flush` does. Closing again does nothing.

        What is not acknowledged within timeout seconds is given up; without it, delivery_timeout bounds the wait.
        """
        if self._closed:
            return
        self._core.check_usable()
        self._closed = True
        if self._core.is_connected:
            await io_thread().run_from_another_loop(self._core.close(abandon_after=timeout))
        else:
            self._core.accumulator.seal_all(close=True)
        self._raise_failures()

    async def __aenter__(self) -> "Producer":
        self._core.check_usable()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self.close()
        except Exception as failed:
            if error is None:
                raise
            error.add_note(f"Closing the producer raised {type(failed).__name__}: {failed}")

    async def _append(
        self,
        topic: str,
        value: bytes | str | None,
        key: bytes | str | None,
        json: Any,
        headers: Headers | None,
        timestamp_ms: int | None,
        partition: int | None,
    ) -> delivery.SendFuture:
        if self._lines.is_free(topic):
            sent = self._core.try_send(topic, value, key, json, headers, timestamp_ms, partition)
            if not isinstance(sent, Obstacle):
                return sent
        # Who comes later must not be sent before: many sends at once keep the order in which they were called.
        until = time.monotonic() + self._core.settings.max_block
        async with self._lines.turn(topic):
            return await self._append_in_turn(topic, value, key, json, headers, timestamp_ms, partition, until=until)

    async def _append_in_turn(self, topic: str, *record: Any, until: float | None = None) -> delivery.SendFuture:
        """Append, waiting for what it takes: for the topic, or for room until then."""
        if until is None:
            until = time.monotonic() + self._core.settings.max_block
        while isinstance(sent := self._core.try_send(topic, *record), Obstacle):
            await io_thread().run_from_another_loop(self._core.prepare(sent, until))
        return sent

    def _raise_failures(self) -> None:
        failures: TailraceError | None = self._core.take_failures()
        if failures is not None:
            raise failures


async def _until_done(batch: Batch) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()

    def tell() -> None:
        if not done.done():
            done.set_result(None)

    batch.add_callback(lambda: call_from_any_thread(loop, tell))
    await done
