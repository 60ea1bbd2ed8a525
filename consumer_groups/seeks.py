"""Sending a group elsewhere, also while it runs.

The partitions leave the target assignment, so their owners are told to give them up, and may commit them until they
have. Once nobody holds them, nobody can commit: the new offsets are written, in one piece with a plan that has the
partitions again. Whoever gets them starts at the new offsets, in a newer epoch than any commit that is still on its
way. To raise the epoch alone would do nothing: clients ignore an assignment equal to their own, and commit over it.

In a group of the classic protocol it is the same with other means, which `classic.seek` tells: what the leader assigns
is stripped of the partitions, in a generation of its own.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable

from consumer_groups.errors import GroupIdNotFound, InvalidRequest, SeekInProgress, SeekTimedOut
from consumer_groups.journal_records import OffsetValue
from consumer_groups.kinds import AnyGroup
from consumer_groups.live import RETRY_MS, LiveGroup, LiveGroups, WaitingSeek
from consumer_groups.requests import NO_OFFSET, Assignment, Partition, SeekTarget, SoughtPartition, TopicInfo
from consumer_groups.surroundings import TopicDirectory
from consumer_groups.topics import check_partition, existing_topic, giving_way
from logstore.errors import OffsetOutOfRange, StorageFull, UnknownTopicId

log = logging.getLogger(__name__)


class Seeks:
    def __init__(self, groups: LiveGroups) -> None:
        self._groups = groups
        self._topics = groups.topics

    async def seek(
        self, name: str, topic: str, numbers: Iterable[int], target: SeekTarget, *, dry_run: bool
    ) -> list[SoughtPartition]:
        info = existing_topic(self._topics, topic)
        chosen = choose_partitions(info, numbers)
        live = self._groups.existing(name)
        # Before anything is taken from anybody: is this a place to go to?
        offsets = await find_offsets(self._topics, topic, chosen, target, live.committed)
        if dry_run:
            return _describe(live, topic, offsets)
        return await self._groups.finish(self._run(name, topic, frozenset(chosen), target))

    async def _run(self, name: str, topic: str, wanted: Assignment, target: SeekTarget) -> list[SoughtPartition]:
        async with self._groups.change(name) as live:
            now_ms = self._groups.clock.monotonic_ms()
            busy = live.group.withheld(wanted)
            if busy:
                raise SeekInProgress(
                    f"{len(busy)} of these partitions of topic {topic!r} are being sought already in group {name!r}",
                    remedy="Wait until that seek is done, at most a minute, and try again.",
                )
            draft = live.group.copy()
            draft.expire(now_ms)
            if not draft.members:
                return await self._write(live, draft, topic, wanted, target)
            draft.withhold(wanted, now_ms)
            await self._groups.write(live, draft)
            seek = WaitingSeek(wanted, asyncio.Event())
            live.seeks.append(seek)
            self._groups.settle(live)
        if not self._groups.is_open:
            seek.woken.set()
        timer = self._groups.timers.at(now_ms + self._groups.config.seek_timeout_ms, seek.woken.set)
        await seek.woken.wait()
        timer.cancel()
        live.seeks.remove(seek)
        # A stop leaves the old offsets; after the restart nothing is held any more.
        self._groups.check_open()
        try:
            return await self._end(live, topic, wanted, target)
        except BaseException:  # However it ended, without the new offsets: else the partitions would be nobody's.
            self._groups.spawn(self._give_back(live, wanted))
            raise

    async def _end(self, live: LiveGroup, topic: str, wanted: Assignment, target: SeekTarget) -> list[SoughtPartition]:
        async with self._groups.change(live.name) as current:
            if current is not live:
                raise GroupIdNotFound(
                    f"group {live.name!r} was deleted, and made again, during the seek",
                    remedy="Seek again if the new group is meant.",
                )
            now_ms = self._groups.clock.monotonic_ms()
            draft = live.group.copy()
            draft.expire(now_ms)
            draft.check_seek()
            if not draft.are_free(wanted):
                holdouts = ", ".join(sorted(draft.holdouts(wanted)))
                raise SeekTimedOut(
                    f"{holdouts} of group {live.name!r} did not give up the partitions of topic"
                    f" {topic!r} within {self._groups.config.seek_timeout_ms} ms, so the old offsets stand",
                    remedy="Try again; if it happens again, stop or restart that member.",
                )
            draft.give_back(wanted, now_ms)
            return await self._write(live, draft, topic, wanted, target)

    async def _write(
        self, live: LiveGroup, draft: AnyGroup, topic: str, wanted: Assignment, target: SeekTarget
    ) -> list[SoughtPartition]:
        """Find the offsets, now that nobody commits any more, and write them with the draft."""
        offsets = await find_offsets(self._topics, topic, sorted(wanted), target, live.committed)
        sought = _describe(live, topic, offsets)
        now_ms = self._groups.clock.wall_ms()
        values = {partition: OffsetValue(offset, "", now_ms) for partition, offset in offsets.items()}
        await self._groups.write(live, draft, values)
        log.info("group %s: sent elsewhere: %s", live.name, sought)
        return sought

    async def _give_back(self, live: LiveGroup, wanted: Assignment) -> None:
        """Let partitions be assigned again whose seek has failed."""
        async with live.turns.change():
            if not self._groups.is_current(live) or not live.group.withheld(wanted):
                return
            now_ms = self._groups.clock.monotonic_ms()
            draft = live.group.copy()
            draft.expire(now_ms)
            draft.give_back(wanted, now_ms)
            try:
                await self._groups.write(live, draft)
            except StorageFull:
                self._groups.spawn_at(now_ms + RETRY_MS, lambda: self._give_back(live, wanted))


def choose_partitions(topic: TopicInfo, numbers: Iterable[int]) -> list[Partition]:
    """The named partitions, in order; all of the topic's when none is named."""
    chosen = sorted(set(numbers)) or range(topic.partitions)
    for number in chosen:
        check_partition(topic, number)
    return [Partition(topic.topic_id, number) for number in chosen]


