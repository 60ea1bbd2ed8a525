"""The disk of this machine: the contract of `disk` in system calls; outside of Linux in the nearest there are.

numpy, and mmap-ninja with it, are imported where they are used: they take a fifth of the time that a server needs to
start, and nothing asks for them before a segment has been written for a while, or one that was sealed is read.
"""

import errno
import fcntl
import mmap
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from logstore import syscalls
from logstore.compression import Buffer
from logstore.disk import ARRAY_DATA, PAGE_BYTES, Cells, DiskFile, DiskLock, FileMap
from logstore.errors import DataDirectoryLocked, DataDirectoryUnusable, DataLoss, StorageFailed, StorageFull
from logstore.files import prepared_path

_FULL = (errno.ENOSPC, errno.EDQUOT)
#: A pass of compaction, which is another process, makes and removes files in a directory that is being removed.
REMOVALS_MAX = 20
_NOWAIT = getattr(os, "RWF_NOWAIT", 0)
_DIRECT = getattr(os, "O_DIRECT", 0)
_fdatasync = getattr(os, "fdatasync", None)


class LinuxDisk:
    """The real one. On macOS, for development, it syncs with F_FULLFSYNC and reserves nothing."""

    def exists(self, path: Path) -> bool:
        return path.exists()

    def list_dir(self, path: Path) -> list[str]:
        try:
            return sorted(os.listdir(path))
        except PermissionError as error:
            _raise_unusable(error, path)

    def make_dir(self, path: Path) -> None:
        try:
            if path.is_dir():
                return
            if path.parent != path:
                self.make_dir(path.parent)
            path.mkdir(mode=0o700, exist_ok=True)
        except FileExistsError as error:
            raise DataDirectoryUnusable(
                f"{path} is {'a file' if path.is_file() else 'something else'}, and a directory is wanted there",
                remedy="Name a directory, which is made if it does not exist, or move away what stands there.",
            ) from error
        except OSError as error:
            _raise_unusable(error, path)
        self.sync_dir(path.parent)

    def make_dirs(self, parent: Path, names: Sequence[str]) -> None:
        self.make_dir(parent)
        for name in names:
            try:
                (parent / name).mkdir(mode=0o700, exist_ok=True)
            except OSError as error:
                _raise_unusable(error, parent / name)
        self.sync_dir(parent)

    def read_file(self, path: Path, bytes_max: int) -> bytes:
        try:
            with open(path, "rb") as file:
                data = file.read(bytes_max + 1)
        except PermissionError as error:
            _raise_unusable(error, path)
        except OSError as error:
            if isinstance(error, FileNotFoundError):
                raise
            raise _unreadable(error, path) from error
        if len(data) > bytes_max:
            raise DataLoss(
                f"{path} is larger than the {bytes_max} bytes that such a file can have",
                remedy="Move the file aside for inspection; it was not written by this program as it stands.",
            )
        return data

    def replace_file(self, path: Path, data: Buffer) -> None:
        self.replace_files({path: data}, whole_filesystem=False)

    def replace_files(self, contents: Mapping[Path, Buffer], *, whole_filesystem: bool) -> None:
        directories = list(dict.fromkeys(path.parent for path in contents))
        try:
            for path, data in contents.items():
                self._prepare(path, data, sync=not whole_filesystem)
        except StorageFull:
            for path in contents:
                self.remove(prepared_path(path))
            raise
        if whole_filesystem:
            self.sync_filesystem(directories[0])
        for path in contents:
            self.rename(prepared_path(path), path)
        if whole_filesystem:
            self.sync_filesystem(directories[0])
        else:
            for directory in directories:
                self.sync_dir(directory)

    def _prepare(self, path: Path, data: Buffer, *, sync: bool) -> None:
        try:
            with open(prepared_path(path), "wb", opener=_private) as file:
                file.write(data)
                file.flush()
                if sync:
                    _sync_descriptor(file.fileno())
        except OSError as error:
            _raise_write_failure(error, path)

    def create(self, path: Path) -> DiskFile:
        try:
            return LinuxFile(path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            raise
        except OSError as error:
            _raise_write_failure(error, path)

    def open(self, path: Path, *, writable: bool = False) -> DiskFile:
        return LinuxFile(path, _open(path, os.O_RDWR if writable else os.O_RDONLY))

    def open_uncached(self, path: Path) -> tuple[DiskFile, bool]:
        if _DIRECT:
            try:
                return DirectFile(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC | _DIRECT)), True
            except OSError as error:
                if isinstance(error, FileNotFoundError):
                    raise
                if error.errno != errno.EINVAL:  # tmpfs and some FUSE filesystems have no O_DIRECT
                    _raise_unusable(error, path)
        descriptor = _open(path, os.O_RDONLY)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        return LinuxFile(path, descriptor), False

    def rename(self, old: Path, new: Path) -> None:
        try:
            os.rename(old, new)
        except FileNotFoundError:
            raise
        except OSError as error:
            _raise_write_failure(error, new)

    def remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _raise_write_failure(error, path)

    def remove_tree(self, path: Path) -> None:
        for attempts_left in reversed(range(REMOVALS_MAX)):
            try:
                shutil.rmtree(path)
            except OSError as error:
                if isinstance(error, FileNotFoundError) and not path.exists():
                    return
                if error.errno not in (errno.ENOENT, errno.ENOTEMPTY) or attempts_left == 0:
                    _raise_write_failure(error, path)
            else:
                return

    def sync_dir(self, path: Path) -> None:
        self._sync_through(path, _sync_descriptor)

    def can_sync_filesystem(self, path: Path) -> bool:
        return syscalls.can_trust_syncfs(path)

    def sync_filesystem(self, path: Path) -> None:
        self._sync_through(path, syscalls.syncfs)

    def _sync_through(self, path: Path, sync: Callable[[int], None]) -> None:
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                sync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _sync_failed(error, path) from error

    def lock(self, path: Path) -> DiskLock:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            _raise_unusable(error, path)
        if not _flock(descriptor, fcntl.LOCK_EX, path):
            # Who only reads lets us in beside it, and has not written who it is.
            is_read = _flock(descriptor, fcntl.LOCK_SH, path)
            raise _is_read(path, descriptor) if is_read else _is_locked(path, descriptor)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
        return LinuxLock(descriptor)

    def lock_for_reading(self, path: Path) -> DiskLock:
        descriptor = _open(path, os.O_RDONLY)
        if not _flock(descriptor, fcntl.LOCK_SH, path):
            raise _is_locked(path, descriptor)
        return LinuxLock(descriptor)

    def write_array(self, path: Path, cells: Cells, *, columns: int) -> None:
        from logstore import arrays

        self.remove_tree(path)
        try:
            arrays.write(path, cells, columns)
        except OSError as error:
            _raise_write_failure(error, path)
        for name in os.listdir(path):
            file = self.open(path / name)
            try:
                file.sync()
            finally:
                file.close()
        self.sync_dir(path)
        self.sync_dir(path.parent)

    def extend_array(self, path: Path, cells: Cells, *, columns: int, count: int) -> None:
        from logstore import arrays

        try:
            arrays.extend(path, cells, columns, count)
        except FileNotFoundError:
            raise
        except OSError as error:
            _raise_write_failure(error, path)

    def read_array(self, path: Path) -> bytes:
        file = self.open(path / ARRAY_DATA)
        try:
            return file.pread(file.size(), 0)
        finally:
            file.close()

    def open_array(self, path: Path, shape: tuple[int, int]) -> memoryview | None:
        from logstore import arrays

        try:
            return arrays.open_existing(path, shape)
        except (OSError, ValueError):
            return None


