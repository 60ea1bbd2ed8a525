"""One member of a consumer group: KIP-848's heartbeats, in the background whatever the application does.

Each heartbeat is a long poll: the server keeps it until it has something to say. What it says is what this member may
hold. Partitions that are no longer in it are *leaving*: they stop at once, but are reported as owned until the
application is done with them, and only then can another member get them. A call that failed may have been taken by the
server or not, so the next one repeats everything (a full heartbeat).

The server fences a member that it does not hear of for the session timeout, or that has not said within the rebalance
timeout that it gave up what it was to. Nobody can tell a member that cannot be reached, so it keeps both times itself,
from when it sent what was answered, which is never later than when the server began to count.
"""

import asyncio
import itertools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from logwire.v1 import groups_pb2 as pb
from tailrace import errors
from tailrace.connection import Backoff, Connection
from tailrace.errors import RetriableError, TailraceError
from tailrace.positions import PartitionKey

logger = logging.getLogger("tailrace")

JOIN_EPOCH = 0
LEAVE_EPOCH = -1
AWAY_EPOCH = -2  # of a static member, which comes back

#: Until the server has said how often it wants to hear from a member.
FIRST_INTERVAL_MS = 3_000

#: A server that answers a long poll at once, and says nothing new, is asked again after this.
PAUSE_SECONDS = 0.2

LEAVE_SECONDS_MAX = 5.0

_LOST = (errors.FencedMemberEpoch, errors.UnknownMemberId)


@dataclass(frozen=True, slots=True)
class MembershipSettings:
    group: str
    topics: tuple[str, ...]
    assignor: str
    instance_id: str
    rebalance_timeout_ms: int
    client_id: str


