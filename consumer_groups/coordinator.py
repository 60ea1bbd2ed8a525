"""The asyncio side of consumer groups, as the server sees it: heartbeats that wait for news, commits, seeks, listings.

How changes become durable before anybody hears of them, and what happens when the journal fails, is told in `live`.
"""

import asyncio
import logging
from collections.abc import Sequence

from consumer_groups import kinds
from consumer_groups.checks import check_heartbeat, check_number, check_seek_target
from consumer_groups.classic.forms import check_join, check_leavers, check_sync
from consumer_groups.classic.group import ClassicGroup
from consumer_groups.classic.requests import (
    ClassicGroupDescription,
    JoinReply,
    JoinRequest,
    Leaver,
    SyncReply,
    SyncRequest,
)
from consumer_groups.commits import CommitResult, Commits
from consumer_groups.config import GroupConfig
from consumer_groups.departures import Departures
from consumer_groups.descriptions import describe, describe_classic, describe_members, listing
from consumer_groups.errors import GroupError, GroupIdNotFound, NonEmptyGroup, UnknownMemberId
from consumer_groups.expiry import Expiry
from consumer_groups.group import Group
from consumer_groups.group_checks import JOIN_AS_NEW
from consumer_groups.joins import Joins
from consumer_groups.journal_records import Key, OffsetKey, OffsetValue, Value, fold
from consumer_groups.live import RETRY_MS, LiveGroup, LiveGroups, WaitingHeartbeat
from consumer_groups.requests import (
    AWAY_EPOCH,
    JOIN_EPOCH,
    LEAVE_EPOCH,
    CommittedOffset,
    Committer,
    GroupDescription,
    GroupListing,
    HeartbeatReply,
    HeartbeatRequest,
    OffsetCommit,
    SeekTarget,
    SoughtPartition,
    TopicPartitions,
)
from consumer_groups.rewriting import Rewriting
from consumer_groups.seeks import Seeks
from consumer_groups.surroundings import Journal, TopicDirectory
from consumer_groups.topics import by_topic
from logstore.clock import Clock
from logstore.errors import StorageFull

log = logging.getLogger(__name__)


