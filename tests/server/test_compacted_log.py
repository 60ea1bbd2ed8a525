"""Reading a log of which compaction has taken records out, whole segments of them, up to its end."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from logserver.fetches import Fetches
from logserver.journal import TopicJournal
from logserver.openings import Openings
from logserver.server import Server
from logserver.topics import Topics
from logserver.waiters import HighWatermarkWaiters
from logstore import files
from logstore.batch import BatchHeader, Record, encode_batch, iter_headers, read_header
from logstore.compaction import CompactionPlan, compact
from logstore.errors import OffsetOutOfRange
from logstore.linux_disk import LinuxDisk
from logstore.seal import Seal
from tailrace.aio import Admin, Consumer
from tests.logstore.test_compactions import COMPACTED, CompactedStore
from tests.logstore.test_late_reads import compact_and_remove_old_files, with_sealed_segments
from tests.server.conftest import running
from tests.server.test_fetch import until_parked
from tests.server.test_fetch_stream import Reader
from tests.server.wire import NOW_MS, Client, batch, position

PLENTY = 1 << 30
SEGMENT_BYTES = 1024


def keyed(*keys: bytes, value: bytes | None) -> bytes:
    return encode_batch([Record(0, NOW_MS, key, value) for key in keys])


async def write(client: Client, topic: str, rng: random.Random) -> None:
    """Values of eight keys; then several segments in which the keys are deleted again, but for two."""
    await client.create(topic, segment_bytes=str(SEGMENT_BYTES))
    for _ in range(40):
        keys = [b"%d" % rng.randrange(8) for _ in range(rng.randint(1, 4))]
        await client.produce(topic, keyed(*keys, value=bytes(100)))
    await client.produce(topic, keyed(b"6", b"0", b"1", b"7", b"2", value=b"last"))
    for _ in range(12):
        await client.produce(topic, keyed(*(b"%d" % rng.randrange(6) for _ in range(20)), value=None))
    await client.produce(topic, keyed(*(b"%d" % key for key in range(6)), value=None))


def take_out(directory: Path, seals: Sequence[Seal]) -> None:
    """What two passes of compaction do, of which the second comes when no tombstone has to stay any longer."""
    disk = LinuxDisk()
    dirty_offset = 0
    for now_ms in (NOW_MS, NOW_MS + 10):
        # No segment fits into one with others: so those of which nothing is left stay.
        plan = CompactionPlan(directory, tuple(seals), dirty_offset, now_ms, now_ms, 1, 1, 200, 1000)
        result = compact(plan, disk, lambda size: None)
        for seal in result.seals:
            disk.replace_file(files.seal_path(directory, seal.base_offset), seal.encode())
        written = {seal.base_offset: seal for seal in result.seals}
        seals = [written.get(seal.base_offset, seal) for seal in seals]
        dirty_offset = result.dirty_offset
    assert sum(seal.end_position == 0 for seal in seals[-3:]) >= 2


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """With a topic "t": two records are left, and then there is a gap of some segments, up to the end."""
    data_dir = tmp_path / "data"
    async with running(data_dir) as server:
        client = Client(server.grpc_address)
        await write(client, "t", random.Random(1))
        await client.channel.close()
        log = server.broker.store.log("t", 0)
        log._roll(log._segments[-1])
    async with running(data_dir) as server:
        log = server.broker.store.log("t", 0)
        directory, seals = log.directory, log.seals
        assert seals[-1].next_offset == log.log_end_offset
    take_out(directory, seals)
    async with running(data_dir) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    client = Client(server.grpc_address)
    yield client
    await client.channel.close()


@pytest.fixture
def left(server: Server) -> BatchHeader:
    """The one batch that is left: of its five records the first and the fourth."""
    log = server.broker.store.log("t", 0)
    with log.open_read(0, 1) as reader:
        read = reader.read()
    while not read.batches:
        with log.open_read(read.next_offset, 1) as reader:
            read = reader.read()
    header = read_header(read.batches)
    assert log.log_start_offset + 50 < header.base_offset < header.next_offset < log.high_watermark - 200
    return header


def end(server: Server) -> int:
    return server.broker.store.log("t", 0).high_watermark


async def test_a_fetch_passes_gaps_in_the_same_answer(client: Client, server: Server, left: BatchHeader) -> None:
    offsets = [0, 1, left.base_offset - 1, *range(left.base_offset, left.next_offset + 1), end(server) - 1, end(server)]
    for offset in offsets:
        read = await client.fetch("t", offset)
        if offset < left.next_offset:
            assert [header for _, header in iter_headers(read.batches)] == [left]
            assert read.next_offset == left.next_offset
        else:
            assert (read.batches, read.next_offset) == (b"", end(server))
        assert read.high_watermark == end(server)


async def test_a_fetch_of_plain_records_passes_batches_without_one_to_give(
    client: Client, server: Server, left: BatchHeader
) -> None:
    kept = [left.base_offset, left.base_offset + 3]
    for offset in (0, *range(left.base_offset, left.next_offset + 1), end(server)):
        read = await client.fetch("t", offset, decode=True)
        expected = [each for each in kept if each >= offset]
        assert [(record.offset, record.value) for record in read.records] == [(each, b"last") for each in expected]
        assert read.next_offset == (left.next_offset if expected else end(server))


@pytest.mark.parametrize("decode", [False, True])
async def test_a_fetch_in_the_gap_at_the_end_waits_for_what_comes_behind_it(
    client: Client, server: Server, left: BatchHeader, decode: bool
) -> None:
    before = end(server)
    first = left.last_offset if decode else left.next_offset
    waiting = asyncio.create_task(client.fetch("t", first, wait_ms=9_000, decode=decode))
    await until_parked(server)
    assert not waiting.done()
    await client.produce("t", batch(b"a"))
    read = await waiting
    assert read.next_offset == before + 1
    if decode:
        assert [(record.offset, record.value) for record in read.records] == [(before, b"a")]
    else:
        assert [header.base_offset for _, header in iter_headers(read.batches)] == [before]


async def test_a_fetch_in_a_gap_does_not_wait_for_what_is_there(client: Client, left: BatchHeader) -> None:
    read = await client.fetch("t", 1, wait_ms=9_000, bytes_max=1)
    assert read.next_offset == left.next_offset


@pytest.mark.parametrize("start", ["beginning", "last offset of the batch", "gap at the end"])
async def test_a_stream_passes_gaps_and_tells_when_it_is_at_the_end(
    client: Client, server: Server, left: BatchHeader, start: str
) -> None:
    before = end(server)
    places = {"beginning": 0, "last offset of the batch": left.last_offset, "gap at the end": left.next_offset}
    reader = Reader(client)
    await reader.ask(position("t", places[start]), credit=PLENTY)
    answers = await reader.until_offset(before)
    read = [(header, data.next_offset) for data in answers for _, header in iter_headers(data.batches)]
    assert read == ([] if start == "gap at the end" else [(left, left.next_offset)])
    assert (answers[-1].batches, answers[-1].next_offset, answers[-1].high_watermark) == (b"", before, before)
    await until_parked(server)
    await client.produce("t", batch(b"a"))
    [live] = await reader.next()
    assert live.next_offset == before + 1
    assert [header.base_offset for _, header in iter_headers(live.batches)] == [before]
    reader.call.cancel()


async def test_others_have_their_turn_while_a_long_gap_is_passed(server: Server, left: BatchHeader) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(take_turns())
    log = server.broker.store.log("t", 0)
    read = await server.broker.fetches.read(log, left.next_offset, 1)
    other.cancel()
    assert read == (b"", end(server))
    assert turns >= sum(seal.base_offset > left.next_offset for seal in log.seals)


async def test_a_journal_with_gaps_is_replayed_to_its_end(server: Server) -> None:
    broker = server.broker
    journal = TopicJournal(broker.store, broker.waiters, broker.clock, "t")
    assert list(journal.replay()) == [(b"6", b"last"), (b"7", b"last")]


async def test_a_consumer_reads_what_is_left_and_is_then_at_the_end(server: Server, left: BatchHeader) -> None:
    consumer = Consumer(
        "t", partitions=[0], group="g", start="beginning", stop_at_end=True, server=str(server.grpc_address)
    )
    async with consumer:
        read = [(record.offset, record.key) async for record in consumer]
        assert await consumer.position("t", 0) == end(server)
        assert await consumer.commit()
    assert read == [(left.base_offset, b"6"), (left.base_offset + 3, b"7")]
    async with Admin(server=str(server.grpc_address)) as admin:
        [row] = (await admin.describe_group("g")).partitions
    assert (row.committed_offset, row.lag_records) == (end(server), 0)


class BusyReaders(ThreadPoolExecutor):
    """Before its threads come to the first read, something happens."""

    def __init__(self, happens: Callable[[], None]) -> None:
        super().__init__(1)
        self._happens: Callable[[], None] | None = happens

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        if self._happens is not None:
            self._happens()
            self._happens = None
        return super().submit(fn, *args, **kwargs)


def fetches_of(store: CompactedStore, readers: ThreadPoolExecutor) -> Fetches:
    opened, waiters = store.opened, HighWatermarkWaiters()
    topics = Topics(
        opened.store,
        Openings(opened.store, readers),
        waiters,
        opened.clock,
        auto_create=False,
        default_partitions=1,
        timeout_ms=1000,
        request_bytes_max=1 << 20,
        changed=lambda: None,
    )
    return Fetches(topics, waiters, opened.clock, readers=readers, decoder=readers, bytes_max=1 << 20, wait_ms_max=1000)


async def test_a_read_whose_thread_comes_when_its_file_was_compacted_away_finds_the_new_one() -> None:
    store = with_sealed_segments()
    with BusyReaders(partial(compact_and_remove_old_files, store)) as readers:
        offset = store.log.seals[1].base_offset
        read = await fetches_of(store, readers).read(store.log, offset, 1 << 20)
    assert read is not None
    assert read.next_offset > offset
    assert store.log.seals[1].generation == 1


async def test_a_read_of_what_retention_has_removed_meanwhile_is_refused_and_so_is_one_of_a_file_that_is_lost() -> None:
    for happens in (delete_all, lose_files):
        store = CompactedStore(1, replace(COMPACTED, cleanup_policy="compact,delete", retention_ms=-1))
        store.write(30)
        store.have_snapshot()
        store.opened.store._handles.close_idle()
        with BusyReaders(partial(happens, store)) as readers:
            with pytest.raises(OffsetOutOfRange):
                await fetches_of(store, readers).read(store.log, 0, 1 << 20)


def delete_all(store: CompactedStore) -> None:
    store.opened.store.delete_records(store.log, store.log.high_watermark, lambda failure: None)
    for _ in range(20):
        store.opened.settle()


def lose_files(store: CompactedStore) -> None:
    for path in store.disk.files():
        if path.parent == store.log.directory and path.suffix == files.LOG_SUFFIX:
            store.disk.remove(path)