class Membership:
    """On the I/O thread."""

    def __init__(
        self,
        connection: Connection,
        settings: MembershipSettings,
        member_id: str,
        *,
        on_assigned: Callable[[list[PartitionKey]], None],
        on_revoked: Callable[[list[PartitionKey]], None],
        on_lost: Callable[[], None],
        on_failed: Callable[[TailraceError], None],
    ) -> None:
        """on_revoked is answered by `release` when the application is done with the partitions."""
        self._connection = connection
        self._settings = settings
        self.member_id = member_id
        self.epoch = JOIN_EPOCH
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._on_lost = on_lost
        self._on_failed = on_failed
        #: With a number that tells this assignment of the partition from the next one.
        self._held: dict[PartitionKey, int] = {}
        self._assignments = itertools.count()
        #: Every attempt has its own number, so the server knows one that it gets late, when this has gone on.
        self._numbers = itertools.count(1)
        self._leaving: set[PartitionKey] = set()
        #: What the server was last told and has answered; None when it must be told everything.
        self._told: set[PartitionKey] | None = None
        self._interval_ms = FIRST_INTERVAL_MS
        #: When the last heartbeat that was answered was sent; the loop's time, as the next.
        self._answered_at = 0.0
        #: The server may fence this member then, as far as it knows for want of an answer.
        self._fenced_at: float | None = None
        #: The same for each partition that the server wants back and has not heard to be given up.
        self._must_release_at: dict[PartitionKey, float] = {}
        self._deadline: asyncio.TimerHandle | None = None
        #: A heartbeat was sent, answered or not, and the server has not said that this is no member.
        self._may_be_member = False
        self._asks_now = False
        self._wake = asyncio.Event()
        self._heard = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def release(self, partitions: Iterable[PartitionKey]) -> None:
        """The application is done with partitions that were revoked."""
        self._leaving.difference_update(partitions)
        self._wake.set()

    def assignment(self, key: PartitionKey) -> int | None:
        """A number that this assignment of the partition has, and no other. None while it is not assigned.

        Whoever waits between learning of an assignment and acting on it must compare: the partition may have gone and
        come back, and the group may have been sent elsewhere in between.
        """
        return self._held.get(key)

    async def heartbeat_now(self, timeout: float) -> None:
        """Return when the server has answered a heartbeat that was sent after this call, or at the timeout."""
        self._told = None
        self._asks_now = True
        self._wake.set()
        self._heard.clear()
        try:
            async with asyncio.timeout(timeout):
                await self._heard.wait()
        except TimeoutError:
            pass

    async def leave(self) -> None:
        """End the membership, so that others get the partitions at once."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self._watch(None, {})
        if not self._may_be_member:
            return
        epoch = AWAY_EPOCH if self._settings.instance_id else LEAVE_EPOCH
        request = pb.HeartbeatRequest(
            group=self._settings.group,
            member_id=self.member_id,
            member_epoch=epoch,
            instance_id=self._settings.instance_id,
            number=next(self._numbers),
        )
        try:
            await self._connection.call(
                self._connection.groups.Heartbeat, request, timeout=LEAVE_SECONDS_MAX, repeat=False
            )
        except TailraceError as error:
            logger.info("member %s could not say goodbye, so it is missed later: %s", self.member_id, error)

    async def _run(self) -> None:
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        while True:
            try:
                asked_at = loop.time()
                reply = await self._beat()
                if reply is None:
                    continue  # There is something new to tell.
                backoff.reset()
                news = self._take(reply, asked_at)
                if not news and loop.time() - asked_at < PAUSE_SECONDS:
                    await self._pause(PAUSE_SECONDS)
            except _LOST as error:
                logger.warning("member %s of group %r lost its partitions: %s", self.member_id, self._group, error)
                self._lose()
            except RetriableError as error:
                logger.info("a heartbeat of member %s of group %r failed: %s", self.member_id, self._group, error)
                self._told = None
                await self._pause(backoff.next())
            except TailraceError as error:
                # Whatever it was refused for, such as another in its place: what it had is another's now, or soon.
                self._lose()
                self._on_failed(error)
                return
            except Exception as error:  # A bug, of gRPC's or ours. A member that went silent would be the worse for it.
                logger.exception("a heartbeat failed unexpectedly", exc_info=error)
                self._told = None
                await self._pause(backoff.next())

    def _lose(self) -> None:
        """This is no member any more, and holds nothing."""
        self._may_be_member = False
        self.epoch = JOIN_EPOCH
        self._told = None
        self._held.clear()
        self._leaving.clear()
        self._watch(None, {})
        self._on_lost()

    def _watch(self, fenced_at: float | None, must_release_at: dict[PartitionKey, float]) -> None:
        """Take everything for lost at the first of these times, unless they are moved before."""
        self._fenced_at, self._must_release_at = fenced_at, must_release_at
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        times = [*must_release_at.values(), *([] if fenced_at is None else [fenced_at])]
        if times:
            self._deadline = asyncio.get_running_loop().call_at(min(times), self._take_for_lost)

    def _take_for_lost(self) -> None:
        release_at = min(self._must_release_at.values(), default=None)
        if release_at is not None and (self._fenced_at is None or release_at < self._fenced_at):
            why = "it did not give up in time what it was to, or could not say so"
        else:
            why = "the server was not heard of for the session timeout"
        logger.warning("member %s of group %r takes its partitions for lost: %s", self.member_id, self._group, why)
        self._lose()
        self._may_be_member = True  # for all that is known here: it has a goodbye to say
        self._wake.set()

    @property
    def _group(self) -> str:
        return self._settings.group

    async def _beat(self) -> pb.HeartbeatResponse | None:
        """One heartbeat; None when it was broken off because there is something new to tell."""
        self._wake.clear()
        owned = self._held.keys() | self._leaving
        request = self._request(owned)
        wait_ms = 0 if self._asks_now else self._interval_ms
        self._asks_now = False
        request.wait_ms_max = wait_ms
        self._may_be_member = True
        call = asyncio.ensure_future(
            self._connection.call(self._connection.groups.Heartbeat, request, timeout=wait_ms / 1000 + 10, repeat=False)
        )
        woken = asyncio.ensure_future(self._wake.wait())
        try:
            await asyncio.wait([call, woken], return_when=asyncio.FIRST_COMPLETED)
            if not call.done():
                self._told = None
                return None
            reply: pb.HeartbeatResponse = call.result()
            if request.member_epoch != self.epoch:
                return None  # Everything was taken for lost meanwhile.
            self._told = owned
            return reply
        finally:
            woken.cancel()
            call.cancel()
            # What a call ends with that was broken off says nothing: the server may have taken it or not.
            await asyncio.gather(call, woken, return_exceptions=True)

    def _request(self, owned: set[PartitionKey]) -> pb.HeartbeatRequest:
        settings = self._settings
        request = pb.HeartbeatRequest(
            group=settings.group,
            member_id=self.member_id,
            member_epoch=self.epoch,
            instance_id=settings.instance_id,
            client_id=settings.client_id,
            number=next(self._numbers),
        )
        if self._told is None:
            request.rebalance_timeout_ms = settings.rebalance_timeout_ms
            request.subscription.topics.extend(settings.topics)
            request.assignor = settings.assignor
        if self._told != owned:
            request.owned.SetInParent()
            by_topic: dict[tuple[str, bytes], list[int]] = {}
            for key in sorted(owned):
                by_topic.setdefault((key.topic, key.topic_id), []).append(key.partition)
            for (topic, topic_id), partitions in by_topic.items():
                request.owned.topic_partitions.add(topic=topic, topic_id=topic_id, partitions=partitions)
        return request

    def _take(self, reply: pb.HeartbeatResponse, asked_at: float) -> bool:
        """Take in the answer to what was sent at `asked_at`; True when it said something new."""
        assert self._told is not None
        must_release_at = {key: at for key, at in self._must_release_at.items() if key in self._told}
        answered_before, self._answered_at = self._answered_at, asked_at
        news = reply.member_epoch != self.epoch
        self.epoch = reply.member_epoch
        self._interval_ms = reply.heartbeat_interval_ms or FIRST_INTERVAL_MS
        self._heard.set()
        fenced_at = asked_at + reply.session_timeout_ms / 1000 if reply.session_timeout_ms else None
        if not reply.HasField("assignment"):
            self._watch(fenced_at, must_release_at)
            return news
        assigned = {
            PartitionKey(part.topic, part.topic_id, partition)
            for part in reply.assignment.topic_partitions
            for partition in part.partitions
        }
        revoked = self._held.keys() - assigned
        # One that leaves and is assigned again is given up first: the server then assigns it once more.
        added = assigned - self._held.keys() - self._leaving
        for key in revoked:
            del self._held[key]
        self._leaving |= revoked
        # The server may have wanted them back since the last answer that did not say so.
        release_at = answered_before + self._settings.rebalance_timeout_ms / 1000
        must_release_at |= dict.fromkeys(revoked, release_at)
        self._watch(fenced_at, must_release_at)
        for key in added:
            self._held[key] = next(self._assignments)
        # An empty one is told, too: a member that holds nothing knows it then.
        if revoked:
            self._on_revoked(sorted(revoked))
        if added or not self._held:
            self._on_assigned(sorted(added))
        return news or bool(revoked or added)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            pass
