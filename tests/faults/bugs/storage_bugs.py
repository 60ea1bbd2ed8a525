"""What the bugs of `planted` are in the storage engine, each as the patches that make it.

The disk in memory is patched as the real one is, so that a bug is the same to the faults that use either.
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from logstore import checkpoint, documents, reader, recovery, scan, segment, snapshot
from logstore.batch import BatchHeader, Buffer
from logstore.catalog import TopicCatalog
from logstore.checkpoint import Checkpoint, PartitionCheckpoint
from logstore.disk import Disk, DiskFile
from logstore.errors import MetadataCorrupt, StorageFailed
from logstore.identity import Identity
from logstore.index import COLUMNS, RowTable
from logstore.linux_disk import LinuxDisk, LinuxFile
from logstore.log import Log
from logstore.retention import Retention
from logstore.scan import Scan
from logstore.segment import Segment
from logstore.snapshot_writer import SnapshotWriter
from logstore.sync import Synchronizer, SyncWork, Unsynced
from tests.logstore.disk import SimulatedDisk, SimulatedFile

#: Puts the replacement in the place of what the owner, a class or a module, defines by that name.
Patch = Callable[[Any, str, Any], None]

DISKS: tuple[Any, ...] = (LinuxDisk, SimulatedDisk)
FILES: tuple[Any, ...] = (LinuxFile, SimulatedFile)


def do_nothing(*arguments: object, **named: object) -> None:
    pass


# Syncing.


def publish_before_sync(patch: Patch) -> None:
    perform = Synchronizer.perform

    def publish_and_perform(synchronizer: Synchronizer, work: SyncWork) -> None:
        synchronizer.post(partial(synchronizer.publish, work))
        perform(synchronizer, work)

    patch(Synchronizer, "perform", publish_and_perform)


def skip_sync(patch: Patch) -> None:
    for file in FILES:
        patch(file, "sync", do_nothing)
    for disk in DISKS:
        patch(disk, "sync_filesystem", do_nothing)


def skip_directory_sync(patch: Patch) -> None:
    for disk in DISKS:
        patch(disk, "sync_dir", do_nothing)


def sync_last_segment_only(patch: Patch) -> None:
    unsynced = Log.unsynced

    def only_the_last(log: Log) -> Unsynced:
        work = unsynced(log)
        return replace(work, segments=work.segments[-1:])

    patch(Log, "unsynced", only_the_last)


def retry_failed_sync(patch: Patch) -> None:
    def twice(sync: Callable[..., None]) -> Callable[..., None]:
        def synced(*arguments: Any) -> None:
            try:
                sync(*arguments)
            except StorageFailed:
                sync(*arguments)

        return synced

    for file in FILES:
        patch(file, "sync", twice(file.sync))
    for disk in DISKS:
        patch(disk, "sync_filesystem", twice(disk.sync_filesystem))


def trust_cache(patch: Patch) -> None:
    def open_cached(disk: Disk, path: Path) -> tuple[DiskFile, bool]:
        return disk.open(path), True

    for disk in DISKS:
        patch(disk, "open_uncached", open_cached)


# What the disk is told first.


def checkpoint_ahead(patch: Patch) -> None:
    checkpoint = Log.checkpoint

    def up_to_the_end(log: Log) -> PartitionCheckpoint:
        log._synced_end = log._end
        return checkpoint(log)

    patch(Log, "checkpoint", up_to_the_end)


def keep_leader_epoch(patch: Patch) -> None:
    patch(Identity, "raise_leader_epoch", do_nothing)


def repeat_producer_ids(patch: Patch) -> None:
    def without_setting_aside(identity: Identity, *, block: int) -> int:
        identity._next_producer_id += 1
        return identity._next_producer_id - 1

    patch(Identity, "next_producer_id", without_setting_aside)


def unlink_before_log_start(patch: Patch) -> None:
    remove = Retention._remove

    def unlink_first(retention: Retention, logs: Sequence[tuple[Log, int]]) -> Iterator[None]:
        for log, _ in logs:
            yield from log.remove_retired(log.log_start_offset)
        yield from remove(retention, logs)

    patch(Retention, "_remove", unlink_first)


def unlink_before_snapshot(patch: Patch) -> None:
    def pretend(writer: SnapshotWriter, synced_offset: int) -> None:
        if writer._waiting is not None and writer._waiting.next_offset <= synced_offset:
            writer.stored_offset = max(writer.stored_offset, writer._waiting.next_offset)

    patch(SnapshotWriter, "store", pretend)


# Recovery and reading.


def recover_without_sync(patch: Patch) -> None:
    follow = recovery._Recovery.follow

    def follow_at_once(chain: recovery._Recovery, *, clean: bool, is_synced: bool) -> Any:
        return follow(chain, clean=clean, is_synced=True)

    patch(recovery._Recovery, "follow", follow_at_once)


def keep_cut_bytes_unsynced(patch: Patch) -> None:
    def copy(chain: recovery._Recovery, source: DiskFile, start: int, end: int, kept_as: Path) -> None:
        target = chain._disk.create(kept_as)
        target.pwritev((source.pread(end - start, start),), 0)
        target.close()

    patch(recovery._Recovery, "_copy", copy)


def discard_cut_bytes(patch: Patch) -> None:
    patch(recovery._Recovery, "_copy", do_nothing)


def delete_later_segments(patch: Patch) -> None:
    set_aside = recovery._Recovery._set_aside

    def delete(chain: recovery._Recovery, number: int, offset: int, why: str) -> None:
        set_aside(chain, number, offset, why)
        for cut in chain._findings.cuts:
            if cut.position == 0:
                chain._disk.remove(cut.kept_as)

    patch(recovery._Recovery, "_set_aside", delete)


def take_damage_for_torn_tail(patch: Patch) -> None:
    make = recovery._Recovery.__init__

    def make_without_recovery_point(chain: recovery._Recovery, *arguments: Any, **named: Any) -> None:
        make(chain, *arguments, **named)
        chain._recovery_point, chain._synced_offset = (0, 0), 0

    def always(chain: recovery._Recovery, number: int) -> bool:
        return True

    patch(recovery._Recovery, "__init__", make_without_recovery_point)
    patch(recovery._Recovery, "_is_tail", always)


def skip_offsets(patch: Patch) -> None:
    """What the CRC does not cover is not looked at."""
    for module in (reader, scan, segment):
        check = module.check_header

        def check_without_offset(header: BatchHeader, *, check: Callable[..., None] = check, **expected: Any) -> None:
            check(header, **expected | {"expected_base_offset": None})

        patch(module, "check_header", check_without_offset)


def skip_crc(patch: Patch) -> None:
    def always(buffer: Buffer, position: int, size: int) -> bool:
        return True

    patch(reader, "crc_matches", always)
    patch(scan, "crc_matches", always)


def trust_index(patch: Patch) -> None:
    def open_unchecked(disk: Disk, path: Path, *, rows_count: int, crc: int) -> RowTable | None:
        cells = disk.open_array(path, (rows_count, COLUMNS))
        return None if cells is None else RowTable(array("q", cells))

    def always(*arguments: object, **named: object) -> bool:
        return True

    patch(segment, "open_sealed", open_unchecked)
    patch(Segment, "_row_matches", always)


def ignore_damage(patch: Patch) -> None:
    def end_there(chain: recovery._Recovery, base: int, scan: Scan, *arguments: object) -> recovery.Behind:
        return recovery.Behind((), scan.end_position, scan.next_offset, scan.max_timestamp_ms)

    patch(recovery._Recovery, "_make_hole", do_nothing)
    patch(recovery._Recovery, "_look_behind", end_there)
    ignore_missing_segment(patch)


def ignore_missing_segment(patch: Patch) -> None:
    def end_there(chain: recovery._Recovery, expected: int) -> int:
        return expected

    patch(recovery._Recovery, "_goes_on", do_nothing)
    patch(recovery._Recovery, "_check_end", end_there)


# Metadata.


def skip_document_checksum(patch: Patch) -> None:
    patch(documents, "_checksum", _no_checksum)


def skip_checkpoint_checksum(patch: Patch) -> None:
    patch(checkpoint, "crc32c", _no_checksum)


def skip_snapshot_checksum(patch: Patch) -> None:
    patch(snapshot, "crc32c", _no_checksum)


def _no_checksum(*data: object) -> int:
    return 0


def take_lost_checkpoint_for_new(patch: Patch) -> None:
    load = Checkpoint.load

    def load_or_create(cls: type[Checkpoint], path: Path, disk: Disk) -> Checkpoint:
        try:
            return load(path, disk)
        except MetadataCorrupt:
            return Checkpoint.create(path, disk)

    patch(Checkpoint, "load", classmethod(load_or_create))


def take_lost_topic_for_none(patch: Patch) -> None:
    patch(TopicCatalog, "_refuse_records", do_nothing)
