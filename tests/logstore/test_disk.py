"""The disk: the simulated one does what the real one does, and forgets what the real one may forget."""

import errno
import gc
import os
import random
import subprocess
import sys
from array import array
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from logstore.compression import Buffer
from logstore.disk import ARRAY_DATA, Disk
from logstore.errors import DataDirectoryLocked, DataDirectoryUnusable, DataLoss, StorageFailed, StorageFull
from logstore.linux_disk import LinuxDisk
from tests.logstore.disk import PowerCut, SimulatedDisk


@pytest.fixture(params=["real", "simulated"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, Path]:
    if request.param == "real":
        return LinuxDisk(), tmp_path
    disk = SimulatedDisk()
    disk.make_dir(Path("/here"))
    return disk, Path("/here")


# Both.


def test_what_was_written_is_read(place: tuple[Disk, Path]) -> None:
    disk, here = place
    file = disk.create(here / "a")
    file.reserve(0, 65536)
    assert file.size() == 0
    file.pwritev((b"abc", memoryview(b"defg")[1:], bytearray(5000)), 0)
    file.sync()
    assert file.size() == 5006
    assert file.pread(5, 1) == b"bcefg"
    assert file.pread(100, 5000) == bytes(6)
    assert file.pread(10, 6000) == b""
    nowait = file.pread_nowait(5, 1)
    assert nowait is None or bytes(nowait) == b"bcefg"
    assert file.pread_nowait(10, 5000) is None  # not all of it is there: the waiting read says so
    uncached, _ = disk.open_uncached(here / "a")
    assert uncached.pread(5, 1) == b"bcefg"
    assert uncached.pread(10_000, 4090) == bytes(916)
    assert uncached.size() == 5006
    uncached.close()
    file.truncate(3)
    assert file.pread(10, 0) == b"abc"
    file.close()


def test_names_come_and_go(place: tuple[Disk, Path]) -> None:
    disk, here = place
    disk.make_dir(here / "b" / "c")
    disk.make_dir(here / "b" / "c")
    disk.make_dirs(here / "b", ["x", "y"])
    disk.create(here / "b" / "f").close()
    assert disk.list_dir(here / "b") == ["c", "f", "x", "y"]
    with pytest.raises(FileExistsError):
        disk.create(here / "b" / "f")
    disk.rename(here / "b" / "f", here / "b" / "g")
    disk.remove(here / "b" / "g")
    disk.remove(here / "b" / "g")
    disk.remove_tree(here / "b")
    disk.remove_tree(here / "b")
    assert disk.list_dir(here) == []
    for missing in (disk.open, disk.open_uncached, disk.list_dir, disk.read_array):
        with pytest.raises(FileNotFoundError):
            missing(here / "missing")
    with pytest.raises(FileNotFoundError):
        disk.rename(here / "missing", here / "other")
    with pytest.raises(FileNotFoundError):
        disk.extend_array(here / "missing", array("q", [0, 0, 0, 0]), columns=4, count=1)


def test_a_file_is_replaced_as_a_whole(place: tuple[Disk, Path]) -> None:
    disk, here = place
    disk.replace_file(here / "meta", b"one")
    disk.replace_file(here / "meta", b"two")
    assert disk.read_file(here / "meta", 3) == b"two"
    with pytest.raises(DataLoss, match="larger than"):
        disk.read_file(here / "meta", 2)
    assert disk.list_dir(here) == ["meta"]


@pytest.mark.parametrize("whole_filesystem", [False, True])
def test_many_files_are_replaced_each_as_a_whole(place: tuple[Disk, Path], whole_filesystem: bool) -> None:
    disk, here = place
    for name in ("a", "b"):
        disk.make_dir(here / name)
    disk.replace_file(here / "a" / "x", b"old")

    disk.replace_files(
        {here / "a" / "x": b"new", here / "a" / "y": b"", here / "b" / "x": b"other"}, whole_filesystem=whole_filesystem
    )

    assert disk.read_file(here / "a" / "x", 9) == b"new"
    assert disk.read_file(here / "b" / "x", 9) == b"other"
    assert (disk.list_dir(here / "a"), disk.list_dir(here / "b")) == (["x", "y"], ["x"])


def test_a_file_that_is_removed_stays_readable_for_who_has_it(place: tuple[Disk, Path]) -> None:
    disk, here = place
    file = disk.create(here / "a")
    file.pwritev((b"0123456789",), 0)
    view = file.map().view(2, 5)
    disk.remove(here / "a")
    assert file.pread(3, 0) == b"012"
    file.close()
    gc.collect()
    assert bytes(view) == b"23456"
    assert view.readonly


def test_an_array_begins_when_it_is_first_extended(place: tuple[Disk, Path]) -> None:
    disk, here = place
    cells = array("q", range(12))
    for _ in range(2):
        disk.extend_array(here / "i", cells, columns=4, count=0)
        assert disk.read_array(here / "i") == cells.tobytes()
    opened = disk.open_array(here / "i", (3, 4))
    assert opened is not None
    assert array("q", opened) == cells


def test_rows_follow_those_that_count_whatever_a_full_disk_took_of_others(place: tuple[Disk, Path]) -> None:
    disk, here = place
    cells = array("q", range(12))
    disk.write_array(here / "i", cells, columns=4)
    file = disk.open(here / "i" / ARRAY_DATA, writable=True)
    file.pwritev((b"a row and a half" * 3,), file.size())
    file.close()

    disk.extend_array(here / "i", cells, columns=4, count=3)

    assert disk.read_array(here / "i") == (cells + cells).tobytes()
    opened = disk.open_array(here / "i", (6, 4))
    assert opened is not None
    assert array("q", opened) == cells + cells


@pytest.mark.parametrize("shape", [b"", b"\3", b"\xff" * 16, None])
def test_a_shape_that_a_full_disk_did_not_take_is_written_anew(tmp_path: Path, shape: bytes | None) -> None:
    disk = LinuxDisk()
    cells = array("q", range(12))
    disk.write_array(tmp_path / "i", cells, columns=4)
    if shape is None:
        (tmp_path / "i" / "shape.ninja").unlink()
    else:
        (tmp_path / "i" / "shape.ninja").write_bytes(shape)

    disk.extend_array(tmp_path / "i", cells, columns=4, count=3)

    assert disk.open_array(tmp_path / "i", (6, 4)) is not None


def test_arrays_are_what_was_written_and_never_more(place: tuple[Disk, Path]) -> None:
    disk, here = place
    cells = array("q", range(12))
    disk.write_array(here / "i", cells, columns=4)
    disk.extend_array(here / "i", cells, columns=4, count=3)
    assert disk.read_array(here / "i") == (cells + cells).tobytes()
    opened = disk.open_array(here / "i", (6, 4))
    assert opened is not None
    assert array("q", opened) == cells + cells
    assert disk.open_array(here / "i", (5, 4)) is None
    disk.write_array(here / "i", cells, columns=4)
    assert disk.read_array(here / "i") == cells.tobytes()
    assert disk.open_array(here / "missing", (3, 4)) is None


def test_a_lock_is_held_once(place: tuple[Disk, Path]) -> None:
    disk, here = place
    lock = disk.lock(here / "lock")
    with pytest.raises(DataDirectoryLocked):
        disk.lock(here / "lock")
    lock.release()
    disk.lock(here / "lock").release()


def test_a_lock_is_shared_by_readers_and_keeps_writers_out(place: tuple[Disk, Path]) -> None:
    disk, here = place
    with pytest.raises(FileNotFoundError):
        disk.lock_for_reading(here / "lock")
    disk.lock(here / "lock").release()
    written = disk.read_file(here / "lock", 100)

    first, second = (disk.lock_for_reading(here / "lock") for _ in range(2))
    first.release()
    with pytest.raises(DataDirectoryLocked):
        disk.lock(here / "lock")
    second.release()
    assert disk.read_file(here / "lock", 100) == written

    lock = disk.lock(here / "lock")
    with pytest.raises(DataDirectoryLocked):
        disk.lock_for_reading(here / "lock")
    lock.release()


# The real one.


def test_who_is_in_the_way_of_a_lock_is_told(tmp_path: Path) -> None:
    disk, path = LinuxDisk(), tmp_path / "lock"
    lock = disk.lock(path)
    for take in (disk.lock, disk.lock_for_reading):
        with pytest.raises(DataDirectoryLocked, match=rf"in use by another process \(pid {os.getpid()}\)"):
            take(path)
    lock.release()
    reading = disk.lock_for_reading(path)
    with pytest.raises(DataDirectoryLocked, match="being read by another process"):
        disk.lock(path)
    reading.release()


def test_a_file_that_cannot_be_opened_past_the_cache_is_told_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryUnusable, match="Not a directory"):
        LinuxDisk().open_uncached(tmp_path / "file" / "x.log")


