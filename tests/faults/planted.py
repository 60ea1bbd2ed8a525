"""Bugs planted on purpose: a fault that lets all of them pass proves nothing when the real code passes.

Each is a patch of the running code, made from here and never a switch in the product. `planted` makes it in this
process and takes it back; `launch` makes it in a server before that starts. Every fault plants what its session says.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from logserver.appends import PendingAcks
from logstore.producers import ProducerState, ProducerStates
from tests.faults import storage_bugs as bugs
from tests.faults.storage_bugs import Patch


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


# Of acknowledgements and producers.


def _ack_before_sync(patch: Patch) -> None:
    patch(PendingAcks, "wait", bugs.do_nothing)


def _forget_batches(patch: Patch) -> None:
    patch(ProducerState, "find", bugs.do_nothing)


def _append_duplicates(patch: Patch) -> None:
    patch(ProducerStates, "check", bugs.do_nothing)


BUGS = {
    bug.name: bug
    for bug in (
        PlantedBug(
            "ack-before-sync",
            "a produce is acknowledged as soon as the page cache has it",
            _ack_before_sync,
            ("power-cut",),
        ),
        PlantedBug(
            "publish-before-sync",
            "readers and acknowledgements do not wait for the sync",
            bugs.publish_before_sync,
            ("crash-image",),
        ),
        PlantedBug("sync-skipped", "files are written and never synced", bugs.skip_sync, ("power-cut", "crash-image")),
        PlantedBug(
            "predecessor-not-synced",
            "of the segments that were written to, only the last is synced",
            bugs.sync_last_segment_only,
            ("crash-image",),
        ),
        PlantedBug(
            "directory-not-synced",
            "directories are not synced when files are made or renamed in them",
            bugs.skip_directory_sync,
            ("relaxed-power-cut", "crash-image"),
        ),
        PlantedBug(
            "failed-sync-retried",
            "a sync that failed is tried once more",
            bugs.retry_failed_sync,
            ("sync-error", "sync-failure", "crash-image"),
        ),
        PlantedBug(
            "cache-trusted",
            "recovery reads the page cache, which after a failed sync has what the disk does not",
            bugs.trust_cache,
            ("sync-failure", "crash-image"),
        ),
        PlantedBug(
            "checkpoint-ahead",
            "the checkpoint says of what was appended that it is synced",
            bugs.checkpoint_ahead,
            ("crash-image",),
        ),
        PlantedBug(
            "leader-epoch-kept",
            "the leader epoch does not rise at an unclean start",
            bugs.keep_leader_epoch,
            ("crash-image",),
        ),
        PlantedBug(
            "producer-ids-repeated",
            "producer ids are handed out before the disk knows",
            bugs.repeat_producer_ids,
            ("crash-image",),
        ),
        PlantedBug("crc-skipped", "the CRC of a batch is not looked at", bugs.skip_crc, ("crash-image",)),
        PlantedBug(
            "batches-forgotten",
            "no batch of a producer is remembered with its offset: a retry is refused as a duplicate without one",
            _forget_batches,
            ("retry-table", "network-cut", "crash-image"),
        ),
        PlantedBug(
            "duplicates-appended",
            "sequences are not looked at: a retry is written again",
            _append_duplicates,
            ("retry-table", "network-cut", "crash-image"),
        ),
    )
}
