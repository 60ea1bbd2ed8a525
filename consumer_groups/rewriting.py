"""Keeps the journal short: now and then every group is written anew at its end, and what was before it is let go.

    [ old changes ........ ][ a whole ][ a commit ][ b whole ][ c whole ]
    ^ start of the journal  ^ mark                                       ^ all is said again: the mark is the start now

The journal stays the only truth, so a crash loses nothing at any moment: until the start has moved, everything is there
as before, and what was written anew says the same once more. A group is written while it has the turn, so that no
change of it is in the journal before its image and not in it; groups that come to be later are behind the mark.

It needs room for all that is said once more before it makes any. On a disk that is nearly full it leaves what there is
to the changes of groups, and tries again more and more seldom: what a try has written stays until one succeeds.
"""

import asyncio
import logging

from consumer_groups.errors import GroupsUnavailable
from consumer_groups.journal_records import encode_all
from consumer_groups.live import RETRY_MS, LiveGroup, LiveGroups
from consumer_groups.surroundings import Journal
from logstore.errors import StorageFull

log = logging.getLogger(__name__)

#: How many groups are written side by side, to share syncs.
GROUPS_AT_ONCE = 32
#: How many records are encoded and written at once: some milliseconds of one core.
RECORDS_AT_ONCE = 2_000
#: As many are encoded on the loop, being done before a thread has begun.
RECORDS_ON_LOOP = 100
#: The journal is let grow to so many times what it takes to say everything once.
GROWTH = 3
#: After each try that failed, the next waits twice as long, up to this.
RETRY_MS_MAX = 300_000


class Rewriting:
    def __init__(self, groups: LiveGroups) -> None:
        self._groups = groups
        self._state_records_count = 0
        self._is_running = False
        self._not_before_ms = 0
        self._retry_ms = RETRY_MS

    def begin(self, state_records_count: int) -> None:
        """state_records_count: what is left of the journal when all that is superseded is taken away."""
        self._state_records_count = state_records_count
        self._groups.on_append = self.look
        self.look()

    def look(self) -> None:
        """Start if the journal has become long."""
        groups = self._groups
        records_max = max(groups.config.journal_records_max, GROWTH * self._state_records_count)
        if self._is_running or not groups.is_open or groups.journal.records_count <= records_max:
            return
        if groups.clock.monotonic_ms() >= self._not_before_ms:
            self._is_running = True
            groups.spawn(self._run())

    async def _run(self) -> None:
        journal = self._groups.journal
        before = journal.records_count
        mark = journal.end
        written = 0
        try:
            # Also those that are blank as yet: a first commit of theirs may be under way, and before the mark.
            groups = self._groups.named()
            size_max = journal.size_bytes + _size_anew(journal, groups)
            for first in range(0, len(groups), GROUPS_AT_ONCE):
                if not self._groups.is_open:
                    return
                _check_room(journal, size_max)
                some = groups[first : first + GROUPS_AT_ONCE]
                results = await asyncio.gather(*map(self._rewrite, some), return_exceptions=True)
                for result in results:
                    if isinstance(result, BaseException):
                        raise result
                    written += result
        except (StorageFull, GroupsUnavailable) as error:
            self._not_before_ms = self._groups.clock.monotonic_ms() + self._retry_ms
            log.warning(
                "groups: the journal of %d records cannot be shortened now: %s. It is tried again in %d s",
                before,
                error,
                self._retry_ms // 1000,
            )
            self._retry_ms = min(2 * self._retry_ms, RETRY_MS_MAX)
            return
        finally:
            self._is_running = False
        journal.forget_before(mark)
        self._retry_ms = RETRY_MS
        self._state_records_count = written
        log.info("groups: the journal had %d records, and has %d", before, journal.records_count)

    async def _rewrite(self, live: LiveGroup) -> int:
        """Write all of a group anew; return how many records that took."""
        async with live.turns.change():
            if live.is_blank or not self._groups.is_current(live):
                return 0  # Deleted, or never there: it is in the journal no more, or in no need of being.
            image = live.image()
            for first in range(0, len(image), RECORDS_AT_ONCE):
                some = image[first : first + RECORDS_AT_ONCE]
                if len(some) <= RECORDS_ON_LOOP:
                    await self._groups.append(some)
                else:
                    await self._groups.append_encoded(await asyncio.to_thread(encode_all, some))
            return len(image)


def _size_anew(journal: Journal, groups: list[LiveGroup]) -> int:
    """About what the groups take written anew: their share of the journal's records, twice since theirs may be larger
    than others, but never more than all. What is superseded does not count, nor what a try that failed has written."""
    records_count = sum(live.group.records_count + len(live.offsets) for live in groups)
    return min(journal.size_bytes, 2 * journal.size_bytes * records_count // journal.records_count)


def _check_room(journal: Journal, size_max: int) -> None:
    """Raise StorageFull unless the journal can grow to that."""
    missing = max(0, size_max - journal.size_bytes)
    if not journal.has_room(missing):
        raise StorageFull(
            f"writing it anew may take {missing} bytes more, which would be the last room on the disk",
            remedy="Free space; it is tried again by itself.",
        )
