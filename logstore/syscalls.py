"""System calls that Python's os module leaves out, by ctypes. Each tells when the platform has none."""

import ctypes
import errno
import os
import platform
import signal
import sys
from pathlib import Path

_FALLOC_FL_KEEP_SIZE = 1
_PR_SET_PDEATHSIG = 1
_EXT4_MAGIC = 0xEF53
_SYNCFS_REPORTS_ERRORS = (5, 8)  # before that kernel syncfs returned 0 whatever had happened

_libc = ctypes.CDLL(None, use_errno=True)


def fallocate_keep_size(descriptor: int, position: int, size: int) -> bool:
    """Set blocks aside without growing the file. OSError (ENOSPC); False if the filesystem cannot."""
    if not hasattr(_libc, "fallocate"):
        return False
    arguments = (ctypes.c_int(descriptor), ctypes.c_int(_FALLOC_FL_KEEP_SIZE))
    while _libc.fallocate(*arguments, ctypes.c_int64(position), ctypes.c_int64(size)) != 0:
        code = ctypes.get_errno()
        if code in (errno.EOPNOTSUPP, errno.ENOSYS):
            return False
        if code != errno.EINTR:
            raise OSError(code, os.strerror(code))
    return True


def syncfs(descriptor: int) -> None:
    """Sync the whole filesystem that the descriptor is on."""
    if _libc.syncfs(ctypes.c_int(descriptor)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def can_trust_syncfs(path: Path) -> bool:
    """Whether syncfs of this kernel and filesystem passed the power-cut test: ext4, since errors are reported."""
    if not hasattr(_libc, "syncfs") or _kernel_version() < _SYNCFS_REPORTS_ERRORS:
        return False
    return _filesystem_magic(path) == _EXT4_MAGIC


def die_with_parent() -> None:
    """Have the kernel end this process as soon as the one that started it has ended, where it can."""
    if hasattr(_libc, "prctl"):
        _libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))


def is_resident(address: int, size: int) -> bool:
    """Whether all pages from address (on a page boundary) on are in memory."""
    flags = (ctypes.c_ubyte * -(-size // os.sysconf("SC_PAGE_SIZE")))()
    if _libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), flags) != 0:
        return False
    return all(flag & 1 for flag in flags)


def _filesystem_magic(path: Path) -> int:
    """The first field of statfs(2), which Python's statvfs leaves out."""
    buffer = ctypes.create_string_buffer(256)
    if not hasattr(_libc, "statfs") or _libc.statfs(os.fsencode(path), buffer) != 0:
        return 0
    return int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], sys.byteorder)


def _kernel_version() -> tuple[int, int]:
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(digit for digit in minor if digit.isdigit()) or 0)
