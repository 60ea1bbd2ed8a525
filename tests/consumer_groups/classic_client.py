"""Members of classic groups to try them with: clients that join, have their leader assign, and sync."""

import asyncio
import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from consumer_groups.classic.requests import JoinReply, JoinRequest, Leaver, SyncReply, SyncRequest
from consumer_groups.config import GroupConfig
from consumer_groups.consumer_protocol import ConsumerAssignment, read_assignment, read_subscription, write_assignment
from consumer_groups.errors import GroupError, MemberIdRequired
from consumer_groups.member import MemberProtocol
from consumer_groups.requests import (
    CONSUMER,
    Committer,
    GroupState,
    OffsetCommit,
)
from logstore.errors import LogStoreError
from tests.consumer_groups import harness
from tests.consumer_groups.harness import World, start, turns

#: As short as `initial_rebalance_delay_ms` can be for two members not to come one by one.
DELAY_MS = 1
NO_USER_DATA = struct.pack(">i", -1)


def subscription(
    *topics: str, user_data: bytes | None = None, owned: Mapping[str, Iterable[int]] | None = None
) -> bytes:
    """ConsumerProtocolSubscription of version 0; of version 1 with owned partitions."""
    names = b"".join(struct.pack(">h", len(topic.encode())) + topic.encode() for topic in topics)
    data = NO_USER_DATA if user_data is None else struct.pack(">i", len(user_data)) + user_data
    tail = b"" if owned is None else assignment(owned)[2 : -len(NO_USER_DATA)]
    return struct.pack(">hi", 0 if owned is None else 1, len(topics)) + names + data + tail


def assignment(partitions: Mapping[str, Iterable[int]]) -> bytes:
    """ConsumerProtocolAssignment of version 0."""
    topics = tuple((topic, tuple(numbers)) for topic, numbers in partitions.items())
    return write_assignment(ConsumerAssignment(0, topics, NO_USER_DATA))


def partitions_of(data: bytes) -> list[int]:
    """Those of the topic t in an assignment."""
    return sorted(number for topic, numbers in read_assignment(data).topics if topic == "t" for number in numbers)


def protocol(name: str = "range", *topics: str) -> MemberProtocol:
    return MemberProtocol(name, subscription(*(topics or ("t",))))


class Client:
    """One member, which remembers what it is told. It is eager: it gives everything up before it joins."""

    def __init__(self, world: World, name: str, *, instance_id: str = "", **fields: Any) -> None:
        self.world = world
        self.name = name
        self.fields: dict[str, Any] = {
            "group": "g",
            "protocol_type": CONSUMER,
            "protocols": (protocol(),),
            "session_timeout_ms": 10_000,
            "rebalance_timeout_ms": 60_000,
            "instance_id": instance_id,
            "client_id": name,
            "client_host": "/127.0.0.1",
            **fields,
        }
        self.member_id = ""
        self.generation = -1
        self.joined: JoinReply | None = None
        self.data = b""

    @property
    def partitions(self) -> list[int]:
        return partitions_of(self.data)

    @property
    def instance_id(self) -> str:
        instance_id = self.fields["instance_id"]
        assert isinstance(instance_id, str)
        return instance_id

    @property
    def leads(self) -> bool:
        return self.joined is not None and self.joined.leader == self.member_id

    async def join(self, **fields: Any) -> JoinReply:
        """Join, with what is given in the fields from now on; again with the id, when one is required."""
        self.fields |= fields
        self.data = b""
        try:
            reply = await self.world.coordinator.join_group(JoinRequest(member_id=self.member_id, **self.fields))
        except MemberIdRequired as required:
            self.member_id = required.member_id
            return await self.join()
        self.member_id, self.generation, self.joined = reply.member_id, reply.generation, reply
        return reply

    async def sync(self, assignments: Mapping[str, bytes] | None = None, **fields: Any) -> SyncReply:
        request: dict[str, Any] = {
            "group": "g",
            "member_id": self.member_id,
            "generation": self.generation,
            "instance_id": self.instance_id,
            "assignments": assignments or {},
        }
        reply = await self.world.coordinator.sync_group(SyncRequest(**(request | fields)))
        self.data = reply.assignment
        return reply

    def plan(self) -> dict[str, bytes]:
        """What it assigns as leader: the partitions of each topic in turn, to members in the order of their ids."""
        assert self.joined is not None
        given: dict[str, dict[str, list[int]]] = {member.member_id: {} for member in self.joined.members}
        subscribed = {member.member_id: read_subscription(member.metadata) for member in self.joined.members}
        for topic in sorted(frozenset[str]().union(*subscribed.values())):
            info = self.world.topics.topic(topic)
            readers = sorted(member_id for member_id in given if topic in subscribed[member_id])
            for number in range(0 if info is None else info.partitions):
                given[readers[number % len(readers)]].setdefault(topic, []).append(number)
        return {member_id: assignment(partitions) for member_id, partitions in given.items()}

    async def go_on(self) -> None:
        """Sync, as leader with a plan."""
        await self.sync(self.plan() if self.leads else None)

    async def heartbeat(self) -> None:
        await self.world.coordinator.classic_heartbeat("g", self.member_id, self.generation, self.instance_id)

    async def leave(self) -> GroupError | None:
        (result,) = await self.world.coordinator.leave_group("g", [Leaver(self.member_id, self.instance_id)])
        return result

    async def commit(self, number: int, offset: int, **fields: Any) -> GroupError | LogStoreError | None:
        results = await self.world.coordinator.commit_offsets(
            "g",
            Committer(self.member_id, self.generation, instance_id=self.instance_id),
            [OffsetCommit("t", number, offset, **fields)],
        )
        return results[0]


@asynccontextmanager
async def running(config: GroupConfig | None = None) -> AsyncIterator[World]:
    """As the harness has it, but that the first rebalance waits for those who come at the same time."""
    config = replace(config or GroupConfig(), assignment_interval_ms=0, initial_rebalance_delay_ms=DELAY_MS)
    async with harness.running(config) as world:
        yield world


async def joined(*clients: Client) -> None:
    """All of them join a group that was empty."""
    joins = [start(client.join()) for client in clients]
    for _ in range(2):  # The delay is extended for those who came during it.
        await turns()
        await clients[0].world.pass_time(DELAY_MS)
    await asyncio.gather(*joins)


async def stable(*clients: Client) -> None:
    """All of them join a group that was empty, and sync."""
    await joined(*clients)
    await synced(*clients)


async def synced(*clients: Client) -> None:
    await asyncio.gather(*(client.go_on() for client in clients))


async def rejoined(*clients: Client) -> None:
    """All of them learn that there is a rebalance, join again, and sync."""
    await asyncio.gather(*(client.join() for client in clients))
    await synced(*clients)


def state(world: World) -> GroupState:
    """Of the only group there is."""
    (group,) = world.coordinator.list_groups()
    return group.state


async def two(world: World, **fields: Any) -> tuple[Client, Client]:
    """The members of a stable group: a leads and has 0 and 2, b has 1 and 3."""
    a, b = Client(world, "a", **fields), Client(world, "b", **fields)
    await stable(a, b)
    return a, b
