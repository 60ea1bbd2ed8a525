"""What must be in a store, batch by batch, and the judgement of a store that was opened after something went wrong.

A log stamps a batch with its offset and leader epoch and changes nothing else, so the model knows every byte that a
reader must get. Three ends of a partition matter:

    [ batches that a reader may have seen | appended, not synced for sure | about to be appended ]
                            synced_offset ^                     returned_offset ^

After a power cut the log ends at a batch's end, at synced_offset or later. After the death of the process alone it has
at least what `append` returned. Offsets that were taken back are given out again under a newer leader epoch only. What
is found is adopted: from then on nothing of that may go either.

Compaction takes records out below, and what it leaves of a batch is judged when a pass has written it (see `passes`).
Until its seal is on the disk the old segment is the log, and afterwards the new one: so once the log has taken a
segment over no crash brings the old one back, and before that a start may find either, of each segment as a whole.
"""

import random
import traceback
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import NamedTuple

from logstore.batch import BatchHeader, Compression, Record, encode_batch, read_header, stamped_prefix
from logstore.catalog import Topic
from logstore.errors import LogStoreError
from logstore.log import Appended, Log, TimestampedOffset
from logstore.producers import BATCHES_REMEMBERED
from logstore.seal import Seal
from logstore.topics import TopicStore


class Violation(Exception):
    """Something that must never happen."""


def tell(error: Exception) -> str:
    """What a tally is told of it: of what nobody has expected, everything."""
    return str(error) if isinstance(error, Violation) else "".join(traceback.format_exception(error))


class Horizon(NamedTuple):
    """A pass has written into a batch until when its tombstones stay."""

    written_ms: int  # by the monotonic clock
    delete_retention_ms: int  # as it was then


class StoredBatch(NamedTuple):
    """One batch as the log must have it."""

    header: BatchHeader  # as it was sent, so with its own base_offset; or as compaction has written it
    base_offset: int
    leader_epoch: int
    append_ms: int
    records: tuple[Record, ...]
    data: bytes  # sent again as it stands, it is the same batch for the log
    horizon: "Horizon | None" = None  # of its tombstones
    appended_at_ms: int = 0  # by the monotonic clock

    @property
    def next_offset(self) -> int:
        return self.base_offset + self.header.last_offset_delta + 1

    @property
    def answer(self) -> Appended:
        return Appended(self.base_offset, self.next_offset - 1, False)


class Rewrite(NamedTuple):
    """A segment as a pass of compaction has written it."""

    seal: Seal
    changed: Mapping[int, StoredBatch | None]  # base offset: what is left of a batch, None if nothing is


