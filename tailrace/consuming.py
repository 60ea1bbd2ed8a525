"""What the synchronous and the asyncio consumer have in common: everything but how they wait and call back.

Two threads meet here. The application's thread takes what there is to do (`take`): records, or being told that
partitions came or went. The I/O thread reads, beats and commits. What both touch (holds, the cursor, the inbox) is
changed under one lock, held for moments; `attention` makes an application that iterates look up between two records.
"""

import asyncio
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import Any, NamedTuple

from logwire.v1 import groups_pb2
from tailrace.committing import Committer
from tailrace.connection import Backoff, server_address
from tailrace.errors import (
    ClientClosed,
    InvalidRequest,
    OffsetOutOfRange,
    RetriableError,
    TailraceError,
    UnknownTopicOrPartition,
)
from tailrace.fetcher import Fetcher
from tailrace.membership import Membership, MembershipSettings
from tailrace.metadata import Cluster, TopicInfo
from tailrace.offsets import LATEST, Start, checked_start, committed_offsets, list_offsets, resolve_start
from tailrace.positions import Chunk, Cursor, Hold, PartitionKey
from tailrace.records import Record, RecordBatch, TopicPartition
from tailrace.runtime import call_from_any_thread, check_not_forked, io_thread

logger = logging.getLogger("tailrace")

#: How often a consumer of whole topics looks whether they have grown.
METADATA_SECONDS_MAX = 60.0


class ConsumerSettings(NamedTuple):
    server: str
    topics: tuple[str, ...]
    group: str | None
    partitions: tuple[int | TopicPartition, ...] | None
    start: Start
    stop_at_end: bool
    auto_commit: bool
    auto_commit_interval: float
    out_of_range: str
    prefetch_bytes: int
    assignor: str
    instance_id: str
    rebalance_timeout: float
    connect_timeout: float


class Nothing(Enum):
    """What `take` gives when there is nothing to hand out."""

    YET = auto()
    MORE = auto()  # stopped, or at the end


class Assigned(NamedTuple):
    """Partitions came; they are read once the application was told."""

    holds: list[Hold]

    @property
    def partitions(self) -> list[TopicPartition]:
        return _partitions(self.holds)


class Revoked(NamedTuple):
    """Partitions go to another member, or, when lost, have gone already."""

    holds: list[Hold]
    lost: bool

    @property
    def partitions(self) -> list[TopicPartition]:
        return _partitions(self.holds)


def _partitions(holds: Iterable[Hold]) -> list[TopicPartition]:
    return sorted(TopicPartition(hold.key.topic, hold.key.partition) for hold in holds)


Step = Cursor | Assigned | Revoked | Nothing


