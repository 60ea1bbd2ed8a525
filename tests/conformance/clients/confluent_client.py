"""confluent-kafka, which is librdkafka."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Consumer as NativeConsumer
from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    Producer,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
    ResourceType,
)
from kio.schema.errors import ErrorCode

from tests.conformance.clients import (
    CALL_SECONDS_MAX,
    Client,
    Committed,
    GroupDescription,
    Message,
    Place,
    Record,
    Refused,
)

#: Errors of librdkafka's own that stand for one of the protocol.
PROTOCOL_CODE = {
    KafkaError._AUTO_OFFSET_RESET: ErrorCode.offset_out_of_range,  # with auto.offset.reset=error
    KafkaError._UNKNOWN_TOPIC: ErrorCode.unknown_topic_or_partition,
    KafkaError._UNKNOWN_PARTITION: ErrorCode.unknown_topic_or_partition,
}


def open_client(address: str) -> Client:
    return ConfluentClient(address)


def refused(error: KafkaError) -> Refused:
    return Refused(PROTOCOL_CODE.get(error.code(), error.code()), error.str())


@contextmanager
def protocol_errors() -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise refused(error.args[0]) from error


class ConfluentConsumer:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._consumer = NativeConsumer(dict(settings))

    def subscribe(self, topic: str) -> None:
        self._consumer.subscribe([topic])

    def assign(self, topic: str, partition: int, offset: int | None = None) -> None:
        where = TopicPartition(topic, partition) if offset is None else TopicPartition(topic, partition, offset)
        self._consumer.assign([where])

    def poll(self, seconds: float) -> list[Record]:
        with protocol_errors():
            messages = self._consumer.consume(1, seconds)
            messages += self._consumer.consume(10_000, 0) if messages else []
        for message in messages:
            if (error := message.error()) is not None:
                raise refused(error)
        return [
            Record(
                message.partition(),
                message.offset(),
                message.timestamp()[1],
                message.key(),
                message.value(),
                message.headers() or (),
            )
            for message in messages
        ]

    def seek(self, topic: str, partition: int, offset: int) -> None:
        with protocol_errors():
            self._consumer.seek(TopicPartition(topic, partition, offset))

    def position(self, topic: str, partition: int) -> int:
        with protocol_errors():
            (place,) = self._consumer.position([TopicPartition(topic, partition)])
        return int(place.offset)

    def pause(self, topic: str, partition: int) -> None:
        self._consumer.pause([TopicPartition(topic, partition)])

    def resume(self, topic: str, partition: int) -> None:
        self._consumer.resume([TopicPartition(topic, partition)])

    def log_range(self, topic: str, partition: int) -> tuple[int, int]:
        with protocol_errors():
            start, end = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), CALL_SECONDS_MAX)
        return start, end

    def offset_for_time(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        with protocol_errors():
            (found,) = self._consumer.offsets_for_times(
                [TopicPartition(topic, partition, timestamp_ms)], CALL_SECONDS_MAX
            )
        if found.error is not None:
            raise refused(found.error)
        return int(found.offset) if found.offset >= 0 else None

    def assignment(self) -> set[int]:
        return {each.partition for each in self._consumer.assignment()}

    def commit(self, topic: str, partition: int, offset: int, metadata: str = "") -> None:
        with protocol_errors():
            done = self._consumer.commit(
                offsets=[TopicPartition(topic, partition, offset, metadata=metadata)], asynchronous=False
            )
        for each in done or ():
            if each.error is not None:
                raise refused(each.error)

    def committed(self, topic: str, partition: int) -> int | None:
        with protocol_errors():
            (place,) = self._consumer.committed([TopicPartition(topic, partition)], CALL_SECONDS_MAX)
        return int(place.offset) if place.offset >= 0 else None

    def close(self) -> None:
        self._consumer.close()


class ConfluentClient(Client):
    name = "confluent-kafka"

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._admin = AdminClient({"bootstrap.servers": address})

    def produce(
        self,
        topic: str,
        messages: Sequence[Message],
        *,
        acks: int = -1,
        idempotent: bool = False,
        codec: str | None = None,
        batch_bytes: int = 16_384,
        request_bytes_max: int = 1_000_000,
    ) -> list[Place]:
        producer = Producer(
            {
                "bootstrap.servers": self.address,
                "acks": acks,
                "enable.idempotence": idempotent,
                "compression.type": codec or "none",
                "linger.ms": 5,
                "batch.size": batch_bytes,
                "message.max.bytes": request_bytes_max,
                "partitioner": "murmur2_random",
                "delivery.timeout.ms": CALL_SECONDS_MAX * 1000,
            }
        )
        reports: dict[int, Any] = {}

        def report(index: int) -> Callable[[KafkaError | None, Any], None]:
            return lambda error, message: reports.__setitem__(index, error or message)

        with protocol_errors():
            for index, message in enumerate(messages):
                producer.produce(
                    topic,
                    message.value,
                    message.key,
                    -1 if message.partition is None else message.partition,
                    on_delivery=report(index),
                    timestamp=message.timestamp_ms or 0,
                    headers=list(message.headers),
                )
        assert producer.flush(CALL_SECONDS_MAX) == 0, "the producer did not get an answer for all"
        places = []
        for _, done in sorted(reports.items()):
            if isinstance(done, KafkaError):
                raise refused(done)
            places.append(Place(done.partition(), done.offset()))
        return places

    @contextmanager
    def consumer(
        self,
        *,
        group: str | None = None,
        reset: str = "earliest",
        strategy: str = "range",
        instance: str | None = None,
    ) -> Iterator[ConfluentConsumer]:
        settings: dict[str, Any] = {
            "bootstrap.servers": self.address,
            "group.id": group or "unused",  # librdkafka wants one always
            "enable.auto.commit": False,
            "auto.offset.reset": "error" if reset == "none" else reset,
            "fetch.wait.max.ms": 100,
            "topic.metadata.refresh.interval.ms": 1000,
        }
        if strategy == "consumer":
            settings |= {"group.protocol": "consumer"}
        else:
            settings |= {
                "partition.assignment.strategy": strategy,
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 500,
            }
        if instance is not None:
            settings |= {"group.instance.id": instance}
        consumer = ConfluentConsumer(settings)
        try:
            yield consumer
        finally:
            consumer.close()

    def create_topic(
        self, topic: str, *, partitions: int = 1, replicas: int = 1, config: Mapping[str, str] | None = None
    ) -> None:
        with protocol_errors():
            new = NewTopic(topic, partitions, replicas, config=dict(config or {}))
            self._admin.create_topics([new])[topic].result(CALL_SECONDS_MAX)

    def delete_topic(self, topic: str) -> None:
        with protocol_errors():
            self._admin.delete_topics([topic])[topic].result(CALL_SECONDS_MAX)

    def topics(self) -> set[str]:
        return set(self._admin.list_topics(timeout=CALL_SECONDS_MAX).topics)

    def partitions(self, topic: str) -> list[int]:
        with protocol_errors():
            description = self._admin.describe_topics(TopicCollection([topic]))[topic].result(CALL_SECONDS_MAX)
        return sorted(each.id for each in description.partitions)

    def create_partitions(self, topic: str, total: int) -> None:
        with protocol_errors():
            self._admin.create_partitions([NewPartitions(topic, total)])[topic].result(CALL_SECONDS_MAX)

    def config(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        with protocol_errors():
            entries = self._admin.describe_configs([resource])[resource].result(CALL_SECONDS_MAX)
        return {name: entry.value for name, entry in entries.items()}

    def alter_config(self, topic: str, changes: Mapping[str, str | None]) -> None:
        entries = [
            ConfigEntry(
                name,
                value if value is not None else "",
                incremental_operation=AlterConfigOpType.DELETE if value is None else AlterConfigOpType.SET,
            )
            for name, value in changes.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=entries)
        with protocol_errors():
            self._admin.incremental_alter_configs([resource])[resource].result(CALL_SECONDS_MAX)

    def delete_records(self, topic: str, partition: int, before: int) -> int:
        where = TopicPartition(topic, partition, before)
        with protocol_errors():
            return int(self._admin.delete_records([where])[where].result(CALL_SECONDS_MAX).low_watermark)

    def offset(self, topic: str, partition: int, which: str) -> int:
        spec = {
            "earliest": OffsetSpec.earliest,
            "latest": OffsetSpec.latest,
            "max-timestamp": OffsetSpec.max_timestamp,
        }[which]()
        where = TopicPartition(topic, partition)
        with protocol_errors():
            return int(self._admin.list_offsets({where: spec})[where].result(CALL_SECONDS_MAX).offset)

    def broker_ids(self) -> list[int]:
        return [node.id for node in self._admin.describe_cluster().result(CALL_SECONDS_MAX).nodes]

    def groups(self) -> set[str]:
        return {group.group_id for group in self._admin.list_consumer_groups().result(CALL_SECONDS_MAX).valid}

    def describe_group(self, group: str) -> GroupDescription:
        with protocol_errors():
            described = self._admin.describe_consumer_groups([group])[group].result(CALL_SECONDS_MAX)
        return GroupDescription(described.state.name.title().replace("_", ""), len(described.members))

    def delete_group(self, group: str) -> None:
        with protocol_errors():
            self._admin.delete_consumer_groups([group])[group].result(CALL_SECONDS_MAX)

    def group_offsets(self, group: str) -> dict[tuple[str, int], Committed]:
        asked = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        with protocol_errors():
            answer = asked[group].result(CALL_SECONDS_MAX)
        return {
            (each.topic, each.partition): Committed(each.offset, each.metadata or "")
            for each in answer.topic_partitions
        }

    def alter_group_offset(self, group: str, topic: str, partition: int, offset: int) -> None:
        change = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, partition, offset)])
        with protocol_errors():
            answer = self._admin.alter_consumer_group_offsets([change])[group].result(CALL_SECONDS_MAX)
        for each in answer.topic_partitions:
            if each.error is not None:
                raise refused(each.error)
