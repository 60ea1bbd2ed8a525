"""A data directory that no server has open, as it is found: what its metadata says, and where its partitions are.

It is read under its lock, and not a byte of it changes. A copy may have no lock file: it gets one when it is repaired,
and not before, so that a repair that is refused has changed nothing. A missing or a damaged file does not stop the
reading, and is a finding. Only what a later version wrote is refused: nobody here can say what would be wrong with it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

from logstore.catalog import PARTITION_DIRECTORY, TOPIC_DELETED, TOPIC_DIRECTORY, TOPIC_DOCUMENT, Topic, read_topic
from logstore.checkpoint import PartitionCheckpoint, Slot, read_slots
from logstore.data_directory import CHECKPOINT, LOCK, SPARE, TOPICS
from logstore.disk import Disk, DiskLock
from logstore.errors import DataDirectoryLocked, DataDirectoryUnusable, MetadataCorrupt
from logstore.files import prepared_name
from logstore.findings import Finding, Kind
from logstore.identity import META, Identity
from logstore.partition_files import Place

LEADER_EPOCH_MAX = 2**31 - 1
_OURS = {META, LOCK, CHECKPOINT, TOPICS, SPARE, "lost+found"}


@dataclass(slots=True)
class FoundTopic:
    """A topic's directory. Without its document it has only its id."""

    topic_id: UUID
    directory: Path
    topic: Topic | None
    partitions: list[int]

    @property
    def label(self) -> str:
        return self.topic.name if self.topic is not None else self.topic_id.hex


