"""Bugs planted on purpose: a fault that lets all of them pass proves nothing when the real code passes.

Each is a patch of the running code, made from here and never a switch in the product. `planted` makes it in this
process and takes it back; `launch` makes it in a server before that starts. Every fault plants what its session says.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logserver.appends import PendingAcks
from logstore.disk import DiskFile, LinuxDisk, LinuxFile
from logstore.errors import StorageFailed
from logstore.producers import ProducerState, ProducerStates

#: Puts the replacement in the place of what the owner, a class or a module, defines by that name.
Patch = Callable[[Any, str, Any], None]


@dataclass(frozen=True)
class PlantedBug:
    name: str
    what: str
    plant: Callable[[Patch], None]
    caught_by: tuple[str, ...]  # the faults that must catch it, each within what CI runs of it


def patch(owner: Any, name: str, replacement: Any) -> None:
    """For good. KeyError when the code has moved and there is nothing of that name any more."""
    vars(owner)[name]
    setattr(owner, name, replacement)


def plant(*names: str) -> None:
    """Plant bugs in this process, for good."""
    for name in names:
        BUGS[name].plant(patch)


@contextmanager
def planted(*names: str) -> Iterator[None]:
    """Plant bugs in this process for the length of the block."""
    with ExitStack() as undo:

        def patch_for_now(owner: Any, name: str, replacement: Any) -> None:
            undo.callback(setattr, owner, name, vars(owner)[name])
            patch(owner, name, replacement)

        for name in names:
            BUGS[name].plant(patch_for_now)
        yield


def _do_nothing(*arguments: object, **named: object) -> None:
    pass


# Of acknowledging and syncing.


def _ack_before_sync(patch: Patch) -> None:
    patch(PendingAcks, "wait", _do_nothing)


def _skip_sync(patch: Patch) -> None:
    patch(LinuxFile, "sync", _do_nothing)
    patch(LinuxDisk, "sync_filesystem", _do_nothing)


def _skip_directory_sync(patch: Patch) -> None:
    patch(LinuxDisk, "sync_dir", _do_nothing)


def _retry_failed_sync(patch: Patch) -> None:
    sync_file, sync_filesystem = LinuxFile.sync, LinuxDisk.sync_filesystem

    def sync_file_twice(file: LinuxFile) -> None:
        try:
            sync_file(file)
        except StorageFailed:
            sync_file(file)

    def sync_filesystem_twice(disk: LinuxDisk, path: Path) -> None:
        try:
            sync_filesystem(disk, path)
        except StorageFailed:
            sync_filesystem(disk, path)

    patch(LinuxFile, "sync", sync_file_twice)
    patch(LinuxDisk, "sync_filesystem", sync_filesystem_twice)


def _trust_cache(patch: Patch) -> None:
    def open_cached(disk: LinuxDisk, path: Path) -> tuple[DiskFile, bool]:
        return disk.open(path), True

    patch(LinuxDisk, "open_uncached", open_cached)


# Of producers.


def _forget_batches(patch: Patch) -> None:
    patch(ProducerState, "find", _do_nothing)


def _append_duplicates(patch: Patch) -> None:
    patch(ProducerStates, "check", _do_nothing)


BUGS = {
    bug.name: bug
    for bug in (
        PlantedBug(
            "ack-before-sync",
            "a produce is acknowledged as soon as the page cache has it",
            _ack_before_sync,
            ("power-cut",),
        ),
        PlantedBug("sync-skipped", "files are written and never synced", _skip_sync, ("power-cut",)),
        PlantedBug(
            "directory-not-synced",
            "directories are not synced when files are made or renamed in them",
            _skip_directory_sync,
            ("relaxed-power-cut",),
        ),
        PlantedBug(
            "failed-sync-retried",
            "a sync that failed is tried once more",
            _retry_failed_sync,
            ("sync-error", "sync-failure"),
        ),
        PlantedBug(
            "cache-trusted",
            "recovery reads the page cache, which after a failed sync has what the disk does not",
            _trust_cache,
            ("sync-failure",),
        ),
        PlantedBug(
            "batches-forgotten",
            "no batch of a producer is remembered with its offset: a retry is refused as a duplicate without one",
            _forget_batches,
            ("retry-table", "network-cut"),
        ),
        PlantedBug(
            "duplicates-appended",
            "sequences are not looked at: a retry is written again",
            _append_duplicates,
            ("retry-table", "network-cut"),
        ),
    )
}
