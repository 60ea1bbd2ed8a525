"""Nothing is deleted to make a start succeed: what was there is there, or is kept aside."""

from collections.abc import Mapping
from pathlib import Path

from tests.faults.storage_model import Violation

KEPT = ".discarded-"


def check_kept(before: Mapping[Path, bytes], after: Mapping[Path, bytes]) -> None:
    """Of every log file that there was, each byte is still in it, or in a file beside it that keeps what was cut."""
    for path, data in before.items():
        now = after.get(path, b"")
        if path.suffix != ".log" or now.startswith(data):
            continue
        kept = {other for name, other in after.items() if KEPT in name.name and name.parent == path.parent}
        if not data.startswith(now) or data[len(now) :] not in kept:
            raise Violation(f"{len(data)} bytes of {path.name} became {len(now)}, and the others are not kept")
    for path in before.keys() - after.keys():
        if KEPT in path.name:
            raise Violation(f"{path.name}, which kept what was cut, is gone")
