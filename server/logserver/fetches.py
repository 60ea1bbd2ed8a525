"""Records on their way out: one answer to one question. Following a log for long is streams.py."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

from logserver.context import Operation, RequestContext
from logserver.errors import NegativeOffset
from logserver.time_slice import TimeSlice
from logserver.topics import Topics
from logserver.waiters import HighWatermarkWaiters, finish
from logstore.batch import Buffer, Record, decode_batch, iter_headers
from logstore.clock import Clock
from logstore.errors import DataLoss, ExplainedError, LogStoreError, OffsetOutOfRange
from logstore.log import Log
from logstore.reader import LogRead, LogReader

#: Most bytes of batches that one call decodes for a caller without a codec, before and after inflation.
DECODE_BYTES_MAX = 1 << 20
INFLATED_BYTES_MAX = 16 << 20
#: What a read may bring although less was asked for: one batch, which with the usual settings has no more.
FIRST_BATCH_BYTES = 1 << 20
#: More than any answer has.
BATCHES_BYTES_MAX = 1 << 31


class FetchFrom(NamedTuple):
    """From where on somebody reads a partition."""

    topic: str
    #: Empty when the reader has not learned it.
    topic_id: bytes
    partition: int
    offset: int
    #: Of this partition; one batch comes whatever its size.
    bytes_max: int = BATCHES_BYTES_MAX


@dataclass(slots=True)
class PartitionRead:
    """What was read of one partition: whole batches, or nothing when its end was reached, or why it cannot be read."""

    topic: str
    partition: int
    batches: Buffer = b""
    next_offset: int = -1
    high_watermark: int = -1
    log_start_offset: int = -1
    error: Exception | None = None
    #: Of a stream: which `set` of the reader this answers.
    position_id: int = 0
    records: Sequence[Record] = ()


class Room(Protocol):
    """The memory for what one fetch reads, where answers have a bound together."""

    async def room(self, bytes_max: int) -> int:
        """Let go of what was read before, and return how much of bytes_max may be read now."""
        ...

    def hold(self, size: int) -> None:
        """So much more is about to be read, or with a negative size was not."""
        ...

    def let_go(self) -> None: ...


class Fetches:
    def __init__(
        self,
        topics: Topics,
        waiters: HighWatermarkWaiters,
        clock: Clock,
        *,
        readers: Executor,
        decoder: Executor,
        bytes_max: int,
        wait_ms_max: int,
    ) -> None:
        """readers runs reads of what is not in memory, decoder one decoding at a time."""
        self._topics = topics
        self._waiters = waiters
        self._clock = clock
        self._readers = readers
        self._decoder = decoder
        self._bytes_max = bytes_max
        self._wait_ms_max = wait_ms_max
        self._parked: set[asyncio.Future[None]] = set()
        self._stopping = False

    async def fetch(
        self,
        context: RequestContext,
        starts: list[FetchFrom],
        *,
        wait_ms: int,
        bytes_max: int,
        bytes_min: int = 1,
        decode: bool = False,
        room: Room | None = None,
    ) -> list[PartitionRead]:
        """Read each until bytes_max in all (0: the most there is) are found; wait up to wait_ms for bytes_min.

        What is refused of one partition stands in its answer and hinders no other, and then nothing is waited for.
        """
        until_ms = self._clock.monotonic_ms() + context.remaining_ms(self._clock, min(wait_ms, self._wait_ms_max))
        bytes_max = min(bytes_max or self._bytes_max, self._bytes_max)
        bytes_min = min(bytes_min, bytes_max)
        if decode:
            bytes_max = min(bytes_max, DECODE_BYTES_MAX)
        while True:
            reads, logs = await self._read_each(context, starts, bytes_max, room)
            if decode:
                await self._decode_each(reads, starts)
            if _is_answer(reads, bytes_min):
                return reads
            reached = [start._replace(offset=read.next_offset) for start, read in zip(starts, reads, strict=True)]
            if reached != starts and not any(read.batches for read in reads):
                starts = reached  # Compaction took out what was before that.
                continue
            left_ms = until_ms - self._clock.monotonic_ms()
            if left_ms <= 0 or self._stopping:
                return reads
            # Who waits for much holds nothing of it: it is read again.
            del reads
            if room is not None:
                room.let_go()
            await self._park(logs, reached, left_ms)

    def stop(self) -> None:
        """Answer all that wait, now and from now on at once."""
        self._stopping = True
        for parked in self._parked:
            finish(parked)

    async def read(self, log: Log, offset: int, bytes_max: int) -> LogRead | None:
        """Whole batches from offset on, at least one; none, where compaction took all up to the high watermark out; or
        None at the high watermark.

        Raises NegativeOffset, OffsetOutOfRange, DataLoss.
        """
        if offset < 0:
            raise NegativeOffset(
                f"offset {offset} is negative", remedy="Ask for the earliest or latest offset, and read from there."
            )
        read = None
        while not log.high_watermark <= offset <= log.log_end_offset:
            try:
                read = await self._read_segment(log, offset, bytes_max)
            except DataLoss as damage:
                self._topics.damage.note(log, damage)
                raise
            if read.batches:
                break
            assert read.next_offset > offset, "else it would be read for ever"
            offset = read.next_offset
            await asyncio.sleep(0)  # There may be more such segments than others can wait for.
        return read

    async def _read_segment(self, log: Log, offset: int, bytes_max: int) -> LogRead:
        """The same, of the segment that the offset is in: it may have nothing from there on."""
        while True:
            with log.open_read(offset, bytes_max) as reader:
                read = reader.read_nowait()
            if read is not None:
                return read
            # A reader of its own, which the thread closes, also when nobody waits for it any more.
            reader = log.open_read(offset, bytes_max)
            try:
                return await asyncio.get_running_loop().run_in_executor(self._readers, _read_and_close, reader)
            except OffsetOutOfRange:
                # The file was removed before a busy thread came to open it.
                if not log.has_replaced(reader):
                    raise

    async def offset_for_timestamp(self, log: Log, timestamp_ms: int) -> tuple[int, int | None]:
        """Offset and timestamp of the first record at or after timestamp_ms, else the high watermark and None."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._readers, log.offset_for_timestamp, timestamp_ms)
        except DataLoss as damage:
            self._topics.damage.note(log, damage)
            raise
        if found is None or found.offset >= log.high_watermark:
            return log.high_watermark, None
        return found.offset, found.timestamp_ms

    async def _read_each(
        self, context: RequestContext, starts: Sequence[FetchFrom], bytes_max: int, room: Room | None
    ) -> tuple[list[PartitionRead], list[Log]]:
        reads = []
        logs = []
        left_bytes = bytes_max if room is None else await room.room(bytes_max)
        time_slice = TimeSlice(self._clock)
        for start in starts:
            await time_slice.give_way()
            answer = PartitionRead(start.topic, start.partition, next_offset=start.offset)
            reads.append(answer)
            try:
                topic = self._topics.find(context, start.topic, Operation.READ, start.topic_id)
                log = await self._topics.open_log(topic, start.partition)
                logs.append(log)
                share_bytes = min(left_bytes, start.bytes_max)
                read = await self._read_within(log, start.offset, share_bytes, room) if left_bytes > 0 else None
                answer.high_watermark = log.high_watermark
                answer.log_start_offset = log.log_start_offset
                if read is not None:
                    answer.batches = read.batches
                    answer.next_offset = read.next_offset
                    left_bytes -= len(read.batches)
            except Exception as refused:
                answer.error = without_frames(refused)
        return reads, logs

    async def _read_within(self, log: Log, offset: int, bytes_max: int, room: Room | None) -> LogRead | None:
        """The same as `read`. What is read is held in the room."""
        if room is None:
            return await self.read(log, offset, bytes_max)
        held_bytes = max(bytes_max, FIRST_BATCH_BYTES)
        room.hold(held_bytes)
        read_bytes = 0
        try:
            read = await self.read(log, offset, bytes_max)
            read_bytes = len(read.batches) if read is not None else 0
            return read
        finally:
            room.hold(read_bytes - held_bytes)

    async def _decode_each(self, reads: Sequence[PartitionRead], starts: Sequence[FetchFrom]) -> None:
        loop = asyncio.get_running_loop()
        for read, start in zip(reads, starts, strict=True):
            if read.batches:
                try:
                    await loop.run_in_executor(self._decoder, _decode, read, start.offset)
                except LogStoreError as damaged:
                    read.batches = b""
                    read.error = damaged

    async def _park(self, logs: Sequence[Log], starts: Sequence[FetchFrom], wait_ms: int) -> None:
        """Return when any of the logs has grown past its offset, or wait_ms are over."""
        assert len(logs) == len(starts), "a partition that cannot be read is answered, not waited for"
        grown = asyncio.get_running_loop().create_future()
        self._parked.add(grown)
        keys = []
        try:
            for log, start in zip(logs, starts, strict=True):
                keys.append((log, self._waiters.wait(log, start.offset + 1, partial(finish, grown))))
            async with asyncio.timeout(wait_ms / 1000):
                await grown
        except TimeoutError:
            pass  # The caller looks at its own clock, and answers with what there is: nothing.
        finally:
            self._parked.discard(grown)
            for log, key in keys:
                self._waiters.cancel(log, key)


