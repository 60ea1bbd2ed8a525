"""Retention: whole segments go, the oldest first, by the age of their last append and by the size of their log; and
records before any offset, when somebody says so.

    owner thread    choose, move the log starts          (readers see the new starts at once)
    sync thread     snapshots -> log starts in both slots of the checkpoint -> files, a segment a step

Each arrow is a sync. Without the snapshot a crash would bring up a log that has forgotten what idempotent producers
wrote in the deleted segments, and take a batch sent again for a new one; with an older log start the missing segments
would look lost. What there is no room for, or is not synced yet, waits for the next time, with the files it belongs to.

Whoever deletes records is answered after the second arrow: from there on no crash brings them back.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

from logstore.checkpoint import Checkpoint
from logstore.clock import WallClockPast
from logstore.errors import LogStoreError, StorageFull
from logstore.log import Log
from logstore.spare import SpareRoom
from logstore.sync import Synchronizer

#: Called with None once a log start is on the disk, or with what is in the way.
Stored = Callable[[LogStoreError | None], None]


class Retention:
    """Owner thread. One removal is under way at a time, and until it has ended nothing more is chosen by age or size.

    Whoever deletes records meanwhile shares the next one with all others who do.
    """

    def __init__(self, checkpoint: Checkpoint, synchronizer: Synchronizer, spare: SpareRoom) -> None:
        self._checkpoint = checkpoint
        self._spare = spare
        self._synchronizer = synchronizer
        self._waiting: dict[Log, list[tuple[int, Stored]]] = {}
        self.is_removing = False

    def apply(self, logs: Iterable[Log], past: WallClockPast) -> int:
        """Choose what goes now, and have it removed; return how many segments that are."""
        if self.is_removing:
            return 0
        count = 0
        logs = list(logs)
        for log in logs:
            count += log.retire()
            start = log.retention_start(past)
            if start > log.log_start_offset:
                count += log.advance_log_start(start)
        self.remove(logs)
        return count

    def delete_before(self, log: Log, offset: int, on_stored: Stored) -> None:
        """Start the log there, unless it starts later, and call back once when the start it has now is on the disk.

        StorageFull, when there is no room for that: readers see the new start all the same, and it is on the disk when
        there is room and somebody deletes records or retention has its turn.
        """
        if offset > log.log_start_offset:
            log.advance_log_start(offset)
        if log.is_start_stored:
            on_stored(None)
            return
        self._waiting.setdefault(log, []).append((log.log_start_offset, on_stored))
        if not self.is_removing:
            self.remove((log,))

    def remove(self, logs: Iterable[Log]) -> None:
        """Remove what the log starts have left behind, also before a crash."""
        shortened = [log for log in logs if log.has_retired or not log.is_start_stored]
        if shortened:
            self.is_removing = True
            self._synchronizer.run_in_steps(self._remove([(log, log.log_end_offset) for log in shortened]))

    def _remove(self, logs: Sequence[tuple[Log, int]]) -> Iterator[None]:
        """On the sync thread, with the offset up to which each log was synced before the first step."""
        refused: dict[Log, StorageFull] = {}
        for log, synced_offset in logs:
            try:
                self._store_snapshot(log, synced_offset)
            except StorageFull as error:
                refused[log] = error
            yield
        rows = [log.checkpoint() for log, _ in logs]
        self._checkpoint.update(rows)
        self._checkpoint.write(both=True)  # the older slot too, which a start may have to go by
        starts = {log: row.log_start_offset for (log, _), row in zip(logs, rows, strict=True)}
        self._synchronizer.post(partial(self._stored, starts, refused))
        yield
        for log, start in starts.items():
            yield from log.remove_retired(start)
        self._spare.take()
        self._synchronizer.post(partial(self._end, list(starts)))

    def _store_snapshot(self, log: Log, synced_offset: int) -> None:
        try:
            log.store_snapshot(synced_offset)
        except StorageFull:
            self._spare.give_up()
            log.store_snapshot(synced_offset)

    def _stored(self, starts: Mapping[Log, int], refused: Mapping[Log, StorageFull]) -> None:
        for log, start in starts.items():
            log.stored_start_offset = start
            for offset, on_stored in self._waiting.pop(log, ()):
                if offset <= start:
                    on_stored(None)
                elif log in refused:
                    on_stored(_not_for_good(log, offset, refused[log]))
                else:  # deleted meanwhile, or the log goes on behind what was synced
                    self._waiting.setdefault(log, []).append((offset, on_stored))

    def _end(self, logs: Sequence[Log]) -> None:
        self.is_removing = False
        for log in [log for log in self._waiting if log.is_deleted]:
            for _, on_stored in self._waiting.pop(log):
                on_stored(log.gone())
        # By now segments are sealed that were only rolled when the log start left them behind.
        again = [log for log in logs if not log.is_deleted and log.retire()]
        self.remove(dict.fromkeys((*again, *self._waiting)))


def _not_for_good(log: Log, offset: int, full: StorageFull) -> StorageFull:
    return StorageFull(
        f"the records of {log.topic} partition {log.partition} before offset {offset} are deleted, but not for good: "
        f"there is no room to note it, and a crash would bring them back ({full})",
        remedy="Free space, and delete them once more.",
    )
