"""What a data directory holds at its top, and whether a directory is one, may become one, or is someone else's."""

from collections.abc import Callable
from pathlib import Path

from logstore.checkpoint import Checkpoint
from logstore.disk import Disk
from logstore.errors import DataDirectoryUnusable, StorageFailed
from logstore.files import prepared_path
from logstore.identity import META, Identity

LOCK = "lock"
CHECKPOINT = "checkpoint"
TOPICS = "topics"
SPARE = "spare"

#: What a directory may hold and still become a data directory: what our own first start makes before `meta`, cut short,
#: and what a fresh filesystem has.
_PREPARED = {prepared_path(Path(name)).name for name in (CHECKPOINT, META)}
_MAY_BE_THERE = {LOCK, CHECKPOINT, TOPICS, SPARE, "lost+found"} | _PREPARED


def refuse_foreign(directory: Path, disk: Disk) -> bool:
    """Whether the directory is to become a data directory. Raises `DataDirectoryUnusable` if it is someone else's."""
    names = disk.list_dir(directory)
    if META in names:
        return False
    strangers = [name for name in names if name not in _MAY_BE_THERE]
    if strangers:
        raise DataDirectoryUnusable(
            f"{directory} is not a data directory: it has no {META!r}, and holds {_some(strangers)}",
            remedy="Give an empty directory, or one that does not exist yet. Nothing in this one was touched.",
        )
    if TOPICS in names and disk.list_dir(directory / TOPICS):
        raise DataDirectoryUnusable(
            f"{directory} has topics, and its {META!r} is missing",
            remedy=f"Restore {META!r} from a copy of the directory. Nothing in this one was touched.",
        )
    return True


def make_new(directory: Path, disk: Disk, random: Callable[[int], bytes]) -> None:
    """Make a data directory. `meta` comes last: with it there is one, and before it nothing that could be lost."""
    _sync_name(directory, disk)
    disk.make_dir(directory / TOPICS)
    Checkpoint.create(directory / CHECKPOINT, disk)
    Identity.create(directory, disk, random=random)


def _sync_name(directory: Path, disk: Disk) -> None:
    """Sync the name of the directory, which a start that was killed may have made without doing so."""
    try:
        disk.sync_dir(directory.parent)
    except StorageFailed as error:
        # Where we may not even read, somebody else has made the directory for us.
        if not isinstance(error.__cause__, PermissionError):
            raise


def _some(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
