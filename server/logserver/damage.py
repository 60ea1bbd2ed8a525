"""Damage in the logs, told where operators look: when a log is opened with it, and when somebody meets it."""

import dataclasses
from collections import OrderedDict
from uuid import UUID

import structlog

from logstore.errors import DataLoss
from logstore.log import Log
from logstore.recovery import RecoveryFindings

logger = structlog.get_logger(__name__)

#: So many places are remembered as told. One that is forgotten is told again.
TOLD_MAX = 1000

_REMEDY = (
    "Keep a copy of the files. Stop the server and run `logctl segments repair`, which saves what it can and, if you "
    "accept the loss, lets the log take records again."
)


def tell_recovery(findings: RecoveryFindings) -> None:
    """What was found when a log was opened that was not as a clean stop leaves it, at the start or later."""
    for hole in findings.holes:
        logger.error(
            "the log is damaged: it takes no records, and these cannot be read",
            topic=findings.topic,
            partition=findings.partition,
            offset=hole.offset,
            next_offset=hole.next_offset,
            why=hole.why,
            remedy=_REMEDY,
        )
    if findings.cuts or findings.notes:
        logger.warning("a log was not as a clean stop leaves it", **dataclasses.asdict(findings))


def tell_vanished(topic_id: UUID) -> None:
    """A topic of which the checkpoint knew, and whose directory is not there."""
    logger.warning(
        "a topic is not there any more: it was deleted just before a crash, or its directory was moved away",
        topic_id=str(topic_id),
        remedy=f"Nothing, if that was meant; else stop the server and move topics/{topic_id.hex} back.",
    )


class DamageMet:
    """Tells of each damage once that a reader, a lookup or a producer has met it."""

    def __init__(self) -> None:
        self._told: OrderedDict[tuple[UUID, int, int | None, int | None], None] = OrderedDict()

    def note(self, log: Log, damage: DataLoss) -> None:
        """Complete the error with whose it is, and log it if it is new."""
        damage.topic, damage.partition = log.topic, log.partition
        place = (log.topic_id, log.partition, damage.offset, damage.next_offset)
        is_new = place not in self._told
        self._told[place] = None
        self._told.move_to_end(place)
        if len(self._told) > TOLD_MAX:
            self._told.popitem(last=False)
        if is_new:
            logger.error(
                "damage was met",
                topic=log.topic,
                partition=log.partition,
                offset=damage.offset,
                next_offset=damage.next_offset,
                what=str(damage),
                remedy=damage.remedy,
            )