@dataclass(slots=True)
class StoppedDirectory:
    """Made by `open`. Closed, it lets go of the lock."""

    path: Path
    disk: Disk
    lock: DiskLock | None
    identity: Identity | None = None
    checkpoint: Slot | None = None  # the slot that counts; None when both are lost
    topics: list[FoundTopic] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @classmethod
    def open(cls, path: Path, disk: Disk, *, to_repair: bool = False) -> "StoppedDirectory":
        """Take the lock, for itself alone where it is to be repaired, and read the metadata.

        Raises `DataDirectoryLocked` where a server has it, `DataDirectoryUnusable` where it is none of ours or may not
        be read, and `FormatTooNew`.
        """
        _refuse_foreign(path, disk)
        lock = None
        if disk.exists(path / LOCK):  # every server makes the file before it does anything: else this is a copy
            lock = disk.lock(path / LOCK) if to_repair else disk.lock_for_reading(path / LOCK)
        directory = cls(path, disk, lock)
        try:
            directory._read()
        except BaseException:
            directory.close()
            raise
        return directory

    def take(self) -> None:
        """Have the lock before the first change, also of a copy that had no lock file.

        Raises `DataDirectoryLocked` if a server has made the file since: then it is no longer as it was read.
        """
        if self.lock is not None:
            return
        if self.disk.exists(self.path / LOCK):
            raise DataDirectoryLocked(
                f"{self.path} had no lock file, and another process has made one since",
                remedy="See that no server uses the directory, and repeat the command.",
            )
        self.lock = self.disk.lock(self.path / LOCK)

    def close(self) -> None:
        if self.lock is not None:
            self.lock.release()
            self.lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def places(self) -> Iterator[Place]:
        """Every partition, in the order of the topics' names."""
        rows = {(row.topic_id, row.partition): row for row in self.checkpoint.rows} if self.checkpoint else {}
        for topic in self.topics:
            for partition in topic.partitions:
                yield self._place(topic, partition, rows.get((topic.topic_id, partition)))

    def _place(self, topic: FoundTopic, partition: int, row: PartitionCheckpoint | None) -> Place:
        return Place(
            topic.directory / str(partition),
            topic.label,
            topic.topic_id,
            partition,
            row,
            checkpoint_is_lost=self.checkpoint is None,
            leader_epoch_max=self.identity.leader_epoch if self.identity else LEADER_EPOCH_MAX,
        )

    # Reading.

    def _read(self) -> None:
        names = self.disk.list_dir(self.path)
        try:
            self.identity = Identity.load(self.path, self.disk)
        except FileNotFoundError:
            self._add(Kind.META_WRONG, "it is missing", self.path / META)
        except MetadataCorrupt as error:
            self._add(Kind.META_WRONG, str(error), self.path / META)
        self._read_checkpoint()
        if TOPICS in names:
            self._read_topics(self.path / TOPICS)
        else:
            self._add(Kind.TOPIC_WRONG, "the directory of all topics is missing", self.path / TOPICS)
        self._note_unknown_rows()
        for name in names:
            if prepared_name(name) in _OURS:
                self._add(Kind.LEFTOVER, "it was being written when the power or the process went", self.path / name)
            elif name not in _OURS:
                self._add(Kind.STRANGER, "it is no file of ours", self.path / name)

    def _read_checkpoint(self) -> None:
        path = self.path / CHECKPOINT
        try:
            slots, size = read_slots(path, self.disk)
        except MetadataCorrupt as error:
            self._add(Kind.CHECKPOINT_LOST, str(error), path)
            return
        self.checkpoint = max(filter(None, slots), key=lambda slot: slot.generation, default=None)
        if self.checkpoint is None:
            self._add(Kind.CHECKPOINT_LOST, "neither of its two slots is whole", path)
        elif size != 2 * self.checkpoint.slot_bytes:
            what = f"it has {size} bytes, and its two slots {self.checkpoint.slot_bytes} each"
            self._add(Kind.CHECKPOINT_SLOT, what, path)
        elif None in slots:
            self._add(Kind.CHECKPOINT_SLOT, f"slot {slots.index(None)} is damaged", path)

    def _read_topics(self, directory: Path) -> None:
        for name in self.disk.list_dir(directory):
            if TOPIC_DIRECTORY.fullmatch(name):
                self._read_topic(directory / name, UUID(hex=name))
            else:
                self._add(Kind.STRANGER, "it is no topic's directory", directory / name)
        self.topics.sort(key=lambda topic: topic.label)
        self._note_names_taken_twice()

    def _read_topic(self, directory: Path, topic_id: UUID) -> None:
        names = self.disk.list_dir(directory)
        there = sorted(int(name) for name in names if PARTITION_DIRECTORY.fullmatch(name))
        if TOPIC_DELETED in names:
            self._add(Kind.LEFTOVER, "the topic was deleted, and its files are not all removed", directory)
            return
        topic = None
        try:
            topic = read_topic(self.disk, directory, topic_id)
        except FileNotFoundError:
            if not any(self.disk.list_dir(directory / str(partition)) for partition in there):
                self._add(Kind.LEFTOVER, "a creation that was cut short", directory)
                return
            self._add(Kind.TOPIC_WRONG, "there are records, and the document of their topic is missing", directory)
        except MetadataCorrupt as error:
            self._add(Kind.TOPIC_WRONG, str(error), directory / TOPIC_DOCUMENT)
        found = FoundTopic(topic_id, directory, topic, there)
        if topic is not None:
            self._check_partitions(found, topic)
        self.topics.append(found)
        for name in names:
            if prepared_name(name) == TOPIC_DOCUMENT:
                self._add(Kind.LEFTOVER, "it was being written when the power or the process went", directory / name)
            elif name != TOPIC_DOCUMENT and not PARTITION_DIRECTORY.fullmatch(name):
                self._add(Kind.STRANGER, "it is no file of ours", directory / name)

    def _check_partitions(self, found: FoundTopic, topic: Topic) -> None:
        for partition in sorted(set(range(topic.partitions)) - set(found.partitions)):
            self._add(
                Kind.TOPIC_WRONG, "the directory of the partition is missing", found.directory, topic.name, partition
            )
        for partition in found.partitions[:]:
            if partition < topic.partitions:
                continue
            if self.disk.list_dir(found.directory / str(partition)):
                what = f"there are records, beyond the partitions of the topic ({topic.partitions})"
                self._add(Kind.TOPIC_WRONG, what, found.directory, topic.name, partition)
            else:
                what = "partitions were being added, and that was cut short"
                self._add(Kind.LEFTOVER, what, found.directory / str(partition), topic.name, partition)
                found.partitions.remove(partition)

    def _note_names_taken_twice(self) -> None:
        seen: dict[str, FoundTopic] = {}
        for topic in self.topics:
            other = seen.setdefault(topic.label.replace(".", "_"), topic)
            if other is not topic:
                what = f"the topic in {other.directory.name} is named {other.label!r} too"
                self._add(Kind.TOPIC_WRONG, what, topic.directory, topic.label)

    def _note_unknown_rows(self) -> None:
        known = {topic.topic_id for topic in self.topics}
        condemned = {finding.path.name for finding in self.findings if finding.kind is Kind.LEFTOVER}
        unknown = {row.topic_id for row in self.checkpoint.rows} - known if self.checkpoint else set()
        for topic_id in sorted(unknown, key=str):
            if topic_id.hex not in condemned:
                what = f"it knows a topic with the id {topic_id}, which has no directory"
                self._add(Kind.TOPIC_UNKNOWN, what, self.path / CHECKPOINT)

    def _add(self, kind: Kind, what: str, path: Path, topic: str | None = None, partition: int | None = None) -> None:
        self.findings.append(Finding(kind, what, path, topic, partition))


def _refuse_foreign(path: Path, disk: Disk) -> None:
    """Raises `DataDirectoryUnusable` if it is no data directory, nor what is left of one."""
    try:
        names = disk.list_dir(path)
    except FileNotFoundError:
        raise DataDirectoryUnusable(
            f"there is no directory {path}", remedy="Name the data directory of a server, as in its --data-dir."
        ) from None
    except NotADirectoryError:
        raise DataDirectoryUnusable(
            f"{path} is a file", remedy="Name the data directory of a server, as in its --data-dir."
        ) from None
    if META in names or (TOPICS in names and disk.list_dir(path / TOPICS)):
        return
    around = next((parent for parent in path.absolute().parents if disk.exists(parent / META)), None)
    raise DataDirectoryUnusable(
        f"{path} is not a data directory: it has neither {META!r} nor any topics",
        remedy=f"It is part of one: name {around}, and the topic and partition by --topic and --partition."
        if around
        else "Name the data directory of a server, as in its --data-dir.",
    )
