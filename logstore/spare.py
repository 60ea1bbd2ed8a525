"""Spare room: some of the filesystem set aside, for what must go on when it is full.

Retention makes room by deleting, and has to write a little before it may; so does a start. When there is no room for
that, the spare room is given up, and taken again once there is some.
"""

from contextlib import suppress
from pathlib import Path

from logstore.disk import Disk
from logstore.errors import StorageFull

SPARE_BYTES = 1024 * 1024


class SpareRoom:
    """An empty file with blocks of its own. One thread at a time."""

    def __init__(self, path: Path, disk: Disk) -> None:
        self._path = path
        self._disk = disk

    def take(self) -> None:
        """Set it aside, unless there is no room or it is taken. What a crash leaves of it is as good."""
        with suppress(StorageFull):
            file = self._disk.open(self._path, writable=True) if self._is_taken() else self._disk.create(self._path)
            try:
                file.reserve(0, SPARE_BYTES)
            finally:
                file.close()

    def give_up(self) -> bool:
        """Return whether there is more room than before."""
        was_taken = self._is_taken()
        self._disk.remove(self._path)
        return was_taken

    def _is_taken(self) -> bool:
        return self._disk.exists(self._path)
