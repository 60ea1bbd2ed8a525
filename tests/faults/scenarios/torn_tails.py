"""The last batch of a log torn at every byte, with anything behind the tear (scorecard row 9).

The ways in which a tail can be torn, each tried at every byte:

    cut         the file ends there
    zeros       from there on the batch is zeros, to its own end or far beyond
    stale       from there on it is what an older batch has at that place
    own batch   there a whole older batch of the log begins, valid but for its offset
    other batch the same of another partition
    rot         that byte is wrong, and all others are right: a bad offset, length, magic, count or CRC
    sectors     of the sectors that the batch touches, some were written and some are zeros

The batch is the last of all, or the last before a segment that was begun and never synced, or it was synced itself.
What recovery leaves is every whole batch before the tear and nothing else, with the other bytes kept aside. Of a batch
that was known to be synced the same tear is damage: then nothing is cut, and nothing appended.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from logstore.batch import Record, encode_batch
from logstore.config import TopicConfig
from logstore.disk import PAGE_BYTES
from logstore.errors import DataLoss
from logstore.log import Log
from tests.faults.bugs.planted import planted
from tests.faults.runs import Session, Tally
from tests.faults.storage.kept_files import check_kept
from tests.faults.storage.model import StoredBatch, Violation, check_bytes, new_batch, read_all, tell
from tests.logstore.disk import SECTOR_BYTES, SimulatedDisk
from tests.logstore.store import Opened

TOPIC = "t"
KINDS = ("last", "before a segment", "synced")
#: One image in so many is appended to, cut again and read again.
USED_EVERY = 8
SECTOR_SUBSETS = 8
#: What stands at these bytes of a batch, the leader epoch, no checksum covers.
UNCHECKED = range(12, 16)
#: So many bytes at the beginning of a batch are its offset.
OFFSET_BYTES = 8


@dataclass(frozen=True)
class Tail:
    """A log whose last batch, or the last of one of its segments, is to be torn."""

    disk: SimulatedDisk  # everything written is on it
    path: Path  # of the file that the batch ends
    head: bytes  # of that file, up to the batch
    before: list[StoredBatch]
    batch: StoredBatch
    after: list[StoredBatch]  # in the next segment
    stale: list[bytes]  # older batches of the log
    foreign: list[bytes]  # batches of another partition, with other offsets
    is_synced: bool  # the checkpoint says so


def run(session: Session, tally: Tally) -> None:
    """Tear as many batches as the session has cycles, each at every byte."""
    rng = session.rng("torn tails")
    with planted(*session.planted):
        for number in range(session.cycles):
            kind = KINDS[number % len(KINDS)]
            tail = _make_tail(kind, rng)
            for way, torn in _ways(tail, rng):
                try:
                    _judge(tail, torn, rng)
                except Exception as error:
                    tally.violate(f"batch {number}, {kind}, {way}: {tell(error)}")
                tally.count("tears")
                if session.is_over(tally):
                    return
            tally.count("batches")


def _make_tail(kind: str, rng: random.Random) -> Tail:
    disk = SimulatedDisk()
    opened = Opened(disk, seed=rng.getrandbits(32))
    segment_bytes = 1024 if kind == "before a segment" else rng.choice((1024, 1 << 20))
    config = TopicConfig.from_strings({"segment.bytes": str(segment_bytes), "retention.ms": "-1"})
    opened.store.create_topic(TOPIC, 1, config)
    log = opened.store.log(TOPIC, 0)
    before = [_append(opened, rng) for _ in range(rng.randrange(1, 6))]
    opened.settle()
    before += [_append(opened, rng) for _ in range(rng.randrange(3))]
    batch = _append(opened, rng)
    path = max(path for path in disk.files() if path.parent == log.directory and path.suffix == ".log")
    after = []
    if kind == "synced":
        opened.settle()
    elif kind == "before a segment":
        after = [_append(opened, rng, bytes_count=1024)]  # too long for what is left of the other
    disk.sync_filesystem(Path("/"))
    return Tail(
        disk=disk,
        path=path,
        head=disk.files()[path][: -len(batch.data)],
        before=before,
        batch=batch,
        after=after,
        stale=[old.data for old in before],
        foreign=[_foreign(log, batch.base_offset, rng) for _ in range(5)],
        is_synced=kind == "synced",
    )


def _append(opened: Opened, rng: random.Random, *, bytes_count: int | None = None) -> StoredBatch:
    log, now_ms = opened.store.log(TOPIC, 0), opened.clock.wall_ms()
    sizes = [bytes_count] if bytes_count else [rng.randrange(rng.choice((20, 20, 20, 300)))] * rng.randint(1, 2)
    batch = new_batch([Record(0, now_ms, None, rng.randbytes(size)) for size in sizes], log, now_ms)
    log.append(batch.data, now_ms)
    return batch


def _foreign(log: Log, offset: int, rng: random.Random) -> bytes:
    """A batch of another partition, with another offset than that."""
    record = Record(0, 0, None, rng.randbytes(rng.randrange(60)))
    return encode_batch([record], base_offset=offset + rng.choice((-1, 1, 1000)), leader_epoch=log.leader_epoch)


def _ways(tail: Tail, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """(what was done, what stands in the place of the batch)."""
    whole = tail.batch.data
    size = len(whole)
    for position in range(size):
        head, at = whole[:position], f"at byte {position} of {size}"
        older = rng.choice(tail.stale)
        yield f"cut {at}", head
        yield f"zeros {at}", head.ljust(size, b"\0")
        yield f"zeros and more {at}", head.ljust(size + rng.randrange(1, 2 * PAGE_BYTES), b"\0")
        yield f"own batch {at}", head + older + rng.choice(tail.stale)
        yield f"other batch {at}", head + rng.choice(tail.foreign)
        if not _is_renumbered(older, whole, position):
            yield f"stale {at}", head + older[position:size].ljust(size - position, b"\0")
        if position not in UNCHECKED:
            yield f"rot {at}", head + bytes([whole[position] ^ 1 << rng.randrange(8)]) + whole[position + 1 :]
    for _ in range(SECTOR_SUBSETS):
        yield "sectors", _some_sectors(tail, rng)


def _is_renumbered(older: bytes, whole: bytes, position: int) -> bool:
    """Whether an older batch from there on, behind what was written of the new one, is the older one with the new
    offset: a whole batch, since no checksum covers the offset. No disk tears within a sector, and no file of ours is
    written twice in one place, so nothing else can show it."""
    return position >= OFFSET_BYTES and all(
        older[at] == whole[at] for at in range(OFFSET_BYTES, position) if at not in UNCHECKED
    )


def _some_sectors(tail: Tail, rng: random.Random) -> bytes:
    torn = bytearray(tail.batch.data)
    position = 0
    while position < len(torn):
        end = min(len(torn), position + SECTOR_BYTES - (len(tail.head) + position) % SECTOR_BYTES)
        if rng.random() < 0.5:
            torn[position:end] = bytes(end - position)
        position = end
    return bytes(torn)


def _judge(tail: Tail, torn: bytes, rng: random.Random) -> None:
    """Recover the log whose last batch has become this."""
    disk = tail.disk.crash(rng)
    disk.overwrite(tail.path, tail.head + torn)
    files = disk.files()
    opened = Opened(disk)
    log = opened.store.log(TOPIC, 0)
    check_kept(files, disk.files())
    if tail.is_synced and not torn.startswith(tail.batch.data):
        _judge_damage(tail, torn, log, opened, rng)
        return
    expected = list(tail.before)
    if torn.startswith(tail.batch.data):
        expected.append(tail.batch)
        expected += tail.after if torn == tail.batch.data else []
    _judge_log(log, expected, rng)
    if rng.randrange(USED_EVERY) == 0:
        expected.append(_append(opened, rng))
        opened.settle()
        again = Opened(disk.crash(rng))
        _judge_log(again.store.log(TOPIC, 0), expected, rng)


def _judge_log(log: Log, expected: list[StoredBatch], rng: random.Random) -> None:
    end = expected[-1].next_offset
    if not end == log.high_watermark == log.log_end_offset:
        raise Violation(f"the log ends at {log.log_end_offset}, and must at {end}")
    check_bytes(read_all(log, 0, end, rng), expected)


def _judge_damage(tail: Tail, torn: bytes, log: Log, opened: Opened, rng: random.Random) -> None:
    """What was synced is missing: whoever comes for it is told, and it is never cut off."""
    check_bytes(read_all(log, 0, tail.batch.base_offset, rng), tail.before)
    _expect_data_loss(partial(read_all, log, tail.batch.base_offset, tail.batch.next_offset, rng))
    if len(torn) != len(tail.batch.data):
        # A log that ends where the checkpoint says is not read at the start, and this one does not.
        _expect_data_loss(partial(_append, opened, rng))


def _expect_data_loss(touch: Callable[[], object]) -> None:
    try:
        touch()
    except DataLoss:
        return
    raise Violation("a batch that was synced is damaged, and nobody is told")
