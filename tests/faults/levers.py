"""What a test moves in a running server that the world moves otherwise: a disk that fails, a clock that jumps.

No bugs: the server must bear them. They are set up by `launch`, by name and with an argument.

    sync-error=N              the N-th sync of the process fails and does nothing
    sync-shutdown=N:MOUNT     the same, and the filesystem mounted there is cut off from its disk at that moment
    wall-clock=FILE           what `set_wall_clock` wrote to FILE is added to the wall clock; it may change at any time
    producer-expiry=MS        an idempotent producer is forgotten after this silence

Syncs are counted from the start of the process, fdatasync and syncfs together. Of a sync that was asked for after one
had failed there is a line on stderr, `sync after a failed one`.
"""

import errno
import mmap
import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from struct import Struct

from logserver import broker
from logstore import linux_disk, syscalls
from logstore.clock import SystemClock
from logstore.config import StoreConfig
from tests.faults.bugs.planted import patch
from tests.faults.storage.loop_filesystem import shut_down

OFFSET = Struct("<q")
SYNC_FAILED = "this sync fails"
SYNC_AFTER = "sync after a failed one"


def set_wall_clock(path: Path, milliseconds: int) -> None:
    """Say how far the wall clock of a server is to be off. The file stays the same one: servers have it mapped."""
    if not path.exists():
        path.write_bytes(bytes(OFFSET.size))
    with path.open("r+b") as file:
        file.write(OFFSET.pack(milliseconds))


class _FailingSync:
    """Stands before the system calls that sync, counts them, and makes one of them fail."""

    def __init__(self, number: int, mount: Path | None) -> None:
        self._left = number
        self._mount = mount

    def before(self, sync: Callable[[int], None]) -> Callable[[int], None]:
        def counted(descriptor: int) -> None:
            self._left -= 1
            if self._left < 0:
                _tell(SYNC_AFTER)
            if self._left == 0:
                _tell(SYNC_FAILED)
                if self._mount is None:
                    raise OSError(errno.EIO, os.strerror(errno.EIO))
                shut_down(self._mount)
            sync(descriptor)

        return counted


def _tell(what: str) -> None:
    sys.stderr.write(what + "\n")
    sys.stderr.flush()


def _fail_sync(argument: str) -> None:
    number, _, mount = argument.partition(":")
    failing = _FailingSync(int(number), Path(mount) if mount else None)
    patch(linux_disk, "_fdatasync", failing.before(os.fdatasync))
    patch(syscalls, "syncfs", failing.before(syscalls.syncfs))


def _move_wall_clock(argument: str) -> None:
    with open(argument, "rb") as file:
        offset = mmap.mmap(file.fileno(), OFFSET.size, prot=mmap.PROT_READ)
    wall_ms = SystemClock.wall_ms

    def moved(clock: SystemClock) -> int:
        return wall_ms(clock) + int(OFFSET.unpack_from(offset)[0])

    patch(SystemClock, "wall_ms", moved)


def _expire_producers(argument: str) -> None:
    patch(broker, "StoreConfig", partial(StoreConfig, producer_expiry_ms=int(argument)))


LEVERS: dict[str, Callable[[str], None]] = {
    "sync-error": _fail_sync,
    "sync-shutdown": _fail_sync,
    "wall-clock": _move_wall_clock,
    "producer-expiry": _expire_producers,
}
