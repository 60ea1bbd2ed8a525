"""What consumers of a classic group exchange, as far as the server must understand it to seek and to describe.

    Assignment     version: int16, topics: array of (name: string, partitions: array of int32), user data ...
    Subscription   version: int16, topics: array of (name: string), user data: bytes,
                   from version 1 on: owned partitions, as the topics of an assignment; and more with each version ...

An array is its count as int32 and then its elements, bytes are their count, or -1 for null, as int32 and then they, and
a string is its length in bytes as int16 and then UTF-8. All versions begin alike, and what follows the topics of an
assignment is kept as it is. These bytes are the clients' own, so nothing in them is believed: every count is checked
against what is there before anything is made of it.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")
#: Of both; a newer one may begin differently.
VERSION_MAX = 3


class Unreadable(Exception):
    """The bytes are not what they should be. The message says where."""


@dataclass(frozen=True, slots=True)
class ConsumerAssignment:
    version: int
    topics: tuple[tuple[str, tuple[int, ...]], ...]
    #: All after the topics, as it came.
    rest: bytes


def read_assignment(data: bytes) -> ConsumerAssignment:
    """Raises Unreadable. No bytes at all are an empty assignment: a member that its leader left out has that."""
    if not data:
        return ConsumerAssignment(0, (), b"")
    reader = _Reader(data)
    return ConsumerAssignment(reader.version(), reader.partitions(), reader.rest())


def write_assignment(assignment: ConsumerAssignment) -> bytes:
    parts = [_INT16.pack(assignment.version), _INT32.pack(len(assignment.topics))]
    for topic, partitions in assignment.topics:
        name = topic.encode()
        parts += [_INT16.pack(len(name)), name, struct.pack(f">{1 + len(partitions)}i", len(partitions), *partitions)]
    return b"".join([*parts, assignment.rest])


def strip(data: bytes, is_sought: Callable[[str, int], bool]) -> bytes:
    """An assignment without some partitions; the same bytes if it has none of them. Raises Unreadable."""
    assignment = read_assignment(data)
    topics = [
        (topic, tuple(number for number in numbers if not is_sought(topic, number)))
        for topic, numbers in assignment.topics
    ]
    stripped = ConsumerAssignment(assignment.version, tuple(topics), assignment.rest)
    if stripped == assignment:
        return data
    return write_assignment(replace(stripped, topics=tuple(topic for topic in stripped.topics if topic[1])))


def read_subscription(data: bytes) -> frozenset[str]:
    """The topics that a member subscribes to. Raises Unreadable."""
    reader = _Reader(data)
    reader.version()
    return frozenset(reader.string() for _ in range(reader.count(least_size=_INT16.size)))


def read_owned(data: bytes) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """What a member that subscribes says that it still has. Only cooperative ones have anything. Raises Unreadable."""
    reader = _Reader(data)
    if reader.version() == 0:
        return ()
    for _ in range(reader.count(least_size=_INT16.size)):
        reader.string()
    reader.skip_bytes()
    return reader.partitions()


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._position = 0

    def version(self) -> int:
        version = self._number(_INT16)
        if not 0 <= version <= VERSION_MAX:
            raise Unreadable(f"it is of version {version}, not 0 to {VERSION_MAX}")
        return version

    def count(self, *, least_size: int) -> int:
        """Of elements that take at least so many bytes each."""
        count = self._number(_INT32)
        if not 0 <= count * least_size <= len(self._data) - self._position:
            raise Unreadable(f"it says that {count} elements follow byte {self._position} of {len(self._data)}")
        return count

    def partitions(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        topics = []
        for _ in range(self.count(least_size=_INT16.size + _INT32.size)):
            name = self.string()
            topics.append((name, self.int32s(self.count(least_size=_INT32.size))))
        return tuple(topics)

    def skip_bytes(self) -> None:
        size = self._number(_INT32)
        if size != -1:
            self._take(size)

    def int32s(self, count: int) -> tuple[int, ...]:
        return struct.unpack(f">{count}i", self._take(_INT32.size * count))

    def string(self) -> str:
        try:
            return self._take(self._number(_INT16)).decode()
        except UnicodeDecodeError as error:
            raise Unreadable(f"a name before byte {self._position} is not UTF-8") from error

    def rest(self) -> bytes:
        return self._data[self._position :]

    def _number(self, kind: struct.Struct) -> int:
        (number,) = kind.unpack(self._take(kind.size))
        assert isinstance(number, int)
        return number

    def _take(self, size: int) -> bytes:
        end = self._position + size
        if size < 0 or end > len(self._data):
            raise Unreadable(f"{size} bytes should follow byte {self._position} of {len(self._data)}")
        taken = self._data[self._position : end]
        self._position = end
        return taken