class ConsumerCore:
    def __init__(
        self,
        settings: ConsumerSettings,
        *,
        notify: Callable[[], None],
        tells_assigned: bool,
        tells_revoked: bool,
    ) -> None:
        """notify is called, in any thread, when `take` may have something. tells_...: the application has callbacks."""
        self.settings = _checked(settings)
        self.notify = notify
        self._tells_assigned = tells_assigned
        self._tells_revoked = tells_revoked
        self._lock = threading.Lock()
        self.holds: dict[tuple[str, int], Hold] = {}
        #: Revoked, and not given up yet because the application may be at work on their records.
        self.leaving: dict[PartitionKey, Hold] = {}
        self._inbox: deque[Chunk] = deque()
        self._steps: deque[Assigned | Revoked] = deque()
        self._failure: TailraceError | None = None
        self._cursor: Cursor | None = None
        #: The application is to look up from its records: something was revoked, moved or stopped.
        self.attention = False
        self._is_stopped = False
        self._is_closed = False
        self._was_forked = False
        #: Records that were handed out and can no longer be committed, since the last commit.
        self._lost_uncommitted = False
        self._position_ids = 0
        #: Partitions whose start is being looked up.
        self._starting = 0
        #: A member that was assigned nothing, and that is the plan.
        self._knows_it_has_nothing = False
        # Of the I/O thread.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cluster: Cluster | None = None
        self._fetchers: dict[object, Fetcher] = {}
        self._membership: Membership | None = None
        self._committer: Committer | None = None
        self._opening: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # In the application's thread.

    def take(self) -> Step:
        """What the application has to do next, which it asks for because it is done with what it was handed before.

        Never waits. Raises what went wrong in the place where it went wrong.
        """
        self.check_usable()
        with self._lock:
            self.attention = False
            self._settle()
            if self._steps:
                return self._steps.popleft()
            if self._is_stopped:
                return Nothing.MORE
            if self._cursor is not None:
                return self._cursor
            cursor = self._next_cursor()
            if cursor is not None:
                self._cursor = cursor
                return cursor
            if self._failure is not None:
                raise self._failure
            return Nothing.MORE if self._is_at_end() else Nothing.YET

    def hand_out(self, cursor: Cursor) -> RecordBatch:
        """The whole batch of a cursor, or what is left of it."""
        with self._lock:
            return cursor.begin_batch()

    @property
    def is_connected(self) -> bool:
        return self._cluster is not None

    def finish(self) -> None:
        """The application leaves without an exception: it is done with what it holds."""
        with self._lock:
            self._settle()

    def interrupt(self) -> None:
        """The application leaves with an exception: it is done with all but what it holds."""
        with self._lock:
            if self._cursor is not None:
                hold = self._cursor.hold
                hold.next_offset = hold.done_offset = self.done_offset(hold)
                self._cursor = None

    def stop(self) -> None:
        """End the iteration. Takes no lock, so that a signal handler may call it."""
        self._is_stopped = True
        self.attention = True
        self.notify()

    def check_usable(self) -> None:
        if self._was_forked:
            check_not_forked()
        if self._is_closed:
            raise ClientClosed("the consumer was closed", remedy="Read before leaving its `with` block.")

    def done_offset(self, hold: Hold) -> int:
        """Before it the application is done with everything; the record it holds counts as not done. Any thread."""
        cursor = self._cursor
        if cursor is not None and cursor.hold is hold:
            return max(hold.done_offset, cursor.done_offset)
        return hold.done_offset

    def position(self, hold: Hold) -> int:
        """Offset of the next record to be handed out."""
        cursor = self._cursor
        if cursor is not None and cursor.hold is hold:
            return cursor.handed_offset
        return hold.next_offset

    def held(self, topic: str | None, partition: int | None) -> list[Hold]:
        """The holds of a topic (None: of all) and a partition (None: of all). Raises UnknownTopicOrPartition."""
        with self._lock:
            found = [
                hold
                for hold in self.holds.values()
                if topic in (None, hold.key.topic) and partition in (None, hold.key.partition)
            ]
        if not found and topic is not None:
            named = f"topic {topic!r}" if partition is None else f"topic {topic!r} partition {partition}"
            raise UnknownTopicOrPartition(
                f"this consumer does not hold {named} now",
                remedy="Look at `assignment`; a member of a group is assigned partitions once it iterates or polls.",
            )
        return found

    @property
    def assignment(self) -> list[TopicPartition]:
        with self._lock:
            return _partitions(self.holds.values())

    def commit_offsets_up_to(self, record: Record | None) -> dict[Hold, int] | None:
        """What an explicit commit covers: all that was handed out, the record in hand included, or one partition up to
        a record. None when that record is not one of this hold's."""
        with self._lock:
            holds = (*self.holds.values(), *self.leaving.values())
            if record is not None:
                for hold in holds:
                    ours = (hold.key.topic, hold.key.partition) == (record.topic, record.partition)
                    if ours and hold.first_offset <= record.offset < self.position(hold):
                        hold.done_offset = max(hold.done_offset, record.offset + 1)
                        return {hold: record.offset + 1}
                return None
            for hold in holds:
                hold.done_offset = max(hold.done_offset, self.position(hold))
            return {hold: hold.done_offset for hold in holds if hold.done_offset != hold.committed_offset}

    def take_lost(self) -> bool:
        """Whether records were handed out since the last commit that can no longer be committed."""
        lost, self._lost_uncommitted = self._lost_uncommitted, False
        return lost

    def pause(self, holds: Iterable[Hold], paused: bool) -> None:
        with self._lock:
            for hold in holds:
                if hold.paused != paused:
                    hold.paused = paused
                    self._place(hold, self.position(hold))

    def reread(self, cursor: Cursor) -> None:
        """A record cannot be decoded: stay in front of it."""
        with self._lock:
            self._settle()
            if self._cursor is cursor:
                self._cursor = None
                self._place(cursor.hold, cursor.handed_offset)

    def seek(self, offsets: Mapping[Hold, int]) -> None:
        """Go elsewhere. What was handed out before is left as it is: done is what lies before the new place."""
        with self._lock:
            for hold, offset in offsets.items():
                if not hold.valid:
                    continue
                if self._cursor is not None and self._cursor.hold is hold:
                    self._cursor = None
                    self.attention = True
                hold.first_offset = min(hold.first_offset, offset)
                hold.done_offset = offset
                self._place(hold, offset)
        self.notify()  # That may be the end.

    def _place(self, hold: Hold, offset: int) -> None:
        """Hand out what stands at an offset next. Under the lock; what is on its way goes stale."""
        hold.next_offset = offset
        self._position_ids += 1
        hold.position_id = self._position_ids
        if self._cursor is not None and self._cursor.hold is hold:
            self.attention = True
        self._on_loop(self._follow_or_drop, hold, hold.position_id)

    def forked(self) -> None:
        self._was_forked = True

    def _settle(self) -> None:
        """What was handed out is done. Under the lock."""
        cursor = self._cursor
        if cursor is not None:
            cursor.hold.done_offset = max(cursor.hold.done_offset, cursor.handed_offset)
            if cursor.is_exhausted or not cursor.is_current:
                # What it still holds was never handed out.
                cursor.hold.next_offset = cursor.handed_offset
                self._cursor = None

    def _next_cursor(self) -> Cursor | None:
        while self._inbox:
            chunk = self._inbox[0]
            hold = chunk.hold
            if chunk.is_current and chunk.error is not None:
                self._inbox.popleft()
                raise chunk.error
            if not chunk.is_current or chunk.is_empty or hold.at_end:
                self._inbox.popleft()
                self._return_bytes(hold, len(chunk.data))
                continue
            nothing_in_hand = hold.done_offset == hold.next_offset
            batch = chunk.take()
            if batch is None:
                if nothing_in_hand:
                    hold.done_offset = hold.next_offset
                continue
            hold.next_offset = batch.next_offset
            return Cursor(hold, batch, hold.position_id)
        return None

    def _return_bytes(self, hold: Hold, size: int) -> None:
        if size:
            self._on_loop(self._give_credit, hold, size)

    def _is_at_end(self) -> bool:
        if not self.settings.stop_at_end or self._starting:
            return False
        if not self.holds and not self._knows_it_has_nothing:
            return False
        return all(hold.at_end for hold in self.holds.values())

    def _on_loop(self, callback: Callable[..., object], *arguments: object) -> None:
        if self._loop is not None:
            call_from_any_thread(self._loop, callback, *arguments)

    # On the I/O thread.

    async def open(self) -> None:
        """Connect and begin, once. Raises ServerUnreachable, UnknownTopicOrPartition and what else the server says."""
        if self._opening is None:
            self._loop = asyncio.get_running_loop()
            io_thread().add(self)
            self._opening = self._loop.create_task(self._open())
        try:
            await asyncio.shield(self._opening)
        except TailraceError:
            self._opening = None  # The next use tries again.
            raise

    async def _open(self) -> None:
        settings = self.settings
        if self._cluster is None:
            self._cluster = Cluster(settings.server, connect_timeout=settings.connect_timeout)
        topics = await self._cluster.find_all(settings.topics)
        if settings.group is not None:
            if settings.partitions is None:
                self._membership = self._join(settings.group)
            self._committer = Committer(self._cluster.bootstrap, settings.group, self._membership)
            if settings.auto_commit:
                self._start_task(self._commit_now_and_then())
        if self._membership is None:
            await self._start([key for topic in topics for key in _chosen(topic, settings.partitions)], settings.start)
            if settings.partitions is None:
                self._start_task(self._follow_growth())

    def _join(self, group: str) -> Membership:
        assert self._cluster is not None
        settings = self.settings
        return Membership(
            self._cluster.bootstrap,
            MembershipSettings(
                group,
                settings.topics,
                settings.assignor,
                settings.instance_id,
                round(settings.rebalance_timeout * 1000),
                client_id="tailrace",
            ),
            uuid.uuid4().hex,
            on_assigned=self._assigned,
            on_revoked=self._revoked,
            on_lost=self._lost,
            on_failed=self._fail,
        )

    async def close(self, *, commit: bool, leave: bool = True) -> None:
        """End: commit what is done, leave the group, disconnect. Once. Raises what the commit raises."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
        for task in self._tasks:
            task.cancel()
        try:
            if commit and self._committer is not None:
                await self._committer.commit(self._done_offsets)
        finally:
            if self._membership is not None and leave:
                await self._membership.leave()
            for fetcher in self._fetchers.values():
                await fetcher.close()
            if self._cluster is not None:
                await self._cluster.close()
                self._cluster = None

    async def abandon(self) -> None:
        """The process ends and nobody closed this consumer: what the application was at is not done."""
        if self._cluster is not None:
            self.interrupt()
            await self.close(commit=self.settings.auto_commit)

    async def commit(self, offsets: dict[Hold, int]) -> bool:
        if self._committer is None:
            raise InvalidRequest(
                "a consumer without a group has nothing to commit to",
                remedy="Give it group=, or keep offsets yourself.",
            )
        return await self._committer.commit(lambda: offsets)

    async def begin(self, holds: Sequence[Hold]) -> None:
        """The application was told of the partitions, and has sought where it wanted: read."""
        with self._lock:
            self._starting -= 1
        for hold in holds:
            self._follow_or_drop(hold, hold.position_id)

    async def release(self, revoked: Revoked) -> None:
        """The application was told that partitions go: commit what is done of them and give them up."""
        try:
            if self.settings.auto_commit and not revoked.lost and self._committer is not None:
                await self._committer.commit(lambda: self._changed_offsets(revoked.holds))
        finally:
            self._give_up(revoked.holds)

    async def offsets_at(self, keys: Sequence[PartitionKey], start: Start) -> dict[PartitionKey, int]:
        assert self._cluster is not None
        return await resolve_start(self._cluster, keys, checked_start(start))

    async def _start(self, keys: Sequence[PartitionKey], start: Start) -> None:
        """Find out where to begin in partitions, and begin, or first tell the application."""
        assert self._cluster is not None
        settings, connection = self.settings, self._cluster.bootstrap
        with self._lock:
            self._starting += 1
        try:
            committed = {} if settings.group is None else await committed_offsets(connection, settings.group, keys)
            fresh = [key for key in keys if key not in committed]
            begins = await resolve_start(self._cluster, fresh, start) | committed
            ends = await list_offsets(connection, keys, LATEST) if settings.stop_at_end else {}
        except BaseException:
            with self._lock:
                self._starting -= 1
            raise
        holds = []
        with self._lock:
            for key in keys:
                if self._membership is not None and not self._membership.holds(key):
                    continue  # Revoked while its start was looked up.
                end_offset = ends.get(key)
                if end_offset is not None and begins[key] > end_offset and settings.out_of_range == "error":
                    end_offset = None  # Past the end is not at the end: the server refuses it, with the range.
                hold = Hold(key, begins[key], committed_offset=committed.get(key, -1), end_offset=end_offset)
                self._position_ids += 1
                hold.position_id = self._position_ids
                self.holds[key.topic, key.partition] = hold
                holds.append(hold)
            if self._tells_assigned and holds:
                self._steps.append(Assigned(holds))
                self.attention = True
        self.notify()
        if not (self._tells_assigned and holds):
            await self.begin(holds)
            self.notify()

    def _assigned(self, keys: list[PartitionKey]) -> None:
        if keys:
            self._start_task(self._start_until_held(keys))
        elif self.settings.stop_at_end:
            self._start_task(self._see_whether_there_is_more())

    async def _start_until_held(self, keys: Sequence[PartitionKey]) -> None:
        """`_start`, through an outage; what the server refuses is the application's to hear."""
        backoff = Backoff()
        while True:
            try:
                await self._start(keys, self.settings.start)
                return
            except RetriableError as error:
                logger.info("cannot find out where to start: %s", error)
                await asyncio.sleep(backoff.next())
            except TailraceError as error:
                self._fail(error)
                return

    async def _see_whether_there_is_more(self) -> None:
        """Assigned nothing: for good, or only until another member gives something up? The group's plan says."""
        assert self._cluster is not None
        assert self._membership is not None
        connection = self._cluster.bootstrap
        while not self.holds and not self._starting:
            request = groups_pb2.DescribeGroupRequest(group=self.settings.group or "")
            try:
                description = await connection.call(connection.groups.DescribeGroup, request)
            except TailraceError as error:
                logger.info("cannot see what group %r plans: %s", self.settings.group, error)
            else:
                mine = [member for member in description.members if member.member_id == self._membership.member_id]
                planned = description.assignment_epoch == description.group_epoch
                if planned and mine and not mine[0].target.topic_partitions:
                    self._knows_it_has_nothing = True
                    self.notify()
                    return
            await asyncio.sleep(0.5)

    def _revoked(self, keys: list[PartitionKey]) -> None:
        """Stop at once; give up now what the application has nothing of, the rest when it comes back."""
        free: list[Hold] = []
        busy: list[Hold] = []
        with self._lock:
            for key in keys:
                hold = self.holds.get((key.topic, key.partition))
                if hold is None or hold.key != key:
                    continue
                del self.holds[key.topic, key.partition]
                self._invalidate(hold)
                self.leaving[key] = hold
                in_hand = self._cursor is not None and self._cursor.hold is hold
                uncommitted = not self.settings.auto_commit and hold.done_offset != hold.committed_offset
                (busy if self._tells_revoked or in_hand or uncommitted else free).append(hold)
            if busy:
                self._steps.append(Revoked(busy, lost=False))
                self.attention = True
        self.notify()
        found = {hold.key for hold in (*free, *busy)}
        if self._membership is not None:
            # Of these nothing was begun yet.
            self._membership.release([key for key in keys if key not in found])
        if free:
            self._start_task(self._release_free(free))

    async def _release_free(self, holds: list[Hold]) -> None:
        try:
            await self.release(Revoked(holds, lost=False))
        except TailraceError as error:
            logger.warning("the last commit of revoked partitions failed, so some records are read again: %s", error)

    def _give_up(self, holds: Iterable[Hold]) -> None:
        with self._lock:
            for hold in holds:
                if self.leaving.pop(hold.key, None) is not None and self.position(hold) != max(
                    hold.committed_offset, hold.first_offset
                ):
                    self._lost_uncommitted = True
        if self._membership is not None:
            self._membership.release([hold.key for hold in holds])

    def _lost(self) -> None:
        """Everything is another's by now."""
        with self._lock:
            lost = [*self.holds.values()]
            gone = [*lost, *self.leaving.values()]
            self.holds.clear()
            self.leaving.clear()
            for hold in gone:
                self._invalidate(hold)
                if self.position(hold) != max(hold.committed_offset, hold.first_offset):
                    self._lost_uncommitted = True
            if lost and self._tells_revoked:
                self._steps.append(Revoked(lost, lost=True))
            self.attention = True
        self.notify()

    def _invalidate(self, hold: Hold) -> None:
        hold.valid = False
        if self._cursor is not None and self._cursor.hold is hold:
            self.attention = True
        self._follow_or_drop(hold, hold.position_id)

    def _fail(self, error: TailraceError) -> None:
        """The application hears of it when what came before is read."""
        self._failure = error
        self.notify()

    def _follow_or_drop(self, hold: Hold, position_id: int) -> None:
        """Read the hold from its position on, or no more. An order that another has overtaken is ignored."""
        if self._cluster is None or hold.position_id != position_id:
            return
        fetcher = self._fetcher_of(hold)
        if hold.valid and not hold.paused:
            fetcher.follow(hold, hold.next_offset)
        else:
            fetcher.drop(hold)

    def _fetcher_of(self, hold: Hold) -> Fetcher:
        assert self._cluster is not None
        connection = self._cluster.leader(hold.key.topic, hold.key.partition)
        fetcher = self._fetchers.get(connection)
        if fetcher is None:
            fetcher = self._fetchers[connection] = Fetcher(
                connection, prefetch_bytes=self.settings.prefetch_bytes, on_chunk=self._take_chunk
            )
        return fetcher

    def _take_chunk(self, chunk: Chunk) -> None:
        if isinstance(chunk.error, OffsetOutOfRange) and self.settings.out_of_range != "error":
            self._start_task(self._go_into_range(chunk))
            return
        self._inbox.append(chunk)
        self.notify()

    async def _go_into_range(self, chunk: Chunk) -> None:
        hold = chunk.hold
        assert self._cluster is not None
        try:
            found = await resolve_start(self._cluster, [hold.key], self.settings.out_of_range)
        except TailraceError as error:
            chunk.error = error
            self._inbox.append(chunk)
            self.notify()
            return
        if chunk.is_current:
            logger.warning("%s; going on at offset %d instead", chunk.error, found[hold.key])
            self.seek({hold: found[hold.key]})

    def _give_credit(self, hold: Hold, size: int) -> None:
        if self._cluster is not None:
            self._fetcher_of(hold).read(size)

    def _changed_offsets(self, holds: Iterable[Hold]) -> dict[Hold, int]:
        """What is done of holds and not committed. A start that nothing was read from is not a commit."""
        with self._lock:
            done = {hold: self.done_offset(hold) for hold in holds}
            return {
                hold: offset
                for hold, offset in done.items()
                if offset != hold.committed_offset and (hold.committed_offset >= 0 or offset != hold.first_offset)
            }

    def _done_offsets(self) -> dict[Hold, int]:
        return self._changed_offsets([*self.holds.values(), *self.leaving.values()])

    async def _commit_now_and_then(self) -> None:
        assert self._committer is not None
        while True:
            await asyncio.sleep(self.settings.auto_commit_interval)
            try:
                await self._committer.commit(self._done_offsets)
            except TailraceError as error:
                logger.warning("a commit failed, and is tried again: %s", error)

    async def _follow_growth(self) -> None:
        """Read partitions that are added later, too, from their beginning."""
        while True:
            await asyncio.sleep(METADATA_SECONDS_MAX)
            try:
                assert self._cluster is not None
                topics = await self._cluster.find_all(self.settings.topics)
                known = {hold.key for hold in self.holds.values()}
                added = [key for topic in topics for key in _chosen(topic, None) if key not in known]
                ids = {(hold.key.topic, hold.key.topic_id) for hold in self.holds.values()}
                added = [key for key in added if (key.topic, key.topic_id) in ids]
                if added:
                    await self._start(added, "beginning")
            except TailraceError as error:
                logger.info("cannot look whether topics have grown: %s", error)

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _chosen(topic: TopicInfo, partitions: Sequence[int | TopicPartition] | None) -> list[PartitionKey]:
    """The partitions of a topic that were asked for. Raises UnknownTopicOrPartition."""
    if partitions is None:
        numbers = list(range(topic.partitions))
    else:
        numbers = [
            chosen.partition if isinstance(chosen, TopicPartition) else chosen
            for chosen in partitions
            if not isinstance(chosen, TopicPartition) or chosen.topic == topic.topic
        ]
    for number in numbers:
        if not 0 <= number < topic.partitions:
            raise UnknownTopicOrPartition(
                f"topic {topic.topic!r} has partitions 0 to {topic.partitions - 1}, and no {number}",
                remedy="Read one of these.",
            )
    return [PartitionKey(topic.topic, topic.topic_id, number) for number in numbers]


