"""A file or directory of a stopped data directory is lost, cut, zeroed, swapped, doubled or renamed (scorecard row 8).

On a real disk, with the small files that mmap-ninja keeps of an index. What is derived is made again; records and
metadata that are gone are told, by a partition that takes no appends or by a start that is refused; and nothing is
ever deleted to make a start succeed.
"""

import random
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from logstore import files
from logstore.data_directory import CHECKPOINT, TOPICS
from logstore.disk import PAGE_BYTES
from logstore.linux_disk import LinuxDisk
from tests.faults.bugs.planted import planted
from tests.faults.runs import Session, Tally
from tests.faults.storage.damage import Damage
from tests.faults.storage.damaged_directories import TOPIC, damage_of, kind_of, try_directory
from tests.faults.storage.data_directories import Copy, DataDirectory, make_data_directory, real_directory
from tests.faults.storage.model import tell
from tests.logstore.store import DATA

MUTATIONS_PER_DIRECTORY = 25
ALL_BYTES = range(1 << 62)
TOPIC_DIRECTORY, PARTITION, ARRAY_FILE = "directory of a topic", "directory of a partition", "file of an array"
CONDEMNED = "topic.deleted"


def run(session: Session, tally: Tally) -> None:
    """Make as many mutations as the session has cycles, each of another copy."""
    rng = session.rng("lost files")
    with planted(*session.planted), real_directory() as scratch:
        template, root = scratch / "template", scratch / "data"
        for number in range(session.cycles):
            if number % MUTATIONS_PER_DIRECTORY == 0:
                directory = make_data_directory(rng)
                shutil.rmtree(template, ignore_errors=True)
                directory.copy_to(template)
            shutil.copytree(template, root)
            mutation = Mutation(directory, root, rng)
            what = mutation.make()
            try:
                try_directory(Copy(LinuxDisk(), root), directory, mutation.damage, rng, tally.counts)
            except Exception as error:
                tally.violate(f"mutation {number}, {what}: {tell(error)}")
            tally.count("mutations")
            shutil.rmtree(root)
            if session.is_over(tally):
                return


