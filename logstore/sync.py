"""The sync: what makes appends durable, for all logs of a data directory, in rounds and off the owner thread.

    owner thread   append ... note_append, request            publish -> high watermarks, waiters, room
                        |                                         ^
    sync thread         +--> collect -> perform (fdatasync, syncfs) -> post(publish) -> maintain, checkpoint, steps

One round covers every append that waits when it begins (group commit). It works on what `Log.unsynced` says at that
moment, segments rather than descriptor numbers, predecessors first; nothing of it is published before all is synced,
directory entries of new files included. After the acks went out, the same thread does what may be late: it seals rolled
segments, stores index rows and snapshots, writes the checkpoint, at most once a second, and takes the steps of longer
jobs, such as removing files, of which no more than a few are taken while a round is due.

A failed write or sync is final. Nothing is published after it, nothing is tried again, and `on_failure` hears of it.
A full disk is not a failure where late work meets it: it is done when there is room.

`Synchronizer` has no thread: a test drives `run_round` and one seed replays a run. `SyncThread` only decides when.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, Protocol

from logstore.checkpoint import PartitionCheckpoint
from logstore.clock import Clock
from logstore.disk import Disk
from logstore.errors import StorageFailed, StorageFull
from logstore.segment import Segment

CHECKPOINT_MS = 1000
#: So much of what a clean stop leaves is written at a time.
STOP_BYTES = 16 * 1024 * 1024
#: Late work makes room for a round that is due after this long, and goes on after it.
LATE_WORK_MS = 5
#: Measured on ext4: from about four files on one syncfs is faster than an fdatasync each, unless each file has much.
FILESYSTEM_SYNC_FILES_MIN = 4
FILESYSTEM_SYNC_FILE_BYTES_MAX = 512 * 1024
#: What each takes, to begin with; then what they took lately. A syncfs also waits for what others have dirty on the
#: filesystem, so one that took twice what an fdatasync of every file takes is not tried again for a while.
FILE_SYNC_MS = 0.7
FILE_SYNC_MS_MIN = 0.25
FILESYSTEM_SYNC_MS = 1.0
FILESYSTEM_SYNC_PAUSE_MS = 10_000


class LogEnd(NamedTuple):
    """Where a log ended at one moment. Assigned as one, so that any thread sees values that belong together."""

    segment: Segment
    position: int
    offset: int
    max_timestamp_ms: int
    last_append_ms: int
    appended_bytes: int  # by this process, in all segments


@dataclass(frozen=True, slots=True)
class Unsynced:
    """What one log wants synced: these segments, in this order, and then it ends at `end` for sure."""

    log: "SyncedLog"
    segments: Sequence[Segment]
    end: LogEnd
    bytes_count: int


class SyncedLog(Protocol):
    """What the synchronizer asks of a log."""

    @property
    def flush_ms(self) -> int: ...

    def unsynced(self) -> Unsynced:
        """Any thread."""
        ...

    def publish(self, unsynced: Unsynced) -> int:
        """Owner thread: it is synced. Returns how many bytes are no longer dirty."""
        ...

    def maintain(self, end: LogEnd) -> None:
        """Sync thread: late work, for a log that is synced up to `end`."""
        ...

    def prepare_clean_stop(self, end: LogEnd) -> tuple[Path, bytes]:
        """At a clean stop: the late work that only the next start has use for, and a file to be replaced."""
        ...

    def checkpoint(self) -> PartitionCheckpoint:
        """Sync thread: up to where everything is synced, after the last `maintain`."""
        ...


@dataclass(frozen=True, slots=True)
class SyncWork:
    items: Sequence[Unsynced]
    whole_filesystem: bool


class Synchronizer:
    def __init__(
        self,
        directory: Path,
        *,
        disk: Disk,
        clock: Clock,
        dirty_bytes_max: int,
        post: Callable[[Callable[[], None]], object],
        on_failure: Callable[[BaseException], None],
        write_checkpoint: Callable[[Sequence[PartitionCheckpoint]], None],
    ) -> None:
        """`post` runs a callback on the owner thread, in order. `write_checkpoint` gets the rows that changed."""
        self.directory = directory
        self.post = post
        self.failure: BaseException | None = None
        self.dirty_bytes = 0  # appended and not published. Owner thread
        self.changed = threading.Condition(threading.Lock())
        self._disk = disk
        self._clock = clock
        self._dirty_bytes_max = dirty_bytes_max
        self._on_failure = on_failure
        self._write_checkpoint = write_checkpoint
        self._room_waiters: list[Callable[[], None]] = []  # owner thread
        self._is_requested = False  # owner thread
        self._recovered: dict[SyncedLog, LogEnd] = {}  # owner thread
        # Guarded by `changed`:
        self._dirty: dict[SyncedLog, int] = {}  # log: when its sync is due at the latest, monotonic
        self._is_due = False
        self._next_due_ms: int | None = None
        self._forgotten: list[SyncedLog] = []
        self._new_jobs: list[Iterator[object]] = []
        # Of the sync thread:
        self._jobs: deque[Iterator[object]] = deque()  # all that was appended before them is synced
        self._late: dict[SyncedLog, LogEnd] = {}  # synced up to there, and the late work is still to do
        self._unfinished: dict[SyncedLog, LogEnd] = {}  # done, but for what only a clean stop needs
        self._uncheckpointed: dict[SyncedLog, None] = {}
        self._checkpoint_due_ms = clock.monotonic_ms()
        self._maintain_due_ms = 0
        self._file_sync_ms = FILE_SYNC_MS
        self._filesystem_sync_ms = FILESYSTEM_SYNC_MS
        self._filesystem_synced_at_ms = 0
        self._trusts_filesystem_sync = disk.can_sync_filesystem(directory)

    # Owner thread.

    def note_append(self, log: SyncedLog, size: int) -> None:
        """Size bytes were appended, and the log's `unsynced` covers them already. 0: there is only late work for it."""
        self.dirty_bytes += size
        is_crowded = self.dirty_bytes * 2 > self._dirty_bytes_max and not self._is_due
        # Without the lock: a round that takes the log off the list now asks it for its end after that.
        if log in self._dirty and not is_crowded:
            return
        with self.changed:
            if log not in self._dirty:
                due_ms = self._clock.monotonic_ms() + log.flush_ms
                self._dirty[log] = due_ms
                if self._next_due_ms is None or due_ms < self._next_due_ms:
                    self._next_due_ms = due_ms
                    self.changed.notify()
            if is_crowded:
                self._make_due()  # so that there is room again before all of it is used

    def request(self) -> None:
        """Somebody waits: sync what is dirty. Those who append in the same turn of the loop are waited for."""
        if not self._is_requested:
            self._is_requested = True
            self.post(self._begin_requested)

    def _begin_requested(self) -> None:
        self._is_requested = False
        with self.changed:
            if self._dirty:
                self._make_due()

    def _make_due(self) -> None:
        self._is_due = True
        self.changed.notify()

    def has_room(self, size: int) -> bool:
        """Whether an append of size may go ahead. One larger than the cap may when nothing else is dirty."""
        return self.dirty_bytes == 0 or self.dirty_bytes + size <= self._dirty_bytes_max

    def on_room(self, callback: Callable[[], None]) -> None:
        """Call back once, when dirty bytes have become fewer. Ask `has_room` again then."""
        self._room_waiters.append(callback)
        self.request()

    def forget(self, log: SyncedLog, dirty_bytes: int) -> None:
        """The log is deleted: nobody waits for its bytes any more, and no round that begins later touches it."""
        self._recovered.pop(log, None)
        with self.changed:
            self._dirty.pop(log, None)
            self._forgotten.append(log)
        self._release(dirty_bytes)

    def note_recovered(self, log: SyncedLog) -> None:
        """It had to be read when it was opened. A clean stop spares the next start that, also without an append."""
        self._recovered[log] = log.unsynced().end

    def run_in_steps(self, job: Iterator[object]) -> None:
        """Advance the iterator to its end, on the sync thread, one job after the other.

        Between two steps a round may come, so that nobody waits for more than one of them. It begins when everything
        appended until now is synced, and when no round can be under way that began before now.
        """
        with self.changed:
            self._new_jobs.append(job)
            self._make_due()

    def publish(self, work: SyncWork) -> None:
        """What the round synced is now durable, and is said to be."""
        self._release(sum(item.log.publish(item) for item in work.items))

    def _release(self, size: int) -> None:
        self.dirty_bytes -= size
        assert self.dirty_bytes >= 0
        if size and self._room_waiters:
            waiters, self._room_waiters = self._room_waiters, []
            for callback in waiters:
                callback()

    def fail(self, error: BaseException) -> None:
        """A write or sync failed: from here on nothing is appended and nothing published. Any thread."""
        if self.failure is None:
            self.failure = error
            self.post(partial(self._on_failure, error))

    # Sync thread, or a test in its place.

    def wait_ms(self) -> int | None:
        """How long there is nothing to do, None for ever. Called with `changed` held."""
        if self.failure is not None:
            return None
        if self._is_due or self._jobs:
            return 0
        times = [self._next_due_ms] if self._next_due_ms is not None else []
        if self._uncheckpointed:
            times.append(self._checkpoint_due_ms)
        if self._late:
            times.append(self._maintain_due_ms)
        return max(0, min(times) - self._clock.monotonic_ms()) if times else None

    def run_round(self) -> None:
        """One round: collect, perform, publish, and then the late work and the steps there is time for."""
        if self.failure is not None:
            return
        try:
            work = self.collect()
            if work is not None:
                self.perform(work)
                self.post(partial(self.publish, work))
            self._do_late_work()
            self._take_steps()
        except Exception as error:
            self.fail(error)

    def finish(self) -> None:
        """Sync all, do all late work, write the checkpoint: for a clean stop, on the owner thread, without the other.

        Late work that there is no room for is left to the next start. Raises StorageFailed, and then the stop is not
        clean.
        """
        if self.failure is not None:
            raise StorageFailed(
                f"the data directory could not be closed cleanly: {self.failure}",
                remedy="Check the disk, then start again: recovery begins at the last synced point.",
            ) from self.failure
        work = self.collect(everything=True)
        if work is not None:
            self.perform(work)
            self.publish(work)
        for log, end in self._late.items():
            with suppress(StorageFull):
                log.maintain(end)
        self._unfinished = self._recovered | self._unfinished | self._late
        self._recovered = {}
        self._uncheckpointed.update(dict.fromkeys(self._late))
        self._late.clear()
        self._take_steps()
        with suppress(StorageFull):
            self._stop_logs()
        self._checkpoint()

    def _stop_logs(self) -> None:
        """Many logs at a time: alone, each of them would wait for two syncs, 10,000 of them for most of a minute."""
        contents: dict[Path, bytes] = {}
        bytes_count = 0
        while self._unfinished:
            log, end = self._unfinished.popitem()
            path, data = log.prepare_clean_stop(end)
            contents[path] = data
            bytes_count += len(data)
            if bytes_count >= STOP_BYTES or not self._unfinished:
                is_better_whole = self._trusts_filesystem_sync and len(contents) >= FILESYSTEM_SYNC_FILES_MIN
                self._disk.replace_files(contents, whole_filesystem=is_better_whole)
                contents.clear()
                bytes_count = 0

    def collect(self, *, everything: bool = False) -> SyncWork | None:
        """Take what is due: every dirty log when somebody waits, else those whose time has come."""
        now_ms = self._clock.monotonic_ms()
        with self.changed:
            if everything or self._is_due:
                logs = list(self._dirty)
            else:
                logs = [log for log, due_ms in self._dirty.items() if due_ms <= now_ms]
            for log in logs:
                del self._dirty[log]
            self._is_due = False
            self._next_due_ms = min(self._dirty.values(), default=None)
            forgotten, self._forgotten = self._forgotten, []
            self._jobs.extend(self._new_jobs)
            self._new_jobs.clear()
        for log in forgotten:
            self._late.pop(log, None)
            self._unfinished.pop(log, None)
            self._uncheckpointed.pop(log, None)
        items = [log.unsynced() for log in logs]
        return SyncWork(items, self._is_better_whole(items, now_ms)) if items else None

    def _is_better_whole(self, items: Sequence[Unsynced], now_ms: int) -> bool:
        if not self._trusts_filesystem_sync:
            return False
        if now_ms - self._filesystem_synced_at_ms >= FILESYSTEM_SYNC_PAUSE_MS:
            self._filesystem_sync_ms = FILESYSTEM_SYNC_MS  # whoever made it slow may be done
        files_count = sum(len(item.segments) for item in items)
        bytes_count = sum(item.bytes_count for item in items)
        return (
            files_count >= FILESYSTEM_SYNC_FILES_MIN
            and bytes_count <= files_count * FILESYSTEM_SYNC_FILE_BYTES_MAX
            and self._filesystem_sync_ms <= 2 * files_count * self._file_sync_ms
        )

    def perform(self, work: SyncWork) -> None:
        """Sync. When it returns, everything in the work is on the disk, names included."""
        segments = [segment for item in work.items for segment in item.segments]
        started_ms = self._clock.monotonic_ms()
        if work.whole_filesystem:
            self._disk.sync_filesystem(self.directory)
            self._filesystem_synced_at_ms = self._clock.monotonic_ms()
            self._filesystem_sync_ms = float(self._filesystem_synced_at_ms - started_ms)
        else:
            # Predecessors stand before their successors, so a cut in between leaves no hole that was whole before.
            for segment in segments:
                segment.sync()
            for directory in dict.fromkeys(segment.directory for segment in segments if not segment.is_named):
                self._disk.sync_dir(directory)
            if segments:
                each_ms = (self._clock.monotonic_ms() - started_ms) / len(segments)
                self._file_sync_ms = max(FILE_SYNC_MS_MIN, self._file_sync_ms * 0.8 + each_ms * 0.2)
        for segment in segments:
            segment.is_named = True
        for item in work.items:
            self._late[item.log] = item.end

    def _do_late_work(self) -> None:
        started_ms = self._clock.monotonic_ms()
        for log, end in list(self._late.items()):
            try:
                log.maintain(end)
            except StorageFull:
                self._maintain_due_ms = self._clock.monotonic_ms() + CHECKPOINT_MS
            else:
                del self._late[log]
            self._unfinished[log] = end
            self._uncheckpointed[log] = None
            if self._must_make_room(started_ms):
                break
        if self._uncheckpointed and self._clock.monotonic_ms() >= self._checkpoint_due_ms:
            self._checkpoint()

    def _take_steps(self) -> None:
        started_ms = self._clock.monotonic_ms()
        while self._jobs:
            try:
                next(self._jobs[0])
            except StopIteration:
                self._jobs.popleft()
            if self._must_make_room(started_ms):
                break

    def _must_make_room(self, started_ms: int) -> bool:
        now_ms = self._clock.monotonic_ms()
        next_due_ms = self._next_due_ms
        is_due = self._is_due or (next_due_ms is not None and next_due_ms <= now_ms)
        return is_due and now_ms - started_ms >= LATE_WORK_MS

    def _checkpoint(self) -> None:
        self._write_checkpoint([log.checkpoint() for log in self._uncheckpointed])
        self._uncheckpointed.clear()
        self._checkpoint_due_ms = self._clock.monotonic_ms() + CHECKPOINT_MS


class SyncThread:
    """Runs the rounds when there is something to do."""

    def __init__(self, synchronizer: Synchronizer) -> None:
        self._synchronizer = synchronizer
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="logstore-sync", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Return when the round under way has ended. `Synchronizer.finish` does the rest."""
        with self._synchronizer.changed:
            self._is_stopping = True
            self._synchronizer.changed.notify()
        self._thread.join()

    def _run(self) -> None:
        changed = self._synchronizer.changed
        while True:
            with changed:
                while not self._is_stopping and (wait_ms := self._synchronizer.wait_ms()) != 0:
                    changed.wait(None if wait_ms is None else wait_ms / 1000)
                if self._is_stopping:
                    return
            self._synchronizer.run_round()
