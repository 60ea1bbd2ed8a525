"""Commits, one after the other, so that an older one never lands on a newer one."""

import asyncio
import itertools
from collections.abc import Callable

from tailrace import errors
from tailrace.connection import Connection, error_from_wire
from tailrace.errors import TailraceError
from tailrace.membership import Membership
from tailrace.offsets import commit_request
from tailrace.positions import Hold

#: An epoch that is just changing is waited for, this often.
STALE_ATTEMPTS_MAX = 5
STALE_WAIT_SECONDS = 2.0

#: Refusals that say: this is not yours any more.
_NOT_OURS = (
    errors.FencedMemberEpoch,
    errors.UnknownMemberId,
    errors.StaleMemberEpoch,
    errors.PartitionNotOwned,
    errors.UnknownTopicId,
    errors.UnknownTopicOrPartition,
)


class Committer:
    """On the I/O thread."""

    def __init__(self, connection: Connection, group: str, membership: Membership | None) -> None:
        """Without a membership it commits from outside the group, which must have no members then."""
        self._connection = connection
        self._group = group
        self._membership = membership
        self._lock = asyncio.Lock()
        #: So that one which was given up, and arrives after a newer one, is known when it does.
        self._numbers = itertools.count(1)

    async def commit(self, choose: Callable[[], dict[Hold, int]]) -> bool:
        """Commit what `choose` says once it is this commit's turn.

        True when all of it is committed, False when some of it is not this consumer's to commit any more. Raises what
        else can go wrong.
        """
        async with self._lock:
            offsets = choose()
            all_held = True
            for _ in range(STALE_ATTEMPTS_MAX):
                held = {hold: offset for hold, offset in offsets.items() if not hold.ended}
                all_held = all_held and len(held) == len(offsets)
                if not held:
                    return all_held
                outcome = await self._commit(held)
                if isinstance(outcome, bool):
                    return outcome and all_held
                if self._membership is None:
                    return False
                await self._membership.heartbeat_now(STALE_WAIT_SECONDS)
                offsets = {hold: offset for hold, offset in held.items() if offset != hold.committed_offset}
            return False

    async def _commit(self, offsets: dict[Hold, int]) -> bool | errors.StaleMemberEpoch:
        membership = self._membership
        request = commit_request(
            self._group,
            "" if membership is None else membership.member_id,
            -1 if membership is None else membership.epoch,
            0 if membership is None else next(self._numbers),
            {hold.key: offset for hold, offset in offsets.items()},
        )
        try:
            response = await self._connection.call(self._connection.groups.CommitOffsets, request)
        except errors.StaleMemberEpoch as stale:
            return stale
        except _NOT_OURS:
            return False
        ours = True
        failed: TailraceError | None = None
        stale_one: errors.StaleMemberEpoch | None = None
        for (hold, offset), answer in zip(offsets.items(), response.offsets, strict=True):
            if not answer.HasField("error"):
                hold.committed_offset = offset
                continue
            error = error_from_wire(answer.error)
            if isinstance(error, errors.StaleMemberEpoch):
                stale_one = error
            elif isinstance(error, _NOT_OURS):
                ours = False
            else:
                failed = failed or error
        if failed is not None:
            raise failed
        return stale_one if stale_one is not None and ours else ours