class Mutation:
    """One thing done to a copy of a data directory, and what may be lost by it."""

    def __init__(self, directory: DataDirectory, root: Path, rng: random.Random) -> None:
        self.damage = Damage()
        self._directory = directory
        self._root = root
        self._rng = rng
        self._by_kind: dict[str, list[Path]] = defaultdict(list)
        for path in sorted(root.rglob("*")):
            self._by_kind[self._kind(path)].append(path)

    def make(self) -> str:
        """Do it, and say what was done."""
        path = self._any(self._rng.choice(sorted(self._by_kind)))
        ways: list[Callable[[Path], str]] = [self._delete, self._double, self._rename]
        if path.is_file():
            ways += [self._cut, self._zero_block, self._zero, self._swap]
        return self._rng.choice(ways)(path)

    def _delete(self, path: Path) -> str:
        self._lose(path)
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return f"{self._name(path)} is deleted"

    def _cut(self, path: Path) -> str:
        size = self._rng.randrange(max(1, path.stat().st_size))
        self._lose(path, range(size, ALL_BYTES.stop))
        path.write_bytes(path.read_bytes()[:size])
        return f"{self._name(path)} is cut to {size} bytes"

    def _zero_block(self, path: Path) -> str:
        data = bytearray(path.read_bytes())
        start = self._rng.randrange(len(data) + 1) // PAGE_BYTES * PAGE_BYTES
        block = range(start, min(len(data), start + PAGE_BYTES))
        self._lose(path, block)
        data[block.start : block.stop] = bytes(len(block))
        path.write_bytes(data)
        return f"{self._name(path)} is zero in {block}"

    def _zero(self, path: Path) -> str:
        self._lose(path)
        path.write_bytes(bytes(path.stat().st_size))
        return f"{self._name(path)} is zero"

    def _swap(self, path: Path) -> str:
        other = self._any(self._kind(path) if self._rng.random() < 0.8 else self._rng.choice(sorted(self._by_kind)))
        if other.is_dir() or other == path:
            return "nothing is done"
        self._lose(path)
        self._lose(other)
        if self._kind(path) == files.SEAL_SUFFIX and path.name == other.name:
            # Each is whole, and does not say whose it is: so the log that it does not fit is told to be damaged.
            self._gain(path.with_suffix(files.LOG_SUFFIX))
            self._gain(other.with_suffix(files.LOG_SUFFIX))
        if {self._kind(path), self._kind(other)} == {files.LOG_SUFFIX}:
            keys = map(self._directory.partition_of, map(self._place, (path, other)))
            self.damage |= Damage(exchanged=frozenset(key for key in keys if key is not None))
        mine, theirs = path.read_bytes(), other.read_bytes()
        path.write_bytes(theirs)
        other.write_bytes(mine)
        return f"{self._name(path)} and {self._name(other)} are swapped"

    def _double(self, path: Path) -> str:
        other = self._other_name(path)
        self._gain(other)
        shutil.copytree(path, other) if path.is_dir() else shutil.copyfile(path, other)
        return f"{self._name(path)} is also {self._name(other)}"

    def _rename(self, path: Path) -> str:
        other = self._other_name(path)
        self._lose(path)
        self._gain(other)
        path.rename(other)
        return f"{self._name(path)} has become {self._name(other)}"

    def _other_name(self, path: Path) -> Path:
        """A free name in the same directory: one that means nothing, or one that another such thing could have."""
        name = path.name
        if self._rng.random() < 0.5:
            parsed = files.parse_segment_file(name)
            if parsed is not None:
                name = f"{parsed.base_offset + self._rng.randrange(1, 50):020d}{name[20:]}"
            elif self._kind(path) == PARTITION:
                name = str(int(name) + self._rng.randrange(1, 4))
            elif self._kind(path) == TOPIC_DIRECTORY:
                name = self._rng.randbytes(16).hex()
        other = path.with_name(name)
        return path.with_name(f"{path.name}.bak") if other.exists() else other

    # What may be lost by it.

    def _lose(self, path: Path, positions: range = ALL_BYTES) -> None:
        kind, place = self._kind(path), self._place(path)
        if kind in (TOPICS, PARTITION, CHECKPOINT, CONDEMNED):
            self.damage |= Damage(is_start_refused=True)
        elif kind == TOPIC_DIRECTORY or (kind == TOPIC and not any(path.parent.glob("*/*.log"))):
            # TODAY: nothing else knows of the topic. Without records the document is taken for a creation cut short.
            names = [topic.name for topic in self._directory.model.topics.values() if topic.topic_id.hex in place.parts]
            self.damage |= Damage(topics=frozenset(names))
        elif path.is_file():
            self.damage |= damage_of(self._directory, place, positions)

    def _gain(self, path: Path) -> None:
        """There is one more of these, and what it has is elsewhere."""
        place = self._place(path)
        parsed, key = files.parse_segment_file(path.name), self._directory.partition_of(place)
        if len(place.relative_to(DATA).parts) in (2, 3):
            self.damage |= Damage(is_start_refused=True)
        elif parsed is not None and parsed.suffix == files.LOG_SUFFIX and key is not None:
            self.damage |= Damage({key: [range(parsed.base_offset, ALL_BYTES.stop)]})

    # Names.

    def _any(self, kind: str) -> Path:
        return self._rng.choice(self._by_kind[kind])

    def _place(self, path: Path) -> Path:
        return DATA / path.relative_to(self._root)

    def _name(self, path: Path) -> str:
        return str(path.relative_to(self._root))

    def _kind(self, path: Path) -> str:
        parts = path.relative_to(self._root).parts
        if path.is_dir() and len(parts) < 4:
            return (TOPICS, TOPIC_DIRECTORY, PARTITION)[len(parts) - 1]
        return ARRAY_FILE if len(parts) > 4 else kind_of(self._place(path))
