"""What the synchronous and the asyncio consumer have in common: everything but how they wait and call back.

This is its side on the I/O thread: joining the group, finding out where to start, reading, giving up, committing. What
the application sees of it goes through the handout.
"""

import asyncio
import logging
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from logwire.v1 import groups_pb2
from tailrace.committer import Committer
from tailrace.connection import Backoff, Connection
from tailrace.consumer_settings import ConsumerSettings, checked_settings
from tailrace.errors import (
    ClientClosed,
    InvalidRequest,
    OffsetOutOfRange,
    RetriableError,
    TailraceError,
    UnknownTopicOrPartition,
)
from tailrace.fetcher import Fetcher
from tailrace.handout import Assigned, Handout, Revoked
from tailrace.membership import Membership, MembershipSettings
from tailrace.metadata import Cluster, TopicInfo
from tailrace.offsets import LATEST, Start, checked_start, committed_offsets, list_offsets, resolve_start
from tailrace.positions import FetchedBatches, Hold, PartitionKey
from tailrace.records import TopicPartition
from tailrace.runtime import call_from_any_thread, check_not_forked, io_thread

logger = logging.getLogger("tailrace")

#: Partitions, each with the number of the assignment that made it this consumer's; None where no group assigns them.
Assignments = Mapping[PartitionKey, int | None]

#: How often a consumer of whole topics looks whether they have grown.
METADATA_SECONDS_MAX = 60.0


