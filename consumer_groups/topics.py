"""From names and ids of topics to partitions, and back."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from uuid import UUID

from consumer_groups.requests import Assignment, Partition, TopicInfo, TopicPartitions
from consumer_groups.surroundings import TopicDirectory
from logstore.errors import UnknownTopicId, UnknownTopicOrPartition

#: A look at a partition takes some microseconds, and the first after a start waits for its log to be opened.
LOOKS_AT_ONCE = 10


async def giving_way(partitions: Iterable[Partition]) -> AsyncIterator[Partition]:
    """The partitions, to look at their logs, with others let run in between: there may be thousands."""
    for count, partition in enumerate(partitions, 1):
        yield partition
        if count % LOOKS_AT_ONCE == 0:
            await asyncio.sleep(0)


def existing_topic(topics: TopicDirectory, name: str) -> TopicInfo:
    info = topics.topic(name)
    if info is None:
        raise UnknownTopicOrPartition(
            f"there is no topic {name!r}", remedy="See the topics there are: logctl topics list."
        )
    return info


def topic_of_partition(topics: TopicDirectory, name: str, topic_id: UUID | None, number: int) -> TopicInfo:
    """The topic that is meant, by name, by id or by both, which has a partition of that number."""
    if not name and topic_id is not None:
        by_id = topics.topic_by_id(topic_id)
        if by_id is None:
            raise UnknownTopicId(
                f"there is no topic with id {topic_id}", remedy="Look the topic up again: it was deleted."
            )
        info = by_id
    else:
        info = existing_topic(topics, name)
    if topic_id is not None and info.topic_id != topic_id:
        raise UnknownTopicId(
            f"topic {name!r} has id {info.topic_id}, not {topic_id}: it was deleted and made again",
            remedy="Drop what was read of the old one, and look the topic up again.",
        )
    check_partition(info, number)
    return info


def check_partition(topic: TopicInfo, number: int) -> None:
    if not 0 <= number < topic.partitions:
        raise UnknownTopicOrPartition(
            f"topic {topic.name!r} has no partition {number}: it has {topic.partitions}, numbered from 0",
            remedy="Name a partition that it has.",
        )


def by_topic(topics: TopicDirectory, assignment: Assignment) -> tuple[TopicPartitions, ...]:
    """An assignment as it is told, by name and number. A topic that was deleted is left out: nobody can read it."""
    numbers: dict[TopicInfo, list[int]] = {}
    for partition in sorted(assignment):
        info = topics.topic_by_id(partition.topic_id)
        if info is not None:
            numbers.setdefault(info, []).append(partition.number)
    return tuple(
        TopicPartitions(info.name, info.topic_id, tuple(numbers[info]))
        for info in sorted(numbers, key=lambda info: info.name)
    )
