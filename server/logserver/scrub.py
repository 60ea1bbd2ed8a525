"""The scrub: reads what nobody reads, so that rot is found while there may still be a copy of what it took.

A pass reads every sealed segment once, past the page cache, a piece at a time in a thread of its own, and rests between
two pieces so that the disk is left to others. What it finds is logged with its offsets and its place; nothing is
changed. What is not sealed yet is young, and read by consumers and by the next start.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace

import structlog

from logserver.openings import Openings
from logstore.disk import Disk
from logstore.errors import LogStoreError
from logstore.findings import Finding, Severity
from logstore.log import Log
from logstore.losses import read_loss
from logstore.seal import Seal
from logstore.topics import TopicStore
from logstore.verification import SegmentToVerify, SegmentVerification

logger = structlog.get_logger(__name__)

PIECE_BYTES = 1024 * 1024


@dataclass(slots=True)
class ScrubPass:
    """What one pass has read and found."""

    segments: int = 0
    bytes_read: int = 0
    findings: int = 0


class Scrub:
    def __init__(
        self,
        store: TopicStore,
        openings: Openings,
        disk: Disk,
        *,
        bytes_per_second: int,
        interval_ms: int,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        assert bytes_per_second > 0
        self._store = store
        self._openings = openings
        self._disk = disk
        self._bytes_per_second = bytes_per_second
        self._interval_ms = interval_ms
        self._sleep = sleep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="scrub")

    async def run(self) -> None:
        """Pass after pass, until it is cancelled. The first begins after the interval, as any other does."""
        while True:
            await self._sleep(self._interval_ms / 1000)
            try:
                done = await self.run_pass()
            except Exception:  # Whatever it is, it is logged in full, and must not end what runs by the clock for good.
                logger.exception("the scrub failed, and begins again after its interval")
            else:
                logger.info("scrubbed", segments=done.segments, bytes_read=done.bytes_read, findings=done.findings)

    async def run_pass(self) -> ScrubPass:
        done = ScrubPass()
        for topic in self._store.topics():
            for partition in range(topic.partitions):
                try:
                    log = await self._openings.log(topic, partition)
                except LogStoreError as error:  # it was deleted meanwhile, or who asks for it is told
                    logger.warning("not scrubbed", topic=topic.name, partition=partition, error=str(error))
                    continue
                for seal in log.seals:
                    await self._scrub(log, seal, done)
        return done

    def close(self) -> None:
        self._thread.shutdown()

    async def _scrub(self, log: Log, seal: Seal, done: ScrubPass) -> None:
        loop = asyncio.get_running_loop()
        try:
            verification = await loop.run_in_executor(self._thread, self._open, log, seal)
        except FileNotFoundError:
            return  # retention was here
        done.segments += 1
        try:
            while not verification.is_done:
                before = verification.position
                found = await loop.run_in_executor(self._thread, verification.step, PIECE_BYTES)
                done.bytes_read += verification.position - before
                for finding in found:
                    if finding.kind.severity is not Severity.NOTE:
                        done.findings += 1
                        _tell(finding)
                await self._sleep((verification.position - before) / self._bytes_per_second)
        finally:
            await loop.run_in_executor(self._thread, verification.close)

    def _open(self, log: Log, seal: Seal) -> SegmentVerification:
        segment = SegmentToVerify.sealed(log.directory, seal, topic=log.topic, partition=log.partition)
        with suppress(FileNotFoundError):
            segment = replace(segment, loss=read_loss(self._disk, log.directory, seal.base_offset))
        return SegmentVerification(self._disk, segment)


def _tell(finding: Finding) -> None:
    log = logger.error if finding.kind.severity is Severity.DAMAGE else logger.warning
    log(
        "the scrub found damage",
        kind=finding.kind.code,
        what=finding.what,
        topic=finding.topic,
        partition=finding.partition,
        offset=finding.offset,
        next_offset=finding.next_offset,
        path=str(finding.path),
        position=finding.position,
        remedy=finding.kind.remedy,
    )
