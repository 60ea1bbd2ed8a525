"""Leader epochs of a partition and the offsets where they began.

The epoch rises at every unclean start. Whoever read up to some offset under an old epoch can ask where that epoch
ended, and so learns that what it read beyond was cut off. The file is derived: every batch carries its epoch.
"""

from struct import Struct

from crc32c import crc32c

from logstore.errors import MetadataCorrupt

_MAGIC = b"TREPOC"
_VERSION = 1
_HEAD = Struct(">6sHI")  # magic, version, count
_ENTRY = Struct(">iq")  # epoch, start_offset
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

    def truncate(self, end_offset: int) -> None:
        """Forget the epochs that began at end_offset or after: their batches were cut off."""
        self.entries = tuple(entry for entry in self.entries if entry[1] < end_offset)

    def end_of(self, epoch: int, log_end_offset: int) -> tuple[int, int]:
        """(the largest known epoch <= epoch, the offset where it ended); (-1, -1) if none is known."""
        for number in range(len(self.entries) - 1, -1, -1):
            known, _ = self.entries[number]
            if known <= epoch:
                following = self.entries[number + 1 :]
                return known, following[0][1] if following else log_end_offset
        return -1, -1

    def encode(self) -> bytes:
        body = _HEAD.pack(_MAGIC, _VERSION, len(self.entries)) + b"".join(_ENTRY.pack(*entry) for entry in self.entries)
        return body + _CRC.pack(crc32c(body))


def decode_epochs(data: bytes) -> LeaderEpochs:
    """MetadataCorrupt if the bytes are not what `encode` made. Then the batches' own headers say it again."""
    body = data[: -_CRC.size]
    if len(data) >= _HEAD.size + _CRC.size and crc32c(body) == _CRC.unpack(data[-_CRC.size :])[0]:
        magic, version, count = _HEAD.unpack_from(body)
        if (magic, version) == (_MAGIC, _VERSION) and len(body) == _HEAD.size + count * _ENTRY.size:
            return LeaderEpochs(tuple(_ENTRY.iter_unpack(body[_HEAD.size :])))
    raise MetadataCorrupt(
        "the file of leader epochs is damaged", remedy="None is needed: it is made anew from the log's batches."
    )
