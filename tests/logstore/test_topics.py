"""The store: what was acknowledged is there after any crash, and what is not understood is refused and left alone."""

import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from logstore.batch import Record, encode_batch
from logstore.checkpoint import Checkpoint
from logstore.config import PARTITIONS_MAX, StoreConfig, TopicConfig
from logstore.disk import LinuxDisk
from logstore.documents import write_document
from logstore.errors import (
    DataDirectoryLocked,
    DataDirectoryUnusable,
    FormatTooNew,
    InvalidPartitions,
    InvalidTopicName,
    LogStoreError,
    MetadataCorrupt,
    StorageFailed,
    StorageFull,
    TopicAlreadyExists,
    UnknownTopicId,
    UnknownTopicOrPartition,
)
from logstore.recovery import open_log
from tests.logstore.disk import PowerCut, SimulatedDisk
from tests.logstore.store import AFTERWARDS, BOUNDS, DATA, SMALL, Driver, Model, Opened, values_of

Script = Callable[[Driver, SimulatedDisk], None]


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk()


# Whenever the power goes.


def topics_come_and_go(driver: Driver, disk: SimulatedDisk) -> None:
    driver.create("flights", 2)
    driver.append("flights", 0, b"a", b"b")
    driver.append("flights", 1, b"c")
    driver.settle()
    driver.create("delays", 1)
    driver.append("delays", 0, b"d")
    driver.settle()
    driver.delete("delays")
    driver.settle()
    driver.create("delays", 1)
    driver.append("delays", 0, b"e")
    driver.append("flights", 1, b"f")
    driver.settle()


def topics_are_altered(driver: Driver, disk: SimulatedDisk) -> None:
    driver.create("flights", 1)
    driver.append("flights", 0, b"a")
    driver.settle()
    driver.alter("flights", config=SMALL.with_changes({"flush.ms": "5"}))
    driver.alter("flights", more_partitions=2)
    driver.append("flights", 2, b"b")
    driver.settle()
    driver.alter("flights", more_partitions=60)  # the checkpoint has to grow
    driver.append("flights", 62, b"c")
    driver.settle()


def clean_stops_and_starts(driver: Driver, disk: SimulatedDisk) -> None:
    driver.create("flights", 2)
    for n in range(3):
        driver.append("flights", n % 2, b"%d" % n)
        driver.close()
        driver.opened = Opened(disk, seed=n)
        driver.append("flights", 1, b"%d again" % n)
        driver.settle()


@pytest.mark.parametrize("script", [topics_come_and_go, topics_are_altered, clean_stops_and_starts])
def test_a_crash_between_any_two_steps_loses_nothing_acknowledged(script: Script) -> None:
    whole = SimulatedDisk()
    script(Driver(Model(), Opened(whole)), whole)
    for step in range(whole.steps_count + 1):
        rng = random.Random(step)
        disk = SimulatedDisk()
        model = Model()
        cut_at(disk, step)
        with suppress(PowerCut):
            script(Driver(model, Opened(disk)), disk)
        for survivor in (disk.kill(), disk.crash(rng)):
            driver = Driver(model, Opened(survivor))
            model.check(driver.opened.store)
            # What can be seen now is there to stay, even if its creation was never acknowledged.
            names = [topic.name for topic in driver.opened.store.topics()]
            for name in names:
                driver.opened.append(name, 0, AFTERWARDS)
            driver.opened.settle()
            again = Opened(survivor.crash(rng))
            assert [values_of(again.store.log(name, 0))[-1:] for name in names] == [[AFTERWARDS]] * len(names)
            # And it is a store like any other.
            driver.opened.store.create_topic("afterwards", 1, SMALL)
            driver.opened.append("afterwards", 0, b"x")
            driver.opened.close()
            again = Opened(survivor.crash(rng))
            assert values_of(again.store.log("afterwards", 0)) == [b"x"]
            model.check(again.store, also={"afterwards"})


def cut_at(disk: SimulatedDisk, step: int) -> None:
    def before_step(operation: str, path: Path) -> None:
        if disk.steps_count > step:
            raise PowerCut

    disk.before_step = before_step


def test_crashes_in_a_row_during_start_and_recovery_end_well() -> None:
    for seed in range(40):
        rng = random.Random(seed)
        disk = SimulatedDisk()
        model = Model()
        driver = Driver(model, Opened(disk))
        driver.create("flights", 3)
        for n in range(12):
            driver.append("flights", n % 3, b"%d" % n * 40)
        driver.settle()
        driver.append("flights", 0, b"not synced")
        for _ in range(6):
            disk = disk.crash(rng)
            cut_at(disk, disk.steps_count + rng.randrange(60))
            with suppress(PowerCut):
                model.check(Opened(disk).store)
        disk.before_step = None
        model.check(Opened(disk.crash(rng)).store)


