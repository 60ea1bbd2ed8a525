"""Compaction of the logs whose topics ask for it: when one is due, in another process, one at a time.

    look for the log with the most to gain -> logstore.compactor reads and writes files -> the log takes them over

Nothing of a log refers to what the process writes before the log does, so one that fails or is killed has changed
nothing.
"""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

import structlog

from logserver.errors import LogServerError
from logstore.compaction import CompactionPlan, CompactionResult
from logstore.compactor import request_as_json, result_from_json
from logstore.errors import LogStoreError
from logstore.topics import TopicStore

logger = structlog.get_logger(__name__)

RunPass = Callable[[CompactionPlan], Awaitable[CompactionResult]]


class CompactionFailed(LogServerError):
    """The process that compacts has ended without a result."""


class Compaction:
    def __init__(
        self,
        store: TopicStore,
        run_pass: RunPass,
        *,
        interval_ms: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._run_pass = run_pass
        self._interval_ms = interval_ms
        self._sleep = sleep

    async def run(self) -> None:
        """Until it is cancelled. What is due is compacted without a rest; then it looks again after the interval."""
        while True:
            await self._sleep(self._interval_ms / 1000)
            try:
                while await self.compact_one():
                    await self._sleep(0)
            except Exception:  # Whatever it is, it is logged in full, and must not end what runs by the clock for good.
                logger.exception("compaction failed, and is tried again after its interval")

    async def compact_one(self) -> bool:
        """Compact the log with the most to gain, if one is due."""
        planned = self._store.plan_compaction()
        if planned is None:
            return False
        topic, partition = planned.log.topic, planned.log.partition
        try:
            result = await self._run_pass(planned.plan)
        except (LogStoreError, CompactionFailed) as error:
            if planned.log.is_deleted:
                logger.info("compaction ended: its topic was deleted", topic=topic, partition=partition)
            else:
                logger.warning(
                    "compaction failed", topic=topic, partition=partition, error=str(error), remedy=error.remedy
                )
            self._store.compactions.give_up(planned)
            return True
        self._store.compactions.take(planned, result)
        logger.info(
            "compacted",
            topic=topic,
            partition=partition,
            records_read=result.records_read,
            records_kept=result.records_kept,
            bytes_read=result.bytes_read,
            bytes_written=result.bytes_written,
        )
        return True


def in_another_process(bytes_per_second: int) -> RunPass:
    """A pass by `logstore.compactor`, which ends when its caller is cancelled."""

    async def run_pass(plan: CompactionPlan) -> CompactionResult:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "logstore.compactor"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            answer, complaint = await process.communicate(request_as_json(plan, bytes_per_second).encode())
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        try:
            said = json.loads(answer)
        except ValueError:
            raise CompactionFailed(
                f"the process that compacts ended with status {process.returncode} and no answer: "
                f"{complaint.decode(errors='replace')[-500:]}",
                remedy="It is tried again. If it stays so, look at the machine's memory.",
            ) from None
        if "error" in said:
            raise CompactionFailed(f"{said['error']}: {said['message']}", remedy=said["remedy"])
        return result_from_json(said["result"])

    return run_pass
