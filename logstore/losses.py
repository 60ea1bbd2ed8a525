"""An accepted loss: records that are gone, and of which an operator has said that the log is to go on without them.

    00000000000000004711.lost    a document beside the segment whose last batch stands before the hole

    tailrace loss 1 5d0f6b2c
    {"offset": 4800, "next_offset": 4950, "why": "...", "accepted_at_ms": 1700000000000, "kept_as": "...discarded-1"}

The records [offset, next_offset) are lost. The segment's seal reaches over the hole: its batches end at offset, and
its next_offset is that of the loss, where the next segment begins. So the chain of seals stays whole, a read before
the hole and one behind it find their segments, a read in the hole goes on behind it, and appends go on. The document
is what tells such a hole from new damage, says it to whoever asks, and lets a lost seal be made again. It goes when
retention removes the segment.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from logstore import files
from logstore.disk import Disk
from logstore.documents import corrupt, read_document, write_document

_KIND = "loss"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Loss:
    offset: int
    next_offset: int
    why: str
    accepted_at_ms: int
    kept_as: str | None  # the file that has the damaged bytes, None where there were none


def write_loss(disk: Disk, directory: Path, base_offset: int, loss: Loss) -> None:
    """Note a loss beside the segment in front of it. Synced when this returns."""
    write_document(disk, files.loss_path(directory, base_offset), kind=_KIND, version=_VERSION, content=asdict(loss))


def read_loss(disk: Disk, directory: Path, base_offset: int) -> Loss:
    """Raises FileNotFoundError, MetadataCorrupt and FormatTooNew."""
    path = files.loss_path(directory, base_offset)
    content = read_document(disk, path, kind=_KIND, version=_VERSION)
    try:
        return Loss(
            offset=int(content["offset"]),
            next_offset=int(content["next_offset"]),
            why=str(content["why"]),
            accepted_at_ms=int(content["accepted_at_ms"]),
            kept_as=None if content["kept_as"] is None else str(content["kept_as"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise corrupt(path, f"a field is missing or wrong: {error!r}") from error
