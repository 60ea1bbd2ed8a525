"""A year of real flights through the whole system, with everything killed on the way.

The model is the file itself: what a partition holds must be the flights of its keys in the order of the file, and what
a group read must be the same, however often its members and the server were killed.
"""

import csv
import datetime
import io
import json
import random
import subprocess
import sys
import threading
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailrace import Admin, Consumer, Producer
from tailrace.errors import GroupIdNotFound
from tests.processes import ENVIRONMENT, ROOT, SHORT_SESSIONS, ServerProcess

FLIGHTS = ROOT.parent / "shared" / "data" / "flights.csv.zip"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FLIGHTS.exists(), reason="the flights are not beside the checkout"),
]

PARTITIONS = 4
SERVER_KILLS = 20


class Flight:
    """A row of the file, as it is sent: no tail number, no key."""

    __slots__ = ("key", "timestamp_ms", "value")

    def __init__(self, row: dict[str, str], line: int) -> None:
        hour = datetime.datetime.fromisoformat(row["time_hour"])
        self.timestamp_ms = int(hour.timestamp() * 1000) + int(row["minute"]) * 60_000
        self.key = None if row["tailnum"] in ("", "NA") else row["tailnum"]
        # The line number makes every value its own, so that a record lost, repeated or moved shows.
        self.value = f"{line},{row['carrier']}{row['flight']},{row['origin']},{row['dest']}"


def read_flights() -> list[Flight]:
    with zipfile.ZipFile(FLIGHTS) as archive, archive.open("flights.csv") as file:
        return [Flight(row, line) for line, row in enumerate(csv.DictReader(io.TextIOWrapper(file, "utf-8")), start=2)]


class Members:
    """The members of one group, each a process with a file of what it read."""

    def __init__(self, directory: Path, server: str, group: str) -> None:
        self._directory = directory
        self._arguments = [server, group, "flights"]
        self._running: list[subprocess.Popen[bytes]] = []
        self._files: list[Path] = []

    def add(self) -> None:
        """Returns when the member has joined: a client's first call does not wait for a server through two crashes."""
        file = self._directory / f"member-{len(self._files)}.jsonl"
        log = (self._directory / f"member-{len(self._files)}.log").open("wb")
        command = [sys.executable, "-m", "tests.end_to_end.member", *self._arguments, str(file)]
        self._running.append(subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stderr=log))
        log.close()
        self._files.append(file)
        with Admin(server=self._arguments[0], connect_timeout=60) as admin:
            wait_until(lambda: joined_count(admin, self._arguments[1]) >= len(self._running), "the member has joined")

    def kill_one(self, rng: random.Random) -> None:
        process = self._running.pop(rng.randrange(len(self._running)))
        process.kill()
        process.wait()

    def stop(self) -> list[int]:
        for process in self._running:
            process.terminate()
        return [process.wait(timeout=60) for process in self._running]

    def kill(self) -> None:
        for process in self._running:
            process.kill()
            process.wait()

    def reads(self) -> Iterator[list[tuple[int, int, int, str, str]]]:
        """What each member read, in its order. The last line of a killed one may be cut."""
        for file in self._files:
            lines = file.read_text().splitlines(keepends=True) if file.exists() else []
            yield [tuple(json.loads(line)) for line in lines if line.endswith("\n")]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "data", *SHORT_SESSIONS) as server:
        yield server


def test_every_flight_arrives_in_order_per_key_through_twenty_kills_of_the_server(
    server: ServerProcess, tmp_path: Path
) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown by pytest when the test fails
    rng = random.Random(seed)
    flights = read_flights()
    assert len(flights) == 336_776

    with Admin(server=server.address) as admin:
        admin.create_topic("flights", partitions=PARTITIONS)
    members = Members(tmp_path, server.address, "dashboard")
    try:
        for _ in range(3):
            members.add()
        produce_while_killing(server, members, flights, rng)
        with Admin(server=server.address, connect_timeout=60) as admin:
            wait_until(lambda: lag(admin, "dashboard") == 0, "the group has committed all there is")
        assert members.stop() == [0] * 3
    finally:
        members.kill()

    log = read_all(server)
    assert_log_holds(log, flights)
    assert_group_read(list(members.reads()), log)
    assert_replay_from_a_time(server, log, rng)


