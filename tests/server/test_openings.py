"""Logs that are opened after a clean stop: in a thread, so that one that has to be read keeps nobody else waiting."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from crc32c import crc32c
from structlog.testing import capture_logs

from logserver.server import Server
from logstore.errors import FormatTooNew
from logstore.files import SNAPSHOT, seal_path
from logstore.opening import Opening
from logwire.v1 import groups_pb2, records_pb2, topics_pb2
from tests.server.conftest import running
from tests.server.wire import Client, batch, code


class Held:
    """Openings that do not go on before they are let. None of them may be on the thread of the loop."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop_thread = threading.get_ident()
        self.let = threading.Event()
        self.begun = threading.Event()
        self.runs = 0
        self._run = Opening.run
        monkeypatch.setattr(Opening, "run", lambda of: self.run(of))

    def run(self, of: Opening) -> None:
        if of._outcome is None:
            self.runs += 1
            assert threading.get_ident() != self.loop_thread, "the loop waits for the disk"
            self.begun.set()
            assert self.let.wait(10)
        self._run(of)


@pytest.fixture
async def stopped(tmp_path: Path) -> Path:
    """A data directory with a sealed segment in topic "t", stopped cleanly: its log is opened by who first asks."""
    async with running(tmp_path / "data") as server:
        client = Client(server.grpc_address)
        await client.create("t", segment_bytes="1024", retention_ms="-1")
        for number in range(30):
            await client.produce("t", batch(b"%02d" % number * 50))
        offset = groups_pb2.CommittedOffset(topic="t", partition=0, offset=3)
        await client.groups.CommitOffsets(groups_pb2.CommitOffsetsRequest(group="g", member_epoch=-1, offsets=[offset]))
        await client.channel.close()
    return tmp_path / "data"


QUESTIONS: dict[str, Callable[[Client], Awaitable[object]]] = {
    "fetch": lambda client: client.fetch("t", 0),
    "produce": lambda client: client.produce("t", batch(b"more")),
    "describe": lambda client: client.topics.DescribeTopic(topics_pb2.DescribeTopicRequest(topic="t")),
    "list offsets": lambda client: client.fetching.ListOffsets(
        records_pb2.ListOffsetsRequest(
            queries=[records_pb2.ListOffsetsQuery(topic="t", partition=0, spec=records_pb2.OFFSET_SPEC_LATEST)]
        )
    ),
    "delete records": lambda client: client.topics.DeleteRecords(
        topics_pb2.DeleteRecordsRequest(
            topic="t", partitions=[topics_pb2.RecordsToDelete(partition=0, before_offset=1)]
        )
    ),
    "describe a group": lambda client: client.groups.DescribeGroup(groups_pb2.DescribeGroupRequest(group="g")),
}


async def ask_elsewhere(server: Server) -> None:
    """Somebody who has nothing to do with the log."""
    other = Client(server.grpc_address)
    await asyncio.wait_for(other.topics.ListTopics(topics_pb2.ListTopicsRequest()), 5)
    await other.channel.close()


