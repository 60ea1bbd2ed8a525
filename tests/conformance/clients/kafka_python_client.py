"""kafka-python, which speaks the protocol in Python."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType, OffsetSpec
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from kafka.errors import CommitFailedError, KafkaError, NoOffsetForPartitionError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata
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

ASSIGNORS = {
    "range": RangePartitionAssignor,
    "roundrobin": RoundRobinPartitionAssignor,
    "cooperative-sticky": CooperativeStickyAssignor,
}

SPECS = {
    "earliest": OffsetSpec.EARLIEST,
    "latest": OffsetSpec.LATEST,
    "max-timestamp": OffsetSpec.MAX_TIMESTAMP,
}


def open_client(address: str) -> Client:
    return KafkaPythonClient(address)


@contextmanager
def protocol_errors() -> Iterator[None]:
    try:
        yield
    except (OffsetOutOfRangeError, NoOffsetForPartitionError) as error:
        raise Refused(ErrorCode.offset_out_of_range, str(error)) from error
    except CommitFailedError as error:
        # Or unknown_member_id: it does not say which.
        raise Refused(ErrorCode.illegal_generation, str(error)) from error
    except KafkaError as error:
        raise Refused(getattr(error, "errno", -1), str(error)) from error


def raise_for(error: Any) -> None:
    """For errors that come as classes, as names or as codes in an answer."""
    if isinstance(error, int):
        if error:
            raise Refused(error, f"answered with {error}")
    elif error.errno:
        raise Refused(error.errno, error.__name__)


class KafkaPythonConsumer:
    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._consumer = KafkaConsumer(**settings)

    def subscribe(self, topic: str) -> None:
        # As the leader of its group it would else share out what it knows of the topic, which may be nothing yet, and
        # be content with it (3.0.12).
        self._consumer.partitions_for_topic(topic)
        self._consumer.subscribe([topic])

    def assign(self, topic: str, partition: int, offset: int | None = None) -> None:
        self._consumer.assign([TopicPartition(topic, partition)])
        if offset is not None:
            self.seek(topic, partition, offset)

    def poll(self, seconds: float) -> list[Record]:
        with protocol_errors():
            polled = self._consumer.poll(timeout_ms=int(seconds * 1000))
        return [
            Record(each.partition, each.offset, each.timestamp, each.key, each.value, each.headers)
            for records in polled.values()
            for each in records
        ]

    def seek(self, topic: str, partition: int, offset: int) -> None:
        self._consumer.seek(TopicPartition(topic, partition), offset)

    def position(self, topic: str, partition: int) -> int:
        with protocol_errors():
            return int(self._consumer.position(TopicPartition(topic, partition)))

    def pause(self, topic: str, partition: int) -> None:
        self._consumer.pause(TopicPartition(topic, partition))

    def resume(self, topic: str, partition: int) -> None:
        self._consumer.resume(TopicPartition(topic, partition))

    def log_range(self, topic: str, partition: int) -> tuple[int, int]:
        where = TopicPartition(topic, partition)
        with protocol_errors():
            start, end = self._consumer.beginning_offsets([where]), self._consumer.end_offsets([where])
        return start[where], end[where]

    def offset_for_time(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        where = TopicPartition(topic, partition)
        with protocol_errors():
            found = self._consumer.offsets_for_times({where: timestamp_ms})[where]
        return None if found is None else int(found.offset)

    def assignment(self) -> set[int]:
        return {each.partition for each in self._consumer.assignment()}

    def commit(self, topic: str, partition: int, offset: int, metadata: str = "") -> None:
        with protocol_errors():
            self._consumer.commit({TopicPartition(topic, partition): OffsetAndMetadata(offset, metadata, -1)})

    def committed(self, topic: str, partition: int) -> int | None:
        with protocol_errors():
            offset = self._consumer.committed(TopicPartition(topic, partition))
        return None if offset is None else int(offset)

    def close(self) -> None:
        self._consumer.close(autocommit=False, timeout_ms=5000)


class KafkaPythonClient(Client):
    name = "kafka-python"

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._admin = KafkaAdminClient(bootstrap_servers=address)

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
        producer = KafkaProducer(
            bootstrap_servers=self.address,
            acks=acks,
            enable_idempotence=idempotent,
            compression_type=codec,
            linger_ms=5,
            batch_size=batch_bytes,
            max_request_size=request_bytes_max,
            max_block_ms=CALL_SECONDS_MAX * 1000,
        )
        try:
            with protocol_errors():
                futures = [
                    producer.send(
                        topic,
                        message.value,
                        message.key,
                        list(message.headers),
                        message.partition,
                        message.timestamp_ms,
                    )
                    for message in messages
                ]
                answers = [future.get(timeout=CALL_SECONDS_MAX) for future in futures]
        finally:
            producer.close(timeout=CALL_SECONDS_MAX)
        return [Place(answer.partition, answer.offset) for answer in answers]

    @contextmanager
    def consumer(
        self,
        *,
        group: str | None = None,
        reset: str = "earliest",
        strategy: str = "range",
        instance: str | None = None,
    ) -> Iterator[KafkaPythonConsumer]:
        consumer = KafkaPythonConsumer(
            {
                "bootstrap_servers": self.address,
                "group_id": group,
                "group_instance_id": instance,
                "auto_offset_reset": reset,
                "enable_auto_commit": False,
                "fetch_max_wait_ms": 100,
                "metadata_max_age_ms": 1000,
                "session_timeout_ms": 6000,
                "heartbeat_interval_ms": 500,
                "partition_assignment_strategy": [ASSIGNORS[strategy]],
            }
        )
        try:
            yield consumer
        finally:
            consumer.close()

    def create_topic(
        self, topic: str, *, partitions: int = 1, replicas: int = 1, config: Mapping[str, str] | None = None
    ) -> None:
        options = {"num_partitions": partitions, "replication_factor": replicas, "configs": dict(config or {})}
        with protocol_errors():
            self._admin.create_topics({topic: options})

    def delete_topic(self, topic: str) -> None:
        with protocol_errors():
            self._admin.delete_topics([topic])

    def topics(self) -> set[str]:
        return set(self._admin.list_topics())

    def partitions(self, topic: str) -> list[int]:
        with protocol_errors():
            (described,) = self._admin.describe_topics([topic])
        raise_for(described["error_code"])
        return sorted(each["partition_index"] for each in described["partitions"])

    def create_partitions(self, topic: str, total: int) -> None:
        with protocol_errors():
            self._admin.create_partitions({topic: total})

    def config(self, topic: str) -> dict[str, str]:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        with protocol_errors():
            answer = self._admin.describe_configs([resource], config_filter="all")
        return {name: entry["value"] for name, entry in answer["topic"][topic].items()}

    def alter_config(self, topic: str, changes: Mapping[str, str | None]) -> None:
        configs = {name: ("DELETE" if value is None else "SET", value) for name, value in changes.items()}
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs)
        with protocol_errors():
            # What is no setting is for the broker to say.
            answer = self._admin.alter_configs([resource], raise_on_unknown=False)
        if (result := answer["topic"][topic]) != "OK":
            raise Refused(ErrorCode.invalid_config, result)  # the answer is text, which names the class

    def delete_records(self, topic: str, partition: int, before: int) -> int:
        where = TopicPartition(topic, partition)
        with protocol_errors():
            return int(self._admin.delete_records({where: before})[where]["low_watermark"])

    def offset(self, topic: str, partition: int, which: str) -> int:
        where = TopicPartition(topic, partition)
        with protocol_errors():
            return int(self._admin.list_partition_offsets({where: SPECS[which]})[where].offset)

    def broker_ids(self) -> list[int]:
        return [each["broker_id"] for each in self._admin.describe_cluster()["brokers"]]

    def groups(self) -> set[str]:
        return {each["group_id"] for each in self._admin.list_groups()}

    def describe_group(self, group: str) -> GroupDescription:
        with protocol_errors():
            described = self._admin.describe_groups([group])[group]
        if described["error"]:
            # The answer is text, which names the class.
            raise Refused(ErrorCode.group_id_not_found, described["error"])
        return GroupDescription(described["group_state"], len(described["members"]))

    def delete_group(self, group: str) -> None:
        with protocol_errors():
            result = self._admin.delete_groups([group])[group]
        if result != "OK":
            codes = {
                "NonEmptyGroupError": ErrorCode.non_empty_group,
                "GroupIdNotFoundError": ErrorCode.group_id_not_found,
            }
            raise Refused(codes.get(result, -1), result)

    def group_offsets(self, group: str) -> dict[tuple[str, int], Committed]:
        with protocol_errors():
            offsets = self._admin.list_group_offsets([group])[group]
        return {tuple(where): Committed(each.offset, each.metadata) for where, each in offsets.items()}

    def alter_group_offset(self, group: str, topic: str, partition: int, offset: int) -> None:
        where = TopicPartition(topic, partition)
        with protocol_errors():
            answer = self._admin.alter_group_offsets(group, {where: OffsetAndMetadata(offset, "", -1)})
        raise_for(answer[where])

    def delete_group_offset(self, group: str, topic: str, partition: int) -> None:
        where = TopicPartition(topic, partition)
        with protocol_errors():
            answer = self._admin.delete_group_offsets(group, [where])
        raise_for(answer[where])

    def close(self) -> None:
        self._admin.close()
