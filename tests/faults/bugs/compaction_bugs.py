"""What the bugs of `planted` are in compaction, each as the patches that make it.

A pass is made by another process of the server. So that a bug in it is in a patched server too, the server makes its
passes itself then.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from logserver import broker
from logserver.compaction import RunPass
from logstore import compaction
from logstore.batch import BatchHeader, CodecRecord, encode_retained
from logstore.clock import WallClockPast
from logstore.compaction import CompactionPlan, CompactionResult, LatestOffsets, _name, _Pass, _Target, compact
from logstore.compactions import Compactions, PlannedCompaction
from logstore.linux_disk import LinuxDisk
from logstore.log import Log
from logstore.seal import Seal
from logstore.segment import remove_file
from tests.faults.bugs.storage_bugs import Patch


def _make_passes_here(patch: Patch) -> None:
    def in_this_process(bytes_per_second: int) -> RunPass:
        async def run_pass(plan: CompactionPlan) -> CompactionResult:
            return await asyncio.to_thread(compact, plan, LinuxDisk(), lambda size: None)

        return run_pass

    patch(broker, "in_another_process", in_this_process)


# What a pass writes.


def drop_newest(patch: Patch) -> None:
    def is_older(latest: LatestOffsets, record: CodecRecord) -> bool:
        return record.key is None or latest._offsets.get(_name(record.key), -1) < record.offset

    patch(LatestOffsets, "is_latest", is_older)
    _make_passes_here(patch)


def drop_tombstones_early(patch: Patch) -> None:
    make = _Pass.__init__

    def make_without_retention(a_pass: _Pass, plan: CompactionPlan, *arguments: Any) -> None:
        make(a_pass, replace(plan, delete_retention_ms=0), *arguments)

    patch(_Pass, "__init__", make_without_retention)


def renumber_offsets(patch: Patch) -> None:
    def encode_renumbered(header: BatchHeader, records: Sequence[CodecRecord], **named: Any) -> bytes:
        fields = ("timestamp", "key", "value", "headers")
        renumbered = [
            SimpleNamespace(offset=offset, **{field: getattr(record, field) for field in fields})
            for offset, record in enumerate(records, header.base_offset)
        ]
        return encode_retained(header, renumbered, **named)

    patch(compaction, "encode_retained", encode_renumbered)
    _make_passes_here(patch)


def leave_files_unsynced(patch: Patch) -> None:
    patch(_Target, "finish", _Target._write)


# What is compacted, and how a log takes it over.


def compact_young(patch: Patch) -> None:
    seals = Log.compactable_seals

    def of_any_age(a_log: Log, past: WallClockPast) -> tuple[Seal, ...]:
        config = a_log.config
        a_log.config = replace(config, min_compaction_lag_ms=0)
        try:
            return seals(a_log, past)
        finally:
            a_log.config = config

    patch(Log, "compactable_seals", of_any_age)


def compact_ahead_of_snapshot(patch: Patch) -> None:
    seals = Log.compactable_seals

    def whatever_the_snapshot_covers(a_log: Log, past: WallClockPast) -> tuple[Seal, ...]:
        covered = a_log._snapshots.stored_offset
        a_log._snapshots.stored_offset = a_log.log_end_offset
        try:
            return seals(a_log, past)
        finally:
            a_log._snapshots.stored_offset = covered

    patch(Log, "compactable_seals", whatever_the_snapshot_covers)


def unlink_before_seal(patch: Patch) -> None:
    take = Compactions._take

    def unlink_and_take(
        taker: Compactions, planned: PlannedCompaction, seals: Sequence[Seal], *rest: Any
    ) -> Iterator[None]:
        for seal in seals:
            for segment in planned.log._segments:
                if seal.base_offset <= segment.base_offset < seal.next_offset:
                    remove_file(taker._disk, segment.path)
        yield from take(taker, planned, seals, *rest)

    patch(Compactions, "_take", unlink_and_take)


def take_partly_gone(patch: Patch) -> None:
    patch(Log, "has_all_of", Log.has_some_of)


def be_compact_ahead(patch: Patch) -> None:
    def take(taker: Compactions, planned: PlannedCompaction, result: CompactionResult) -> None:
        whole = list(filter(planned.log.has_all_of, result.seals))
        taker._begin_end(planned, whole, result.dirty_offset)

    patch(Compactions, "take", take)


def leave_unnamed_files(patch: Patch) -> None:
    def remove_nothing(taker: Compactions, *plan_and_names: Any) -> Iterator[None]:
        yield from ()

    patch(Compactions, "_remove_unnamed", remove_nothing)
