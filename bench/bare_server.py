"""The most that grpc.aio gives in Python: handlers of the real services' messages that drop what they get and repeat
ready bytes. `python -m bench.bare_server` prints its port and serves until it is ended."""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator

import grpc
import uvloop

from bench.payload import FETCH_ANSWER_BYTES, ready_batch
from logwire.v1 import records_pb2

OPTIONS = [
    ("grpc.so_reuseport", 0),
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
]


async def drop(
    requests: AsyncIterator[records_pb2.ProduceStreamRequest], context: object
) -> AsyncIterator[records_pb2.ProduceStreamResponse]:
    """Answers every batch as if it were written."""
    async for request in requests:
        part = request.partitions[0]
        ack = records_pb2.PartitionAck(topic=part.topic, partition=part.partition, base_offset=1)
        yield records_pb2.ProduceStreamResponse(request_id=request.request_id, acks=[ack])


async def repeat(
    requests: AsyncIterator[records_pb2.FetchStreamRequest], context: object
) -> AsyncIterator[records_pb2.FetchStreamResponse]:
    """Sends the same bytes again and again, within the credit that the client grants."""
    batch = ready_batch(64 << 10)
    batches = batch * (FETCH_ANSWER_BYTES // len(batch))
    credit = 0
    granted = asyncio.Event()

    async def take_credit() -> None:
        nonlocal credit
        async for request in requests:
            credit += request.credit_bytes
            granted.set()

    taker = asyncio.create_task(take_credit())
    try:
        while True:
            while credit <= 0:
                granted.clear()
                await granted.wait()
            credit -= len(batches)
            data = records_pb2.PartitionData(topic="bench", partition=0, batches=batches, next_offset=1)
            yield records_pb2.FetchStreamResponse(partitions=[data])
    finally:
        taker.cancel()


def handlers() -> list[grpc.GenericRpcHandler]:
    produce = grpc.stream_stream_rpc_method_handler(
        drop,
        request_deserializer=records_pb2.ProduceStreamRequest.FromString,
        response_serializer=records_pb2.ProduceStreamResponse.SerializeToString,
    )
    fetch = grpc.stream_stream_rpc_method_handler(
        repeat,
        request_deserializer=records_pb2.FetchStreamRequest.FromString,
        response_serializer=records_pb2.FetchStreamResponse.SerializeToString,
    )
    return [
        grpc.method_handlers_generic_handler("logwire.v1.ProduceService", {"ProduceStream": produce}),
        grpc.method_handlers_generic_handler("logwire.v1.FetchService", {"FetchStream": fetch}),
    ]


async def serve() -> None:
    server = grpc.aio.server(options=OPTIONS)
    server.add_generic_rpc_handlers(handlers())
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"bare server ready: grpc=127.0.0.1:{port}\n")
    sys.stdout.flush()
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    await stopped.wait()
    await server.stop(grace=1)


if __name__ == "__main__":
    uvloop.run(serve())
