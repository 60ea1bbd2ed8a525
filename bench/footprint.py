"""How soon is the server ready, and what does it weigh while idle, empty and with many partitions?"""

import re
import time
from pathlib import Path

from bench.pairs import Rate
from tailrace import Admin
from tests.processes import ServerProcess

MIB = 1 << 20


def resident_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024 / MIB


def run(directory: Path, turns: int) -> list[Rate]:
    """Seconds from the start of the program to its ready line, and MiB resident after it, after a clean stop."""
    rows: list[Rate] = []
    for partitions in (0, 1_000, 10_000):
        server = ServerProcess(directory / f"footprint-{partitions}")
        server.start()
        if partitions:
            with Admin(server=server.address) as admin:
                for number in range(partitions // 100):
                    admin.create_topic(f"topic-{number}", partitions=100)
        server.stop()
        ready_seconds: list[float] = []
        resident: list[float] = []
        for _ in range(turns):
            started = time.perf_counter()
            server.start()
            ready_seconds.append(time.perf_counter() - started)
            resident.append(resident_mib(server.pid))
            server.stop()
        name = f"{partitions:,} partitions" if partitions else "empty"
        rows.append(Rate(f"start to ready, {name}", "s", ready_seconds, at_most=1.0 if partitions <= 1_000 else None))
        bound = {0: 100.0, 1_000: 200.0}.get(partitions)
        rows.append(Rate(f"resident while idle, {name}", "MiB", resident, at_most=bound))
    return rows
