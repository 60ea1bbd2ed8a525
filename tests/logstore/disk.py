"""A disk in memory that forgets, at a power cut, what was not synced: the worst of filesystems, not what ext4 does.

    disk = SimulatedDisk()
    ...                                  # give it to whatever takes a Disk
    disk = disk.crash(random.Random(7))  # the power goes: one of the legal images, chosen by the seed
    disk = disk.kill()                   # only the process dies: the page cache stays

A file has what the page cache believes (`cache`) and what the disk holds (`durable`). A cut keeps, drops or tears each
page that was written since the last sync, and keeps or loses the growth of the file. A directory has the entries that
programs see and the changes since its last sync, each of which a cut keeps or loses by itself; syncing a file does not
save its name. A failed sync leaves pages that look clean and are not on the disk, as the kernel does.

Every call that changes something is a step: `before_step` sees it first and may raise, which is how the power goes in
the middle of an operation and how the n-th call fails.
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from logstore.compression import Buffer
from logstore.disk import ARRAY_DATA, PAGE_BYTES, Cells, DiskFile, DiskLock, FileMap
from logstore.errors import DataDirectoryLocked, DataDirectoryUnusable, DataLoss, StorageFailed, StorageFull
from logstore.files import prepared_path

SECTOR_BYTES = 512


class PowerCut(BaseException):
    """Raised by a test's `before_step`: nothing in the code under test may swallow it."""


