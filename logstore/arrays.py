"""mmap-ninja's arrays: rows of int64, in a directory of a file with the rows and one each for type, shape and order."""

import math
import os
from pathlib import Path
from struct import error as StructError

import numpy as np
from mmap_ninja import numpy as ninja

from logstore.disk import ARRAY_DATA, Cells


def write(path: Path, cells: Cells, columns: int) -> None:
    """Make one anew; there must be none. What it writes is not synced."""
    # mmap-ninja's from_ndarray stores through a map of a sparse file, which on a full disk is SIGBUS. Its extend_dir
    # writes: so an array begins without rows and is extended at once.
    path.mkdir(mode=0o700)
    ninja._save_mmap_kwargs(path, np.dtype(np.int64), (0, columns), "C")
    ninja.extend_dir(path, _rows(cells, columns))


def extend(path: Path, cells: Cells, columns: int, count: int) -> None:
    """Put rows behind the first `count`, whatever follows them. Raises FileNotFoundError."""
    if count == 0:
        path.mkdir(mode=0o700, exist_ok=True)
        (path / ARRAY_DATA).touch(0o600)
    if not _is_array(path, (count, columns)):
        os.truncate(path / ARRAY_DATA, count * columns * cells.itemsize)
        ninja._save_mmap_kwargs(path, np.dtype(np.int64), (count, columns), "C")
    ninja.extend_dir(path, _rows(cells, columns))


def open_existing(path: Path, shape: tuple[int, int]) -> memoryview | None:
    """Its cells, mapped; None if its files say another shape. Raises OSError, ValueError."""
    if not _is_array(path, shape):
        return None
    return memoryview(ninja.open_existing(path)).cast("B").cast("q")


def _rows(cells: Cells, columns: int) -> np.ndarray:
    return np.frombuffer(cells, dtype=np.int64).reshape(-1, columns)


def _is_array(path: Path, shape: tuple[int, ...]) -> bool:
    """Whether the files of the array say that shape, all of them."""
    try:
        size = os.stat(path / ARRAY_DATA).st_size
        kwargs = ninja._read_mmap_kwargs(path)
    except (FileNotFoundError, ValueError, StructError):
        return False
    return size == math.prod(shape) * 8 and kwargs == {"dtype": "int64", "shape": shape, "order": "C"}
