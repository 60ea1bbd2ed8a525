"""Committing offsets and reading them back."""

import asyncio
from collections.abc import Sequence

from consumer_groups.errors import (
    GroupError,
    GroupSubscribedToTopic,
    InvalidRequest,
    NonEmptyGroup,
    OffsetMetadataTooLarge,
    PartitionNotOwned,
    UnknownMemberId,
)
from consumer_groups.group_checks import JOIN_AS_NEW
from consumer_groups.journal_records import OffsetKey, OffsetValue
from consumer_groups.kinds import AnyGroup
from consumer_groups.live import LiveGroups
from consumer_groups.requests import (
    CONSUMER,
    NO_OFFSET,
    CommittedOffset,
    Committer,
    OffsetCommit,
    Partition,
    TopicInfo,
    TopicPartitions,
)
from consumer_groups.topics import topic_of_partition
from logstore.errors import LogStoreError

#: None: committed, and durable.
CommitResult = GroupError | LogStoreError | None


class Commits:
    def __init__(self, groups: LiveGroups) -> None:
        self._groups = groups
        self._topics = groups.topics

    async def commit(
        self,
        name: str,
        committer: Committer,
        offsets: Sequence[OffsetCommit],
    ) -> list[CommitResult]:
        if committer.member_id and self._groups.get(name) is None:
            raise UnknownMemberId.without_group(name, committer.member_id, remedy=JOIN_AS_NEW)
        await self._groups.fence_late(name)
        async with self._groups.commit(name) as live:
            live.group.check_committer(committer, self._groups.clock.monotonic_ms())
            results, values = self._check_all(live.group, committer, offsets)
            if not values:
                return results
            changes = [(OffsetKey(name, partition), value) for partition, value in values.items()]
            ticket = live.offsets.ticket()
            written = asyncio.create_task(self._groups.append(changes))
            live.turns.commit_started()
        try:
            await written
            for partition, value in values.items():
                live.offsets.put(partition, value, ticket)
        finally:
            live.turns.commit_ended()
            self._groups.drop_if_blank(live)
        return results

    def _check_all(
        self, group: AnyGroup, committer: Committer, offsets: Sequence[OffsetCommit]
    ) -> tuple[list[CommitResult], dict[Partition, OffsetValue]]:
        now_ms = self._groups.clock.wall_ms()
        results: list[CommitResult] = []
        values = {}
        for commit in offsets:
            try:
                partition = self._check(group, committer, commit)
            except (GroupError, LogStoreError) as error:
                results.append(error)
            else:
                values[partition] = OffsetValue(commit.offset, commit.metadata, now_ms, commit.leader_epoch)
                results.append(None)
        return results, values

    def _check(self, group: AnyGroup, committer: Committer, commit: OffsetCommit) -> Partition:
        info = topic_of_partition(self._topics, commit.topic, commit.topic_id, commit.partition)
        partition = Partition(info.topic_id, commit.partition)
        if commit.offset < 0:
            raise InvalidRequest(
                f"offset {commit.offset} cannot be committed", remedy="Commit the next offset to read, 0 or more."
            )
        metadata_bytes = len(commit.metadata.encode())
        if metadata_bytes > self._groups.config.metadata_bytes_max:
            raise OffsetMetadataTooLarge(
                f"the metadata of a commit has {metadata_bytes} bytes, more than"
                f" {self._groups.config.metadata_bytes_max}",
                remedy="Commit less text, and keep the rest elsewhere.",
            )
        if not group.may_commit(committer, partition):
            if group.withheld([partition]):
                where = "is being sought elsewhere"
            else:
                where = f"is held by {group.owner(partition) or 'nobody'}"
            raise PartitionNotOwned(
                f"{committer.member_id or 'a commit from outside'} may not commit partition {commit.partition} of topic"
                f" {info.name!r} in group {group.name!r}: it {where}",
                remedy="Drop what was read of it: whoever gets the partition goes on from the committed offset.",
            )
        return partition

    async def delete(self, name: str, partitions: Sequence[tuple[str, int]]) -> list[CommitResult]:
        self._groups.existing(name)
        async with self._groups.change(name) as live:
            draft = live.group.copy()
            draft.expire(self._groups.clock.monotonic_ms())
            if draft.members and draft.protocol_type != CONSUMER:
                raise NonEmptyGroup(
                    f"group {name!r} has members ({len(draft.members)}) of protocol type {draft.protocol_type!r}, so "
                    "nobody can say what they read",
                    remedy="Stop its members first.",
                )
            read = draft.subscribed_topics()
            results: list[CommitResult] = []
            dropped = []
            for topic, number in partitions:
                try:
                    info = topic_of_partition(self._topics, topic, None, number)
                    if topic in read:
                        raise GroupSubscribedToTopic(
                            f"group {name!r} reads topic {topic!r}, so what it has committed there is needed",
                            remedy="Stop its members first, or have them read other topics.",
                        )
                except (GroupError, LogStoreError) as error:
                    results.append(error)
                else:
                    partition = Partition(info.topic_id, number)
                    if partition in live.offsets:
                        dropped.append(partition)
                    results.append(None)
            await self._groups.write(live, draft, dropped=dropped)
            return results

    def fetch(self, name: str, partitions: Sequence[TopicPartitions] | None) -> list[CommittedOffset]:
        wanted: list[tuple[TopicInfo, Partition]] = []
        if partitions is None:
            live = self._groups.existing(name)
            for partition in sorted(live.offsets):
                known = self._topics.topic_by_id(partition.topic_id)
                if known is not None:
                    wanted.append((known, partition))
        else:
            for topic in partitions:
                for number in topic.partitions:
                    info = topic_of_partition(self._topics, topic.topic, topic.topic_id, number)
                    wanted.append((info, Partition(info.topic_id, number)))
        return [self._fetched(name, info, partition) for info, partition in wanted]

    def _fetched(self, name: str, info: TopicInfo, partition: Partition) -> CommittedOffset:
        live = self._groups.get(name)
        value = None if live is None else live.offsets.get(partition)
        if value is None:
            return CommittedOffset(info.name, info.topic_id, partition.number, NO_OFFSET)
        return CommittedOffset(
            info.name,
            info.topic_id,
            partition.number,
            value.offset,
            value.metadata,
            value.commit_time_ms,
            value.leader_epoch,
        )
