"""Whenever the power goes: what was acknowledged is there after the next start, and nothing that was not."""

import random
from collections.abc import Callable
from contextlib import suppress

import pytest

from logstore import snapshot_writer
from logstore.batch import Record, encode_batch
from logstore.config import TopicConfig
from tests.logstore.disk import PowerCut, SimulatedDisk
from tests.logstore.store import AFTERWARDS, SMALL, Driver, Model, Opened, values_of

Script = Callable[[Driver, SimulatedDisk], None]


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
        disk.cut_power_after(step)
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
            disk.cut_power_after(rng.randrange(60))
            with suppress(PowerCut):
                model.check(Opened(disk).store)
        disk.before_step = None
        model.check(Opened(disk.crash(rng)).store)


def test_index_rows_of_what_a_crash_took_are_not_taken_for_those_of_what_came_after(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Late work stores the rows there are, also those of batches that came after the round and are not synced."""
    monkeypatch.setattr(snapshot_writer, "SNAPSHOT_INTERVAL_BYTES", 100)
    every_batch = TopicConfig.from_strings({"index.interval.bytes": "0", "retention.ms": "-1"})
    met = 0
    for seed in range(60):
        disk = SimulatedDisk()
        opened = Opened(disk)
        opened.store.create_topic("t", 1, every_batch)
        append_at(opened, 10)
        synchronizer = opened.store.synchronizer
        work = synchronizer.collect(everything=True)
        assert work is not None
        synchronizer.perform(work)
        append_at(opened, 10)
        append_at(opened, 10)
        opened.clock.now_ms += 2000
        synchronizer.publish(work)
        synchronizer._do_late_work()
        opened.run_posted()

        again = Opened(disk.crash(random.Random(seed)))
        if again.store.log("t", 0).log_end_offset != 1:
            continue
        met += 1
        append_at(again, 100)
        append_at(again, 10)
        again.settle()
        found = again.store.log("t", 0).offset_for_timestamp(50)
        assert found is not None, f"seed {seed}"
        assert found.offset == 1
    assert met > 5


def append_at(opened: Opened, timestamp_ms: int) -> None:
    batch = encode_batch([Record(0, timestamp_ms, None, b"x" * 200)])
    opened.store.log("t", 0).append(batch, opened.clock.wall_ms())
