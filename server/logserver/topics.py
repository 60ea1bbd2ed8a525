"""Topics as clients ask for them: found, created on demand, listed, altered, deleted."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple
from uuid import UUID

import structlog

from logserver.context import SERVER_ITSELF, Operation, RequestContext, Resource, authorize
from logserver.damage import DamageMet
from logserver.errors import InternalTopic, InvalidPartitionNumber, InvalidRequest, RequestTimedOut
from logserver.openings import Openings
from logserver.time_slice import TimeSlice
from logserver.waiters import HighWatermarkWaiters
from logstore.clock import Clock
from logstore.config import PARTITIONS_MAX, TopicConfig
from logstore.errors import (
    DataLoss,
    InvalidConfig,
    InvalidPartitions,
    InvalidTopicName,
    LogStoreError,
    UnknownTopicId,
    UnknownTopicOrPartition,
)
from logstore.log import Log
from logstore.topics import Topic, TopicStore

logger = structlog.get_logger()

#: Names of the server's own topics begin so.
INTERNAL_PREFIX = "__"
#: What a request has beside one batch: names, ids and lengths.
REQUEST_OVERHEAD_BYTES = 1024


def parse_topic_id(topic_id: bytes) -> UUID:
    """Raises InvalidRequest."""
    if len(topic_id) != 16:
        raise InvalidRequest(f"a topic id has 16 bytes, and {len(topic_id)} were given", remedy="Send it as got.")
    return UUID(bytes=topic_id)


class NewTopic(NamedTuple):
    """A topic as it would be made."""

    partitions: int
    config: TopicConfig


class Topics:
    def __init__(
        self,
        store: TopicStore,
        openings: Openings,
        waiters: HighWatermarkWaiters,
        clock: Clock,
        *,
        auto_create: bool,
        default_partitions: int,
        timeout_ms: int,
        request_bytes_max: int,
        changed: Callable[[], None],
    ) -> None:
        """timeout_ms bounds every wait for the disk, request_bytes_max what a client can send at once. changed is
        called whenever a topic was created, deleted or given partitions."""
        self._store = store
        self._openings = openings
        self._waiters = waiters
        self._clock = clock
        self._timeout_ms = timeout_ms
        self._request_bytes_max = request_bytes_max
        self._auto_create = auto_create
        self._default_partitions = default_partitions
        self._changed = changed
        #: Told by all who meet it.
        self.damage = DamageMet()

    # Found.

    def find(self, context: RequestContext, name: str, operation: Operation, topic_id: bytes = b"") -> Topic:
        """The topic of that name and, when topic_id is not empty, of that identity.

        Raises UnknownTopicOrPartition, or UnknownTopicId for a topic that was deleted or made again.
        """
        authorize(context, operation, Resource.TOPIC, name)
        try:
            topic = self._store.topic(name)
        except UnknownTopicOrPartition:
            if not topic_id:
                raise
            raise self._unknown_id(name, topic_id, "it was deleted") from None
        if topic_id and topic.topic_id.bytes != topic_id:
            raise self._unknown_id(name, topic_id, f"the topic of that name is {topic.topic_id} now")
        return topic

    def find_or_create(self, context: RequestContext, name: str, topic_id: bytes = b"") -> Topic:
        """As `find` for writing, and creates what nobody has known yet, where that is allowed.

        Raises InternalTopic too.
        """
        try:
            topic = self.find(context, name, Operation.WRITE, topic_id)
        except UnknownTopicOrPartition:
            if not self._auto_create:
                raise
            return self.create(context, name, 0, {})
        if topic.internal and context is not SERVER_ITSELF:
            raise InternalTopic(
                f"topic {name!r} holds the server's own state and is written by the server alone",
                remedy="Produce to a topic of your own.",
            )
        return topic

    async def open_log(self, topic: Topic, partition: int) -> Log:
        """The log of a partition, opened in a thread if it is not. Raises what `log` does, and UnknownTopicId if the
        topic was deleted meanwhile."""
        self._check_partition(topic, partition)
        return await self._openings.log(topic, partition)

    def is_open(self, name: str, partition: int) -> bool:
        """Whether `log` need not wait for the disk, be it because there is no such log."""
        try:
            return partition < 0 or self._store.opening(name, partition) is None
        except UnknownTopicOrPartition:
            return True

    def log(self, topic: Topic, partition: int) -> Log:
        """The log of a partition, here and now: for who has opened it before. Raises UnknownTopicOrPartition and
        InvalidPartitionNumber."""
        self._check_partition(topic, partition)
        return self._store.log(topic.name, partition)

    def _check_partition(self, topic: Topic, partition: int) -> None:
        if partition < 0:
            raise InvalidPartitionNumber(
                f"partition {partition} of topic {topic.name!r} is negative or missing",
                remedy=f"Name one of 0 to {topic.partitions - 1}.",
            )

    def listed(self, context: RequestContext, *, include_internal: bool) -> list[Topic]:
        authorize(context, Operation.DESCRIBE, Resource.CLUSTER, "")
        return [topic for topic in self._store.topics() if include_internal or not topic.internal]

    # Changed.

    def check_new(self, context: RequestContext, name: str, partitions: int, config: Mapping[str, str]) -> NewTopic:
        """What `create` would make of this. Raises what it does, but for what the disk says."""
        authorize(context, Operation.CREATE, Resource.TOPIC, name)
        if name.startswith(INTERNAL_PREFIX):
            raise InvalidTopicName(
                f"topic name {name!r} begins with {INTERNAL_PREFIX!r}, as the server's own topics do",
                remedy="Choose a name that begins otherwise.",
            )
        self._store.check_new_name(name)
        self._check_message_bytes(config)
        made = TopicConfig.from_strings(config)
        return NewTopic(self._checked_partitions(partitions) or self._default_partitions, made)

    def create(self, context: RequestContext, name: str, partitions: int, config: Mapping[str, str]) -> Topic:
        """partitions 0 means the server's default. Raises what TopicStore.create_topic does, and InvalidConfig."""
        new = self.check_new(context, name, partitions, config)
        topic = self._store.create_topic(name, new.partitions, new.config)
        logger.info("topic created", topic=name, topic_id=str(topic.topic_id), partitions=topic.partitions)
        self._changed()
        return topic

    async def delete(self, context: RequestContext, name: str, topic_id: bytes = b"") -> None:
        """Raises what `find` does, and InternalTopic."""
        await self._openings.end(self.find(context, name, Operation.DELETE, topic_id))
        topic = self.find(context, name, Operation.DELETE, topic_id)
        self._refuse_internal(topic, "deleted")
        logs = list(self._waiters.logs_of(topic.topic_id))
        self._store.delete_topic(name)
        for log in logs:
            self._waiters.fail(
                log,
                UnknownTopicOrPartition(
                    f"topic {name!r} was deleted", remedy="Create it again, or stop reading and writing it."
                ),
            )
        logger.info("topic deleted", topic=name, topic_id=str(topic.topic_id))
        self._changed()

    def alter(
        self,
        context: RequestContext,
        name: str,
        *,
        partitions: int,
        set_config: Mapping[str, str],
        unset_config: Iterable[str],
        validate_only: bool = False,
    ) -> None:
        """partitions is the new number, 0 to leave it. Everything is checked before anything is changed, and with
        validate_only nothing is."""
        topic = self.find(context, name, Operation.ALTER)
        self._refuse_internal(topic, "altered")
        config = topic.config.with_changes(set_config, tuple(unset_config))
        self._check_message_bytes(set_config)
        if partitions:
            self.check_growth(topic, partitions)
        if validate_only:
            return
        if partitions:
            self._store.add_partitions(name, partitions - topic.partitions)
            self._changed()
        if config != topic.config:
            self._store.alter_config(name, config)
        logger.info("topic altered", topic=name, partitions=partitions or topic.partitions)

    def check_growth(self, topic: Topic, partitions: int) -> None:
        """Raises InvalidPartitions unless partitions is a number that the topic can grow to."""
        if self._checked_partitions(partitions) <= topic.partitions:
            raise InvalidPartitions(
                f"the partitions of topic {topic.name!r} cannot go from {topic.partitions} to {partitions}",
                remedy="Partitions can only be added: keys would move and records be lost otherwise.",
            )

    async def delete_records(self, context: RequestContext, name: str, offsets: Mapping[int, int]) -> dict[int, int]:
        """Delete the records of each partition before an offset, or all that are durable for -1. Returns where they
        start now, once no crash brings the records back.

        Everything is checked before anything is deleted. Raises PolicyViolation of a topic that is compacted only,
        OffsetOutOfRange, DataLoss of a damaged log, StorageFull, and RequestTimedOut; after these last two readers do
        not see the records any more.
        """
        topic = self.find(context, name, Operation.DELETE)
        self._refuse_internal(topic, "shortened")
        time_slice = TimeSlice(self._clock)
        starts: dict[Log, int] = {}
        for partition, offset in offsets.items():
            await time_slice.give_way()
            log = await self.open_log(topic, partition)
            try:
                starts[log] = log.start_after_deletion(offset)
            except DataLoss as damage:
                self.damage.note(log, damage)
                raise
        deletion = _Deletion(len(starts))
        for log, start in starts.items():
            await time_slice.give_way()
            self._store.delete_records(log, start, deletion.stored)
            starts[log] = log.log_start_offset  # retention may have moved it further
        logger.info("records deleted", topic=name, partitions=len(starts))
        wait_ms = context.remaining_ms(self._clock, self._timeout_ms)
        try:
            async with asyncio.timeout(wait_ms / 1000):
                await deletion.done
        except TimeoutError:
            raise RequestTimedOut(
                f"records of topic {name!r} are deleted, and it is not known yet whether for good: the disk has not "
                f"said so in {wait_ms} ms",
                remedy="Delete them once more, before the same offsets: that does no more than to wait for the disk.",
            ) from None
        return {log.partition: start for log, start in starts.items()}

    def _checked_partitions(self, partitions: int) -> int:
        if not 0 <= partitions <= PARTITIONS_MAX:
            raise InvalidPartitions(
                f"{partitions} partitions were asked for, where 1 to {PARTITIONS_MAX} can be",
                remedy="Ask for fewer, or leave the number out to have the server's default.",
            )
        return partitions

    def _check_message_bytes(self, given: Mapping[str, str]) -> None:
        """Refuse to allow what could never arrive: a producer would learn it from gRPC, and not why."""
        if "max.message.bytes" not in given:
            return
        wanted = TopicConfig.from_strings({"max.message.bytes": given["max.message.bytes"]}).max_message_bytes
        most = self._request_bytes_max - REQUEST_OVERHEAD_BYTES
        if wanted > most:
            raise InvalidConfig(
                f"max.message.bytes={wanted} is more than the {most} bytes that a request to this server can bring: it "
                f"takes requests of up to {self._request_bytes_max} bytes",
                remedy=f"Set it to {most} or less, or start the server with --request-bytes-max of at least "
                f"{wanted + REQUEST_OVERHEAD_BYTES}.",
            )

    def _refuse_internal(self, topic: Topic, what: str) -> None:
        if topic.internal:
            raise InternalTopic(
                f"topic {topic.name!r} holds the server's own state and cannot be {what}",
                remedy="Delete the groups or topics that you no longer need instead.",
            )

    def _unknown_id(self, name: str, topic_id: bytes, fact: str) -> Exception:
        return UnknownTopicId(
            f"topic {name!r} with id {parse_topic_id(topic_id)} is not here: {fact}",
            remedy="Where there is a topic of that name now, begin afresh: offsets of the old one mean nothing in it.",
        )


class _Deletion:
    """Waits until all partitions are on the disk. What was in the way of the first that could not be is raised."""

    def __init__(self, partitions: int) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._left = partitions
        self._failure: LogStoreError | None = None

    def stored(self, failure: LogStoreError | None) -> None:
        self._left -= 1
        self._failure = self._failure or failure
        if self._left or self.done.done():
            return
        if self._failure is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(self._failure)
