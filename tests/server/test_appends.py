"""When an acknowledgement is given: the syncs are run by hand, so one can be held back."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from logserver.appends import Acks, Appends, BatchAppend, PendingAcks
from logserver.context import RequestContext
from logserver.openings import Openings
from logserver.topics import Topics
from logserver.waiters import HighWatermarkWaiters
from logstore.config import TopicConfig
from logstore.errors import DuplicateSequence
from tests.logstore.disk import SimulatedDisk
from tests.logstore.store import Opened
from tests.server.wire import batch

CONTEXT = RequestContext(principal="", client_id="", listener="", peer="", deadline_ms=None)


class Appending:
    """Appends to partition 0 of topic "t", which nothing syncs but `sync`."""

    def __init__(self) -> None:
        self.opened = Opened(SimulatedDisk())
        store, waiters = self.opened.store, HighWatermarkWaiters()
        store.create_topic("t", 1, TopicConfig())
        topics = Topics(
            store,
            Openings(store, ThreadPoolExecutor(1)),
            waiters,
            self.opened.clock,
            auto_create=False,
            default_partitions=1,
            timeout_ms=1000,
            request_bytes_max=1 << 20,
            changed=lambda: None,
        )
        self._appends = Appends(
            store, topics, waiters, self.opened.clock, timeout_ms=1000, on_failure=self.opened.failures.append
        )

    async def send(self, sent: bytes, acks: Acks = Acks.ALL) -> PendingAcks:
        return await self._appends.append(CONTEXT, [BatchAppend("t", b"", 0, sent)], acks)

    def sync(self) -> None:
        self.opened.settle()


def is_given(pending: PendingAcks) -> bool:
    """Asked by a function, because mypy takes a property for settled once it was asserted."""
    return pending.done


def numbered(sequence: int) -> bytes:
    return batch(b"%d" % sequence, producer_id=7, epoch=0, sequence=sequence)


async def test_an_ack_of_all_is_given_by_the_sync_that_covers_it() -> None:
    appending = Appending()
    pending = await appending.send(numbered(0))
    assert not is_given(pending)
    appending.sync()
    assert is_given(pending)
    assert pending.acks[0].error is None


@pytest.mark.parametrize("first_acks", [Acks.ALL, Acks.ONE, Acks.ZERO])
async def test_the_ack_of_a_duplicate_waits_for_the_sync_of_the_original(first_acks: Acks) -> None:
    appending = Appending()
    await appending.send(numbered(0), first_acks)
    again = await appending.send(numbered(0))
    [ack] = again.acks
    assert (ack.duplicate, ack.base_offset) == (True, 0)
    assert not is_given(again), "a power cut now would take back what was acknowledged"
    appending.sync()
    assert is_given(again)
    assert ack.error is None


async def test_the_ack_of_a_duplicate_waits_for_no_more_than_its_original() -> None:
    appending = Appending()
    await appending.send(numbered(0))
    appending.sync()
    later = await appending.send(numbered(1))
    again = await appending.send(numbered(0))
    assert is_given(again)
    assert not is_given(later)


async def test_that_a_batch_was_written_long_ago_is_said_of_what_is_on_the_disk() -> None:
    appending = Appending()
    for sequence in range(6):  # one more than the log remembers by their offsets
        await appending.send(numbered(sequence))
    again = await appending.send(numbered(0))
    assert not is_given(again), "who is told that it was written takes it as written"
    appending.sync()
    assert is_given(again)
    assert isinstance(again.acks[0].error, DuplicateSequence)
