"""Compactions: which log is worth a pass, and how a log takes over what a pass has written.

    owner thread    plan: the sealed segments of one log                            -> a pass, elsewhere
    sync thread     the seals of what it has written, one by one, each in one step
    owner thread    the segments they name in the place of the old ones             (readers go on with what they have)
    sync thread     a minute later, the files of the old ones

The seal is the commit: before it is replaced the old segments are the log, afterwards the new one is, also for a start
after a crash, which removes whatever is of no segment. Batches whose records are gone no longer say what idempotent
producers wrote, so only what the snapshot on the disk covers is ever compacted.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import takewhile
from pathlib import Path

from logstore import files
from logstore.clock import Clock, WallClockPast
from logstore.compaction import CompactionPlan, CompactionResult
from logstore.disk import Disk
from logstore.errors import StorageFull
from logstore.log import Log
from logstore.seal import Seal
from logstore.segment import remove_file
from logstore.sync import Synchronizer

#: Whoever began to read an old segment has so long to open its file.
KEPT_MS = 60_000
#: A log whose pass failed is left alone for so long.
PAUSE_MS = 5 * 60_000
#: The bound of a pass's memory: about 150 bytes each.
KEYS_MAX = 2_000_000


@dataclass(frozen=True, slots=True)
class PlannedCompaction:
    log: Log
    plan: CompactionPlan


class Compactions:
    """Owner thread."""

    def __init__(self, disk: Disk, clock: Clock, synchronizer: Synchronizer) -> None:
        self._disk = disk
        self._clock = clock
        self._synchronizer = synchronizer
        self._paused: dict[Log, int] = {}  # until when, monotonic
        self._replaced: deque[tuple[int, Log, Sequence[Path]]] = deque()  # files to remove, and when
        self._is_ending = False  # the files of a pass are being named, or removed

    def plan(self, logs: Iterable[Log], past: WallClockPast) -> PlannedCompaction | None:
        """For the log with the largest part that was never compacted, of those where that is min.cleanable.dirty.ratio
        or more, or where some of it has waited for longer than max.compaction.lag.ms."""
        now_ms = self._clock.monotonic_ms()
        self._remove_replaced(now_ms)
        self._paused = {log: until_ms for log, until_ms in self._paused.items() if until_ms > now_ms}
        if self._is_ending:
            return None
        best: tuple[float, Log, tuple[Seal, ...]] | None = None
        for log in logs:
            config = log.config
            if not config.is_compacted or log in self._paused:
                continue
            log.roll_overdue(past)
            seals = log.compactable_seals(past)
            dirty = [seal for seal in seals if seal.next_offset > log.compacted_offset]
            ratio = _part(dirty, seals)
            overdue_ms = past.ago(config.max_compaction_lag_ms)
            is_due = ratio >= config.min_cleanable_dirty_ratio or any(s.first_append_ms < overdue_ms for s in dirty)
            if is_due and ratio > (best[0] if best else 0):
                best = ratio, log, seals
        if best is None:
            return None
        _, log, seals = best
        wall_ms, delete_retention_ms = self._clock.wall_ms(), log.config.delete_retention_ms
        plan = CompactionPlan(
            directory=log.directory,
            seals=seals,
            dirty_offset=log.compacted_offset,
            now_ms=wall_ms,
            # Where the wall clock would be now if it had not jumped since tombstones were stamped that are due now.
            past_horizon_ms=min(wall_ms, past.ago(delete_retention_ms) + delete_retention_ms),
            delete_retention_ms=delete_retention_ms,
            segment_bytes=log.config.segment_bytes,
            index_interval_bytes=log.config.index_interval_bytes,
            keys_max=KEYS_MAX,
        )
        return PlannedCompaction(log, plan)

    def take(self, planned: PlannedCompaction, result: CompactionResult) -> None:
        """Have the log take over what a pass has written, but for what retention has removed meanwhile.

        A seal that names some segments that are gone, and some that stay, would say of files that are not there that
        they hold what stays, and a start would take those that do for replaced. What follows it is not taken either:
        tombstones would begin to wait, or go, while what they delete is still before them.
        """
        log = planned.log
        seals = list(filter(log.has_some_of, result.seals))
        whole = list(takewhile(log.has_all_of, seals))
        dirty_offset = result.dirty_offset
        if len(whole) < len(seals):
            dirty_offset = min(dirty_offset, seals[len(whole)].base_offset)
        self._begin_end(planned, whole, dirty_offset)

    def give_up(self, planned: PlannedCompaction) -> None:
        """The pass has failed, and its process has ended."""
        self._begin_end(planned, (), None)

    def _begin_end(self, planned: PlannedCompaction, seals: Sequence[Seal], dirty_offset: int | None) -> None:
        self._is_ending = planned.log.is_taking_over = True
        replaced = {path for _, _, paths in self._replaced for path in paths}
        self._synchronizer.run_in_steps(self._take(planned, seals, dirty_offset, replaced))

    def _take(
        self, planned: PlannedCompaction, seals: Sequence[Seal], dirty_offset: int | None, replaced: AbstractSet[Path]
    ) -> Iterator[None]:
        """Sync thread. In order: below each seal everything is as the pass has it, also after a crash."""
        log = planned.log
        named = {path for seal in planned.plan.seals for path in _files_of(seal, log)} | replaced
        for seal in seals:
            if log.is_deleted:
                break
            try:
                self._disk.replace_file(files.seal_path(log.directory, seal.base_offset), seal.encode())
            except StorageFull:
                dirty_offset = None
                break
            named.update(_files_of(seal, log))
            self._synchronizer.post(partial(self._put_in_place, log, seal))
            yield
        if not log.is_deleted:
            yield from self._remove_unnamed(planned, named)
        self._synchronizer.post(partial(self._end, log, dirty_offset))

    def _remove_unnamed(self, planned: PlannedCompaction, named: AbstractSet[Path]) -> Iterator[None]:
        """Remove what the pass has written and no seal speaks of. Its process may have been killed, so that nobody has
        a list: it is what has the offsets of the plan, and the names of what passes write."""
        bases = {seal.base_offset for seal in planned.plan.seals}
        for name in self._disk.list_dir(planned.log.directory):
            parsed, path = files.parse_segment_file(name), planned.log.directory / name
            if parsed is None or parsed.base_offset not in bases or path in named:
                continue
            if parsed.generation > 0 or parsed.crc is not None:
                with suppress(StorageFull):  # Some filesystems need room for that, too: it is left to the next time.
                    remove_file(self._disk, path)
                yield

    def _put_in_place(self, log: Log, seal: Seal) -> None:
        self._replaced.append((self._clock.monotonic_ms() + KEPT_MS, log, log.replace_segments(seal)))

    def _end(self, log: Log, compacted_offset: int | None) -> None:
        """None: the pass has failed, or there was no room for a seal. What was taken over stays, and another pass
        begins where this one did."""
        self._is_ending = log.is_taking_over = False
        if compacted_offset is None:
            self._paused[log] = self._clock.monotonic_ms() + PAUSE_MS
        else:
            log.compacted_offset = max(log.compacted_offset, compacted_offset)

    def _remove_replaced(self, now_ms: int) -> None:
        while self._replaced and self._replaced[0][0] <= now_ms:
            _, log, paths = self._replaced.popleft()
            self._synchronizer.run_in_steps(log.remove_replaced(paths))


def _files_of(seal: Seal, log: Log) -> tuple[Path, Path]:
    return (
        files.log_path(log.directory, seal.base_offset, seal.generation),
        files.sealed_index_path(log.directory, seal.base_offset, seal.index_crc),
    )


def _part(some: Sequence[Seal], seals: Sequence[Seal]) -> float:
    total = sum(seal.end_position for seal in seals)
    return sum(seal.end_position for seal in some) / total if total else 0.0
