"""A group as it is shown to people: its members, and how far behind it is in every partition."""

from consumer_groups.group import Group
from consumer_groups.lag import lags
from consumer_groups.live import LiveGroup
from consumer_groups.requests import NO_OFFSET, GroupDescription, MemberDescription, Partition, PartitionLag, TopicInfo
from consumer_groups.surroundings import TopicDirectory
from consumer_groups.topics import by_topic


async def describe(live: LiveGroup, topics: TopicDirectory, now_ms: int) -> GroupDescription:
    """The group as it is when this is called. now_ms is wall time."""
    group = live.group
    partitions = {Partition(info.topic_id, number): info for info, number in _partitions(live, topics)}
    committed = {partition: live.committed(partition) for partition in partitions}
    members = _members(group, topics)
    lag = await lags(topics, committed, now_ms)
    return GroupDescription(
        group=group.name,
        state=group.state,
        group_epoch=group.epoch,
        assignment_epoch=group.assignment_epoch,
        assignor=group.assignor,
        members=members,
        partitions=tuple(
            PartitionLag(
                topic=info.name,
                topic_id=info.topic_id,
                partition=partition.number,
                committed_offset=NO_OFFSET if (offset := committed[partition]) is None else offset,
                log_start_offset=lag[partition].readable.log_start_offset,
                high_watermark=lag[partition].readable.high_watermark,
                lag_records=lag[partition].records,
                lag_seconds=lag[partition].seconds,
                member_id=group.owner(partition) or "",
            )
            for partition, info in partitions.items()
            if partition in lag
        ),
    )


def _members(group: Group, topics: TopicDirectory) -> tuple[MemberDescription, ...]:
    return tuple(
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
