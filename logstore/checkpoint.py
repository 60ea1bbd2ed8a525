"""The checkpoint: up to where every partition is known to be on disk, in one file of the data directory.

    slot 0 | slot 1                                       equal in size, whole pages, so that no write touches both

    slot   magic "TRcp" | version: u16 | is_clean: u16 | generation: u64 | slot_bytes: u32 | rows: u32 | crc: u32
           (topic_id: 16 | partition: i32 | six i64 of `PartitionCheckpoint`) ...          crc over all but itself

The slots are written in turn, the newer generation counts, and a write that a crash tears leaves the other. What a slot
says is a lower bound, so an older one costs a longer scan and nothing else, with two exceptions: a clean mark must not
come back after the first append, nor an old log start after segments were unlinked. So both slots are written before
those (`write(both=True)`). Both slots lost is refused: then nobody can tell a torn tail from damage.

Room is allocated when partitions are made (`reserve`), so that a full disk is met there and not by a checkpoint.
"""

import threading
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from struct import Struct
from struct import error as StructError
from typing import NamedTuple
from uuid import UUID

from crc32c import crc32c

from logstore.disk import PAGE_BYTES, Disk, DiskFile
from logstore.errors import DataLoss, FormatTooNew, MetadataCorrupt

_MAGIC = b"TRcp"
_VERSION = 1
_HEAD = Struct(">4sHHQII")
_CRC = Struct(">I")
_ROWS_AT = _HEAD.size + _CRC.size
_ROW = Struct(">16siqqqqqq")

_FILE_BYTES_MAX = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class PartitionCheckpoint:
    """All bytes of the partition below (segment_base_offset, position) are synced; the next offset there is
    recovery_offset. In a clean checkpoint that is exactly where the log ends."""

    topic_id: UUID
    partition: int
    log_start_offset: int
    recovery_offset: int
    segment_base_offset: int
    position: int
    last_append_ms: int
    max_timestamp_ms: int


class Slot(NamedTuple):
    is_clean: bool
    generation: int
    slot_bytes: int
    rows: list[PartitionCheckpoint]


class Checkpoint:
    """The rows of all partitions, and the file that has them. Safe to use from any thread."""

    def __init__(self, path: Path, disk: Disk, slot: Slot) -> None:
        self.is_clean = slot.is_clean  # as it was found
        self._path = path
        self._disk = disk
        self._generation = slot.generation
        self._slot_bytes = slot.slot_bytes
        self._lock = threading.Lock()
        self._rows: dict[tuple[UUID, int], PartitionCheckpoint] = {}
        self._packed: dict[tuple[UUID, int], bytes] = {}  # packing 10,000 rows each second would hold the GIL 10 ms
        self._file: DiskFile | None = None
        self.update(slot.rows)

    @classmethod
    def create(cls, path: Path, disk: Disk) -> "Checkpoint":
        """Write a new file that says: no partitions, and clean."""
        checkpoint = cls(path, disk, Slot(True, 0, PAGE_BYTES, []))
        checkpoint._write_file(PAGE_BYTES, clean=True)
        return checkpoint

    @classmethod
    def recreate(cls, path: Path, disk: Disk, rows: Collection[PartitionCheckpoint]) -> None:
        """Write a file anew whose slots were both lost. It is not clean, so the next start believes only what it must.

        Raises `StorageFull` and `StorageFailed`, and then the old file is still there.
        """
        checkpoint = cls(path, disk, Slot(False, 0, PAGE_BYTES, list(rows)))
        checkpoint._write_file(_slot_bytes(PAGE_BYTES, len(rows)), clean=False)

    @classmethod
    def load(cls, path: Path, disk: Disk) -> "Checkpoint":
        """Read the newer whole slot. Raises `MetadataCorrupt` if there is none or no file, and `FormatTooNew`."""
        slots, size = read_slots(path, disk)
        newest = max(filter(None, slots), key=lambda slot: slot.generation, default=None)
        if newest is None:
            raise _lost(path, "neither of its two slots is whole")
        checkpoint = cls(path, disk, newest)
        if size != 2 * newest.slot_bytes:
            checkpoint._write_file(newest.slot_bytes, clean=newest.is_clean)
        return checkpoint

    def get(self, topic_id: UUID, partition: int) -> PartitionCheckpoint | None:
        """The partition's row. None if it never had one: nothing of it was ever synced."""
        return self._rows.get((topic_id, partition))

    def update(self, rows: Iterable[PartitionCheckpoint]) -> None:
        """Take new rows in. They are on disk after `write`."""
        with self._lock:
            for row in rows:
                key = (row.topic_id, row.partition)
                self._rows[key] = row
                self._packed[key] = _ROW.pack(
                    row.topic_id.bytes,
                    row.partition,
                    row.log_start_offset,
                    row.recovery_offset,
                    row.segment_base_offset,
                    row.position,
                    row.last_append_ms,
                    row.max_timestamp_ms,
                )

    def forget(self, topic_id: UUID) -> None:
        """Drop the rows of a topic that is gone."""
        self._drop(lambda row_of: row_of == topic_id)

    def keep_only(self, topic_ids: Collection[UUID]) -> list[UUID]:
        """Drop the rows of all other topics, as a crash between a topic's removal and `forget` leaves them, and return
        which topics these were."""
        others = {topic_id for topic_id, _ in self._rows}.difference(topic_ids)
        self._drop(lambda row_of: row_of in others)
        return sorted(others)

    def _drop(self, is_gone: Callable[[UUID], bool]) -> None:
        with self._lock:
            for key in [key for key in self._rows if is_gone(key[0])]:
                del self._rows[key], self._packed[key]

    def reserve(self, partitions_count: int) -> None:
        """Make room for rows of so many partitions in all. Raises `StorageFull`, and then nothing has changed."""
        with self._lock:
            self._make_room(partitions_count)

    def write(self, *, clean: bool = False, both: bool = False) -> None:
        """Write and sync the rows: into the older slot, or into one after the other."""
        with self._lock:
            self._make_room(len(self._packed))
            if self._file is None:
                self._file = self._disk.open(self._path, writable=True)
            for _ in range(2 if both else 1):
                self._generation += 1
                slot = self._encode(self._generation, self._slot_bytes, clean=clean)
                self._file.pwritev([slot], self._generation % 2 * self._slot_bytes)
                self._file.sync()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _make_room(self, rows_count: int) -> None:
        slot_bytes = _slot_bytes(self._slot_bytes, rows_count)
        if slot_bytes != self._slot_bytes:
            self._write_file(slot_bytes, clean=False)

    def _write_file(self, slot_bytes: int, *, clean: bool) -> None:
        """Write the file anew with slots of that size, both holding the rows."""
        slots = {
            generation % 2: self._encode(generation, slot_bytes, clean=clean).ljust(slot_bytes, b"\0")
            for generation in (self._generation + 1, self._generation + 2)
        }
        self._disk.replace_file(self._path, slots[0] + slots[1])
        self._generation += 2
        self._slot_bytes = slot_bytes
        self.close()  # it was the old file

    def _encode(self, generation: int, slot_bytes: int, *, clean: bool) -> bytes:
        head = _HEAD.pack(_MAGIC, _VERSION, clean, generation, slot_bytes, len(self._packed))
        rows = b"".join(self._packed.values())
        return b"".join((head, _CRC.pack(crc32c(rows, crc32c(head))), rows))


