"""Retention: whole segments go, the oldest first, by the age of their last append and by the size of their log.

    owner thread    choose, move the log starts          (readers see the new starts at once)
    sync thread     snapshots -> log starts in both slots of the checkpoint -> files, a segment a step

Each arrow is a sync. Without the snapshot a crash would bring up a log that has forgotten what idempotent producers
wrote in the deleted segments, and take a batch sent again for a new one; with an older log start the missing segments
would look lost. What there is no room for, or is not synced yet, waits for the next time, with the files it belongs to.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from logstore.checkpoint import Checkpoint
from logstore.clock import WallClockPast
from logstore.errors import StorageFull
from logstore.log import Log
from logstore.spare import SpareRoom
from logstore.sync import Synchronizer


class Retention:
    """Owner thread. One removal is under way at a time, and until it has ended nothing more is chosen."""

    def __init__(self, checkpoint: Checkpoint, synchronizer: Synchronizer, spare: SpareRoom) -> None:
        self._checkpoint = checkpoint
        self._spare = spare
        self._synchronizer = synchronizer
        self.is_removing = False

    def apply(self, logs: Iterable[Log], past: WallClockPast) -> int:
        """Choose what goes now, and have it removed; return how many segments that are."""
        if self.is_removing:
            return 0
        count = 0
        logs = list(logs)
        for log in logs:
            start = log.retention_start(past)
            if start > log.log_start_offset:
                count += log.advance_log_start(start)
        self.remove(logs)
        return count

    def remove(self, logs: Iterable[Log]) -> None:
        """Remove what the log starts have left behind, also before a crash."""
        shortened = [log for log in logs if log.has_retired]
        if shortened:
            self.is_removing = True
            self._synchronizer.run_in_steps(self._remove([(log, log.log_end_offset) for log in shortened]))

    def _remove(self, logs: Sequence[tuple[Log, int]]) -> Iterator[None]:
        """On the sync thread, with the offset up to which each log was synced before the first step."""
        for log, synced_offset in logs:
            try:
                log.store_snapshot(synced_offset)
            except StorageFull:
                self._spare.give_up()
                with suppress(StorageFull):
                    log.store_snapshot(synced_offset)
            yield
        rows = [log.checkpoint() for log, _ in logs]
        self._checkpoint.update(rows)
        self._checkpoint.write(both=True)  # the older slot too, which a start may have to go by
        yield
        for (log, _), row in zip(logs, rows, strict=True):
            yield from log.remove_retired(row.log_start_offset)
        self._spare.take()
        self._synchronizer.post(self._end)

    def _end(self) -> None:
        self.is_removing = False
