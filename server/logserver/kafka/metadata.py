"""What there is: the cluster of one node, its topics and partitions, and the APIs that it speaks."""

import re
from collections.abc import Iterable
from enum import IntEnum
from typing import Any
from uuid import UUID

from kio.schema.errors import ErrorCode

from logserver.broker import Broker
from logserver.config import Address
from logserver.context import Operation, RequestContext, Resource, authorize
from logserver.kafka.apis import API_VERSIONS, FIRST_VERSION_TOLD
from logserver.kafka.errors import error_code
from logserver.kafka.messages import Fields, Items, get
from logserver.kafka.primitives import NO_UUID
from logstore.errors import LogStoreError, UnknownTopicId, UnknownTopicOrPartition
from logstore.topic_name import check_topic_name
from logstore.topics import Topic

_NONE_IF_EMPTY_FROM = 1
#: One request makes no more topics than this, which takes some hundred milliseconds. Of others its client is told that
#: they have no leader yet, as of topics that are just being made, and asks again.
CREATED_MAX = 100
#: Of one answer to DescribeTopicPartitions, whatever is asked for: Kafka's max.request.partition.size.limit.
PARTITIONS_PER_ANSWER_MAX = 2000


class EndpointType(IntEnum):
    """Whom DescribeCluster asks for (KIP-919). Controllers have ports of their own, and we have none."""

    BROKER = 1
    CONTROLLER = 2


class _Operation(IntEnum):
    """Kafka's AclOperation: the bit of each in a field of authorized operations (KIP-430)."""

    READ = 3
    WRITE = 4
    CREATE = 5
    DELETE = 6
    ALTER = 7
    DESCRIBE = 8
    CLUSTER_ACTION = 9
    DESCRIBE_CONFIGS = 10
    ALTER_CONFIGS = 11
    IDEMPOTENT_WRITE = 12


def _bits(*operations: _Operation) -> int:
    return sum(1 << operation for operation in operations)


#: Everybody may do everything, see `authorize`: these are the operations that the resources have.
_ON_CLUSTER = _bits(
    _Operation.CREATE,
    _Operation.ALTER,
    _Operation.DESCRIBE,
    _Operation.CLUSTER_ACTION,
    _Operation.DESCRIBE_CONFIGS,
    _Operation.ALTER_CONFIGS,
    _Operation.IDEMPOTENT_WRITE,
)
_ON_TOPIC = _bits(
    _Operation.READ,
    _Operation.WRITE,
    _Operation.CREATE,
    _Operation.DELETE,
    _Operation.ALTER,
    _Operation.DESCRIBE,
    _Operation.DESCRIBE_CONFIGS,
    _Operation.ALTER_CONFIGS,
)
#: Of an answer that was not asked for them.
_NOT_ASKED_FOR = -(2**31)


#: What a client's software may be called (KIP-511).
_SOFTWARE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?")


class MetadataHandlers:
    def __init__(self, broker: Broker, advertised: Address) -> None:
        self._broker = broker
        self._advertised = advertised

    async def api_versions(self, request: Any, context: RequestContext) -> Fields:
        if not all(_SOFTWARE.fullmatch(each) for each in _software(request)):
            return api_versions(ErrorCode.invalid_request)
        return api_versions()

    async def metadata(self, request: Any, context: RequestContext) -> Fields:
        with_operations = get(request, "include_topic_authorized_operations", False)
        topics = TopicAnswers(self._broker, request, with_operations=with_operations)
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
            "brokers": [{"node_id": self._broker.store.node_id, **self._place()}],
            "cluster_id": self._broker.store.cluster_id,
            "controller_id": self._broker.store.node_id,
            "topics": topics.answers,
            "cluster_authorized_operations": _cluster_operations(request),
        }

    async def describe_cluster(self, request: Any, context: RequestContext) -> Fields:
        authorize(context, Operation.DESCRIBE, Resource.CLUSTER, "")
        endpoint_type = get(request, "endpoint_type", EndpointType.BROKER)
        answer: Fields = {
            "endpoint_type": endpoint_type,
            "cluster_id": self._broker.store.cluster_id,
            "controller_id": self._broker.store.node_id,
            "brokers": [{"broker_id": self._broker.store.node_id, "is_fenced": False, **self._place()}],
            "cluster_authorized_operations": _cluster_operations(request),
        }
        if endpoint_type == EndpointType.BROKER:
            return answer
        is_known = endpoint_type == EndpointType.CONTROLLER
        return {
            **answer,
            "error_code": ErrorCode.mismatched_endpoint_type if is_known else ErrorCode.unsupported_endpoint_type,
            "error_message": f"endpoints of type {endpoint_type} are asked for, and this one is of type "
            f"{EndpointType.BROKER}: a broker. Connect with --bootstrap-server, not with --bootstrap-controller.",
            "brokers": (),
        }

    async def describe_topic_partitions(self, request: Any, context: RequestContext) -> Fields:
        """Topics by name, from the cursor on, and no more partitions than are asked for (KIP-966). The next cursor
        says where to go on."""
        cursor = request.cursor
        topics = TopicAnswers(self._broker, request, with_operations=True)
        if request.topics:
            names = sorted({topic.name for topic in request.topics})
            if cursor is not None and (cursor.topic_name not in names or cursor.partition_index < 0):
                # There is no room for an error of the whole answer.
                for name in names:
                    await topics.refuse(ErrorCode.invalid_request, name, NO_UUID)
                return {"topics": topics.answers, "next_cursor": None}
        else:
            names = [topic.name for topic in self._broker.topics.listed(context, include_internal=True)]
        first = 0
        if cursor is not None:
            names = [name for name in names if name >= cursor.topic_name]
            first = max(cursor.partition_index, 0) if cursor.topic_name in names else 0
        left = max(min(request.response_partition_limit, PARTITIONS_PER_ANSWER_MAX), 1)
        for name in names:
            if left == 0:
                return {"topics": topics.answers, "next_cursor": {"topic_name": name, "partition_index": 0}}
            told, partitions = await topics.add_part(context, name, first, left)
            if first + told < partitions:
                next_cursor = {"topic_name": name, "partition_index": first + told}
                return {"topics": topics.answers, "next_cursor": next_cursor}
            left -= told
            first = 0
        return {"topics": topics.answers, "next_cursor": None}

    def _place(self) -> Fields:
        return {"host": self._advertised.host, "port": self._advertised.port}


