"""TopicService: topics, their settings, and where each partition is led."""

from logserver.broker import Broker
from logserver.checks import check_count
from logserver.context import Operation, RequestContext
from logserver.errors import InvalidRequest
from logserver.status import describe
from logserver.time_slice import TimeSlice
from logserver.version import server_version
from logstore.errors import UnknownTopicOrPartition
from logstore.topics import Topic
from logwire.v1 import topics_pb2 as pb

TOPICS_PER_REQUEST_MAX = 10_000
PARTITIONS_PER_REQUEST_MAX = 10_000


class TopicDoor:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def get_metadata(self, request: pb.GetMetadataRequest, context: RequestContext) -> pb.GetMetadataResponse:
        check_count("topics", len(request.topics), TOPICS_PER_REQUEST_MAX, least=0)
        time_slice = TimeSlice(self._broker.clock)
        topics = []
        if request.topics:
            for name in request.topics:
                await time_slice.give_way()
                topics.append(self._named(name, request.auto_create, context))
        else:
            for topic in self._broker.topics.listed(context, include_internal=False):
                await time_slice.give_way()
                topics.append(self._metadata(topic))
        host, port = self._broker.config.advertised
        return pb.GetMetadataResponse(
            cluster_id=self._broker.store.cluster_id,
            nodes=[pb.Node(node_id=self._broker.store.node_id, host=host, port=port)],
            topics=topics,
            server_version=server_version(),
        )

    async def create_topic(self, request: pb.CreateTopicRequest, context: RequestContext) -> pb.CreateTopicResponse:
        topic = self._broker.topics.create(context, request.topic, request.partitions, dict(request.config))
        return pb.CreateTopicResponse(topic_id=topic.topic_id.bytes, partitions=topic.partitions)

    async def delete_topic(self, request: pb.DeleteTopicRequest, context: RequestContext) -> pb.DeleteTopicResponse:
        await self._broker.topics.delete(context, request.topic)
        return pb.DeleteTopicResponse()

    async def alter_topic(self, request: pb.AlterTopicRequest, context: RequestContext) -> pb.AlterTopicResponse:
        self._broker.topics.alter(
            context,
            request.topic,
            partitions=request.partitions,
            set_config=dict(request.set_config),
            unset_config=request.unset_config,
        )
        return pb.AlterTopicResponse()

    async def describe_topic(
        self, request: pb.DescribeTopicRequest, context: RequestContext
    ) -> pb.DescribeTopicResponse:
        topic = self._broker.topics.find(context, request.topic, Operation.DESCRIBE)
        time_slice = TimeSlice(self._broker.clock)
        partitions = []
        for partition in range(topic.partitions):
            await time_slice.give_way()
            partitions.append(await self._partition(topic, partition))
        return pb.DescribeTopicResponse(
            topic=topic.name,
            topic_id=topic.topic_id.bytes,
            partitions=partitions,
            config=[
                pb.ConfigEntry(name=name, value=value, is_default=is_default, documentation=documentation)
                for name, value, is_default, documentation in topic.config.describe()
            ],
            internal=topic.internal,
        )

    async def list_topics(self, request: pb.ListTopicsRequest, context: RequestContext) -> pb.ListTopicsResponse:
        return pb.ListTopicsResponse(
            topics=[
                pb.TopicListing(
                    topic=topic.name,
                    topic_id=topic.topic_id.bytes,
                    partitions=topic.partitions,
                    internal=topic.internal,
                )
                for topic in self._broker.topics.listed(context, include_internal=request.include_internal)
            ]
        )

    async def delete_records(
        self, request: pb.DeleteRecordsRequest, context: RequestContext
    ) -> pb.DeleteRecordsResponse:
        check_count("partitions", len(request.partitions), PARTITIONS_PER_REQUEST_MAX)
        offsets = {part.partition: part.before_offset for part in request.partitions}
        if len(offsets) < len(request.partitions):
            raise InvalidRequest(
                f"the request names a partition of topic {request.topic!r} twice", remedy="Name each of them once."
            )
        starts = await self._broker.topics.delete_records(context, request.topic, offsets)
        return pb.DeleteRecordsResponse(
            partitions=[
                pb.DeletedRecords(partition=partition, log_start_offset=start) for partition, start in starts.items()
            ]
        )

    def _named(self, name: str, auto_create: bool, context: RequestContext) -> pb.TopicMetadata:
        try:
            try:
                topic = self._broker.topics.find(context, name, Operation.DESCRIBE)
            except UnknownTopicOrPartition:
                if not auto_create:
                    raise
                topic = self._broker.topics.find_or_create(context, name)
        except Exception as refused:
            return pb.TopicMetadata(topic=name, error=describe(refused))
        return self._metadata(topic)

    def _metadata(self, topic: Topic) -> pb.TopicMetadata:
        # One node leads everything so far, and a partition's epoch is that of the node.
        node_id, epoch = self._broker.store.node_id, self._broker.store.leader_epoch
        return pb.TopicMetadata(
            topic=topic.name,
            topic_id=topic.topic_id.bytes,
            partitions=[
                pb.PartitionMetadata(partition=partition, leader_node_id=node_id, leader_epoch=epoch)
                for partition in range(topic.partitions)
            ],
            message_bytes_max=topic.config.max_message_bytes,
            internal=topic.internal,
        )

    async def _partition(self, topic: Topic, partition: int) -> pb.PartitionDescription:
        log = await self._broker.topics.open_log(topic, partition)
        return pb.PartitionDescription(
            partition=partition,
            log_start_offset=log.log_start_offset,
            high_watermark=log.high_watermark,
            log_end_offset=log.log_end_offset,
            size_bytes=log.size_bytes,
            segments_count=log.segments_count,
            leader_node_id=self._broker.store.node_id,
            leader_epoch=log.leader_epoch,
        )