class ConsumerCore:
    def __init__(
        self,
        settings: ConsumerSettings,
        *,
        notify: Callable[[], None],
        tells_assigned: bool,
        tells_revoked: bool,
    ) -> None:
        """notify is called, in any thread, when the handout may have something. tells_...: the application has
        callbacks."""
        self.settings = checked_settings(settings)
        self._notify = notify
        self._tells_assigned = tells_assigned
        self._tells_revoked = tells_revoked
        self.handout = Handout(
            stop_at_end=settings.stop_at_end,
            notify=notify,
            on_placed=partial(self._on_loop, self._follow_or_drop),
            on_read=partial(self._on_loop, self._give_credit),
        )
        self._is_closed = False
        self._was_forked = False
        # Of the I/O thread.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._cluster: Cluster | None = None
        self._fetchers: dict[Connection, Fetcher] = {}
        self._membership: Membership | None = None
        self._committer: Committer | None = None
        self._opening: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None  # whether there is more than the nothing that was assigned
        self._tasks: set[asyncio.Task[None]] = set()

    # In any thread.

    @property
    def is_connected(self) -> bool:
        return self._cluster is not None

    def check_usable(self) -> None:
        if self._was_forked:
            check_not_forked()
        if self._is_closed:
            raise ClientClosed("the consumer was closed", remedy="Read before leaving its `with` block.")

    def forked(self) -> None:
        self._was_forked = True

    def _on_loop(self, callback: Callable[[Hold, int], None], hold: Hold, number: int) -> None:
        if self._loop is not None:
            call_from_any_thread(self._loop, callback, hold, number)

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
        if self._membership is None:
            keys = [key for topic in topics for key in _chosen(topic, settings.partitions)]
            await self._start(self._with_assignments(keys), settings.start)
            if settings.partitions is None:
                self._start_task(self._follow_growth())
        # Last, when nothing can fail any more: an opening that failed is tried again from its beginning.
        if self._committer is not None and settings.auto_commit:
            self._start_task(self._commit_now_and_then())

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
            on_failed=self.handout.fail,
        )

    async def close(self, *, commit: bool, leave: bool = True) -> None:
        """End: commit what is done, leave the group, disconnect. Once. Raises what the commit raises."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
        for task in self._tasks:
            task.cancel()
        if self._cluster is not None:
            self._cluster.bootstrap.hurry()
        try:
            if commit and self._committer is not None:
                await self._committer.commit(self.handout.done_offsets)
        finally:
            if self._membership is not None and leave:
                await self._membership.leave()
            await self._disconnect()

    async def _disconnect(self) -> None:
        for fetcher in self._fetchers.values():
            await fetcher.close()
        if self._cluster is not None:
            await self._cluster.close()
            self._cluster = None

    async def abandon(self) -> None:
        """The process ends and nobody closed this consumer: what the application was at is not done."""
        if self._is_closed:
            await self._disconnect()  # Whoever closed it was interrupted, and waits for nothing more.
        elif self._cluster is not None:
            self.handout.interrupt()
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
        self.handout.starting -= 1
        for hold in holds:
            self._follow_or_drop(hold, hold.position_id)
        self._notify()  # There may be nothing to read.

    async def release(self, revoked: Revoked) -> None:
        """The application was told that partitions go: commit what is done of them and give them up."""
        try:
            if self.settings.auto_commit and not revoked.lost and self._committer is not None:
                await self._committer.commit(lambda: self.handout.done_offsets(revoked.holds))
        finally:
            given_up = self.handout.give_up(revoked.holds)
            if self._membership is not None:
                self._membership.release([hold.key for hold in given_up])

    async def offsets_at(self, keys: Sequence[PartitionKey], start: Start) -> dict[PartitionKey, int]:
        assert self._cluster is not None
        return await resolve_start(self._cluster, keys, checked_start(start))

    def _with_assignments(self, keys: Iterable[PartitionKey]) -> Assignments:
        return {key: None if self._membership is None else self._membership.assignment(key) for key in keys}

    def _still_assigned(self, assignments: Assignments) -> Assignments:
        now = self._with_assignments(assignments)
        return {key: number for key, number in assignments.items() if now[key] == number}

    async def _start(self, assignments: Assignments, start: Start) -> None:
        """Find out where to begin in partitions, and begin, or first tell the application."""
        self.handout.starting += 1
        try:
            found = await self._find_starts(list(assignments), start)
        except BaseException:  # Whatever ends it, a cancellation too: these are not on their way in any more.
            self.handout.starting -= 1
            raise
        # What was revoked meanwhile is another's, and where it stands now is another place, also if it came back.
        holds = [found[key] for key in self._still_assigned(assignments)]
        for hold in holds:
            self.handout.hold(hold)
        if self._tells_assigned and holds:
            self.handout.tell(Assigned(holds))
        else:
            await self.begin(holds)

    async def _find_starts(self, keys: Sequence[PartitionKey], start: Start) -> dict[PartitionKey, Hold]:
        assert self._cluster is not None
        settings, connection = self.settings, self._cluster.bootstrap
        committed = {} if settings.group is None else await committed_offsets(connection, settings.group, keys)
        fresh = [key for key in keys if key not in committed]
        begins = await resolve_start(self._cluster, fresh, start) | committed
        ends = await list_offsets(connection, keys, LATEST) if settings.stop_at_end else {}
        past = [key for key in keys if key in ends and begins[key] > ends[key]]
        if settings.out_of_range != "error":
            begins |= await resolve_start(self._cluster, past, settings.out_of_range)
        else:
            # Past the end is not at the end: the server refuses to read there, and says what the range is.
            ends = {key: offset for key, offset in ends.items() if key not in past}
        return {
            key: Hold(key, begins[key], committed_offset=committed.get(key, -1), end_offset=ends.get(key))
            for key in keys
        }

    def _assigned(self, keys: list[PartitionKey]) -> None:
        if keys:
            self.handout.starting += 1  # From now on: whoever stops at the end waits for these, too.
            self._start_task(self._start_until_held(self._with_assignments(keys)))
        elif self.settings.stop_at_end and (self._looking is None or self._looking.done()):
            self._looking = self._start_task(self._see_whether_there_is_more())

    async def _start_until_held(self, assignments: Assignments) -> None:
        """`_start`, through an outage; what the server refuses is the application's to hear."""
        backoff = Backoff()
        try:
            while assignments := self._still_assigned(assignments):
                try:
                    await self._start(assignments, self.settings.start)
                    return
                except RetriableError as error:
                    logger.info("cannot find out where to start: %s", error)
                    await asyncio.sleep(backoff.next())
                except TailraceError as error:
                    # It may be about one that was revoked, as of a deleted topic: then the others are tried again.
                    if self._still_assigned(assignments) == assignments:
                        self.handout.fail(error)
                        return
        finally:
            self.handout.starting -= 1
            self._notify()

    async def _see_whether_there_is_more(self) -> None:
        """Assigned nothing: for good, or only until another member gives something up? The group's plan says.

        During a seek of the group the plan has the partitions for nobody: then this member may get them back.
        """
        assert self._cluster is not None
        assert self._membership is not None
        connection = self._cluster.bootstrap
        while not self.handout.holds and not self.handout.starting:
            request = groups_pb2.DescribeGroupRequest(group=self.settings.group or "")
            try:
                description = await connection.call(connection.groups.DescribeGroup, request)
            except TailraceError as error:
                logger.info("cannot see what group %r plans: %s", self.settings.group, error)
            else:
                planned = {
                    member.member_id: {
                        (part.topic, number) for part in member.target.topic_partitions for number in part.partitions
                    }
                    for member in description.members
                }
                mine = planned.get(self._membership.member_id)
                wanted = {(row.topic, row.partition) for row in description.partitions}
                wanted = {part for part in wanted if part[0] in self.settings.topics}
                is_current = description.assignment_epoch == description.group_epoch
                if is_current and mine == set() and wanted <= set().union(*planned.values()):
                    self.handout.has_nothing()
                    return
            await asyncio.sleep(0.5)

    def _revoked(self, keys: list[PartitionKey]) -> None:
        """Stop at once; give up now what the application has nothing of, the rest when it comes back."""
        revoked = self.handout.revoke(keys)
        free = [hold for hold in revoked if not self._concerns_application(hold)]
        busy = [hold for hold in revoked if hold not in free]
        if busy:
            self.handout.tell(Revoked(busy, lost=False))
        if free:
            self._start_task(self._release_free(free))
        # What is left was not begun yet.
        assert self._membership is not None
        self._membership.release(set(keys) - {hold.key for hold in revoked})

    def _concerns_application(self, hold: Hold) -> bool:
        if self._tells_revoked or self.handout.is_in_hand(hold):
            return True
        return not self.settings.auto_commit and hold.done_offset != hold.committed_offset

    def _lost(self) -> None:
        lost = self.handout.lose()
        if lost and self._tells_revoked:
            self.handout.tell(Revoked(lost, lost=True))

    async def _release_free(self, holds: list[Hold]) -> None:
        try:
            await self.release(Revoked(holds, lost=False))
        except TailraceError as error:
            logger.warning("the last commit of revoked partitions failed, so some records are read again: %s", error)

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
                connection,
                prefetch_bytes=self.settings.prefetch_bytes,
                on_fetched=self._take_fetched,
                on_failed=self.handout.fail,
            )
        return fetcher

    def _take_fetched(self, fetched: FetchedBatches) -> None:
        if isinstance(fetched.error, OffsetOutOfRange) and self.settings.out_of_range != "error":
            self._start_task(self._go_into_range(fetched))
            return
        self.handout.put(fetched)

    async def _go_into_range(self, fetched: FetchedBatches) -> None:
        hold = fetched.hold
        assert self._cluster is not None
        assert fetched.error is not None
        try:
            found = await resolve_start(self._cluster, [hold.key], self.settings.out_of_range)
        except TailraceError as error:
            fetched.error = error
            self.handout.put(fetched)
            return
        if fetched.is_current:
            logger.warning("%s; going on at offset %d instead", fetched.error.message, found[hold.key])
            self.handout.seek({hold: found[hold.key]})

    def _give_credit(self, hold: Hold, size: int) -> None:
        if self._cluster is not None:
            self._fetcher_of(hold).read(size)

    async def _commit_now_and_then(self) -> None:
        assert self._committer is not None
        while True:
            await asyncio.sleep(self.settings.auto_commit_interval)
            try:
                await self._committer.commit(self.handout.done_offsets)
            except TailraceError as error:
                logger.warning("a commit failed, and is tried again: %s", error)

    async def _follow_growth(self) -> None:
        """Read partitions that are added later, too, from their beginning."""
        while True:
            await asyncio.sleep(METADATA_SECONDS_MAX)
            try:
                assert self._cluster is not None
                topics = await self._cluster.find_all(self.settings.topics)
                known = {hold.key for hold in self.handout.holds.values()}
                added = [key for topic in topics for key in _chosen(topic, None) if key not in known]
                ids = {(hold.key.topic, hold.key.topic_id) for hold in self.handout.holds.values()}
                added = [key for key in added if (key.topic, key.topic_id) in ids]
                if added:
                    await self._start(self._with_assignments(added), "beginning")
            except TailraceError as error:
                logger.info("cannot look whether topics have grown: %s", error)

    def _start_task(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception):  # A bug, without which something would silently not be done any more.
            self.handout.fail(error)


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