async def find_offsets(
    topics: TopicDirectory,
    topic: str,
    partitions: Iterable[Partition],
    target: SeekTarget,
    committed: Callable[[Partition], int | None],
) -> dict[Partition, int]:
    """Return the offset that the target means in each partition. Raises if one is outside of its log."""
    offsets = {}
    async for partition in giving_way(partitions):
        if topics.topic_by_id(partition.topic_id) is None:
            raise UnknownTopicId(f"topic {topic!r} was deleted", remedy="Seek in a topic that is there.")
        offset = await _find_offset(topics, topic, partition, target, committed(partition))
        readable = await topics.offset_range(*partition)
        if not readable.log_start_offset <= offset <= readable.high_watermark:
            raise OffsetOutOfRange.of(
                offset, topic, partition.number, readable.log_start_offset, readable.high_watermark
            )
        offsets[partition] = offset
    return offsets


async def _find_offset(
    topics: TopicDirectory, topic: str, partition: Partition, target: SeekTarget, committed: int | None
) -> int:
    if target.offset is not None:
        return target.offset
    if target.timestamp_ms is not None:
        return await topics.offset_for_timestamp(*partition, target.timestamp_ms)
    if target.beginning:
        return (await topics.offset_range(*partition)).log_start_offset
    if target.end:
        return (await topics.offset_range(*partition)).high_watermark
    assert target.shift_by is not None, "checked with the request's form"
    if committed is None:
        raise InvalidRequest(
            f"nothing is committed for partition {partition.number} of topic {topic!r}: there is nothing to shift from",
            remedy="Seek to an offset, a time, the beginning or the end.",
        )
    return committed + target.shift_by


def _describe(live: LiveGroup, topic: str, offsets: dict[Partition, int]) -> list[SoughtPartition]:
    return [
        SoughtPartition(topic, partition.number, NO_OFFSET if (old := live.committed(partition)) is None else old, new)
        for partition, new in offsets.items()
    ]
