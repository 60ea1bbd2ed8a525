"""What the tests of the server speak: a client of bare gRPC calls, batches to send, and errors to read."""

from collections.abc import Sequence
from uuid import UUID

import grpc.aio
from google.rpc.status_pb2 import Status

from logserver.config import Address
from logstore.batch import Record, encode_batch
from logwire.v1 import errors_pb2, groups_pb2_grpc, records_pb2, records_pb2_grpc, topics_pb2, topics_pb2_grpc
from logwire.v1.errors_pb2 import ErrorCode

NOW_MS = 1_700_000_000_000


class Client:
    """The stubs of all services over one connection, and the few calls that every test makes."""

    def __init__(self, address: Address | str) -> None:
        # Each client has a connection of its own; gRPC would share one between channels that are alike.
        self.channel = grpc.aio.insecure_channel(str(address), [("grpc.use_local_subchannel_pool", 1)])
        self.producing = records_pb2_grpc.ProduceServiceStub(self.channel)
        self.fetching = records_pb2_grpc.FetchServiceStub(self.channel)
        self.topics = topics_pb2_grpc.TopicServiceStub(self.channel)
        self.groups = groups_pb2_grpc.GroupServiceStub(self.channel)

    async def create(self, topic: str, partitions: int = 1, **config: str) -> UUID:
        created = await self.topics.CreateTopic(
            topics_pb2.CreateTopicRequest(
                topic=topic,
                partitions=partitions,
                config={name.replace("_", "."): value for name, value in config.items()},
            )
        )
        return UUID(bytes=created.topic_id)

    async def produce(
        self,
        topic: str,
        *batches: bytes,
        partition: int = 0,
        acks: "records_pb2.Acks.ValueType" = records_pb2.ACKS_ALL,
        topic_id: bytes = b"",
        timeout: float | None = 10,
    ) -> Sequence[records_pb2.PartitionAck]:
        request = records_pb2.ProduceRequest(
            acks=acks,
            partitions=[
                records_pb2.PartitionRecords(topic=topic, topic_id=topic_id, partition=partition, batch=batch)
                for batch in batches
            ],
        )
        return (await self.producing.Produce(request, timeout=timeout)).acks

    async def produce_records(
        self, topic: str, records: Sequence[records_pb2.Record], *, partition: int | None = None
    ) -> Sequence[records_pb2.PartitionAck]:
        part = records_pb2.PartitionRecords(
            topic=topic, partition=partition, records=records_pb2.RecordList(records=records)
        )
        return (await self.producing.Produce(records_pb2.ProduceRequest(partitions=[part]), timeout=10)).acks

    async def fetch(
        self,
        topic: str,
        offset: int = 0,
        *,
        partition: int = 0,
        wait_ms: int = 0,
        bytes_max: int = 0,
        decode: bool = False,
        topic_id: bytes = b"",
    ) -> records_pb2.PartitionData:
        request = records_pb2.FetchRequest(
            positions=[position(topic, offset, partition=partition, topic_id=topic_id)],
            wait_ms_max=wait_ms,
            bytes_max=bytes_max,
            decode=decode,
        )
        [data] = (await self.fetching.Fetch(request, timeout=10)).partitions
        return data


def position(
    topic: str, offset: int = 0, *, partition: int = 0, position_id: int = 0, topic_id: bytes = b""
) -> records_pb2.FetchPosition:
    return records_pb2.FetchPosition(
        topic=topic, topic_id=topic_id, partition=partition, offset=offset, position_id=position_id
    )


def batch(
    *values: bytes | None, timestamp_ms: int = NOW_MS, producer_id: int = -1, epoch: int = -1, sequence: int = -1
) -> bytes:
    return encode_batch(
        [Record(i, timestamp_ms, None, value, ()) for i, value in enumerate(values)],
        producer_id=producer_id,
        producer_epoch=epoch,
        base_sequence=sequence,
    )


def code(error: errors_pb2.Error) -> str:
    """The code's name without its prefix; empty where there is no error."""
    return ErrorCode.Name(error.code).removeprefix("ERROR_CODE_") if error.code else ""


def error_of(failed: grpc.aio.AioRpcError) -> errors_pb2.Error:
    """The Error in a failed call's rich status."""
    for key, value in failed.trailing_metadata():
        if key == "grpc-status-details-bin":
            status = Status.FromString(value)
            assert status.code == failed.code().value[0]
            error = errors_pb2.Error()
            assert status.details[0].Unpack(error)
            return error
    raise AssertionError(f"no rich status in {failed}")
