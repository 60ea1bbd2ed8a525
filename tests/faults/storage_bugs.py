"""What the bugs of `planted` are in the storage engine, each as the patches that make it.

The disk in memory is patched as the real one is, so that a bug is the same to the faults that use either.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from logstore import reader, scan
from logstore.batch import Buffer
from logstore.checkpoint import PartitionCheckpoint
from logstore.disk import Disk, DiskFile, LinuxDisk, LinuxFile
from logstore.errors import StorageFailed
from logstore.identity import Identity
from logstore.log import Log
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


# Recovery and reading.


def skip_crc(patch: Patch) -> None:
    def always(buffer: Buffer, position: int, size: int) -> bool:
        return True

    patch(reader, "crc_matches", always)
    patch(scan, "crc_matches", always)
