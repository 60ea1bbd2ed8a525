"""What readers of a compacted topic may never see.

Each producer has keys of its own, so the order of its sends is the order of each key. A header says which send a record
is, also of a tombstone. Whoever reads from the beginning has of each key, in the end, what was acknowledged last before
he began, or something newer; nobody sees an older value after a newer one.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Protocol

from tests.faults.history import Value, decode_value, encode_value

HEADER = "sent"


class KeyedRecord(Protocol):
    """As the client hands it out, or the storage engine."""

    @property
    def offset(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Iterable[tuple[str, bytes | None]]: ...


def header_of(value: Value) -> str:
    return encode_value(value)


class Sends:
    """What was sent, and what of it was acknowledged where. Any thread."""

    def __init__(self, *, keeps_tombstones: bool = True) -> None:
        """`keeps_tombstones`: delete.retention.ms is longer than anybody looks."""
        self.keeps_tombstones = keeps_tombstones
        self._lock = threading.Lock()
        self._sent: dict[Value, tuple[bytes, bytes | None]] = {}
        self._places: dict[Value, tuple[int, int]] = {}
        self._newest: dict[bytes, Value] = {}

    @property
    def acknowledged(self) -> int:
        return len(self._places)

    def begin(self, value: Value, key: bytes, data: bytes | None) -> None:
        with self._lock:
            self._sent[value] = key, data

    def end(self, value: Value, partition: int, offset: int) -> None:
        with self._lock:
            self._places[value] = partition, offset
            key, _ = self._sent[value]
            self._newest[key] = max(value, self._newest.get(key, value))  # answers may overtake each other

    def newest(self) -> dict[bytes, Value]:
        """Key: the last of its sends that were acknowledged."""
        with self._lock:
            return dict(self._newest)

    def may_be_gone(self, value: Value) -> bool:
        """With all of its key."""
        with self._lock:
            return not self.keeps_tombstones and self._sent[value][1] is None

    def why_wrong(self, value: Value, partition: int, record: KeyedRecord) -> str | None:
        """Why the record is not what was sent, None if it is."""
        with self._lock:
            sent, place = self._sent.get(value), self._places.get(value)
        if sent is None:
            return "nobody has sent it"
        if sent != (record.key, record.value):
            return f"key {sent[0]!r} and value {sent[1]!r} were sent"
        if place not in (None, (partition, record.offset)):
            return f"it was acknowledged at {place}"
        return None


class KeyedReader:
    """One reader, who is told of every record in the order in which it gets them."""

    def __init__(self, sends: Sends) -> None:
        self.violations: list[str] = []
        self.read = 0
        self.numbers: dict[bytes, int] = {}  # key: of the last record that was read
        self._sends = sends
        self._offsets: dict[int, int] = {}

    def take(self, partition: int, records: Iterable[KeyedRecord]) -> None:
        for record in records:
            self.read += 1
            where = f"partition {partition}, offset {record.offset}, key {record.key!r}"
            before = self._offsets.get(partition, -1)
            if record.offset <= before:
                self.violations.append(f"nonmonotonic: {where}, read after offset {before}")
            self._offsets[partition] = record.offset
            value = decode_value((dict(record.headers).get(HEADER) or b"").decode())
            if value is None or record.key is None:
                self.violations.append(f"corrupt: {where}: {record.headers}")
                continue
            if why := self._sends.why_wrong(value, partition, record):
                self.violations.append(f"wrong: {where}, {value}: {why}")
            if value.number <= self.numbers.get(record.key, -1):
                self.violations.append(f"stale: {where}, {value} after number {self.numbers[record.key]}")
            self.numbers[record.key] = value.number

    def finish(self, newest: Mapping[bytes, Value]) -> None:
        """It began when these were acknowledged, and has read from the beginning to the end."""
        for key, value in newest.items():
            last = self.numbers.get(key)
            if last is None and self._sends.may_be_gone(value):
                continue
            if last is None:
                self.violations.append(f"lost: key {key!r}, of which {value} was acknowledged, is not read")
            elif last < value.number:
                self.violations.append(f"stale: key {key!r} ends with {last}, and {value} was acknowledged")
