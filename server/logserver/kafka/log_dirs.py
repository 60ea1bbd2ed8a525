"""DescribeLogDirs: how large every partition is, and how much room there is (KIP-113, KIP-827)."""

import shutil
from collections.abc import Iterable, Iterator
from typing import Any

from kio.schema.errors import ErrorCode

from logserver.broker import Broker
from logserver.context import Operation, RequestContext, Resource, authorize
from logserver.kafka.messages import Fields, Items
from logstore.errors import LogStoreError, UnknownTopicOrPartition
from logstore.topics import Topic


class LogDirHandlers:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def describe_log_dirs(self, request: Any, context: RequestContext) -> Fields:
        """There is one directory. What is asked for and not in there is left out, as with Kafka: also a partition that
        cannot be opened."""
        authorize(context, Operation.DESCRIBE, Resource.CLUSTER, "")
        results = Items.of_answer(request, "results", self._broker.clock)
        topics = results.within("topics")
        for topic, wanted in self._wanted(request, context):
            partitions = topics.within("partitions")
            for partition in wanted:
                try:
                    log = await self._broker.topics.open_log(topic, partition)
                except LogStoreError:
                    continue
                await partitions.add(
                    {
                        "partition_index": partition,
                        "partition_size": log.size_bytes,
                        # Of a replica behind its leader, and of a copy that is being moved.
                        "offset_lag": 0,
                        "is_future_key": False,
                    }
                )
            if len(partitions):
                await topics.add({"name": topic.name, "partitions": partitions})
        disk = shutil.disk_usage(self._broker.config.data_dir)
        await results.add(
            {
                "error_code": ErrorCode.none,
                "log_dir": str(self._broker.config.data_dir.absolute()),
                "topics": topics,
                "total_bytes": disk.total,
                "usable_bytes": disk.free,
                "is_cordoned": False,
            }
        )
        return {"results": results}

    def _wanted(self, request: Any, context: RequestContext) -> Iterator[tuple[Topic, Iterable[int]]]:
        if request.topics is None:
            for topic in self._broker.topics.listed(context, include_internal=True):
                yield topic, range(topic.partitions)
            return
        wanted: dict[str, set[int]] = {}
        for each in request.topics:
            wanted.setdefault(each.topic, set()).update(each.partitions)
        for name, partitions in wanted.items():
            try:
                topic = self._broker.topics.find(context, name, Operation.DESCRIBE)
            except UnknownTopicOrPartition:
                continue
            yield topic, sorted(partition for partition in partitions if 0 <= partition < topic.partitions)