@dataclass(slots=True)
class PartitionModel:
    batches: list[StoredBatch] = field(default_factory=list)  # as they were appended, those that are gone too
    rewritten: dict[int, StoredBatch | None] = field(default_factory=dict)  # base offset: what compaction left of it
    pending: list[Rewrite] = field(default_factory=list)  # handed to the log, and perhaps on the disk
    synced_offset: int = 0
    returned_offset: int = 0
    start_offset: int = 0  # the log starts there or later, up to start_offset_max
    start_offset_max: int = 0
    found_offset: int = 0  # what is below, an earlier process has written
    #: Of each producer the batches of its latest epoch that must be known, the oldest first.
    producers: dict[int, list[StoredBatch]] = field(default_factory=dict)

    @property
    def end_offset(self) -> int:
        return self.batches[-1].next_offset if self.batches else 0

    def index_of(self, offset: int) -> int:
        """The number of the batch that holds the offset, or of the one that will."""
        if offset >= self.end_offset:
            return len(self.batches)
        return bisect_right(self.batches, offset, key=lambda batch: batch.base_offset) - 1

    def between(self, start_offset: int, end_offset: int) -> list[StoredBatch]:
        """The batches from the one that holds start_offset on, up to end_offset, where one must end, as appended."""
        end = self.index_of(end_offset)
        batches = self.batches[self.index_of(start_offset) : end]
        if end < len(self.batches) and self.batches[end].base_offset != end_offset:
            raise Violation(f"offset {end_offset} is within a batch, that of {self.batches[end].base_offset}")
        return batches

    def kept(self, start_offset: int, end_offset: int) -> list[StoredBatch]:
        """What is left of the same batches."""
        appended = self.between(start_offset, end_offset)
        if not self.rewritten:
            return appended
        left = (self.rewritten.get(batch.base_offset, batch) for batch in appended)
        return [batch for batch in left if batch is not None]

    def note_taken_over(self, seals: Sequence[Seal]) -> None:
        """The log shows these: from now on it never shows what was there before."""
        for rewrite in [rewrite for rewrite in self.pending if rewrite.seal in seals]:
            self.rewritten.update(rewrite.changed)
            self.pending.remove(rewrite)

    def note_found(self, seals: Sequence[Seal]) -> None:
        """A start shows these: whatever was handed to the log is in it, or is not. The bytes are for others to compare:
        what a pass has changed below the log's start is in no reader's, and in the file all the same."""
        self.note_taken_over(seals)
        self.pending = []

    def expect(self, batch: StoredBatch) -> None:
        """It is about to be appended."""
        assert batch.base_offset == self.end_offset
        self.batches.append(batch)
        if batch.header.producer_id >= 0:
            known = self.producers.setdefault(batch.header.producer_id, [])
            if known and known[0].header.producer_epoch != batch.header.producer_epoch:
                known.clear()
            known.append(batch)
            del known[:-BATCHES_REMEMBERED]

    def take_back(self) -> None:
        """The last one was refused."""
        self.batches.pop()
        self._recall_producers()

    def adopted(self, start_offset: int, end_offset: int, now_ms: int) -> "PartitionModel":
        """This is what was found at that time. It is synced, and it has been read."""
        found = self.batches[: self.index_of(end_offset)]
        # When a batch was appended may be lost, and then it was now: the clock may have been set back since.
        batches = [batch if batch.append_ms <= now_ms else batch._replace(append_ms=now_ms) for batch in found]
        model = PartitionModel(
            batches, dict(self.rewritten), [], end_offset, end_offset, start_offset, start_offset, end_offset
        )
        model._recall_producers()
        return model

    def copy(self) -> "PartitionModel":
        producers = {producer_id: list(known) for producer_id, known in self.producers.items()}
        return replace(
            self,
            batches=list(self.batches),
            rewritten=dict(self.rewritten),
            pending=list(self.pending),
            producers=producers,
        )

    def _recall_producers(self) -> None:
        batches, self.batches, self.producers = self.batches, [], {}
        for batch in batches:
            self.expect(batch)


@dataclass(frozen=True)
class Change:
    """A change of one topic that has not returned: nobody knows whether it is made. None: no such topic."""

    name: str
    after: Topic | None
    is_new: bool = False  # `after` has another id then

    def allows(self, found: Topic | None) -> bool:
        if self.is_new and found is not None and self.after is not None:
            return found == replace(self.after, topic_id=found.topic_id)
        return found == self.after


@dataclass
class StoreModel:
    topics: dict[str, Topic] = field(default_factory=dict)
    partitions: dict[tuple[str, int], PartitionModel] = field(default_factory=dict)
    change: Change | None = None  # the one under way
    producer_ids: set[int] = field(default_factory=set)  # that were handed out

    def copy(self) -> "StoreModel":
        partitions = {key: partition.copy() for key, partition in self.partitions.items()}
        return replace(self, topics=dict(self.topics), partitions=partitions, producer_ids=set(self.producer_ids))

    def begin(self, change: Change) -> None:
        assert self.change is None
        self.change = change

    def give_up(self) -> None:
        """The change under way was refused."""
        self.change = None

    def end(self, after: Topic | None) -> None:
        """The change under way was made."""
        assert self.change is not None
        self.set_topic(self.change.name, after)
        self.change = None

    def set_topic(self, name: str, topic: Topic | None) -> None:
        before = self.topics.pop(name, None)
        is_same = topic is not None and before is not None and topic.topic_id == before.topic_id
        old = {key: self.partitions.pop(key) for key in list(self.partitions) if key[0] == name}
        if topic is not None:
            self.topics[name] = topic
            for key in ((name, number) for number in range(topic.partitions)):
                self.partitions[key] = old.get(key, PartitionModel()) if is_same else PartitionModel()


