"""A log that another thread reads before the owner thread takes it over."""

import threading

import pytest

from logstore.config import TopicConfig
from logstore.errors import StorageFailed, UnknownTopicOrPartition
from tests.logstore.disk import SimulatedDisk
from tests.logstore.store import SMALL, Opened, values_of


def reopened() -> Opened:
    """A store after a clean stop, whose logs nobody has asked for."""
    disk = SimulatedDisk()
    opened = Opened(disk)
    opened.store.create_topic("t", 2, SMALL)
    opened.append("t", 0, b"0", b"1")
    opened.settle()
    opened.close()
    return Opened(disk.kill())


def test_a_log_that_a_thread_has_read_is_taken_over_without_touching_the_disk() -> None:
    opened = reopened()
    opening = opened.store.opening("t", 0)
    assert opening is not None
    assert opened.store.opening("t", 0) is opening, "all who ask share one"
    reading = threading.Thread(target=opening.run)
    reading.start()
    reading.join()
    steps: list[str] = []
    assert isinstance(opened.disk, SimulatedDisk)
    opened.disk.before_step = lambda operation, path: steps.append(operation)
    log = opened.store.log("t", 0)
    assert steps == []
    assert opened.store.opening("t", 0) is None
    assert values_of(log) == [b"0", b"1"]
    assert opened.append("t", 0, b"2") == 2


def test_what_was_set_meanwhile_holds_for_the_log() -> None:
    opened = reopened()
    opening = opened.store.opening("t", 0)
    assert opening is not None
    opening.run()
    opened.store.alter_config("t", TopicConfig())
    assert opened.store.log("t", 0).config == TopicConfig()


def test_what_fails_is_raised_by_who_takes_it_over_and_tried_anew_by_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = reopened()

    def fail(*where: object, **known: object) -> None:
        raise StorageFailed("the disk is gone", remedy="None in a test.")

    with monkeypatch.context() as patched:
        patched.setattr("logstore.recovery.read_snapshot", fail)
        opening = opened.store.opening("t", 0)
        assert opening is not None
        opening.run()
        with pytest.raises(StorageFailed):
            opened.store.log("t", 0)
    opened.run_posted()
    assert len(opened.failures) == 1
    assert values_of(opened.store.log("t", 0)) == [b"0", b"1"]


def test_a_log_of_a_deleted_topic_is_not_read_any_more() -> None:
    opened = reopened()
    opening = opened.store.opening("t", 0)
    assert opening is not None
    opened.store.delete_topic("t")
    opening.run()
    with pytest.raises(UnknownTopicOrPartition):
        opening.result()
    for _ in range(5):
        opened.settle()
    assert opened.failures == []
    opened.store.create_topic("t", 1, SMALL)
    assert values_of(opened.store.log("t", 0)) == []


def test_a_partition_that_is_not_there_has_no_opening() -> None:
    with pytest.raises(UnknownTopicOrPartition):
        reopened().store.opening("t", 2)
