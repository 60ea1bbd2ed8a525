import asyncio
import random

import pytest

from logserver.journal import GROUPS_TOPIC, TopicJournal
from logserver.waiters import HighWatermarkWaiters
from logstore.errors import StorageFull
from tests.logstore.disk import SimulatedDisk
from tests.logstore.store import Opened

RECORDS: list[tuple[bytes, bytes | None]] = [(b"a", b"1"), (b"b", None), (b"a", b""), (b"\xff", b"\0" * 3000)]


def journal_of(opened: Opened) -> TopicJournal:
    return TopicJournal(opened.store, HighWatermarkWaiters(), opened.clock, GROUPS_TOPIC)


async def test_an_append_returns_when_it_is_durable_and_not_before() -> None:
    opened = Opened(SimulatedDisk())
    journal = journal_of(opened)
    appending = asyncio.create_task(journal.append(RECORDS))
    await asyncio.sleep(0)
    assert not appending.done()
    assert list(journal.replay()) == []
    opened.settle()
    await appending
    assert list(journal.replay()) == RECORDS


async def test_appends_keep_the_order_of_their_calls() -> None:
    opened = Opened(SimulatedDisk())
    journal = journal_of(opened)
    tasks = [asyncio.create_task(journal.append([(b"%d" % number, None)])) for number in range(50)]
    await asyncio.sleep(0)
    opened.settle()
    await asyncio.gather(*tasks)
    assert [key for key, _ in journal.replay()] == [b"%d" % number for number in range(50)]


@pytest.mark.parametrize("seed", range(10))
async def test_after_a_crash_all_of_an_append_is_there_or_nothing(seed: int) -> None:
    disk = SimulatedDisk()
    opened = Opened(disk)
    journal = journal_of(opened)
    first = asyncio.create_task(journal.append(RECORDS))
    await asyncio.sleep(0)
    opened.settle()
    await first
    second = asyncio.create_task(journal.append(RECORDS))
    await asyncio.sleep(0)
    again = journal_of(Opened(disk.crash(random.Random(seed))))
    assert list(again.replay()) in (RECORDS, RECORDS + RECORDS)
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


async def test_a_change_larger_than_a_segment_is_still_one_batch() -> None:
    opened = Opened(SimulatedDisk())
    journal = journal_of(opened)
    large: list[tuple[bytes, bytes | None]] = [(b"%d" % number, bytes(1 << 20)) for number in range(20)]
    appending = asyncio.create_task(journal.append(large))
    await asyncio.sleep(0)
    opened.settle()
    await appending
    assert list(journal.replay()) == large
    assert opened.store.log(GROUPS_TOPIC, 0).high_watermark == len(large)


async def test_a_full_disk_is_told_and_nothing_is_written() -> None:
    opened = Opened(SimulatedDisk(capacity_bytes=1 << 20))
    journal = journal_of(opened)
    with pytest.raises(StorageFull):
        await journal.append([(b"k", bytes(2 << 20))])
    assert opened.store.log(GROUPS_TOPIC, 0).log_end_offset == 0


async def test_a_cancelled_append_is_forgotten_by_the_waiters() -> None:
    opened = Opened(SimulatedDisk())
    waiters = HighWatermarkWaiters()
    journal = TopicJournal(opened.store, waiters, opened.clock, GROUPS_TOPIC)
    appending = asyncio.create_task(journal.append(RECORDS))
    await asyncio.sleep(0)
    assert len(waiters) == 1
    appending.cancel()
    await asyncio.gather(appending, return_exceptions=True)
    assert len(waiters) == 0


async def test_the_journal_is_internal_and_keeps_everything() -> None:
    opened = Opened(SimulatedDisk())
    journal_of(opened)
    topic = opened.store.topic(GROUPS_TOPIC)
    assert topic.internal
    assert (topic.config.retention_ms, topic.config.retention_bytes) == (-1, -1)
    assert topic.config.is_durable
