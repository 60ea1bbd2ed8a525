"""Kafka's primitive types, read in place and written, for the messages whose batches must not be copied.

Sizes are checked before anything is made of them: what does not fit into the frame is Malformed.
https://kafka.apache.org/protocol#protocol_types
"""

import struct
from collections.abc import Iterator
from uuid import UUID

from logserver.errors import LogServerError

_INT16 = struct.Struct(">h")
_INT32 = struct.Struct(">i")
#: Bits of an unsigned varint of 32 bits take five bytes at most.
_VARINT_BYTES_MAX = 5
#: The longest string that Kafka has, also where its length has room for more.
STRING_BYTES_MAX = 0x7FFF
#: Tagged fields of one frame, which clients have a few of. Each takes two bytes there, and time to step over.
TAGS_MAX = 1000


class Malformed(LogServerError):
    """The bytes are not what the protocol has in their place. Nothing after them can be read: the connection ends."""

    #: As the log says it, the same for all of a class.
    reason = "it sends what is no request"


class BeyondBounds(Malformed):
    """A request is larger than requests may be."""

    reason = "its request is beyond a bound"


class Reader:
    """Walks over one frame. Views that it returns are of the frame's own memory."""

    __slots__ = ("flexible", "frame", "position", "tags_left")

    def __init__(self, frame: memoryview, position: int = 0, *, flexible: bool = False) -> None:
        """flexible: lengths are compact, and tagged fields may follow every structure (KIP-482)."""
        self.frame = frame
        self.position = position
        self.flexible = flexible
        self.tags_left = TAGS_MAX

    def int16(self) -> int:
        at = self._take(2)
        value: int = _INT16.unpack_from(self.frame, at)[0]
        return value

    def int32(self) -> int:
        at = self._take(4)
        value: int = _INT32.unpack_from(self.frame, at)[0]
        return value

    def unsigned_varint(self) -> int:
        value = 0
        for number in range(_VARINT_BYTES_MAX):
            byte = self.frame[self._take(1)]
            value |= (byte & 0x7F) << (7 * number)
            if byte < 0x80:
                return value
        raise malformed("a varint is longer than five bytes")

    def uuid(self) -> bytes:
        at = self._take(16)
        return bytes(self.frame[at : at + 16])

    def string(self) -> str:
        text = self.nullable_string()
        if text is None:
            raise malformed("a string is null that must not be")
        return text

    def nullable_string(self) -> str | None:
        return self._text(self.unsigned_varint() - 1 if self.flexible else self.int16())

    def classic_nullable_string(self) -> str | None:
        """As in a request's header, whose client id stays as it was in flexible versions, too."""
        return self._text(self.int16())

    def nullable_bytes(self) -> memoryview | None:
        size = self.unsigned_varint() - 1 if self.flexible else self.int32()
        if size < -1:
            raise malformed(f"a length is {size}")
        if size == -1:
            return None
        at = self._take(size)
        return self.frame[at : at + size]

    def array(self) -> Iterator[int]:
        """The numbers of its items, which the caller reads one by one."""
        count = self.unsigned_varint() - 1 if self.flexible else self.int32()
        # An item has a byte at least: a count that cannot be is refused before anybody counts to it.
        if not 0 <= count <= len(self.frame) - self.position:
            raise malformed(f"an array has {count} items in {len(self.frame) - self.position} bytes")
        return iter(range(count))

    def tags(self) -> None:
        """Skip the tagged fields, none of which we know."""
        if not self.flexible:
            return
        count = self.unsigned_varint()
        if count > self.tags_left:
            raise BeyondBounds(
                f"a request has more than {TAGS_MAX} tagged fields", remedy="Send none that the protocol does not have."
            )
        self.tags_left -= count
        for _ in range(count):
            self.unsigned_varint()
            self._take(self.unsigned_varint())

    def _text(self, size: int) -> str | None:
        if not -1 <= size <= STRING_BYTES_MAX:
            raise malformed(f"the length of a string is {size}")
        if size == -1:
            return None
        at = self._take(size)
        try:
            return str(self.frame[at : at + size], "utf-8")
        except UnicodeDecodeError as error:
            raise malformed("a string is not UTF-8") from error

    def _take(self, size: int) -> int:
        at = self.position
        if size > len(self.frame) - at:
            raise malformed(f"{size} bytes are announced, and {len(self.frame) - at} are left of the frame")
        self.position = at + size
        return at


def malformed(what: str) -> Malformed:
    return Malformed(f"not a message of the Kafka protocol: {what}", remedy="Connect with a Kafka client.")


def unsigned_varint(value: int) -> bytes:
    """As in flexible versions, for lengths and counts."""
    if value < 0x80:
        return bytes((value,))
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def count(items: int, *, flexible: bool) -> bytes:
    """How many items an array has, or -1 for null."""
    return unsigned_varint(items + 1) if flexible else _INT32.pack(items)


def nullable_string(text: str | None, *, flexible: bool) -> bytes:
    if text is None:
        return b"\0" if flexible else b"\xff\xff"
    data = text.encode()
    return (unsigned_varint(len(data) + 1) if flexible else len(data).to_bytes(2, "big")) + data


#: In the place of a topic id that is not known.
NO_UUID = UUID(int=0)
#: In the place of an offset, where there is none.
NO_OFFSET = -1
