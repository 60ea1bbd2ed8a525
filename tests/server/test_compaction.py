"""Compaction in a running server: another process writes, the log takes over, and clients read on."""

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from logserver.compaction import Compaction, CompactionFailed, in_another_process
from logstore import files
from logstore.batch import HEADER_SIZE
from logstore.compaction import CompactionPlan, CompactionResult, compact
from logstore.compactor import Pace, plan_from_json, request_as_json
from logstore.linux_disk import LinuxDisk
from tests.logstore.test_compacted_log import keyed_log, simulated
from tests.logstore.test_compactions import CompactedStore


def plan_for(directory: Path) -> CompactionPlan:
    """Of a log on a real disk, copied from a simulated one."""
    log = keyed_log(1)
    target = directory / "log"
    target.mkdir()
    for path, data in simulated(log).files().items():
        if path.parent == log.directory:
            (target / path.name).write_bytes(data)
    return CompactionPlan(target, tuple(log.log.seals), 0, 0, 0, 10**9, 1024, 200, 1000)


async def test_another_process_does_what_this_one_would(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    result = await in_another_process(1 << 30)(plan)
    written = {seal.base_offset: files.log_path(plan.directory, seal.base_offset, 1) for seal in result.seals}
    data = {base: path.read_bytes() for base, path in written.items()}
    assert result == compact(plan, LinuxDisk(), lambda size: None)
    assert data == {base: path.read_bytes() for base, path in written.items()}


async def test_damage_is_told_as_what_it_is(tmp_path: Path) -> None:
    plan = plan_for(tmp_path)
    path = files.log_path(plan.directory, 0)
    data = bytearray(path.read_bytes())
    data[HEADER_SIZE] ^= 1
    path.write_bytes(data)
    with pytest.raises(CompactionFailed, match=r"CorruptBatch: .*CRC"):
        await in_another_process(1 << 30)(plan)


async def test_a_process_that_dies_is_told_with_its_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start = asyncio.create_subprocess_exec

    # The settings are whatever the code under test gives.
    async def start_and_kill(*command: str, **settings: object) -> asyncio.subprocess.Process:
        process = await start(*command, **settings)  # type: ignore[arg-type]
        os.kill(process.pid, signal.SIGKILL)
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_and_kill)
    with pytest.raises(CompactionFailed, match="ended with status -9 and no answer"):
        await in_another_process(1 << 30)(plan_for(tmp_path))


async def test_one_that_is_cancelled_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[asyncio.subprocess.Process] = []
    start = asyncio.create_subprocess_exec

    # The settings are whatever the code under test gives.
    async def start_and_note(*command: str, **settings: object) -> asyncio.subprocess.Process:
        started.append(await start(*command, **settings))  # type: ignore[arg-type]
        running.cancel()
        return started[0]

    monkeypatch.setattr(asyncio, "create_subprocess_exec", start_and_note)
    running = asyncio.ensure_future(in_another_process(4096)(plan_for(tmp_path)))
    with pytest.raises(asyncio.CancelledError):
        await running
    assert started[0].returncode == -signal.SIGKILL


async def test_what_is_due_is_compacted_one_after_the_other_and_a_failure_is_told() -> None:
    store = CompactedStore(3)
    store.write(30)
    store.have_snapshot()
    fails = True

    async def run_pass(plan: CompactionPlan) -> CompactionResult:
        if fails:
            raise CompactionFailed("the process died", remedy="None in a test.")
        return compact(plan, store.disk, lambda size: None)

    compaction = Compaction(store.opened.store, run_pass, interval_ms=1)
    with capture_logs() as logs:
        assert await compaction.compact_one()
        assert not await compaction.compact_one(), "it is left alone for a while"
        fails = False
        store.opened.settle()
        store.opened.clock.now_ms += 3_600_000
        assert await compaction.compact_one()
        assert not await compaction.compact_one(), "its seals are on their way"
        store.opened.settle()
        assert not await compaction.compact_one()
    assert [entry["event"] for entry in logs] == ["compaction failed", "compacted"]
    assert logs[1]["records_kept"] < logs[1]["records_read"]
    store.check()


def test_a_plan_is_the_same_on_the_other_side(tmp_path: Path) -> None:
    plan = CompactionPlan(tmp_path, tuple(keyed_log(1).log.seals), 3, 4, 5, 6, 7, 8, 9)
    assert plan_from_json(json.loads(request_as_json(plan, 1))["plan"]) == plan


def test_it_rests_so_that_bytes_come_no_faster_than_allowed_and_saves_up_no_time() -> None:
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    pace = Pace(1000, clock=lambda: now, sleep=sleep)
    for _ in range(100):
        pace(100)
    assert 9.9 <= now <= 10
    now += 1000
    before = now
    for _ in range(100):
        pace(100)
    assert 9.9 <= now - before <= 10


async def test_a_pass_over_a_topic_that_is_deleted_meanwhile_is_no_failure_of_the_storage() -> None:
    store = CompactedStore(3)
    store.write(30)
    store.have_snapshot()

    async def run_pass(plan: CompactionPlan) -> CompactionResult:
        store.opened.store.delete_topic("t")
        raise CompactionFailed("StorageFailed: its directory is gone", remedy="None in a test.")

    with capture_logs() as logs:
        assert await Compaction(store.opened.store, run_pass, interval_ms=1).compact_one()
    for _ in range(10):
        store.opened.settle()
    assert [entry["event"] for entry in logs] == ["compaction ended: its topic was deleted"]
    assert store.opened.failures == []
