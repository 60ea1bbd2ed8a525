import random
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logserver.waiters import HighWatermarkWaiters
from logstore.config import TopicConfig
from logstore.errors import LogStoreError, UnknownTopicOrPartition
from tests.logstore.disk import SimulatedDisk
from tests.logstore.store import Opened

RELAXED = TopicConfig.from_strings({"durability": "relaxed"})


def open_store() -> Opened:
    opened = Opened(SimulatedDisk())
    opened.store.create_topic("t", 2, TopicConfig())
    return opened


@given(st.lists(st.sampled_from(["append", "wait", "cancel", "sync"]), max_size=40), st.integers(0, 1000))
def test_each_is_woken_once_and_when_its_offset_is_durable_and_not_before(steps: list[str], seed: int) -> None:
    rng = random.Random(seed)
    opened, waiters = open_store(), HighWatermarkWaiters()
    logs = [opened.store.log("t", partition) for partition in range(2)]
    woken: list[int] = []
    #: Of each waiter: its log, the offset, its key.
    waiting: dict[int, tuple[int, int, object]] = {}

    def wake(number: int, failure: LogStoreError | None) -> None:
        assert failure is None
        woken.append(number)

    for number, step in enumerate(steps):
        at = rng.randrange(2)
        if step == "append":
            opened.append("t", at, b"x")
        elif step == "wait":
            offset = logs[at].high_watermark + rng.randrange(4)

            waiting[number] = (at, offset, waiters.wait(logs[at], offset, partial(wake, number)))
        elif step == "cancel" and waiting:
            chosen = rng.choice(sorted(waiting))
            at, offset, key = waiting.pop(chosen)
            waiters.cancel(logs[at], key)
            assert (chosen in woken) == (logs[at].high_watermark >= offset)
            if chosen in woken:
                woken.remove(chosen)
        elif step == "sync":
            opened.settle()
        due = [number for number, (at, offset, _) in waiting.items() if logs[at].high_watermark >= offset]
        assert sorted(woken) == due
        assert len(waiters) == len(waiting) - len(due)


def test_waiting_makes_a_sync_due_at_once() -> None:
    opened, waiters = open_store(), HighWatermarkWaiters()
    log = opened.store.log("t", 0)
    opened.append("t", 0, b"x")
    opened.store.synchronizer.run_round()
    opened.run_posted()
    assert log.high_watermark == 0, "flush.ms is not over"
    woken: list[object] = []
    waiters.wait(log, 1, woken.append)
    opened.run_posted()
    opened.store.synchronizer.run_round()
    opened.run_posted()
    assert woken == [None]


def test_an_append_under_a_waiting_reader_makes_a_sync_due_at_once() -> None:
    opened, waiters = open_store(), HighWatermarkWaiters()
    log = opened.store.log("t", 0)
    woken: list[object] = []
    waiters.wait(log, 1, woken.append)
    opened.append("t", 0, b"x")
    waiters.appended(log)
    opened.run_posted()
    opened.store.synchronizer.run_round()
    opened.run_posted()
    assert woken == [None]


def test_in_a_relaxed_topic_the_append_itself_wakes() -> None:
    opened, waiters = open_store(), HighWatermarkWaiters()
    opened.store.create_topic("relaxed", 1, RELAXED)
    woken: list[object] = []
    waiters.wait(opened.store.log("relaxed", 0), 1, woken.append)
    opened.append("relaxed", 0, b"x")
    assert woken == [None]


def test_what_waits_for_a_log_that_grows_no_more_is_told_why() -> None:
    opened, waiters = open_store(), HighWatermarkWaiters()
    log, other = opened.store.log("t", 0), opened.store.log("t", 1)
    told: list[object] = []
    waiters.wait(log, 1, told.append)
    waiters.wait(other, 1, lambda _: pytest.fail("the other log goes on"))
    gone = UnknownTopicOrPartition("it was deleted", remedy="Read another.")
    assert sorted(log.partition for log in waiters.logs_of(log.topic_id)) == [0, 1]
    waiters.fail(log, gone)
    waiters.fail(log, gone)
    assert told == [gone]
    assert len(waiters) == 1


def test_one_that_is_woken_may_wait_again_at_once() -> None:
    opened, waiters = open_store(), HighWatermarkWaiters()
    log = opened.store.log("t", 0)
    reached: list[int] = []

    def again(_: LogStoreError | None) -> None:
        reached.append(log.high_watermark)
        waiters.wait(log, log.high_watermark + 1, again)

    waiters.wait(log, 1, again)
    for _ in range(3):
        opened.append("t", 0, b"x")
        opened.settle()
    assert reached == [1, 2, 3]
