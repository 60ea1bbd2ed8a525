"""What there is: the cluster of one node, its topics and partitions, and the APIs that it speaks."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from kio.schema.errors import ErrorCode

from logserver.broker import Broker
from logserver.config import Address
from logserver.context import Operation, RequestContext
from logserver.kafka.apis import API_VERSIONS
from logserver.kafka.errors import error_code
from logserver.kafka.messages import Fields, get
from logserver.kafka.primitives import NO_UUID
from logserver.time_slice import TimeSlice
from logstore.errors import LogStoreError, UnknownTopicId, UnknownTopicOrPartition
from logstore.topics import Topic

#: Before this version of Metadata an empty list of topics meant all of them.
_NONE_IF_EMPTY_FROM = 1


class MetadataHandlers:
    def __init__(self, broker: Broker, advertised: Address) -> None:
        self._broker = broker
        self._advertised = advertised

    async def api_versions(self, request: Any, context: RequestContext) -> Fields:
        return api_versions()

    async def metadata(self, request: Any, context: RequestContext) -> Fields:
        topics = TopicAnswers(self._broker)
        if asks_for_all(request):
            found = self._broker.topics.listed(context, include_internal=True)
            await topics.add_all(found)
        else:
            for wanted in request.topics:
                topic_id = get(wanted, "topic_id", None)
                if topic_id is not None and wanted.name is None:
                    await topics.add_by_id(context, topic_id)
                else:
                    create = get(request, "allow_auto_topic_creation", True)
                    await topics.add_by_name(context, wanted.name or "", create=create)
        return {
            "brokers": [self._node()],
            "cluster_id": self._broker.store.cluster_id,
            "controller_id": self._broker.store.node_id,
            "topics": topics.answers,
        }

    def _node(self) -> Fields:
        return {"node_id": self._broker.store.node_id, "host": self._advertised.host, "port": self._advertised.port}


def api_versions(code: ErrorCode = ErrorCode.none) -> Fields:
    return {
        "error_code": code,
        "api_keys": [
            {"api_key": int(key), "min_version": versions[0], "max_version": versions[-1]}
            for key, versions in sorted(API_VERSIONS.items())
        ],
    }


def asks_for_all(request: Any) -> bool:
    """An empty list was all of them in version 0, and is none since."""
    if request.topics is None:
        return True
    return request.__version__ < _NONE_IF_EMPTY_FROM and not request.topics


class TopicAnswers:
    """The topics of one answer, which may be ten thousands."""

    def __init__(self, broker: Broker) -> None:
        self.answers: list[Fields] = []
        self._broker = broker
        self._time_slice = TimeSlice(broker.clock)

    async def add_all(self, topics: Iterable[Topic]) -> None:
        for topic in topics:
            await self._add(topic)

    async def add_by_name(self, context: RequestContext, name: str, *, create: bool) -> None:
        try:
            topic = self._broker.topics.find(context, name, b"", Operation.DESCRIBE)
        except UnknownTopicOrPartition as unknown:
            if not (create and self._broker.config.auto_create_topics):
                self._refuse(unknown, name, NO_UUID)
                return
            try:
                topic = self._broker.topics.create(context, name, 0, {})
            except LogStoreError as error:
                self._refuse(error, name, NO_UUID)
                return
        await self._add(topic)

    async def add_by_id(self, context: RequestContext, topic_id: UUID) -> None:
        try:
            topic = self._broker.store.topic_by_id(topic_id)
        except UnknownTopicId as error:
            self._refuse(error, None, topic_id)
            return
        await self._add(topic)

    def _refuse(self, error: LogStoreError, name: str | None, topic_id: UUID) -> None:
        self.answers.append({"error_code": error_code(error), "name": name, "topic_id": topic_id, "partitions": ()})

    async def _add(self, topic: Topic) -> None:
        await self._time_slice.give_way()
        self.answers.append(
            {
                "error_code": ErrorCode.none,
                "name": topic.name,
                "topic_id": topic.topic_id,
                "is_internal": topic.internal,
                "partitions": _partitions(
                    topic.partitions, self._broker.store.node_id, self._broker.store.leader_epoch
                ),
            }
        )


def _partitions(count: int, node_id: int, leader_epoch: int) -> Sequence[Fields]:
    return [
        {
            "error_code": ErrorCode.none,
            "partition_index": number,
            "leader_id": node_id,
            "leader_epoch": leader_epoch,
            "replica_nodes": (node_id,),
            "isr_nodes": (node_id,),
            "offline_replicas": (),
        }
        for number in range(count)
    ]
