"""What a store does not understand it refuses, with the facts, and leaves alone to the last byte."""

import os
from pathlib import Path
from uuid import UUID

import pytest

from logstore.documents import write_document
from logstore.errors import (
    DataDirectoryLocked,
    DataDirectoryUnusable,
    FormatTooNew,
    LogStoreError,
    MetadataCorrupt,
    StorageFailed,
)
from logstore.linux_disk import LinuxDisk
from tests.logstore.disk import SimulatedDisk
from tests.logstore.store import DATA, SMALL, Opened, values_of


def refused(disk: SimulatedDisk, error: type[LogStoreError], match: str) -> None:
    """The store does not open, and says why; not a byte has changed, and the lock is free."""
    before = disk.files()
    with pytest.raises(error, match=match) as caught:
        Opened(disk)
    assert caught.value.remedy
    after = disk.files()
    after.pop(DATA / "lock", None)
    before.pop(DATA / "lock", None)
    assert after == before
    with pytest.raises(error, match=match):
        Opened(disk)


def stopped(disk: SimulatedDisk, *, partitions: int = 2) -> Path:
    """A store with records, stopped cleanly. Returns its topic's directory."""
    opened = Opened(disk)
    topic = opened.store.create_topic("flights", partitions, SMALL)
    opened.append("flights", 0, b"a")
    opened.close()
    return DATA / "topics" / topic.topic_id.hex


def test_the_directory_of_someone_else_is_refused_and_gets_no_lock_file(disk: SimulatedDisk) -> None:
    disk.make_dir(DATA)
    disk.overwrite(DATA / "thesis.doc", b"years of work")

    refused(disk, DataDirectoryUnusable, "is not a data directory: it has no 'meta', and holds 'thesis.doc'")

    assert list(disk.files()) == [DATA / "thesis.doc"]


def test_a_directory_made_for_us_where_we_may_not_read_is_taken(disk: SimulatedDisk) -> None:
    disk.make_dir(DATA)
    cause: OSError = PermissionError("not yours")

    def failing(operation: str, path: Path) -> None:
        if (operation, path) == ("sync_dir", DATA.parent):
            raise StorageFailed(f"syncing {path} failed", remedy="None in a test.") from cause

    disk.before_step = failing
    Opened(disk).close()

    disk = SimulatedDisk()
    disk.make_dir(DATA)
    disk.before_step = failing
    cause = OSError("bad block")
    with pytest.raises(StorageFailed):
        Opened(disk)


def test_an_empty_filesystem_becomes_a_data_directory(disk: SimulatedDisk) -> None:
    disk.make_dir(DATA / "lost+found")
    assert Opened(disk).store.topics() == []


def test_a_second_server_is_refused_and_the_first_unharmed(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL)

    with pytest.raises(DataDirectoryLocked):
        Opened(disk)

    opened.append("flights", 0, b"x")
    opened.settle()
    assert values_of(opened.store.log("flights", 0)) == [b"x"]
    opened.close()
    Opened(disk)


def test_topics_without_meta_are_refused(disk: SimulatedDisk) -> None:
    stopped(disk)
    disk.remove(DATA / "meta")
    refused(disk, DataDirectoryUnusable, "has topics, and its 'meta' is missing")


def test_a_missing_checkpoint_is_refused(disk: SimulatedDisk) -> None:
    stopped(disk)
    disk.remove(DATA / "checkpoint")
    refused(disk, MetadataCorrupt, "checkpoint cannot be believed: it is not there")


def test_missing_topics_are_not_none(disk: SimulatedDisk) -> None:
    stopped(disk)
    disk.remove_tree(DATA / "topics")
    refused(disk, MetadataCorrupt, "topics cannot be believed: it is not there")


def test_a_checkpoint_of_zeros_is_refused(disk: SimulatedDisk) -> None:
    stopped(disk)
    disk.overwrite(DATA / "checkpoint", bytes(8192))
    refused(disk, MetadataCorrupt, "neither of its two slots is whole")


@pytest.mark.parametrize("name", ["meta", "topic"])
def test_half_a_document_is_refused(disk: SimulatedDisk, name: str) -> None:
    path = {"meta": DATA, "topic": stopped(disk)}[name] / name
    disk.overwrite(path, disk.files()[path][:40])
    refused(disk, MetadataCorrupt, f"{name} cannot be believed")


@pytest.mark.parametrize("name", ["meta", "topic"])
def test_a_newer_format_is_refused_as_such(disk: SimulatedDisk, name: str) -> None:
    path = {"meta": DATA, "topic": stopped(disk)}[name] / name
    write_document(disk, path, kind=name, version=2, content={})
    refused(disk, FormatTooNew, "has format version 2, and this program knows 1")


def test_records_without_the_document_of_their_topic_are_refused(disk: SimulatedDisk) -> None:
    disk.remove(stopped(disk) / "topic")
    refused(disk, MetadataCorrupt, "there are records, and the document of their topic is missing")


