"""Requests and answers by kio's schemas, of whatever version the client speaks.

A handler is written once, against the newest version: it reads fields that an older request does not have by `get`, and
returns its answer as plain mappings and sequences, of which `encode_response` writes the fields that the version has.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from datetime import timedelta
from functools import cache
from io import BytesIO
from struct import Struct
from typing import Any, NamedTuple, TypeVar
from uuid import UUID

from kio.index import load_request_schema, load_response_schema
from kio.schema.errors import ErrorCode
from kio.serial import entity_reader, entity_writer
from kio.serial.errors import SerialError

from logserver.errors import RequestTooLarge
from logserver.kafka.apis import API_VERSIONS
from logserver.kafka.kio_types import item_type, without_none
from logserver.kafka.making import SharedSlice, current
from logserver.kafka.primitives import NO_UUID, Reader, malformed
from logserver.kafka.walk import walk
from logserver.time_slice import TimeSlice
from logstore.clock import Clock

_HEAD = Struct(">hhi")
_ANSWER_HEAD = Struct(">ii")

Fields = Mapping[str, Any]
Answer = TypeVar("Answer")

#: Of all arrays of a request together: twenty thousand partitions. To read so many takes a fifth of a second.
ITEMS_MAX = 20_000

#: A request of a few bytes may ask for all that there is to say of a topic, again and again.
ANSWER_BYTES_MAX = 100 << 20

#: Of an answer that does not say otherwise: nobody is throttled, and the request as a whole is not refused.
_USUAL: Fields = {"throttle_time": 0, "error_code": ErrorCode.none}


class RequestHeader(NamedTuple):
    api_key: int
    version: int
    correlation_id: int
    client_id: str
    #: Where the body begins in the frame.
    body_at: int
    #: Whether lengths are compact, and tagged fields follow every structure (KIP-482).
    flexible: bool


def read_header(frame: memoryview) -> RequestHeader:
    """Raises Malformed. Of a version that we do not know only the first three fields are sure."""
    if len(frame) < _HEAD.size:
        raise malformed(f"a request has {len(frame)} bytes")
    api_key, version, correlation_id = _HEAD.unpack_from(frame)
    reader = Reader(frame, _HEAD.size)
    client_id = reader.classic_nullable_string() or ""
    reader.flexible = _is_flexible(api_key, version)
    reader.tags()
    return RequestHeader(api_key, version, correlation_id, client_id, reader.position, reader.flexible)


@cache
def _is_flexible(api_key: int, version: int) -> bool:
    """False for versions that we do not speak."""
    if version not in API_VERSIONS.get(api_key, ()):
        return False
    return bool(load_request_schema(api_key, version).__flexible__)


class ReadRequest(NamedTuple):
    #: kio's entity of its version.
    body: Any
    #: Of all its arrays together.
    items: int


def read_body(header: RequestHeader, frame: bytes | memoryview, *, items_max: int = ITEMS_MAX) -> ReadRequest:
    """Raises Malformed."""
    schema, read = _schema(header.api_key, header.version)
    walked = walk(schema, bytes(frame), header.body_at, items_max=items_max)
    try:
        body, _ = read(walked.frame, header.body_at)
    except (SerialError, ValueError, OverflowError) as error:
        raise malformed(f"api {header.api_key} version {header.version}: {error}") from error
    return ReadRequest(body, walked.items)


def get(entity: Any, name: str, default: Any) -> Any:
    """A field that older versions do not have."""
    return getattr(entity, name, default)


def by_topic(answers: Iterable[tuple[str | bytes, Answer]]) -> dict[str | bytes, list[Answer]]:
    """Each with what it is of: a topic's name, or its id where the version names it by that."""
    topics: dict[str | bytes, list[Answer]] = {}
    for topic, answer in answers:
        topics.setdefault(topic, []).append(answer)
    return topics


def milliseconds(delta: timedelta) -> int:
    return round(delta.total_seconds() * 1000)


