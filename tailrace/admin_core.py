"""What the synchronous and the asyncio admin have in common: one coroutine for each question, run on the I/O thread.

Questions are repeated through an outage. What changes something is asked once, on a connection that is up: after a lost
answer only the caller can know whether to ask again. Commits are repeated, as they say the same twice.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.message import Message

from logwire.v1 import groups_pb2, records_pb2, topics_pb2
from tailrace import descriptions as d
from tailrace.connection import REQUEST_SECONDS_MAX, Connection, error_from_wire, server_address
from tailrace.errors import ClientClosed, InvalidRequest
from tailrace.metadata import checked_topic
from tailrace.runtime import check_not_forked, io_thread

#: A seek waits for the members of the group to give partitions up, for as long as the server lets it.
SEEK_SECONDS_MAX = 90.0

_SPECS = {"earliest": records_pb2.OFFSET_SPEC_EARLIEST, "latest": records_pb2.OFFSET_SPEC_LATEST}


class AdminCore:
    def __init__(self, server: str | None, connect_timeout: float) -> None:
        self._address = server_address(server)
        self._connect_timeout = connect_timeout
        self._is_closed = False
        self._connection_or_none: Connection | None = None

    # In the caller's thread.

    def check_usable(self) -> None:
        check_not_forked()
        if self._is_closed:
            raise ClientClosed("the admin was closed", remedy="Ask before leaving its `with` block.")

    def forked(self) -> None:
        """check_usable finds out for itself."""

    # On the I/O thread.

    async def close(self) -> None:
        self._is_closed = True
        if self._connection_or_none is not None:
            await self._connection_or_none.close()
            self._connection_or_none = None

    async def abandon(self) -> None:
        await self.close()

    @property
    def _connection(self) -> Connection:
        self.check_usable()  # It may have been closed since the caller looked.
        if self._connection_or_none is None:
            self._connection_or_none = Connection(self._address, connect_timeout=self._connect_timeout)
            io_thread().add(self)
        return self._connection_or_none

    async def _ask(
        self, service: str, method: str, request: Message, *, repeat: bool, timeout: float = REQUEST_SECONDS_MAX
    ) -> Any:
        connection = self._connection
        return await connection.call(
            getattr(getattr(connection, service), method), request, timeout=timeout, repeat=repeat
        )

    async def cluster(self) -> d.ClusterDescription:
        # Asking for all topics would be asking for much; of one that is asked for, only the rest is looked at.
        request = topics_pb2.GetMetadataRequest(topics=["__consumer_offsets"])
        reply = await self._ask("topics", "GetMetadata", request, repeat=True)
        nodes = tuple(d.Node(node.node_id, node.host, node.port) for node in reply.nodes)
        return d.ClusterDescription(reply.cluster_id, nodes, reply.server_version)

    async def create_topic(
        self, topic: str, partitions: int | None, config: Mapping[str, object] | None
    ) -> d.TopicListing:
        _check_count(partitions, "Give an int of 1 or more, or leave it to the server's default.")
        request = _message(
            topics_pb2.CreateTopicRequest,
            topic=checked_topic(topic),
            partitions=partitions or 0,
            config=_config(config),
        )
        reply = await self._ask("topics", "CreateTopic", request, repeat=False)
        return d.TopicListing(topic, reply.topic_id.hex(), reply.partitions, False)

    async def delete_topic(self, topic: str) -> None:
        request = topics_pb2.DeleteTopicRequest(topic=checked_topic(topic))
        await self._ask("topics", "DeleteTopic", request, repeat=False)

    async def alter_topic(
        self, topic: str, partitions: int | None, set_config: Mapping[str, object] | None, unset_config: Sequence[str]
    ) -> None:
        _check_count(partitions, "Give more than it has, as an int, or leave it out.")
        if isinstance(unset_config, str):
            raise InvalidRequest(f"unset_config={unset_config!r} is no list", remedy="Give a list of names.")
        request = _message(
            topics_pb2.AlterTopicRequest,
            topic=checked_topic(topic),
            partitions=partitions or 0,
            set_config=_config(set_config),
            unset_config=list(unset_config),
        )
        await self._ask("topics", "AlterTopic", request, repeat=False)

    async def delete_records(self, topic: str, before: Mapping[int, int]) -> dict[int, int]:
        if not isinstance(before, Mapping) or not before:
            raise InvalidRequest(
                f"{before!r} does not say before which offsets",
                remedy="Give a dict of offsets, such as {0: 1500, 1: -1}.",
            )
        request = topics_pb2.DeleteRecordsRequest(topic=checked_topic(topic))
        for partition, offset in before.items():
            request.partitions.append(_message(topics_pb2.RecordsToDelete, partition=partition, before_offset=offset))
        reply = await self._ask("topics", "DeleteRecords", request, repeat=False)
        return {part.partition: part.log_start_offset for part in reply.partitions}

    async def list_topics(self, include_internal: bool) -> list[d.TopicListing]:
        request = topics_pb2.ListTopicsRequest(include_internal=include_internal)
        reply = await self._ask("topics", "ListTopics", request, repeat=True)
        return [
            d.TopicListing(topic.topic, topic.topic_id.hex(), topic.partitions, topic.internal)
            for topic in reply.topics
        ]

    async def describe_topic(self, topic: str) -> d.TopicDescription:
        request = topics_pb2.DescribeTopicRequest(topic=checked_topic(topic))
        reply = await self._ask("topics", "DescribeTopic", request, repeat=True)
        partitions = tuple(
            d.PartitionDescription(
                part.partition,
                part.log_start_offset,
                part.high_watermark,
                part.log_end_offset,
                part.size_bytes,
                part.segments_count,
                part.leader_node_id,
                part.leader_epoch,
            )
            for part in reply.partitions
        )
        config = tuple(
            d.ConfigEntry(entry.name, entry.value, entry.is_default, entry.documentation) for entry in reply.config
        )
        return d.TopicDescription(reply.topic, reply.topic_id.hex(), partitions, config, reply.internal)

    async def list_offsets(self, partitions: Iterable[tuple[str, int]], spec: str | int) -> list[d.ListedOffset]:
        timestamp_ms = 0
        if isinstance(spec, int):
            kind, timestamp_ms = records_pb2.OFFSET_SPEC_TIMESTAMP, spec
        elif spec in _SPECS:
            kind = _SPECS[spec]
        else:
            raise InvalidRequest(
                f"{spec!r} names no offset", remedy='Use "earliest", "latest", or a time in milliseconds since 1970.'
            )
        request = records_pb2.ListOffsetsRequest()
        for topic, partition in _pairs(partitions):
            query = _message(
                records_pb2.ListOffsetsQuery,
                topic=checked_topic(topic),
                partition=partition,
                spec=kind,
                timestamp_ms=timestamp_ms,
            )
            request.queries.append(query)
        if not request.queries:
            return []
        reply = await self._ask("fetch", "ListOffsets", request, repeat=True)
        listed = []
        for result in reply.results:
            if result.HasField("error"):
                raise error_from_wire(result.error)
            time = result.timestamp_ms if result.HasField("timestamp_ms") else None
            listed.append(d.ListedOffset(result.topic, result.partition, result.offset, time))
        return listed

    async def list_groups(self) -> list[d.GroupListing]:
        reply = await self._ask("groups", "ListGroups", groups_pb2.ListGroupsRequest(), repeat=True)
        return [d.GroupListing(group.group, group.state, group.members_count) for group in reply.groups]

    async def describe_group(self, group: str) -> d.GroupDescription:
        request = _message(groups_pb2.DescribeGroupRequest, group=group)
        reply = await self._ask("groups", "DescribeGroup", request, repeat=True)
        members = tuple(
            d.MemberDescription(
                member.member_id,
                member.instance_id,
                member.client_id,
                member.client_host,
                member.member_epoch,
                member.state,
                tuple(member.subscribed_topics),
                _topic_partitions(member.assignment),
                _topic_partitions(member.target),
            )
            for member in reply.members
        )
        partitions = tuple(
            d.PartitionLag(
                part.topic,
                part.partition,
                part.committed_offset,
                part.log_start_offset,
                part.high_watermark,
                part.lag_records,
                part.lag_seconds,
                part.member_id,
            )
            for part in reply.partitions
        )
        return d.GroupDescription(
            reply.group, reply.state, reply.group_epoch, reply.assignment_epoch, reply.assignor, members, partitions
        )

    async def delete_group(self, group: str) -> None:
        await self._ask("groups", "DeleteGroup", _message(groups_pb2.DeleteGroupRequest, group=group), repeat=False)

    async def committed_offsets(self, group: str) -> list[d.CommittedOffset]:
        request = _message(groups_pb2.FetchOffsetsRequest, group=group)
        reply = await self._ask("groups", "FetchOffsets", request, repeat=True)
        return [
            d.CommittedOffset(offset.topic, offset.partition, offset.offset, offset.metadata)
            for offset in reply.offsets
        ]

    async def commit_offsets(self, group: str, offsets: Iterable[d.CommittedOffset]) -> None:
        request = _message(groups_pb2.CommitOffsetsRequest, group=group, member_epoch=-1)
        for offset in offsets:
            if not isinstance(offset, d.CommittedOffset):
                raise InvalidRequest(f"{offset!r} is not what is committed", remedy="Give tailrace.CommittedOffset.")
            request.offsets.append(
                _message(
                    groups_pb2.CommittedOffset,
                    topic=offset.topic,
                    partition=offset.partition,
                    offset=offset.offset,
                    metadata=offset.metadata,
                )
            )
        reply = await self._ask("groups", "CommitOffsets", request, repeat=True)
        for answer in reply.offsets:
            if answer.HasField("error"):
                raise error_from_wire(answer.error)

    async def seek_group(
        self, group: str, topic: str, partitions: Sequence[int] | None, target: Mapping[str, Any], dry_run: bool
    ) -> list[d.SoughtPartition]:
        given = {name: value for name, value in target.items() if value is not None and value is not False}
        if len(given) != 1:
            raise InvalidRequest(
                f"a seek goes to one place, and {len(given)} are given",
                remedy="Give one of offset=, timestamp_ms=, to_beginning=, to_end=, shift_by=.",
            )
        if partitions is not None and not partitions:
            raise InvalidRequest("a seek of no partition", remedy="Name some, or leave them out to mean all.")
        ((name, value),) = given.items()
        request = _message(
            groups_pb2.SeekGroupRequest,
            group=group,
            topic=checked_topic(topic),
            partitions=() if partitions is None else partitions,
            target=_message(groups_pb2.SeekTarget, **{name.removeprefix("to_"): value}),
            dry_run=dry_run,
        )
        reply = await self._ask("groups", "SeekGroup", request, repeat=dry_run, timeout=SEEK_SECONDS_MAX)
        return [
            d.SoughtPartition(part.topic, part.partition, part.old_offset, part.new_offset) for part in reply.partitions
        ]


def _message(kind: Any, **fields: Any) -> Any:
    """A request of what the caller gave. Raises InvalidRequest for what does not fit its field."""
    try:
        return kind(**fields)
    except (TypeError, ValueError) as error:
        raise InvalidRequest(
            f"an argument does not fit: {error}", remedy="Give names as str, numbers as int of a sensible size."
        ) from error


def _check_count(partitions: Any, remedy: str) -> None:
    """Of a topic. Other numbers that it cannot have are the server's to refuse: it knows the most. Raises
    InvalidRequest."""
    if partitions is not None and (type(partitions) is not int or partitions == 0):
        raise InvalidRequest(f"a topic cannot have partitions={partitions!r}", remedy=remedy)


def _config(config: Mapping[str, object] | None) -> dict[str, str]:
    """Settings as the server reads them; numbers and booleans may be given as such. Raises InvalidRequest."""
    if not isinstance(config, Mapping | None):
        raise InvalidRequest(f"{config!r} are no settings", remedy='Give a dict, such as {"retention.ms": 3600000}.')
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in (config or {}).items()
    }


def _pairs(partitions: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    try:
        return [(topic, partition) for topic, partition in partitions]
    except (TypeError, ValueError) as error:
        raise InvalidRequest(
            f"{partitions!r} does not name partitions: {error}", remedy='Give pairs, such as ("flights", 0).'
        ) from error


def _topic_partitions(assignment: groups_pb2.Assignment) -> tuple[d.TopicPartitions, ...]:
    return tuple(
        d.TopicPartitions(part.topic, part.topic_id.hex(), tuple(part.partitions))
        for part in assignment.topic_partitions
    )
