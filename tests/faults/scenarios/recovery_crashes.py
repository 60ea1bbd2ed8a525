"""Recovery is cut short itself, up to ten times in a row, and ends as one that nobody disturbed (scorecard row 10).

The disk after a power cut, or after a process that died alone, is recovered twice: once in peace, which is judged and
says what has to come of it, and once with a crash at a random step of every attempt but the last. Then both have the
same records, ends, starts, leader epochs and producers, and whatever was cut off is kept aside.
"""

import copy
import random
from contextlib import suppress
from pathlib import Path

from logstore import files
from tests.faults.bugs.planted import planted
from tests.faults.runs import Session, Tally
from tests.faults.storage.kept_files import check_kept
from tests.faults.storage.model import StoreModel, tell
from tests.faults.storage.workload import STORE, Stop, StorageWorkload, tiny_limits
from tests.logstore.disk import PowerCut, SimulatedDisk
from tests.logstore.partition import JumpingClock
from tests.logstore.store import Opened

CRASHES_MAX = 10
#: Of so many recoveries each goes on from the one before, and then a new store is made.
RECOVERIES_IN_A_ROW = 4
STEPS_MAX = (30, 150, 400)


def run(session: Session, tally: Tally) -> None:
    """Recover as many crashed stores as the session has cycles."""
    rng = session.rng("recovery crashes")
    workload: StorageWorkload | None = None
    with planted(*session.planted), tiny_limits():
        for number in range(session.cycles):
            if workload is None or number % RECOVERIES_IN_A_ROW == 0:
                workload = StorageWorkload(
                    SimulatedDisk(), rng, clock=JumpingClock(), model=StoreModel(), has_troubles=False
                )
                workload.start(Stop.CLEAN)
            try:
                workload.run_until_power_cut(rng.randrange(rng.choice(STEPS_MAX)))
                workload = _recover_twice(workload, rng, tally)
            except Exception as error:
                tally.violate(f"recovery {number}: {tell(error)}")
                workload = None
            tally.count("recoveries")
            if session.is_over(tally):
                return


def _recover_twice(crashed: StorageWorkload, rng: random.Random, tally: Tally) -> StorageWorkload:
    """The store that was recovered in peace, to go on with."""
    is_power_cut = rng.random() < 0.7
    disk = crashed.disk.crash(rng) if is_power_cut else crashed.disk.kill()
    stop = Stop.POWER_CUT if is_power_cut else crashed.killed
    disturbed = SimulatedDisk(copy.deepcopy(disk.root))
    found = disturbed.files()
    clock = crashed.clock.copy()
    clock.now_ms += rng.randrange(10_000)

    peaceful = StorageWorkload(disk, rng, clock=clock.copy(), model=crashed.model, has_troubles=False)
    steps_before = disk.steps_count
    peaceful.start(stop)
    steps = disk.steps_count - steps_before

    crashes = rng.randint(1, CRASHES_MAX)
    for _ in range(crashes):
        disturbed = _crash_recovery(disturbed, clock, rng, rng.randrange(steps + 10), is_power_cut=is_power_cut)
        clock.now_ms += rng.randrange(1000)
    # What was found in peace has been read, so the other may neither lack nor have anything else.
    other = StorageWorkload(disturbed, rng, clock=clock, model=peaceful.model.copy(), has_troubles=False)
    other.start(Stop.KILLED)
    logs = {log.directory: log for log in other.logs()}

    def is_left_behind(path: Path) -> bool:
        """Of a topic that is gone, below the start of its log, or of a segment that compaction has replaced."""
        parsed = files.parse_segment_file(path.name)
        log = logs.get(path.parent)
        if log is None or parsed is None:
            return log is None
        generations = {seal.base_offset: seal.generation for seal in log.seals}
        is_merged = any(seal.base_offset < parsed.base_offset < seal.next_offset for seal in log.seals)
        is_other = parsed.suffix == files.LOG_SUFFIX and parsed.generation != generations.get(parsed.base_offset, 0)
        return parsed.base_offset < log.log_start_offset or is_merged or is_other

    check_kept(found, disturbed.files(), may_go=is_left_behind)
    tally.count("crashes of recoveries", crashes)
    return peaceful


def _crash_recovery(
    disk: SimulatedDisk, clock: JumpingClock, rng: random.Random, steps: int, *, is_power_cut: bool
) -> SimulatedDisk:
    disk.cut_power_after(steps)
    with suppress(PowerCut):
        opened = Opened(disk, seed=rng.getrandbits(32), config=STORE, clock=clock)
        opened.settle()  # what a start has left to the sync thread
    disk.before_step = None
    return disk.crash(rng) if is_power_cut else disk.kill()
