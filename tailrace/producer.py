"""Producer: sends records, from any thread.

with Producer(server="localhost:7070") as producer:
    future = producer.send("flights", value=b"...", key=b"N14228", headers={"source": b"faa"})
    future.result()
"""

import time
from collections.abc import Iterable
from random import Random
from types import TracebackType
from typing import Any

from tailrace.accumulator import NO_HEADERS
from tailrace.arguments import SECONDS_MAX, Headers, checked_many
from tailrace.connection import CONNECT_SECONDS_MAX
from tailrace.delivery import Batch, BulkFuture, SendFuture
from tailrace.producer_core import Obstacle, ProducerCore
from tailrace.producer_settings import ProducerSettings
from tailrace.runtime import check_may_wait, io_thread

LINGER_SECONDS = 0.005
BATCH_BYTES = 1 << 20
BUFFER_BYTES = 64 << 20


class Producer:
    """Sends records in batches, each written once and in the order of the sends to its partition.

    May be shared by threads. Connects at first use. Leave its `with` block, or call `close`, so that what is still in
    the buffer is sent.
    """

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
        """
        server: "host:port"; without it TAILRACE_SERVER, else localhost:7070.
        acks: wait until the record is on the server's disk ("all"), until the server has it (1), or not at all (0).
            Only "all" never repeats a record.
        linger: seconds that a batch waits for more records, unless somebody waits for one of its own.
        batch_bytes, buffer_bytes: of one batch before compression, and of all that is not acknowledged.
        compression: "none", "gzip", "snappy", "lz4" or "zstd".
        max_block: seconds that `send` waits for room.
        delivery_timeout: seconds after which a send that is not acknowledged fails.
        connect_timeout: seconds to wait for the first answer of the server. One that refuses connections is given up
            after 1 s, unless more than the default is given here: then it is waited for.
        """
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
        self._routes = self._core.routes
        self._lock = self._core.accumulator.lock
        self._has_text = False
        self._closed = False

    def send(
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
        """Put a record into the buffer and return the future of its acknowledgement.

        value and key: bytes, str (sent as UTF-8) or None. json: a value to be sent as JSON; a None that is given is
        null. headers: a mapping or pairs. timestamp_ms: milliseconds since 1970; now, when left out. partition: by the
        hash of the key, when left out, and without a key one after the other.

        Blocks while the buffer is full. Raises BufferFull, MessageTooLarge, InvalidRequest, ServerUnreachable at first
        use, and why the topic cannot be sent to.
        """
        # This is the fast path, measured by the nanosecond: a topic and key seen before, and a batch with room.
        try:
            if (
                json is ...
                and headers is None
                and partition is None
                and (timestamp_ms is None or timestamp_ms >= SECONDS_MAX)
            ):
                queue = self._routes[topic][key]
                if self._has_text:
                    value = value.encode() if type(value) is str else value
                    key = key.encode() if type(key) is str else key
                with self._lock:
                    batch = queue.open
                    if batch is not None:
                        append_at = batch.append_at  # A call of it by the attribute would look for a method first.
                        place = batch.count
                        try:
                            appended = append_at(place, timestamp_ms, key, value, NO_HEADERS)
                        except (TypeError, OverflowError):
                            appended = None
                            # To look for it in every record costs 6 %, which only those pay who have sent some.
                            self._has_text = self._has_text or type(value) is str or type(key) is str
                        except BaseException:  # Ctrl-C, too: see there.
                            self._core.accumulator.interrupted(batch)
                            raise
                        if appended is not None:
                            batch.count = place + 1
                            future = SendFuture()
                            future._batch = batch
                            future._appended = appended
                            return future
        except (KeyError, TypeError, OverflowError, UnicodeEncodeError):
            pass  # Not seen before, or wrong: all that is below.
        return self._send(topic, value, key, json, headers, timestamp_ms, partition)

    def send_many(
        self,
        topic: str,
        values: Iterable[bytes | str | None],
        keys: Iterable[bytes | str | None] | None = None,
    ) -> BulkFuture:
        """Send many records at once, at a third of the cost of a `send` each. keys are as many as values.

        Blocks and raises as `send` does; what stood before the record that raised is sent.
        """
        values, keys = checked_many(values, keys)
        parts: list[tuple[Batch, int, int]] = []
        for alone in self._core.append_many(topic, values, keys, parts):
            if alone is not None:
                future = self._send(topic, *alone, ..., None, None, None)
                parts.append((future._batch, future._appended.offset, 1))
        return BulkFuture(parts)

    def flush(self) -> None:
        """Wait until all that was sent before is acknowledged. Raises SendsFailed for sends that failed and whose
        future nobody has read."""
        self._core.check_usable()
        if self._core.is_connected:
            io_thread().run(self._core.flush())
        self._raise_failures()

    def close(self, *, timeout: float | None = None) -> None:
        """Send what is in the buffer, then disconnect. Raises as `flush` does. Closing again does nothing.

        What is not acknowledged within timeout seconds is given up; without it, delivery_timeout bounds the wait.
        """
        if self._closed:
            return
        self._core.check_usable()
        check_may_wait()
        self._closed = True
        if self._core.is_connected:
            io_thread().run(self._core.close(abandon_after=timeout))
        else:
            self._core.accumulator.seal_all(close=True)
        self._raise_failures()

    def __enter__(self) -> "Producer":
        self._core.check_usable()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except Exception as failed:
            if error is None:
                raise
            # What the block raised is the cause to look at; what else went wrong must not hide it, nor be hidden.
            error.add_note(f"Closing the producer raised {type(failed).__name__}: {failed}")

    def _send(
        self,
        topic: str,
        value: bytes | str | None,
        key: bytes | str | None,
        json: Any,
        headers: Headers | None,
        timestamp_ms: int | None,
        partition: int | None,
    ) -> SendFuture:
        until: float | None = None
        while True:
            sent = self._core.try_send(topic, value, key, json, headers, timestamp_ms, partition)
            if not isinstance(sent, Obstacle):
                return sent
            if until is None and sent.wanted_bytes is not None:
                until = time.monotonic() + self._core.settings.max_block
            io_thread().run(self._core.prepare(sent, until))

    def _raise_failures(self) -> None:
        failures = self._core.take_failures()
        if failures is not None:
            raise failures