def new_batch(
    records: Sequence[Record],
    log: Log,
    append_ms: int,
    *,
    producer: tuple[int, int, int] = (-1, -1, -1),
    compression: Compression = Compression.NONE,
) -> StoredBatch:
    """What the log will have once it is given a batch of these. `producer`: id, epoch and sequence."""
    producer_id, producer_epoch, base_sequence = producer
    sent = encode_batch(
        records,
        compression=compression,
        producer_id=producer_id,
        producer_epoch=producer_epoch,
        base_sequence=base_sequence,
    )
    header = read_header(sent)
    prefix = stamped_prefix(header, log.log_end_offset, log.leader_epoch)
    data = prefix + sent[len(prefix) :]
    stored = tuple(record._replace(offset=offset) for offset, record in enumerate(records, log.log_end_offset))
    return StoredBatch(header, log.log_end_offset, log.leader_epoch, append_ms, stored, data)


# The judgement.


def judge_store(store: TopicStore, model: StoreModel, rng: random.Random, *, whole: bool, now_ms: int) -> StoreModel:
    """Raise Violation unless the store, opened at `now_ms`, is as it must be; return the model of what it is.

    `whole`: no power was cut, so whatever `append` returned is there.
    """
    found = {topic.name: topic for topic in store.topics()}
    for name in sorted(found.keys() | model.topics.keys()):
        expected = model.topics.get(name)
        if found.get(name) == expected:
            continue
        if model.change is None or model.change.name != name or not model.change.allows(found.get(name)):
            raise Violation(f"topic {name!r} is {found.get(name)}, and must be {expected} or {model.change}")
    after = StoreModel(producer_ids=set(model.producer_ids))
    for name, topic in found.items():
        is_known = name in model.topics and model.topics[name].topic_id == topic.topic_id
        after.topics[name] = topic
        for number in range(topic.partitions):
            before = model.partitions.get((name, number)) if is_known else None
            try:
                after.partitions[name, number] = judge_log(
                    store.log(name, number), before or PartitionModel(), rng, whole=whole, now_ms=now_ms
                )
            except Violation as error:
                raise Violation(f"{name} {number}: {error}") from error
    return after


def judge_log(
    log: Log, model: PartitionModel, rng: random.Random, *, whole: bool, now_ms: int, forgets: bool = False
) -> PartitionModel:
    """`forgets`: the snapshot is lost, so that of producers is known what they wrote in batches that are there."""
    start, end = log.log_start_offset, log.high_watermark
    least = model.returned_offset if whole else model.synced_offset
    if log.log_end_offset != end:
        raise Violation(f"offsets from {end} to {log.log_end_offset} are there and not to be read")
    if not model.start_offset <= start <= model.start_offset_max:
        raise Violation(f"it starts at {start}, which is not in [{model.start_offset}, {model.start_offset_max}]")
    if not least <= end <= model.end_offset:
        raise Violation(f"it ends at {end}, which is not in [{least}, {model.end_offset}]")
    appended = model.between(start, end)
    taken_back = model.batches[model.index_of(end) :]
    if taken_back and max(batch.leader_epoch for batch in taken_back) >= log.leader_epoch:
        raise Violation(f"offsets from {end} on are given out again, in the same epoch {log.leader_epoch}")
    data = read_all(log, start, end, rng)
    after = model.adopted(start, end, now_ms)
    if model.pending:
        after.pending = list(model.pending)
        after.note_found(log.seals)
    check_bytes(data, after.kept(start, end))
    _check_places(log, after, rng)
    _check_epochs(log, after.kept(start, end) if forgets else appended, end)
    _check_producers(log, after, forgets=forgets)
    return after