def without_frames(error: Exception) -> Exception:
    """An explained error without the frames that it went through. They hold the answer that it stands in: of ten
    thousand, the garbage collector has to find out."""
    if isinstance(error, ExplainedError):
        error.__traceback__ = error.__context__ = None
    return error


def _is_answer(reads: Sequence[PartitionRead], bytes_min: int) -> bool:
    """Whether it is enough, or says something else, or is all that one answer may have."""
    found_bytes = 0
    for read in reads:
        if read.records or read.error is not None:
            return True
        if read.batches and read.next_offset < read.high_watermark:
            return True
        found_bytes += len(read.batches)
    return found_bytes >= bytes_min


def _read_and_close(reader: LogReader) -> LogRead:
    with reader:
        return reader.read()


def _decode(read: PartitionRead, offset: int) -> None:
    """Put plain records in the place of batches, from offset on, and as many batches as may be inflated."""
    records: list[Record] = []
    inflated_bytes = 0
    view = memoryview(read.batches)
    for position, header in iter_headers(view):
        if records and inflated_bytes >= DECODE_BYTES_MAX:
            read.next_offset = header.base_offset
            break
        batch = decode_batch(view[position : position + header.size], inflated_bytes_max=INFLATED_BYTES_MAX)
        records.extend(record for record in batch if record.offset >= offset)
        inflated_bytes += sum(len(record.key or b"") + len(record.value or b"") for record in batch)
    read.records = records
    read.batches = b""
