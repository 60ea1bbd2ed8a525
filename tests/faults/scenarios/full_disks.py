"""The disk fills to the last byte under load and is freed again, over and over (scorecard row 6).

While it is full producers are told so, by an error that says that they may try again, or wait; everything that was
written can be read; what concerns no records, and a stop, go on. Once there is room writing goes on by itself. When
exactly the disk is full is up to the seed, what is on its way then is not.
"""

import asyncio
import os
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import grpc.aio

from logserver.config import parse_address
from logwire.v1 import errors_pb2, groups_pb2, records_pb2
from tests.faults.checker import check
from tests.faults.clients.workload import Workload, drain
from tests.faults.history import History
from tests.faults.runs import Session, Tally
from tests.faults.storage.loop_filesystem import LoopFilesystem, unmount
from tests.processes import SHORT_SESSIONS, NotStarted, ServerProcess
from tests.server.wire import Client, batch, code, error_of

SIZE_BYTES = 192 << 20
#: What is reserved already takes some megabytes more.
FULL_SECONDS_MAX = 20.0
RESUME_SECONDS_MAX = 10.0
PROBE = "probe"
PROBE_BYTES = 256 << 10
READER = 50


def run(session: Session, tally: Tally) -> None:
    """Fill and free an ext4, then a tmpfs, together as often as the session has cycles, and judge both."""
    for name, cycles in (("ext4", session.cycles - session.cycles // 2), ("tmpfs", session.cycles // 2)):
        if cycles:
            directory = session.directory / name
            directory.mkdir()
            with _mounted(name, directory) as mount:
                _fill_and_free(session, directory, mount, cycles, tally)


def _fill_and_free(session: Session, directory: Path, mount: Path, cycles: int, tally: Tally) -> None:
    rng = session.rng(directory.name)
    history = History(directory / "history.jsonl")
    server = ServerProcess(mount / "data", *SHORT_SESSIONS, log=directory / "server.log", patches=session.planted)
    with server:
        workload = Workload(server.address, history, session.seed)
        workload.start()
        asyncio.run(_Probe(server.address).create())
        for number in range(cycles):
            time.sleep(rng.uniform(0.1, 0.5))
            pid = server.pid
            with _full(mount):
                asyncio.run(_Probe(server.address).wait_until_full())
                tally.count("fills")
                asyncio.run(_Probe(server.address).change_metadata(f"made-{number}", tally))
                drain(server.address, workload.topic, history, process=READER)
                is_stopped = number % 2 == 1
                if is_stopped:
                    _stop_and_start(server, tally)
            freed = time.monotonic()
            if not server.is_running:
                server.start()
            asyncio.run(_Probe(server.address).wait_until_resumed())
            tally.peak("ms until writing went on", round((time.monotonic() - freed) * 1000))
            assert is_stopped or server.pid == pid
            workload.check()
        workload.stop()
    history.close()
    tally.judge(check(history.operations))


def _stop_and_start(server: ServerProcess, tally: Tally) -> None:
    """Stop the server while there is no room, and start it again if it can."""
    status = server.stop()
    tally.count("stops without room")
    if status != 0:
        tally.violate(f"stopped on a full disk the server ended with status {status}")
    try:
        server.start()
    except NotStarted as error:
        if error.status != 1 or "no room" not in error.log:
            raise
        tally.count("starts refused for want of room")


class _Probe:
    """One producer that looks at what it is answered. Its batches ask for room that nobody has set aside."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def create(self) -> None:
        async with self._client() as client:
            await client.create(PROBE)

    async def wait_until_full(self) -> None:
        """Append until there is no room. AssertionError for any other answer than that, and when it does not come."""
        async with self._client() as client, asyncio.timeout(FULL_SECONDS_MAX):
            while (error := await self._append(client)) is None:
                pass
            assert code(error) == "STORAGE_FULL", error
            assert error.retriable, error

    async def change_metadata(self, topic: str, tally: Tally) -> None:
        """What concerns no records goes on, or is refused like them."""
        commit = groups_pb2.CommitOffsetsRequest(
            group=PROBE,
            member_epoch=-1,
            offsets=[groups_pb2.CommittedOffset(topic=PROBE, partition=0, offset=1)],
        )
        async with self._client() as client:
            for what, change in (
                ("topics", client.create(topic)),
                ("producer ids", client.producing.InitProducer(records_pb2.InitProducerRequest())),
                ("commits", client.groups.CommitOffsets(commit)),
            ):
                try:
                    answer = await change
                except grpc.aio.AioRpcError as failed:
                    errors = [error_of(failed)]
                else:
                    errors = [row.error for row in getattr(answer, "offsets", ()) if row.HasField("error")]
                assert all(code(error) == "STORAGE_FULL" and error.retriable for error in errors), errors
                tally.count(f"{what} {'refused' if errors else 'given'} without room")

    async def wait_until_resumed(self) -> None:
        async with self._client() as client, asyncio.timeout(RESUME_SECONDS_MAX):
            while (error := await self._append(client)) is not None:
                assert code(error) == "STORAGE_FULL", error
                await asyncio.sleep(0.05)

    async def _append(self, client: Client) -> errors_pb2.Error | None:
        [ack] = await client.produce(PROBE, batch(b"x" * PROBE_BYTES))
        return ack.error if ack.HasField("error") else None

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Client]:
        client = Client(parse_address(self._address))
        try:
            yield client
        finally:
            await client.channel.close()


@contextmanager
def _mounted(name: str, directory: Path) -> Iterator[Path]:
    if name == "ext4":
        with LoopFilesystem(directory, size_bytes=SIZE_BYTES) as filesystem:
            yield filesystem.path
        return
    mount = directory / "mount"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES}", "tmpfs", str(mount)], check=True)
    try:
        yield mount
    finally:
        unmount(mount)


@contextmanager
def _full(mount: Path) -> Iterator[None]:
    """Take all the room there is, and give it back at the end."""
    ballast = mount / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size = 0
        for step in (16 << 20, 1 << 20, 64 << 10, 4 << 10):
            try:
                while True:
                    os.posix_fallocate(file.fileno(), size, step)
                    size += step
            except OSError:
                continue
    try:
        yield
    finally:
        ballast.unlink()
