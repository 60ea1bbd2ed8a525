"""All faults, in the order in which they are worth running: each with how often CI and a full run inject it."""

from tests.faults import (
    clock_jumps,
    crash_images,
    double_starts,
    full_disks,
    kills,
    loop_filesystem,
    network_cuts,
    pauses,
    power_cuts,
    relaxed_power_cuts,
    retry_table,
    sync_failures,
)
from tests.faults.retries import CASES
from tests.faults.runs import Fault

FAULTS = {
    fault.name: fault
    for fault in (
        Fault(
            "crash-image",
            "what a power cut at any step of random work can leave",
            crash_images.run,
            cycles_ci=2000,
            cycles_full=100_000,
            session_cycles=200,
        ),
        Fault(
            "kill",
            "kill -9 of the server under load",
            kills.run,
            cycles_ci=50,
            cycles_full=1000,
            session_cycles=25,
        ),
        Fault(
            "power-cut",
            "the power goes under load, on an ext4 of its own",
            power_cuts.run,
            cycles_ci=25,
            cycles_full=500,
            session_cycles=25,
            missing=loop_filesystem.why_not,
        ),
        Fault(
            "relaxed-power-cut",
            "the power goes under a relaxed topic, which loses its end and nothing else",
            relaxed_power_cuts.run,
            cycles_ci=6,
            cycles_full=200,
            session_cycles=10,
            missing=loop_filesystem.why_not,
        ),
        Fault(
            "sync-error",
            "the n-th sync is answered with an error",
            sync_failures.run_errors,
            cycles_ci=10,
            cycles_full=500,
            session_cycles=25,
        ),
        Fault(
            "sync-failure",
            "the filesystem, or the disk below it, fails and loses what was not synced",
            sync_failures.run,
            cycles_ci=6,
            cycles_full=200,
            session_cycles=10,
            missing=loop_filesystem.why_not,
        ),
        Fault(
            "disk-full",
            "the disk fills to the last byte, and is freed again",
            full_disks.run,
            cycles_ci=4,
            cycles_full=100,
            session_cycles=4,
            missing=loop_filesystem.why_not,
        ),
        Fault(
            "double-start",
            "a second server on the same directory, and on the same port",
            double_starts.run,
            cycles_ci=2,
            cycles_full=100,
            session_cycles=10,
        ),
        Fault(
            "pause",
            "a member of a group, or the server, stands still for longer than a session",
            pauses.run,
            cycles_ci=4,
            cycles_full=300,
            session_cycles=20,
        ),
        Fault(
            "clock-jump",
            "the wall clock jumps an hour or a year, either way",
            clock_jumps.run,
            cycles_ci=15,
            cycles_full=500,
            session_cycles=50,
        ),
        Fault(
            "network-cut",
            "connections are held, slowed, cut in the middle and reset",
            network_cuts.run,
            cycles_ci=50,
            cycles_full=2000,
            session_cycles=50,
        ),
        Fault(
            "retry-table",
            "batches sent again, late, twice and out of order: a table of answers",
            retry_table.run,
            cycles_ci=len(CASES),
            cycles_full=4 * len(CASES),
            session_cycles=len(CASES),
        ),
    )
}
