"""An ext4 whose disk can run out of room behind its back: writes are then lost, once told of, and forgotten.

The image lies in a tmpfs and takes memory as far as it is written to. `exhaust` leaves the tmpfs none: the filesystem
believes that it has blocks, gives them out, and the write to a new one fails below it. The first sync that covers such
a write fails; the kernel then takes the pages for clean, so the next sync succeeds and reads from the cache show what
the disk never got. Writes of the journal and of the other metadata that was there from the beginning go on, so the
filesystem stays usable, and nothing but an uncached read or a remount tells.
"""

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.faults.storage.loop_filesystem import LoopFilesystem, unmount

PAGE_BYTES = 4096
SIZE_BYTES = 512 << 20
#: All inode tables and the journal lie below this, and are given memory at the beginning.
METADATA_BYTES = 17 << 20
ATTEMPTS_MAX = 100
MKFS_OPTIONS = ("-E", "lazy_itable_init=0,nodiscard", "-J", "size=8,location=9M")


class ThinFilesystem(LoopFilesystem):
    def __init__(self, directory: Path) -> None:
        self._memory = directory / "memory"
        super().__init__(self._memory, size_bytes=SIZE_BYTES)

    def mount(self, *, commit_seconds: int = 5) -> None:
        super().mount(commit_seconds=commit_seconds)
        # The loop driver takes a write that tmpfs did in part for one that was done (seen on 6.18): a disk that lies,
        # which nobody can bear. A write of one page is done or not.
        device = subprocess.run(
            ["findmnt", "--noheadings", "--output", "SOURCE", str(self.path)],
            check=True,
            capture_output=True,
            text=True,
        )
        loop = Path("/sys/block") / Path(device.stdout.strip()).name
        (loop / "queue" / "max_sectors_kb").write_text(str(PAGE_BYTES // 1024))

    def exhaust(self) -> None:
        for _ in range(ATTEMPTS_MAX):
            status = os.statvfs(self._memory)
            try:
                return self._limit((status.f_blocks - status.f_bfree) * status.f_frsize)
            except subprocess.CalledProcessError:
                continue  # more was written since it was counted
        raise AssertionError(f"{self._memory} is never left alone for as long as it takes to limit it")

    def replenish(self) -> None:
        self._limit(SIZE_BYTES + METADATA_BYTES)

    def _limit(self, size_bytes: int) -> None:
        self._mount_memory(f"remount,size={size_bytes}")

    def _mount_memory(self, options: str) -> None:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(self._memory)], check=True, capture_output=True
        )

    def _make(self, *options: str) -> None:
        super()._make(*MKFS_OPTIONS, *options)
        with self._image.open("r+b") as image:
            os.posix_fallocate(image.fileno(), 0, METADATA_BYTES)

    def __enter__(self) -> Self:
        self._memory.mkdir()
        self._mount_memory(f"size={SIZE_BYTES + METADATA_BYTES}")
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        unmount(self._memory)
        self._memory.rmdir()
