"""Leader epochs of a partition and the offsets where they began.

The epoch rises at every unclean start. Whoever read up to some offset under an old epoch can ask where that epoch
ended, and so learns that what it read beyond was cut off. The file is derived, and says up to which offset it holds:
every batch carries its epoch.

    magic "TREPOC" | version u16 | next_offset i64 | count u32 | (epoch i32 | start_offset i64) ... | crc u32 of these
"""

from struct import Struct

from crc32c import crc32c

from logstore.errors import MetadataCorrupt

_MAGIC = b"TREPOC"
_VERSION = 1
_HEAD = Struct(">6sHqI")
_ENTRY = Struct(">iq")
_CRC = Struct(">I")

FILE_BYTES_MAX = 16 * 1024 * 1024


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

    def encode(self, next_offset: int) -> bytes:
        """As a file, which holds for the batches below next_offset. An epoch that began later is not in it."""
        entries = [_ENTRY.pack(*entry) for entry in self.entries if entry[1] < next_offset]
        body = _HEAD.pack(_MAGIC, _VERSION, next_offset, len(entries)) + b"".join(entries)
        return body + _CRC.pack(crc32c(body))


def decode_epochs(data: bytes) -> tuple[LeaderEpochs, int]:
    """The epochs and the next_offset of a file. MetadataCorrupt if it is not what `encode` made."""
    body = data[: -_CRC.size]
    if len(data) >= _HEAD.size + _CRC.size and crc32c(body) == _CRC.unpack(data[-_CRC.size :])[0]:
        magic, version, next_offset, count = _HEAD.unpack_from(body)
        if (magic, version) == (_MAGIC, _VERSION) and len(body) == _HEAD.size + count * _ENTRY.size:
            return LeaderEpochs(tuple(_ENTRY.iter_unpack(body[_HEAD.size :]))), next_offset
    raise MetadataCorrupt(
        "the file of leader epochs is damaged", remedy="None is needed: it is made anew from the log's batches."
    )
