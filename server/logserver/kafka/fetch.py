"""Fetch: batches from the log to the socket, beside headers made by hand, so that no batch is copied into an answer.

KIP-74 (limits), KIP-227 (sessions), KIP-320 (leader epochs), KIP-516 (topic ids, from version 13).
"""

from collections.abc import Sequence
from struct import Struct
from typing import Any
from uuid import UUID

from kio.schema.errors import ErrorCode

from logserver.broker import Broker
from logserver.context import RequestContext
from logserver.fetches import FetchFrom, PartitionRead, without_frames
from logserver.kafka.answers import Answers, FetchedBytes
from logserver.kafka.errors import SessionRefused, error_code
from logserver.kafka.fetch_sessions import (
    NO_SESSION,
    SESSION_ID_MAX,
    Fetching,
    FetchSession,
    TopicPartition,
    Wanted,
)
from logserver.kafka.leader_epochs import check_leader_epoch
from logserver.kafka.messages import RequestHeader, by_topic, milliseconds
from logserver.kafka.primitives import count, nullable_string
from logserver.time_slice import TimeSlice
from logstore.batch import Buffer
from logstore.clock import Clock

SESSIONS_FROM = 7
LOG_START_FROM = 5
REPLICA_FROM = 11

_FRAME = Struct(">ii")
_THROTTLE = Struct(">i")
_SESSION = Struct(">hi")
_PARTITION = Struct(">ihqq")
_INT32 = Struct(">i")
_INT64 = Struct(">q")
#: Of aborted transactions: there are none.
_NO_ABORTED = -1
_NO_REPLICA = -1


class FetchHandler:
    def __init__(self, broker: Broker, answers: Answers) -> None:
        self._broker = broker
        self._answers = answers
        self._session_id = NO_SESSION

    async def fetch(
        self, header: RequestHeader, request: Any, context: RequestContext, session: FetchSession
    ) -> Sequence[Buffer]:
        try:
            fetching = session.begin(request, self._draw_session_id)
        except SessionRefused as refused:
            return await _encode(self._broker.clock, header, error_code(refused), NO_SESSION, ())
        held = FetchedBytes(self._answers)
        try:
            return await self._answer(header, request, context, session, fetching, held)
        finally:
            held.let_go()  # It is sent in this same turn of the loop, and what is not taken is counted there.

    def _draw_session_id(self) -> int:
        """A session is looked for on its connection alone, so that one of long ago may have had it."""
        self._session_id = self._session_id % SESSION_ID_MAX + 1
        return self._session_id

    async def _answer(
        self,
        header: RequestHeader,
        request: Any,
        context: RequestContext,
        session: FetchSession,
        fetching: Fetching,
        held: FetchedBytes,
    ) -> Sequence[Buffer]:
        reads = await self._read(request, context, fetching, held)
        told: list[tuple[TopicPartition, PartitionRead]] = []
        time_slice = TimeSlice(self._broker.clock)
        for (place, wanted), read in zip(fetching.wanted, reads, strict=True):
            await time_slice.give_way()
            if not fetching.is_incremental or _is_news(wanted, read):
                told.append((place, read))
            wanted.told_high_watermark, wanted.told_log_start_offset = read.high_watermark, read.log_start_offset
        session.answered([place for place, read in told if read.batches])
        return await _encode(self._broker.clock, header, ErrorCode.none, fetching.session_id, told)

    async def _read(
        self, request: Any, context: RequestContext, fetching: Fetching, held: FetchedBytes
    ) -> list[PartitionRead]:
        starts: list[FetchFrom] = []
        reads: list[PartitionRead | None] = []
        time_slice = TimeSlice(self._broker.clock)
        for place, wanted in fetching.wanted:
            await time_slice.give_way()
            try:
                starts.append(self._start(place, wanted))
                reads.append(None)
            except Exception as refused:
                reads.append(PartitionRead("", place.partition, error=without_frames(refused)))
        wait_ms = milliseconds(request.max_wait) if len(starts) == len(reads) else 0
        found = iter(
            await self._broker.fetches.fetch(
                context,
                starts,
                wait_ms=max(wait_ms, 0),
                bytes_max=max(request.max_bytes, 1),
                bytes_min=max(request.min_bytes, 0),
                room=held,
            )
        )
        return [next(found) if read is None else read for read in reads]

    def _start(self, place: TopicPartition, wanted: Wanted) -> FetchFrom:
        store = self._broker.store
        check_leader_epoch(wanted.current_leader_epoch, store.leader_epoch)
        if isinstance(place.topic, bytes):
            name, topic_id = store.topic_by_id(UUID(bytes=place.topic)).name, place.topic
        else:
            name, topic_id = place.topic, b""
        return FetchFrom(name, topic_id, place.partition, wanted.offset, max(wanted.bytes_max, 1))


def _is_news(wanted: Wanted, read: PartitionRead) -> bool:
    return (
        len(read.batches) > 0
        or read.error is not None
        or (read.high_watermark, read.log_start_offset) != (wanted.told_high_watermark, wanted.told_log_start_offset)
    )


async def _encode(
    clock: Clock,
    header: RequestHeader,
    code: ErrorCode,
    session_id: int,
    told: Sequence[tuple[TopicPartition, PartitionRead]],
) -> Sequence[Buffer]:
    """The frame, in parts: what is between two runs of batches is one."""
    version = header.version
    flexible = header.flexible
    time_slice = TimeSlice(clock)
    tags = b"\0" if flexible else b""
    parts: list[Buffer] = []
    between = bytearray(_FRAME.size)
    between += tags + _THROTTLE.pack(0)
    if version >= SESSIONS_FROM:
        between += _SESSION.pack(code, session_id)
    topics = by_topic((place.topic, (place.partition, read)) for place, read in told)
    between += count(len(topics), flexible=flexible)
    for topic, reads in topics.items():
        between += topic if isinstance(topic, bytes) else nullable_string(topic, flexible=flexible)
        between += count(len(reads), flexible=flexible)
        for partition, read in reads:
            await time_slice.give_way()
            partition_code = ErrorCode.none if read.error is None else error_code(read.error)
            between += _PARTITION.pack(partition, partition_code, read.high_watermark, read.high_watermark)
            if version >= LOG_START_FROM:
                between += _INT64.pack(read.log_start_offset)
            between += count(_NO_ABORTED, flexible=flexible)
            if version >= REPLICA_FROM:
                between += _INT32.pack(_NO_REPLICA)
            between += count(len(read.batches), flexible=flexible)
            if len(read.batches):
                parts += (between, read.batches)
                between = bytearray()
            between += tags
        between += tags
    between += tags
    parts.append(between)
    size = sum(map(len, parts)) - 4
    first = parts[0]
    assert isinstance(first, bytearray)
    _FRAME.pack_into(first, 0, size, header.correlation_id)
    return parts