class LinuxFile:
    """An open file by its descriptor. Closing belongs to whoever counts its users."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._can_reserve = True

    def pwritev(self, buffers: Sequence[Buffer], position: int) -> None:
        size = sum(map(len, buffers))
        try:
            written = os.pwritev(self._descriptor, buffers, position)
            if written != size:
                self._write_rest(b"".join(buffers), position, written)
        except OSError as error:
            _raise_write_failure(error, self.path)

    def _write_rest(self, data: bytes, position: int, written: int) -> None:
        view = memoryview(data)
        while written < len(view):
            written += os.pwrite(self._descriptor, view[written:], position + written)

    def pread(self, size: int, position: int) -> bytes:
        try:
            data = os.pread(self._descriptor, size, position)
            while len(data) < size and (more := os.pread(self._descriptor, size - len(data), position + len(data))):
                data += more
        except OSError as error:
            raise _unreadable(error, self.path, position) from error
        return data

    def pread_nowait(self, size: int, position: int) -> Buffer | None:
        if not _NOWAIT:
            return None
        buffer = bytearray(size)
        try:
            count = os.preadv(self._descriptor, [buffer], position, _NOWAIT)
        except OSError:  # EAGAIN, or a filesystem that cannot say: the waiting read settles it
            return None
        return buffer if count == size else None

    def reserve(self, position: int, size: int) -> None:
        try:
            if self._can_reserve:
                self._can_reserve = syscalls.fallocate_keep_size(self._descriptor, position, size)
        except OSError as error:
            _raise_write_failure(error, self.path)

    def sync(self) -> None:
        try:
            _sync_descriptor(self._descriptor)
        except OSError as error:
            raise _sync_failed(error, self.path) from error

    def truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            _raise_write_failure(error, self.path)

    def size(self) -> int:
        return os.fstat(self._descriptor).st_size

    def map(self) -> FileMap:
        return LinuxMap(mmap.mmap(self._descriptor, 0, prot=mmap.PROT_READ))

    def close(self) -> None:
        os.close(self._descriptor)


class DirectFile(LinuxFile):
    """A file opened with O_DIRECT, for reading: blocks and buffers aligned, so it reads more and hands out a part."""

    def pread(self, size: int, position: int) -> bytes:
        start = position - position % PAGE_BYTES
        wanted = position + size - start
        aligned = mmap.mmap(-1, wanted + -wanted % PAGE_BYTES)  # anonymous maps begin on a page
        view = memoryview(aligned)
        filled = 0
        try:
            while filled < wanted:
                count = os.preadv(self._descriptor, [view[filled:]], start + filled)
                filled += count
                if count == 0 or filled % PAGE_BYTES:  # the end of the file
                    break
            return bytes(view[position - start : min(filled, wanted)])
        except OSError as error:
            raise _unreadable(error, self.path, start + filled) from error
        finally:
            view.release()
            aligned.close()

    def pread_nowait(self, size: int, position: int) -> Buffer | None:
        return None


class LinuxMap:
    """A read-only map. The array holds the map, every view holds the array."""

    def __init__(self, source: mmap.mmap) -> None:
        import numpy as np

        self.size = len(source)
        self._bytes = np.frombuffer(source, dtype=np.uint8)
        self._address = self._bytes.ctypes.data

    def view(self, position: int, size: int) -> memoryview:
        assert 0 <= position <= position + size <= self.size
        return self._bytes.data[position : position + size]

    def is_resident(self, position: int, size: int) -> bool:
        first = position - position % mmap.PAGESIZE
        return syscalls.is_resident(self._address + first, position + size - first)


class LinuxLock:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        os.close(self._descriptor)


def _sync_descriptor(descriptor: int) -> None:
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)  # its fsync stops at the drive's cache
    elif _fdatasync is not None:
        _fdatasync(descriptor)
    else:
        os.fsync(descriptor)


def _flock(descriptor: int, kind: int, path: Path) -> bool:
    """Take the lock, unless somebody is in the way."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            return False
        os.close(descriptor)
        _raise_unusable(error, path)
    return True


