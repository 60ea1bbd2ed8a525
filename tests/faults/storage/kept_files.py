"""Nothing is deleted to make a start succeed: what was there is there, or is kept aside."""

from collections.abc import Callable, Mapping
from pathlib import Path

from logstore.data_directory import LOCK
from tests.faults.storage.model import Violation

KEPT = ".discarded-"


def check_kept(
    before: Mapping[Path, bytes], after: Mapping[Path, bytes], *, may_go: Callable[[Path], bool] = lambda path: False
) -> None:
    """Of every log file that there was, each byte is still in it, or in a file beside it that keeps what was cut.

    `may_go`: the log has left it behind, and a removal that was cut short goes on.
    """
    for path, data in before.items():
        now = after.get(path, b"")
        if path.suffix != ".log" or now.startswith(data) or (not now and may_go(path)):
            continue
        kept = [other for name, other in after.items() if KEPT in name.name and name.parent == path.parent]
        # What was cut off may have been written over since.
        if not any(data.endswith(other) and now.startswith(data[: len(data) - len(other)]) for other in kept):
            raise Violation(f"{len(data)} bytes of {path.name} became {len(now)}, and the others are not kept")
    for path in before.keys() - after.keys():
        is_hint = any(part.endswith((".index", ".new")) for part in path.parts)
        if path.suffix != ".log" and not is_hint and not may_go(path):
            raise Violation(f"{path} is gone")


def check_untouched(before: Mapping[Path, bytes], after: Mapping[Path, bytes]) -> None:
    """A start that was refused has changed nothing."""
    changed = [path for path in before if path.name != LOCK and after.get(path) != before[path]]
    if changed:
        raise Violation(f"the start was refused, and changed {', '.join(path.name for path in changed)}")
