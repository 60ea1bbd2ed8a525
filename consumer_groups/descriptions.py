"""A group as it is shown to people: its members, and how far behind it is in every partition."""

from consumer_groups.lag import lag
from consumer_groups.live import LiveGroup
from consumer_groups.protocols import TopicDirectory
from consumer_groups.requests import NO_OFFSET, GroupDescription, MemberDescription, Partition, PartitionLag, TopicInfo
from consumer_groups.topics import by_topic


def describe(live: LiveGroup, topics: TopicDirectory, now_ms: int) -> GroupDescription:
    """now_ms is wall time."""
    group = live.group
    return GroupDescription(
        group=group.name,
        state=group.state,
        group_epoch=group.epoch,
        assignment_epoch=group.assignment_epoch,
        assignor=group.assignor,
        members=tuple(
            MemberDescription(
                member_id=member_id,
                instance_id=member.profile.instance_id,
                client_id=member.profile.client_id,
                client_host=member.profile.client_host,
                member_epoch=member.holding.epoch,
                state="away" if member.holding.away else member.holding.state.value,
                subscribed_topics=member.profile.topics,
                assignment=by_topic(topics, member.holding.assigned | member.holding.revoking),
                target=by_topic(topics, group.target(member_id)),
            )
            for member_id, member in sorted(group.members.items())
        ),
        partitions=tuple(_lag(live, topics, info, number, now_ms) for info, number in _partitions(live, topics)),
    )


def _partitions(live: LiveGroup, topics: TopicDirectory) -> list[tuple[TopicInfo, int]]:
    """All of the topics that members read, and of others those with an offset."""
    read = {name for member in live.group.members.values() for name in member.profile.topics}
    found = [topics.topic(name) for name in read]
    found += [topics.topic_by_id(topic_id) for topic_id in live.offsets.topic_ids()]
    infos = {info.name: info for info in found if info is not None}
    return [
        (info, number)
        for name, info in sorted(infos.items())
        for number in range(info.partitions)
        if name in read or live.committed(Partition(info.topic_id, number)) is not None
    ]


def _lag(live: LiveGroup, topics: TopicDirectory, info: TopicInfo, number: int, now_ms: int) -> PartitionLag:
    partition = Partition(info.topic_id, number)
    committed = live.committed(partition)
    readable = topics.offset_range(*partition)
    records, seconds = lag(topics, partition, committed, now_ms)
    return PartitionLag(
        topic=info.name,
        topic_id=info.topic_id,
        partition=number,
        committed_offset=NO_OFFSET if committed is None else committed,
        log_start_offset=readable.log_start_offset,
        high_watermark=readable.high_watermark,
        lag_records=records,
        lag_seconds=seconds,
        member_id=live.group.owner(partition) or "",
    )