def _is_locked(path: Path, descriptor: int) -> DataDirectoryLocked:
    """In the lock file its holder has written its pid. Closes the descriptor."""
    holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
    os.close(descriptor)
    return DataDirectoryLocked(
        f"{path.parent} is in use by another process (pid {holder})",
        remedy="Stop that process, or give this one another data directory.",
    )


def _is_read(path: Path, descriptor: int) -> DataDirectoryLocked:
    os.close(descriptor)
    return DataDirectoryLocked(
        f"{path.parent} is being read by another process, such as `logctl segments verify`",
        remedy="Wait until that has ended, or stop it.",
    )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _open(path: Path, flags: int) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as error:
        _raise_unusable(error, path)


def _raise_write_failure(error: OSError, path: Path) -> NoReturn:
    if error.errno in _FULL:
        raise StorageFull(
            f"no room on the filesystem of {path} ({error.strerror})",
            remedy="Free space or shorten retention; the same append can then be tried again.",
        ) from error
    if isinstance(error, PermissionError):
        _raise_unusable(error, path)
    raise StorageFailed(
        f"writing {path} failed: {error.strerror} (errno {error.errno})",
        remedy="Check the disk and the kernel log, then start again: recovery begins at the last synced point.",
    ) from error


def _sync_failed(error: OSError, path: Path) -> StorageFailed:
    return StorageFailed(
        f"syncing {path} failed: {error.strerror} (errno {error.errno})",
        remedy="Check the disk and the kernel log, then start again: recovery begins at the last synced point.",
    )


def _unreadable(error: OSError, path: Path, position: int | None = None) -> DataLoss:
    where = f"{path}" if position is None else f"{path} at position {position}"
    return DataLoss(
        f"{where} cannot be read: {error.strerror} (errno {error.errno})",
        remedy="Check the disk; copy the file elsewhere before anything is tried on it.",
    )


def _raise_unusable(error: OSError, path: Path) -> NoReturn:
    if error.errno in _FULL:
        _raise_write_failure(error, path)
    remedy = (
        "Raise the limit of open files (ulimit -n)."
        if error.errno in (errno.EMFILE, errno.ENFILE)
        else "Give the process a data directory that it may read and write."
    )
    raise DataDirectoryUnusable(
        f"{path} cannot be used: {error.strerror} (errno {error.errno})", remedy=remedy
    ) from error
