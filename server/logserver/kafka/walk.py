"""The shape of a request, seen before kio makes anything of it.

kio believes a count: it asks for the memory of as many items at once, and where there is none the process is gone. Nor
does it know which arrays cannot be null, nor tagged fields that a version does not have, which Kafka steps over
(KIP-482). And of an item of two bytes it makes an object of fifty.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import Field, fields
from functools import cache
from struct import Struct
from struct import error as StructError
from typing import Any, NamedTuple

from logserver.kafka.kio_types import is_nullable, item_type, without_none
from logserver.kafka.primitives import STRING_BYTES_MAX, BeyondBounds, malformed, unsigned_varint

_INT32 = Struct(">i")
#: In the place of a structure.
_NULL = 0xFF
_SIZES = {
    "bool": 1,
    "int8": 1,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "timedelta_i32": 4,
    "timedelta_i64": 8,
    "uuid": 16,
}


class Walked(NamedTuple):
    #: Of all arrays together.
    items: int
    #: The frame, without tagged fields that the schema does not have.
    frame: bytes


def walk(schema: Any, frame: bytes, at: int, *, items_max: int) -> Walked:
    """Look over a request whose body begins at `at`. Raises Malformed, also when it has more items than items_max."""
    walk = _Walk(frame, items_max)
    try:
        end = _entity(schema)(walk, at)
    except (IndexError, StructError):
        end = len(frame) + 1
    if end > len(frame):
        raise malformed(f"a request is longer than its {len(frame)} bytes")
    return Walked(walk.items, walk.kept())


class _Walk:
    __slots__ = ("cuts", "frame", "items", "items_max", "tags")

    def __init__(self, frame: bytes, items_max: int) -> None:
        self.frame = frame
        self.items_max = items_max
        self.items = 0
        self.tags = 0
        #: (from, to, what instead) of each run of tagged fields that has unknown ones.
        self.cuts: list[tuple[int, int, bytes]] = []

    def count(self, items: int, tags: int = 0) -> None:
        self.items += items
        self.tags += tags
        if max(self.items, self.tags) > self.items_max:
            raise BeyondBounds(
                f"a request has {self.items} items and {self.tags} tagged fields or more, where {self.items_max} may "
                "be of each",
                remedy="Send less at a time.",
            )

    def kept(self) -> bytes:
        if not self.cuts:
            return self.frame
        parts, at = [], 0
        for start, end, instead in self.cuts:
            parts += [self.frame[at:start], instead]
            at = end
        return b"".join([*parts, self.frame[at:]])


#: From where something begins to where it ends. What would end behind the frame is met by the next step that looks
#: there, or at the end.
_Step = Callable[[_Walk, int], int]


@cache
def _entity(schema: Any) -> _Step:
    steps = tuple(_merged(schema))

    def step(walk: _Walk, at: int) -> int:
        for step in steps:
            at = step(walk, at)
        return at

    return step


def _merged(schema: Any) -> Iterator[_Step]:
    """What has always the same size is stepped over at once."""
    size = 0
    for step in _each(schema):
        if isinstance(step, int):
            size += step
        else:
            if size:
                yield _fixed(size)
            size = 0
            yield step
    if size:
        yield _fixed(size)
    if schema.__flexible__:
        yield _tags(
            {field.metadata["tag"]: _of_field(schema, field) for field in fields(schema) if "tag" in field.metadata}
        )


def _each(schema: Any) -> Iterator[_Step | int]:
    for field in fields(schema):
        if "tag" not in field.metadata:
            yield _of_field(schema, field)


def _of_field(schema: Any, field: Field[Any]) -> _Step | int:
    """The step over it, or the size that it always has."""
    flexible = schema.__flexible__
    kafka_type = field.metadata.get("kafka_type")
    item = item_type(field.type)
    if item is not None:
        of_item = _entity(item) if kafka_type is None else _string(flexible) if kafka_type == "string" else None
        size = 0 if of_item else _SIZES[str(kafka_type)]
        return _array(field.name, flexible, is_nullable(field.type), of_item, size)
    if kafka_type is None:
        entity = _entity(without_none(field.type))
        return _nullable(entity) if is_nullable(field.type) else entity
    if kafka_type == "string":
        return _string(flexible)
    if kafka_type in ("bytes", "records"):
        return _compact_bytes if flexible else _classic_bytes
    return _SIZES[kafka_type]


def _fixed(size: int) -> _Step:
    return lambda walk, at: at + size


def _string(flexible: bool) -> _Step:
    return _compact_string if flexible else _classic_string


def _compact_string(walk: _Walk, at: int) -> int:
    """The length plus one, 0 for null."""
    size = walk.frame[at]
    if size < 0x80:
        return at + (size or 1)
    size, at = _varint(walk.frame, at)
    if size - 1 > STRING_BYTES_MAX:
        raise malformed(f"the length of a string is {size - 1}")
    return at + max(size - 1, 0)


def _compact_bytes(walk: _Walk, at: int) -> int:
    """The length plus one, 0 for null."""
    size, at = _varint(walk.frame, at)
    return at + max(size - 1, 0)


def _classic_string(walk: _Walk, at: int) -> int:
    size = walk.frame[at] << 8 | walk.frame[at + 1]
    if size < 0x8000:
        return at + 2 + size
    if size == 0xFFFF:
        return at + 2
    raise malformed(f"a length is {size - 0x10000}")


def _classic_bytes(walk: _Walk, at: int) -> int:
    (size,) = _INT32.unpack_from(walk.frame, at)
    if size < -1:
        raise malformed(f"a length is {size}")
    return int(at + 4 + max(size, 0))


def _array(name: str, flexible: bool, nullable: bool, item: _Step | None, size: int) -> _Step:
    """item: the step over one, None where each has the size."""

    def step(walk: _Walk, at: int) -> int:
        if flexible:
            count, at = _varint(walk.frame, at)
            count -= 1
        else:
            (count,) = _INT32.unpack_from(walk.frame, at)
            at += 4
        if count < 0:
            if count == -1 and nullable:
                return at
            raise malformed(f"{name} has {count} items")
        walk.count(count)
        # An item has a byte at least.
        if count * (size or 1) > len(walk.frame) - at:
            raise malformed(f"{name} has {count} items in {len(walk.frame) - at} bytes")
        if item is None:
            return at + count * size
        for _ in range(count):
            at = item(walk, at)
        return at

    return step


def _nullable(entity: _Step) -> _Step:
    def step(walk: _Walk, at: int) -> int:
        marker = walk.frame[at]
        if marker == _NULL:
            return at + 1
        # Kafka takes every negative number for null, and kio none but -1. Clients write -1 or 1.
        if marker >= 0x80:
            raise malformed(f"a structure is marked with {marker - 0x100}")
        return entity(walk, at + 1)

    return step


def _tags(known: Mapping[int, _Step | int]) -> _Step:
    steps = {tag: _fixed(step) if isinstance(step, int) else step for tag, step in known.items()}

    def step(walk: _Walk, at: int) -> int:
        frame = walk.frame
        if frame[at] == 0:
            return at + 1
        start = at
        count, at = _varint(frame, at)
        walk.count(0, tags=count)
        kept = []
        for _ in range(count):
            field_at = at
            tag, at = _varint(frame, at)
            size, at = _varint(frame, at)
            end = at + size
            if tag in steps:
                # kio does not look at the size.
                if steps[tag](walk, at) != end:
                    raise malformed(f"a tagged field {tag} has not the {size} bytes that it says")
                kept.append(frame[field_at:end])
            at = end
        if len(kept) < count:
            walk.cuts.append((start, at, unsigned_varint(len(kept)) + b"".join(kept)))
        return at

    return step


def _varint(frame: bytes, at: int) -> tuple[int, int]:
    """One of up to 31 bits, and where it ends: there are no counts, lengths and tags that are larger.

    Not `Reader.unsigned_varint`, which looks at each byte whether the frame has it. Here that is looked at once, at the
    end, since every request of thousands of items is walked over.
    """
    byte = frame[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while shift < 35:
        at += 1
        byte = frame[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    if byte >= 0x80 or value >= 1 << 31:
        raise malformed("a varint has more than 31 bits")
    return value, at + 1