def test_a_lying_shape_file_maps_nothing(tmp_path: Path) -> None:
    disk = LinuxDisk()
    disk.write_array(tmp_path / "i", array("q", range(12)), columns=4)
    shape = tmp_path / "i" / "shape.ninja"
    for position in range(16):
        good = shape.read_bytes()
        shape.write_bytes(good[:position] + bytes([good[position] ^ 4]) + good[position + 1 :])
        assert disk.open_array(tmp_path / "i", (3, 4)) is None
        shape.write_bytes(good)
    assert disk.open_array(tmp_path / "i", (3, 4)) is not None
    os.truncate(tmp_path / "i" / ARRAY_DATA, 95)
    assert disk.open_array(tmp_path / "i", (3, 4)) is None
    assert (tmp_path / "i" / ARRAY_DATA).stat().st_size == 95, "a cut file is not extended"


def test_a_full_disk_is_told_apart_from_a_broken_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LinuxDisk().create(tmp_path / "a")
    for code, expected in ((errno.ENOSPC, StorageFull), (errno.EDQUOT, StorageFull), (errno.EIO, StorageFailed)):

        def fail(*arguments: object, code: int = code) -> int:
            raise OSError(code, os.strerror(code))

        with monkeypatch.context() as patched:
            patched.setattr(os, "pwritev", fail)
            with pytest.raises(expected):
                file.pwritev((b"x",), 0)
        with monkeypatch.context() as patched:
            patched.setattr("logstore.linux_disk._fdatasync", fail)
            with pytest.raises(StorageFailed, match="syncing"):  # also for want of room: the data is gone
                file.sync()
        with monkeypatch.context() as patched:
            patched.setattr(os, "pread", fail)
            with pytest.raises(DataLoss):
                file.pread(1, 0)
    file.close()


