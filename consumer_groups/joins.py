"""The asyncio side of the classic protocol: joins and syncs that wait for others, and what comes between them."""

import asyncio
from collections.abc import Callable, Sequence
from itertools import count
from typing import TypeVar
from uuid import uuid4

from consumer_groups import kinds
from consumer_groups.classic.checks import JOIN_AS_NEW
from consumer_groups.classic.group import ClassicGroup
from consumer_groups.classic.requests import Answer, JoinReply, JoinRequest, Leaver, SyncReply, SyncRequest
from consumer_groups.errors import GroupError, UnknownMemberId
from consumer_groups.live import LiveGroup, LiveGroups

Reply = TypeVar("Reply", JoinReply, SyncReply)
#: Changes a draft at a time of the monotonic clock, for the request with the ticket.
Event = Callable[[ClassicGroup, int, int], None]


class Joins:
    def __init__(self, groups: LiveGroups) -> None:
        self._groups = groups
        self._tickets = count(1)

    async def join(self, request: JoinRequest) -> JoinReply:
        # As Kafka names them: so an operator sees whose it is.
        new_member_id = f"{request.instance_id or request.client_id}-{uuid4()}"
        return await self._ask(
            request.group,
            request.member_id,
            lambda draft, ticket, now_ms: draft.join(request, ticket, new_member_id, now_ms),
            JoinReply,
        )

    async def sync(self, request: SyncRequest) -> SyncReply:
        return await self._ask(
            request.group,
            request.member_id,
            lambda draft, ticket, now_ms: draft.sync(request, ticket, now_ms),
            SyncReply,
        )

    async def heartbeat(self, name: str, member_id: str, generation: int, instance_id: str) -> None:
        self._check_there(name, member_id)
        await self._groups.fence_late(name)
        # As for a commit: nothing durable changes, and a change under way would forget that the member was heard of.
        async with self._groups.commit(name) as live:
            if not isinstance(live.group, ClassicGroup):
                raise _unknown(name, member_id)
            live.group.heartbeat(member_id, instance_id, generation, self._groups.clock.monotonic_ms())

    async def leave(self, name: str, leavers: Sequence[Leaver]) -> list[GroupError | None]:
        live = self._groups.get(name)
        if live is None or not isinstance(live.group, ClassicGroup):
            return [_unknown(name, leaver.member_id or leaver.instance_id) for leaver in leavers]
        return await self._groups.finish(self._leave(name, leavers))

    async def _leave(self, name: str, leavers: Sequence[Leaver]) -> list[GroupError | None]:
        async with self._groups.change(name, create=True) as live:
            draft = self._draft(live)
            results = draft.leave(leavers, self._groups.clock.monotonic_ms())
            await self._groups.write(live, draft)
        return results

    async def _ask(self, name: str, member_id: str, event: Event, kind: type[Reply]) -> Reply:
        """Let an event happen, and wait for its answer for as long as that takes."""
        if member_id:
            self._check_there(name, member_id)
        answer = await (await self._groups.finish(self._take(name, event)))
        if answer is None:
            self._groups.check_open()
            raise _unknown(name, member_id)
        if isinstance(answer, GroupError):
            raise answer
        assert isinstance(answer, kind), "a ticket is answered as it was taken"
        return answer

    async def _take(self, name: str, event: Event) -> "asyncio.Future[Answer | None]":
        ticket = next(self._tickets)
        waiting: asyncio.Future[Answer | None] = asyncio.get_running_loop().create_future()
        async with self._groups.change(name, create=True) as live:
            draft = self._draft(live)
            event(draft, ticket, self._groups.clock.monotonic_ms())
            live.waiting[ticket] = waiting
            try:
                await self._groups.write(live, draft)
            except BaseException:
                live.waiting.pop(ticket, None)
                raise
            if not self._groups.is_open:
                live.answer(ticket, None)
        return waiting

    def _draft(self, live: LiveGroup) -> ClassicGroup:
        groups = self._groups
        return kinds.classic_draft(live.group, groups.config, groups.topics.topic, groups.clock.monotonic_ms())

    def _check_there(self, name: str, member_id: str) -> None:
        """Raise UnknownMemberId if there is no such group, or none with members of that kind: no one else makes it."""
        live = self._groups.get(name)
        if live is None or (not isinstance(live.group, ClassicGroup) and not live.group.members):
            raise _unknown(name, member_id)


def _unknown(name: str, member_id: str) -> UnknownMemberId:
    return UnknownMemberId(
        f"there is no classic group {name!r}, so member {member_id!r} is not in it",
        remedy=JOIN_AS_NEW,
    )