class FileNode:
    def __init__(self, durable: bytes = b"") -> None:
        self.cache = bytearray(durable)
        self.durable = durable
        self.dirty: set[int] = set()
        self.lost: set[int] = set()  # clean to the kernel, never written: what a failed sync leaves
        self.reserved = len(durable)
        self.unreadable: set[int] = set()

    def write(self, data: bytes, position: int) -> None:
        if position > len(self.cache):
            self.cache.extend(bytes(position - len(self.cache)))
        self.cache[position : position + len(data)] = data
        pages = range(position // PAGE_BYTES, -(-(position + len(data)) // PAGE_BYTES))
        self.dirty.update(pages)
        self.lost.difference_update(pages)

    def sync(self) -> None:
        if not self.dirty and len(self.durable) == len(self.cache):
            return
        kept = {page: self._page(self.durable, page) for page in self.lost}
        image = bytearray(self.cache)
        for page, old in kept.items():
            _put_page(image, page, old)
        self.durable = bytes(image)
        self.dirty.clear()

    def fail_sync(self) -> None:
        self.lost.update(self.dirty)
        self.dirty.clear()

    def uncached(self) -> bytes:
        """What O_DIRECT reads: dirty pages are written out first, lost ones come from the disk."""
        image = bytearray(self.cache)
        for page in self.lost:
            _put_page(image, page, self._page(self.durable, page))
        return bytes(image)

    def truncate(self, size: int) -> None:
        if size < len(self.cache):
            self.dirty.update(range(size // PAGE_BYTES, -(-len(self.cache) // PAGE_BYTES)))
            del self.cache[size:]
        self.reserved = size

    def after_power_cut(self, rng: random.Random) -> "FileNode":
        sizes = [len(self.durable), len(self.cache)]
        size = rng.choice([*sizes, rng.randint(min(sizes), max(sizes))])
        image = bytearray(self.durable[:size].ljust(size, b"\0"))
        for page in sorted(self.dirty):
            new, old = self._page(self.cache, page), self._page(self.durable, page)
            torn = rng.randrange(0, PAGE_BYTES, SECTOR_BYTES)
            _put_page(image, page, rng.choice([new, new, old, new[:torn] + old[torn:]]))
        return FileNode(bytes(image))

    @staticmethod
    def _page(data: bytes | bytearray, page: int) -> bytes:
        return bytes(data[page * PAGE_BYTES : (page + 1) * PAGE_BYTES]).ljust(PAGE_BYTES, b"\0")


def _put_page(image: bytearray, page: int, content: bytes) -> None:
    room = max(0, min(PAGE_BYTES, len(image) - page * PAGE_BYTES))
    image[page * PAGE_BYTES : page * PAGE_BYTES + room] = content[:room]


class DirectoryNode:
    def __init__(self) -> None:
        self.entries: dict[str, Node] = {}
        self._durable: dict[str, Node] = {}
        self._changes: list[tuple[str | None, str | None, Node | None]] = []  # name removed, name added, what it names

    def change(self, removed: str | None, added: str | None, node: "Node | None" = None) -> None:
        self._changes.append((removed, added, node))
        _apply(self.entries, removed, added, node)

    def sync(self) -> None:
        self._durable = dict(self.entries)
        self._changes.clear()

    def after_power_cut(self, rng: random.Random) -> "DirectoryNode":
        entries = dict(self._durable)
        for removed, added, node in self._changes:
            if rng.random() < 0.5:
                _apply(entries, removed, added, node)
        survivor = DirectoryNode()
        survivor.entries = {name: node.after_power_cut(rng) for name, node in sorted(entries.items())}
        survivor.sync()
        return survivor


Node = FileNode | DirectoryNode


def _apply(entries: dict[str, Node], removed: str | None, added: str | None, node: Node | None) -> None:
    if removed is not None:
        entries.pop(removed, None)
    if added is not None and node is not None:
        entries[added] = node


class SimulatedDisk:
    def __init__(self, root: DirectoryNode | None = None, *, capacity_bytes: int | None = None) -> None:
        self.root = root or DirectoryNode()
        self.capacity_bytes = capacity_bytes
        self.before_step: Callable[[str, Path], None] | None = None
        self.steps_count = 0
        self.syncs: list[str] = []  # "sync NAME", "sync_dir NAME" and "sync_filesystem", in order
        self.open_files: list[SimulatedFile] = []
        self.trusts_syncfs = True
        self.maps_resident = True
        self._locks: list[SimulatedLock] = []

    # What happens to disks.

    def crash(self, rng: random.Random) -> "SimulatedDisk":
        """The power goes. Returns the disk as the next start finds it; this one is not to be used again."""
        return SimulatedDisk(self.root.after_power_cut(rng), capacity_bytes=self.capacity_bytes)

    def kill(self) -> "SimulatedDisk":
        """The process dies and the machine stays up."""
        return SimulatedDisk(self.root, capacity_bytes=self.capacity_bytes)

    def cut_power_after(self, steps: int) -> None:
        """So many more steps are made, and then no other."""
        last = self.steps_count + steps

        def before_step(operation: str, path: Path) -> None:
            if self.steps_count > last:
                raise PowerCut

        self.before_step = before_step

    def flip_bit(self, path: Path, position: int, bit: int = 0) -> None:
        """Rot: one bit changes on the disk, and nobody is told."""
        file = self._file(path)
        file.cache[position] ^= 1 << bit
        durable = bytearray(file.durable.ljust(len(file.cache), b"\0"))
        durable[position] = file.cache[position]
        file.durable = bytes(durable)

    def overwrite(self, path: Path, data: bytes) -> None:
        """Somebody else's hands: the file holds this, synced, whatever it held."""
        node = FileNode(data)
        directory = self._directory(path.parent)
        directory.change(None, path.name, node)
        directory.sync()

    def make_unreadable(self, path: Path, position: int) -> None:
        """The block at position is bad: reading it is EIO."""
        self._file(path).unreadable.add(position // PAGE_BYTES)

    @property
    def used_bytes(self) -> int:
        """What counts against `capacity_bytes`, reservations included."""
        return sum(max(file.reserved, len(file.cache)) for _, file in self._walk(Path("/"), self.root))

    def files(self) -> dict[Path, bytes]:
        """Every file and what a program reads in it."""
        return {path: bytes(node.cache) for path, node in self._walk(Path("/"), self.root)}

    # The Disk.

    def exists(self, path: Path) -> bool:
        return self._find(path) is not None

    def list_dir(self, path: Path) -> list[str]:
        return sorted(self._directory(path).entries)

    def make_dir(self, path: Path) -> None:
        if self.exists(path):
            self._directory(path)
            return
        self.make_dir(path.parent)
        self.step("make_dir", path)
        self._directory(path.parent).change(None, path.name, DirectoryNode())
        self.sync_dir(path.parent)

    def make_dirs(self, parent: Path, names: Sequence[str]) -> None:
        self.make_dir(parent)
        for name in names:
            if not self.exists(parent / name):
                self.step("make_dir", parent / name)
                self._directory(parent).change(None, name, DirectoryNode())
        self.sync_dir(parent)

    def read_file(self, path: Path, bytes_max: int) -> bytes:
        data = bytes(self._file(path).cache)
        if len(data) > bytes_max:
            raise DataLoss(f"{path} is larger than {bytes_max} bytes", remedy="See the real disk.")
        return data

    def replace_file(self, path: Path, data: Buffer) -> None:
        self.replace_files({path: data}, whole_filesystem=False)

    def replace_files(self, contents: Mapping[Path, Buffer], *, whole_filesystem: bool) -> None:
        directories = list(dict.fromkeys(path.parent for path in contents))
        try:
            for path, data in contents.items():
                temporary = prepared_path(path)
                self.step("create", temporary)
                node = FileNode()
                self._directory(path.parent).change(None, temporary.name, node)
                self._write(temporary, node, bytes(data), 0)
                if not whole_filesystem:
                    self._sync(temporary, node)
        except StorageFull:
            for path in contents:
                self.remove(prepared_path(path))
            raise
        if whole_filesystem:
            self.sync_filesystem(directories[0])
        for path in contents:
            self.rename(prepared_path(path), path)
        if whole_filesystem:
            self.sync_filesystem(directories[0])
        else:
            for directory in directories:
                self.sync_dir(directory)

    def create(self, path: Path) -> DiskFile:
        if self.exists(path):
            raise FileExistsError(str(path))
        self.step("create", path)
        node = FileNode()
        self._directory(path.parent).change(None, path.name, node)
        return SimulatedFile(self, path, node)

    def open(self, path: Path, *, writable: bool = False) -> DiskFile:
        return SimulatedFile(self, path, self._file(path))

    def open_uncached(self, path: Path) -> tuple[DiskFile, bool]:
        return SimulatedFile(self, path, self._file(path), uncached=True), True

    def rename(self, old: Path, new: Path) -> None:
        assert old.parent == new.parent, "names move within their directory, where a rename is atomic"
        node = self._find(old)
        if node is None:
            raise FileNotFoundError(str(old))
        self.step("rename", new)
        self._directory(old.parent).change(old.name, new.name, node)

    def remove(self, path: Path) -> None:
        if self.exists(path):
            self.step("remove", path)
            self._directory(path.parent).change(path.name, None)

    def remove_tree(self, path: Path) -> None:
        if self.exists(path):
            self.step("remove_tree", path)
            self._directory(path.parent).change(path.name, None)

    def sync_dir(self, path: Path) -> None:
        self.step("sync_dir", path)
        self._directory(path).sync()
        self.syncs.append(f"sync_dir {path.name}")

    def can_sync_filesystem(self, path: Path) -> bool:
        return self.trusts_syncfs

    def sync_filesystem(self, path: Path) -> None:
        try:
            self.step("sync_filesystem", path)
        except StorageFailed:
            for _, node in self._walk(Path("/"), self.root):
                node.fail_sync()
            raise
        self._sync_all(self.root)
        self.syncs.append("sync_filesystem")

    def lock(self, path: Path) -> DiskLock:
        if any(lock.path == path for lock in self._locks):
            raise DataDirectoryLocked(f"{path.parent} is in use", remedy="See the real disk.")
        if not self.exists(path):
            self.create(path).close()
        return SimulatedLock(self._locks, path, is_shared=False)

    def lock_for_reading(self, path: Path) -> DiskLock:
        if any(lock.path == path and not lock.is_shared for lock in self._locks):
            raise DataDirectoryLocked(f"{path.parent} is in use", remedy="See the real disk.")
        self._file(path)
        return SimulatedLock(self._locks, path, is_shared=True)

    def write_array(self, path: Path, cells: Cells, *, columns: int) -> None:
        self.remove_tree(path)
        self.step("make_dir", path)
        directory = DirectoryNode()
        self._directory(path.parent).change(None, path.name, directory)
        node = FileNode()
        directory.change(None, ARRAY_DATA, node)
        self._write(path / ARRAY_DATA, node, cells.tobytes(), 0)
        self._sync(path / ARRAY_DATA, node)
        self.sync_dir(path)
        self.sync_dir(path.parent)

    def extend_array(self, path: Path, cells: Cells, *, columns: int, count: int) -> None:
        data = cells.tobytes()
        position = count * columns * cells.itemsize
        if count == 0 and not self.exists(path):
            self.step("make_dir", path)
            self._directory(path.parent).change(None, path.name, DirectoryNode())
        if count == 0 and not self.exists(path / ARRAY_DATA):
            self.step("create", path / ARRAY_DATA)
            self._directory(path).change(None, ARRAY_DATA, FileNode())
        node = self._file(path / ARRAY_DATA)
        node.truncate(position)
        room = len(data) if self.capacity_bytes is None else max(0, self.capacity_bytes - self.used_bytes)
        self._write(path / ARRAY_DATA, node, data[:room], position)
        if room < len(data):
            raise StorageFull(f"no room on the filesystem of {path}", remedy="Free space.")

    def read_array(self, path: Path) -> bytes:
        return bytes(self._file(path / ARRAY_DATA).cache)

    def open_array(self, path: Path, shape: tuple[int, int]) -> memoryview | None:
        node = self._find(path / ARRAY_DATA)
        if not isinstance(node, FileNode) or len(node.cache) != shape[0] * shape[1] * 8:
            return None
        return memoryview(bytes(node.cache)).cast("q")

    # Inside.

    def step(self, operation: str, path: Path) -> None:
        self.steps_count += 1
        if self.before_step is not None:
            self.before_step(operation, path)

    def _write(self, path: Path, node: FileNode, data: bytes, position: int) -> None:
        self.step("write", path)
        self.take_room(node, position + len(data), path)
        node.write(data, position)

    def _sync(self, path: Path, node: FileNode) -> None:
        try:
            self.step("sync", path)
        except StorageFailed:
            node.fail_sync()
            raise
        node.sync()
        self.syncs.append(f"sync {path.name}")

    def take_room(self, node: FileNode, end: int, path: Path) -> None:
        if end <= node.reserved:
            return
        if self.capacity_bytes is not None and self.used_bytes + end - node.reserved > self.capacity_bytes:
            raise StorageFull(f"no room on the filesystem of {path}", remedy="Free space.")
        node.reserved = end

    def _sync_all(self, node: Node) -> None:
        node.sync()
        if isinstance(node, DirectoryNode):
            for child in node.entries.values():
                self._sync_all(child)

    def _walk(self, path: Path, node: Node) -> Iterator[tuple[Path, FileNode]]:
        if isinstance(node, FileNode):
            yield path, node
            return
        for name, child in sorted(node.entries.items()):
            yield from self._walk(path / name, child)

    def _find(self, path: Path) -> Node | None:
        node: Node = self.root
        for name in path.parts[1:] if path.is_absolute() else path.parts:
            if not isinstance(node, DirectoryNode) or name not in node.entries:
                return None
            node = node.entries[name]
        return node

    def _file(self, path: Path) -> FileNode:
        node = self._find(path)
        if node is None:
            raise FileNotFoundError(str(path))
        if not isinstance(node, FileNode):
            raise DataDirectoryUnusable(f"{path} is a directory", remedy="See the real disk.")
        return node

    def _directory(self, path: Path) -> DirectoryNode:
        node = self._find(path)
        if node is None:
            raise FileNotFoundError(str(path))
        if not isinstance(node, DirectoryNode):
            raise DataDirectoryUnusable(f"{path} is not a directory", remedy="See the real disk.")
        return node


class SimulatedFile:
    def __init__(self, disk: SimulatedDisk, path: Path, node: FileNode, *, uncached: bool = False) -> None:
        self.path = path
        self._disk = disk
        self._node = node
        self._uncached = uncached
        disk.open_files.append(self)

    def pwritev(self, buffers: Sequence[Buffer], position: int) -> None:
        self._check_open()
        self._disk._write(self.path, self._node, b"".join(buffers), position)

    def pread(self, size: int, position: int) -> bytes:
        self._check_open()
        pages = range(position // PAGE_BYTES, -(-(position + size) // PAGE_BYTES))
        if not self._node.unreadable.isdisjoint(pages):
            raise DataLoss(f"{self.path} at position {position} cannot be read", remedy="See the real disk.")
        data = self._node.uncached() if self._uncached else self._node.cache
        return bytes(data[position : position + size])

    def pread_nowait(self, size: int, position: int) -> Buffer | None:
        data = self.pread(size, position)
        return data if len(data) == size else None

    def reserve(self, position: int, size: int) -> None:
        self._check_open()
        self._disk.step("reserve", self.path)
        self._disk.take_room(self._node, position + size, self.path)

    def sync(self) -> None:
        self._check_open()
        self._disk._sync(self.path, self._node)

    def truncate(self, size: int) -> None:
        self._check_open()
        self._disk.step("truncate", self.path)
        self._node.truncate(size)

    def size(self) -> int:
        self._check_open()
        return len(self._node.cache)

    def map(self) -> FileMap:
        self._check_open()
        return SimulatedMap(self._disk, bytes(self._node.cache))

    def close(self) -> None:
        self._check_open()
        self._disk.open_files.remove(self)

    def _check_open(self) -> None:
        # A bare descriptor number would have read whatever file got that number next.
        assert self in self._disk.open_files, f"{self.path} was used after it was closed"


class SimulatedMap:
    def __init__(self, disk: SimulatedDisk, data: bytes) -> None:
        self.size = len(data)
        self._disk = disk
        self._data = data

    def view(self, position: int, size: int) -> memoryview:
        assert 0 <= position <= position + size <= self.size
        return memoryview(self._data)[position : position + size]

    def is_resident(self, position: int, size: int) -> bool:
        return self._disk.maps_resident


class SimulatedLock:
    def __init__(self, held: list["SimulatedLock"], path: Path, *, is_shared: bool) -> None:
        self.path = path
        self.is_shared = is_shared
        self._held = held
        held.append(self)

    def release(self) -> None:
        self._held.remove(self)