def _checked(settings: ConsumerSettings) -> ConsumerSettings:
    """Raises InvalidRequest with the first setting that cannot be."""
    problem: tuple[str, str] | None = None
    if not settings.topics or not all(isinstance(topic, str) and topic for topic in settings.topics):
        problem = f"topics={settings.topics!r}", "Name at least one topic, as a str."
    elif len(set(settings.topics)) != len(settings.topics):
        problem = f"topics={settings.topics!r}", "Name each topic once."
    elif settings.group is not None and not (isinstance(settings.group, str) and settings.group):
        problem = f"group={settings.group!r}", "Name the group with a str, or leave it out to read without one."
    elif settings.partitions is not None and not all(
        isinstance(chosen, TopicPartition) or type(chosen) is int for chosen in settings.partitions
    ):
        problem = f"partitions={settings.partitions!r}", "Give numbers, or TopicPartition(topic, number)."
    elif settings.out_of_range not in ("error", "beginning", "end"):
        problem = f"out_of_range={settings.out_of_range!r}", 'Use "error", "beginning" or "end".'
    elif settings.prefetch_bytes < 1:
        problem = f"prefetch_bytes={settings.prefetch_bytes!r}", "Give a number of bytes."
    elif min(settings.auto_commit_interval, settings.rebalance_timeout, settings.connect_timeout) <= 0:
        problem = "an interval or timeout of 0 s or less", "Give seconds above 0."
    if problem is not None:
        raise InvalidRequest(f"{problem[0]} is not what a consumer can have", remedy=problem[1])
    return settings._replace(server=server_address(settings.server), start=checked_start(settings.start))
