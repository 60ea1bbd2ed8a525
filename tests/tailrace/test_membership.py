"""The times that a member keeps, on a loop whose time is the test's."""

import asyncio
from types import SimpleNamespace
from typing import cast

from logwire.v1 import groups_pb2 as pb
from tailrace.connection import Connection
from tailrace.membership import Membership, MembershipSettings
from tailrace.positions import PartitionKey
from tests.consumer_groups.fakes import FakeClock
from tests.faults.simulation.loop import SimulatedLoop

TOPIC_ID = b"t" * 16
A, B, C = (PartitionKey("t", TOPIC_ID, number) for number in range(3))


class Calls:
    """In the place of a connection: the test answers the heartbeat that is under way."""

    groups = SimpleNamespace(Heartbeat=None)

    def __init__(self) -> None:
        self.request: pb.HeartbeatRequest | None = None
        self.answer: asyncio.Future[pb.HeartbeatResponse] | None = None

    async def call(self, method: object, request: pb.HeartbeatRequest, **settings: object) -> pb.HeartbeatResponse:
        self.request = request
        self.answer = asyncio.get_running_loop().create_future()
        return await self.answer


class Member:
    """A member with a session of 100 s and two seconds to give partitions up."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self._began_ms = self.clock.now_ms
        self.loop = SimulatedLoop.on(self.clock)
        self.calls = Calls()
        self.lost = 0
        made: list[Membership] = []
        settings = MembershipSettings("g", ("t",), "", "", 2_000, "")

        async def make() -> None:
            made.append(
                Membership(
                    cast(Connection, self.calls),
                    settings,
                    "m",
                    on_assigned=lambda keys: None,
                    on_revoked=lambda keys: None,
                    on_lost=self._note_lost,
                    on_failed=lambda error: None,
                )
            )

        self.loop.create_task(make())
        self.run()
        [self.membership] = made

    def _note_lost(self) -> None:
        self.lost += 1

    def run(self) -> None:
        self.loop.run(1000, lambda: None)

    def at(self, seconds: float) -> None:
        self.clock.now_ms = self._began_ms + round(seconds * 1000)
        self.run()

    def is_told(self, *assigned: PartitionKey) -> None:
        """The heartbeat under way is answered: it may hold these."""
        reply = pb.HeartbeatResponse(member_id="m", member_epoch=1, heartbeat_interval_ms=5000)
        reply.session_timeout_ms = 100_000
        reply.assignment.SetInParent()
        for key in assigned:
            reply.assignment.topic_partitions.add(topic=key.topic, topic_id=key.topic_id, partitions=[key.partition])
        assert self.calls.answer is not None
        self.calls.answer.set_result(reply)
        self.run()

    def says(self) -> set[int]:
        """What the heartbeat under way names as owned."""
        assert self.calls.request is not None
        return {number for part in self.calls.request.owned.topic_partitions for number in part.partitions}

    def end(self) -> None:
        self.loop.create_task(self.membership.leave())
        self.run()
        assert self.calls.request is not None
        assert self.calls.request.member_epoch == -1
        self.is_told()


def test_each_partition_that_is_to_be_given_up_has_its_own_time() -> None:
    member = Member()
    member.is_told(A, B, C)
    member.at(0.5)
    member.is_told(B, C)
    member.at(1.4)
    member.is_told(B, C)
    member.at(1.6)
    member.is_told(C)
    member.membership.release([A])
    member.run()
    assert member.says() == {1, 2}
    member.at(1.7)
    member.is_told(C)
    member.at(2.4)
    assert member.lost == 0, "A was given up in time, and B has longer"
    member.at(2.6)
    assert member.lost == 1, "B was not"
    member.end()


def test_who_gives_up_in_time_and_says_so_loses_nothing() -> None:
    member = Member()
    member.is_told(A, B)
    member.is_told(B)
    member.membership.release([A])
    member.run()
    assert member.says() == {1}
    member.is_told(B)
    member.at(99)
    assert member.lost == 0
    member.at(101)
    assert member.lost == 1, "the session"
    member.end()
