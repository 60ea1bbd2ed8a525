"""What clients did and what came of it, in the order in which it came: what the checker judges.

Every value is sent once and says by whom and as the how-manieth, with a checksum, so that a record read anywhere can
be told from every other, and a damaged one from a whole one.

A history is kept as one JSON array a line:

    ["assign", process]                                       its polls go on from a new place
    ["send", process, number, partition, outcome, offset]     offset -1 unless the outcome is "ok"
    ["poll", process, [[partition, offset, value], ...]]      in the order in which they were handed out
"""

import json
from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from threading import Lock
from typing import NamedTuple
from zlib import crc32


class Outcome(StrEnum):
    OK = "ok"  # acknowledged
    FAILED = "fail"  # refused for certain: nobody may ever read it
    UNKNOWN = "info"  # nobody said: it may be there or not


class Value(NamedTuple):
    """What a record says of itself."""

    process: int
    number: int  # of the process's sends, in the order in which it asked for them


class Send(NamedTuple):
    process: int
    number: int
    partition: int
    outcome: Outcome
    offset: int


class Poll(NamedTuple):
    process: int
    records: tuple[tuple[int, int, str], ...]  # partition, offset, value


class Assign(NamedTuple):
    process: int


Operation = Send | Poll | Assign


def encode_value(value: Value, size: int = 0) -> str:
    """The text of a value, padded to about that many characters."""
    body = f"{value.process} {value.number} " + "x" * size
    return f"{crc32(body.encode()):08x} {body}"


def decode_value(text: str) -> Value | None:
    """The value, None if this is not what was sent."""
    checksum, _, body = text.partition(" ")
    if checksum != f"{crc32(body.encode()):08x}":
        return None
    process, number, _ = body.split(" ", 2)
    return Value(int(process), int(number))


class History:
    """Operations as they come, from any thread, also kept in a file when there is one."""

    def __init__(self, path: Path | None = None) -> None:
        self.operations: list[Operation] = []
        self._lock = Lock()
        self._file = path.open("a") if path is not None else None

    def add(self, operation: Operation) -> None:
        with self._lock:
            self.operations.append(operation)
            if self._file is not None:
                self._file.write(json.dumps([type(operation).__name__.lower(), *operation]) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def read_history(path: Path) -> Iterator[Operation]:
    with path.open() as lines:
        yield from parse_history(lines)


def parse_history(lines: Iterable[str]) -> Iterator[Operation]:
    for line in lines:
        match json.loads(line):
            case ["assign", process]:
                yield Assign(process)
            case ["send", process, number, partition, outcome, offset]:
                yield Send(process, number, partition, Outcome(outcome), offset)
            case ["poll", process, records]:
                yield Poll(process, tuple((partition, offset, value) for partition, offset, value in records))
            case other:
                raise ValueError(f"not an operation: {other!r}")
