"""Does the storage engine cost more than the disk?

Ours is the engine as the server uses it (checks, CRC32C, producer state, index, reservation, sync thread), theirs a
loop of bare pwrite calls of the same bytes into as many files.

Unsynced appends are measured in bursts of 32 MiB with a drain between that is not counted: below the cap on unsynced
bytes, so that the engine is measured and not the disk. Both sides write to blocks that the disk has seen before, since
the first write to a block of a virtual disk can cost many times the second.
"""

import ctypes
import os
import queue
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from bench.pairs import Comparison, take_turns
from bench.payload import ready_batch
from logstore.clock import SystemClock
from logstore.config import StoreConfig, TopicConfig
from logstore.linux_disk import LinuxDisk
from logstore.log import Log
from logstore.topics import TopicStore

BURST_BYTES = 32 << 20
BURSTS = 8
SYNCED_BYTES = 64 << 20
#: Appends that wait for one sync, as 16 producers with one batch each.
WAITING = 16
PRIMED_BYTES = 2 << 30

_LIBC = ctypes.CDLL(None, use_errno=True)


class Engine:
    """A store in this thread: what the sync thread posts is run while waiting."""

    def __init__(self, directory: Path, partitions: int) -> None:
        self._posted: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.clock = SystemClock()
        self.store = TopicStore.open(
            directory,
            disk=LinuxDisk(),
            clock=self.clock,
            config=StoreConfig(),
            random=os.urandom,
            post=self._posted.put,
            on_failure=self._fail,
        )
        self.store.create_topic("bench", partitions, TopicConfig())
        self.logs = [self.store.log("bench", partition) for partition in range(partitions)]

    def _fail(self, error: BaseException) -> None:
        raise error

    def wait_until_synced(self, logs: list[Log]) -> None:
        for log in logs:
            log.request_sync()
        while any(log.high_watermark < log.log_end_offset for log in logs):
            self._posted.get()()


@contextmanager
def engine(directory: Path, partitions: int) -> Iterator[Engine]:
    target = directory / "engine"
    opened = Engine(target, partitions)
    try:
        yield opened
    finally:
        opened.store.close()
        shutil.rmtree(target)


@contextmanager
def bare_files(directory: Path, count: int) -> Iterator[list[int]]:
    target = directory / "bare"
    target.mkdir()
    descriptors = [os.open(target / str(number), os.O_RDWR | os.O_CREAT, 0o600) for number in range(count)]
    try:
        yield descriptors
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
        shutil.rmtree(target)


def sync_all(descriptors: list[int]) -> None:
    """One fdatasync for one file, one syncfs for many: the cheaper way for each."""
    if len(descriptors) == 1:
        os.fdatasync(descriptors[0])
    elif _LIBC.syncfs(descriptors[0]) != 0:
        raise OSError(ctypes.get_errno(), "syncfs failed")


def prime(directory: Path) -> None:
    """Touch blocks that both sides will be given afterwards."""
    path = directory / "primer"
    block = bytes(1 << 20)
    with path.open("wb", buffering=0) as file:
        for _ in range(PRIMED_BYTES // len(block)):
            file.write(block)
        os.fsync(file.fileno())
    path.unlink()


def unsynced_engine(directory: Path, size: int, partitions: int) -> float:
    """MB/s."""
    batch = ready_batch(size)
    with engine(directory, partitions) as opened:
        logs, clock = opened.logs, opened.clock
        seconds = 0.0
        for _ in range(BURSTS):
            started = time.perf_counter()
            for number in range(BURST_BYTES // size):
                logs[number % partitions].append(batch, clock.wall_ms())
            seconds += time.perf_counter() - started
            opened.wait_until_synced(logs)
    return BURSTS * BURST_BYTES / seconds / 1e6


def unsynced_bare(directory: Path, size: int, partitions: int) -> float:
    batch = ready_batch(size)
    with bare_files(directory, partitions) as descriptors:
        seconds = 0.0
        positions = [0] * partitions
        for _ in range(BURSTS):
            started = time.perf_counter()
            for number in range(BURST_BYTES // size):
                target = number % partitions
                os.pwrite(descriptors[target], batch, positions[target])
                positions[target] += size
            seconds += time.perf_counter() - started
            sync_all(descriptors)
    return BURSTS * BURST_BYTES / seconds / 1e6


def synced_engine(directory: Path, size: int, partitions: int) -> float:
    """MB/s where WAITING appends, or one to each partition, wait for every sync."""
    batch = ready_batch(size)
    with engine(directory, partitions) as opened:
        logs, clock = opened.logs, opened.clock
        together = max(WAITING, partitions)
        rounds = max(4, SYNCED_BYTES // (size * together))
        started = time.perf_counter()
        for _ in range(rounds):
            for number in range(together):
                logs[number % partitions].append(batch, clock.wall_ms())
            opened.wait_until_synced(logs)
        seconds = time.perf_counter() - started
    return rounds * together * size / seconds / 1e6


def synced_bare(directory: Path, size: int, partitions: int) -> float:
    batch = ready_batch(size)
    with bare_files(directory, partitions) as descriptors:
        together = max(WAITING, partitions)
        rounds = max(4, SYNCED_BYTES // (size * together))
        positions = [0] * partitions
        started = time.perf_counter()
        for _ in range(rounds):
            for number in range(together):
                target = number % partitions
                os.pwrite(descriptors[target], batch, positions[target])
                positions[target] += size
            sync_all(descriptors)
        seconds = time.perf_counter() - started
    return rounds * together * size / seconds / 1e6


UNSYNCED_TARGETS = {64 << 10: 0.5, 1 << 20: 0.85}
SYNCED_TARGETS = {(64 << 10, 1): 0.8, (64 << 10, 64): 0.5}


def run(directory: Path, turns: int) -> list[Comparison]:
    prime(directory)
    rows: list[Comparison] = []
    for partitions in (1, 64):
        files = "one file" if partitions == 1 else f"{partitions} files"
        for size in (16 << 10, 64 << 10, 1 << 20):
            ours, theirs = take_turns(
                partial(unsynced_engine, directory, size, partitions),
                partial(unsynced_bare, directory, size, partitions),
                turns=turns,
            )
            name = f"append {size >> 10} KiB, {partitions} partition(s), not synced"
            target = UNSYNCED_TARGETS.get(size) if partitions == 1 else None
            rows.append(Comparison(name, "MB/s", ours, theirs, f"pwrite to {files}", target))
            ours, theirs = take_turns(
                partial(synced_engine, directory, size, partitions),
                partial(synced_bare, directory, size, partitions),
                turns=turns,
            )
            name = f"append {size >> 10} KiB, {partitions} partition(s), {max(WAITING, partitions)} a sync"
            how = "pwrite and fdatasync" if partitions == 1 else "pwrite and syncfs"
            rows.append(
                Comparison(name, "MB/s", ours, theirs, f"{how}, {files}", SYNCED_TARGETS.get((size, partitions)))
            )
    return rows
