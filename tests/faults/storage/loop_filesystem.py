"""An ext4 in a file, whose power can be cut: a real kernel and a real filesystem that forget what was not synced.

`cut_power` is the ioctl that xfstests uses, FS_IOC_SHUTDOWN with NOLOGFLUSH: neither the data nor the journal that the
kernel still holds reaches the disk, and from then on every write and sync is EIO. What the next mount finds is what a
power cut at that moment leaves. It says nothing of the write cache of a drive, which a loop device does not have.
"""

import fcntl
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

SHUTDOWN = 0x8004587D  # _IOR('X', 125, __u32) of linux/fs.h
NOLOGFLUSH = 2
SIZE_BYTES = 512 << 20
MKFS = shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def why_not() -> str | None:
    """Why there can be no such filesystem on this machine, None if there can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "mounting a filesystem needs root"
    if MKFS is None:
        return "there is no mkfs.ext4"
    if not Path("/dev/loop-control").exists():
        return "there are no loop devices"
    return None


def unmount(path: Path) -> None:
    # Whoever was killed may not have let go yet.
    for _ in range(50):
        result = subprocess.run(["umount", str(path)], capture_output=True, text=True)
        if result.returncode == 0:
            return
        time.sleep(0.1)
    raise AssertionError(f"{path} stays busy: {result.stderr}")


def shut_down(mount: Path) -> None:
    """Cut a mounted filesystem off from its disk."""
    descriptor = os.open(mount, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NOLOGFLUSH))
    finally:
        os.close(descriptor)


class LoopFilesystem:
    def __init__(self, directory: Path, *, size_bytes: int = SIZE_BYTES) -> None:
        """Made in `directory`, which needs room for what is written to it. Mounted on entering, gone on leaving."""
        self.path = directory / "mount"
        self._image = directory / "image"
        self._size_bytes = size_bytes

    def mount(self, *, commit_seconds: int = 5) -> None:
        """`commit_seconds` is how often the journal is written by itself: never sooner than anybody syncs."""
        subprocess.run(
            ["mount", "-o", f"loop,commit={commit_seconds}", str(self._image), str(self.path)],
            check=True,
            capture_output=True,
        )

    def unmount(self) -> None:
        unmount(self.path)

    def is_stopped(self) -> bool:
        """Whether the filesystem takes no more writes, because its journal has failed."""
        try:
            (self.path / "probe").touch()
        except OSError:
            return True
        return False

    def cut_power(self) -> None:
        shut_down(self.path)

    def __enter__(self) -> Self:
        self.path.mkdir()
        self._make()
        self.mount()
        return self

    def _make(self, *options: str) -> None:
        assert MKFS is not None
        with self._image.open("wb") as image:
            image.truncate(self._size_bytes)
        subprocess.run([MKFS, "-q", "-F", *options, str(self._image)], check=True, capture_output=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.unmount()
        self._image.unlink()
        self.path.rmdir()
