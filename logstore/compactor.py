"""`python -m logstore.compactor`: one pass of compaction in a process of its own, which a server starts.

    stdin    {"plan": ..., "bytes_per_second": 33554432, "server_pid": 4711}
    stdout   {"result": ...}, or {"error": "StorageFull", "message": ..., "remedy": ...} and status 1

It has the processor to itself less than everybody else, reads and writes no faster than it was told, and ends when its
server does: it writes into a data directory that the next server may have by then.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from logstore import syscalls
from logstore.compaction import CompactionPlan, CompactionResult, compact
from logstore.errors import LogStoreError
from logstore.linux_disk import LinuxDisk
from logstore.seal import Seal

NICE = 10
#: Shorter rests are saved up.
REST_SECONDS_MIN = 0.02


class Pace:
    """Rests after so many bytes that they come no faster than allowed."""

    def __init__(
        self,
        bytes_per_second: int,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        assert bytes_per_second > 0
        self._bytes_per_second = bytes_per_second
        self._clock = clock
        self._sleep = sleep
        self._done_at = clock()  # when as many bytes may have been done as were

    def __call__(self, size: int) -> None:
        now = self._clock()
        # Time that was not used is gone: no burst after a pause.
        self._done_at = max(self._done_at, now - REST_SECONDS_MIN) + size / self._bytes_per_second
        if self._done_at - now >= REST_SECONDS_MIN:
            self._sleep(self._done_at - now)


def request_as_json(plan: CompactionPlan, bytes_per_second: int) -> str:
    """Of the process that starts this one."""
    fields = asdict(plan) | {"directory": str(plan.directory)}
    return json.dumps({"plan": fields, "bytes_per_second": bytes_per_second, "server_pid": os.getpid()})


def plan_from_json(fields: dict[str, Any]) -> CompactionPlan:
    seals = tuple(Seal(**seal) for seal in fields["seals"])
    return CompactionPlan(**fields | {"directory": Path(fields["directory"]), "seals": seals})


def result_from_json(fields: dict[str, Any]) -> CompactionResult:
    return CompactionResult(**fields | {"seals": tuple(Seal(**seal) for seal in fields["seals"])})


def main() -> int:
    os.nice(NICE)
    request = json.load(sys.stdin)
    syscalls.die_with_parent()
    if os.getppid() != request["server_pid"]:
        return 1  # it has ended already
    plan, pace = plan_from_json(request["plan"]), Pace(request["bytes_per_second"])
    try:
        result = compact(plan, LinuxDisk(), pace, free_bytes=lambda: shutil.disk_usage(plan.directory).free)
    except LogStoreError as error:
        json.dump({"error": type(error).__name__, "message": str(error), "remedy": error.remedy}, sys.stdout)
        return 1
    json.dump({"result": asdict(result)}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
