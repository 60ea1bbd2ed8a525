"""The worked example of docs/format.md: a data directory written by the code of today, its files shown byte by byte.

python -m tests.logstore.format_example        writes the blocks of the document anew
"""

import re
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from uuid import UUID

from logstore.batch import Record, encode_batch, iter_headers
from logstore.config import StoreConfig, TopicConfig
from logstore.linux_disk import LinuxDisk
from logstore.losses import Loss, write_loss
from tests.logstore.store import Opened

DOCUMENT = Path(__file__).parent.parent.parent / "docs" / "format.md"
BLOCK = re.compile(r"(<!-- example: ([a-z ]+) -->\n```text\n)(.*?)(```\n)", re.DOTALL)
BYTES_A_LINE = 8

#: The second batch comes when the first segment is old enough, so that one is sealed.
CONFIG = {"segment.ms": "1000", "retention.ms": "-1"}


class Field(NamedTuple):
    name: str
    width: int
    show: Callable[[bytes], str]


def number(data: bytes) -> str:
    return str(int.from_bytes(data, "big", signed=True))


def little_number(data: bytes) -> str:
    return str(int.from_bytes(data, "little", signed=True))


def varint(data: bytes) -> str:
    """A zigzag varint: seven bits a byte, the lowest first; the lowest of all is the sign."""
    value = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(data))
    return str((value >> 1) ^ -(value & 1))


def text(data: bytes) -> str:
    return repr(data.decode())


def crc(data: bytes) -> str:
    return f"0x{data.hex()}"


def uuid(data: bytes) -> str:
    return str(UUID(bytes=data))


def zeros(data: bytes) -> str:
    assert not any(data)
    return ""


def int_field(name: str, width: int) -> Field:
    return Field(name, width, number)


def shown(data: bytes, fields: Sequence[Field]) -> str:
    """A line for every field, and more for one that is longer than a line. The fields must be all there is."""
    lines = []
    position = 0
    for name, width, show in fields:
        value = data[position : position + width]
        assert len(value) == width, f"the file ends before {name}"
        meaning = f"{name:<21} {show(value)}".rstrip()
        for at in range(0, width, BYTES_A_LINE):
            part = value[at : at + BYTES_A_LINE].hex(" ")
            if at and show is zeros:
                lines.append(f"{'':8}  ...")
                break
            lines.append(f"{position + at:>8}  {part:<{3 * BYTES_A_LINE}} {'' if at else meaning}".rstrip())
        position += width
    assert position == len(data), f"{len(data) - position} bytes are behind the last field"
    return "\n".join(lines) + "\n"


# The files.


BATCH = (
    int_field("base_offset", 8),
    int_field("batch_length", 4),
    int_field("leader_epoch", 4),
    int_field("magic", 1),
    Field("crc", 4, crc),
    int_field("attributes", 2),
    int_field("last_offset_delta", 4),
    int_field("base_timestamp_ms", 8),
    int_field("max_timestamp_ms", 8),
    int_field("producer_id", 8),
    int_field("producer_epoch", 2),
    int_field("base_sequence", 4),
    int_field("records_count", 4),
)
SEAL = (
    Field("magic", 6, text),
    int_field("version", 2),
    int_field("base_offset", 8),
    int_field("next_offset", 8),
    int_field("end_position", 8),
    int_field("max_timestamp_ms", 8),
    int_field("first_append_ms", 8),
    int_field("last_append_ms", 8),
    int_field("index_rows_count", 8),
    int_field("compacted_offset", 8),
    int_field("generation", 4),
    Field("index_crc", 4, crc),
    Field("crc", 4, crc),
)
INDEX_ROW = tuple(
    Field(name, 8, little_number) for name in ("relative_next_offset", "position", "max_timestamp_ms", "append_time_ms")
)
CHECKPOINT_HEAD = (
    Field("magic", 4, text),
    int_field("version", 2),
    int_field("is_clean", 2),
    int_field("generation", 8),
    int_field("slot_bytes", 4),
    int_field("rows", 4),
    Field("crc", 4, crc),
)
CHECKPOINT_ROW = (
    Field("topic_id", 16, uuid),
    int_field("partition", 4),
    int_field("log_start_offset", 8),
    int_field("recovery_offset", 8),
    int_field("segment_base_offset", 8),
    int_field("position", 8),
    int_field("last_append_ms", 8),
    int_field("max_timestamp_ms", 8),
)
SNAPSHOT_HEAD = (
    Field("magic", 6, text),
    int_field("version", 2),
    Field("topic_id", 16, uuid),
    int_field("partition", 4),
    int_field("next_offset", 8),
)
SNAPSHOT_EPOCH = (int_field("epoch", 4), int_field("start_offset", 8))
SNAPSHOT_PRODUCER = (
    int_field("producer_id", 8),
    int_field("epoch", 2),
    int_field("last_append_ms", 8),
    int_field("records", 8),
    int_field("batches", 1),
)
SNAPSHOT_BATCH = (int_field("base_sequence", 4), int_field("base_offset", 8), int_field("last_offset_delta", 4))
SNAPSHOT_ROW = tuple(Field(field.name, 8, number) for field in INDEX_ROW)


def log_fields(data: bytes) -> Iterator[Field]:
    for position, header in iter_headers(data):
        yield from BATCH
        at = position + 61
        for _ in range(header.records_count):
            at = yield from record_fields(data, at)


