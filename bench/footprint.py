"""How soon is the server ready, and what does it weigh while idle: empty, with many partitions, after many commits?

A million commits of groups without members are written by a client, 64 requests at a time, one request for all ten
partitions of a group; the groups take turns. Then the server is killed, and every turn starts it and kills it again:
its ready line comes after the groups are. The name of the row says how many records the journal of groups had then,
since it is written anew whenever it has become three times as long as need be.
"""

import asyncio
import time
from pathlib import Path

from bench.pairs import Rate
from bench.process import resident_mib
from tailrace import Admin, CommittedOffset, aio
from tests.processes import ServerProcess

COMMITS = 1_000_000
PARTITIONS_PER_GROUP = 10
COMMITS_AT_ONCE = 64


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
    return [*rows, *(after_commits(directory / f"commits-{groups}", groups, turns) for groups in (100, 1_000))]


def after_commits(directory: Path, groups: int, turns: int) -> Rate:
    """Seconds from the start of the program to its ready line after a million commits and a `kill -9`."""
    server = ServerProcess(directory)
    server.start()
    left = asyncio.run(commit(server.address, groups))
    server.kill()
    ready_seconds: list[float] = []
    for _ in range(turns):
        started = time.perf_counter()
        server.start()
        ready_seconds.append(time.perf_counter() - started)
        server.kill()
    name = f"start to ready, {COMMITS:,} commits of {groups:,} groups ({left:,} records left)"
    return Rate(name, "s", ready_seconds, at_most=1.0)


async def commit(address: str, groups: int) -> int:
    """Make the commits, and return how many records the journal of groups has then."""
    numbers = iter(range(COMMITS // PARTITIONS_PER_GROUP))

    async def commit_in_turn(admin: aio.Admin) -> None:
        for number in numbers:
            offsets = [CommittedOffset("bench", partition, number) for partition in range(PARTITIONS_PER_GROUP)]
            await admin.commit_offsets(f"group-{number % groups}", offsets)

    async with aio.Admin(server=address) as admin:
        await admin.create_topic("bench", partitions=PARTITIONS_PER_GROUP)
        await asyncio.gather(*(commit_in_turn(admin) for _ in range(COMMITS_AT_ONCE)))
        (journal,) = (await admin.describe_topic("__consumer_offsets")).partitions
    return journal.log_end_offset - journal.log_start_offset
