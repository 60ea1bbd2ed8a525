"""All that a power cut can leave, at any step of random work on a store (scorecard row 4).

An image is the disk after one cut, one of the many that are legal: each page that was not synced is there, is not, or
is torn, and each name that was not synced is there or is not. It is recovered, often cut again while it is, and then
has to hold everything that was acknowledged, and to be a store like any other.
"""

import random
from contextlib import suppress

from logstore.errors import StorageFull
from tests.faults.bugs.planted import planted
from tests.faults.runs import Session, Tally
from tests.faults.storage.model import StoreModel, tell
from tests.faults.storage.workload import STORE, Stop, StorageWorkload, tiny_limits
from tests.logstore.disk import PowerCut, SimulatedDisk
from tests.logstore.partition import JumpingClock
from tests.logstore.store import Opened

IMAGES_PER_CUT = 8
#: Of so many cuts in a row each goes on from an image of the one before, and then a new store is made.
CUTS_IN_A_ROW = 6
#: So often something is done before the power may go: a young store has nothing to compact.
WORK_BEFORE = (0, 0, 0, 100)


def run(session: Session, tally: Tally) -> None:
    """Judge as many images as the session has cycles."""
    rng = session.rng("crash images")
    examined = 0
    with planted(*session.planted), tiny_limits():
        while examined < session.cycles and not session.is_over(tally):
            workload: StorageWorkload | None = _new_store(rng)
            for _ in range(CUTS_IN_A_ROW):
                if workload is None or examined >= session.cycles or session.is_over(tally):
                    break
                images = min(IMAGES_PER_CUT, session.cycles - examined)
                workload = _cut_and_examine(workload, rng, images, examined, tally)
                examined += images


def _new_store(rng: random.Random) -> StorageWorkload:
    workload = StorageWorkload(SimulatedDisk(), rng, clock=JumpingClock(), model=StoreModel())
    workload.start(Stop.CLEAN)
    return workload


def _cut_and_examine(
    workload: StorageWorkload, rng: random.Random, images: int, number: int, tally: Tally
) -> StorageWorkload | None:
    """The store of the last good image, to go on with."""
    try:
        for _ in range(rng.choice(WORK_BEFORE)):
            workload.work()
        workload.run_until_power_cut(rng.randrange(rng.choice((20, 100, 300))))
    except Exception as error:
        tally.violate(f"before image {number}: {tell(error)}")
        return None
    # The last one is of a process that died alone: it shares its files with the cut disk.
    survivors = [(workload.disk.crash(rng), Stop.POWER_CUT) for _ in range(images - 1)]
    survivors.append((workload.disk.kill(), workload.killed))
    for what, count in workload.counts.items():
        tally.count(what, count)
    going_on = None
    for offset, (disk, stop) in enumerate(survivors):
        try:
            going_on = _examine(disk, stop, workload, rng)
        except Exception as error:
            tally.violate(f"image {number + offset}: {tell(error)}")
        tally.count("images")
    tally.count("cuts")
    return going_on


def _examine(disk: SimulatedDisk, stop: Stop, before: StorageWorkload, rng: random.Random) -> StorageWorkload:
    """Recover the image, judge it, use it, and judge it again after one more stop, clean or not."""
    clock = before.clock.copy()
    clock.now_ms += rng.randrange(10_000)
    while rng.random() < 0.25:
        disk, stop = _cut_recovery(disk, stop, clock, rng)
    workload = StorageWorkload(disk, rng, clock=clock, model=before.model)
    workload.start(stop)
    workload.append_everywhere()
    if rng.random() < 0.5:
        workload.stop()
        disk, stop = workload.disk.crash(rng), Stop.CLEAN
    else:
        disk, stop = workload.disk.crash(rng), Stop.POWER_CUT
    again = StorageWorkload(disk, rng, clock=clock, model=workload.model)
    again.start(stop)
    return again


def _cut_recovery(
    disk: SimulatedDisk, stop: Stop, clock: JumpingClock, rng: random.Random
) -> tuple[SimulatedDisk, Stop]:
    disk.cut_power_after(rng.randrange(60))
    with suppress(PowerCut, StorageFull):
        Opened(disk, config=STORE, clock=clock)
    disk.before_step = None
    return (disk.crash(rng), Stop.POWER_CUT) if rng.random() < 0.5 else (disk.kill(), stop)
