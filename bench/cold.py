"""What does the replay of a cold log do to everybody else, and how soon is a server with so much ready after kill -9?

A log of 10 GiB is read from its beginning by one process, while another asks for the server's health every 5 ms. The
answer takes as long as the event loop keeps it waiting. The same is done with nobody reading, and with a log that is in
the page cache: what is worse on a cold one is what the disk costs those who do not read from it.
"""

import asyncio
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bench.pairs import Rate
from bench.payload import ready_batch
from bench.storage import Engine
from tests.processes import ENVIRONMENT, ServerProcess

LOG_BYTES = 10 << 30
#: Read again while it is warm: what fits into memory beside everything else.
WARM_BYTES = 2 << 30
BATCH_BYTES = 1 << 20
PROBE_SECONDS = 0.005
IDLE_SECONDS = 5.0
TURNS_MAX = 3
REPLAY = """
import asyncio, sys
from bench.cold import replay
asyncio.run(replay(sys.argv[1], int(sys.argv[2])))
"""


async def replay(address: str, bytes_max: int) -> None:
    """Read so much of the log from its beginning on, in the other process."""
    from bench.wire import CREDIT_BYTES, OPTIONS, responses
    from logwire.v1 import records_pb2, records_pb2_grpc

    position = records_pb2.FetchPosition(topic="bench", partition=0, offset=0, position_id=1)
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        call = records_pb2_grpc.FetchServiceStub(channel).FetchStream()
        await call.write(records_pb2.FetchStreamRequest(set=[position], credit_bytes=CREDIT_BYTES))
        read = 0
        async for response in responses(call):
            taken = sum(len(part.batches) for part in response.partitions)
            read += taken
            if read >= bytes_max:
                return
            await call.write(records_pb2.FetchStreamRequest(credit_bytes=taken))


async def probe(address: str, goes_on: Callable[[], bool]) -> list[float]:
    """How long each answer took, in ms."""
    delays: list[float] = []
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        while goes_on():
            started = time.perf_counter()
            await stub.Check(health_pb2.HealthCheckRequest())
            delays.append((time.perf_counter() - started) * 1000)
            await asyncio.sleep(PROBE_SECONDS)
    return delays


def is_before(until: float) -> bool:
    return time.perf_counter() < until


def delays_beside_replay(address: str, bytes_max: int) -> tuple[list[float], float]:
    """The delays of the probe, and the MB/s of the replay beside it."""
    started = time.perf_counter()
    command = [sys.executable, "-c", REPLAY, address, str(bytes_max)]
    with subprocess.Popen(command, env=ENVIRONMENT) as reader:
        delays = asyncio.run(probe(address, lambda: reader.poll() is None))
    assert reader.returncode == 0
    return delays, bytes_max / (time.perf_counter() - started) / 1e6


def drop_from_cache(directory: Path) -> None:
    for path in directory.rglob("*.log"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def fill(directory: Path) -> None:
    engine = Engine(directory, 1)
    batch = ready_batch(BATCH_BYTES)
    [log] = engine.logs
    for _ in range(LOG_BYTES // (32 * BATCH_BYTES)):
        for _ in range(32):
            log.append(batch, engine.clock.wall_ms())
        engine.wait_until_synced([log])
    engine.store.close()


def run(directory: Path, turns: int) -> list[Rate]:
    data = directory / "cold"
    fill(data)
    server = ServerProcess(data)
    rows: dict[tuple[str, str], list[float]] = {}
    for _ in range(min(turns, TURNS_MAX)):
        server.start()
        idle = asyncio.run(probe(server.address, partial(is_before, time.perf_counter() + IDLE_SECONDS)))
        delays_beside_replay(server.address, WARM_BYTES)
        warm, warm_rate = delays_beside_replay(server.address, WARM_BYTES)
        drop_from_cache(data)
        cold, cold_rate = delays_beside_replay(server.address, LOG_BYTES)
        for name, delays in (("nobody reads", idle), ("a warm log is replayed", warm), ("a cold one is", cold)):
            rows.setdefault((f"answer while {name}, median", "ms"), []).append(statistics.median(delays))
            rows.setdefault((f"answer while {name}, p99", "ms"), []).append(statistics.quantiles(delays, n=100)[98])
            rows.setdefault((f"answer while {name}, worst", "ms"), []).append(max(delays))
        rows.setdefault(("replay, warm", "MB/s"), []).append(warm_rate)
        rows.setdefault(("replay, cold", "MB/s"), []).append(cold_rate)
        server.kill()
        started = time.perf_counter()
        server.start()
        rows.setdefault(("start to ready after kill -9, 10 GiB", "s"), []).append(time.perf_counter() - started)
        server.stop()
    bounds = {"start to ready after kill -9, 10 GiB": 5.0}
    return [Rate(name, unit, values, at_most=bounds.get(name)) for (name, unit), values in rows.items()]
