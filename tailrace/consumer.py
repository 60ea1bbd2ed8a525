"""Consumer: reads records, alone or as a member of a group.

with Consumer("flights", group="dashboard") as consumer:
    for record in consumer:
        ...                     # committed when the next record is asked for
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from types import TracebackType

from tailrace.connection import CONNECT_SECONDS_MAX
from tailrace.consumer_core import ConsumerCore
from tailrace.consumer_settings import ConsumerSettings, check_callbacks, check_timeout, chosen_partitions
from tailrace.errors import CorruptMessage, WrongThreadError
from tailrace.handout import Assigned, Idle, Revoked
from tailrace.offsets import Start, seek_target
from tailrace.positions import Cursor
from tailrace.records import Record, RecordBatch, TopicPartition
from tailrace.runtime import io_thread

PREFETCH_BYTES = 16 << 20
AUTO_COMMIT_SECONDS = 1.0

PartitionsCallback = Callable[[list[TopicPartition]], object]


class Consumer:
    """Reads topics, in the order of each partition.

    Belongs to the thread that uses it first; only `stop` may be called from another. Connects at first use. Heartbeats
    and reading ahead go on in the background, so the time that a record takes evicts nobody.

    What is committed: a record is done when the next one is asked for, or the `with` block is left without an
    exception. What was only read ahead is never committed, nor the record in hand when an exception leaves the block.
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
        """
        topics: at least one, which must exist.
        group: share the partitions with the group's other members, and go on where it stopped. Without a group, and
            without partitions, all partitions are read.
        partitions: read these, given as numbers or TopicPartitions. With a group, its committed offsets are used and
            written, which it allows while it has no members.
        start: where to begin when nothing is committed: "beginning", "end", an offset, a datetime (local time when it
            names no zone, as everywhere in Python), or a timedelta for so long ago.
        stop_at_end: end the iteration at what is the end when reading begins.
        auto_commit: commit what is done every auto_commit_interval seconds, when partitions are given up, and at the
            end. Without it only `commit` commits.
        on_assigned, on_revoked: called with lists of TopicPartition, by this consumer's thread, while it asks for
            records: before the first record of new partitions, and before partitions go to another member, when what
            was read of them can still be committed (unless they are lost already; then `commit` returns False). What
            they raise comes out there; on_assigned is called again then, since its partitions are not read before.
        out_of_range: what to do when the position is no longer, or not yet, in the log: "error" raises
            OffsetOutOfRange with the range, "beginning" and "end" go there.
        prefetch_bytes: how much is read ahead, at most.
        assignor: "uniform" or "range"; empty for the server's default.
        instance_id: makes this a static member, which keeps its partitions while it restarts.
        rebalance_timeout: seconds this member may take to give partitions up, so at most for one record or batch.
        server: "host:port"; without it TAILRACE_SERVER, else localhost:7070.
        connect_timeout: seconds to wait for the first answer of the server. One that refuses connections is given up
            after 1 s, unless more than the default is given here: then it is waited for.
        """
        # Its put may be called from a signal handler, which no other primitive promises.
        self._news: queue.SimpleQueue[None] = queue.SimpleQueue()
        check_callbacks(on_assigned=on_assigned, on_revoked=on_revoked)
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._owner: int | None = None
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

    def __iter__(self) -> Iterator[Record]:
        """Records, one by one; ends at `stop`, and with stop_at_end at the end."""
        handout = self._handout
        while (cursor := self._next(None)) is not None:
            try:
                for record in cursor.begin_records():
                    cursor.last = record
                    yield record
                    if handout.attention:
                        break
            except CorruptMessage:
                handout.reread(cursor)
                raise

    def poll(self, timeout: float | None = None) -> Record | None:
        """The next record, or None when none comes within timeout seconds, or no more will come."""
        check_timeout(timeout)
        until = None if timeout is None else time.monotonic() + timeout
        while (cursor := self._next(until)) is not None:
            try:
                for record in cursor.begin_records():
                    cursor.last = record
                    return record
            except CorruptMessage:
                self._handout.reread(cursor)
                raise
        return None

    def batches(self) -> Iterator[RecordBatch]:
        """Batches as they were written, column by column; a batch is done when the next one is asked for."""
        while (cursor := self._next(None)) is not None:
            yield self._handout.hand_out(cursor)

    def commit(self, record: Record | None = None) -> bool:
        """Commit everything handed out so far, the record in hand included; or one partition up to a record.

        Returns False when some of it can no longer be committed, because the partition was lost or the group was sent
        elsewhere; iteration goes on at the new place.
        """
        self._use()
        lost = self._handout.take_lost() if record is None else False
        offsets = self._handout.commit_offsets_up_to(record)
        if offsets is None:
            return False
        return io_thread().run(self._core.commit(offsets)) and not lost

    def seek(
        self,
        topic: str,
        partition: int | None = None,
        *,
        offset: int | str | None = None,
        timestamp_ms: int | None = None,
        time: datetime | None = None,
    ) -> None:
        """Go elsewhere in one partition, or in all that are held of the topic.

        To an offset, "beginning" or "end", or to the first record at or after a time, which is local time when it
        names no zone. An offset out of range raises when it is read.
        """
        self._use()
        target = seek_target(offset, timestamp_ms, time)
        holds = self._handout.held(topic, partition)
        found = io_thread().run(self._core.offsets_at([hold.key for hold in holds], target))
        self._handout.seek({hold: found[hold.key] for hold in holds})

    def pause(self, topic: str | None = None, partition: int | None = None) -> None:
        """Hand out nothing of a partition, a topic, or all, until `resume`; what is assigned later is not paused."""
        self._use()
        self._handout.pause(self._handout.held(topic, partition), True)

    def resume(self, topic: str | None = None, partition: int | None = None) -> None:
        self._use()
        self._handout.pause(self._handout.held(topic, partition), False)

    def position(self, topic: str, partition: int) -> int:
        """The offset of the next record to be handed out."""
        self._use()
        return self._handout.position(self._handout.held(topic, partition)[0])

    @property
    def assignment(self) -> list[TopicPartition]:
        """What this consumer reads now; nothing once it is closed."""
        return self._handout.assignment if self._core.is_connected else []

    def stop(self) -> None:
        """End the iteration after the record in hand. May be called from any thread, and from a signal handler."""
        self._handout.stop()

    def close(self) -> None:
        """Commit what is done, leave the group, disconnect. Closing again does nothing."""
        self._close(None)

    def __enter__(self) -> "Consumer":
        self._core.check_usable()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._close(error)
        except Exception as failed:
            if error is None:
                raise
            # What the block raised is the cause to look at; what else went wrong must not hide it, nor be hidden.
            error.add_note(f"Closing the consumer raised {type(failed).__name__}: {failed}")

    def _next(self, until: float | None) -> Cursor | None:
        """The batch to hand out now. None at the end, or when the time is over."""
        self._use()
        while True:
            step = self._handout.take()
            if isinstance(step, Cursor):
                return step
            if step is Idle.END:
                return None
            if isinstance(step, Revoked):
                self._tell_revoked(step)
            elif isinstance(step, Assigned):
                self._tell_assigned(step)
                io_thread().run(self._core.begin(step.holds))
            elif not self._wait(until):
                return None

    def _tell_assigned(self, assigned: Assigned) -> None:
        if self._on_assigned is None:
            return
        try:
            self._on_assigned(assigned.partitions)
        except BaseException:  # An interrupt, too: until it was called to its end, these are not read.
            self._handout.put_back(assigned)
            raise

    def _tell_revoked(self, revoked: Revoked) -> None:
        try:
            if self._on_revoked is not None:
                self._on_revoked(revoked.partitions)
        finally:
            io_thread().run(self._core.release(revoked))

    def _wait(self, until: float | None) -> bool:
        """Until there may be something to take. False when the time is over."""
        try:
            self._news.get(timeout=None if until is None else max(0.0, until - time.monotonic()))
        except queue.Empty:
            return False
        while not self._news.empty():
            self._news.get_nowait()
        return True

    def _notify(self) -> None:
        if self._news.empty():
            self._news.put(None)

    def _use(self) -> None:
        """Check that this is the consumer's thread, and connect at first use."""
        self._core.check_usable()
        me = threading.get_ident()
        if self._owner is None:
            self._owner = me
        elif self._owner != me:
            raise WrongThreadError(
                f"a consumer that belongs to thread {self._owner} is used by thread {me} "
                f"({threading.current_thread().name})",
                remedy="Give each thread a consumer of its own, in one group, or hand records over by a queue.",
            )
        if not self._is_open:
            io_thread().run(self._core.open())
            self._is_open = True

    def _close(self, error: BaseException | None) -> None:
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
            if self._on_revoked is not None and error is None and self._handout.holds:
                self._on_revoked(self.assignment)
        finally:
            io_thread().run(self._core.close(commit=self._core.settings.auto_commit))
