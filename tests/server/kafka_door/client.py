"""A client of the Kafka door made of kio's schemas: what a test wants to send, byte for byte."""

import asyncio
from contextlib import suppress
from io import BytesIO
from struct import Struct
from typing import Any

from kio.index import load_request_schema, load_response_schema
from kio.serial import entity_reader, entity_writer

from logserver.config import Address
from logserver.kafka.apis import API_VERSIONS, ApiKey
from logserver.kafka.messages import build

_HEAD = Struct(">hhi")
_SIZE = Struct(">i")


def request_header(api_key: ApiKey, version: int, correlation_id: int = 1) -> bytes:
    """What stands before the body of a request."""
    tags = b"\0" if load_request_schema(api_key, version).__flexible__ else b""
    return _HEAD.pack(api_key, version, correlation_id) + b"\0\4test" + tags


def framed(api_key: ApiKey, version: int | None = None, correlation_id: int = 1, **fields: Any) -> bytes:
    """A request as it goes over the wire."""
    version = API_VERSIONS[api_key][-1] if version is None else version
    schema: Any = load_request_schema(api_key, version)
    body = BytesIO()
    body.write(request_header(api_key, version, correlation_id))
    entity_writer(schema)(body, build(schema, fields))
    return _SIZE.pack(len(body.getvalue())) + body.getvalue()


def read_answer(frame: bytes, schema: Any, correlation_id: int = 1) -> Any:
    """frame: without its size."""
    assert _SIZE.unpack_from(frame)[0] == correlation_id
    at = 4 + int(schema.__header_schema__.__flexible__)
    entity, size = entity_reader(schema)(frame, at)
    assert at + size == len(frame), "bytes follow the answer"
    return entity


#: Of ApiVersions, what nobody here looks at.
SOFTWARE: dict[str, Any] = {"client_software_name": "test", "client_software_version": "1"}
#: Of Metadata, what nobody here looks at.
UNASKED = {"include_cluster_authorized_operations": False, "include_topic_authorized_operations": False}


class KafkaClient:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._correlation_id = 0

    @classmethod
    async def connect(cls, address: Address | None) -> "KafkaClient":
        assert address is not None
        return cls(*await asyncio.open_connection(address.host, address.port))

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()

    async def call(self, api_key: ApiKey, version: int | None = None, **fields: Any) -> Any:
        return await self.answer(await self.send(api_key, version, **fields))

    async def make(self, topic: str) -> None:
        """As Kafka's clients do before they produce to it."""
        asked = {"topics": [{"topic_id": None, "name": topic}], "allow_auto_topic_creation": True}
        await self.call(ApiKey.METADATA, 8, **asked, **UNASKED)

    async def send(self, api_key: ApiKey, version: int | None = None, **fields: Any) -> tuple[Any, int]:
        """What `answer` needs to read the answer, the newest version without one."""
        version = API_VERSIONS[api_key][-1] if version is None else version
        self._correlation_id += 1
        await self.send_raw(framed(api_key, version, self._correlation_id, **fields))
        return load_response_schema(api_key, version), self._correlation_id

    async def send_bytes(self, frame: bytes) -> None:
        self._writer.write(_SIZE.pack(len(frame)) + frame)
        await self._writer.drain()

    async def send_raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self, expected: tuple[Any, int]) -> Any:
        return read_answer(await self.frame(), *expected)

    async def frame(self) -> bytes:
        (size,) = _SIZE.unpack(await self._reader.readexactly(4))
        return await self._reader.readexactly(size)

    async def is_closed(self) -> bool:
        """Read on until the server has closed; False if it answers instead."""
        try:
            return await self._reader.read(1) == b""
        except ConnectionResetError:
            return True
