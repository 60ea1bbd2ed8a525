"""From a file of a data directory that was damaged to what may be lost by it, and the trial of such a directory.

The trial: open the store, judge it, append to whatever takes appends, stop, open it again and judge it once more. A
start that is refused leaves every file as it was, and no start deletes a log or what was kept of one.
"""

import random
from collections import Counter
from pathlib import Path

from logstore import files
from logstore.config import INT64_MAX
from logstore.errors import DataDirectoryUnusable, FormatTooNew, MetadataCorrupt
from logstore.identity import META
from tests.faults.storage.damage import Damage, Key, judge_damaged
from tests.faults.storage.data_directories import Copy, DataDirectory
from tests.faults.storage.kept_files import check_kept, check_untouched
from tests.faults.storage.model import Violation
from tests.faults.storage.workload import STORE
from tests.logstore.partition import JumpingClock
from tests.logstore.store import DATA, Opened

TOPIC = "topic"


def kind_of(path: Path) -> str:
    """What a file is for: equal for files whose damage is of one kind."""
    parts = path.relative_to(DATA).parts
    if len(parts) > 4:
        return files.INDEX_SUFFIX  # which is a directory
    parsed = files.parse_segment_file(path.name)
    if parsed is not None:
        return parsed.suffix
    return "kept" if files.is_discarded(path.name) else path.name


def damage_of(directory: DataDirectory, path: Path, positions: range) -> Damage:
    """What may be lost when these bytes of the file are others, or are not there."""
    kind = kind_of(path)
    partition = directory.partition_of(path)
    if kind in (META, TOPIC):
        return Damage(is_start_refused=True)
    if partition is not None and kind == files.SNAPSHOT:
        return Damage(snapshots=frozenset({partition}))
    if partition is not None and kind == files.SEAL_SUFFIX and directory.has_superseded_logs(path.parent):
        # Without it nobody knows that these are: what compaction has taken out, and is not removed yet, is there again.
        return Damage({partition: [range(0, INT64_MAX)]}, exchanged=frozenset({partition}))
    if partition is not None and kind == files.LOG_SUFFIX and not directory.is_superseded(path):
        return Damage({partition: [_lost_offsets(directory, partition, path, positions)]})
    return Damage()


def _lost_offsets(directory: DataDirectory, key: Key, path: Path, positions: range) -> range:
    """From the first batch that is touched to the end of the segment: a walk over it ends at damage."""
    parsed = files.parse_segment_file(path.name)
    assert parsed is not None
    partition = directory.model.partitions[key]
    position, end, first = 0, parsed.base_offset, None
    for batch in partition.kept(parsed.base_offset, partition.end_offset):
        if position >= directory.size_of(path):
            break
        position += len(batch.data)
        end = batch.next_offset
        if first is None and positions.start < position:
            first = batch.base_offset
    return range(end if first is None else first, end)


def try_directory(
    copy: Copy, directory: DataDirectory, damage: Damage, rng: random.Random, counts: Counter[str]
) -> None:
    """Raise Violation for what the damage does not explain."""
    model, clock, before = directory.model.copy(), directory.clock.copy(), copy.files()
    try:
        opened = _open(copy, clock, rng)
    except (DataDirectoryUnusable, MetadataCorrupt, FormatTooNew) as refusal:
        if not damage.is_start_refused:
            raise Violation(f"the start is refused: {refusal}") from refusal
        check_untouched(before, copy.files())
        counts["starts refused"] += 1
        return

    def may_go(path: Path) -> bool:
        parsed = files.parse_segment_file(path.name)
        # Without its seal what was written anew counts for nothing, as long as what it replaced is there.
        is_anew = parsed is not None and parsed.generation > 0 and directory.partition_of(path) in damage.exchanged
        return is_anew or directory.is_left_behind(path)

    for _ in range(2):
        judge_damaged(opened.store, model, damage, rng, clock.wall_ms(), counts)
        opened.settle()
        opened.close()
        check_kept(before, copy.files(), may_go=may_go)
        opened = _open(copy, clock, rng)
    opened.close()


def _open(copy: Copy, clock: JumpingClock, rng: random.Random) -> Opened:
    return Opened(copy.disk, seed=rng.getrandbits(32), directory=copy.root, config=STORE, clock=clock)
