"""The asyncio consumer: the same as tailrace.Consumer, but that it waits with `await`."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import datetime
from types import TracebackType

from tailrace.connection import CONNECT_SECONDS_MAX
from tailrace.consumer import AUTO_COMMIT_SECONDS, PREFETCH_BYTES
from tailrace.consumer_core import ConsumerCore
from tailrace.consumer_settings import ConsumerSettings, check_callbacks, check_timeout, chosen_partitions
from tailrace.errors import CorruptMessage, WrongThreadError
from tailrace.handout import Assigned, Idle, Revoked
from tailrace.offsets import Start, seek_target
from tailrace.positions import Cursor
from tailrace.records import Record, RecordBatch, TopicPartition
from tailrace.runtime import call_from_any_thread, io_thread

PartitionsCallback = Callable[[list[TopicPartition]], Awaitable[object] | object]


class Consumer:
    """Reads topics, in the order of each partition. Belongs to the event loop that uses it first; only `stop` may be
    called from elsewhere. What is committed, and when, is as with tailrace.Consumer.

    Several tasks that ask one consumer for records tell it, each time, that the record before is done, whichever of
    them has it. Where they work on records side by side, commit by hand, or give each a consumer of its own in a group.
    """

    def __init__(
        self,
        *topics: str,
        group: str | None = None,
        partitions: Sequence[int | TopicPartition] | None = None,
        start: Start = "beginning",
        stop_at_end: bool = False,
        auto_commit: bool = True,
        auto_commit_interval: float = AUTO_COMMIT_SECONDS,
        on_assigned: PartitionsCallback | None = None,
        on_revoked: PartitionsCallback | None = None,
        out_of_range: str = "error",
        prefetch_bytes: int = PREFETCH_BYTES,
        assignor: str = "",
        instance_id: str = "",
        rebalance_timeout: float = 60.0,
        server: str | None = None,
        connect_timeout: float = CONNECT_SECONDS_MAX,
    ) -> None:
        """The settings are those of tailrace.Consumer; on_assigned and on_revoked may be coroutine functions."""
        self._news = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        check_callbacks(on_assigned=on_assigned, on_revoked=on_revoked)
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._is_open = False
        self._is_closed = False
        self._core = ConsumerCore(
            ConsumerSettings(
                server=server or "",
                topics=topics,
                group=group,
                partitions=chosen_partitions(partitions),
                start=start,
                stop_at_end=stop_at_end,
                auto_commit=auto_commit,
                auto_commit_interval=auto_commit_interval,
                out_of_range=out_of_range,
                prefetch_bytes=prefetch_bytes,
                assignor=assignor,
                instance_id=instance_id,
                rebalance_timeout=rebalance_timeout,
                connect_timeout=connect_timeout,
            ),
            notify=self._notify,
            tells_assigned=on_assigned is not None,
            tells_revoked=on_revoked is not None,
        )
        self._handout = self._core.handout

    async def __aiter__(self) -> AsyncIterator[Record]:
        """Records, one by one; ends at `stop`, and with stop_at_end at the end."""
        handout = self._handout
        while (cursor := await self._next()) is not None:
            try:
                for record in cursor.begin_records():
                    cursor.last = record
                    yield record
                    if handout.attention:
                        break
            except CorruptMessage:
                handout.reread(cursor)
                raise

    async def poll(self, timeout: float | None = None) -> Record | None:
        """The next record, or None when none comes within timeout seconds, or no more will come."""
        check_timeout(timeout)
        until = None if timeout is None else asyncio.get_running_loop().time() + timeout
        while (cursor := await self._next(until)) is not None:
            try:
                for record in cursor.begin_records():
                    cursor.last = record
                    return record
            except CorruptMessage:
                self._handout.reread(cursor)
                raise
        return None

    async def batches(self) -> AsyncIterator[RecordBatch]:
        """Batches as they were written, column by column; a batch is done when the next one is asked for."""
        while (cursor := await self._next()) is not None:
            yield self._handout.hand_out(cursor)

    async def commit(self, record: Record | None = None) -> bool:
        """Commit everything handed out so far, the record in hand included; or one partition up to a record.

        Returns False when some of it can no longer be committed, because the partition was lost or the group was sent
        elsewhere; iteration goes on at the new place.
        """
        await self._use()
        lost = self._handout.take_lost() if record is None else False
        offsets = self._handout.commit_offsets_up_to(record)
        if offsets is None:
            return False
        return await io_thread().run_from_another_loop(self._core.commit(offsets)) and not lost

    async def seek(
        self,
        topic: str,
        partition: int | None = None,
        *,
        offset: int | str | None = None,
        timestamp_ms: int | None = None,
        time: datetime | None = None,
    ) -> None:
        """Go elsewhere in one partition, or in all that are held of the topic."""
        await self._use()
        target = seek_target(offset, timestamp_ms, time)
        holds = self._handout.held(topic, partition)
        found = await io_thread().run_from_another_loop(self._core.offsets_at([hold.key for hold in holds], target))
        self._handout.seek({hold: found[hold.key] for hold in holds})

    async def pause(self, topic: str | None = None, partition: int | None = None) -> None:
        """Hand out nothing of a partition, a topic, or all, until `resume`; what is assigned later is not paused."""
        await self._use()
        self._handout.pause(self._handout.held(topic, partition), True)

    async def resume(self, topic: str | None = None, partition: int | None = None) -> None:
        await self._use()
        self._handout.pause(self._handout.held(topic, partition), False)

    async def position(self, topic: str, partition: int) -> int:
        """The offset of the next record to be handed out."""
        await self._use()
        return self._handout.position(self._handout.held(topic, partition)[0])

    @property
    def assignment(self) -> list[TopicPartition]:
        """What this consumer reads now; nothing once it is closed."""
        return self._handout.assignment if self._core.is_connected else []

    def stop(self) -> None:
        """End the iteration after the record in hand. May be called from any thread, and from a signal handler."""
        self._handout.stop()

    async def close(self) -> None:
        """Commit what is done, leave the group, disconnect. Closing again does nothing."""
        await self._close(None)

    async def __aenter__(self) -> "Consumer":
        self._core.check_usable()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._close(error)
        except Exception as failed:
            if error is None:
                raise
            error.add_note(f"Closing the consumer raised {type(failed).__name__}: {failed}")

    async def _next(self, until: float | None = None) -> Cursor | None:
        """The batch to hand out now. None at the end, or when the time is over."""
        await self._use()
        while True:
            self._news.clear()
            step = self._handout.take()
            if isinstance(step, Cursor):
                return step
            if step is Idle.END:
                return None
            if isinstance(step, Revoked):
                await self._tell_revoked(step)
            elif isinstance(step, Assigned):
                await self._tell_assigned(step)
                await io_thread().run_from_another_loop(self._core.begin(step.holds))
            else:
                try:
                    async with asyncio.timeout_at(until):
                        await self._news.wait()
                except TimeoutError:
                    return None

    async def _tell_assigned(self, assigned: Assigned) -> None:
        try:
            await _tell(self._on_assigned, assigned.partitions)
        except BaseException:  # A cancellation, too: until it was called to its end, these are not read.
            self._handout.put_back(assigned)
            raise

    async def _tell_revoked(self, revoked: Revoked) -> None:
        try:
            await _tell(self._on_revoked, revoked.partitions)
        finally:
            await io_thread().run_from_another_loop(self._core.release(revoked))

    def _notify(self) -> None:
        if self._loop is not None:
            call_from_any_thread(self._loop, self._news.set)

    async def _use(self) -> None:
        """Check that this is the consumer's event loop, and connect at first use."""
        self._core.check_usable()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise WrongThreadError(
                "a consumer that belongs to one event loop is used by another",
                remedy="Give each event loop a consumer of its own, in one group.",
            )
        if not self._is_open:
            await io_thread().run_from_another_loop(self._core.open())
            self._is_open = True

    async def _close(self, error: BaseException | None) -> None:
        if self._is_closed:
            return
        self._core.check_usable()
        self._is_closed = True
        if error is None:
            self._handout.finish()
        else:
            self._handout.interrupt()
        if not self._core.is_connected:
            return
        try:
            if error is None and self._handout.holds:
                await _tell(self._on_revoked, self._handout.assignment)
        finally:
            await io_thread().run_from_another_loop(self._core.close(commit=self._core.settings.auto_commit))


async def _tell(callback: PartitionsCallback | None, partitions: list[TopicPartition]) -> None:
    if callback is not None:
        told = callback(partitions)
        if isinstance(told, Awaitable):
            await told
