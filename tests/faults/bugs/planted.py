"""Bugs planted on purpose: a fault that lets all of them pass proves nothing when the real code passes.

Each is a patch of the running code, made from here and never a switch in the product. `planted` makes it in this
process and takes it back; `launch` makes it in a server before that starts. Every fault plants what its session says.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.faults.bugs import compaction_bugs, server_bugs
from tests.faults.bugs import storage_bugs as bugs
from tests.faults.bugs.storage_bugs import Patch


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


BUGS = {
    bug.name: bug
    for bug in (
        PlantedBug(
            "ack-before-sync",
            "a produce is acknowledged as soon as the page cache has it",
            server_bugs.ack_before_sync,
            ("power-cut",),
        ),
        PlantedBug(
            "ack-after-failed-sync",
            "what a failed sync covers is acknowledged all the same",
            server_bugs.ack_after_failed_sync,
            ("sync-error",),
        ),
        PlantedBug(
            "full-taken-for-broken",
            "no room is a failed write, and final",
            server_bugs.take_full_for_broken,
            ("disk-full",),
        ),
        PlantedBug(
            "lock-not-taken",
            "any number of servers may have a data directory",
            server_bugs.lock_nothing,
            ("double-start",),
        ),
        PlantedBug(
            "port-shared",
            "a second server on the port starts, and gets half of the clients",
            server_bugs.share_port,
            ("double-start",),
        ),
        PlantedBug(
            "stale-commits-accepted",
            "a commit is not asked by whom and in which epoch it is made",
            server_bugs.accept_stale_commits,
            ("pause",),
        ),
        PlantedBug(
            "offsets-reset",
            "committed offsets are 0 after a restart",
            server_bugs.reset_offsets_at_start,
            ("kill", "kafka-kill", "simulation"),
        ),
        PlantedBug(
            "commit-before-journal",
            "a commit is answered before it is on the disk, and so is every other change of a group",
            server_bugs.answer_before_journal,
            ("simulation",),
        ),
        PlantedBug(
            "sessions-by-wall-clock",
            "sessions and timeouts run by the wall clock",
            server_bugs.keep_sessions_by_wall_clock,
            ("clock-jump",),
        ),
        PlantedBug(
            "age-by-wall-clock",
            "what was appended is as old as the wall clock says now",
            server_bugs.tell_age_by_wall_clock,
            ("clock-jump",),
        ),
        PlantedBug(
            "append-times-go-back",
            "the time of an append is what the wall clock says, whatever it said before",
            server_bugs.let_append_times_go_back,
            ("clock-jump",),
        ),
        PlantedBug(
            "publish-before-sync",
            "readers and acknowledgements do not wait for the sync",
            bugs.publish_before_sync,
            ("crash-image",),
        ),
        PlantedBug(
            "sync-skipped",
            "files are written and never synced",
            bugs.skip_sync,
            ("power-cut", "crash-image", "simulation"),
        ),
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
            ("sync-error", "sync-failure", "crash-image", "simulation"),
        ),
        PlantedBug(
            "cache-trusted",
            "recovery reads the page cache, which after a failed sync has what the disk does not",
            bugs.trust_cache,
            ("sync-failure", "crash-image", "simulation"),
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
        PlantedBug(
            "unlink-before-log-start",
            "retention unlinks segments before the new log start is synced",
            bugs.unlink_before_log_start,
            ("crash-image",),
        ),
        PlantedBug(
            "unlink-before-snapshot",
            "retention unlinks segments before what producers wrote in them is kept elsewhere",
            bugs.unlink_before_snapshot,
            ("crash-image",),
        ),
        PlantedBug(
            "recovery-not-synced",
            "recovery shows what a killed process wrote, and does not sync it first",
            bugs.recover_without_sync,
            ("crash-image",),
        ),
        PlantedBug(
            "cut-bytes-not-synced",
            "recovery cuts before what it keeps of that is on the disk",
            bugs.keep_cut_bytes_unsynced,
            ("recovery-crash",),
        ),
        PlantedBug(
            "cut-bytes-discarded",
            "what recovery cuts off is gone",
            bugs.discard_cut_bytes,
            ("torn-tail",),
        ),
        PlantedBug(
            "later-segments-deleted",
            "recovery deletes the segments after a tear",
            bugs.delete_later_segments,
            ("torn-tail",),
        ),
        PlantedBug(
            "damage-taken-for-torn-tail",
            "recovery cuts at the first thing that is wrong, also below the recovery point",
            bugs.take_damage_for_torn_tail,
            ("torn-tail", "bit-flip", "lost-file"),
        ),
        PlantedBug(
            "crc-skipped",
            "the CRC of a batch is not looked at",
            bugs.skip_crc,
            ("torn-tail", "bit-flip"),
        ),
        PlantedBug(
            "offset-not-checked",
            "of a batch that is read, only what the CRC covers is looked at",
            bugs.skip_offsets,
            ("torn-tail", "bit-flip"),
        ),
        PlantedBug("index-trusted", "rows of an index are not checked", bugs.trust_index, ("bit-flip",)),
        PlantedBug(
            "damage-not-told",
            "a log that is damaged is opened as one that ends there",
            bugs.ignore_damage,
            ("lost-file",),
        ),
        PlantedBug(
            "missing-segment-ignored",
            "the chain of seals is not followed: a log ends where a segment is missing",
            bugs.ignore_missing_segment,
            ("lost-file",),
        ),
        PlantedBug(
            "document-checksum-skipped",
            "the checksums of small metadata files are not looked at",
            bugs.skip_document_checksum,
            ("bit-flip",),
        ),
        PlantedBug(
            "checkpoint-checksum-skipped",
            "the checksums of the checkpoint are not looked at",
            bugs.skip_checkpoint_checksum,
            ("bit-flip",),
        ),
        PlantedBug(
            "snapshot-checksum-skipped",
            "the checksum of a snapshot is not looked at",
            bugs.skip_snapshot_checksum,
            ("bit-flip",),
        ),
        PlantedBug(
            "lost-checkpoint-is-new",
            "a checkpoint that cannot be read is made anew, and empty",
            bugs.take_lost_checkpoint_for_new,
            ("lost-file",),
        ),
        PlantedBug(
            "lost-topic-is-none",
            "records whose topic's document is lost are stepped over",
            bugs.take_lost_topic_for_none,
            ("lost-file",),
        ),
        PlantedBug(
            "newest-of-key-dropped",
            "compaction drops the last record of a key with those before it",
            compaction_bugs.drop_newest,
            ("crash-image", "simulation", "compaction-kill"),
        ),
        PlantedBug(
            "tombstones-dropped-early",
            "compaction drops tombstones before delete.retention.ms has passed",
            compaction_bugs.drop_tombstones_early,
            ("crash-image",),
        ),
        PlantedBug(
            "offsets-renumbered",
            "compaction closes the gaps that it makes in a batch",
            compaction_bugs.renumber_offsets,
            ("crash-image", "simulation", "compaction-kill"),
        ),
        PlantedBug(
            "compacted-files-not-synced",
            "a seal speaks of a file that compaction has written and not synced",
            compaction_bugs.leave_files_unsynced,
            ("crash-image",),
        ),
        PlantedBug(
            "replaced-files-unlinked-first",
            "compaction unlinks what it replaces while a crash can bring the old seal back",
            compaction_bugs.unlink_before_seal,
            ("crash-image",),
        ),
        PlantedBug(
            "partly-gone-segments-replaced",
            "a log takes over what compaction has made of several segments though retention has removed some of them",
            compaction_bugs.take_partly_gone,
            ("crash-image",),
        ),
        PlantedBug(
            "compacted-offset-ahead",
            "a log is said to be compact up to the end of a pass of which it has not taken over everything",
            compaction_bugs.be_compact_ahead,
            ("crash-image",),
        ),
        PlantedBug(
            "unnamed-files-left",
            "what a pass has written and the log does not take over stays as long as the process does",
            compaction_bugs.leave_unnamed_files,
            ("crash-image",),
        ),
        PlantedBug(
            "young-segments-compacted",
            "compaction does not look at min.compaction.lag.ms",
            compaction_bugs.compact_young,
            ("crash-image",),
        ),
        PlantedBug(
            "compacted-ahead-of-snapshot",
            "compaction takes out what producers wrote before that is kept elsewhere",
            compaction_bugs.compact_ahead_of_snapshot,
            ("crash-image",),
        ),
        PlantedBug(
            "batches-forgotten",
            "no batch of a producer is remembered with its offset: a retry is refused as a duplicate without one",
            server_bugs.forget_batches,
            ("retry-table", "network-cut", "crash-image", "simulation"),
        ),
        PlantedBug(
            "duplicates-appended",
            "sequences are not looked at: a retry is written again",
            server_bugs.append_duplicates,
            ("retry-table", "network-cut", "crash-image", "simulation"),
        ),
        PlantedBug(
            "producers-forgotten",
            "nobody remembers after a restart what producers wrote before it: a retry is written again",
            server_bugs.forget_producers_at_start,
            ("kafka-kill",),
        ),
    )
}
