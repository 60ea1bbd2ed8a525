"""Leader epochs of a partition and the offsets where they began.

The epoch rises at every unclean start. Whoever read up to some offset under an old epoch can ask where that epoch
ended, and so learns that what it read beyond was cut off. They are derived: every batch carries its epoch.

    count u32 | (epoch i32 | start_offset i64) ...          in the partition's snapshot
"""

from struct import Struct

_COUNT = Struct(">I")
_ENTRY = Struct(">iq")


class LeaderEpochs:
    """(epoch, start_offset) pairs, both growing."""

    def __init__(self, entries: tuple[tuple[int, int], ...] = ()) -> None:
        self.entries = entries

    @property
    def latest(self) -> int:
        """The epoch of the last batch, -1 without any."""
        return self.entries[-1][0] if self.entries else -1

    def assign(self, epoch: int, start_offset: int) -> None:
        """Note that batches from start_offset on have this epoch. An epoch that is known already changes nothing."""
        if epoch > self.latest:
            kept = tuple(entry for entry in self.entries if entry[1] < start_offset)
            self.entries = (*kept, (epoch, start_offset))

    def end_of(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """(the largest known epoch <= epoch, the offset where it ended); (-1, -1) if none is known."""
        for number in range(len(self.entries) - 1, -1, -1):
            known, _ = self.entries[number]
            if known <= epoch:
                following = self.entries[number + 1 :]
                return known, following[0][1] if following else log_end_offset
        return -1, -1

    def pack(self) -> bytes:
        return _COUNT.pack(len(self.entries)) + b"".join(_ENTRY.pack(*entry) for entry in self.entries)

    @classmethod
    def unpack(cls, data: bytes, position: int) -> tuple["LeaderEpochs", int]:
        """What `pack` made, and where it ends. `struct.error` if it is cut."""
        (count,) = _COUNT.unpack_from(data, position)
        start = position + _COUNT.size
        end = start + count * _ENTRY.size
        return cls(tuple(_ENTRY.iter_unpack(data[start:end]))), end