class GroupCoordinator:
    """All groups of a server, between `start` and `stop`. Methods run on one event loop.

    They raise this package's errors, and logstore's for topics, offsets and a full disk. What changes a group runs to
    its end also if the caller is cancelled.
    """

    def __init__(self, journal: Journal, topics: TopicDirectory, clock: Clock, config: GroupConfig) -> None:
        self._journal = journal
        self._topics = topics
        self._clock = clock
        self._config = config
        self._groups = LiveGroups(journal, topics, clock, config)
        self._joins = Joins(self._groups)
        self._commits = Commits(self._groups)
        self._seeks = Seeks(self._groups)
        self._rewriting = Rewriting(self._groups)
        self._expiry = Expiry(self._groups)
        self._departures = Departures(config.session_timeout_ms)
        self._topics_are_news = True
        self._is_refreshing = False

    async def start(self) -> None:
        """Read the journal; members of before go on in their epochs, in sessions that start now.

        Raises JournalUnreadable, above all for what a newer version wrote.
        """
        images: dict[str, dict[Key, Value]] = {}
        for key, value in fold(self._journal.replay()).items():
            images.setdefault(key.group, {})[key] = value
        now_ms = self._clock.monotonic_ms()
        for name, image in images.items():
            live = LiveGroup(kinds.restore(name, self._config, self._topics.topic, image, now_ms))
            for key, value in image.items():
                if isinstance(key, OffsetKey) and isinstance(value, OffsetValue):
                    live.offsets.put(key.partition, value, live.offsets.ticket())
            self._groups.add(live)
            self._groups.settle(live)
        self._groups.is_open = True
        # Topics may have gone meanwhile, and partitions that were being sought are in no target: plan again.
        await self._refresh()
        self._rewriting.begin(sum(map(len, images.values())))
        self._expiry.begin()
        log.info("groups: %d read from the journal", len(images))

    async def stop(self) -> None:
        """Answer the heartbeats that wait, give seeks up (their old offsets stand), and finish what is under way."""
        await self._groups.stop()

    def run_due(self) -> None:
        """Run the timers that are due by the clock. They run by themselves, too; this is for a clock that jumps."""
        self._groups.timers.run_due()

    async def heartbeat(self, request: HeartbeatRequest, wait_ms: int) -> HeartbeatReply:
        """Take a member's heartbeat; hold the answer for up to wait_ms, capped, while it would say nothing new."""
        self._groups.check_open()
        check_heartbeat(request, self._config)
        live = await self._groups.finish(self._take(request))
        leaving = request.member_epoch in (LEAVE_EPOCH, AWAY_EPOCH)
        if not leaving and wait_ms > 0 and self._groups.is_open and not _consumer_group(live).has_news(request):
            await self._wait_for_news(live, request, min(wait_ms, self._config.heartbeat_interval_ms))
            self._groups.check_journal()
        epoch, assignment = _consumer_group(live).answer(request)
        return HeartbeatReply(
            member_id=request.member_id,
            member_epoch=epoch,
            heartbeat_interval_ms=self._config.heartbeat_interval_ms,
            session_timeout_ms=self._config.session_timeout_ms,
            assignment=None if assignment is None else by_topic(self._topics, assignment),
        )

    async def _take(self, request: HeartbeatRequest) -> LiveGroup:
        if request.member_epoch in (LEAVE_EPOCH, AWAY_EPOCH):
            self._departures.note(request, self._clock.monotonic_ms())
        if request.member_epoch != JOIN_EPOCH and self._groups.get(request.group) is None:
            raise UnknownMemberId.without_group(request.group, request.member_id, remedy=JOIN_AS_NEW)
        async with self._groups.change(request.group, create=True) as live:
            now_ms = self._clock.monotonic_ms()
            if request.member_id not in live.group.members and self._departures.cover(request, now_ms):
                raise UnknownMemberId(
                    f"member {request.member_id!r} left group {request.group!r} after it sent this heartbeat, number"
                    f" {request.number}",
                    remedy="Nothing, if it was meant to leave; else join again, with epoch 0 and a higher number.",
                )
            draft = kinds.consumer_draft(live.group, self._config, self._topics.topic, now_ms)
            draft.heartbeat(request, now_ms)
            await self._groups.write(live, draft)
            return live

    async def _wait_for_news(self, live: LiveGroup, request: HeartbeatRequest, wait_ms: int) -> None:
        earlier = live.heartbeats.get(request.member_id)
        if earlier is not None:
            earlier.wake()
        waiting = WaitingHeartbeat(request, asyncio.get_running_loop().create_future())
        live.heartbeats[request.member_id] = waiting
        timer = self._groups.timers.at(self._clock.monotonic_ms() + wait_ms, waiting.wake)
        try:
            await waiting.woken
        finally:
            timer.cancel()
            if live.heartbeats.get(request.member_id) is waiting:
                del live.heartbeats[request.member_id]

    # Members of groups of the classic protocol.

    async def join_group(self, request: JoinRequest) -> JoinReply:
        """Kafka's JoinGroup. Returns when all members have joined, or those who have not are out: minutes, at worst.

        Raises MemberIdRequired, UnknownMemberId, FencedInstanceId, InconsistentGroupProtocol, InvalidSessionTimeout,
        GroupMaxSizeReached, and RebalanceInProgress for a join that its member has sent once more.
        """
        self._groups.check_open()
        check_join(request, self._config)
        return await self._joins.join(request)

    async def sync_group(self, request: SyncRequest) -> SyncReply:
        """Kafka's SyncGroup. Returns when the leader has assigned.

        Raises UnknownMemberId, FencedInstanceId, IllegalGeneration, RebalanceInProgress, InconsistentGroupProtocol.
        """
        self._groups.check_open()
        check_sync(request, self._config)
        return await self._joins.sync(request)

    async def classic_heartbeat(self, group: str, member_id: str, generation: int, instance_id: str = "") -> None:
        """Kafka's Heartbeat. Raises UnknownMemberId, FencedInstanceId, IllegalGeneration, RebalanceInProgress."""
        self._groups.check_open()
        await self._joins.heartbeat(group, member_id, generation, instance_id)

    async def leave_group(self, group: str, leavers: Sequence[Leaver]) -> list[GroupError | None]:
        """Kafka's LeaveGroup; return for each whether it left, or why not: UnknownMemberId, FencedInstanceId."""
        self._groups.check_open()
        check_leavers(leavers, self._config)
        return await self._joins.leave(group, leavers)

    def describe_classic_group(self, group: str) -> ClassicGroupDescription:
        """Kafka's DescribeGroups, with the bytes that are the clients' own. Raises GroupIdNotFound, also for a group
        whose members use the consumer group protocol."""
        self._groups.check_open()
        return describe_classic(self._groups.existing(group))

    def describe_consumer_group(self, group: str) -> GroupDescription:
        """Kafka's ConsumerGroupDescribe, which tells no offsets. Raises GroupIdNotFound, also for a group of the
        classic protocol."""
        self._groups.check_open()
        live = self._groups.existing(group)
        if isinstance(live.group, ClassicGroup):
            raise GroupIdNotFound(
                f"group {group!r} is a classic one, without server-side assignment (KIP-848)",
                remedy="Describe it with DescribeGroups, or with logctl groups describe.",
            )
        return describe_members(live, self._topics)

    # All groups.

    async def commit_offsets(
        self, group: str, committer: Committer, offsets: Sequence[OffsetCommit]
    ) -> list[CommitResult]:
        """Commit; return for each offset None once it is durable, or the error for which it was refused.

        Raises if the committer itself is refused: UnknownMemberId, StaleMemberEpoch (also for a commit that a newer one
        of its member has overtaken), NonEmptyGroup; in a classic group UnknownMemberId, IllegalGeneration,
        FencedInstanceId, RebalanceInProgress.
        """
        self._groups.check_open()
        check_number("commit", committer.number)
        return await self._groups.finish(self._commits.commit(group, committer, offsets))

    async def fetch_offsets(self, group: str, partitions: Sequence[TopicPartitions] | None) -> list[CommittedOffset]:
        """What is committed for the partitions, in their order, with -1 for nothing; None: all that is committed.

        Raises UnknownTopicOrPartition, UnknownTopicId, and for None GroupIdNotFound.
        """
        self._groups.check_open()
        return self._commits.fetch(group, partitions)

    def check_fetcher(self, group: str, member_id: str | None, member_epoch: int) -> None:
        """Raise UnknownMemberId or StaleMemberEpoch for somebody who fetches offsets as a member of a group of the
        consumer group protocol and is none, or is behind: it would begin at what another has gone past.

        member_id: None, or a negative epoch, is somebody who looks on.
        """
        self._groups.check_open()
        live = self._groups.get(group)
        if member_id and member_epoch >= 0 and live is not None and isinstance(live.group, Group):
            live.group.check_member(member_id, member_epoch)

    async def delete_offsets(self, group: str, partitions: Sequence[tuple[str, int]]) -> list[CommitResult]:
        """Forget what was committed for partitions, named by topic and number; return for each None, or the error for
        which it was refused: GroupSubscribedToTopic, UnknownTopicOrPartition. Raises GroupIdNotFound, and NonEmptyGroup
        for members that are no consumers, as those of Connect."""
        self._groups.check_open()
        return await self._groups.finish(self._commits.delete(group, partitions))

    def list_groups(self) -> list[GroupListing]:
        self._groups.check_open()
        return [listing(live) for live in self._groups.all()]

    async def describe_group(self, group: str) -> GroupDescription:
        """The group with its members, and its lag in every partition that it reads or has read."""
        self._groups.check_open()
        return await describe(self._groups.existing(group), self._topics, self._clock.wall_ms())

    async def delete_group(self, group: str) -> None:
        """Forget a group without members, and all it has committed. Raises GroupIdNotFound, NonEmptyGroup."""
        self._groups.check_open()
        self._groups.existing(group)
        await self._groups.finish(self._delete(group))

    async def _delete(self, name: str) -> None:
        async with self._groups.change(name) as live:
            group = live.group.copy()
            group.expire(self._clock.monotonic_ms())
            if group.members:
                raise NonEmptyGroup(
                    f"group {name!r} has members ({len(group.members)})",
                    remedy="Stop them first, then delete the group.",
                )
            await self._groups.erase(live)

    async def seek(
        self, group: str, topic: str, partitions: Sequence[int], target: SeekTarget, dry_run: bool
    ) -> list[SoughtPartition]:
        """Send the group elsewhere in some partitions of a topic (all, if none is named), also while it runs.

        Returns when the new offsets are durable and the partitions assigned again, or for a dry run at once. Raises
        InvalidRequest, GroupIdNotFound, UnknownTopicOrPartition, OffsetOutOfRange, AssignmentUnreadable of a classic
        group, SeekInProgress, SeekTimedOut, StorageFull; then the old offsets stand.
        """
        self._groups.check_open()
        check_seek_target(target)
        return await self._seeks.seek(group, topic, partitions, target, dry_run=dry_run)

    def topics_changed(self) -> None:
        """A topic was made or deleted, or got more partitions: groups plan again, offsets of deleted topics go."""
        self._topics_are_news = True
        if self._groups.is_open:
            self._groups.spawn(self._refresh())

    async def _refresh(self) -> None:
        """One at a time goes through all groups, and once more if topics have changed meanwhile."""
        if self._is_refreshing:
            return
        self._is_refreshing = True
        try:
            while self._topics_are_news:
                self._topics_are_news = False
                for live in self._groups.all():
                    await self._refresh_group(live)
        except StorageFull:
            self._topics_are_news = True
            self._groups.spawn_at(self._clock.monotonic_ms() + RETRY_MS, self._refresh)
        finally:
            self._is_refreshing = False

    async def _refresh_group(self, live: LiveGroup) -> None:
        async with live.turns.change():
            if not self._groups.is_current(live):
                return
            now_ms = self._clock.monotonic_ms()
            draft = live.group.copy()
            draft.expire(now_ms)
            draft.topics_changed(now_ms)
            gone = [partition for partition in live.offsets if self._topics.topic_by_id(partition.topic_id) is None]
            await self._groups.write(live, draft, dropped=gone)
        self._groups.drop_if_blank(live)


def _consumer_group(live: LiveGroup) -> Group:
    """The group that a member of the consumer group protocol was in. Raises UnknownMemberId if it is a classic one by
    now."""
    if isinstance(live.group, Group):
        return live.group
    raise UnknownMemberId(
        f"group {live.name!r} is a classic one by now, so it has no such member",
        remedy=JOIN_AS_NEW,
    )
