"""A group as it is shown to people: its members, and how far behind it is in every partition."""

from consumer_groups.classic.group import ClassicGroup
from consumer_groups.classic.requests import ClassicGroupDescription, ClassicMemberDescription
from consumer_groups.errors import GroupIdNotFound
from consumer_groups.group import Group
from consumer_groups.lag import lags
from consumer_groups.live import LiveGroup
from consumer_groups.requests import (
    NO_OFFSET,
    GroupDescription,
    GroupListing,
    GroupState,
    MemberDescription,
    Partition,
    PartitionLag,
    TopicInfo,
)
from consumer_groups.surroundings import TopicDirectory
from consumer_groups.topics import by_topic


def listing(live: LiveGroup) -> GroupListing:
    group = live.group
    return GroupListing(
        live.name, group.state, len(group.members), isinstance(group, ClassicGroup), group.protocol_type
    )


def describe_classic(live: LiveGroup) -> ClassicGroupDescription:
    """The group as Kafka's DescribeGroups has it. One that only has offsets is an empty classic group. Raises
    GroupIdNotFound for one whose members use the consumer group protocol."""
    group = live.group
    if not isinstance(group, ClassicGroup):
        if group.members:
            raise GroupIdNotFound(
                f"group {group.name!r} is no classic group: its members use server-side assignment (KIP-848)",
                remedy="Describe it with ConsumerGroupDescribe, or with logctl groups describe.",
            )
        return ClassicGroupDescription(group.name, GroupState.EMPTY, group.protocol_type, "", ())
    is_stable = group.state is GroupState.STABLE
    return ClassicGroupDescription(
        group.name,
        group.state,
        group.protocol_type,
        group.protocol if is_stable else "",
        tuple(
            ClassicMemberDescription(
                member_id,
                member.instance_id,
                member.client_id,
                member.client_host,
                member.metadata(group.protocol) if is_stable else b"",
                member.assignment if is_stable else b"",
            )
            for member_id, member in group.members.items()
        ),
    )


async def describe(live: LiveGroup, topics: TopicDirectory, now_ms: int) -> GroupDescription:
    """The group as it is when this is called. now_ms is wall time."""
    group = live.group
    partitions = {Partition(info.topic_id, number): info for info, number in _partitions(live, topics)}
    committed = {partition: live.committed(partition) for partition in partitions}
    owners = dict(group.owners())
    described = describe_members(live, topics)
    lag = await lags(topics, committed, now_ms)
    return described._replace(
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
                member_id=owners.get(partition, ""),
            )
            for partition, info in partitions.items()
            if partition in lag
        ),
    )


def describe_members(live: LiveGroup, topics: TopicDirectory) -> GroupDescription:
    """Without the partitions, whose logs have to be looked at."""
    group = live.group
    if isinstance(group, ClassicGroup):
        members = _classic_members(group, topics)
        epoch = assignment_epoch = group.generation
        assignor = group.protocol
    else:
        assert isinstance(group, Group), "there are two kinds"
        members = _members(group, topics)
        epoch, assignment_epoch, assignor = group.epoch, group.assignment_epoch, group.assignor
    return GroupDescription(
        group=group.name,
        state=group.state,
        group_epoch=epoch,
        assignment_epoch=assignment_epoch,
        assignor=assignor,
        members=members,
        partitions=(),
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


def _classic_members(group: ClassicGroup, topics: TopicDirectory) -> tuple[MemberDescription, ...]:
    held: dict[str, set[Partition]] = {}
    for partition, member_id in group.owners().items():
        held.setdefault(member_id, set()).add(partition)
    return tuple(
        MemberDescription(
            member_id=member_id,
            instance_id=member.instance_id,
            client_id=member.client_id,
            client_host=member.client_host,
            member_epoch=group.generation,
            state="rejoining" if group.waits_for(member_id) else "stable",
            subscribed_topics=tuple(sorted(group.subscribed(member_id))),
            assignment=by_topic(topics, assignment),
            target=by_topic(topics, assignment),
        )
        for member_id, member in sorted(group.members.items())
        for assignment in [frozenset(held.get(member_id, ()))]
    )


def _partitions(live: LiveGroup, topics: TopicDirectory) -> list[tuple[TopicInfo, int]]:
    """All of the topics that members read, and of others those with an offset."""
    read = live.group.subscribed_topics()
    found = [topics.topic(name) for name in read]
    found += [topics.topic_by_id(topic_id) for topic_id in live.offsets.topic_ids()]
    infos = {info.name: info for info in found if info is not None}
    return [
        (info, number)
        for name, info in sorted(infos.items())
        for number in range(info.partitions)
        if name in read or live.committed(Partition(info.topic_id, number)) is not None
    ]
