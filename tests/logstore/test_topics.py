"""Topics: made, changed and deleted at once and for good, and refused with the facts where they cannot be."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from logstore.checkpoint import Checkpoint
from logstore.config import PARTITIONS_MAX, TopicConfig
from logstore.errors import (
    InvalidPartitions,
    InvalidTopicName,
    StorageFull,
    TopicAlreadyExists,
    UnknownTopicId,
    UnknownTopicOrPartition,
)
from logstore.sync import LATE_WORK_MS
from tests.logstore.disk import SimulatedDisk
from tests.logstore.store import DATA, SMALL, Opened, values_of


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
    assert removals == [
        ("remove_tree", "0"),
        ("remove", "00000000000000000000.log"),
        ("remove_tree", "1"),
        ("remove_tree", topic.topic_id.hex),
    ]
    assert steps.index(("sync_dir", topic.topic_id.hex), 2) < steps.index(("remove_tree", topic.topic_id.hex))


def test_nobody_waits_for_more_than_one_file_of_a_topic_that_is_removed(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    opened.store.create_topic("delays", 1, TopicConfig())
    topic = opened.store.create_topic("flights", 4, SMALL)
    for n in range(20):
        opened.append("flights", n % 4, b"%d" % n * 300)
        opened.settle()
    delays = opened.store.log("delays", 0)
    steps: list[str] = []

    def somebody_appends_and_waits() -> None:
        opened.append("delays", 0, b"x")
        delays.request_sync()
        opened.run_posted()

    def slow_removals(operation: str, path: Path) -> None:
        steps.append(operation)
        if operation.startswith("remove"):
            opened.clock.now_ms += LATE_WORK_MS
            somebody_appends_and_waits()

    disk.before_step = slow_removals
    opened.store.delete_topic("flights")
    somebody_appends_and_waits()
    rounds_count = 0
    while disk.exists(DATA / "topics" / topic.topic_id.hex):
        waited_for = delays.log_end_offset
        steps.clear()
        opened.store.synchronizer.run_round()
        opened.run_posted()
        assert delays.high_watermark == waited_for
        assert steps[0] == "sync"
        assert sum(step.startswith("remove") for step in steps) <= 1
        rounds_count += 1
    assert rounds_count > 20
    assert opened.failures == []


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

    assert {path.relative_to(DATA).parts[0] for path in disk.files()} == {"lock", "meta", "checkpoint", "spare"}


def test_a_topic_that_went_while_its_checkpoint_was_due_has_no_row_in_the_next_one(disk: SimulatedDisk) -> None:
    opened = Opened(disk)
    topic = opened.store.create_topic("flights", 1, SMALL)
    opened.store.create_topic("delays", 1, SMALL)
    opened.append("flights", 0, b"x")
    opened.settle()
    opened.append("flights", 0, b"y")
    opened.store.log("flights", 0).request_sync()
    opened.store.synchronizer.run_round()  # synced, and its checkpoint a second from now

    opened.store.delete_topic("flights")
    for _ in range(2):
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
    with pytest.raises(InvalidTopicName, match=r"differs from it in '\.' and '_' alone"):
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
