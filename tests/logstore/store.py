"""A store on a disk of the test's choosing, its sync driven by hand, and a model of what must be in it."""

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from logstore.batch import Record, decode_batch, encode_batch, iter_headers
from logstore.catalog import Topic
from logstore.config import StoreConfig, TopicConfig
from logstore.disk import Disk
from logstore.log import Log
from logstore.topics import TopicStore
from tests.logstore.partition import ManualClock

DATA = Path("/data")
#: A value that a test appends after a crash, beside the model.
AFTERWARDS = b"afterwards"
#: Segments of a few batches, kept for ever.
SMALL = TopicConfig.from_strings({"segment.bytes": "1024", "retention.ms": "-1"})
BOUNDS = StoreConfig(dirty_bytes_max=1 << 20, open_files_max=8, map_count_max=4, producer_id_block=3)


class Opened:
    """A store that is open. `close` is a clean stop; dropping it is a crash."""

    def __init__(
        self,
        disk: Disk,
        *,
        seed: int = 0,
        directory: Path = DATA,
        config: StoreConfig = BOUNDS,
        clock: ManualClock | None = None,
    ) -> None:
        self.disk = disk
        self.clock = clock or ManualClock()
        self.failures: list[BaseException] = []
        self._posted: list[Callable[[], None]] = []
        self.store = TopicStore.open(
            directory,
            disk=disk,
            clock=self.clock,
            config=config,
            random=random.Random(seed).randbytes,
            post=self._posted.append,
            on_failure=self.failures.append,
            sync_in_thread=False,
        )

    def append(self, name: str, partition: int, *values: bytes) -> int:
        """Append one batch and return its offset. It is durable after `settle`."""
        log = self.store.log(name, partition)
        now_ms = self.clock.wall_ms()
        records = [Record(0, now_ms, None, value) for value in values]
        return log.append(encode_batch(records), now_ms).base_offset

    def settle(self) -> None:
        """Sync what is dirty, and run what that brings about."""
        self.clock.now_ms += 2000
        for _ in range(3):
            self.store.synchronizer.run_round()
            self.run_posted()

    def retain(self) -> int:
        """Apply retention, also to logs that nobody has opened; return how many segments are deleted."""
        for topic, partition in self.store.unopened_that_age():
            self.store.log(topic.name, partition)
        return self.store.retain()

    def run_posted(self) -> None:
        while self._posted:
            self._posted.pop(0)()

    def close(self) -> None:
        self.store.close()
        self.run_posted()


def values_of(log: Log) -> list[bytes]:
    """Every value that can be read, in order."""
    values: list[bytes] = []
    offset = log.log_start_offset
    while offset < log.high_watermark:
        with log.open_read(offset, 1 << 16) as reader:
            read = reader.read()
        for position, header in iter_headers(read.batches):
            records = decode_batch(read.batches[position : position + header.size])
            values += [record.value or b"" for record in records if record.offset >= offset]
        assert read.next_offset > offset
        offset = read.next_offset
    return values


@dataclass
class ModelTopic:
    topic: Topic
    written: dict[int, list[bytes]] = field(default_factory=dict)  # partition: everything appended
    durable: dict[int, int] = field(default_factory=dict)  # partition: how many of them were synced for sure


class Model:
    """What was done to a store, and what was about to be done when the power went."""

    def __init__(self) -> None:
        self.topics: dict[str, ModelTopic] = {}
        self.uncertain: set[str] = set()  # a create or delete that has not returned
        self.allowed: dict[str, list[Topic]] = {}  # a change that has not returned: the topic may be either

    def check(self, store: TopicStore, *, also: Collection[str] = ()) -> None:
        """Everything acknowledged is there, and nothing else but what may be."""
        found = {topic.name: topic for topic in store.topics()}
        for name in self.topics.keys() - self.uncertain:
            assert found[name] in self.allowed.get(name, [self.topics[name].topic])
        assert found.keys() <= self.topics.keys() | self.uncertain | set(also)
        for name, model in self.topics.items():
            if name in found and found[name].topic_id == model.topic.topic_id:
                for partition in range(found[name].partitions):
                    written = model.written.get(partition, [])
                    values = [value for value in values_of(store.log(name, partition)) if value != AFTERWARDS]
                    assert values == written[: len(values)]
                    assert len(values) >= model.durable.get(partition, 0)
            elif name in found:
                assert set(values_of(store.log(name, 0))) <= {AFTERWARDS}


class Driver:
    """Does things to a store and keeps the model of them."""

    def __init__(self, model: Model, opened: Opened) -> None:
        self.model = model
        self.opened = opened

    def create(self, name: str, partitions: int, config: TopicConfig = SMALL) -> None:
        self.model.uncertain.add(name)
        topic = self.opened.store.create_topic(name, partitions, config)
        self.model.uncertain.remove(name)
        self.model.topics[name] = ModelTopic(topic)

    def delete(self, name: str) -> None:
        self.model.uncertain.add(name)
        self.opened.store.delete_topic(name)
        self.model.uncertain.remove(name)
        del self.model.topics[name]

    def alter(self, name: str, *, config: TopicConfig | None = None, more_partitions: int = 0) -> None:
        before = self.model.topics[name].topic
        after = Topic(
            name, before.topic_id, before.partitions + more_partitions, config or before.config, before.internal
        )
        self.model.allowed[name] = [before, after]
        if more_partitions:
            assert self.opened.store.add_partitions(name, more_partitions) == after
        else:
            assert self.opened.store.alter_config(name, after.config) == after
        del self.model.allowed[name]
        self.model.topics[name].topic = after

    def append(self, name: str, partition: int, *values: bytes) -> None:
        written = self.model.topics[name].written.setdefault(partition, [])
        written.extend(values)
        self.opened.append(name, partition, *values)

    def settle(self) -> None:
        self.opened.settle()
        self._all_durable()

    def close(self) -> None:
        self.opened.close()
        self._all_durable()

    def _all_durable(self) -> None:
        for topic in self.model.topics.values():
            topic.durable = {partition: len(values) for partition, values in topic.written.items()}