def test_a_partition_whose_directory_is_missing_is_refused(disk: SimulatedDisk) -> None:
    disk.remove_tree(stopped(disk) / "1")
    refused(disk, MetadataCorrupt, "1 cannot be believed: the directory of that partition of 'flights' is missing")


def test_records_of_a_partition_that_the_topic_has_not_are_refused(disk: SimulatedDisk) -> None:
    directory = stopped(disk, partitions=2)
    disk.make_dir(directory / "7")
    assert Opened(disk.kill()).store.topic("flights").partitions == 2  # an addition that was cut short
    disk.overwrite(directory / "7" / "00000000000000000000.log", b"records")
    refused(disk, MetadataCorrupt, "there are records, and topic 'flights' has 2 partitions")


def test_a_copied_topic_directory_is_refused(disk: SimulatedDisk) -> None:
    directory = stopped(disk)
    copy = directory.with_name("0" * 32)
    disk.make_dir(copy)
    disk.overwrite(copy / "topic", disk.files()[directory / "topic"])
    for partition in ("0", "1"):
        disk.make_dir(copy / partition)
    refused(disk, MetadataCorrupt, "it belongs to the topic with the id")


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"name": "a/b", "partitions": 1},
        {"name": "b", "partitions": 0},
        {"name": "b", "partitions": "many"},
        {"name": "b", "config": {"segment.bytes": "-5"}},
        {"name": "b", "config": {"no.such.setting": "1"}},
        {"name": 7},
        {"topic_id": "seven"},
    ],
)
def test_a_topic_document_that_makes_no_sense_is_refused(disk: SimulatedDisk, content: dict[str, object]) -> None:
    directory = stopped(disk)
    sense = {"name": "flights", "topic_id": directory.name, "partitions": 2, "config": {}, "internal": False}
    write_document(disk, directory / "topic", kind="topic", version=1, content={**sense, **content} if content else {})
    refused(disk, MetadataCorrupt, "topic cannot be believed")


def test_two_topics_of_one_name_are_refused(disk: SimulatedDisk) -> None:
    directory = stopped(disk)
    other = directory.with_name("0" * 32)
    disk.make_dir(other / "0")
    content = {"name": "flights", "topic_id": "0" * 32, "partitions": 1, "config": {}, "internal": False}
    write_document(disk, other / "topic", kind="topic", version=1, content=content)
    refused(disk, MetadataCorrupt, "it is named 'flights', and another topic is named 'flights'")


def test_a_path_that_is_no_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataDirectoryUnusable):
            Opened(LinuxDisk(), directory=directory)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_that_may_not_be_written_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataDirectoryUnusable):
        Opened(LinuxDisk(), directory=tmp_path)


def test_a_damaged_topic_document_says_whose_it_is_and_what_to_do_next(disk: SimulatedDisk) -> None:
    directory = stopped(disk)
    disk.flip_bit(directory / "topic", len(disk.files()[directory / "topic"]) - 5)
    with pytest.raises(MetadataCorrupt, match=directory.name) as caught:
        Opened(disk)
    assert str(UUID(hex=directory.name)) in str(caught.value)
    assert "names it 'flights'" in str(caught.value)
    restore, move = caught.value.remedy.split(". If there is none, ")
    assert restore.startswith("Restore this one file")
    assert str(directory) in move
    disk.overwrite(directory / "topic", b"\0" * 150)
    refused(disk, MetadataCorrupt, "its name cannot be read")


@pytest.mark.parametrize("is_clean", [True, False])
def test_a_topic_moved_aside_is_the_only_one_lost_and_is_whole_when_moved_back(tmp_path: Path, is_clean: bool) -> None:
    data = tmp_path / "data"
    opened = Opened(LinuxDisk(), directory=data)
    lost = opened.store.create_topic("lost", 1, SMALL)
    opened.store.create_topic("kept", 1, SMALL)
    for value in (b"a" * 600, b"b" * 600, b"c" * 600):
        opened.append("lost", 0, value)
        opened.append("kept", 0, value)
        opened.settle()
    if is_clean:
        opened.close()
    else:
        opened.store._let_go()  # as a kill does
    directory = data / "topics" / lost.topic_id.hex
    document = (directory / "topic").read_bytes()
    (directory / "topic").write_bytes(document[:-3] + b"!" + document[-2:])
    with pytest.raises(MetadataCorrupt):
        Opened(LinuxDisk(), directory=data)

    directory.rename(tmp_path / "aside")
    opened = Opened(LinuxDisk(), directory=data)
    assert [topic.name for topic in opened.store.topics()] == ["kept"]
    assert opened.store.vanished_topics == [lost.topic_id]
    assert len(values_of(opened.store.log("kept", 0))) == 3
    opened.close()

    (tmp_path / "aside" / "topic").write_bytes(document)
    (tmp_path / "aside").rename(directory)
    opened = Opened(LinuxDisk(), directory=data)
    assert opened.store.vanished_topics == []
    assert len(values_of(opened.store.log("lost", 0))) == 3
    assert opened.append("lost", 0, b"d") == 3
    opened.close()
