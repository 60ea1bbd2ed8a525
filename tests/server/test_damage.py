"""Damage in a log is told to who reads it, and once to the operator."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from logserver.damage import TOLD_MAX, DamageMet, tell_recovery
from logstore.batch import iter_headers
from logstore.config import TopicConfig
from logstore.errors import DataLoss
from logstore.linux_disk import LinuxMap
from tests.logstore.disk import SimulatedDisk
from tests.logstore.store import Opened
from tests.server.conftest import running
from tests.server.wire import Client, batch, code

SEGMENT_BYTES = 1024


async def test_damage_is_logged_once_and_answered_with_what_it_has_taken(tmp_path: Path) -> None:
    async with running(tmp_path) as server:
        client = Client(server.grpc_address)
        await client.create("t")
        await client.produce("t", batch(b"0", b"1"), batch(b"2", b"3"), batch(b"4", b"5"))
        directory = server.broker.store.log("t", 0).directory
        await client.channel.close()
    (path,) = directory.glob("*.log")
    data = bytearray(path.read_bytes())
    position, header = list(iter_headers(data))[1]
    data[position + header.size - 1] ^= 1
    path.write_bytes(data)

    with capture_logs() as logged:
        async with running(tmp_path) as server:
            client = Client(server.grpc_address)
            for offset in (2, 3, 2):
                error = (await client.fetch("t", offset)).error
                assert (code(error), error.topic, error.partition) == ("DATA_LOSS", "t", 0)
            assert (await client.fetch("t", 4)).next_offset == 6
            await client.channel.close()
    (told,) = [event for event in logged if event["event"] == "damage was met"]
    assert (told["log_level"], told["topic"], told["partition"]) == ("error", "t", 0)
    assert "[2, 4)" in told["what"]
    assert told["remedy"]


async def test_a_block_that_cannot_be_read_is_an_error_to_its_readers_and_to_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path) as server:
        client = Client(server.grpc_address)
        await client.create("t", partitions=2, segment_bytes=str(SEGMENT_BYTES))
        for partition in range(2):
            for number in range(3):  # a segment each
                await client.produce("t", batch(b"%d" % number * SEGMENT_BYTES), partition=partition)
        unreadable, *others = sorted(server.broker.store.log("t", 0).directory.glob("*.log"))
        assert len(others) == 2
        make_unreadable(unreadable, monkeypatch)
        with capture_logs() as logged:
            for _ in range(2):
                assert code((await client.fetch("t", 0)).error) == "DATA_LOSS"
            assert (await client.fetch("t", 1)).next_offset > 1
            assert (await client.fetch("t", 0, partition=1)).next_offset > 0
            (ack,) = await client.produce("t", batch(b"more"))
            assert (code(ack.error), ack.base_offset) == ("", 3)
        await client.channel.close()
    (told,) = [event for event in logged if event["log_level"] == "error"]
    assert (told["event"], told["topic"], told["partition"]) == ("damage was met", "t", 0)
    assert f"{unreadable} at position 0 cannot be read: Input/output error" in told["what"]


def make_unreadable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a disk does that has lost a block of the file, which is not in memory."""
    lost = path.stat().st_ino

    def failing(read: Callable[..., Any]) -> Callable[..., Any]:
        def read_or_fail(descriptor: int, *arguments: Any) -> Any:
            if os.fstat(descriptor).st_ino == lost:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            return read(descriptor, *arguments)

        return read_or_fail

    monkeypatch.setattr(os, "pread", failing(os.pread))
    monkeypatch.setattr(os, "preadv", failing(os.preadv))
    monkeypatch.setattr(LinuxMap, "is_resident", lambda *_: False)


def test_a_hole_found_at_start_is_logged_as_an_error_with_its_offsets_and_what_to_do() -> None:
    disk = SimulatedDisk()
    opened = Opened(disk)
    opened.store.create_topic("t", 1, TopicConfig())
    for number in range(3):
        opened.append("t", 0, b"%d" % number)
        opened.settle()
    disk = disk.kill()
    (path,) = (path for path in disk.files() if path.suffix == ".log")
    position, header = list(iter_headers(disk.files()[path]))[1]
    disk.flip_bit(path, position + header.size - 1)

    (findings,) = Opened(disk).store.recovery_report
    with capture_logs() as logged:
        tell_recovery(findings)
    (told,) = logged
    assert (told["log_level"], told["topic"], told["partition"]) == ("error", "t", 0)
    assert (told["offset"], told["next_offset"]) == (1, 2)
    assert "CRC" in told["why"]
    assert "logctl segments repair" in told["remedy"]


def test_damage_elsewhere_is_told_too_and_only_so_much_is_remembered() -> None:
    opened = Opened(SimulatedDisk())
    opened.store.create_topic("t", 2, TopicConfig())
    logs = [opened.store.log("t", partition) for partition in range(2)]
    met = DamageMet()

    def tell(partition: int, offset: int) -> bool:
        with capture_logs() as logged:
            met.note(logs[partition], DataLoss("gone", remedy="Weep.", offset=offset, next_offset=offset + 1))
        return bool(logged)

    assert [tell(0, 5), tell(1, 5), tell(0, 6), tell(0, 5)] == [True, True, True, False]
    assert all(tell(0, offset) for offset in range(10, 10 + TOLD_MAX))
    assert tell(1, 5)


async def test_a_topic_whose_directory_was_moved_away_is_missed_aloud(tmp_path: Path) -> None:
    async with running(tmp_path / "data") as server:
        client = Client(server.grpc_address)
        topic_id = await client.create("t")
        await client.produce("t", batch(b"x"))
        await client.channel.close()
    (tmp_path / "data" / "topics" / topic_id.hex).rename(tmp_path / "aside")
    with capture_logs() as logged:
        async with running(tmp_path / "data"):
            pass
    (told,) = [event for event in logged if event.get("topic_id") == str(topic_id)]
    assert told["log_level"] == "warning"
    assert topic_id.hex in told["remedy"]
