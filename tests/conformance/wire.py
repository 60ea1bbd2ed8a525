"""Kafka requests by hand: any request in any version and in any order, over a plain socket, with kio's schemas.

    with Connection(broker.address) as connection:
        answer = connection.ask("list_offsets", 7, topics=[{"name": topic, "partitions": [{"timestamp": -1}]}])

A request is said in dicts and lists. What is left out is the schema's default, or else what is empty: 0, "", null.
"""

import dataclasses
import datetime
import io
import socket
import struct
import types
import typing
from collections import deque
from collections.abc import Mapping
from functools import cache
from types import TracebackType
from typing import Any, Self

from kio.index import load_request_schema, load_response_schema
from kio.schema.index import api_key_map
from kio.serial import entity_reader, entity_writer

#: Of one answer. A wait that a test asks for is shorter.
ANSWER_SECONDS_MAX = 30


class Connection:
    """One connection to a broker. Requests may be sent ahead; answers come in the order of the requests."""

    def __init__(self, address: str, client_id: str = "conformance") -> None:
        host, _, port = address.rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS_MAX)
        self._client_id = client_id
        self._correlation_id = 0
        #: Of the answers to come: correlation id, request name, version.
        self._unanswered: deque[tuple[int, str, int]] = deque()

    def ask(self, name: str, version: int, **values: Any) -> Any:
        """Send a request and return its answer."""
        assert not self._unanswered, "an earlier answer is not read yet"
        self.send(name, version, **values)
        return self.receive()

    def send(self, name: str, version: int, *, answered: bool = True, **values: Any) -> None:
        """Send a request: `name` is the schema's, such as list_offsets."""
        request = build(request_schema(name, version), values)
        self._correlation_id += 1
        header = {
            "request_api_key": request.__api_key__,
            "request_api_version": version,
            "correlation_id": self._correlation_id,
            "client_id": self._client_id,
        }
        self.send_bytes(encode(build(request.__header_schema__, header)) + encode(request))
        if answered:
            self._unanswered.append((self._correlation_id, name, version))

    def send_bytes(self, request: bytes) -> None:
        """Send a request as it is, with its length before it."""
        self.send_raw(struct.pack(">i", len(request)) + request)

    def send_raw(self, sent: bytes) -> None:
        self._socket.sendall(sent)

    def receive(self) -> Any:
        """The answer to the oldest request that has none yet."""
        correlation_id, name, version = self._unanswered.popleft()
        schema = _response_schema(name, version)
        answer = self.receive_bytes()
        header, header_size = entity_reader(schema.__header_schema__)(answer, 0)
        assert header.correlation_id == correlation_id, "answers come in the order of the requests"
        decoded, size = entity_reader(schema)(answer, header_size)
        assert header_size + size == len(answer), "an answer ends where its schema does"
        return decoded

    def receive_bytes(self) -> bytes:
        """The next answer as it is, without its length. Raises ConnectionError when the broker hangs up."""
        (length,) = struct.unpack(">i", self._receive_exactly(4))
        return self._receive_exactly(length)

    def _receive_exactly(self, count: int) -> bytes:
        received = bytearray()
        while len(received) < count:
            chunk = self._socket.recv(count - len(received))
            if not chunk:
                raise ConnectionError(f"the broker hung up after {len(received)} of {count} bytes")
            received += chunk
        return bytes(received)

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def build(schema: Any, values: Mapping[str, Any]) -> Any:
    """An entity of the schema, from dicts and lists."""
    fields = {each.name: each for each in dataclasses.fields(schema)}
    unknown = values.keys() - fields.keys()
    assert not unknown, f"{schema.__name__} v{schema.__version__} has no {unknown}; it has {list(fields)}"
    hints = _hints(schema)
    given = {name: _value(hints[name], value) for name, value in values.items()}
    empty = {
        name: _empty(hints[name])
        for name, each in fields.items()
        if name not in given and each.default is dataclasses.MISSING and each.default_factory is dataclasses.MISSING
    }
    return schema(**given, **empty)


def encode(entity: Any) -> bytes:
    buffer = io.BytesIO()
    entity_writer(type(entity))(buffer, entity)
    return buffer.getvalue()


@cache
def request_schema(name: str, version: int) -> Any:
    return load_request_schema(_api_key(name), version)


@cache
def _response_schema(name: str, version: int) -> Any:
    return load_response_schema(_api_key(name), version)


@cache
def _api_key(name: str) -> int:
    return next(key for key, each in api_key_map.items() if each == name)


@cache
def _hints(schema: Any) -> dict[str, Any]:
    return typing.get_type_hints(schema)


def _value(hint: Any, value: Any) -> Any:
    """The value as the schema wants it: nested entities for dicts, tuples for lists, durations for milliseconds."""
    hint = _without_none(hint)
    if value is None:
        return None
    if isinstance(value, Mapping):
        return build(hint, value)
    if typing.get_origin(hint) is tuple:
        return tuple(_value(typing.get_args(hint)[0], each) for each in value)
    if isinstance(value, int) and "Timedelta" in getattr(hint, "__name__", ""):
        return datetime.timedelta(milliseconds=value)
    return value


def _empty(hint: Any) -> Any:
    if hint != _without_none(hint):
        return None
    if typing.get_origin(hint) is tuple:
        return ()
    if "Timedelta" in getattr(hint, "__name__", ""):
        return datetime.timedelta()
    if dataclasses.is_dataclass(hint):
        return build(hint, {})
    for kind, value in ((bool, False), (str, ""), (bytes, b""), (int, 0)):
        if hint is kind or kind in getattr(hint, "__mro__", ()):
            return value
    base = getattr(hint, "__supertype__", None)
    return _empty(base) if base is not None else 0


def _without_none(hint: Any) -> Any:
    """X of `X | None`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(each for each in typing.get_args(hint) if each is not types.NoneType)
    return hint
