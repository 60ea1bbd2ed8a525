"""How far groups have read: OffsetCommit, OffsetFetch, OffsetDelete."""

from collections.abc import Sequence
from typing import Any

from kio.schema.errors import ErrorCode

from consumer_groups.coordinator import GroupCoordinator
from consumer_groups.errors import GroupIdNotFound, NonEmptyGroup
from consumer_groups.requests import OUTSIDE_EPOCH, CommittedOffset, Committer, OffsetCommit, TopicPartitions
from logserver.context import Operation, RequestContext, Resource, authorize
from logserver.errors import RequestTooLarge
from logserver.kafka.errors import error_code
from logserver.kafka.messages import Fields, Items, get
from logserver.kafka.primitives import NO_OFFSET
from logserver.time_slice import TimeSlice
from logstore.clock import Clock
from logstore.errors import ExplainedError, UnknownTopicId, UnknownTopicOrPartition


class GroupOffsetHandlers:
    def __init__(self, groups: GroupCoordinator, clock: Clock) -> None:
        self._groups = groups
        self._clock = clock

    async def offset_commit(self, request: Any, context: RequestContext) -> Fields:
        authorize(context, Operation.READ, Resource.GROUP, request.group_id)
        offsets = [
            OffsetCommit(
                topic=get(topic, "name", ""),
                topic_id=get(topic, "topic_id", None),
                partition=part.partition_index,
                offset=part.committed_offset,
                metadata=part.committed_metadata or "",
                leader_epoch=get(part, "committed_leader_epoch", -1),
            )
            for topic in request.topics
            for part in topic.partitions
        ]
        try:
            results: Sequence[Exception | None] = await self._groups.commit_offsets(
                request.group_id, _committer(request), offsets
            )
        except ExplainedError as refused:
            results = [refused] * len(offsets)
        codes = iter(_commit_code(result) for result in results)
        return {
            "topics": [
                _named(topic)
                | {
                    "partitions": [
                        {"partition_index": part.partition_index, "error_code": next(codes)}
                        for part in topic.partitions
                    ]
                }
                for topic in request.topics
            ]
        }

    async def offset_fetch(self, request: Any, context: RequestContext) -> Fields:
        """Of many groups from version 8 on, of one before."""
        groups = get(request, "groups", None)
        if groups is None:
            return await self._fetch(request, context, Items.of_answer(request, "topics", self._clock))
        fetched = Items.of_answer(request, "groups", self._clock)
        for group in groups:
            await fetched.add(await self._fetch(group, context, fetched.within("topics")))
        return {"groups": fetched}

    async def _fetch(self, request: Any, context: RequestContext, topics: Items) -> Fields:
        """topics: of the answer, with nothing in it yet."""
        authorize(context, Operation.DESCRIBE, Resource.GROUP, request.group_id)
        answer: dict[str, Any] = {"group_id": request.group_id, "topics": topics, "error_code": ErrorCode.none}
        try:
            self._groups.check_fetcher(
                request.group_id, get(request, "member_id", None), get(request, "member_epoch", OUTSIDE_EPOCH)
            )
            if request.topics is None:
                for found in await self._fetch_all(request.group_id):
                    await topics.add(found)
            else:
                time_slice = TimeSlice(self._clock)
                for topic in request.topics:
                    await topics.add(await self._fetch_topic(request.group_id, topic, time_slice))
        except RequestTooLarge:  # of this answer, which has no end
            raise
        except ExplainedError as refused:
            return answer | {"topics": (), "error_code": error_code(refused)}
        return answer

    async def _fetch_all(self, group: str) -> list[Fields]:
        try:
            committed = await self._groups.fetch_offsets(group, None)
        except GroupIdNotFound:
            return []
        topics: dict[str, list[CommittedOffset]] = {}
        for offset in committed:
            topics.setdefault(offset.topic, []).append(offset)
        return [
            {"name": name, "topic_id": offsets[0].topic_id, "partitions": [_committed(offset) for offset in offsets]}
            for name, offsets in topics.items()
        ]

    async def _fetch_topic(self, group: str, topic: Any, time_slice: TimeSlice) -> Fields:
        partitions = []
        for number in topic.partition_indexes:
            await time_slice.give_way()
            wanted = TopicPartitions(get(topic, "name", ""), get(topic, "topic_id", None), (number,))
            try:
                [offset] = await self._groups.fetch_offsets(group, [wanted])
                partitions.append(_committed(offset))
            except UnknownTopicId as unknown:
                partitions.append(_nothing(number, error_code(unknown)))
            except UnknownTopicOrPartition:
                # As Kafka: of what is not there nothing was committed.
                partitions.append(_nothing(number, ErrorCode.none))
        return _named(topic) | {"partitions": partitions}

    async def offset_delete(self, request: Any, context: RequestContext) -> Fields:
        authorize(context, Operation.DELETE, Resource.GROUP, request.group_id)
        wanted = [(topic.name, part.partition_index) for topic in request.topics for part in topic.partitions]
        try:
            results = iter(await self._groups.delete_offsets(request.group_id, wanted))
        except ExplainedError as refused:
            return {"error_code": error_code(refused), "topics": ()}
        return {
            "topics": [
                {
                    "name": topic.name,
                    "partitions": [
                        {"partition_index": part.partition_index, "error_code": _code(next(results))}
                        for part in topic.partitions
                    ],
                }
                for topic in request.topics
            ]
        }


def _committer(request: Any) -> Committer:
    return Committer(
        request.member_id,
        get(request, "generation_id_or_member_epoch", OUTSIDE_EPOCH),
        instance_id=get(request, "group_instance_id", None) or "",
    )


def _named(topic: Any) -> dict[str, Any]:
    return {"name": get(topic, "name", ""), "topic_id": get(topic, "topic_id", None)}


def _committed(offset: CommittedOffset) -> Fields:
    return {
        "partition_index": offset.partition,
        "committed_offset": offset.offset,
        "committed_leader_epoch": offset.leader_epoch,
        "metadata": offset.metadata,
        "error_code": ErrorCode.none,
    }


def _nothing(partition: int, code: ErrorCode) -> Fields:
    return {
        "partition_index": partition,
        "committed_offset": NO_OFFSET,
        "committed_leader_epoch": -1,
        "metadata": "",
        "error_code": code,
    }


def _code(result: Exception | None) -> ErrorCode:
    return ErrorCode.none if result is None else error_code(result)


def _commit_code(result: Exception | None) -> ErrorCode:
    if isinstance(result, NonEmptyGroup):
        # What Kafka says to a commit from outside of a group that has members.
        return ErrorCode.unknown_member_id
    return _code(result)
