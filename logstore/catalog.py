"""Which topics there are: one directory for each, named by the topic's id, with a document that says what it is.

    topics/6f9619ff8b86d011b42d00c04fc964ff/
        topic                name, partitions, settings; replaced whole
        0/ 1/ 2/ 3/          a directory for each partition, see `files`

A topic that is deleted and made again has another id, so it never meets the files of the first. What a crash leaves:

- A directory without the document, whose partitions have no files: a creation that was cut short. It is no topic.
- The document, and a partition's directory beyond their number, without files: an addition that was cut short.
- The document under the name `topic.deleted`: a topic that is gone. Its files are removed, now or at the next start.

Any other contradiction is refused: records whose document is lost are records, and are not stepped over.
"""

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from logstore import files
from logstore.config import PARTITIONS_MAX, TopicConfig
from logstore.disk import Disk
from logstore.documents import BYTES_MAX, corrupt, read_document, write_document
from logstore.errors import (
    DataLoss,
    InvalidConfig,
    InvalidPartitions,
    InvalidTopicName,
    MetadataCorrupt,
    TopicAlreadyExists,
    UnknownTopicId,
    UnknownTopicOrPartition,
)
from logstore.topic_name import check_topic_name

TOPIC_DOCUMENT = "topic"
TOPIC_DELETED = "topic.deleted"
_KIND = "topic"
_VERSION = 1

TOPIC_DIRECTORY = re.compile("[0-9a-f]{32}")
_NAME = re.compile(rb'"name": "([a-zA-Z0-9._-]{1,249})"')
PARTITION_DIRECTORY = re.compile("0|[1-9][0-9]{0,5}")


@dataclass(frozen=True, slots=True)
class Topic:
    name: str
    topic_id: UUID
    partitions: int
    config: TopicConfig
    internal: bool = False


