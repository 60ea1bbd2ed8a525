"""The snapshot: what is derived from a log up to some offset, in a file beside it. From there on it is read again.

    magic "TRSNAP" | version u16 | topic_id: 16 | partition i32 | next_offset i64 | epochs | producers | tail | crc u32
    tail   base_offset i64 | stored_rows u32 | stored_crc u32 | rows u32 | four i64 a row

Leader epochs and producer states are laid out in their modules. The tail is of the index over the active segment: how
many rows its array begins with and their CRC, then its newest rows if they are few, so that a partition with little in
it needs no array. Version 1 had neither stored_rows nor stored_crc. Two rules make the file more than a
way to save time:

- It is written when the log is synced up to next_offset, and not before. So a log that ends below has lost something.
- It is written before the log's start passes next_offset on the disk. So no batch that it does not cover is deleted,
  and a producer is never forgotten because retention took what it wrote.
"""

import sys
from array import array
from collections.abc import Iterator
from pathlib import Path
from struct import Struct
from struct import error as StructError
from typing import NamedTuple
from uuid import UUID

from crc32c import crc32c

from logstore import files
from logstore.batch import BatchHeader
from logstore.disk import Cells, Disk
from logstore.epochs import LeaderEpochs
from logstore.errors import CorruptBatch, DataLoss, FormatTooNew, MetadataCorrupt
from logstore.index import NO_ROWS, ROW_BYTES, IndexTail, StoredRows
from logstore.producers import ProducerStates
from logstore.scan import check_batches
from logstore.segment import Segment
from logstore.walk import Damage

_MAGIC = b"TRSNAP"
_VERSION = 2
_HEAD = Struct(">6sH16siq")
_TAIL = Struct(">qIII")
_TAIL_V1 = Struct(">qI")
_CRC = Struct(">I")

_FILE_BYTES_MAX = 1024 * 1024 * 1024


class Snapshot(NamedTuple):
    epochs: LeaderEpochs
    producers: ProducerStates
    tail: IndexTail | None = None

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
            _pack_tail(snapshot.tail or IndexTail(0, array("q"))),
        )
    )
    return body + _CRC.pack(crc32c(body))


def decode_snapshot(path: Path, data: bytes, topic_id: UUID, partition: int, *, producers_max: int) -> Snapshot:
    """The snapshot in the file at path. Raises `MetadataCorrupt` if it is not a whole one of that partition, and
    `FormatTooNew` if a later one."""
    try:
        magic, version, owner, number, next_offset = _HEAD.unpack_from(data)
        (crc,) = _CRC.unpack(data[-_CRC.size :])
        if magic != _MAGIC or crc != crc32c(memoryview(data)[: -_CRC.size]):
            raise _damaged("its magic or checksum is wrong")
        if version > _VERSION:
            raise FormatTooNew(
                f"{path} has format version {version}, and this program knows {_VERSION}",
                remedy="Start the version that wrote it, or a newer one.",
            )
        if (owner, number) != (topic_id.bytes, partition):
            raise _damaged(f"it belongs to partition {number} of the topic with the id {UUID(bytes=owner)}")
        epochs, position = LeaderEpochs.unpack(data, _HEAD.size)
        producers, position = ProducerStates.unpack(
            data, position, next_offset=next_offset, producers_max=producers_max
        )
        tail = _unpack_tail(data, position, version)
    except StructError:
        raise _damaged("it is cut") from None
    return Snapshot(epochs, producers, tail)


def read_snapshot(
    directory: Path, disk: Disk, topic_id: UUID, partition: int, *, producers_max: int, notes: list[str]
) -> Snapshot:
    """The partition's snapshot, or one of offset 0 if there is none, or it is damaged. Raises `FormatTooNew`."""
    try:
        path = directory / files.SNAPSHOT
        return decode_snapshot(
            path, disk.read_file(path, _FILE_BYTES_MAX), topic_id, partition, producers_max=producers_max
        )
    except FileNotFoundError:
        pass
    except (MetadataCorrupt, DataLoss) as error:
        notes.append(str(error))
    return Snapshot(LeaderEpochs(), ProducerStates(producers_max=producers_max))


def bring_up_to_date(snapshot: Snapshot, segments: tuple[Segment, ...], now_ms: int) -> Damage | None:
    """Take in the batches that it does not cover. Returns the damage that was in the way: there it ends then."""
    epochs, producers, _ = snapshot
    covered = snapshot.next_offset
    for found in _batches(segments, covered):
        if isinstance(found, Damage):
            return found
        if found.next_offset > covered:
            epochs.assign(found.leader_epoch, found.base_offset)
            producers.record(found, found.base_offset, now_ms)
    return None


def _batches(segments: tuple[Segment, ...], start_offset: int) -> Iterator[BatchHeader | Damage]:
    """The headers of all batches from the one that holds start_offset on, which are checked to the last bit."""
    for segment in segments:
        if segment.next_offset <= max(start_offset, segment.base_offset) or segment.is_empty:
            continue
        handle = segment.acquire(wait=True)
        try:
            offset = max(start_offset, segment.base_offset)
            try:
                first = segment.locate(offset, handle.file, wait=True)
            except DataLoss as error:
                first = Damage(0, segment.end_position, offset, segment.next_offset, str(error))
            if first is None:
                continue
            if isinstance(first, Damage):
                if first in segment.damaged:  # recovery has it as a hole
                    continue
                yield _ended(first, segment)
                return
            position, expected = first.position, first.header.base_offset
            try:
                for at, header in check_batches(
                    handle.file.pread, position, segment.end_position, expected, gaps_allowed=segment.gaps_allowed
                ):
                    yield header
                    position, expected = at + header.size, header.next_offset
            except (CorruptBatch, DataLoss) as error:
                damage = segment.examine(handle.file, position, expected, up_to=position)
                damage = damage or Damage(position, segment.end_position, expected, None, str(error))
                yield _ended(damage, segment)
                return
        finally:
            handle.release()


def _ended(damage: Damage, segment: Segment) -> Damage:
    """With its end: nothing is appended yet, so it is the segment's."""
    return damage if damage.next_offset is not None else damage._replace(next_offset=segment.next_offset)


def _pack_tail(tail: IndexTail) -> bytes:
    cells = array("q", tail.cells)
    if sys.byteorder == "little":
        cells.byteswap()
    stored = tail.stored or NO_ROWS
    head = _TAIL.pack(tail.base_offset, stored.rows_count, stored.crc, len(cells) * cells.itemsize // ROW_BYTES)
    return head + cells.tobytes()


def _unpack_tail(data: bytes, position: int, version: int) -> IndexTail:
    stored = None
    if version == 1:
        base_offset, count = _TAIL_V1.unpack_from(data, position)
        position += _TAIL_V1.size
    else:
        base_offset, stored_count, stored_crc, count = _TAIL.unpack_from(data, position)
        position += _TAIL.size
        stored = StoredRows(stored_count, stored_crc)
    cells: Cells = array("q")
    cells.frombytes(data[position : position + count * ROW_BYTES])
    if sys.byteorder == "little":
        cells.byteswap()
    return IndexTail(base_offset, cells, stored)


def _damaged(why: str) -> MetadataCorrupt:
    return MetadataCorrupt(
        f"the snapshot of a partition is damaged: {why}", remedy="None is needed: it is made again from the log."
    )
