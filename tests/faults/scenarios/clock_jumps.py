"""The server's wall clock jumps by an hour or a year, either way, under load (scorecard row 12).

Sessions and timeouts are on another clock, so no member may be missed and no call take longer. Retention goes by the
time of append: what is minutes old is kept, whatever the wall clock says now. And append times never go back. When the
clock jumps and where to is up to the seed, what is on its way then is not.
"""

import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

from logstore.files import seal_base_offset
from logstore.linux_disk import LinuxDisk
from logstore.seal import Seal, read_seal
from tailrace import Admin, Producer
from tailrace.errors import GroupIdNotFound
from tests.faults.checker import check
from tests.faults.clients.workload import GROUP, MEMBERS, PARTITIONS, Workload
from tests.faults.history import History
from tests.faults.levers import set_wall_clock
from tests.faults.runs import Session, Tally
from tests.processes import ServerProcess

HOUR_MS = 3_600_000
YEAR_MS = 365 * 24 * HOUR_MS
SERVER_OPTIONS = (
    "--group-session-timeout-ms",
    "3000",
    "--group-heartbeat-interval-ms",
    "300",
    "--retention-interval-ms",
    "50",
)
#: Many segments that retention could take, none of which is old. Records keep the true time, whatever the server's is.
TOPIC_CONFIG = {
    "segment.bytes": str(64 << 10),
    "retention.ms": str(HOUR_MS // 2),
    "message.timestamp.after.max.ms": str(2**62),
}
PROBE = "probe"
#: A send takes milliseconds. On a busy machine it takes longer, but not what a timeout takes.
ANSWER_SECONDS_MAX = 5.0


def run(session: Session, tally: Tally) -> None:
    """Let the wall clock jump as often as the session has cycles, and judge."""
    rng = session.rng("jumps")
    history = History(session.directory / "history.jsonl")
    clock = session.directory / "clock"
    set_wall_clock(clock, 0)
    data = session.directory / "data"
    with ServerProcess(data, *SERVER_OPTIONS, patches=(*session.planted, f"wall-clock={clock}")) as server:
        with Admin(server=server.address) as admin:
            workload = Workload(server.address, history, session.seed, pause_seconds=0.05)
            admin.create_topic(workload.topic, partitions=PARTITIONS, config=TOPIC_CONFIG)
            admin.create_topic(PROBE, config={"message.timestamp.after.max.ms": str(2**62)})
            workload.start()
            epoch = _await_group(admin)
            starts = dict.fromkeys(range(PARTITIONS), 0)
            with Producer(server=server.address) as producer:
                for _ in range(session.cycles):
                    set_wall_clock(clock, rng.choice([-YEAR_MS, -HOUR_MS, 0, HOUR_MS, YEAR_MS]))
                    tally.count("jumps")
                    started = time.monotonic()
                    producer.send(PROBE, value="x").result(timeout=ANSWER_SECONDS_MAX)
                    tally.peak("ms to answer a send", round((time.monotonic() - started) * 1000))
                    time.sleep(rng.uniform(0.1, 0.3))
                    starts = _judge_starts(admin, workload.topic, starts, tally)
                    epoch = _judge_group(admin, epoch, tally)
                    workload.check()
            workload.stop()
        tally.count("segments", sum(len(seals) for seals in _seals(data).values()))
        if server.stop() != 0:
            tally.violate("the stop was not clean")
    _judge_append_times(data, tally)
    history.close()
    tally.judge(check(history.operations))


def _await_group(admin: Admin) -> int:
    """The epoch of the workload's group, once all its members have joined."""
    until = time.monotonic() + 20
    while time.monotonic() < until:
        with suppress(GroupIdNotFound):
            group = admin.describe_group(GROUP)
            if group.state == "Stable" and len(group.members) == MEMBERS:
                return group.group_epoch
        time.sleep(0.1)
    raise AssertionError("the group does not become stable")


def _judge_starts(admin: Admin, topic: str, before: dict[int, int], tally: Tally) -> dict[int, int]:
    starts = {row.partition: row.log_start_offset for row in admin.describe_topic(topic).partitions}
    for partition, start in starts.items():
        if start != before[partition]:
            tally.violate(f"records of partition {partition} below {start} were deleted, which are seconds old")
    return starts


def _judge_group(admin: Admin, before: int, tally: Tally) -> int:
    epoch = admin.describe_group(GROUP).group_epoch
    if epoch != before:
        tally.violate(f"the group went from epoch {before} to {epoch}: members were missed, though they were there")
    return epoch


def _judge_append_times(data: Path, tally: Tally) -> None:
    for directory, seals in _seals(data).items():
        latest = -1
        for seal in seals:
            if not latest <= seal.first_append_ms <= seal.last_append_ms:
                tally.violate(
                    f"append times go back in {directory}: {latest}, then {seal.first_append_ms} to "
                    f"{seal.last_append_ms} in the segment at {seal.base_offset}"
                )
            latest = seal.last_append_ms


def _seals(data: Path) -> dict[Path, list[Seal]]:
    """The seals of every partition, in order."""
    disk = LinuxDisk()
    seals: dict[Path, list[Seal]] = defaultdict(list)
    for path in data.rglob("*"):
        if seal_base_offset(path.name) is not None:
            seals[path.parent].append(read_seal(disk, path))
    return {directory: sorted(found, key=lambda seal: seal.base_offset) for directory, found in seals.items()}