def check_bytes(data: bytes, batches: Sequence[StoredBatch]) -> None:
    """Exactly these batches were read."""
    if data == b"".join(batch.data for batch in batches):
        return
    position = 0
    for batch in batches:
        if data[position : position + len(batch.data)] != batch.data:
            raise Violation(f"the batch at offset {batch.base_offset} was read, and is another than was appended")
        position += len(batch.data)
    raise Violation(f"{len(data) - position} bytes were read after the last batch")


def read_all(log: Log, start_offset: int, end_offset: int, rng: random.Random) -> bytes:
    """All bytes that a reader gets from one offset to the other."""
    chunks: list[bytes] = []
    bytes_max = rng.choice((1, 300, 1 << 16, 1 << 16, 1 << 16, 1 << 16))
    offset = start_offset
    while offset < end_offset:
        with log.open_read(offset, bytes_max, end_offset=end_offset) as reader:
            read = reader.read()
        if read.next_offset <= offset:
            raise Violation(f"a read at {offset} goes on at {read.next_offset}")
        chunks.append(bytes(read.batches))
        offset = read.next_offset
    return b"".join(chunks)


def _check_places(log: Log, model: PartitionModel, rng: random.Random) -> None:
    """A read may begin anywhere, by offset and by time, and append times are not earlier than they were."""
    start, end = log.log_start_offset, log.high_watermark
    if start == end:
        return
    batches = model.kept(start, end)
    offset = rng.randrange(start, end)
    number = bisect_right(batches, offset, key=lambda batch: batch.next_offset)  # of the first that ends behind it
    check_bytes(_read_one(log, offset, end), batches[number : number + 1])
    append_ms = model.batches[model.index_of(offset)].append_ms
    if log.append_time_ms(offset) < append_ms:
        raise Violation(f"offset {offset} was appended at {append_ms}, not {log.append_time_ms(offset)}")
    if not batches:
        return
    time_ms = rng.choice(rng.choice(batches).records).timestamp_ms
    found = log.offset_for_timestamp(time_ms)
    expected = next(_at_or_after(time_ms, batches, log.log_start_offset), None)
    if found != expected:
        raise Violation(f"the first record at {time_ms} or later is {found}, and must be {expected}")


def _read_one(log: Log, offset: int, end_offset: int) -> bytes:
    """The batch that holds the offset, or the next one where compaction took that out; nothing if there is none."""
    while offset < end_offset:
        with log.open_read(offset, 1) as reader:
            read = reader.read()
        if read.batches:
            return bytes(read.batches)
        offset = read.next_offset
    return b""


def _at_or_after(time_ms: int, batches: Iterable[StoredBatch], start_offset: int) -> Iterator[TimestampedOffset]:
    for batch in batches:
        for record in batch.records:
            if record.timestamp_ms >= time_ms and record.offset >= start_offset:
                yield TimestampedOffset(record.offset, record.timestamp_ms)


def _check_epochs(log: Log, batches: Sequence[StoredBatch], end: int) -> None:
    """Every epoch that a batch has ended where the next one began."""
    ends: dict[int, int] = {}
    for batch, following in pairwise(batches):
        ends[batch.leader_epoch] = following.base_offset
    for batch in batches[-1:]:
        ends[batch.leader_epoch] = end
    for epoch, end_offset in ends.items():
        if log.epoch_end_offset(epoch) != (epoch, end_offset):
            raise Violation(f"epoch {epoch} ended at {end_offset}, not {log.epoch_end_offset(epoch)}")


def _check_producers(log: Log, model: PartitionModel, *, forgets: bool) -> None:
    """Whatever of the last five batches is sent again gets its first answer."""
    for producer_id, batches in model.producers.items():
        for batch in batches:
            is_there = batch.next_offset > log.log_start_offset and model.rewritten.get(batch.base_offset, batch)
            if forgets and not is_there:
                continue
            try:
                answer = log.append(batch.data, batch.header.max_timestamp_ms)
            except LogStoreError as error:
                raise Violation(f"producer {producer_id} sent {batch.answer} again: {error!r}") from error
            if answer != batch.answer._replace(duplicate=True):
                raise Violation(f"producer {producer_id} sent {batch.answer} again, and was answered {answer}")
