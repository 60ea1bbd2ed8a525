"""One bit of a stopped data directory is another (scorecard row 7).

Any bit of any file, of a log every fourth time, else small files as often as big ones; and half of the time one that is
sure to say something: of a log in a byte that no checksum covers, else in a byte that is not zero, as most of a
checkpoint is. Then the store is opened, everything is read, and it is used, stopped and opened again.
"""

import random
import shutil
from collections import defaultdict
from pathlib import Path

from logstore import files
from logstore.disk import ARRAY_DATA
from logstore.header import HEADER_SIZE, read_header
from logstore.linux_disk import LinuxDisk
from tests.faults.bugs.planted import planted
from tests.faults.runs import Session, Tally
from tests.faults.storage.damage import Damage
from tests.faults.storage.damaged_directories import damage_of, kind_of, try_directory
from tests.faults.storage.data_directories import Copy, DataDirectory, make_data_directory, real_directory
from tests.faults.storage.model import tell
from tests.logstore.disk import SimulatedDisk
from tests.logstore.store import DATA

FLIPS_PER_DIRECTORY = 50
#: So many bytes at the head of a batch are before what its CRC covers.
UNCOVERED_BYTES = 17
OFFSET_BYTES = 8
#: What mmap-ninja keeps of an array beside its rows is not in the disk in memory, and so is flipped on a real one.
ARRAY_FILES = "array"


def run(session: Session, tally: Tally) -> None:
    """Flip as many bits as the session has cycles, each in another copy."""
    rng = session.rng("bit flips")
    with planted(*session.planted), real_directory() as scratch:
        for number in range(session.cycles):
            if number % FLIPS_PER_DIRECTORY == 0:
                directory = make_data_directory(rng)
                paths = _by_kind(directory)
            kind = files.LOG_SUFFIX if rng.random() < 0.25 else rng.choice(sorted(paths))
            path = rng.choice(paths[kind])
            try:
                if kind == ARRAY_FILES:
                    _flip_on_real_disk(directory, path, scratch / "data", rng, tally)
                else:
                    _flip_in_memory(directory, path, rng, tally)
            except Exception as error:
                tally.violate(f"flip {number} in {path.relative_to(DATA)}: {tell(error)}")
            tally.count("flips")
            if session.is_over(tally):
                return


def _by_kind(directory: DataDirectory) -> dict[str, list[Path]]:
    paths: dict[str, list[Path]] = defaultdict(list)
    for path, data in directory.disk.files().items():
        if data:
            paths[kind_of(path)].append(path)
        if path.name == ARRAY_DATA:
            paths[ARRAY_FILES].append(path.parent)
    return paths


def _flip_in_memory(directory: DataDirectory, path: Path, rng: random.Random, tally: Tally) -> None:
    copy = directory.copy()
    assert isinstance(copy.disk, SimulatedDisk)
    data = copy.files()[path]
    position = rng.randrange(len(data))
    if rng.random() < 0.5:
        position = _position_that_tells(data, rng, is_log=kind_of(path) == files.LOG_SUFFIX)
    copy.disk.flip_bit(path, position, rng.randrange(8))
    damage = damage_of(directory, path, range(position, position + 1))
    parsed, key = files.parse_segment_file(path.name), directory.partition_of(path)
    if parsed is not None and parsed.generation > 0 and key is not None and _is_in_offset(data, position):
        # TODAY: no CRC covers it, and where compaction has left gaps another offset may fit as well.
        damage |= Damage(exchanged=frozenset({key}))
    try_directory(copy, directory, damage, rng, tally.counts)


def _position_that_tells(data: bytes, rng: random.Random, *, is_log: bool) -> int:
    if is_log:
        return rng.choice(_batch_positions(data)) + rng.randrange(UNCOVERED_BYTES)
    return rng.choice([position for position, byte in enumerate(data) if byte] or range(len(data)))


def _is_in_offset(data: bytes, position: int) -> bool:
    """Whether the byte is of the first field of a batch, its offset."""
    return any(at <= position < at + OFFSET_BYTES for at in _batch_positions(data))


def _batch_positions(data: bytes) -> list[int]:
    positions = [0]
    while positions[-1] + HEADER_SIZE <= len(data):
        positions.append(positions[-1] + read_header(data, positions[-1]).size)
    return positions[:-1]


def _flip_on_real_disk(directory: DataDirectory, array: Path, root: Path, rng: random.Random, tally: Tally) -> None:
    directory.copy_to(root)
    path = rng.choice(sorted(path for path in (root / array.relative_to(DATA)).iterdir() if path.name != ARRAY_DATA))
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    try_directory(Copy(LinuxDisk(), root), directory, damage_of(directory, array, range(1)), rng, tally.counts)
    shutil.rmtree(root)
