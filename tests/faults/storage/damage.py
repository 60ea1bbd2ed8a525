"""The judgement of a store of which something was damaged while it was stopped.

What is damaged is told, at the start or when it is read, and never served as good. What is not is there: every batch in
front of the damage, and behind it what the log can find its way to. A log that does not know what it has lost takes no
more appends, and an untouched one is as if nothing had happened.
"""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from logstore.batch import Record
from logstore.errors import DataLoss
from logstore.log import Log
from logstore.topics import TopicStore
from tests.faults.storage.model import PartitionModel, StoredBatch, StoreModel, Violation, judge_log, new_batch

Key = tuple[str, int]  # a topic's name and a partition

#: The leader epoch of a batch, which no checksum covers and readers do not look at.
EPOCH = slice(12, 16)


@dataclass(frozen=True)
class Damage:
    """Offsets [start, end) whose bytes are not what they were, by partition. A segment is damaged to its end."""

    offsets: Mapping[Key, Sequence[range]] = field(default_factory=dict)
    snapshots: frozenset[Key] = frozenset()  # lost, and with them what producers wrote before the log's start
    topics: frozenset[str] = frozenset()  # may be gone
    #: Has a log file of another, or in another's place. Batches do not say whose they are, so that of what they say
    #: which fits is taken for its own, and what no longer fits to it is lost.
    exchanged: frozenset[Key] = frozenset()
    is_start_refused: bool = False  # it may be

    def __or__(self, other: "Damage") -> "Damage":
        offsets = {
            key: [*self.offsets.get(key, ()), *other.offsets.get(key, ())]
            for key in (*self.offsets, *(key for key in other.offsets if key not in self.offsets))
        }
        return Damage(
            offsets,
            self.snapshots | other.snapshots,
            self.topics | other.topics,
            self.exchanged | other.exchanged,
            self.is_start_refused or other.is_start_refused,
        )

    def touches(self, key: Key, batch: StoredBatch) -> bool:
        return any(batch.base_offset < hit.stop and hit.start < batch.next_offset for hit in self.offsets.get(key, ()))


def judge_damaged(
    store: TopicStore, model: StoreModel, damage: Damage, rng: random.Random, now_ms: int, counts: Counter[str]
) -> None:
    """Raise Violation for what is wrong beyond the damage. Every log that takes it gets one more batch."""
    found = {topic.name: topic for topic in store.topics()}
    for name in damage.topics & model.topics.keys() - found.keys():
        counts["topics gone and not missed"] += 1
        model.set_topic(name, None)
    if found != model.topics:
        raise Violation(f"the topics are {sorted(found)}, and must be {sorted(model.topics)}")
    for key, partition in model.partitions.items():
        log = store.log(*key)
        try:
            if key in damage.offsets:
                _judge_damaged_log(log, key, partition, damage, now_ms, counts)
            else:
                judge_log(log, partition, rng, whole=True, now_ms=now_ms, forgets=key in damage.snapshots)
                _append(log, partition, now_ms)
        except Violation as error:
            raise Violation(f"{key}: {error}") from error


def _judge_damaged_log(
    log: Log, key: Key, partition: PartitionModel, damage: Damage, now_ms: int, counts: Counter[str]
) -> None:
    lost = [
        batch
        for batch in partition.kept(log.log_start_offset, partition.end_offset)
        if not _is_readable(log, batch, counts, is_exchanged=key in damage.exchanged)
    ]
    with suppress(DataLoss):
        _append(log, partition, now_ms)
    for batch in lost:
        if not damage.touches(key, batch) and key not in damage.exchanged:
            raise Violation(f"the batch at offset {batch.base_offset} cannot be read, and is not damaged")
    counts["told"] += bool(lost)
    counts["harmless"] += not lost


def _is_readable(log: Log, batch: StoredBatch, counts: Counter[str], *, is_exchanged: bool) -> bool:
    try:
        with log.open_read(max(batch.base_offset, log.log_start_offset), 1) as reader:
            read = bytearray(reader.read().batches)
    except DataLoss:
        return False
    if read[EPOCH] != batch.data[EPOCH]:
        counts["wrong leader epochs read"] += 1
        read[EPOCH] = batch.data[EPOCH]
    if bytes(read) != batch.data and is_exchanged:
        counts["batches of another log read"] += 1
    elif bytes(read) != batch.data:
        raise Violation(f"the batch at offset {batch.base_offset} was read, and is another than was appended")
    return True


def _append(log: Log, partition: PartitionModel, now_ms: int) -> None:
    batch = new_batch([Record(0, now_ms, b"a key of its own", b"after the damage")], log, now_ms)
    answer = log.append(batch.data, now_ms)
    if batch.base_offset != partition.end_offset or answer != batch.answer:
        raise Violation(f"an append is given {answer}, and {partition.end_offset} is next")
    partition.expect(batch)
    partition.returned_offset = partition.end_offset
