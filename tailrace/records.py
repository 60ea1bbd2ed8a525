"""What consumers get and producers are told: records, batches of them as columns, and where a record landed."""

import json as json_module
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

from logstore.batch import Buffer, codec_errors, damaged_inside, decode_column, open_batch
from logstore.errors import CorruptBatch
from tailrace.errors import CorruptMessage, RecordDecodeError

Headers = tuple[tuple[str, bytes | None], ...]


class TopicPartition(NamedTuple):
    topic: str
    partition: int


class RecordMetadata(NamedTuple):
    """Where a record landed. `offset` is -1 when the server no longer knows it, and with acks other than "all" when
    it was not told. `timestamp_ms` is the record's, in milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class Record(NamedTuple):
    """One record as it was read. Headers are pairs in the order they were sent."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers

    def text(self) -> str:
        """The value as text (UTF-8). Raises RecordDecodeError, which carries the record."""
        if self.value is None:
            raise self._not("text", "it is null")
        try:
            return self.value.decode()
        except UnicodeDecodeError as error:
            raise self._not("text", f"byte {error.start} is not UTF-8") from error

    def json(self) -> Any:
        """The value parsed as JSON. Raises RecordDecodeError, which carries the record."""
        if self.value is None:
            raise self._not("JSON", "it is null")
        try:
            return json_module.loads(self.value)
        except (ValueError, RecursionError) as error:
            raise self._not("JSON", str(error)) from error

    def _not(self, kind: str, why: str) -> RecordDecodeError:
        return RecordDecodeError(
            f"the value of the record at offset {self.offset} of {self.topic!r} partition {self.partition} is not "
            f"{kind}: {why}",
            remedy="Read `record.value`, or catch this error and take the record from its `record`.",
            record=self,
        )


class RecordBatch:
    """The records of one partition that came together, column by column.

    A column is decoded when it is first asked for, in C: values alone cost a third of what records cost. Iterating
    gives records. Columns raise CorruptMessage if the producer wrote a damaged batch.
    """

    __slots__ = ("_batch", "_columns", "_skip", "next_offset", "offsets", "partition", "topic")

    def __init__(
        self, topic: str, partition: int, batch: Buffer, offsets: Sequence[int], next_offset: int, skip: int
    ) -> None:
        """`batch` is one whole batch, whose first `skip` records are not wanted; the others have these offsets."""
        self.topic = topic
        self.partition = partition
        #: Offset of each record. Where compaction has taken records out, there are gaps.
        self.offsets = offsets
        #: Where the next batch is read from. Behind the last record there may be a gap, too.
        self.next_offset = next_offset
        self._batch = batch
        self._skip = skip
        self._columns: dict[str, list[Any]] = {}

    def __len__(self) -> int:
        return len(self.offsets)

    def __iter__(self) -> Iterator[Record]:
        """Records, each decoded when it is asked for: a batch decoded at once costs twice as much, as the garbage
        collector then looks through it several times."""
        topic, partition, new, no_headers = self.topic, self.partition, tuple.__new__, ()
        damages = codec_errors()  # which imports: not to be done when a reading is broken off by the interpreter's end
        try:
            _, opened = open_batch(self._batch)
            wanted = islice(opened, self._skip, None) if self._skip else opened
            for offset, one in zip(self.offsets, wanted, strict=False):
                headers = one.headers
                # The plain constructor of a named tuple takes twice as long.
                yield new(
                    Record,
                    (
                        topic,
                        partition,
                        offset,
                        one.timestamp,
                        one.key,
                        one.value,
                        tuple(headers) if headers else no_headers,
                    ),
                )
        except CorruptBatch as error:
            raise self._damaged(error) from None
        except damages as error:
            raise self._damaged(damaged_inside(error)) from None

    def __repr__(self) -> str:
        return f"RecordBatch(topic={self.topic!r}, partition={self.partition}, offsets={self.offsets})"

    @property
    def base_offset(self) -> int:
        return self.offsets[0] if self.offsets else self.next_offset

    @property
    def values(self) -> list[bytes | None]:
        return self._column("value")

    @property
    def keys(self) -> list[bytes | None]:
        return self._column("key")

    @property
    def timestamps_ms(self) -> list[int]:
        return self._column("timestamp")

    @property
    def headers(self) -> list[list[tuple[str, bytes | None]]]:
        return self._column("headers")

    def after(self, offset: int) -> "RecordBatch":
        """The same batch from an offset on."""
        before = bisect_left(self.offsets, offset)
        wanted = self.offsets[before:]
        return RecordBatch(self.topic, self.partition, self._batch, wanted, self.next_offset, self._skip + before)

    def _column(self, field: str) -> list[Any]:
        column = self._columns.get(field)
        if column is None:
            try:
                column = decode_column(self._batch, field)
            except CorruptBatch as error:
                raise self._damaged(error) from None
            if self._skip:
                del column[: self._skip]
            self._columns[field] = column
        return column

    def _damaged(self, error: CorruptBatch) -> CorruptMessage:
        return damaged_batch(self.topic, self.partition, self.base_offset, self.next_offset, error)


def damaged_batch(
    topic: str, partition: int, base_offset: int, next_offset: int, error: CorruptBatch
) -> CorruptMessage:
    return CorruptMessage(
        f"the batch at offset {base_offset} of {topic!r} partition {partition} is damaged: {error}",
        remedy=f"Seek past it, to offset {next_offset}, and look at the producer that wrote it.",
    )