def record_fields(data: bytes, at: int) -> Generator[Field, None, int]:
    """The fields of the record at `at`. Returns where it ends."""

    def one(name: str) -> tuple[Field, int, int]:
        end = at
        while data[end] & 0x80:
            end += 1
        end += 1
        return Field(name, end - at, varint), end, int(varint(data[at:end]))

    for name in ("length", "attributes", "timestamp_delta", "offset_delta"):
        if name == "attributes":
            yield int_field(name, 1)
            at += 1
            continue
        field, at, _ = one(name)
        yield field
    for name in ("key", "value"):
        field, at, length = one(f"{name}_length")
        yield field
        if length > 0:
            yield Field(name, length, text)
            at += length
    field, at, headers_count = one("headers_count")
    yield field
    for _ in range(headers_count):
        for name in ("header_key", "header_value"):
            field, at, length = one(f"{name}_length")
            yield field
            yield Field(name, length, text)
            at += length
    return at


def snapshot_fields(data: bytes) -> Iterator[Field]:
    def count(position: int) -> int:
        return int.from_bytes(data[position : position + 4], "big")

    yield from SNAPSHOT_HEAD
    position = sum(field.width for field in SNAPSHOT_HEAD)
    yield int_field("epochs", 4)
    for _ in range(count(position)):
        yield from SNAPSHOT_EPOCH
        position += 12
    position += 4
    yield int_field("producers", 4)
    for _ in range(count(position)):
        yield from SNAPSHOT_PRODUCER
        batches = data[position + 4 + 26]
        for _ in range(batches):
            yield from SNAPSHOT_BATCH
        position += 27 + 16 * batches
    position += 4
    yield int_field("base_offset", 8)
    yield int_field("stored_rows", 4)
    yield Field("stored_crc", 4, crc)
    yield int_field("index_rows", 4)
    for _ in range(count(position + 16)):
        yield from SNAPSHOT_ROW
    yield Field("crc", 4, crc)


def checkpoint_fields(data: bytes) -> Iterator[Field]:
    yield from CHECKPOINT_HEAD
    yield from CHECKPOINT_ROW
    used = sum(field.width for field in (*CHECKPOINT_HEAD, *CHECKPOINT_ROW))
    yield Field("up to slot_bytes", len(data) - used, zeros)


# The directory.


def make(directory: Path) -> None:
    """Two batches of an idempotent producer, in two segments, and a clean stop."""
    bounds = StoreConfig(dirty_bytes_max=1 << 20, open_files_max=8, map_count_max=4, producer_id_block=1000)
    opened = Opened(LinuxDisk(), seed=1, directory=directory, config=bounds)
    opened.store.create_topic("flights", 1, TopicConfig.from_strings(CONFIG))
    producer_id = opened.store.next_producer_id()
    log = opened.store.log("flights", 0)
    sequence = 0
    for planes in (("N14228", "N24211"), ("N619AA",)):
        now_ms = opened.clock.wall_ms()
        records = [
            Record(0, now_ms + number, plane.encode(), b"EWR to IAH", (("source", b"faa"),) if not number else ())
            for number, plane in enumerate(planes)
        ]
        batch = encode_batch(records, producer_id=producer_id, producer_epoch=0, base_sequence=sequence)
        log.append(batch, now_ms)
        sequence += len(planes)
        opened.settle()
    opened.close()


def examples() -> dict[str, str]:
    """Every block of the document, by its name."""
    with TemporaryDirectory() as scratch:
        directory = Path(scratch) / "tailrace-data"
        make(directory)
        files = {
            str(path.relative_to(directory)): path.read_bytes()
            for path in sorted(directory.rglob("*"))
            if path.is_file()
        }
        topic = next(name.split("/")[1] for name in files if name.startswith("topics/"))
        partition = f"topics/{topic}/0"
        write_loss(
            LinuxDisk(), directory / partition, 0, Loss(2, 5, "its CRC is wrong", 1_700_000_100_000, "x.discarded-1")
        )
        loss = (directory / partition / "00000000000000000000.lost").read_text()
    index = next(name.split("/")[3] for name in files if name.endswith(".index/data.ninja"))
    checkpoint = files["checkpoint"]
    newer = checkpoint[4096:] if checkpoint[4096 + 8 : 4096 + 16] > checkpoint[8:16] else checkpoint[:4096]
    log = files[f"{partition}/00000000000000000000.log"]
    snapshot = files[f"{partition}/snapshot"]
    listing = "".join(f"{len(data):>6}  {name}\n" for name, data in files.items() if name != "lock")
    return {
        "files": listing,
        "meta": files["meta"].decode(),
        "checkpoint": shown(newer, list(checkpoint_fields(newer))),
        "topic": files[f"topics/{topic}/topic"].decode(),
        "log": shown(log, list(log_fields(log))),
        "seal": shown(files[f"{partition}/00000000000000000000.seal"], SEAL),
        "index": shown(files[f"{partition}/{index}/data.ninja"], INDEX_ROW),
        "shape": shown(
            files[f"{partition}/{index}/shape.ninja"],
            [Field("rows", 8, little_number), Field("columns", 8, little_number)],
        ),
        "snapshot": shown(snapshot, list(snapshot_fields(snapshot))),
        "loss": loss,
    }


def with_examples(document: str) -> str:
    """The document with the blocks of today."""
    made = examples()
    return BLOCK.sub(partial(_block, made), document)


def _block(made: dict[str, str], block: re.Match[str]) -> str:
    return block[1] + made[block[2]] + block[4]


if __name__ == "__main__":
    DOCUMENT.write_text(with_examples(DOCUMENT.read_text()))