def encode_response(api_key: int, version: int, correlation_id: int, answer: Fields) -> bytes:
    """The whole frame."""
    schema = load_response_schema(api_key, version)
    body = BytesIO()
    body.write(bytes(_ANSWER_HEAD.size))
    if schema.__header_schema__.__flexible__:
        body.write(b"\0")  # no tagged fields
    _write(body, schema, {**_USUAL, **answer})
    frame = body.getbuffer()
    _ANSWER_HEAD.pack_into(frame, 0, len(frame) - 4, correlation_id)
    return bytes(frame)


def build(schema: Any, values: Fields) -> Any:
    """kio's entity of these values. Those that the version does not know are left out, and what is not given has the
    protocol's default, if there is one."""
    slots: tuple[_Slot, ...] = _slots(schema)
    return schema(**{slot.name: slot.convert(values[slot.name]) for slot in slots if slot.name in values})


class Items:
    """An array of an answer that may be long. Its items are encoded one by one as the handler comes to them, and in
    between others run: a thousand topics with all their settings take seconds.

    Put it into the answer in the place of the sequence.
    """

    def __init__(self, schema: Any, name: str, time_slice: TimeSlice) -> None:
        """name: of the field of the schema that it will be the value of."""
        self._schema = item_type(next(field.type for field in fields(schema) if field.name == name))
        self._time_slice = time_slice
        self._encoded = BytesIO()
        self._count = 0
        #: What is being written when the items are asked for.
        self.into = BytesIO()

    @classmethod
    def of_answer(cls, request: Any, name: str, clock: Clock) -> "Items":
        return cls(load_response_schema(request.__api_key__, request.__version__), name, SharedSlice(clock))

    def within(self, name: str) -> "Items":
        """An array in the next item."""
        return Items(self._schema, name, self._time_slice)

    async def add(self, values: Fields) -> None:
        """Raises RequestTooLarge, and Overloaded when others need the memory."""
        await self._time_slice.give_way()
        # What is within it was counted there.
        counted_bytes = self.size_bytes + sum(each.size_bytes for each in values.values() if isinstance(each, Items))
        _write(self._encoded, self._schema, values)
        self._count += 1
        made = current()
        if made is not None:
            made.grow(self.size_bytes - counted_bytes)
        if self.size_bytes > ANSWER_BYTES_MAX:
            raise RequestTooLarge(
                f"the answer would have more than {ANSWER_BYTES_MAX} bytes", remedy="Ask for less at a time."
            )

    @property
    def size_bytes(self) -> int:
        return self._encoded.tell()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Any]:
        """kio has written the length, and comes for the items: it finds that they are there already."""
        self.into.write(self._encoded.getbuffer())
        return iter(())


def _write(into: BytesIO, schema: Any, values: Fields) -> None:
    for value in values.values():
        if isinstance(value, Items):
            value.into = into
    entity_writer(schema)(into, build(schema, values))


class _Slot(NamedTuple):
    name: str
    convert: Callable[[Any], Any]


@cache
def _schema(api_key: int, version: int) -> tuple[Any, Any]:
    """Of a request, with what reads it."""
    schema = load_request_schema(api_key, version)
    return schema, entity_reader(schema)


@cache
def _slots(schema: Any) -> tuple[_Slot, ...]:
    return tuple(
        _Slot(field.name, _converter(field.metadata.get("kafka_type"), field.type)) for field in fields(schema)
    )


def _converter(kafka_type: str | None, hint: Any) -> Callable[[Any], Any]:
    item = item_type(hint)
    if item is not None:
        each = _scalar(kafka_type, item)
        return lambda values: (
            values if values is None or isinstance(values, Items) else tuple(each(value) for value in values)
        )
    scalar = _scalar(kafka_type, without_none(hint))
    return lambda value: None if value is None else scalar(value)


def _scalar(kafka_type: str | None, hint: Any) -> Callable[[Any], Any]:
    if kafka_type == "error_code":
        return ErrorCode
    if kafka_type in ("timedelta_i32", "timedelta_i64"):
        return lambda value: timedelta(milliseconds=value)
    if kafka_type == "uuid":
        return _known_uuid
    if kafka_type is None:
        return lambda values: build(hint, values)
    return lambda value: value


def _known_uuid(value: UUID | bytes) -> UUID | None:
    known = UUID(bytes=value) if isinstance(value, bytes) else value
    return None if known == NO_UUID else known
