"""What the client knows of the servers: topics, their ids and partitions, and which server leads each."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

from logstore.errors import InvalidTopicName
from logstore.topic_name import check_topic_name
from logwire.v1 import topics_pb2
from tailrace import errors
from tailrace.connection import Connection, error_from_wire


@dataclass(frozen=True, slots=True)
class TopicInfo:
    topic: str
    topic_id: bytes
    #: Node id of the leader of each partition.
    leaders: tuple[int, ...]
    #: Largest batch that the topic takes.
    message_bytes_max: int

    @property
    def partitions(self) -> int:
        return len(self.leaders)


def checked_topic(topic: object) -> str:
    """The name of a topic, before a server is asked. Raises InvalidTopic, and InvalidRequest for what is no str."""
    if not isinstance(topic, str):
        raise errors.InvalidRequest(f"{topic!r} is not the name of a topic", remedy="Give a topic as a str.")
    try:
        check_topic_name(topic)
    except InvalidTopicName as error:
        raise errors.InvalidTopic(str(error), remedy=error.remedy) from None
    return topic


class Cluster:
    """The server named by the user, and those it names. On the I/O thread."""

    def __init__(self, address: str, *, connect_timeout: float) -> None:
        self.bootstrap = Connection(address, connect_timeout=connect_timeout)
        self._connect_timeout = connect_timeout
        self._nodes: dict[int, str] = {}
        self._topics: dict[str, TopicInfo] = {}
        self._connections: dict[str, Connection] = {address: self.bootstrap}

    async def find(self, topic: str, *, auto_create: bool = False) -> TopicInfo:
        """Ask for a topic. Raises UnknownTopicOrPartition, InvalidTopic, and what a call raises."""
        return (await self.find_all([topic], auto_create=auto_create))[0]

    async def find_all(self, topics: Iterable[str], *, auto_create: bool = False) -> list[TopicInfo]:
        """Ask for several, in their order. Raises the error of the first that has one."""
        request = topics_pb2.GetMetadataRequest(topics=map(checked_topic, topics), auto_create=auto_create)
        response = await self.bootstrap.call(self.bootstrap.topics.GetMetadata, request)
        self._nodes = {node.node_id: f"{node.host}:{node.port}" for node in response.nodes}
        found = []
        for topic in response.topics:
            if topic.HasField("error"):
                raise error_from_wire(topic.error)
            by_partition = sorted(topic.partitions, key=lambda partition: partition.partition)
            leaders = tuple(partition.leader_node_id for partition in by_partition)
            found.append(TopicInfo(topic.topic, topic.topic_id, leaders, topic.message_bytes_max))
            self._topics[topic.topic] = found[-1]
        if len(found) != len(request.topics):
            raise errors.InternalServerError(
                f"the server told of {len(found)} topics when asked for {len(request.topics)}",
                remedy="Report it as a bug.",
            )
        return found

    def leader(self, topic: str, partition: int) -> Connection:
        """The connection to the leader of a partition, as far as it is known.

        A single server is reached where the user reached it: what it advertises may be right for others only.
        """
        known = self._topics.get(topic)
        if len(self._nodes) <= 1 or known is None or partition >= known.partitions:
            return self.bootstrap
        address = self._nodes.get(known.leaders[partition])
        if address is None:
            return self.bootstrap
        connection = self._connections.get(address)
        if connection is None:
            connection = Connection(address, connect_timeout=self._connect_timeout)
            self._connections[address] = connection
        return connection

    async def close(self) -> None:
        await asyncio.gather(*(connection.close() for connection in self._connections.values()))
