"""The model of a store knows what a pass of compaction has left where no reader looks, and when tombstones go."""

import random
from dataclasses import replace

import pytest

from logstore.batch import Record
from logstore.compaction import CompactionPlan, CompactionResult, compact
from logstore.compactions import PlannedCompaction
from logstore.config import HOUR_MS, TopicConfig
from logstore.log import Log
from tests.faults.storage.model import PartitionModel, Violation, judge_log, new_batch
from tests.faults.storage.passes import PassTime, judge_pass
from tests.logstore.disk import SimulatedDisk
from tests.logstore.partition import JumpingClock
from tests.logstore.store import Opened

DELETE_RETENTION_MS = HOUR_MS // 2
CONFIG = TopicConfig.from_strings(
    {
        "cleanup.policy": "compact,delete",
        "segment.bytes": "1024",
        "retention.ms": "-1",
        "min.cleanable.dirty.ratio": "0",
        "delete.retention.ms": str(DELETE_RETENTION_MS),
    }
)


class JudgedLog:
    """A log whose first segment begins with a tombstone, and the model of it."""

    def __init__(self) -> None:
        self.disk = SimulatedDisk()
        self.clock = JumpingClock()
        self.model = PartitionModel()
        self.opened = Opened(self.disk, clock=self.clock)
        self.opened.store.create_topic("t", 1, CONFIG)
        self.append(None)
        self.grow()

    @property
    def log(self) -> Log:
        return self.opened.store.log("t", 0)

    def append(self, value: bytes | None) -> None:
        now_ms = self.clock.wall_ms()
        record = Record(0, now_ms, b"key %d" % len(self.model.batches), value)
        self.model.expect(new_batch([record], self.log, now_ms))
        self.log.append(self.model.batches[-1].data, now_ms)
        self.opened.settle()

    def grow(self) -> None:
        """By segments that a pass may read."""
        for _ in range(8):
            self.append(bytes(300))
        self.opened.store.plan_compaction()  # asks for a snapshot
        self.opened.settle()

    def restart(self) -> None:
        self.disk = self.disk.kill()
        self.opened = Opened(self.disk, clock=self.clock)

    def plan(self) -> PlannedCompaction:
        planned = self.opened.store.plan_compaction()
        assert planned is not None
        return planned

    def judge(self, plan: CompactionPlan) -> CompactionResult:
        result = compact(plan, self.disk, lambda size: None)
        time = PassTime(self.clock.now_ms, 0, 0, is_steady=False)
        self.model.pending = judge_pass(plan, result, self.log, self.model, self.disk, time)
        return result

    def take(self, planned: PlannedCompaction, result: CompactionResult) -> None:
        self.opened.store.compactions.take(planned, result)
        self.opened.settle()


@pytest.mark.parametrize("is_taken_over", [False, True])
def test_what_a_pass_has_changed_below_the_start_of_a_log_is_there_if_its_seal_is(is_taken_over: bool) -> None:
    judged = JudgedLog()
    planned = judged.plan()
    result = judged.judge(planned.plan)
    assert 0 in judged.model.pending[0].changed, "the tombstone has a horizon now"
    if is_taken_over:
        judged.take(planned, result)
    judged.opened.store.delete_records(judged.log, 1, lambda failure: None)
    judged.opened.settle()
    judged.restart()

    judged.model.start_offset = judged.model.start_offset_max = 1
    now_ms = judged.clock.wall_ms()
    after = judge_log(judged.log, judged.model, random.Random(1), whole=True, now_ms=now_ms)
    assert (0 in after.rewritten) == is_taken_over


def test_a_tombstone_that_goes_by_a_wall_clock_that_was_set_forward_is_seen() -> None:
    judged = JudgedLog()
    planned = judged.plan()
    judged.take(planned, judged.judge(planned.plan))
    judged.model.note_taken_over(judged.log.seals)
    judged.clock.wall_ahead_ms += HOUR_MS
    judged.grow()

    plan = judged.plan().plan
    assert plan.past_horizon_ms < plan.now_ms
    with pytest.raises(Violation, match=r"is a tombstone and gone after \d+ ms, and delete"):
        judged.judge(replace(plan, past_horizon_ms=plan.now_ms))
    judged.judge(plan)
