"""The snapshot: what is derived from a log up to some offset, in a file beside it. From there on it is read again.

    magic "TRSNAP" | version u16 | topic_id: 16 | partition i32 | next_offset i64 | epochs | producers | crc u32

Leader epochs and producer states are laid out in their modules. Two rules make the file more than a way to save time:

- It is written when the log is synced up to next_offset, and not before. So a log that ends below has lost something.
- It is written before the log's start passes next_offset on the disk. So no batch that it does not cover is deleted,
  and a producer is never forgotten because retention took what it wrote.
"""

from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from struct import error as StructError
from typing import NamedTuple
from uuid import UUID

from crc32c import crc32c

from logstore import files
from logstore.batch import BatchHeader
from logstore.disk import Disk
from logstore.epochs import LeaderEpochs
from logstore.errors import DataLoss, FormatTooNew, MetadataCorrupt
from logstore.producers import ProducerStates
from logstore.segment import REBUILD_BYTES, Segment

_MAGIC = b"TRSNAP"
_VERSION = 1
_HEAD = Struct(">6sH16siq")
_CRC = Struct(">I")

_FILE_BYTES_MAX = 1024 * 1024 * 1024


class Snapshot(NamedTuple):
    epochs: LeaderEpochs
    producers: ProducerStates

    @property
    def next_offset(self) -> int:
        """What is below is in here."""
        return self.producers.next_offset


def encode_snapshot(snapshot: Snapshot, topic_id: UUID, partition: int) -> bytes:
    body = b"".join(
        (
            _HEAD.pack(_MAGIC, _VERSION, topic_id.bytes, partition, snapshot.next_offset),
            snapshot.epochs.pack(),
            snapshot.producers.pack(),
        )
    )
    return body + _CRC.pack(crc32c(body))


def decode_snapshot(data: bytes, topic_id: UUID, partition: int, *, producers_max: int) -> Snapshot:
    """Raises `MetadataCorrupt` if it is not a whole snapshot of that partition, `FormatTooNew` if a later one."""
    try:
        magic, version, owner, number, next_offset = _HEAD.unpack_from(data)
        (crc,) = _CRC.unpack(data[-_CRC.size :])
        if magic != _MAGIC or crc != crc32c(memoryview(data)[: -_CRC.size]):
            raise _damaged("its magic or checksum is wrong")
        if version > _VERSION:
            raise FormatTooNew(
                f"the snapshot of a partition has format version {version}, and this program knows {_VERSION}",
                remedy="Start the version that wrote it, or a newer one.",
            )
        if (owner, number) != (topic_id.bytes, partition):
            raise _damaged(f"it belongs to partition {number} of the topic with the id {UUID(bytes=owner)}")
        epochs, position = LeaderEpochs.unpack(data, _HEAD.size)
        producers = ProducerStates.unpack(data, position, next_offset=next_offset, producers_max=producers_max)
    except StructError:
        raise _damaged("it is cut") from None
    return Snapshot(epochs, producers)


def read_snapshot(
    directory: Path, disk: Disk, topic_id: UUID, partition: int, *, producers_max: int, notes: list[str]
) -> Snapshot:
    """The partition's snapshot, or one of offset 0 if there is none, or it is damaged. Raises `FormatTooNew`."""
    try:
        data = disk.read_file(directory / files.SNAPSHOT, _FILE_BYTES_MAX)
        return decode_snapshot(data, topic_id, partition, producers_max=producers_max)
    except FileNotFoundError:
        pass
    except (MetadataCorrupt, DataLoss) as error:
        notes.append(str(error))
    return Snapshot(LeaderEpochs(), ProducerStates(producers_max=producers_max))


def bring_up_to_date(snapshot: Snapshot, segments: tuple[Segment, ...], now_ms: int) -> DataLoss | None:
    """Take in the batches that it does not cover. Returns the damage that was in the way: there it ends then."""
    epochs, producers = snapshot
    covered = snapshot.next_offset
    try:
        for header in _headers(segments, covered):
            if header.next_offset > covered:
                epochs.assign(header.leader_epoch, header.base_offset)
                producers.record(header, header.base_offset, now_ms)
    except DataLoss as error:
        return error
    return None


def _headers(segments: tuple[Segment, ...], start_offset: int) -> Iterator[BatchHeader]:
    """The headers of all batches from the one that holds start_offset on."""
    for segment in segments:
        if segment.next_offset <= start_offset or segment.is_empty:
            continue
        handle = segment.acquire(wait=True)
        try:
            start = segment.find(max(start_offset, segment.base_offset), handle.file, wait=True)
            for _, header in segment.walk(handle.file.pread, start, segment.end_position, bytes_each=REBUILD_BYTES):
                yield header
        finally:
            handle.release()


def _damaged(why: str) -> MetadataCorrupt:
    return MetadataCorrupt(
        f"the snapshot of a partition is damaged: {why}", remedy="None is needed: it is made again from the log."
    )