# Topics.


def test_a_topic_made_again_is_another_topic(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    first = opened.store.create_topic("flights", 1, SMALL)
    opened.append("flights", 0, b"old")
    opened.settle()
    old_log = opened.store.log("flights", 0)
    reader = old_log.open_read(0, 100)
    assert reader.read().next_offset == 1

    opened.store.delete_topic("flights")
    second = opened.store.create_topic("flights", 1, SMALL)

    assert second.topic_id != first.topic_id
    assert opened.store.log("flights", 0).log_end_offset == 0
    with pytest.raises(UnknownTopicId, match=str(first.topic_id)):
        opened.store.topic_by_id(first.topic_id)
    with pytest.raises(UnknownTopicOrPartition, match="was deleted"):
        old_log.append(b"", 0)
    opened.settle()
    assert not any(first.topic_id.hex in str(path) for path in disk.files())
    assert reader.read().batches  # whoever was reading reads on
    reader.close()


def test_a_removal_is_on_disk_before_the_first_file_goes(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    topic = opened.store.create_topic("flights", 2, SMALL)
    opened.append("flights", 1, b"x")
    opened.settle()
    steps: list[tuple[str, str]] = []
    disk.before_step = lambda operation, path: steps.append((operation, path.name))

    opened.store.delete_topic("flights")
    assert steps == [("rename", "topic.deleted"), ("sync_dir", topic.topic_id.hex)]
    opened.settle()

    removals = [step for step in steps if step[0].startswith("remove")]
    assert removals == [("remove_tree", "0"), ("remove_tree", "1"), ("remove_tree", topic.topic_id.hex)]
    assert steps.index(("sync_dir", topic.topic_id.hex), 2) < steps.index(("remove_tree", topic.topic_id.hex))


def test_a_topic_may_be_deleted_while_a_round_syncs_it(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    topic = opened.store.create_topic("flights", 1, SMALL)
    opened.store.create_topic("delays", 1, SMALL)
    for n in range(20):
        opened.append("flights", 0, b"%d" % n * 50)
    opened.append("delays", 0, b"kept")
    synchronizer = opened.store.synchronizer
    work = synchronizer.collect(everything=True)
    assert work is not None

    opened.store.delete_topic("flights")
    synchronizer.perform(work)
    synchronizer.publish(work)
    opened.settle()

    assert opened.failures == []
    assert opened.store.dirty_bytes == 0
    assert values_of(opened.store.log("delays", 0)) == [b"kept"]
    opened.close()
    assert [topic.name for topic in Opened(disk.kill()).store.topics()] == ["delays"]
    assert Checkpoint.load(DATA / "checkpoint", disk).get(topic.topic_id, 0) is None


def test_a_deletion_that_a_crash_cut_short_is_finished_after_the_next_start(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 2, SMALL)
    opened.append("flights", 0, b"x")
    opened.settle()
    opened.store.delete_topic("flights")

    again = Opened(disk.kill())
    assert again.store.topics() == []
    again.settle()

    assert {path.relative_to(DATA).parts[0] for path in disk.files()} == {"lock", "meta", "checkpoint"}


def test_a_checkpoint_that_was_due_when_a_topic_went_has_no_row_of_it(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    topic = opened.store.create_topic("flights", 1, SMALL)
    opened.store.create_topic("delays", 1, SMALL)
    opened.append("flights", 0, b"x")
    opened.settle()
    opened.append("flights", 0, b"y")
    opened.store.log("flights", 0).request_sync()
    opened.store.synchronizer.run_round()  # synced, and its checkpoint a second from now

    opened.store.delete_topic("flights")
    opened.append("delays", 0, b"z")
    opened.settle()

    assert Checkpoint.load(DATA / "checkpoint", disk).get(topic.topic_id, 0) is None


def test_topics_that_come_and_go_leave_nothing_in_the_checkpoint(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    sizes = []
    for _ in range(4):
        opened.store.create_topic("flights", 50, SMALL)
        for partition in range(50):
            opened.append("flights", partition, b"x")
        opened.settle()
        opened.store.delete_topic("flights")
        opened.settle()
        sizes.append(len(disk.files()[DATA / "checkpoint"]))
    assert len(set(sizes)) == 1


def test_a_changed_config_holds_at_once_and_after_a_restart(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL)
    log = opened.store.log("flights", 0)
    config = TopicConfig.from_strings({"max.message.bytes": "2000", "durability": "relaxed"})

    opened.store.alter_config("flights", config)

    assert log.config == config
    assert Opened(disk.crash(random.Random(0))).store.log("flights", 0).config == config


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "ключ", "a b", "x" * 250, "../../etc/passwd", "a\n"])
def test_a_name_that_breaks_the_rules_makes_no_topic(disk: SimulatedDisk, name: str) -> None:
    opened = Opened(disk)
    before = disk.files()
    with pytest.raises(InvalidTopicName):
        opened.store.create_topic(name, 1, SMALL)
    assert disk.files() == before


def test_names_that_metrics_cannot_tell_apart_are_refused(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("us.flights_x", 1, SMALL)
    opened.store.create_topic("US.flights_x", 1, SMALL)  # directories are named by id, so case is no matter

    with pytest.raises(TopicAlreadyExists, match=r"topic 'us.flights_x' exists$"):
        opened.store.create_topic("us.flights_x", 1, SMALL)
    with pytest.raises(TopicAlreadyExists, match=r"differs from it in '\.' and '_' alone"):
        opened.store.create_topic("us_flights.x", 1, SMALL)

    opened.store.delete_topic("us.flights_x")
    opened.store.create_topic("us_flights.x", 1, SMALL)


@pytest.mark.parametrize("partitions", [0, -1, PARTITIONS_MAX + 1])
def test_a_number_of_partitions_that_cannot_be_is_refused(disk: SimulatedDisk, partitions: int) -> None:
    opened = Opened(disk)
    with pytest.raises(InvalidPartitions):
        opened.store.create_topic("flights", partitions, SMALL)
    opened.store.create_topic("flights", 1, SMALL)
    with pytest.raises(InvalidPartitions):
        opened.store.add_partitions("flights", partitions)
    assert opened.store.topic("flights").partitions == 1


def test_what_does_not_exist_is_named(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 2, SMALL)
    calls: list[Callable[[str], object]] = [
        opened.store.topic,
        opened.store.delete_topic,
        lambda name: opened.store.alter_config(name, SMALL),
        lambda name: opened.store.add_partitions(name, 1),
        lambda name: opened.store.log(name, 0),
    ]
    for call in calls:
        with pytest.raises(UnknownTopicOrPartition, match="there is no topic 'delays'"):
            call("delays")
    for partition in (-1, 2):
        with pytest.raises(UnknownTopicOrPartition, match=f"'flights' has no partition {partition}"):
            opened.store.log("flights", partition)


def test_a_full_disk_makes_no_topic_and_harms_none(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL)
    opened.append("flights", 0, b"a")
    opened.settle()
    disk.capacity_bytes = 0

    calls: list[Callable[[], object]] = [
        lambda: opened.store.create_topic("delays", 1, SMALL),
        lambda: opened.store.add_partitions("flights", 1),
        lambda: opened.store.add_partitions("flights", 100),
        lambda: opened.store.alter_config("flights", TopicConfig()),
    ]
    for call in calls:
        with pytest.raises(StorageFull):
            call()

    disk.capacity_bytes = None
    assert opened.failures == []
    assert [(topic.name, topic.partitions, topic.config) for topic in opened.store.topics()] == [("flights", 1, SMALL)]
    opened.store.create_topic("delays", 1, SMALL)
    opened.close()
    assert [topic.name for topic in Opened(disk.kill()).store.topics()] == ["delays", "flights"]


# Starting and stopping.


def test_after_a_clean_stop_no_log_is_opened_before_it_is_asked_for(
    disk: SimulatedDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 3, SMALL)
    for partition in range(3):
        opened.append("flights", partition, b"x")
    opened.close()
    calls: list[int] = []

    def counting(*args: Any, partition: int, **kwargs: Any) -> Any:
        calls.append(partition)
        return open_log(*args, partition=partition, **kwargs)

    monkeypatch.setattr("logstore.topics.open_log", counting)

    again = Opened(disk.kill())
    assert calls == []
    assert values_of(again.store.log("flights", 1)) == [b"x"]
    again.store.log("flights", 1)
    assert calls == [1]
    assert again.store.recovery_report == []

    Opened(disk.kill())  # the one before was not closed
    assert sorted(calls[1:]) == [0, 1, 2]


def test_once_started_no_slot_of_the_checkpoint_says_clean(disk: SimulatedDisk) -> None:
    Opened(disk).close()
    Opened(disk)
    data = disk.files()[DATA / "checkpoint"]
    middle = len(data) // 2

    for damaged in (bytes(middle) + data[middle:], data[:middle] + bytes(middle)):
        disk.overwrite(DATA / "checkpoint", damaged)
        assert not Checkpoint.load(DATA / "checkpoint", disk).is_clean


def test_the_leader_epoch_rises_at_unclean_starts_only_and_stamps_what_follows(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL)
    opened.append("flights", 0, b"0")
    opened.close()
    opened = Opened(disk.kill())
    assert opened.store.leader_epoch == 0
    opened.append("flights", 0, b"1")
    opened.settle()

    again = Opened(disk.kill())
    assert again.store.leader_epoch == 1
    again.append("flights", 0, b"2")
    assert again.store.log("flights", 0).epoch_end_offset(0) == (0, 2)
    assert again.store.log("flights", 0).epoch_end_offset(1) == (1, 3)


def test_a_stop_after_a_failed_sync_says_so_and_is_not_clean(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL)
    opened.append("flights", 0, b"x")

    def failing(operation: str, path: Path) -> None:
        if operation in ("sync", "sync_filesystem"):
            raise StorageFailed(f"syncing {path} failed", remedy="None in a test.")

    disk.before_step = failing
    opened.settle()
    assert len(opened.failures) == 1
    assert opened.store.log("flights", 0).high_watermark == 0
    disk.before_step = None

    with pytest.raises(StorageFailed, match="closed cleanly"):
        opened.close()
    again = Opened(disk)  # the lock was let go of
    assert again.store.leader_epoch == 1


@pytest.mark.parametrize("operation", ["sync", "sync_dir"])
def test_a_failed_sync_of_metadata_is_final_too(disk: SimulatedDisk, operation: str) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL)

    def failing(step: str, path: Path) -> None:
        if step == operation:
            raise StorageFailed(f"syncing {path} failed", remedy="None in a test.")

    disk.before_step = failing
    with pytest.raises(StorageFailed):
        opened.store.create_topic("delays", 1, SMALL)
    opened.run_posted()

    assert len(opened.failures) == 1
    with pytest.raises(StorageFailed):
        opened.append("flights", 0, b"x")


def test_producer_ids_go_on_after_a_crash_and_never_repeat(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    handed_out = [opened.store.next_producer_id() for _ in range(4)]
    for seed in range(5):
        disk = disk.crash(random.Random(seed))
        opened = Opened(disk)
        handed_out += [opened.store.next_producer_id() for _ in range(4)]

    assert len(set(handed_out)) == len(handed_out)


def test_the_cluster_id_stays(disk: SimulatedDisk) -> None:
    first = Opened(disk, seed=1).store
    second = Opened(disk.crash(random.Random(0)), seed=2).store

    assert first.cluster_id == second.cluster_id
    assert second.node_id == 1


# Refused, and left alone.


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


# Retention.


def test_segments_go_when_they_are_too_old_and_the_log_start_is_on_disk_before(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL.with_changes({"retention.ms": "60000"}))
    for n in range(20):
        opened.append("flights", 0, b"%d" % n * 100)
        opened.settle()
    log = opened.store.log("flights", 0)
    segments_count = log.segments_count
    opened.clock.now_ms += 120_000
    for _ in range(12):
        opened.append("flights", 0, b"young" * 40)
    opened.settle()
    steps: list[str] = []
    disk.before_step = lambda operation, path: steps.append(f"{operation} {path.name}")

    deleted = opened.store.retain(opened.clock.wall_ms())

    assert deleted >= segments_count - 2 > 2
    assert steps == []  # nothing on the owner thread
    # Until those are removed, the log start stays where the checkpoint is about to say it is.
    log_start_offset = log.log_start_offset
    assert opened.store.retain(opened.clock.wall_ms() + 120_000) == 0
    assert log.log_start_offset == log_start_offset
    opened.settle()
    first_removal = next(n for n, step in enumerate(steps) if step.startswith("remove"))
    assert steps[:first_removal] == ["write checkpoint", "sync checkpoint"] * 2
    assert log.log_start_offset > 5
    assert not any("00000000000000000000.log" in str(path) for path in disk.files())
    assert opened.store.retain(opened.clock.wall_ms() + 120_000) > 0


def test_a_crash_during_retention_leaves_a_log_that_is_whole_from_its_start_on() -> None:
    def script(disk: SimulatedDisk) -> None:
        opened = Opened(disk)
        opened.store.create_topic("flights", 1, SMALL.with_changes({"retention.bytes": "2000"}))
        for n in range(12):
            opened.append("flights", 0, b"%d" % n * 200)
            opened.settle()
        opened.store.retain(opened.clock.wall_ms())
        opened.settle()
        opened.append("flights", 0, b"last")
        opened.settle()
        opened.close()

    whole = SimulatedDisk()
    script(whole)
    for step in range(whole.steps_count - 60, whole.steps_count + 1):
        disk = SimulatedDisk()
        cut_at(disk, step)
        with suppress(PowerCut):
            script(disk)
        for survivor in (disk.kill(), disk.crash(random.Random(step))):
            opened = Opened(survivor)
            log = opened.store.log("flights", 0)
            assert log.hole is None
            values = values_of(log)
            assert len(values) == log.high_watermark - log.log_start_offset
            expected = [b"%d" % n * 200 for n in range(12)] + [b"last"]
            assert values == expected[log.log_start_offset : log.high_watermark]
            opened.settle()
            below = [
                path for path in survivor.files() if path.suffix == ".log" and int(path.stem) < log.log_start_offset
            ]
            assert len(below) <= 1  # the segment that the start is in


def test_retention_reaches_logs_that_nobody_has_opened(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 50, SMALL.with_changes({"retention.bytes": "0"}))
    for n in range(4):
        for partition in range(50):
            opened.append("flights", partition, b"%d" % n * 400)
    opened.settle()
    opened.close()

    again = Opened(disk.kill())
    deleted = 0
    for _ in range(4):
        deleted += again.store.retain(again.clock.wall_ms())
        again.settle()

    assert deleted == 50
    assert all(again.store.log("flights", partition).segments_count == 1 for partition in range(50))


def test_silent_producers_are_forgotten_with_retention(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 1, SMALL)
    log = opened.store.log("flights", 0)
    now_ms = opened.clock.wall_ms()
    log.append(encode_batch([Record(0, now_ms, None, b"")], producer_id=1, producer_epoch=0, base_sequence=0), now_ms)
    opened.store.retain(now_ms + BOUNDS.producer_expiry_ms)
    assert log.expire_producers(now_ms + 1) == 1
    log.append(encode_batch([Record(0, now_ms, None, b"")], producer_id=2, producer_epoch=0, base_sequence=0), now_ms)
    opened.store.retain(now_ms + BOUNDS.producer_expiry_ms + 1)
    assert log.expire_producers(now_ms + 1) == 0


# Room.


def test_there_is_no_room_while_as_many_files_as_may_be_open_wait_for_their_sync(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("flights", 20, SMALL)
    made_room: list[bool] = []
    for partition in range(8):
        assert opened.store.has_room(100)
        opened.append("flights", partition, b"x")

    assert not opened.store.has_room(100)
    opened.store.on_room(lambda: made_room.append(opened.store.has_room(100)))
    opened.settle()

    assert made_room == [True]
    assert len(disk.open_files) <= BOUNDS.open_files_max + 1  # and the checkpoint


# On a real disk, and many.


def open_real(directory: Path) -> tuple[Opened, float]:
    started = time.perf_counter()
    opened = Opened(LinuxDisk(), directory=directory, config=StoreConfig())
    return opened, time.perf_counter() - started


def test_a_thousand_partitions_are_ready_at_once_after_a_clean_stop(tmp_path: Path) -> None:
    opened, _ = open_real(tmp_path / "data")
    for n in range(20):
        opened.store.create_topic(f"topic-{n}", 50, TopicConfig())
    for n in range(20):
        opened.append(f"topic-{n}", n, b"x")
    opened.close()

    again, seconds = open_real(tmp_path / "data")

    assert seconds < 10  # 4 ms on a quiet machine
    assert all(values_of(again.store.log(f"topic-{n}", n)) == [b"x"] for n in range(20))
    again.close()


@pytest.mark.slow
def test_ten_thousand_partitions_work_within_a_quarter_of_twenty_thousand_descriptors(tmp_path: Path) -> None:
    config = StoreConfig(open_files_max=3750, map_count_max=1250)
    most = 0
    opened = Opened(LinuxDisk(), directory=tmp_path / "data", config=config)
    for n in range(10):
        opened.store.create_topic(f"topic-{n}", 1000, TopicConfig())
    before = len(os.listdir("/proc/self/fd"))
    for n in range(10):
        for partition in range(1000):
            if not opened.store.has_room(100):
                opened.settle()
                assert opened.store.has_room(100)
            opened.append(f"topic-{n}", partition, b"x")
        most = max(most, len(os.listdir("/proc/self/fd")) - before)
    opened.settle()
    assert all(
        values_of(opened.store.log(f"topic-{n}", partition)) == [b"x"] for n in range(10) for partition in range(1000)
    )
    most = max(most, len(os.listdir("/proc/self/fd")) - before)
    assert 1000 < most < 5000
