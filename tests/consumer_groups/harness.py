"""A coordinator on fakes, and members to try it with."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from consumer_groups.config import GroupConfig
from consumer_groups.coordinator import GroupCoordinator
from consumer_groups.errors import GroupError
from consumer_groups.requests import (
    AWAY_EPOCH,
    LEAVE_EPOCH,
    Committer,
    HeartbeatReply,
    HeartbeatRequest,
    OffsetCommit,
    Partition,
    TopicPartitions,
)
from logstore.errors import LogStoreError
from tests.consumer_groups.fakes import FakeClock, FakeTopics, MemoryJournal

Result = TypeVar("Result")

#: More turns of the loop than anything here takes that is not waiting for a time or a heartbeat.
TURNS = 30
#: Real time, after which a test that waits for what does not come is stopped.
HANG_S = 20


async def turns() -> None:
    for _ in range(TURNS):
        await asyncio.sleep(0)


class World:
    """A server's coordinator with all it stands on. One topic, `t`, with four partitions of offsets 0 to 100."""

    def __init__(self, config: GroupConfig | None = None) -> None:
        self.config = config or GroupConfig(assignment_interval_ms=0)
        self.clock = FakeClock()
        self.topics = FakeTopics()
        self.topics.create("t", 4)
        self.journal = MemoryJournal()
        self.coordinator = self._new()

    def _new(self) -> GroupCoordinator:
        return GroupCoordinator(self.journal, self.topics, self.clock, self.config)

    async def restart(self) -> None:
        """Kill the process, and start another on what is in the journal."""
        old = self.coordinator
        self.journal = self.journal.after_crash()
        self.coordinator = self._new()
        await old.stop()
        await self.coordinator.start()

    async def pass_time(self, ms: int) -> None:
        self.clock.now_ms += ms
        self.coordinator.run_due()
        await turns()

    async def offsets(self, group: str = "g") -> dict[int, int]:
        rows = await self.coordinator.fetch_offsets(group, None)
        return {row.partition: row.offset for row in rows}

    def member(self, member_id: str, **fields: Any) -> "Member":
        return Member(self, member_id, **fields)


@asynccontextmanager
async def running(config: GroupConfig | None = None) -> AsyncIterator[World]:
    world = World(config)
    async with asyncio.timeout(HANG_S):
        await world.coordinator.start()
        yield world
        await world.coordinator.stop()


class Member:
    """A member that does what it is told, when it is told to."""

    def __init__(
        self, world: World, member_id: str, *, topics: tuple[str, ...] = ("t",), instance_id: str = ""
    ) -> None:
        self.world = world
        self.member_id = member_id
        self.topics = topics
        self.instance_id = instance_id
        self.epoch = 0
        self.assignment: tuple[TopicPartitions, ...] = ()

    @property
    def partitions(self) -> list[int]:
        return sorted(number for topic in self.assignment for number in topic.partitions)

    async def join(self) -> HeartbeatReply:
        self.epoch, self.assignment = 0, ()
        return await self.beat(subscription=self.topics, owned=())

    async def beat(self, *, wait_ms: int = 0, **fields: Any) -> HeartbeatReply:
        """A heartbeat that says nothing new, but for the fields given; its answer is taken to heart."""
        reply = await self.world.coordinator.heartbeat(self.request(**fields), wait_ms)
        self.epoch = reply.member_epoch
        if reply.assignment is not None:
            self.assignment = reply.assignment
        return reply

    async def acknowledge(self) -> HeartbeatReply:
        """Say that it holds what it may hold, and nothing else any more."""
        return await self.beat(owned=self.assignment)

    async def catch_up(self) -> None:
        """Do as told until there is nothing more to be told."""
        for _ in range(4):
            await self.beat()
            await self.acknowledge()

    async def leave(self) -> None:
        await self.world.coordinator.heartbeat(self.request(member_epoch=LEAVE_EPOCH), 0)

    async def step_away(self) -> None:
        await self.world.coordinator.heartbeat(self.request(member_epoch=AWAY_EPOCH), 0)

    async def commit(
        self, partition: int, offset: int, *, number: int = 0, **fields: Any
    ) -> GroupError | LogStoreError | None:
        commit = OffsetCommit("t", partition, offset, **fields)
        results = await self.world.coordinator.commit_offsets(
            "g", Committer(self.member_id, self.epoch, number), [commit]
        )
        return results[0]

    def request(self, **fields: Any) -> HeartbeatRequest:
        return HeartbeatRequest(
            **{
                "group": "g",
                "member_id": self.member_id,
                "member_epoch": self.epoch,
                "instance_id": self.instance_id,
                **fields,
            }
        )


async def settle(*members: Member) -> None:
    """Let all of them do as told until nothing moves."""
    for _ in range(3):
        for member in members:
            await member.catch_up()


def start(work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
    return asyncio.get_running_loop().create_task(work)


def partition(world: World, number: int, topic: str = "t") -> Partition:
    info = world.topics.topic(topic)
    assert info is not None
    return Partition(info.topic_id, number)
