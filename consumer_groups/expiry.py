"""Offsets of a group that nobody runs any more go after a while, and then the group.

An offset goes when its group has had no members for the whole retention and it was committed before. Both are stamps of
the wall clock, which the journal keeps. A jump of that clock makes neither look old while the process runs (see
`WallClockPast`); after a restart the clock is taken at its word, as for the retention of logs.
"""

import asyncio
import logging

from consumer_groups.errors import GroupsUnavailable
from consumer_groups.live import LiveGroup, LiveGroups
from logstore.clock import WallClockPast
from logstore.errors import StorageFull

log = logging.getLogger(__name__)

#: Between two looks at the groups, and so at the clock.
INTERVAL_MS = 60_000


class Expiry:
    def __init__(self, groups: LiveGroups) -> None:
        self._groups = groups
        self._past = WallClockPast(groups.clock)

    def begin(self) -> None:
        if self._groups.config.offsets_retention_ms >= 0:
            self._again()

    def _again(self) -> None:
        self._groups.spawn_at(self._groups.clock.monotonic_ms() + INTERVAL_MS, self._run)

    async def _run(self) -> None:
        before_ms = self._past.ago(self._groups.config.offsets_retention_ms)
        try:
            for live in self._groups.all():
                if not live.group.members:
                    await asyncio.sleep(0)  # There may be thousands.
                    await self._expire(live, before_ms)
        except StorageFull as error:
            log.warning("groups: offsets that have expired cannot be removed now: %s", error)
        except GroupsUnavailable:
            return
        if self._groups.is_open:
            self._again()

    async def _expire(self, live: LiveGroup, before_ms: int) -> None:
        async with live.turns.change():
            group = live.group
            if group.members or not self._groups.is_open or not self._groups.is_current(live):
                return
            if not group.is_blank and group.emptied_ms is None:  # By an earlier version, which did not note when.
                draft = group.copy()
                draft.emptied(self._groups.clock.wall_ms())
                await self._groups.write(live, draft)
                return
            if group.emptied_ms is not None and group.emptied_ms >= before_ms:
                return
            expired = [partition for partition, value in live.offsets.items() if value.commit_time_ms < before_ms]
            if len(expired) == len(live.offsets):
                await self._groups.erase(live)
            elif expired:
                await self._groups.write(live, group.copy(), dropped=expired)
            else:
                return
        log.info("group %s: had no members for long: %d offsets have expired", live.name, len(expired))
