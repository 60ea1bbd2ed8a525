"""A server's data directory, opened while no server has it: for `logctl segments`.

The storage engine is installed with the server. It is imported where it is needed, and told where it is missing.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from logctl.errors import CommandError, did_you_mean
from logctl.output import Output

if TYPE_CHECKING:
    from logstore.partition_files import Place
    from logstore.stopped import StoppedDirectory


@contextmanager
def opened(path: Path, output: Output, *, to_repair: bool = False) -> Iterator["StoppedDirectory"]:
    """The directory, kept from servers until the end of the block. Errors of the storage become CommandError."""
    with storage_errors():
        from logstore.errors import DataDirectoryLocked
        from logstore.linux_disk import LinuxDisk
        from logstore.stopped import StoppedDirectory

        try:
            with StoppedDirectory.open(path, LinuxDisk(), to_repair=to_repair) as directory:
                if directory.lock is None:
                    output.note(f"{path} has no lock file, so it is taken for a copy that no server has open.")
                yield directory
        except DataDirectoryLocked as error:
            error.remedy = "Stop that process first" + ("." if to_repair else ", or look into a copy of the directory.")
            raise


@contextmanager
def storage_errors() -> Iterator[None]:
    from logstore.errors import LogStoreError

    try:
        yield
    except ModuleNotFoundError as error:
        raise CommandError(
            f"`logctl segments` needs the storage engine, and {error.name} is not installed here",
            remedy="Run it where the server is installed, or `pip install 'tailrace[server]'` (Linux, macOS).",
            code="NOT_INSTALLED",
        ) from error
    except LogStoreError as error:
        raise CommandError(str(error), remedy=error.remedy, code=_code(error)) from error


def select(directory: "StoppedDirectory", topic: str | None, partition: int | None) -> "list[Place]":
    """The partitions asked for: of one topic, by its name or id, or of all."""
    places = [place for place in directory.places() if topic in (None, place.topic, place.topic_id.hex)]
    if topic is not None and not any(topic in (found.label, found.topic_id.hex) for found in directory.topics):
        known = [found.label for found in directory.topics]
        raise CommandError(
            f"there is no topic {topic!r} in {directory.path}{did_you_mean(topic, known)}",
            remedy=f"It has {_listed(known)}.",
            code="UNKNOWN_TOPIC_OR_PARTITION",
        )
    if partition is None:
        return places
    chosen = [place for place in places if place.partition == partition]
    if not chosen:
        raise CommandError(
            f"there is no partition {partition} of {'any topic' if topic is None else f'topic {topic!r}'} "
            f"in {directory.path}",
            remedy=f"There are partitions 0 to {max((place.partition for place in places), default=-1)}."
            if places
            else "There are no partitions at all.",
            code="UNKNOWN_TOPIC_OR_PARTITION",
        )
    return chosen


def _listed(names: list[str]) -> str:
    if not names:
        return "no topics"
    shown = ", ".join(names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"


def _code(error: Exception) -> str:
    """DataLoss: DATA_LOSS. As the server's own codes are."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).upper()
