"""The disk, passed in: the one place of this package that touches files.

Everything above speaks to a `Disk`, so that a test can give it one that loses what was not synced, tears pages, or
fails the n-th call. Three rules are kept here, for all:

- Written is not synced. `pwritev` reaches the page cache, `sync` the disk; a new, renamed or removed name is on the
  disk after `sync_dir` of its directory. Only what replaces files, makes directories and
  writes arrays syncs by itself.
- No room is told apart from broken. ENOSPC is StorageFull, and nothing that was there before is harmed. Every other
  failed write, and every failed sync (also one for want of room), is StorageFailed and final: after it the page cache
  holds what the disk may not, so nobody retries it.
- Nothing is stored through a map. On a full or failing disk that is a dead process rather than an error.
"""

from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from logstore.compression import Buffer

# The int64 of an array, row after row.
if TYPE_CHECKING:
    Cells = array[int]
else:
    Cells = array  # which takes no parameter before Python 3.12

PAGE_BYTES = 4096
#: The file of a mmap-ninja array that holds its rows; the others hold type, shape and order.
ARRAY_DATA = "data.ninja"


class FileMap(Protocol):
    """A whole file mapped read-only. Never closed by hand: the last view of it frees it."""

    size: int

    def view(self, position: int, size: int) -> memoryview:
        """A read-only slice without a copy. It stays valid after the file is closed, removed or evicted."""
        ...

    def is_resident(self, position: int, size: int) -> bool:
        """Whether touching those bytes needs no read from the disk."""
        ...


class DiskFile(Protocol):
    """An open file. Every method may be called from any thread."""

    path: Path

    def pwritev(self, buffers: Sequence[Buffer], position: int) -> None:
        """Write all the buffers, one after the other, at position. StorageFull or StorageFailed."""
        ...

    def pread(self, size: int, position: int) -> bytes:
        """Read size bytes; fewer only where the file ends. An unreadable block is DataLoss."""
        ...

    def pread_nowait(self, size: int, position: int) -> Buffer | None:
        """As pread, but None when it would have to wait for the disk."""
        ...

    def reserve(self, position: int, size: int) -> None:
        """Have the filesystem set blocks aside past the end, without growing the file. StorageFull."""
        ...

    def sync(self) -> None: ...

    def truncate(self, size: int) -> None:
        """Cut, or give a reservation past the end back. Only where no map of the file exists."""
        ...

    def size(self) -> int: ...

    def map(self) -> FileMap: ...

    def close(self) -> None: ...


class DiskLock(Protocol):
    def release(self) -> None: ...


class Disk(Protocol):
    """A filesystem. A path that does not exist is FileNotFoundError where nothing else is said."""

    def exists(self, path: Path) -> bool: ...

    def list_dir(self, path: Path) -> list[str]:
        """The names in a directory, sorted."""
        ...

    def make_dir(self, path: Path) -> None:
        """Make the directory (mode 0700) and the missing ones above it, synced. One that exists is left alone."""
        ...

    def make_dirs(self, parent: Path, names: Sequence[str]) -> None:
        """`make_dir` for many in one directory, which is synced once: 10,000 of them take 0.3 s instead of 8."""
        ...

    def read_file(self, path: Path, bytes_max: int) -> bytes:
        """The whole file. One larger than bytes_max is DataLoss: it is not what its reader believes it to be."""
        ...

    def replace_file(self, path: Path, data: Buffer) -> None:
        """Write the file anew: all of it or nothing, and synced when this returns."""
        ...

    def replace_files(self, contents: Mapping[Path, Buffer], *, whole_filesystem: bool) -> None:
        """`replace_file` for many, each of them all or nothing. `whole_filesystem`: by two syncs of that for all.

        StorageFull leaves all of them as they were, and takes no room.
        """
        ...

    def create(self, path: Path) -> DiskFile:
        """Make and open an empty file. FileExistsError if the name is taken."""
        ...

    def open(self, path: Path, *, writable: bool = False) -> DiskFile: ...

    def open_uncached(self, path: Path) -> tuple[DiskFile, bool]:
        """Open for reading what the disk has rather than what the page cache believes.

        False when the filesystem has no O_DIRECT: then the kernel was asked to drop its cached pages first, which it
        need not do.
        """
        ...

    def rename(self, old: Path, new: Path) -> None: ...

    def remove(self, path: Path) -> None:
        """Unlink. Whoever has the file open, or a view of its map, goes on reading it. A missing one is no error."""
        ...

    def remove_tree(self, path: Path) -> None: ...

    def sync_dir(self, path: Path) -> None: ...

    def can_sync_filesystem(self, path: Path) -> bool:
        """Whether this kernel and filesystem passed the power-cut test with `sync_filesystem`."""
        ...

    def sync_filesystem(self, path: Path) -> None:
        """Sync all that is dirty on the filesystem that holds path, names included."""
        ...

    def lock(self, path: Path) -> DiskLock:
        """Take the lock file, made if need be. DataDirectoryLocked when another process holds it."""
        ...

    def lock_for_reading(self, path: Path) -> DiskLock:
        """Hold the lock file beside other readers, so that nobody else takes it. It is not written to.

        FileNotFoundError if there is none, DataDirectoryLocked when a process has taken it for itself.
        """
        ...

    def write_array(self, path: Path, cells: Cells, *, columns: int) -> None:
        """Write a mmap-ninja array anew (a directory of that name), synced when this returns."""
        ...

    def extend_array(self, path: Path, cells: Cells, *, columns: int, count: int) -> None:
        """Put rows behind the first `count` of a mmap-ninja array, made for the first; not synced.

        What else it has is cut off first: a full disk may have taken half of what was to follow.
        """
        ...

    def read_array(self, path: Path) -> bytes:
        """The bytes of an array's rows, as many as its file has, whatever its shape file says."""
        ...

    def open_array(self, path: Path, shape: tuple[int, int]) -> memoryview | None:
        """The cells of an array, mapped; None unless its files say exactly that shape, so that a flipped bit maps
        nothing absurd."""
        ...
