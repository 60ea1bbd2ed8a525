"""Open files with a count of their users, and maps without one: who owns what is read from, and until when.

- A handle is an open file. Whoever acquires it releases it, and the last release closes it, unless the cache keeps it
  for the next user. So no read ever meets a descriptor number that meanwhile belongs to another file. A segment with
  unsynced bytes holds a handle of its own, so the cache cannot close what a sync still needs.
- A map is never closed. The cache forgets it, and the last view frees it: closed under a live view, the next read would
  be a dead process.
- A file may be removed while handles and views of it are out. They go on reading what they read before.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from logstore.disk import Disk, DiskFile, FileMap
from logstore.index import RowTable

T = TypeVar("T")


class Handle:
    """One open file, shared. Made and counted by `Handles` only."""

    __slots__ = ("_handles", "file", "is_cached", "users_count")

    def __init__(self, handles: "Handles", file: DiskFile) -> None:
        self.file = file
        self.users_count = 0
        self.is_cached = True
        self._handles = handles

    def release(self) -> None:
        self._handles.release(self)


class Handles:
    """Open files of all partitions, at most `open_max` of them while nobody uses more. Safe to use from any thread."""

    def __init__(self, disk: Disk, *, open_max: int, maps_max: int) -> None:
        assert open_max > 0
        self.disk = disk
        self.maps: Cache[Path, FileMap] = Cache(max(1, maps_max // 2))  # of sealed log files
        self.arrays: Cache[Path, RowTable] = Cache(max(1, maps_max // 2))  # of their indexes
        self._open_max = open_max
        self._lock = threading.Lock()
        self._used: dict[Path, Handle] = {}
        self._idle: OrderedDict[Path, Handle] = OrderedDict()  # least recently used first

    @property
    def open_count(self) -> int:
        return len(self._used) + len(self._idle)

    @property
    def used_count(self) -> int:
        """Files that somebody uses now: appended to and not synced yet, or being read."""
        return len(self._used)

    def acquire(self, path: Path, *, writable: bool = False) -> Handle:
        """Return the file, opened if it is not. May wait for the disk. FileNotFoundError if it was removed."""
        handle = self.acquire_open(path)
        if handle is None:
            handle = self._keep(path, self.disk.open(path, writable=writable))
        return handle

    def acquire_open(self, path: Path) -> Handle | None:
        """Return the file only if it is open: never waits."""
        with self._lock:
            handle = self._used.get(path)
            if handle is None:
                handle = self._idle.pop(path, None)
                if handle is None:
                    return None
                self._used[path] = handle
            handle.users_count += 1
            return handle

    def create(self, path: Path) -> Handle:
        """Make the file and return it open."""
        return self._keep(path, self.disk.create(path))

    def release(self, handle: Handle) -> None:
        with self._lock:
            assert handle.users_count > 0, "a handle was released more often than it was acquired"
            handle.users_count -= 1
            if handle.users_count > 0:
                return
            if handle.is_cached:
                path = handle.file.path
                del self._used[path]
                self._idle[path] = handle
            closing = self._evict() if handle.is_cached else [handle]
        _close(closing)

    def forget(self, path: Path) -> None:
        """Keep the file open no longer than its users need it: it is removed, or its mode changes."""
        with self._lock:
            idle = self._idle.pop(path, None)
            used = self._used.pop(path, None)
            for handle in (idle, used):
                if handle is not None:
                    handle.is_cached = False
        if idle is not None:
            _close([idle])

    def close_idle(self) -> None:
        """Close every file that nobody uses."""
        with self._lock:
            closing = list(self._idle.values())
            self._idle.clear()
        _close(closing)

    def _keep(self, path: Path, file: DiskFile) -> Handle:
        with self._lock:
            other = self._used.get(path) or self._idle.pop(path, None)
            handle = other or Handle(self, file)  # another thread may have opened the same file meanwhile
            handle.users_count += 1
            self._used[path] = handle
            closing = self._evict()
        _close(closing)
        if other is not None:
            file.close()
        return handle

    def _evict(self) -> list[Handle]:
        closing = []
        while self._idle and self.open_count > self._open_max:
            _, handle = self._idle.popitem(last=False)
            closing.append(handle)
        return closing


def _close(handles: list[Handle]) -> None:
    for handle in handles:
        handle.file.close()


K = TypeVar("K")


class Cache(Generic[K, T]):
    """The `count_max` most recently used values. Forgetting one only drops this reference to it."""

    def __init__(self, count_max: int) -> None:
        assert count_max > 0
        self._count_max = count_max
        self._lock = threading.Lock()
        self._values: OrderedDict[K, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def peek(self, key: K) -> T | None:
        with self._lock:
            value = self._values.get(key)
            if value is not None:
                self._values.move_to_end(key)
            return value

    def get(self, key: K, make: Callable[[], T]) -> T:
        """Return the value, made outside the lock if it is not there."""
        value = self.peek(key)
        if value is None:
            value = make()
            self.put(key, value)
        return value

    def put(self, key: K, value: T) -> None:
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._count_max:
                self._values.popitem(last=False)

    def forget(self, key: K) -> None:
        with self._lock:
            self._values.pop(key, None)