def _software(request: Any) -> tuple[str, ...]:
    """Name and version of the client's software, from version 3 on."""
    name = get(request, "client_software_name", None)
    return () if name is None else (name, request.client_software_version)


def api_versions(code: ErrorCode = ErrorCode.none) -> Fields:
    return {
        "error_code": code,
        "api_keys": [
            {
                "api_key": int(key),
                "min_version": FIRST_VERSION_TOLD.get(key, versions[0]),
                "max_version": versions[-1],
            }
            for key, versions in sorted(API_VERSIONS.items())
        ],
    }


def asks_for_all(request: Any) -> bool:
    """An empty list was all of them in version 0, and is none since."""
    if request.topics is None:
        return True
    return request.__version__ < _NONE_IF_EMPTY_FROM and not request.topics


def makes_topics(request: Any, broker: Broker) -> bool:
    """Whether a request for metadata names topics that it makes."""
    if not (broker.config.auto_create_topics and get(request, "allow_auto_topic_creation", True)):
        return False
    try:
        for topic in request.topics or ():
            if topic.name is not None:
                broker.store.topic(topic.name)
    except UnknownTopicOrPartition:
        return True
    return False


def _cluster_operations(request: Any) -> int:
    return _ON_CLUSTER if get(request, "include_cluster_authorized_operations", False) else _NOT_ASKED_FOR


class TopicAnswers:
    """The topics of one answer, which may be ten thousands, and each may have as many partitions."""

    def __init__(self, broker: Broker, request: Any, *, with_operations: bool) -> None:
        self.answers = Items.of_answer(request, "topics", broker.clock)
        self._broker = broker
        self._with_operations = with_operations
        self._created = 0

    async def add_all(self, topics: Iterable[Topic]) -> None:
        for topic in topics:
            await self._add(topic, range(topic.partitions))

    async def add_by_name(self, context: RequestContext, name: str, *, create: bool) -> None:
        try:
            topic = self._broker.topics.find(context, name, Operation.DESCRIBE)
        except UnknownTopicOrPartition as unknown:
            if not (create and self._broker.config.auto_create_topics):
                await self.refuse(error_code(unknown), name, NO_UUID)
                return
            if self._created == CREATED_MAX:
                await self.refuse(ErrorCode.leader_not_available, name, NO_UUID)
                return
            self._created += 1
            try:
                topic = self._broker.topics.create(context, name, 0, {})
            except LogStoreError as error:
                await self.refuse(error_code(error), name, NO_UUID)
                return
        await self._add(topic, range(topic.partitions))

    async def add_by_id(self, context: RequestContext, topic_id: UUID) -> None:
        try:
            topic = self._broker.store.topic_by_id(topic_id)
        except UnknownTopicId as error:
            await self.refuse(error_code(error), None, topic_id)
            return
        await self._add(topic, range(topic.partitions))

    async def add_part(self, context: RequestContext, name: str, first: int, most: int) -> tuple[int, int]:
        """Up to so many partitions of a topic. Returns how many are told, and how many the topic has."""
        try:
            check_topic_name(name)
            topic = self._broker.topics.find(context, name, Operation.DESCRIBE)
        except LogStoreError as error:
            await self.refuse(error_code(error), name, NO_UUID)
            return 0, 0
        part = range(topic.partitions)[first : first + most]
        await self._add(topic, part)
        return len(part), topic.partitions

    async def refuse(self, code: ErrorCode, name: str | None, topic_id: UUID) -> None:
        await self.answers.add({"error_code": code, "name": name, "topic_id": topic_id, "partitions": ()})

    async def _add(self, topic: Topic, numbers: range) -> None:
        partitions = self.answers.within("partitions")
        nodes = (self._broker.store.node_id,)
        for number in numbers:
            await partitions.add(
                {
                    "error_code": ErrorCode.none,
                    "partition_index": number,
                    "leader_id": self._broker.store.node_id,
                    "leader_epoch": self._broker.store.leader_epoch,
                    "replica_nodes": nodes,
                    "isr_nodes": nodes,
                    "eligible_leader_replicas": (),
                    "last_known_elr": (),
                    "offline_replicas": (),
                }
            )
        await self.answers.add(
            {
                "error_code": ErrorCode.none,
                "name": topic.name,
                "topic_id": topic.topic_id,
                "is_internal": topic.internal,
                "partitions": partitions,
                "topic_authorized_operations": _ON_TOPIC if self._with_operations else _NOT_ASKED_FOR,
            }
        )
