"""The groups of a running server, and the one way in which any of them changes.

A draft of the group is changed, what differs is written to the journal, and only when that is durable the draft takes
the group's place and answers go out. So memory is never ahead of the disk, and nobody is told what a crash could undo.

When the journal says that it was full and wrote nothing, the request fails and the group stays as it was. After any
other failure nobody knows what is on disk, and to decide on would risk two owners of a partition after a restart: from
then on every call is refused, until a restart has read what is there.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from consumer_groups import kinds
from consumer_groups.checks import check_group_name
from consumer_groups.classic.requests import Answer
from consumer_groups.config import GroupConfig
from consumer_groups.errors import GroupError, GroupIdNotFound, GroupsUnavailable, Overloaded, ShuttingDown
from consumer_groups.group import Group
from consumer_groups.journal_records import Change, OffsetKey, OffsetValue, encode_all
from consumer_groups.kinds import AnyGroup
from consumer_groups.offsets import CommittedOffsets
from consumer_groups.requests import Assignment, HeartbeatRequest, Partition
from consumer_groups.room import Room
from consumer_groups.surroundings import Journal, TopicDirectory
from consumer_groups.timers import Timer, Timers
from consumer_groups.turns import Turns
from logstore.clock import Clock
from logstore.errors import LogStoreError, StorageFull

log = logging.getLogger(__name__)

#: How soon what a full disk has stopped is tried again.
RETRY_MS = 1_000

Result = TypeVar("Result")


@dataclass(slots=True, eq=False)
class WaitingHeartbeat:
    """A heartbeat that is held until there is something to say."""

    request: HeartbeatRequest
    woken: "asyncio.Future[None]"

    def wake(self) -> None:
        if not self.woken.done():
            self.woken.set_result(None)


@dataclass(slots=True, eq=False)
class WaitingSeek:
    """A seek that waits for its partitions to be given up."""

    partitions: Assignment
    woken: asyncio.Event


class LiveGroup:
    """A group, and what belongs to it while the process runs."""

    def __init__(self, group: AnyGroup) -> None:
        self.group = group
        self.offsets = CommittedOffsets()
        self.turns = Turns()
        self.heartbeats: dict[str, WaitingHeartbeat] = {}
        #: Joins and syncs (classic protocol) that wait for others, by ticket; None: the group is gone, or the server.
        self.waiting: dict[int, asyncio.Future[Answer | None]] = {}
        self.seeks: list[WaitingSeek] = []
        self.timer: Timer | None = None

    @property
    def name(self) -> str:
        return self.group.name

    @property
    def is_blank(self) -> bool:
        """Nothing of it is durable: it was made for a request that has not succeeded."""
        return self.group.is_blank and not len(self.offsets)

    def image(self) -> list[Change]:
        """What it takes to say all that is durable of it."""
        offsets: list[Change] = [(OffsetKey(self.name, partition), value) for partition, value in self.offsets.items()]
        return self.group.image() + offsets

    def committed(self, partition: Partition) -> int | None:
        value = self.offsets.get(partition)
        return None if value is None else value.offset

    def wake_all(self) -> None:
        for heartbeat in self.heartbeats.values():
            heartbeat.wake()
        for seek in self.seeks:
            seek.woken.set()
        for ticket in list(self.waiting):
            self.answer(ticket, None)

    def answer(self, ticket: int, answer: Answer | None) -> None:
        waiting = self.waiting.pop(ticket, None)
        if waiting is not None and not waiting.done():  # Done: who asked is gone.
            waiting.set_result(answer)


class LiveGroups:
    """All groups by name, with the journal, the timers and the work under way."""

    def __init__(self, journal: Journal, topics: TopicDirectory, clock: Clock, config: GroupConfig) -> None:
        self.journal = journal
        self.topics = topics
        self.clock = clock
        self.config = config
        self.timers = Timers(clock)
        self.room = Room(config.total_bytes_max)
        self.is_open = False
        #: Called after each write to the journal.
        self.on_append: Callable[[], None] = lambda: None
        self._groups: dict[str, LiveGroup] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._failure: BaseException | None = None

    # Finding groups.

    def add(self, live: LiveGroup) -> None:
        self.room.take(live.group.size_bytes)
        self._groups[live.name] = live

    def all(self) -> list[LiveGroup]:
        """Those of which something is durable, by name."""
        return [live for _, live in sorted(self._groups.items()) if not live.is_blank]

    def named(self) -> list[LiveGroup]:
        """All, those too of which nothing is durable yet."""
        return list(self._groups.values())

    def get(self, name: str) -> LiveGroup | None:
        """The group, blank or not, if there is one."""
        check_group_name(name)
        return self._groups.get(name)

    def existing(self, name: str) -> LiveGroup:
        live = self.get(name)
        if live is None or live.is_blank:
            raise GroupIdNotFound(f"there is no group {name!r}", remedy="See the groups there are: logctl groups list.")
        return live

    def is_current(self, live: LiveGroup) -> bool:
        """False for a group that was deleted while somebody waited for it."""
        return self._groups.get(live.name) is live

    # Changing a group.

    @asynccontextmanager
    async def change(self, name: str, *, create: bool = False) -> AsyncIterator[LiveGroup]:
        """The group, with nothing else of it under way. What is decided within goes through `write`."""
        while True:
            live = self._find(name, create)
            try:
                async with live.turns.change():
                    if self.is_current(live):
                        self.check_journal()
                        yield live
                        return
            finally:
                self.drop_if_blank(live)

    @asynccontextmanager
    async def commit(self, name: str) -> AsyncIterator[LiveGroup]:
        """The group as commits need it: no change is under way, other commits may be."""
        while True:
            live = self._find(name, create=True)
            try:
                async with live.turns.commit():
                    if self.is_current(live):
                        self.check_journal()
                        yield live
                        return
            finally:
                self.drop_if_blank(live)

    async def write(
        self,
        live: LiveGroup,
        draft: AnyGroup,
        offsets: Mapping[Partition, OffsetValue] | None = None,
        dropped: Sequence[Partition] = (),
    ) -> None:
        """Make the draft durable, with offsets, and put it in the group's place. Called within `change`.

        Raises Overloaded, and nothing has changed, if the draft's members bring more than there is room for.
        """
        draft.reconcile_waiting(live.heartbeats, self.clock.monotonic_ms())
        if live.group.members and not draft.members:
            draft.emptied(self.clock.wall_ms())
        offsets = offsets or {}
        changes = kinds.changes(live.group, draft)
        changes += [(OffsetKey(live.name, partition), value) for partition, value in offsets.items()]
        changes += [(OffsetKey(live.name, partition), None) for partition in dropped]
        with self.room.change(live.group.size_bytes, draft.size_bytes):
            if changes:
                ticket = live.offsets.ticket()
                await self.append(changes)
                for partition, value in offsets.items():
                    live.offsets.put(partition, value, ticket)
                for partition in dropped:
                    live.offsets.drop(partition)
        for member_id in sorted(live.group.members.keys() - draft.members.keys()):
            log.info("group %s: member %s is out", live.name, member_id)
        live.group = draft
        self.settle(live)

    async def erase(self, live: LiveGroup) -> None:
        """Make durable that nothing is left of a group. Called within `change`."""
        changes: list[Change] = [(OffsetKey(live.name, partition), None) for partition in live.offsets]
        changes += kinds.removal(live.group)
        if changes:
            await self.append(changes)
        self.forget(live)

    def settle(self, live: LiveGroup) -> None:
        """After a change: wake whoever waited for it, and set the timer for what comes next by itself."""
        for ticket, answer in live.group.take_answers():
            live.answer(ticket, answer)
        for heartbeat in live.heartbeats.values():
            if live.group.has_news(heartbeat.request):
                heartbeat.wake()
        for seek in live.seeks:
            # Not withheld any more: the seek cannot go on (see `check_seek`).
            if live.group.are_free(seek.partitions) or not live.group.withheld(seek.partitions):
                seek.woken.set()
        due_ms = live.group.next_deadline_ms()
        if due_ms is None or (live.timer is not None and live.timer.due_ms <= due_ms):
            return  # A timer that rings early finds nothing to do, and is set again.
        if live.timer is not None:
            live.timer.cancel()
        self._set_timer(live, due_ms)

    async def append(self, changes: Sequence[Change]) -> None:
        await self.append_encoded(encode_all(changes))

    async def append_encoded(self, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        self.check_journal()
        try:
            await self.journal.append(records)
        except StorageFull:
            raise
        except Exception as error:  # Whatever it is: only a full disk says for certain that nothing was written.
            self._fail(error)
            raise self._unavailable() from error
        except BaseException as error:  # Cancelled, or the process ends: it is on its way to the disk, or it is not.
            self._fail(error)
            raise
        self.on_append()

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        log.critical("groups: the journal failed, so what is on disk is unknown", exc_info=error)
        self.wake_all()

    async def fence_late(self, name: str) -> None:
        """Do what is due by now, also if no timer has noticed yet: who is past its deadline has lost its partitions."""
        live = self.get(name)
        if live is None:
            return
        due_ms = live.group.next_deadline_ms()
        if due_ms is not None and due_ms <= self.clock.monotonic_ms():
            async with self.change(name, create=True) as live:
                await self._write_expired(live, self.clock.monotonic_ms())

    def drop_if_blank(self, live: LiveGroup) -> None:
        """Forget a group that was named and has not come to be, or of which nothing is left. Whoever waits for its turn
        finds that it is not current, and makes it again."""
        if live.is_blank and live.turns.is_idle and self.is_current(live):
            self.forget(live)

    def forget(self, live: LiveGroup) -> None:
        """Drop a group of which nothing is durable, or whose deletion is."""
        del self._groups[live.name]
        self.room.give_back(live.group.size_bytes)
        live.wake_all()
        if live.timer is not None:
            live.timer.cancel()

    def _find(self, name: str, create: bool) -> LiveGroup:
        live = self.get(name)
        if live is not None:
            return live
        if not create:
            return self.existing(name)
        if len(self._groups) >= self.config.groups_max:
            raise Overloaded(
                f"there are {len(self._groups)} groups, as many as may be",
                remedy="Delete groups that are no longer used (logctl groups list, logctl groups delete).",
            )
        live = self._groups[name] = LiveGroup(Group(name, self.config, self.topics.topic))
        return live

    def _set_timer(self, live: LiveGroup, due_ms: int) -> None:
        def ring() -> None:
            live.timer = None
            self.spawn(self._expire(live))

        live.timer = self.timers.at(due_ms, ring)

    async def _expire(self, live: LiveGroup) -> None:
        async with live.turns.change():
            if not self.is_current(live) or self._failure is not None:
                return
            now_ms = self.clock.monotonic_ms()
            try:
                await self._write_expired(live, now_ms)
            except StorageFull:
                log.warning("group %s: the journal is full, so members cannot be fenced; trying again", live.name)
                if live.timer is None:
                    self._set_timer(live, now_ms + RETRY_MS)
        self.drop_if_blank(live)

    async def _write_expired(self, live: LiveGroup, now_ms: int) -> None:
        draft = live.group.copy()
        draft.expire(now_ms)
        await self.write(live, draft)

    # Whether there is anything to be had.

    def check_open(self) -> None:
        self.check_journal()
        if not self.is_open:
            raise ShuttingDown("the group coordinator is not running", remedy="Try again once the server is up.")

    def check_journal(self) -> None:
        if self._failure is not None:
            raise self._unavailable() from self._failure

    def _unavailable(self) -> GroupsUnavailable:
        return GroupsUnavailable(
            f"the journal of groups failed ({self._failure!r}), so what is on disk is unknown",
            remedy="Restart the server: it goes on from what the journal really has.",
        )

    def wake_all(self) -> None:
        for live in self._groups.values():
            live.wake_all()

    # Work under way.

    async def finish(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Wait for work that goes on if the caller is gone: some of it may be durable already."""
        return await asyncio.shield(self.spawn(work))

    def spawn(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def spawn_at(self, due_ms: int, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        def ring() -> None:
            self.spawn(work())

        self.timers.at(due_ms, ring)

    async def stop(self) -> None:
        self.is_open = False
        self.wake_all()
        while self._tasks:
            await asyncio.wait(self._tasks)
        self.timers.stop()

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, (GroupError, LogStoreError)):
            log.error("groups: a bug in the coordinator", exc_info=error)
