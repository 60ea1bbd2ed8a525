"""Partitions that a crash, a fault or a stop left, to try recovery with, and what can be read of them."""

from pathlib import Path

import pytest

from logstore.config import TopicConfig
from logstore.errors import DataLoss
from logstore.reader import Places
from tests.logstore.disk import SimulatedDisk
from tests.logstore.partition import Partition

SMALL = TopicConfig(segment_bytes=400, index_interval_bytes=150)
WIDE = TopicConfig(index_interval_bytes=150)


def with_batches(count: int, config: TopicConfig = WIDE) -> Partition:
    """A partition with that many synced batches of two records."""
    partition = Partition(SimulatedDisk(), config=config)
    for number in range(count):
        partition.append(b"first of %d" % number, b"second of %d" % number)
        partition.sync_now()
    return partition


def simulated(partition: Partition) -> SimulatedDisk:
    assert isinstance(partition.disk, SimulatedDisk)
    return partition.disk


def active_path(partition: Partition) -> Path:
    return partition.log._segments[-1].path


def reopened(partition: Partition, config: TopicConfig | None = None) -> Partition:
    """After the process was killed."""
    return Partition(simulated(partition).kill(), config=config or partition.config, clock=partition.clock)


def values_of(partition: Partition) -> list[bytes | None]:
    return [record.value for record in partition.read_all()]


def read_around_holes(partition: Partition) -> dict[int, bytes | None]:
    """What every offset holds that is in no hole. DataLoss is what each of the others must be, and nothing else may."""
    log = partition.log
    lost: set[int] = set()
    for hole in log.holes:
        lost.update(range(hole.offset, log.log_end_offset if hole.next_offset is None else hole.next_offset))
    values: dict[int, bytes | None] = {}
    for offset in range(log.log_start_offset, log.high_watermark):
        if offset in lost:
            with pytest.raises(DataLoss, match=r"records .* cannot be read"):
                partition.read(offset)
        else:
            values |= {record.offset: record.value for record in partition.read(offset)[0]}
    return values


def torn_tail() -> tuple[Partition, bytes, int]:
    """Three batches below the recovery point and two above it; the file, and where the first of the two begins."""
    partition = with_batches(3)
    partition.clock.now_ms += 5_000
    partition.sync.run_round()  # the checkpoint
    partition.run_posted()
    start = partition.log.size_bytes
    partition.append(b"at risk")
    partition.append(b"at risk too")
    return partition, simulated(partition).files()[active_path(partition)], start


def sealed_chain(segments: int = 4) -> Partition:
    partition = Partition(SimulatedDisk(), config=SMALL)
    while partition.log.segments_count <= segments:
        partition.append(b"value %d" % partition.log.log_end_offset)
        partition.sync_now()
    return partition


def small_batches(count: int = 400, *, checkpointed: bool = True) -> Partition:
    """One batch a record, v000 and so on, in segments of some 200 batches."""
    partition = Partition(SimulatedDisk(), config=TopicConfig(segment_bytes=20_000, index_interval_bytes=1000))
    for number in range(count):
        partition.append(b"v%03d" % number)
        if number % 20 == 0:
            partition.sync_now()
    partition.sync_now()
    if checkpointed:
        partition.clock.now_ms += 5_000
        partition.sync.run_round()
        partition.run_posted()
    return partition


def refused(partition: Partition) -> list[int]:
    """Offsets whose records are not to be had. All others are what they were."""
    offsets = []
    for offset in range(partition.log.log_start_offset, partition.log.high_watermark):
        partition.log._places = Places()
        try:
            records, _ = partition.read(offset, 100)
        except DataLoss:
            offsets.append(offset)
        else:
            assert records[0] == records[0]._replace(offset=offset, value=b"v%03d" % offset)
    return offsets


def batch_size(partition: Partition) -> int:
    first = partition.log._segments[0]
    return first.end_position // (first.next_offset - first.base_offset)
