"""Does the gRPC door cost more than gRPC itself?

The same client sends, or reads, ready batches of 64 KiB through the same messages against `logserver` and against a
bare handler (bench/bare_server.py), in turn. Both are processes of their own; the client shares the two cores with
them, so what a rate says of the server depends on what else runs. The processor time that the server takes for a
message does so less.
"""

import sys
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import grpc
import uvloop

from bench.pairs import Comparison, take_turns
from bench.payload import ready_batch
from bench.process import cpu_seconds
from bench.storage import prime
from logwire.v1 import records_pb2, records_pb2_grpc, topics_pb2, topics_pb2_grpc
from tests.processes import Program, ServerProcess

TOPIC = "bench"
BATCH_BYTES = 64 << 10
#: One burst stays below the server's cap on unsynced bytes, so that the door is measured and not the disk.
BURST_BYTES = 32 << 20
BURSTS = 8
IN_FLIGHT = 32
CREDIT_BYTES = 8 << 20
READ_BYTES = 512 << 20

OPTIONS = [
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
    # A channel of its own for every turn: no connection is shared with the one before.
    ("grpc.use_local_subchannel_pool", 1),
]


async def produce_rate(address: str, topic: str, acks: records_pb2.Acks.ValueType, drain: bool) -> float:
    """MB/s of BURSTS bursts through one stream; with `drain`, a produce with acks=all between bursts, not counted."""
    batch = ready_batch(BATCH_BYTES)
    part = records_pb2.PartitionRecords(topic=topic, partition=0, batch=batch)
    seconds = 0.0
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        call = records_pb2_grpc.ProduceServiceStub(channel).ProduceStream()
        for _ in range(BURSTS):
            started = time.perf_counter()
            waiting = 0
            for number in range(BURST_BYTES // BATCH_BYTES):
                request = records_pb2.ProduceStreamRequest(
                    request_id=number, acks=acks, partitions=[part], reads_others=True
                )
                await call.write(request)
                waiting += 1
                while waiting >= IN_FLIGHT:
                    waiting -= answered(await call.read())
            while waiting:
                waiting -= answered(await call.read())
            seconds += time.perf_counter() - started
            if drain:
                await call.write(
                    records_pb2.ProduceStreamRequest(request_id=0, acks=records_pb2.ACKS_ALL, partitions=[part])
                )
                answered(await call.read())
        await call.done_writing()
    return BURSTS * BURST_BYTES / seconds / 1e6


def answered(response: object) -> int:
    """How many requests are answered."""
    if not isinstance(response, records_pb2.ProduceStreamResponse):
        raise RuntimeError(f"the stream ended: {response!r}")
    answers = [response, *response.others]
    for answer in answers:
        for ack in answer.acks:
            if ack.HasField("error"):
                raise RuntimeError(f"the server refused a batch: {ack.error.message}")
    return len(answers)


def messages_per_cpu_second(pid: int, produce: Callable[[], object]) -> float:
    """How many of the messages that `produce` sends the server handles in a second of its processor time."""
    before = cpu_seconds(pid)
    produce()
    return BURSTS * BURST_BYTES / BATCH_BYTES / (cpu_seconds(pid) - before)


async def fetch_rate(address: str) -> float:
    """MB/s of READ_BYTES read through one stream from offset 0."""
    position = records_pb2.FetchPosition(topic=TOPIC, partition=0, offset=0, position_id=1)
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        call = records_pb2_grpc.FetchServiceStub(channel).FetchStream()
        started = time.perf_counter()
        await call.write(records_pb2.FetchStreamRequest(set=[position], credit_bytes=CREDIT_BYTES))
        read = 0
        async for response in responses(call):
            taken = sum(len(part.batches) for part in response.partitions)
            read += taken
            if read >= READ_BYTES:
                break
            await call.write(records_pb2.FetchStreamRequest(credit_bytes=taken))
        seconds = time.perf_counter() - started
        call.cancel()
    return read / seconds / 1e6


async def responses(
    call: "grpc.aio.StreamStreamCall[records_pb2.FetchStreamRequest, records_pb2.FetchStreamResponse]",
) -> AsyncIterator[records_pb2.FetchStreamResponse]:
    while isinstance(response := await call.read(), records_pb2.FetchStreamResponse):
        yield response


async def fill(address: str) -> None:
    """What is read: a topic of READ_BYTES and more."""
    await create(address, TOPIC)
    for _ in range(READ_BYTES // (BURSTS * BURST_BYTES) + 1):
        await produce_rate(address, TOPIC, records_pb2.ACKS_ALL, drain=False)


async def create(address: str, topic: str) -> None:
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        await topics_pb2_grpc.TopicServiceStub(channel).CreateTopic(
            topics_pb2.CreateTopicRequest(topic=topic, partitions=1)
        )


async def delete(address: str, topic: str) -> None:
    async with grpc.aio.insecure_channel(address, options=OPTIONS) as channel:
        await topics_pb2_grpc.TopicServiceStub(channel).DeleteTopic(topics_pb2.DeleteTopicRequest(topic=topic))


async def produce_to_fresh_topic(address: str, acks: records_pb2.Acks.ValueType, drain: bool) -> float:
    """Deleted afterwards, so that the next turn writes to blocks that the disk has seen."""
    await create(address, "fresh")
    try:
        return await produce_rate(address, "fresh", acks, drain)
    finally:
        await delete(address, "fresh")


def run(directory: Path, turns: int) -> list[Comparison]:
    against = "bare grpc.aio handler"
    with (
        ServerProcess(directory / "wire") as server,
        Program([sys.executable, "-m", "bench.bare_server"], log=directory / "bare.log") as bare,
    ):
        bare_address = bare.ready()
        prime(directory)
        uvloop.run(fill(server.address))

        def produce_ours() -> float:
            return uvloop.run(produce_to_fresh_topic(server.address, records_pb2.ACKS_ONE, drain=True))

        def produce_bare() -> float:
            return uvloop.run(produce_rate(bare_address, TOPIC, records_pb2.ACKS_ONE, drain=False))

        one_ours, one_bare = take_turns(produce_ours, produce_bare, turns=turns)
        cpu_ours, cpu_bare = take_turns(
            partial(messages_per_cpu_second, server.pid, produce_ours),
            partial(messages_per_cpu_second, bare.pid, produce_bare),
            turns=turns,
        )
        all_ours, all_bare = take_turns(
            lambda: uvloop.run(produce_to_fresh_topic(server.address, records_pb2.ACKS_ALL, drain=False)),
            lambda: uvloop.run(produce_rate(bare_address, TOPIC, records_pb2.ACKS_ALL, drain=False)),
            turns=turns,
        )
        fetch_ours, fetch_bare = take_turns(
            lambda: uvloop.run(fetch_rate(server.address)),
            lambda: uvloop.run(fetch_rate(bare_address)),
            turns=turns,
        )
    return [
        Comparison("produce 64 KiB, acks=1", "MB/s", one_ours, one_bare, against, target=0.75),
        Comparison("produce 64 KiB, acks=1", "messages/s of server CPU", cpu_ours, cpu_bare, against, target=0.75),
        Comparison("produce 64 KiB, acks=all (synced)", "MB/s", all_ours, all_bare, against),
        Comparison("fetch 64 KiB batches", "MB/s", fetch_ours, fetch_bare, against, target=0.75),
    ]
