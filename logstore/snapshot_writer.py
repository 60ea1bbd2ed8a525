"""Takes the snapshots of a log, and puts each on the disk when that is synced as far as the snapshot goes.

    owner thread   take -> waiting ------+                            forget -> take_due
                                         |                              ^
    sync thread    store_rows -> due     +--> store, once synced -------+

A snapshot is taken of what is derived from the log up to its end, which is ahead of the disk, so it waits for a round
of the sync; one at a time does. By that the two rules of the file hold that `snapshot` has.
"""

from array import array
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from logstore.disk import Disk
from logstore.index import ActiveIndex, IndexTail, StoredRows
from logstore.segment import Segment
from logstore.snapshot import Snapshot, encode_snapshot
from logstore.sync import LogEnd

SNAPSHOT_INTERVAL_BYTES = 16 * 1024 * 1024
#: So many index rows are in a snapshot rather than in an array of their own, which is a directory with five files.
TAIL_ROWS_MAX = 256


class PendingSnapshot(NamedTuple):
    """One that goes to the disk once the log is synced up to its offset."""

    next_offset: int
    data: bytes


class SnapshotWriter:
    """It knows the log's files and what is derived from it, and not the log, which says when its turn is."""

    def __init__(
        self, path: Path, disk: Disk, derived: Snapshot, topic_id: UUID, partition: int, *, stored_offset: int
    ) -> None:
        """stored_offset: of the snapshot on the disk. `derived` is what the log goes on with, and changes with it."""
        self._path = path
        self._disk = disk
        self._derived = derived._replace(tail=None)  # which is of the index as it was at the start
        self._topic_id = topic_id
        self._partition = partition
        self._waiting: PendingSnapshot | None = None
        self._is_due = False
        # Of the sync thread:
        self._rows_stored_at_bytes = 0
        self._stored: PendingSnapshot | None = None
        #: What is below has left its mark in the snapshot on the disk, or was deleted without: that cannot be helped.
        self.stored_offset = stored_offset

    # Owner thread.

    @property
    def is_waiting(self) -> bool:
        return self._waiting is not None

    @property
    def covered_offset(self) -> int:
        """What is below has left its mark in the snapshot on the disk, or will have in the one that waits."""
        return max(self.stored_offset, 0 if self._waiting is None else self._waiting.next_offset)

    def take(self, active: Segment) -> None:
        """Take one in the place of what waits, if any does."""
        self._is_due = False
        self._waiting = PendingSnapshot(self._derived.next_offset, self._encoded(active))

    def take_due(self, active: Segment) -> bool:
        """Take one if it is due. Not in the place of one that waits: appended to faster than it is synced, no log would
        ever store any."""
        if not self._is_due or self.is_waiting:
            return False
        self.take(active)
        return True

    def note_rows(self, index: ActiveIndex, stored: StoredRows) -> None:
        """A snapshot is due, which says how many rows there are now, and their CRC."""
        index.mark_stored(stored)
        self._is_due = True

    def forget(self, stored: PendingSnapshot) -> None:
        """It is on the disk."""
        if self._waiting is not None and self._waiting.next_offset <= stored.next_offset:
            self._waiting = None

    def prepare_clean_stop(self, end: LogEnd, active: Segment) -> tuple[Path, bytes]:
        """Where the last snapshot is to be, and what is in it. In the place of the sync thread, too: the rows for which
        it has no room are on the disk then."""
        index = end.segment.index
        if index.in_memory().count > TAIL_ROWS_MAX:
            stored = index.store()
            index.sync()  # or the power, if it goes soon afterwards, takes what the snapshot says is there
            index.mark_stored(stored)
        return self._path, self._encoded(active)

    def _encoded(self, active: Segment) -> bytes:
        stored, rows = active.index.stored, active.index.in_memory()
        newest = rows.cells if rows.count <= TAIL_ROWS_MAX else array("q")
        tail = IndexTail(active.base_offset, newest, stored)
        return encode_snapshot(self._derived._replace(tail=tail), self._topic_id, self._partition)

    # Sync thread.

    def store_rows(self, end: LogEnd) -> StoredRows | None:
        """Put index rows on the disk, if there is enough to say of a log that is synced up to `end`. They count when
        the owner thread has noted them."""
        if end.appended_bytes - self._rows_stored_at_bytes < SNAPSHOT_INTERVAL_BYTES:
            return None
        index = end.segment.index
        stored = index.store()
        index.sync()  # before a snapshot says that they are there
        self._rows_stored_at_bytes = end.appended_bytes
        return stored

    def store(self, synced_offset: int) -> PendingSnapshot | None:
        """Put the snapshot that waits for it on the disk, unless the log goes on behind what is synced. Returns the one
        that was stored, for the owner thread to forget."""
        snapshot = self._waiting
        is_stored = snapshot is self._stored
        if snapshot is None or is_stored or not self.stored_offset <= snapshot.next_offset <= synced_offset:
            return None
        self._disk.replace_file(self._path, snapshot.data)
        self.stored_offset = snapshot.next_offset
        self._stored = snapshot
        return snapshot
