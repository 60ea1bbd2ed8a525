"""The power goes while producers write with acks=1 to a relaxed topic (scorecard row 3).

Records are lost then, and that is said; but only the newest of each partition, one run of them up to its end, and none
that is older than flush.ms and the sync that is due then. What is not records is as durable as ever: a topic that was
made in the last moment is there. When the power goes is up to the seed, what is on its way then is not.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

import grpc.aio

from logserver.config import parse_address
from logwire.v1 import records_pb2, topics_pb2
from tests.faults.runs import Session, Tally
from tests.faults.storage.loop_filesystem import LoopFilesystem
from tests.processes import ServerProcess
from tests.server.wire import Client, batch

TOPIC = "relaxed"
PARTITIONS = 3
FLUSH_MS = 200
#: For the sync that is due after flush.ms to begin and to end, on a machine that has other things to do.
SYNC_SECONDS_MAX = 0.6
VALUE_BYTES_MAX = 2000


class Append(NamedTuple):
    values: list[bytes]
    acknowledged_at: float | None


@dataclass
class Partition:
    """What the log must hold, in order, and what it may hold beyond that."""

    number: int
    kept: list[bytes] = field(default_factory=list)  # seen after a start, which syncs what it shows
    appends: list[Append] = field(default_factory=list)  # since that start


def run(session: Session, tally: Tally) -> None:
    """Cut the power as often as the session has cycles, and judge what is there after each cut."""
    rng = session.rng("cuts")
    partitions = [Partition(number) for number in range(PARTITIONS)]
    topics = {TOPIC}
    with LoopFilesystem(session.directory) as filesystem:
        server = ServerProcess(filesystem.path / "data", log=session.directory / "server.log", patches=session.planted)
        with server:
            asyncio.run(_create(server.address, TOPIC, flush_ms=str(FLUSH_MS), durability="relaxed"))
            for number in range(session.cycles):
                with ThreadPoolExecutor(1) as pool:
                    appending = pool.submit(asyncio.run, _append_until_gone(server.address, partitions, rng.random()))
                    time.sleep(rng.uniform(0.2, 1.5))
                    topics.add(f"made-{number}")
                    asyncio.run(_create(server.address, f"made-{number}"))
                    cut_at = time.monotonic()
                    filesystem.cut_power()
                    server.kill()
                    appending.result()
                filesystem.unmount()
                filesystem.mount(commit_seconds=rng.choice([1, 5, 60]))
                server.start()
                tally.count("cuts")
                for partition in partitions:
                    _judge(partition, asyncio.run(_read_all(server.address, partition.number)), cut_at, tally)
                for topic in sorted(topics - asyncio.run(_list_topics(server.address))):
                    tally.violate(f"topic {topic} is gone")
                    topics.remove(topic)


def _judge(partition: Partition, found: list[bytes], cut_at: float, tally: Tally) -> None:
    written = partition.kept + [value for append in partition.appends for value in append.values]
    where = f"partition {partition.number}"
    if found != written[: len(found)]:
        tally.violate(f"{where} holds {len(found)} records, which are not the first of those sent")
    if len(found) < len(partition.kept):
        tally.violate(f"{where}: of {len(partition.kept)} records that a start had shown {len(found)} are left")
    lost = _acknowledged_beyond(len(found), partition)
    tally.count("lost", sum(len(append.values) for append in lost))
    oldest_seconds = max((cut_at - append.acknowledged_at for append in lost if append.acknowledged_at), default=0.0)
    tally.peak("ms lost", round(oldest_seconds * 1000))
    if oldest_seconds > FLUSH_MS / 1000 + SYNC_SECONDS_MAX:
        tally.violate(f"{where}: records are lost that were {oldest_seconds:.3f} s old")
    tally.count("acknowledged", sum(len(append.values) for append in partition.appends if append.acknowledged_at))
    partition.kept = found
    partition.appends = []


def _acknowledged_beyond(offset: int, partition: Partition) -> list[Append]:
    """What of the appends was acknowledged and does not lie wholly below the offset."""
    beyond = []
    end = len(partition.kept)
    for append in partition.appends:
        end += len(append.values)
        if append.acknowledged_at is not None and end > offset:
            beyond.append(append)
    return beyond


# Over the door.


async def _append_until_gone(address: str, partitions: Sequence[Partition], seed: float) -> None:
    async with _client(address) as client:
        await asyncio.gather(
            *(_append(client, partition, random.Random(f"{seed} {partition.number}")) for partition in partitions)
        )


async def _append(client: Client, partition: Partition, rng: random.Random) -> None:
    """One batch after the other, and the last one without an answer."""
    number = len(partition.kept)
    while True:
        values = [
            b"%d " % (number + i) + rng.randbytes(rng.randrange(VALUE_BYTES_MAX)) for i in range(rng.randint(1, 3))
        ]
        number += len(values)
        partition.appends.append(Append(values, None))
        try:
            [ack] = await client.produce(
                TOPIC, batch(*values), partition=partition.number, acks=records_pb2.ACKS_ONE, timeout=10
            )
        except grpc.aio.AioRpcError:
            return
        if ack.HasField("error"):
            return
        partition.appends[-1] = Append(values, time.monotonic())


async def _read_all(address: str, partition: int) -> list[bytes]:
    values: list[bytes] = []
    async with _client(address) as client:
        while True:
            data = await client.fetch(TOPIC, len(values), partition=partition, decode=True)
            assert not data.HasField("error"), data.error
            assert [record.offset for record in data.records] == list(range(len(values), data.next_offset))
            values += [record.value for record in data.records]
            if data.next_offset == data.high_watermark:
                return values


async def _create(address: str, topic: str, **config: str) -> None:
    async with _client(address) as client:
        await client.create(topic, PARTITIONS, **config)


async def _list_topics(address: str) -> set[str]:
    async with _client(address) as client:
        listed = await client.topics.ListTopics(topics_pb2.ListTopicsRequest())
        return {topic.topic for topic in listed.topics}


@asynccontextmanager
async def _client(address: str) -> AsyncIterator[Client]:
    client = Client(parse_address(address))
    try:
        yield client
    finally:
        await client.channel.close()
