"""A stopped data directory of a realistic mix, to be damaged in copies.

Topics in small segments with batches of every codec, idempotent producers, log starts that retention has moved, several
leader epochs, bytes that recoveries have set aside, and the journal of consumer groups; in half of the directories
segments that compaction has written anew, merged and with gaps. Everything was synced, and the last stop was clean or a
kill.
"""

import os
import random
import tempfile
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch
from uuid import UUID

from consumer_groups.journal_records import GroupEpochs, GroupKey, OffsetKey, OffsetValue, encode
from consumer_groups.requests import Partition
from logserver.journal import GROUPS_TOPIC, GROUPS_TOPIC_CONFIG
from logstore import files
from logstore.batch import Compression, Record
from logstore.config import TopicConfig
from logstore.data_directory import TOPICS
from logstore.disk import ARRAY_DATA, Disk
from logstore.index import COLUMNS, ROW_BYTES
from logstore.linux_disk import LinuxDisk
from logstore.seal import Seal, read_seal
from tests.faults.storage.model import StoreModel, new_batch
from tests.faults.storage.workload import Stop, StorageWorkload, tiny_limits
from tests.logstore.disk import SimulatedDisk
from tests.logstore.partition import JumpingClock
from tests.logstore.store import DATA

#: Of most Linuxes, in memory.
MEMORY = "/dev/shm"
OPERATIONS = 400
POWER_CUTS = 2
COMMITS = 5


@contextmanager
def real_directory() -> Iterator[Path]:
    """For copies on a filesystem whose power is not cut: in memory if there is such a one, and never synced."""
    memory = MEMORY if os.access(MEMORY, os.W_OK) else None
    with (
        tempfile.TemporaryDirectory(prefix="faults-", dir=memory) as directory,
        patch("logstore.linux_disk._sync_descriptor"),
        patch("logstore.syscalls.syncfs"),
    ):
        yield Path(directory)


@dataclass(frozen=True)
class Copy:
    """One copy of a data directory, in memory or not. Its files are told by their paths in memory either way."""

    disk: Disk
    root: Path

    def files(self) -> dict[Path, bytes]:
        if isinstance(self.disk, SimulatedDisk):
            return self.disk.files()
        return {
            DATA / path.relative_to(self.root): path.read_bytes() for path in self.root.rglob("*") if path.is_file()
        }


@dataclass(frozen=True)
class DataDirectory:
    model: StoreModel
    clock: JumpingClock
    stop: Stop
    disk: SimulatedDisk  # never used again, only copied

    def copy(self) -> Copy:
        return Copy(self.disk.crash(random.Random(0)), DATA)  # nothing is left to be lost

    def size_of(self, path: Path) -> int:
        return len(self.disk.files()[path])

    def copy_to(self, directory: Path) -> None:
        """Make a real directory of it, with what mmap-ninja keeps of an array beside the rows."""
        disk = LinuxDisk()
        for path, data in self.disk.files().items():
            target = directory / path.relative_to(DATA)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.name == ARRAY_DATA:
                whole = data[: len(data) - len(data) % ROW_BYTES]
                disk.write_array(target.parent, array("q", whole), columns=COLUMNS)
            target.write_bytes(data)
        for topic in self.model.topics.values():
            for number in range(topic.partitions):
                (directory / TOPICS / topic.topic_id.hex / str(number)).mkdir(exist_ok=True)

    def partition_of(self, path: Path) -> tuple[str, int] | None:
        """The topic's name and the partition that a file belongs to, None if to none that there is."""
        match path.relative_to(DATA).parts:
            case (_, topic_id, number, *_):
                names = [topic.name for topic in self.model.topics.values() if topic.topic_id.hex == topic_id]
                return (names[0], int(number)) if names and number.isdigit() else None
        return None

    def is_left_behind(self, path: Path) -> bool:
        """Whether it is of a topic that is gone, or of a segment below the start of its log."""
        key = self.partition_of(path)
        if key is None:
            return True
        parsed = files.parse_segment_file(path.name)
        if parsed is None:
            return False
        return parsed.base_offset < self.model.partitions[key].start_offset or self.is_superseded(path)

    def is_superseded(self, path: Path) -> bool:
        """Whether a pass of compaction has written what this file of a segment had anew, or was about to."""
        parsed = files.parse_segment_file(path.name)
        if parsed is None:
            return False
        for seal in self._seals(path.parent):
            if seal.base_offset < parsed.base_offset < seal.next_offset:
                return True
            if parsed.suffix == files.LOG_SUFFIX and seal.base_offset == parsed.base_offset:
                return seal.generation != parsed.generation
        return parsed.suffix == files.LOG_SUFFIX and parsed.generation > 0

    def has_superseded_logs(self, directory: Path) -> bool:
        names = (path for path in self.disk.files() if path.parent == directory and path.suffix == files.LOG_SUFFIX)
        return any(map(self.is_superseded, names))

    def _seals(self, directory: Path) -> list[Seal]:
        paths = (path for path in self.disk.files() if path.parent == directory and path.suffix == files.SEAL_SUFFIX)
        return [read_seal(self.disk, path) for path in sorted(paths)]


def make_data_directory(rng: random.Random) -> DataDirectory:
    with tiny_limits():
        workload = StorageWorkload(
            SimulatedDisk(),
            rng,
            clock=JumpingClock(),
            model=StoreModel(),
            has_troubles=False,
            codecs=tuple(Compression),
            compacts=rng.random() < 0.5,
        )
        workload.start(Stop.CLEAN)
        _begin_journal(workload)
        for _ in range(POWER_CUTS):
            for _ in range(OPERATIONS // POWER_CUTS):
                workload.work()
            _commit(workload)
            workload.cut_power()
        workload.append_everywhere()
        stop = rng.choice((Stop.CLEAN, Stop.KILLED))
        if stop is Stop.CLEAN:
            workload.stop()
        return DataDirectory(workload.model, workload.clock, stop, workload.disk.crash(rng))


def _begin_journal(workload: StorageWorkload) -> None:
    config = TopicConfig.from_strings(GROUPS_TOPIC_CONFIG)
    topic = workload.store.store.create_topic(GROUPS_TOPIC, 1, config, internal=True)
    workload.model.set_topic(GROUPS_TOPIC, topic)


def _commit(workload: StorageWorkload) -> None:
    """What a group of consumers leaves in its journal."""
    log, now_ms = workload.store.store.log(GROUPS_TOPIC, 0), workload.clock.wall_ms()
    for number in range(COMMITS):
        changes = [
            encode(GroupKey("g"), GroupEpochs(number, number)),
            encode(OffsetKey("g", Partition(UUID(int=7), number % 3)), OffsetValue(number, "", now_ms)),
        ]
        records = [Record(0, now_ms, key, value) for key, value in changes]
        workload.append(GROUPS_TOPIC, 0, new_batch(records, log, now_ms))
