"""aiokafka. Its loop runs in a thread of its own, so that heartbeats go on between the calls of a test."""

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import (
    CommitFailedError,
    KafkaError,
    MessageSizeTooLargeError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import OffsetAndMetadata
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

T = TypeVar("T")

ASSIGNORS = {"range": RangePartitionAssignor, "roundrobin": RoundRobinPartitionAssignor}


def open_client(address: str) -> Client:
    return AiokafkaClient(address)


@contextmanager
def protocol_errors() -> Iterator[None]:
    try:
        yield
    except (OffsetOutOfRangeError, NoOffsetForPartitionError) as error:
        raise Refused(ErrorCode.offset_out_of_range, str(error)) from error
    except CommitFailedError as error:
        # Or unknown_member_id: it does not say which.
        raise Refused(ErrorCode.illegal_generation, str(error)) from error
    except MessageSizeTooLargeError as error:
        raise Refused(ErrorCode.message_too_large, str(error)) from error
    except KafkaError as error:
        raise Refused(getattr(error, "errno", -1), str(error)) from error


def raise_for(code: int, message: str | None = "") -> None:
    if code:
        raise Refused(code, message or "")


class LoopThread:
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="aiokafka", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        with protocol_errors():
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(2 * CALL_SECONDS_MAX)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class AiokafkaConsumer:
    def __init__(self, loop: LoopThread, settings: Mapping[str, Any]) -> None:
        self._loop = loop

        async def start() -> Any:
            consumer = AIOKafkaConsumer(**settings)
            await consumer.start()
            return consumer

        self._consumer = loop.run(start())

    def subscribe(self, topic: str) -> None:
        async def subscribe() -> None:
            self._consumer.subscribe([topic])

        self._loop.run(subscribe())

    def assign(self, topic: str, partition: int, offset: int | None = None) -> None:
        async def assign() -> None:
            self._consumer.assign([TopicPartition(topic, partition)])
            if offset is not None:
                self._consumer.seek(TopicPartition(topic, partition), offset)

        self._loop.run(assign())

    def poll(self, seconds: float) -> list[Record]:
        polled = self._loop.run(self._consumer.getmany(timeout_ms=int(seconds * 1000)))
        return [
            Record(each.partition, each.offset, each.timestamp, each.key, each.value, each.headers)
            for records in polled.values()
            for each in records
        ]

    def seek(self, topic: str, partition: int, offset: int) -> None:
        async def seek() -> None:
            self._consumer.seek(TopicPartition(topic, partition), offset)

        self._loop.run(seek())

    def position(self, topic: str, partition: int) -> int:
        return int(self._loop.run(self._consumer.position(TopicPartition(topic, partition))))

    def pause(self, topic: str, partition: int) -> None:
        async def pause() -> None:
            self._consumer.pause(TopicPartition(topic, partition))

        self._loop.run(pause())

    def resume(self, topic: str, partition: int) -> None:
        async def resume() -> None:
            self._consumer.resume(TopicPartition(topic, partition))

        self._loop.run(resume())

    def log_range(self, topic: str, partition: int) -> tuple[int, int]:
        where = TopicPartition(topic, partition)
        start = self._loop.run(self._consumer.beginning_offsets([where]))
        return start[where], self._loop.run(self._consumer.end_offsets([where]))[where]

    def offset_for_time(self, topic: str, partition: int, timestamp_ms: int) -> int | None:
        where = TopicPartition(topic, partition)
        found = self._loop.run(self._consumer.offsets_for_times({where: timestamp_ms}))[where]
        return None if found is None else int(found.offset)

    def assignment(self) -> set[int]:
        return {each.partition for each in self._consumer.assignment()}

    def commit(self, topic: str, partition: int, offset: int, metadata: str = "") -> None:
        where = {TopicPartition(topic, partition): OffsetAndMetadata(offset, metadata)}
        self._loop.run(self._consumer.commit(where))

    def committed(self, topic: str, partition: int) -> int | None:
        offset = self._loop.run(self._consumer.committed(TopicPartition(topic, partition)))
        return None if offset is None else int(offset)

    def close(self) -> None:
        self._loop.run(self._consumer.stop())


class AiokafkaClient(Client):
    name = "aiokafka"

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self._loop = LoopThread()

        async def start() -> Any:
            admin = AIOKafkaAdminClient(bootstrap_servers=address)
            await admin.start()
            return admin

        self._admin = self._loop.run(start())

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
        async def produce() -> list[Place]:
            producer = AIOKafkaProducer(
                bootstrap_servers=self.address,
                acks=acks,
                enable_idempotence=idempotent,
                compression_type=codec,
                linger_ms=5,
                max_batch_size=batch_bytes,
                max_request_size=request_bytes_max,
            )
            await producer.start()
            try:
                futures = [
                    await producer.send(
                        topic,
                        message.value,
                        message.key,
                        message.partition,
                        message.timestamp_ms,
                        list(message.headers),
                    )
                    for message in messages
                ]
                answers = await asyncio.wait_for(asyncio.gather(*futures), CALL_SECONDS_MAX)
            finally:
                await producer.stop()
            return [Place(each.partition, each.offset) if each else Place(-1, -1) for each in answers]

        return self._loop.run(produce())

    @contextmanager
    def consumer(
        self,
        *,
        group: str | None = None,
        reset: str = "earliest",
        strategy: str = "range",
        instance: str | None = None,
    ) -> Iterator[AiokafkaConsumer]:
        consumer = AiokafkaConsumer(
            self._loop,
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
            },
        )
        try:
            yield consumer
        finally:
            consumer.close()

    def create_topic(
        self, topic: str, *, partitions: int = 1, replicas: int = 1, config: Mapping[str, str] | None = None
    ) -> None:
        new = NewTopic(topic, partitions, replicas, topic_configs=dict(config or {}))
        for _, code, *message in self._loop.run(self._admin.create_topics([new])).topic_errors:
            raise_for(code, *message)

    def delete_topic(self, topic: str) -> None:
        for _, code in self._loop.run(self._admin.delete_topics([topic])).topic_error_codes:
            raise_for(code)

    def topics(self) -> set[str]:
        return set(self._loop.run(self._admin.list_topics()))

    def partitions(self, topic: str) -> list[int]:
        (described,) = self._loop.run(self._admin.describe_topics([topic]))
        raise_for(described["error_code"])
        return sorted(each["partition"] for each in described["partitions"])

    def create_partitions(self, topic: str, total: int) -> None:
        self._loop.run(self._admin.create_partitions({topic: NewPartitions(total)}))

    def config(self, topic: str) -> dict[str, str]:
        (answer,) = self._loop.run(self._admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)]))
        ((code, message, _, _, entries),) = answer.resources
        raise_for(code, message)
        return {name: value for name, value, *_ in entries}

    def delete_records(self, topic: str, partition: int, before: int) -> int:
        where = TopicPartition(topic, partition)
        return int(self._loop.run(self._admin.delete_records({where: RecordsToDelete(before)}))[where])

    def broker_ids(self) -> list[int]:
        return [each["node_id"] for each in self._loop.run(self._admin.describe_cluster())["brokers"]]

    def groups(self) -> set[str]:
        return {group for group, *_ in self._loop.run(self._admin.list_consumer_groups())}

    def describe_group(self, group: str) -> GroupDescription:
        (answer,) = self._loop.run(self._admin.describe_consumer_groups([group]))
        ((code, _, state, _, _, members, *_),) = answer.groups
        raise_for(code)
        return GroupDescription(state, len(members))

    def group_offsets(self, group: str) -> dict[tuple[str, int], Committed]:
        offsets = self._loop.run(self._admin.list_consumer_group_offsets(group))
        return {(each.topic, each.partition): Committed(at.offset, at.metadata) for each, at in offsets.items()}

    def close(self) -> None:
        self._loop.run(self._admin.close())
        self._loop.close()
