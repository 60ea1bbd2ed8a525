import asyncio
import random

import pytest
import structlog

from logserver.journal import GROUPS_TOPIC, GROUPS_TOPIC_CONFIG, ROOM_LEFT_BYTES, TopicJournal
from logserver.waiters import HighWatermarkWaiters
from logstore.batch import iter_headers
from logstore.errors import DataLoss, StorageFull
from logstore.log import Hole
from tests.logstore.disk import SimulatedDisk
from tests.logstore.store import Opened
from tests.logstore.verified import mend

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


State = dict[bytes, bytes | None]


@pytest.fixture
def small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GROUPS_TOPIC_CONFIG, "segment.bytes", "1024")


class Keeper:
    """Writes a few keys over and over, and now and then all of them anew, as the coordinator does with groups."""

    def __init__(self, opened: Opened, state: State) -> None:
        self.opened = opened
        self.journal = journal_of(opened)
        self.state = state

    async def append(self, records: list[tuple[bytes, bytes | None]]) -> None:
        appending = asyncio.create_task(self.journal.append(records))
        await asyncio.sleep(0)
        self.opened.settle()
        await appending
        self.state.update(records)

    async def rewrite(self) -> None:
        mark = self.journal.end
        for key, value in list(self.state.items()):
            await self.append([(key, value)])
        self.journal.forget_before(mark)


async def test_what_is_let_go_is_removed_at_the_next_turn_of_retention(small_segments: None) -> None:
    disk = SimulatedDisk()
    keeper = Keeper(Opened(disk), {})
    log = keeper.opened.store.log(GROUPS_TOPIC, 0)
    for round_number in range(10):
        for number in range(50):
            await keeper.append([(b"%d" % (number % 5), b"%d" % number)])
        await keeper.rewrite()
        assert keeper.journal.records_count == 5
        assert [key for key, _ in keeper.journal.replay()] == [b"0", b"1", b"2", b"3", b"4"]
        keeper.opened.store.retain()
        keeper.opened.settle()
        assert log.log_start_offset == 55 * round_number + 50
        assert log.segments_count <= 2
    keeper.opened.close()
    again = journal_of(Opened(disk))
    assert dict(again.replay()) == keeper.state
    assert again.records_count == 5


@pytest.mark.parametrize("seed", range(40))
async def test_a_crash_at_any_time_loses_nothing_that_was_said_last(small_segments: None, seed: int) -> None:
    rng = random.Random(seed)
    disk = SimulatedDisk()
    state: State = {}
    for _ in range(4):
        keeper = Keeper(Opened(disk), state)
        found = dict(keeper.journal.replay())
        assert found == state, f"seed {seed}"
        for _ in range(rng.randrange(60)):
            step = rng.random()
            if step < 0.8:
                await keeper.append([(b"%d" % rng.randrange(6), rng.randbytes(rng.randrange(60)))])
            elif step < 0.9:
                await keeper.rewrite()
            else:
                keeper.opened.store.retain()
                for _ in range(rng.randrange(3)):
                    keeper.opened.store.synchronizer.run_round()
                    keeper.opened.run_posted()
        if rng.random() < 0.3:
            keeper.opened.close()
        disk = disk.crash(rng)


async def test_of_a_damaged_journal_nothing_is_let_go() -> None:
    opened = Opened(SimulatedDisk())
    keeper = Keeper(opened, {})
    await keeper.append(RECORDS)
    opened.store.log(GROUPS_TOPIC, 0).holes = (Hole(2, None, "a test said so"),)
    keeper.journal.forget_before(3)
    assert keeper.journal.records_count == len(RECORDS)


def damaged_journal(disk: SimulatedDisk, number: int) -> None:
    """Flip a bit in the batch of that number, of a journal whose server is not running."""
    (path,) = (path for path in disk.files() if path.suffix == ".log")
    position, header = list(iter_headers(disk.files()[path]))[number]
    disk.flip_bit(path, position + header.size - 1)


@pytest.mark.parametrize("is_clean", [True, False])
@pytest.mark.parametrize("number", [0, 1, 2])
async def test_the_replay_steps_over_records_whose_loss_was_accepted_and_says_which(
    number: int, is_clean: bool
) -> None:
    disk = SimulatedDisk()
    keeper = Keeper(Opened(disk), {})
    for some in (1, 2, 3):
        await keeper.append([(b"%d" % some, b"x"), (b"both", b"%d" % some)])
    if is_clean:
        keeper.opened.close()
    disk = disk.kill()
    damaged_journal(disk, number)
    with pytest.raises(DataLoss, match="the journal of groups is damaged: records") as refused:
        list(journal_of(Opened(disk)).replay())
    assert "logctl segments repair" in refused.value.remedy

    disk = disk.kill()
    mend(disk)

    with structlog.testing.capture_logs() as logged:
        opened = Opened(disk)
        journal = journal_of(opened)
        replayed = list(journal.replay())
    kept = [some for some in (1, 2, 3) if some != number + 1]
    assert replayed == [record for some in kept for record in [(b"%d" % some, b"x"), (b"both", b"%d" % some)]]
    (warning,) = [event for event in logged if event["log_level"] == "warning"]
    assert (warning["offset"], warning["next_offset"]) == (2 * number, 2 * number + 2)
    assert "stepped back" in warning["event"]
    appending = asyncio.create_task(journal.append(RECORDS))
    await asyncio.sleep(0)
    opened.settle()
    await appending


async def test_new_damage_beside_an_accepted_loss_is_refused() -> None:
    disk = SimulatedDisk()
    keeper = Keeper(Opened(disk), {})
    for some in range(4):
        await keeper.append([(b"%d" % some, b"x")])
    keeper.opened.close()
    damaged_journal(disk, 1)
    mend(disk)
    last = max(path for path in disk.files() if path.suffix == ".log")
    disk.flip_bit(last, len(disk.files()[last]) - 1)
    with pytest.raises(DataLoss):
        list(journal_of(Opened(disk)).replay())


async def test_the_journal_is_internal_and_keeps_everything() -> None:
    opened = Opened(SimulatedDisk())
    journal_of(opened)
    topic = opened.store.topic(GROUPS_TOPIC)
    assert topic.internal
    assert (topic.config.retention_ms, topic.config.retention_bytes) == (-1, -1)
    assert topic.config.is_durable


async def test_there_is_room_for_no_more_than_leaves_a_segment_free() -> None:
    opened = Opened(SimulatedDisk())
    free_bytes = ROOM_LEFT_BYTES + 100
    journal = TopicJournal(
        opened.store, HighWatermarkWaiters(), opened.clock, GROUPS_TOPIC, free_bytes=lambda: free_bytes
    )
    assert journal.has_room(100)
    assert not journal.has_room(101)
    before = journal.size_bytes
    appending = asyncio.create_task(journal.append(RECORDS))
    await asyncio.sleep(0)
    opened.settle()
    await appending
    assert journal.size_bytes > before + 3000
