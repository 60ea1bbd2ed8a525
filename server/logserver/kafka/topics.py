"""Topics made, grown, shortened and deleted: CreateTopics, CreatePartitions, DeleteRecords and DeleteTopics.

Of a request that names several each is answered for itself, in Kafka's order of checks: its name, whether there is one,
its settings, where it is placed, how many partitions it has.
"""

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any
from uuid import UUID

from kio.schema.errors import ErrorCode

from logserver.broker import Broker
from logserver.context import Operation, RequestContext
from logserver.errors import InvalidRequest
from logserver.kafka.errors import InvalidReplicaAssignment, InvalidReplicationFactor, error_code, named_twice, refusal
from logserver.kafka.messages import Fields, Items, milliseconds
from logserver.kafka.primitives import NO_OFFSET, NO_UUID
from logserver.kafka.topic_settings import accepted, described
from logstore.errors import InvalidConfig, InvalidPartitions
from logstore.topics import Topic

#: In the place of a number of partitions or replicas.
DEFAULT = -1
#: Whose records are deleted at the same time, so that one sync is enough for all.
DELETIONS_AT_ONCE = 1000
#: Before this version of DeleteTopics topics are named, and have no ids.
_TOPIC_IDS_FROM = 6


class TopicHandlers:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._topics = broker.topics

    # Made.

    async def create_topics(self, request: Any, context: RequestContext) -> Fields:
        answers = Items.of_answer(request, "topics", self._broker.clock)
        for wanted, refused in _named_once(request.topics):
            answer: Fields
            try:
                if refused is not None:
                    raise refused
                answer = self._create(context, wanted, validate_only=request.validate_only)
            except Exception as error:
                answer = refusal(error) | {"topic_id": NO_UUID, "configs": None}
            await answers.add({"name": wanted.name, **answer})
        return {"topics": answers}

    def _create(self, context: RequestContext, wanted: Any, *, validate_only: bool) -> Fields:
        settings = _settings(wanted.configs)
        self._topics.check_new(context, wanted.name, 0, settings)
        partitions = self._partitions_wanted(wanted)
        if validate_only:
            new = self._topics.check_new(context, wanted.name, partitions, settings)
            topic_id, partitions, config = NO_UUID, new.partitions, new.config
        else:
            topic = self._topics.create(context, wanted.name, partitions, settings)
            topic_id, partitions, config = topic.topic_id, topic.partitions, topic.config
        return {
            "error_code": ErrorCode.none,
            "error_message": None,
            "topic_id": topic_id,
            "num_partitions": partitions,
            "replication_factor": 1,
            "configs": described(config),
        }

    def _partitions_wanted(self, wanted: Any) -> int:
        """0 for the server's default, as `Topics.create` takes it."""
        if wanted.assignments:
            return self._assigned(wanted)
        if wanted.replication_factor not in (DEFAULT, 1):
            raise InvalidReplicationFactor(
                f"topic {wanted.name!r} cannot have {wanted.replication_factor} replicas: there is one broker",
                remedy=f"Give it a replication factor of 1, or {DEFAULT} for the default, which is that.",
            )
        if wanted.num_partitions == DEFAULT:
            return 0
        if wanted.num_partitions < 1:
            raise InvalidPartitions(
                f"topic {wanted.name!r} cannot have {wanted.num_partitions} partitions",
                remedy=f"Give it 1 or more, or {DEFAULT} for the server's default.",
            )
        return int(wanted.num_partitions)

    def _assigned(self, wanted: Any) -> int:
        """The number of partitions that were placed by hand."""
        if wanted.replication_factor != DEFAULT or wanted.num_partitions != DEFAULT:
            raise InvalidRequest(
                f"topic {wanted.name!r} is given partitions that are placed by hand, and a number of partitions or "
                "replicas too",
                remedy=f"Give {DEFAULT} for both numbers: the assignment says them.",
            )
        for each in wanted.assignments:
            self._check_replicas(wanted.name, each.broker_ids)
        numbers = sorted(each.partition_index for each in wanted.assignments)
        if numbers != list(range(len(numbers))):
            raise InvalidReplicaAssignment(
                f"the partitions of topic {wanted.name!r} that are placed by hand are not 0, 1, 2 and so on, each once",
                remedy="Place every partition, beginning with 0, and each of them once.",
            )
        return len(numbers)

    def _check_replicas(self, name: str, broker_ids: Sequence[int]) -> None:
        node_id = self._broker.store.node_id
        if tuple(broker_ids) != (node_id,):
            raise InvalidReplicaAssignment(
                f"a partition of topic {name!r} is placed on the brokers {list(broker_ids)}, and there is {node_id} "
                "alone",
                remedy=f"Place it on {node_id}, or let the server place it.",
            )

    # Grown.

    async def create_partitions(self, request: Any, context: RequestContext) -> Fields:
        answers = Items.of_answer(request, "results", self._broker.clock)
        for wanted, refused in _named_once(request.topics):
            answer: Fields = {"error_code": ErrorCode.none, "error_message": None}
            try:
                if refused is not None:
                    raise refused
                self._grow(context, wanted, validate_only=request.validate_only)
            except Exception as error:
                answer = refusal(error)
            await answers.add({"name": wanted.name, **answer})
        return {"results": answers}

    def _grow(self, context: RequestContext, wanted: Any, *, validate_only: bool) -> None:
        topic = self._topics.find(context, wanted.name, Operation.ALTER)
        self._topics.check_growth(topic, wanted.count)
        if wanted.assignments is not None:
            more = wanted.count - topic.partitions
            if len(wanted.assignments) != more:
                raise InvalidReplicaAssignment(
                    f"topic {wanted.name!r} would get {more} partitions, and {len(wanted.assignments)} are placed by "
                    "hand",
                    remedy="Place each of the new ones, or let the server place them all.",
                )
            for each in wanted.assignments:
                self._check_replicas(wanted.name, each.broker_ids)
        self._topics.alter(
            context,
            wanted.name,
            partitions=wanted.count,
            set_config={},
            unset_config=(),
            validate_only=validate_only,
        )

    # Shortened.

    async def delete_records(self, request: Any, context: RequestContext) -> Fields:
        deadline_ms = self._broker.clock.monotonic_ms() + max(milliseconds(request.timeout), 0)
        context = replace(context, deadline_ms=deadline_ms)
        answers = Items.of_answer(request, "topics", self._broker.clock)
        for topic in request.topics:
            partitions = answers.within("partitions")
            waiting = iter(topic.partitions)
            while some := list(islice(waiting, DELETIONS_AT_ONCE)):
                deletions = []
                for part in some:
                    deletions.append(asyncio.create_task(self._delete_before(context, topic.name, part)))
                    await asyncio.sleep(0)  # one at a time: each takes its turn of the loop
                for answer in await asyncio.gather(*deletions):
                    await partitions.add(answer)
            await answers.add({"name": topic.name, "partitions": partitions})
        return {"topics": answers}

    async def _delete_before(self, context: RequestContext, name: str, part: Any) -> Fields:
        partition = part.partition_index
        try:
            starts = await self._topics.delete_records(context, name, {partition: part.offset})
        except Exception as error:
            return {"partition_index": partition, "low_watermark": NO_OFFSET, "error_code": error_code(error)}
        return {"partition_index": partition, "low_watermark": starts[partition], "error_code": ErrorCode.none}

    # Deleted.

    async def delete_topics(self, request: Any, context: RequestContext) -> Fields:
        answers = Items.of_answer(request, "responses", self._broker.clock)
        if request.__version__ < _TOPIC_IDS_FROM:
            named = Counter((name, NO_UUID) for name in request.topic_names)
        else:
            named = Counter((topic.name, topic.topic_id or NO_UUID) for topic in request.topics)
        for name, topic_id in named:
            answer: Fields
            try:
                topic = await self._delete(context, name, topic_id, named)
                answer = {"error_code": ErrorCode.none, "name": topic.name, "topic_id": topic.topic_id}
            except Exception as error:
                answer = refusal(error) | {"name": name, "topic_id": topic_id}
            await answers.add(answer)
        return {"responses": answers}

    async def _delete(
        self, context: RequestContext, name: str | None, topic_id: UUID, named: Counter[tuple[str | None, UUID]]
    ) -> Topic:
        """named: all that the request names, and how often."""
        if (name is None) == (topic_id == NO_UUID):
            raise InvalidRequest(
                f"a topic to delete has the name {name!r} and the id {topic_id}", remedy="Name it by one of the two."
            )
        other: tuple[str | None, UUID]
        if name is None:
            topic = self._broker.store.topic_by_id(topic_id)
            other = topic.name, NO_UUID
        else:
            topic = self._topics.find(context, name, Operation.DELETE)
            other = None, topic.topic_id
        if named[name, topic_id] > 1 or other in named:
            raise named_twice(f"topic {topic.name!r}")
        await self._topics.delete(context, topic.name, topic.topic_id.bytes)
        return topic


def _named_once(topics: Sequence[Any]) -> Iterator[tuple[Any, InvalidRequest | None]]:
    """Each topic of a request once, with why it is refused if it is there more often."""
    times = Counter(topic.name for topic in topics)
    for topic in {topic.name: topic for topic in topics}.values():
        yield topic, named_twice(f"topic {topic.name!r}") if times[topic.name] > 1 else None


def _settings(configs: Sequence[Any]) -> Fields:
    for each in configs:
        if each.value is None:
            raise InvalidConfig(f"{each.name} is given no value", remedy="Leave it out to have the default.")
    return accepted({each.name: each.value for each in configs})