def test_a_short_write_is_written_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = LinuxDisk().create(tmp_path / "a")
    whole = os.pwritev
    monkeypatch.setattr(os, "pwritev", lambda fd, buffers, position: whole(fd, [b"".join(buffers)[:3]], position))
    file.pwritev((b"01", b"23456789"), 5)
    assert file.pread(100, 0) == bytes(5) + b"0123456789"
    file.close()


@pytest.fixture
def as_somebody() -> Iterator[None]:
    """Root may read and write anywhere."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


@pytest.mark.parametrize("mode", [0o500, 0o000])
def test_a_directory_in_one_that_may_not_be_written_or_read_is_unusable(
    tmp_path: Path, as_somebody: None, mode: int
) -> None:
    with suppress(PermissionError):  # When it was root's, it is closed to somebody as it is.
        tmp_path.chmod(mode)
    with pytest.raises(DataDirectoryUnusable, match="cannot be used: Permission denied"):
        LinuxDisk().make_dir(tmp_path / "data")


def test_another_process_is_kept_out_and_named(tmp_path: Path) -> None:
    lock = LinuxDisk().lock(tmp_path / "lock")
    program = "import sys, pathlib, logstore.linux_disk as d; d.LinuxDisk().lock(pathlib.Path(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(tmp_path / "lock")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"in use by another process (pid {os.getpid()})" in ended.stderr
    lock.release()


def test_a_map_knows_whether_its_pages_are_in_memory(tmp_path: Path) -> None:
    file = LinuxDisk().create(tmp_path / "a")
    file.pwritev((bytes(100_000),), 0)
    assert file.map().is_resident(5_000, 90_000)
    file.close()


# The simulated one.


def test_no_file_takes_its_name_before_all_of_them_are_synced(tmp_path: Path) -> None:
    calls: list[str] = []

    class Recorded(LinuxDisk):
        def sync_filesystem(self, path: Path) -> None:
            calls.append("sync")

        def rename(self, old: Path, new: Path) -> None:
            calls.append(f"{new.name} is {old.read_bytes().decode()}")

    contents = {tmp_path / name: name.upper().encode() for name in "abc"}
    Recorded().replace_files(contents, whole_filesystem=True)
    assert calls == ["sync", "a is A", "b is B", "c is C", "sync"]


def test_files_for_which_there_is_no_room_leave_nothing_behind(tmp_path: Path) -> None:
    class AlmostFull(LinuxDisk):
        def _prepare(self, path: Path, data: Buffer, *, sync: bool) -> None:
            super()._prepare(path, data, sync=sync)
            if path.name == "b":
                raise StorageFull("no room", remedy="")

    LinuxDisk().replace_file(tmp_path / "a", b"old")
    with pytest.raises(StorageFull):
        AlmostFull().replace_files({tmp_path / name: b"new" for name in "abc"}, whole_filesystem=True)
    assert os.listdir(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("whole_filesystem", [False, True])
def test_a_file_that_is_replaced_with_others_is_whole_wherever_the_power_goes(whole_filesystem: bool) -> None:
    paths = [Path("/a/x"), Path("/a/y"), Path("/b/x")]
    steps_count = 30
    for step in range(steps_count):
        disk = SimulatedDisk()
        for directory in ("/a", "/b"):
            disk.make_dir(Path(directory))
        disk.replace_files(dict.fromkeys(paths, b"old" * 5000), whole_filesystem=False)
        disk.cut_power_after(step)
        returned = False
        with suppress(PowerCut):
            disk.replace_files(dict.fromkeys(paths, b"new" * 5000), whole_filesystem=whole_filesystem)
            returned = True
        for seed in range(4):
            survivor = disk.crash(random.Random(seed))
            for path in paths:
                found = survivor.read_file(path, 1 << 20)
                assert found in ([b"new" * 5000] if returned else [b"old" * 5000, b"new" * 5000])
    assert returned


def test_a_power_cut_keeps_what_was_synced_and_any_part_of_the_rest() -> None:
    outcomes = set()
    for seed in range(60):
        disk = SimulatedDisk()
        kept = disk.create(Path("/kept"))
        kept.pwritev((b"a" * 9000,), 0)
        kept.sync()
        disk.create(Path("/lost")).pwritev((b"x",), 0)
        disk.sync_dir(Path("/"))
        disk.create(Path("/unnamed")).sync()
        kept.pwritev((b"b" * 9000,), 4096)
        after = disk.crash(random.Random(seed))
        data = after.files()[Path("/kept")]
        assert data[:4096] == b"a" * 4096
        assert len(data) >= 9000
        outcomes.add((after.exists(Path("/unnamed")), len(data) > 9000, data[4096:4097], data[8191:8192]))
    assert len(outcomes) > 6, "a cut that always does the same finds little"
    assert (False, False, b"a", b"a") in outcomes


def test_a_failed_sync_leaves_pages_that_look_clean() -> None:
    disk = SimulatedDisk()
    file = disk.create(Path("/a"))
    disk.sync_dir(Path("/"))

    def fail(operation: str, path: Path) -> None:
        raise StorageFailed("EIO", remedy="")

    file.pwritev((b"gone",), 0)
    disk.before_step = fail
    with pytest.raises(StorageFailed):
        file.sync()
    disk.before_step = None
    file.sync()  # says OK
    assert file.pread(4, 0) == b"gone"
    assert disk.open_uncached(Path("/a"))[0].pread(4, 0) == bytes(4)


def test_a_closed_file_is_never_read() -> None:
    file = SimulatedDisk().create(Path("/a"))
    file.close()
    with pytest.raises(AssertionError, match="after it was closed"):
        file.pread(1, 0)


@pytest.mark.parametrize("times", [1, 5])
def test_a_tree_is_removed_though_another_process_makes_files_in_it(
    times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, rmdir, left = tmp_path / "0", os.rmdir, times
    tree.mkdir()

    def make_one_first(path: str, **named: int) -> None:
        nonlocal left
        if left:
            left -= 1
            (tree / f"{left}.log").touch()
        rmdir(path, **named)

    monkeypatch.setattr(os, "rmdir", make_one_first)
    LinuxDisk().remove_tree(tree)
    assert not tree.exists()
    assert left == 0


def test_a_tree_is_removed_though_another_process_removes_files_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, unlink = tmp_path / "0", os.unlink
    tree.mkdir()
    for number in range(3):
        (tree / f"{number}.log").touch()

    def move_one_first(path: str, **named: int) -> None:
        if (tree / "1.log").exists():
            (tree / "1.log").rename(tmp_path / "1.log")
        unlink(path, **named)

    monkeypatch.setattr(os, "unlink", move_one_first)
    LinuxDisk().remove_tree(tree)
    assert not tree.exists()


def test_a_tree_that_is_never_empty_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "0").mkdir()

    def refuse(path: str, **named: int) -> None:
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))

    monkeypatch.setattr(os, "rmdir", refuse)
    with pytest.raises(StorageFailed, match="Directory not empty"):
        LinuxDisk().remove_tree(tmp_path / "0")
