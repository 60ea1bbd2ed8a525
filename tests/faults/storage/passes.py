"""What a pass of compaction may leave of a log, told by what was appended to it, and not by doing the same once more.

A record may be missing only if a newer one of its key is below the end of what the pass was given, which is sealed,
seen by readers and old enough; or if it is a tombstone that was kept for as long as its batch has said since an earlier
pass, also by a clock that does not jump, and nothing of its key is left. Below the offset up to which the pass says
that it is done no key is twice. Whatever is there is where it was, in its batch, with the same key, value, time and
headers.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Set
from pathlib import Path
from typing import NamedTuple

from logstore import files
from logstore.batch import BatchHeader, Record, decode_batch, iter_headers
from logstore.compaction import CompactionPlan, CompactionResult
from logstore.disk import Disk
from logstore.header import DELETE_HORIZON
from logstore.log import Log
from logstore.seal import Seal
from tests.faults.storage.model import Horizon, PartitionModel, Rewrite, StoredBatch, Violation


class PassTime(NamedTuple):
    """When a pass was planned, and what the process that planned it can know of the clocks."""

    monotonic_ms: int
    started_monotonic_ms: int
    started_wall_ms: int
    is_steady: bool  # the wall clock has not jumped since

    def kept_ms(self, batch: StoredBatch) -> int:
        """For how long the tombstones have stayed; those of an earlier process by the wall clock at the start, too."""
        horizon, until_ms = batch.horizon, batch.header.delete_horizon_ms
        assert horizon is not None
        assert until_ms is not None
        kept_ms = self.monotonic_ms - horizon.written_ms
        if horizon.written_ms > self.started_monotonic_ms:
            return kept_ms
        seemed_ms = self.started_wall_ms - (until_ms - horizon.delete_retention_ms)
        return max(kept_ms, seemed_ms + self.monotonic_ms - self.started_monotonic_ms)


def judge_plan(plan: CompactionPlan, log: Log, model: PartitionModel, age_ms: Callable[[StoredBatch], int]) -> None:
    """Raise Violation if a pass is to touch what nobody has read yet, or what is too young."""
    if not log.config.is_compacted:
        raise Violation(f"a pass is planned for a log with cleanup.policy={log.config.cleanup_policy}")
    end = plan.seals[-1].next_offset
    if end > log.high_watermark:
        raise Violation(f"a pass up to {end} is planned, and readers see what is before {log.high_watermark}")
    for batch in model.between(min(max(plan.dirty_offset, plan.seals[0].base_offset), end), end):
        if age_ms(batch) < log.config.min_compaction_lag_ms:
            raise Violation(
                f"the batch at offset {batch.base_offset} is to be compacted {age_ms(batch)} ms after its append, "
                f"and min.compaction.lag.ms is {log.config.min_compaction_lag_ms}"
            )


def judge_files(plan: CompactionPlan, log: Log, disk: Disk, replaced: Set[Path]) -> None:
    """Raise Violation if passes have written log files that nobody names, and nobody will remove."""
    bases = {seal.base_offset for seal in plan.seals}
    named = {_path(plan, seal) for seal in log.seals} | replaced
    for name in disk.list_dir(plan.directory):
        parsed = files.parse_segment_file(name)
        is_of_a_pass = parsed is not None and parsed.generation > 0 and parsed.base_offset in bases
        if is_of_a_pass and plan.directory / name not in named:
            raise Violation(f"{name} is there, and is of no segment of the log")


def judge_pass(
    plan: CompactionPlan, result: CompactionResult, log: Log, model: PartitionModel, disk: Disk, time: PassTime
) -> list[Rewrite]:
    """Raise Violation unless the log may take over what the pass has written; return what that is."""
    _check_seals(plan, result)
    there = [seal for seal in result.seals if disk.exists(_path(plan, seal))]
    rewrites = [Rewrite(seal, _changed(plan, seal, model, disk, time)) for seal in there]
    if gone := [seal for seal in result.seals if seal not in there]:
        # Retention removed what it was to replace, and it along: of the others nobody can say what was in it.
        if gone[-1].base_offset >= log.log_start_offset:
            raise Violation(f"the file of {gone[-1]} is gone, and the log starts at {log.log_start_offset}")
        return rewrites
    changed = {base_offset: left for rewrite in rewrites for base_offset, left in rewrite.changed.items()}
    before = {batch.base_offset: batch for batch in model.kept(plan.seals[0].base_offset, plan.seals[-1].next_offset)}
    after = {base_offset: changed.get(base_offset, batch) for base_offset, batch in before.items()}
    _check_missing(plan, time, before, after)
    _check_horizons(plan, result, before, after)
    _check_is_done(plan, result, time, before, after)
    return rewrites


def _check_seals(plan: CompactionPlan, result: CompactionResult) -> None:
    """Each takes the place of whole segments."""
    bases = [seal.base_offset for seal in plan.seals]
    ends = [seal.next_offset for seal in plan.seals]
    offset = plan.seals[0].base_offset
    for seal in result.seals:
        if seal.base_offset not in bases or seal.next_offset not in ends or seal.base_offset < offset:
            raise Violation(f"{seal} is none of some segments of {plan.seals}")
        offset = seal.next_offset
    if not plan.dirty_offset <= result.dirty_offset <= ends[-1]:
        raise Violation(f"a pass from {plan.dirty_offset} to {ends[-1]} is done up to {result.dirty_offset}")


def _changed(
    plan: CompactionPlan, seal: Seal, model: PartitionModel, disk: Disk, time: PassTime
) -> dict[int, StoredBatch | None]:
    """The batches of which the segment has something else than there was, or nothing."""
    written = dict(_read_segment(plan, seal, disk))
    changed: dict[int, StoredBatch | None] = {}
    for batch in model.kept(seal.base_offset, seal.next_offset):
        found = written.pop(batch.base_offset, None)
        if found is None:
            changed[batch.base_offset] = None
        elif found[1] != batch.data:
            changed[batch.base_offset] = _rewritten(batch, *found, Horizon(time.monotonic_ms, plan.delete_retention_ms))
    if written:
        raise Violation(f"batches at offsets {sorted(written)} were written, and were not there")
    return changed


def _path(plan: CompactionPlan, seal: Seal) -> Path:
    return files.log_path(plan.directory, seal.base_offset, seal.generation)


def _read_segment(plan: CompactionPlan, seal: Seal, disk: Disk) -> Iterator[tuple[int, tuple[BatchHeader, bytes]]]:
    file = disk.open(_path(plan, seal))
    try:
        data = bytes(file.pread(file.size(), 0))
    finally:
        file.close()
    if len(data) != seal.end_position:
        raise Violation(f"{len(data)} bytes were written, and the seal speaks of {seal.end_position}")
    offset = seal.base_offset
    for at, header in iter_headers(data):
        if not offset <= header.base_offset < header.next_offset <= seal.next_offset:
            raise Violation(f"a batch has offsets [{header.base_offset}, {header.next_offset}) at {offset}")
        offset = header.next_offset
        yield header.base_offset, (header, data[at : at + header.size])


def _rewritten(batch: StoredBatch, header: BatchHeader, data: bytes, horizon: Horizon) -> StoredBatch:
    """The batch with some of its records, unless there is anything else in it."""
    records = tuple(decode_batch(data))
    expected = batch.header._replace(
        base_offset=batch.base_offset,
        leader_epoch=batch.leader_epoch,
        # What these are follows from the records, but for the delete horizon.
        batch_length=header.batch_length,
        crc=header.crc,
        attributes=batch.header.attributes | header.attributes & DELETE_HORIZON,
        base_timestamp_ms=header.base_timestamp_ms,
        max_timestamp_ms=max(record.timestamp_ms for record in records),
        records_count=len(records),
    )
    if header != expected:
        raise Violation(f"the batch at offset {batch.base_offset} is written with {header}, not {expected}")
    there = iter(batch.records)
    if not all(record in there for record in records):
        offsets = [record.offset for record in records]
        raise Violation(f"the batch at offset {batch.base_offset} has {offsets}, and not all of it was appended there")
    return batch._replace(header=header, records=records, data=data, horizon=batch.horizon or horizon)


Batches = Mapping[int, StoredBatch | None]


def _records(batches: Batches) -> Iterator[tuple[StoredBatch, Record]]:
    for batch in batches.values():
        if batch is not None:
            for record in batch.records:
                yield batch, record


def _check_missing(plan: CompactionPlan, time: PassTime, before: Batches, after: Batches) -> None:
    newest = {record.key: record.offset for _, record in _records(before)}
    there = {record.offset for _, record in _records(after)}
    keys_left = {record.key for _, record in _records(after)}
    for batch, record in _records(before):
        if record.offset in there:
            continue
        what = f"the record at offset {record.offset}, of key {record.key!r},"
        if record.key is None:
            raise Violation(f"{what} is gone")
        if newest[record.key] > record.offset:
            continue
        horizon_ms = batch.header.delete_horizon_ms
        if record.value is not None:
            raise Violation(f"{what} is gone, and is the newest of its key before {plan.seals[-1].next_offset}")
        if horizon_ms is None or plan.now_ms < horizon_ms:
            raise Violation(f"{what} is a tombstone and gone at {plan.now_ms}, and was to stay until {horizon_ms}")
        assert batch.horizon is not None
        least_ms = min(batch.horizon.delete_retention_ms, plan.delete_retention_ms)
        if time.kept_ms(batch) < least_ms:
            raise Violation(
                f"{what} is a tombstone and gone after {time.kept_ms(batch)} ms, and delete.retention.ms is {least_ms}"
            )
        if record.key in keys_left:
            raise Violation(f"{what} is a tombstone and gone, and what it deletes is there")


def _check_horizons(plan: CompactionPlan, result: CompactionResult, before: Batches, after: Batches) -> None:
    for base_offset, batch in after.items():
        if batch is None:
            continue
        old = before[base_offset]
        assert old is not None
        was, now = old.header.delete_horizon_ms, batch.header.delete_horizon_ms
        has_tombstone = any(record.value is None and record.key is not None for record in batch.records)
        is_known = batch.next_offset <= result.dirty_offset
        due_ms = plan.now_ms + plan.delete_retention_ms if has_tombstone and is_known else None
        expected = due_ms if was is None else was
        if now != expected:
            raise Violation(f"the tombstones of the batch at offset {base_offset} stay until {now}, not {expected}")


def _check_is_done(
    plan: CompactionPlan, result: CompactionResult, time: PassTime, before: Batches, after: Batches
) -> None:
    offsets: dict[bytes | None, list[int]] = defaultdict(list)
    for batch, record in _records(after):
        if record.key is None or batch.base_offset >= result.dirty_offset:
            continue
        old = before[batch.base_offset]
        horizon_ms = old and old.header.delete_horizon_ms
        offsets[record.key].append(record.offset)
        if record.value is None and horizon_ms is not None and horizon_ms <= plan.now_ms and time.is_steady:
            raise Violation(f"the tombstone at offset {record.offset} was to go at {horizon_ms}, and is there")
    for key, of_key in offsets.items():
        if len(of_key) > 1:
            raise Violation(f"key {key!r} is at {of_key} after a pass that is done up to {result.dirty_offset}")
