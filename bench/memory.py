"""Memory as on a machine that has been up for a while: full of what files have left there.

A virtual machine's host may give a page of memory only when it is written to first, and take it back when it is free
again. Files are written to such memory at 0.4 GB/s on the machine of these figures, and at 4 GB/s to memory that was
in use before, whoever writes them. Full of clean pages the kernel takes those, which the host has given already.
"""

import os
from pathlib import Path

from bench.process import MIB

_MEMINFO = Path("/proc/meminfo")
_READ_BYTES = 4 * MIB
#: Nothing of it is on the disk.
_SPARSE_BYTES = 1 << 40


class FullMemory:
    def __init__(self, directory: Path) -> None:
        self._descriptor = os.open(directory / "sparse", os.O_RDWR | os.O_CREAT)
        os.ftruncate(self._descriptor, _SPARSE_BYTES)
        self._position = 0

    def fill(self) -> None:
        """Sync what waits to be written, and read from a file of zeros until no page is free."""
        os.sync()
        end = self._position + _free_bytes()
        buffer = bytearray(_READ_BYTES)
        while self._position < end:
            read = os.preadv(self._descriptor, [buffer], self._position)
            # From its beginning again, of which little is in memory by then.
            self._position, end = (self._position + read, end) if read else (0, end - self._position)

    def close(self) -> None:
        os.close(self._descriptor)


def _free_bytes() -> int:
    """0 where the kernel does not tell."""
    if not _MEMINFO.exists():
        return 0
    fields = dict(line.split(":") for line in _MEMINFO.read_text().splitlines())
    return int(fields["MemFree"].removesuffix("kB")) * 1024
