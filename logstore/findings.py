"""What a verification can find in a data directory, what each kind of it means, and what to do about it."""

from dataclasses import dataclass
from enum import Enum, StrEnum
from pathlib import Path


class Severity(StrEnum):
    DAMAGE = "damage"  # what only these bytes said is lost or wrong
    REBUILDABLE = "rebuildable"  # it is damaged, and all of it stands elsewhere too
    NOTE = "note"  # as a crash may leave it, or of no consequence


_ACCEPT = "Keep a copy of the files. `logctl segments repair` accepts the loss: the rest stays, and appends go on."
_RESTORE = "Restore it from a copy of the data directory: nothing else has what it says."
_REBUILD = "`logctl segments repair` makes it anew."
_NOTHING = "Nothing to do."


class Kind(Enum):
    """Name for programs, severity, and the remedy."""

    # Of records.
    RECORDS_LOST = ("records-lost", Severity.DAMAGE, _ACCEPT)
    FOREIGN_BYTES = (
        "foreign-bytes",
        Severity.DAMAGE,
        "`logctl segments repair` takes them out of the log and keeps them aside: no offset is missing.",
    )
    HEADER_DAMAGED = (
        "header-damaged",
        Severity.DAMAGE,
        "`logctl segments repair` puts it right: the rest of the batch says how it must read.",
    )
    EPOCH_WRONG = ("leader-epoch-wrong", Severity.DAMAGE, "The records can be read. Keep a copy of the file.")
    MISPLACED = (
        "misplaced",
        Severity.DAMAGE,
        "Nothing is repaired here by itself. If files were renamed or swapped, give them their names back.",
    )
    TAIL_UNCERTAIN = (
        "tail-uncertain",
        Severity.DAMAGE,
        "`logctl segments repair` makes the checkpoint anew; the next start then cuts these bytes off, and keeps them.",
    )
    TORN_TAIL = (
        "torn-tail",
        Severity.NOTE,
        "Nothing to do: it was never acknowledged. The next start cuts it off, and keeps the bytes aside.",
    )
    REPAIR_UNFINISHED = (
        "repair-unfinished",
        Severity.REBUILDABLE,
        "Run `logctl segments repair` again: it goes on where it was cut short.",
    )
    LOSS_ACCEPTED = ("loss-accepted", Severity.NOTE, _NOTHING)

    # Of the files of a partition.
    LOSS_WRONG = ("loss-wrong", Severity.REBUILDABLE, "`logctl segments repair` asks again, and notes it again.")
    SEAL_WRONG = ("seal-wrong", Severity.REBUILDABLE, _REBUILD)
    INDEX_WRONG = ("index-wrong", Severity.REBUILDABLE, _REBUILD)
    INDEX_BEHIND = (
        "index-behind",
        Severity.NOTE,
        "Nothing to do: the server checks every row it uses, and makes them anew.",
    )
    SNAPSHOT_WRONG = ("snapshot-wrong", Severity.REBUILDABLE, _REBUILD)
    BYTES_BEHIND = ("bytes-behind", Severity.NOTE, _NOTHING)
    SET_ASIDE = ("set-aside", Severity.NOTE, "Nothing to do: keep them as long as you may want to look into them.")
    LEFTOVER = ("leftover", Severity.NOTE, _NOTHING)
    STRANGER = ("stranger", Severity.NOTE, "Move it elsewhere: it is not ours, and not touched.")

    # Of the data directory.
    META_WRONG = ("meta-wrong", Severity.DAMAGE, _RESTORE)
    TOPIC_WRONG = ("topic-wrong", Severity.DAMAGE, _RESTORE)
    CHECKPOINT_LOST = (
        "checkpoint-lost",
        Severity.DAMAGE,
        "Restore the directory from a copy, or `logctl segments repair` makes it anew from the segments: where the "
        "partitions start is lost with it, so records deleted by `delete-records` or retention whose segments are "
        "still there come back.",
    )
    CHECKPOINT_WRONG = ("checkpoint-wrong", Severity.DAMAGE, "Keep a copy of the data directory.")
    CHECKPOINT_SLOT = (
        "checkpoint-slot",
        Severity.REBUILDABLE,
        "Nothing to do: the other slot is whole and counts. The next write makes this one anew.",
    )
    TOPIC_UNKNOWN = (
        "topic-unknown",
        Severity.NOTE,
        "Nothing to do if the topic was deleted; else restore its directory from a copy before the server starts.",
    )

    def __init__(self, code: str, severity: Severity, remedy: str) -> None:
        self.code = code
        self.severity = severity
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Finding:
    kind: Kind
    what: str  # one sentence, with the facts
    path: Path
    topic: str | None = None  # its name; its id where the name is lost
    partition: int | None = None
    # The records [offset, next_offset), and the bytes [position, end_position); None where it has none, or no end.
    offset: int | None = None
    next_offset: int | None = None
    position: int | None = None
    end_position: int | None = None
