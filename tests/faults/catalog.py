"""All faults, in the order in which they are worth running: each with how often CI and a full run inject it."""

from tests.faults import kills
from tests.faults.runs import Fault

FAULTS = {
    fault.name: fault
    for fault in (
        Fault(
            "kill",
            "kill -9 of the server under load",
            kills.run,
            cycles_ci=50,
            cycles_full=1000,
            session_cycles=25,
        ),
    )
}