@pytest.mark.parametrize("what", sorted(QUESTIONS))
async def test_a_log_that_takes_long_to_open_keeps_only_those_waiting_who_want_it(
    stopped: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    async with running(stopped) as server:
        held = Held(monkeypatch)
        client = Client(server.grpc_address)
        asking = [asyncio.ensure_future(QUESTIONS[what](client)) for _ in range(3)]
        await asyncio.to_thread(held.begun.wait, 10)
        await ask_elsewhere(server)
        assert not any(task.done() for task in asking)
        held.let.set()
        await asyncio.gather(*asking)
        assert held.runs == 1, "once is enough for all"
        await client.channel.close()


async def test_retention_opens_what_it_has_to_look_at_in_a_thread(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(stopped) as server:
        held = Held(monkeypatch)
        retaining = asyncio.create_task(server.broker.retain())
        await asyncio.to_thread(held.begun.wait, 10)
        await ask_elsewhere(server)
        held.let.set()
        await retaining
        assert server.broker.store.opening("t", 0) is None


async def test_a_log_that_cannot_be_opened_keeps_neither_the_loop_waiting_nor_retention_from_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(tmp_path / "data") as server:
        client = Client(server.grpc_address)
        for topic in ("a", "b"):
            await client.create(topic, segment_bytes="1024", retention_bytes="0")
            for _ in range(8):
                await client.produce(topic, batch(bytes(400)))
        await client.channel.close()
        directory = server.broker.store.log("a", 0).directory
    of_a_newer_version = bytearray(seal_path(directory, 0).read_bytes()[:-4])
    of_a_newer_version[7] += 1
    seal_path(directory, 0).write_bytes(of_a_newer_version + crc32c(of_a_newer_version).to_bytes(4, "big"))
    async with running(tmp_path / "data") as server:
        held = Held(monkeypatch)
        held.let.set()
        for turn in range(1, 3):
            with pytest.raises(FormatTooNew):
                await server.broker.retain()
            assert held.runs == 1 + turn, "the one that can be opened once, the other in every turn"
        assert server.broker.store.log("b", 0).log_start_offset > 0


async def test_what_is_found_in_a_log_that_is_opened_later_is_told_as_at_a_start(stopped: Path) -> None:
    (snapshot,) = [path for path in stopped.glob(f"topics/*/0/{SNAPSHOT}") if len(list(path.parent.glob("*.log"))) > 1]
    snapshot.write_bytes(bytes(10))
    sealed = min(snapshot.parent.glob("*.log"))
    with sealed.open("r+b") as file:
        file.truncate(sealed.stat().st_size // 2)
    async with running(stopped) as server:
        with capture_logs() as logged:
            await server.broker.topics.open_log(server.broker.store.topic("t"), 0)
    hole, notes = [told for told in logged if told.get("topic") == "t"]
    assert hole["event"].startswith("the log is damaged")
    assert hole["next_offset"] > hole["offset"] > 0
    assert any("snapshot" in note for note in notes["notes"])


async def test_a_topic_is_deleted_once_its_log_is_no_longer_being_opened(
    stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(stopped) as server:
        held = Held(monkeypatch)
        client = Client(server.grpc_address)
        fetching = asyncio.create_task(client.fetch("t", 0))
        await asyncio.to_thread(held.begun.wait, 10)
        deleting = asyncio.ensure_future(client.topics.DeleteTopic(topics_pb2.DeleteTopicRequest(topic="t")))
        await ask_elsewhere(server)
        assert not deleting.done()
        held.let.set()
        await deleting
        fetched = await fetching
        assert fetched.batches or code(fetched.error) in ("UNKNOWN_TOPIC_ID", "UNKNOWN_TOPIC_OR_PARTITION")
        await client.channel.close()


async def test_a_damaged_log_is_looked_through_off_the_loop(stopped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was cut after a clean stop: how far the damage goes has to be searched for."""
    (topic,) = [path for path in (stopped / "topics").iterdir() if len(list((path / "0").glob("*.log"))) > 1]
    sealed = min((topic / "0").glob("*.log"))
    with sealed.open("r+b") as file:
        file.truncate(sealed.stat().st_size // 2)
    async with running(stopped) as server:
        loop_thread = threading.get_ident()
        looked_on: list[int] = []
        look = Opening.run

        def run(of: Opening) -> None:
            if of._outcome is None:
                looked_on.append(threading.get_ident())
            look(of)

        monkeypatch.setattr(Opening, "run", run)
        client = Client(server.grpc_address)
        assert code((await client.produce("t", batch(b"more")))[0].error) == "DATA_LOSS"
        assert loop_thread not in looked_on
        assert looked_on
        assert server.broker.store.log("t", 0).holes
        await client.channel.close()