def read_slots(path: Path, disk: Disk) -> tuple[tuple[Slot | None, Slot | None], int]:
    """Both slots, None for one that is not whole, and the size of the file. Nothing is written.

    Raises `MetadataCorrupt` if there is no file, and `FormatTooNew`.
    """
    try:
        data = disk.read_file(path, _FILE_BYTES_MAX)
    except FileNotFoundError:
        raise _lost(path, "it is not there") from None
    except DataLoss as error:
        raise _lost(path, str(error)) from error
    return (_decode(path, data), _decode(path, data[len(data) // 2 :])), len(data)


def _lost(path: Path, why: str) -> MetadataCorrupt:
    return MetadataCorrupt(
        f"{path} cannot be believed: {why}",
        remedy="Restore the directory from a copy, or have `logctl segments repair` make it anew. Where the partitions "
        "start is lost with it, so records deleted by `delete-records` or retention whose segments are still there "
        "come back.",
    )


def _slot_bytes(slot_bytes: int, rows_count: int) -> int:
    """The size of a slot that has room for so many rows, not less than it was."""
    while slot_bytes < _ROWS_AT + rows_count * _ROW.size:
        slot_bytes *= 2
    return slot_bytes


def _decode(path: Path, data: bytes) -> Slot | None:
    """The slot that begins the data, or None if it is not whole."""
    try:
        magic, version, is_clean, generation, slot_bytes, rows_count = _HEAD.unpack_from(data)
        (crc,) = _CRC.unpack_from(data, _HEAD.size)
    except StructError:
        return None
    rows = memoryview(data)[_ROWS_AT : _ROWS_AT + rows_count * _ROW.size]
    if magic != _MAGIC or len(rows) != rows_count * _ROW.size or crc != crc32c(rows, crc32c(data[: _HEAD.size])):
        return None
    if version > _VERSION:
        raise FormatTooNew(
            f"{path} has format version {version}, and this program knows {_VERSION}",
            remedy="Start the version that wrote it, or a newer one.",
        )
    unpacked = (PartitionCheckpoint(UUID(bytes=topic_id), *numbers) for topic_id, *numbers in _ROW.iter_unpack(rows))
    return Slot(bool(is_clean), generation, slot_bytes, list(unpacked))