def produce_while_killing(server: ServerProcess, members: Members, flights: list[Flight], rng: random.Random) -> None:
    """Send all flights; meanwhile kill the server SERVER_KILLS times and, three times, a member, and add another."""
    kill_at = sorted(rng.sample(range(len(flights)), SERVER_KILLS))
    member_kill_at = {kill_at[4], kill_at[9], kill_at[14]}
    with Producer(server=server.address) as producer:
        position = 0
        for stop_at in kill_at:
            # A stretch is sent and synced within some 50 ms: the kill falls into it.
            killer = threading.Timer(rng.uniform(0, 0.05), restart, [server])
            killer.start()
            send(producer, flights[position:stop_at])
            position = stop_at
            if stop_at in member_kill_at:
                members.kill_one(rng)
                members.add()
            killer.join()
            producer.flush()
        send(producer, flights[position:])
        producer.flush()


def restart(server: ServerProcess) -> None:
    server.kill()
    server.start()


def send(producer: Producer, flights: list[Flight]) -> None:
    for flight in flights:
        producer.send("flights", value=flight.value, key=flight.key, timestamp_ms=flight.timestamp_ms)


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 120) -> None:
    """Ask again and again, since what is waited for happens in other processes."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds} s: {what}"
        time.sleep(0.1)


def joined_count(admin: Admin, group: str) -> int:
    try:
        return len(admin.describe_group(group).members)
    except GroupIdNotFound:
        return 0


def lag(admin: Admin, group: str) -> int:
    return sum(partition.lag_records for partition in admin.describe_group(group).partitions)


def read_all(server: ServerProcess) -> dict[int, list[tuple[int, int, str, str]]]:
    """Every partition as (offset, timestamp_ms, key, value) in the order of the log."""
    log: dict[int, list[tuple[int, int, str, str]]] = defaultdict(list)
    with Consumer("flights", partitions=list(range(PARTITIONS)), stop_at_end=True, server=server.address) as consumer:
        for record in consumer:
            key = (record.key or b"").decode()
            log[record.partition].append((record.offset, record.timestamp_ms, key, record.text()))
    return log


def assert_log_holds(log: dict[int, list[tuple[int, int, str, str]]], flights: list[Flight]) -> None:
    """No flight lost, none twice, offsets without a gap, and per key the order of the file."""
    for partition, records in log.items():
        assert [record[0] for record in records] == list(range(len(records))), f"offsets of partition {partition}"
    sent: dict[str, list[str]] = defaultdict(list)
    for flight in flights:
        sent[flight.key or ""].append(flight.value)
    found: dict[str, list[str]] = defaultdict(list)
    partition_of: dict[str, int] = {}
    for partition, records in sorted(log.items()):
        for _, _, key, value in records:
            found[key].append(value)
            if key:
                assert partition_of.setdefault(key, partition) == partition, f"key {key} in two partitions"
    # Flights without a key may go anywhere, so of them only the set counts.
    assert sorted(found.pop("")) == sorted(sent.pop(""))
    assert found == sent


def assert_group_read(
    reads: list[list[tuple[int, int, int, str, str]]], log: dict[int, list[tuple[int, int, str, str]]]
) -> None:
    """The members together read every record, nothing but the records, and never went back while they held on."""
    expected = {(partition, record[0]): record[1:] for partition, records in log.items() for record in records}
    seen: dict[tuple[int, int], tuple[int, str, str]] = {}
    for member in reads:
        own: set[tuple[int, int]] = set()
        last: dict[int, int] = {}
        for partition, offset, *rest in member:
            assert expected[partition, offset] == tuple(rest)
            seen[partition, offset] = tuple(rest)  # type: ignore[assignment]
            assert offset > last.get(partition, -1) or (partition, offset) in own, "a member read backwards"
            own.add((partition, offset))
            last[partition] = offset
    assert seen.keys() == expected.keys(), f"{len(expected.keys() - seen.keys())} records were never read"


def assert_replay_from_a_time(
    server: ServerProcess, log: dict[int, list[tuple[int, int, str, str]]], rng: random.Random
) -> None:
    """Starting at a time gives, per partition, all from the first record at or after it."""
    at_ms = rng.choice(log[0])[1]
    start = datetime.datetime.fromtimestamp(at_ms / 1000, datetime.UTC)
    replayed: dict[int, list[int]] = defaultdict(list)
    with Consumer(
        "flights", partitions=list(range(PARTITIONS)), start=start, stop_at_end=True, server=server.address
    ) as consumer:
        for record in consumer:
            replayed[record.partition].append(record.offset)
    for partition, records in log.items():
        first = next((record[0] for record in records if record[1] >= at_ms), len(records))
        assert replayed[partition] == list(range(first, len(records)))
