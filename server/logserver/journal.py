"""The coordinator's journal: one partition of an internal topic, in which every change of a group is a record."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial

import structlog

from logserver.waiters import HighWatermarkWaiters
from logstore.batch import Record, decode_batch, encode_batch, iter_headers
from logstore.clock import Clock
from logstore.config import TopicConfig
from logstore.errors import DataLoss, LogStoreError, TopicAlreadyExists
from logstore.topics import TopicStore

logger = structlog.get_logger(__name__)

GROUPS_TOPIC = "__consumer_offsets"

#: Nothing of a journal ages: it is all needed, until the coordinator has said it again and lets go of it.
GROUPS_TOPIC_CONFIG = {
    "segment.bytes": str(16 << 20),
    # One change of a group is one batch, so that a crash keeps all of it or nothing. Requests bound it, far below this.
    "max.message.bytes": str(256 << 20),
    "retention.ms": "-1",
    "retention.bytes": "-1",
}

_READ_BYTES = 1 << 20

#: What is left to changes of groups, and to the logs of others, when the journal is written anew: a segment's worth.
ROOM_LEFT_BYTES = 16 << 20


class TopicJournal:
    """consumer_groups' Journal over the one partition of a topic, which is created if it is missing."""

    def __init__(
        self,
        store: TopicStore,
        waiters: HighWatermarkWaiters,
        clock: Clock,
        topic: str,
        *,
        free_bytes: Callable[[], int] | None = None,
    ) -> None:
        """free_bytes says how much room the filesystem has; without it a full disk is met when it is full."""
        with suppress(TopicAlreadyExists):  # As after every start but the first.
            store.create_topic(topic, 1, TopicConfig.from_strings(GROUPS_TOPIC_CONFIG), internal=True)
        self._store = store
        self._log = store.log(topic, 0)
        self._waiters = waiters
        self._clock = clock
        self._free_bytes = free_bytes

    async def append(self, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        """Return when the records are on disk. They are in the log, in order, before this first yields.

        A caller that is cancelled leaves it open whether they are.
        """
        now_ms = self._clock.wall_ms()
        batch = encode_batch([Record(i, now_ms, key, value, ()) for i, (key, value) in enumerate(records)])
        appended = self._log.append(batch, now_ms)
        durable: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        key = self._waiters.wait(self._log, appended.last_offset + 1, partial(_settle, durable))
        try:
            await durable
        finally:
            self._waiters.cancel(self._log, key)

    @property
    def records_count(self) -> int:
        return self._log.log_end_offset - self._log.log_start_offset

    @property
    def end(self) -> int:
        return self._log.log_end_offset

    @property
    def size_bytes(self) -> int:
        return self._log.size_bytes

    def has_room(self, size: int) -> bool:
        return self._free_bytes is None or self._free_bytes() >= size + ROOM_LEFT_BYTES

    def forget_before(self, place: int) -> None:
        """Start the log there. Retention does the rest at its next turn: the new start is synced, and then the segments
        before it are removed. A crash in between finds more of the log than is needed."""
        if not self._log.holes:  # Of a damaged log nothing is removed.
            self._log.advance_log_start(place)

    def replay(self) -> Iterator[tuple[bytes, bytes | None]]:
        """Every record from the first on, but for those whose loss somebody has accepted. It blocks on the disk: for
        the start, before anyone waits for the loop. Raises DataLoss."""
        offset = self._log.log_start_offset
        self._tell_accepted_losses()
        while offset < self._log.high_watermark:
            try:
                with self._log.open_read(offset, _READ_BYTES) as reader:
                    read = reader.read()
            except DataLoss as damage:
                raise DataLoss(
                    f"the journal of groups is damaged: {damage}",
                    remedy="Keep a copy of the data directory, and run `logctl segments repair`. Once the loss is "
                    "accepted, the server starts with what is left of the groups.",
                    offset=damage.offset,
                    next_offset=damage.next_offset,
                ) from damage
            view = memoryview(read.batches)
            for position, header in iter_headers(view):
                for record in decode_batch(view[position : position + header.size]):
                    assert record.key is not None, "the coordinator keys everything"
                    yield record.key, record.value
            offset = read.next_offset

    def _tell_accepted_losses(self) -> None:
        """Log what is missing in the journal because somebody has said that it may. Reads pass over it."""
        for loss in self._store.accepted_losses(self._log):
            if loss.next_offset <= self._log.log_start_offset:
                continue
            logger.warning(
                "records of the journal of groups are lost, which was accepted: groups may have stepped back",
                topic=self._log.topic,
                partition=self._log.partition,
                offset=loss.offset,
                next_offset=loss.next_offset,
                why=loss.why,
                remedy="See where the groups are (logctl groups describe), and move what is wrong (logctl seek).",
            )


def _settle(durable: asyncio.Future[None], failure: LogStoreError | None) -> None:
    if durable.done():
        return
    if failure is None:
        durable.set_result(None)
    else:
        durable.set_exception(failure)