class TopicCatalog:
    """The topics under one directory, read once; every change is on disk when its method returns."""

    def __init__(self, directory: Path, disk: Disk, *, sync_first: bool) -> None:
        """`sync_first`: after a stop that was not clean, names may be seen here that are not on the disk yet.

        Raises `MetadataCorrupt` for what contradicts itself, and `FormatTooNew`.
        """
        self._directory = directory
        self._disk = disk
        self._topics: dict[str, Topic] = {}
        self._by_id: dict[UUID, Topic] = {}
        self._names_taken: dict[str, str] = {}  # with "." and "_" as one: the name
        #: Directories of topics that were deleted, and are not yet removed.
        self.condemned: list[Path] = []
        if not disk.exists(directory):
            raise corrupt(directory, "it is not there")
        for name in disk.list_dir(directory):
            if TOPIC_DIRECTORY.fullmatch(name):
                if sync_first:
                    disk.sync_dir(directory / name)
                self._read(UUID(hex=name))

    # Asking.

    def topic(self, name: str) -> Topic:
        try:
            return self._topics[name]
        except KeyError:
            raise UnknownTopicOrPartition(
                f"there is no topic {name!r}", remedy="Create it, or check the name: `logctl topics list`."
            ) from None

    def topic_by_id(self, topic_id: UUID) -> Topic:
        try:
            return self._by_id[topic_id]
        except KeyError:
            raise UnknownTopicId(
                f"there is no topic with the id {topic_id}: it was deleted, and perhaps made again under its name",
                remedy="Ask for the topic's metadata by name.",
            ) from None

    def topics(self) -> list[Topic]:
        """By name."""
        return [self._topics[name] for name in sorted(self._topics)]

    def topic_ids(self) -> set[UUID]:
        return set(self._by_id)

    @property
    def partitions_count(self) -> int:
        """Of all topics together."""
        return sum(topic.partitions for topic in self._topics.values())

    def partition_directory(self, topic_id: UUID, partition: int) -> Path:
        return self._topic_directory(topic_id) / str(partition)

    # Changing.

    def check_new_name(self, name: str) -> None:
        """Raises `InvalidTopicName` or `TopicAlreadyExists` if no topic of that name can be made."""
        check_topic_name(name)
        remedy = "Use that topic, or choose another name."
        taken = self._names_taken.get(_one_of_many(name))
        if taken == name:
            raise TopicAlreadyExists(f"topic {name!r} exists", remedy=remedy)
        if taken is not None:
            # Not "it exists": who is told that goes on to use it.
            raise InvalidTopicName(
                f"topic {taken!r} exists, and {name!r} differs from it in '.' and '_' alone", remedy=remedy
            )

    def check_new(self, name: str, partitions: int) -> None:
        """Raises as `check_new_name`, and `InvalidPartitions`, if no such topic can be made."""
        self.check_new_name(name)
        _check_partitions(partitions)

    def create(self, topic: Topic) -> None:
        """Make the directories, and last the document, which makes it a topic."""
        self.check_new(topic.name, topic.partitions)
        assert topic.topic_id not in self._by_id
        self._make_partitions(topic, range(topic.partitions))
        self._write(topic)

    def check_growth(self, topic: Topic, count: int) -> None:
        """Raises `InvalidPartitions` if the topic cannot get `count` more."""
        if count < 1:
            raise InvalidPartitions(f"{count} partitions cannot be added", remedy="Add one or more.")
        _check_partitions(topic.partitions + count)

    def add_partitions(self, topic: Topic, count: int) -> Topic:
        """Make `count` more directories, and then say so in the document."""
        self.check_growth(topic, count)
        grown = replace(topic, partitions=topic.partitions + count)
        self._make_partitions(topic, range(topic.partitions, grown.partitions))
        self._write(grown)
        return grown

    def alter_config(self, topic: Topic, config: TopicConfig) -> Topic:
        altered = replace(topic, config=config)
        self._write(altered)
        return altered

    def condemn(self, topic: Topic) -> Path:
        """The topic is gone once this returns. Give the directory, out of use, to `remove`."""
        directory = self._topic_directory(topic.topic_id)
        self._disk.rename(directory / TOPIC_DOCUMENT, directory / TOPIC_DELETED)
        self._disk.sync_dir(directory)
        del self._topics[topic.name], self._by_id[topic.topic_id], self._names_taken[_one_of_many(topic.name)]
        return directory

    def remove(self, directory: Path) -> Iterator[None]:
        """Remove the files of a condemned topic, in steps. Cut short, it is done again after the next start.

        Any thread. The big files go one a step, the rest of a partition in one more.
        """
        for name in self._disk.list_dir(directory):
            if PARTITION_DIRECTORY.fullmatch(name):
                for file in self._disk.list_dir(directory / name):
                    if file.endswith(files.LOG_SUFFIX):
                        self._disk.remove(directory / name / file)
                        yield
                self._disk.remove_tree(directory / name)
                yield
        # The document goes after the records it condemns: without it, they would be records that have lost theirs.
        self._disk.sync_dir(directory)
        yield
        self._disk.remove_tree(directory)
        self._disk.sync_dir(directory.parent)

    # Inside.

    def _read(self, topic_id: UUID) -> None:
        directory = self._topic_directory(topic_id)
        names = set(self._disk.list_dir(directory))
        if TOPIC_DELETED in names:
            self.condemned.append(directory)
            return
        partitions = {name for name in names if PARTITION_DIRECTORY.fullmatch(name)}
        if TOPIC_DOCUMENT not in names:
            self._refuse_records(directory, partitions, "the document of their topic is missing")
            return
        try:
            topic = read_topic(self._disk, directory, topic_id)
        except MetadataCorrupt as error:
            raise MetadataCorrupt(
                f"{error}. It belongs to the topic with the id {topic_id}{self._claimed_name(directory)}",
                remedy=f"Restore this one file from a copy of the data directory. If there is none, move {directory} "
                "out of the data directory and start again: that loses this topic, and no other.",
            ) from error
        expected = {str(partition) for partition in range(topic.partitions)}
        if missing := expected - partitions:
            raise corrupt(
                directory / min(missing, key=int), f"the directory of that partition of {topic.name!r} is missing"
            )
        self._refuse_records(directory, partitions - expected, f"topic {topic.name!r} has {len(expected)} partitions")
        if other := self._names_taken.get(_one_of_many(topic.name)):
            path = directory / TOPIC_DOCUMENT
            raise corrupt(path, f"it is named {topic.name!r}, and another topic is named {other!r}")
        self._enter(topic)

    def _claimed_name(self, directory: Path) -> str:
        """What is to be said of the name in a damaged document, if one can be read in it."""
        with suppress(DataLoss):
            found = _NAME.search(self._disk.read_file(directory / TOPIC_DOCUMENT, BYTES_MAX))
            if found is not None:
                return f", and names it {found[1].decode()!r}, if that is not what is damaged"
        return ", and its name cannot be read"

    def _make_partitions(self, topic: Topic, partitions: range) -> None:
        self._disk.make_dirs(self._topic_directory(topic.topic_id), [str(partition) for partition in partitions])

    def _refuse_records(self, directory: Path, partitions: set[str], why: str) -> None:
        for partition in sorted(partitions, key=int):
            if self._disk.list_dir(directory / partition):
                raise corrupt(directory / partition, f"there are records, and {why}")

    def _write(self, topic: Topic) -> None:
        content: dict[str, Any] = {
            "name": topic.name,
            "topic_id": str(topic.topic_id),
            "partitions": topic.partitions,
            "config": topic.config.to_strings(),
            "internal": topic.internal,
        }
        path = self._topic_directory(topic.topic_id) / TOPIC_DOCUMENT
        write_document(self._disk, path, kind=_KIND, version=_VERSION, content=content)
        self._enter(topic)

    def _enter(self, topic: Topic) -> None:
        self._topics[topic.name] = topic
        self._by_id[topic.topic_id] = topic
        self._names_taken[_one_of_many(topic.name)] = topic.name

    def _topic_directory(self, topic_id: UUID) -> Path:
        return self._directory / topic_id.hex


def read_topic(disk: Disk, directory: Path, topic_id: UUID) -> Topic:
    """The topic whose directory that is. Raises FileNotFoundError, `MetadataCorrupt` and `FormatTooNew`."""
    path = directory / TOPIC_DOCUMENT
    content = read_document(disk, path, kind=_KIND, version=_VERSION)
    try:
        topic = Topic(
            name=content["name"],
            topic_id=UUID(content["topic_id"]),
            partitions=content["partitions"],
            config=TopicConfig.from_strings(content["config"]),
            internal=content["internal"],
        )
        check_topic_name(topic.name)
        _check_partitions(topic.partitions)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise corrupt(path, f"a field is missing or wrong: {error!r}") from error
    except (InvalidConfig, InvalidTopicName, InvalidPartitions) as error:
        raise corrupt(path, str(error)) from error
    if topic.topic_id != topic_id:
        raise corrupt(path, f"it belongs to the topic with the id {topic.topic_id}")
    return topic


def _one_of_many(name: str) -> str:
    """The same for names that metrics cannot tell apart: there a '.' becomes a '_'."""
    return name.replace(".", "_")


def _check_partitions(partitions: int) -> None:
    if not 1 <= partitions <= PARTITIONS_MAX:
        raise InvalidPartitions(
            f"a topic cannot have {partitions} partitions", remedy=f"Give it 1 to {PARTITIONS_MAX} partitions."
        )
