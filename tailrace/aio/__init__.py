"""The clients of `tailrace` for asyncio. They work on the same thread in the background, so an event loop that is busy
with something else neither delays acknowledgements nor misses a heartbeat.

    async with Producer() as producer:
        metadata = await producer.send("flights", value="...", key="N14228")

    async with Consumer("flights", group="dashboard") as consumer:
        async for record in consumer:
            print(record.key, record.text())
"""

from tailrace.aio.admin import Admin
from tailrace.aio.consumer import Consumer
from tailrace.aio.producer import Producer, SendFuture

__all__ = ["Admin", "Consumer", "Producer", "SendFuture"]
