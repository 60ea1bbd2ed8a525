"""Many partitions: they start at once, and share the files that may be open."""

import os
import time
from pathlib import Path

import pytest

from logstore.config import StoreConfig, TopicConfig
from logstore.linux_disk import LinuxDisk
from tests.logstore.disk import SimulatedDisk
from tests.logstore.store import BOUNDS, SMALL, Opened, values_of


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
