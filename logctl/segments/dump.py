"""Shows what log files hold, batch by batch, and what is damaged in them: for `logctl segments dump`.

With --json a line is an object whose `kind` is segment, batch or damage. A record has no `kind`: it is the line that
`consume --json` writes, so that what can be read of a damaged directory can be produced again.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

from logctl.output import Output, Row
from logctl.record_output import RecordOutput
from logctl.times import format_time

if TYPE_CHECKING:
    from logstore.batch import BatchHeader
    from logstore.disk import Disk, DiskFile
    from logstore.partition_files import MissingSegments, PartitionFiles
    from logstore.verification import SegmentToVerify
    from logstore.walk import Damage, SoundBatch

HEADINGS = (
    f"  {'OFFSET':>12} {'RECORDS':>8} {'POSITION':>11} {'BYTES':>9}  {'CODEC':<6} {'PRODUCER':>12} {'SEQUENCE':>10} "
    f"{'EPOCH':>5}  {'FIRST TIME':<24}  LAST TIME"
)


class DumpedRecord(NamedTuple):
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class SegmentDump:
    """Writes partitions until `is_full`. `damages_count` leaves out what a crash may leave behind the last sync."""

    def __init__(
        self, output: Output, disk: "Disk", *, from_offset: int, count_max: int | None, with_records: bool
    ) -> None:
        self.damages_count = 0
        self._output = output
        self._disk = disk
        self._from_offset = from_offset
        self._left = count_max
        self._records = RecordOutput(as_json=output.as_json) if with_records else None
        self._has_told = False

    @property
    def is_full(self) -> bool:
        return self._left == 0

    def write(self, partition: "PartitionFiles") -> None:
        from logstore.verification import SegmentToVerify

        for link in partition.chain:
            if self.is_full:
                return
            if not isinstance(link, SegmentToVerify):
                if link.next_offset > self._from_offset:
                    self._write_missing(partition, link)
            elif link.offset_end is None or link.offset_end > self._from_offset:
                self._write_segment(link)

    def _write_missing(self, partition: "PartitionFiles", link: "MissingSegments") -> None:
        self.damages_count += 1
        place = partition.place
        what = "no file holds them" if link.ready is None else f"a repair was cut short: they are in {link.ready.name}"
        self._separate()
        row = {
            "kind": "damage",
            "topic": place.topic,
            "partition": place.partition,
            "file": None,
            "position": None,
            "end_position": None,
            "offset": link.offset,
            "next_offset": link.next_offset,
            "what": what,
            "is_lost": link.ready is None,
            "batch": None,
        }
        self._tell(row, f"{place.topic} {place.partition}: {_offsets(link.offset, link.next_offset)}: {what}")

    # One segment.

    def _write_segment(self, segment: "SegmentToVerify") -> None:
        from logstore.walk import Searching, SoundBatch, Walk

        file = self._disk.open(segment.log_path)
        try:
            size = file.size()
            has_heading = False
            walk = Walk(
                file,
                end=size if segment.seal is None else min(size, segment.seal.end_position),
                expected_offset=segment.base_offset,
                offset_end=segment.offset_end,
                gaps_allowed=segment.gaps_allowed,
            )
            for item in walk:
                if isinstance(item, Searching) or not self._is_wanted(item):
                    continue
                if not has_heading:
                    self._write_heading(segment, size)
                    has_heading = True
                if isinstance(item, SoundBatch):
                    self._write_batch(segment, file, item)
                else:
                    self._write_damage(segment, item)
                if self.is_full:
                    return
            if not has_heading and self._from_offset == 0:
                self._write_heading(segment, size)
        finally:
            file.close()

    def _is_wanted(self, item: "SoundBatch | Damage") -> bool:
        from logstore.walk import SoundBatch

        next_offset = item.header.next_offset if isinstance(item, SoundBatch) else item.next_offset
        return next_offset is None or next_offset > self._from_offset

    def _write_heading(self, segment: "SegmentToVerify", size: int) -> None:
        seal = segment.seal
        row = {
            "kind": "segment",
            **_place(segment),
            "base_offset": segment.base_offset,
            "next_offset": None if seal is None else seal.next_offset,
            "size_bytes": size,
            "is_sealed": seal is not None,
            "generation": segment.generation,
            "max_timestamp_ms": None if seal is None else seal.max_timestamp_ms,
            "last_append_ms": None if seal is None else seal.last_append_ms,
        }
        state = "not sealed" if seal is None else f"sealed, goes on to offset {seal.next_offset}"
        self._separate()
        line = f"{segment.topic} {segment.partition}: {segment.log_path.name}, {size:,} bytes, {state}\n{HEADINGS}"
        self._tell(row, line)

    def _write_batch(self, segment: "SegmentToVerify", file: "DiskFile", batch: "SoundBatch") -> None:
        row = {"kind": "batch", **_place(segment), **_batch_row(batch.position, batch.header), "crc_ok": True}
        self._tell(row, _batch_line(batch.position, batch.header))
        if self._records is None:
            self._count(1)
        else:
            self._write_records(segment, batch, file.pread(batch.header.size, batch.position))

    def _write_records(self, segment: "SegmentToVerify", batch: "SoundBatch", data: bytes) -> None:
        from logstore.batch import decode_batch
        from logstore.errors import CorruptBatch
        from logstore.walk import Damage

        assert self._records is not None
        try:
            decoded = decode_batch(data)
        except CorruptBatch as error:  # the work of the producer that wrote it: its CRC is right
            header = batch.header
            damage = Damage(
                batch.position, batch.end_position, header.base_offset, header.next_offset, str(error), header
            )
            self._write_damage(segment, damage)
            return
        records = [
            DumpedRecord(segment.topic, segment.partition, *record)
            for record in decoded
            if record.offset >= self._from_offset
        ]
        records = records[: self._left]
        self._records.write(records)
        self._count(len(records))

    def _write_damage(self, segment: "SegmentToVerify", damage: "Damage") -> None:
        is_lost = damage.is_unreadable or segment.was_synced(damage.position, damage.offset)
        what = damage.why
        if damage.mended is not None:
            is_lost = False
            what += "; the rest of the batch is whole, and `logctl segments repair` puts this right"
        elif not is_lost and segment.synced_position is not None:
            what += "; it is behind the last sync, and was not acknowledged as durable"
        self.damages_count += is_lost or damage.mended is not None
        next_offset = segment.offset_end if damage.next_offset is None else damage.next_offset
        row = {
            "kind": "damage",
            **_place(segment),
            "position": damage.position,
            "end_position": damage.end_position,
            "offset": damage.offset,
            "next_offset": next_offset,
            "what": what,
            "is_lost": is_lost,
            "batch": None if damage.header is None else _batch_row(damage.position, damage.header),
        }
        places = f"bytes {damage.position} to {damage.end_position}"
        self._tell(row, f"! {_offsets(damage.offset, next_offset)}, {places}: {what}")

    def _tell(self, row: Row, line: str) -> None:
        if self._output.as_json:
            self._output.row(row)
        else:
            self._output.say(line)

    def _separate(self) -> None:
        """An empty line between one segment and the next, for people."""
        if self._has_told and not self._output.as_json:
            self._output.say("")
        self._has_told = True

    def _count(self, amount: int) -> None:
        if self._left is not None:
            self._left -= amount


def _place(segment: "SegmentToVerify") -> dict[str, Any]:
    return {"topic": segment.topic, "partition": segment.partition, "file": segment.log_path.name}


def _batch_row(position: int, header: "BatchHeader") -> dict[str, Any]:
    return {
        "base_offset": header.base_offset,
        "last_offset": header.last_offset,
        "records_count": header.records_count,
        "position": position,
        "size_bytes": header.size,
        "compression": header.compression.name.lower(),
        "attributes": header.attributes,
        "producer_id": header.producer_id,
        "producer_epoch": header.producer_epoch,
        "base_sequence": header.base_sequence,
        "leader_epoch": header.leader_epoch,
        "base_timestamp_ms": header.base_timestamp_ms,
        "max_timestamp_ms": header.max_timestamp_ms,
        "crc": f"{header.crc:08x}",
    }


def _batch_line(position: int, header: "BatchHeader") -> str:
    has_producer = header.producer_id >= 0
    return (
        f"  {header.base_offset:>12} {header.records_count:>8} {position:>11} {header.size:>9}  "
        f"{header.compression.name.lower():<6} "
        f"{f'{header.producer_id}/{header.producer_epoch}' if has_producer else '-':>12} "
        f"{header.base_sequence if has_producer else '-':>10} {header.leader_epoch:>5}  "
        f"{format_time(header.base_timestamp_ms):<24}  {format_time(header.max_timestamp_ms)}"
    )


def _offsets(offset: int, next_offset: int | None) -> str:
    if next_offset is None:
        return f"offsets from {offset} on"
    return f"no offsets of their own before {offset}" if next_offset <= offset else f"offsets [{offset}, {next_offset})"
