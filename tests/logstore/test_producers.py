"""Producer states: a model of Kafka's answers, through restarts."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from logstore.batch import BatchHeader
from logstore.errors import (
    DuplicateSequence,
    InvalidProducerEpoch,
    InvalidRecord,
    OutOfOrderSequence,
    UnknownProducerId,
)
from logstore.producers import Duplicate, ProducerStates

WRAP = 2**31


def batch(producer_id: int, sequence: int, count: int = 1, epoch: int = 0) -> BatchHeader:
    return BatchHeader(0, 100, -1, 2, 0, 0, count - 1, 1000, 1000, producer_id, epoch, sequence, count)


class Partition:
    """The states and the end of the log they describe."""

    def __init__(self, producers_max: int = 100) -> None:
        self.states = ProducerStates(producers_max=producers_max)

    def append(self, header: BatchHeader, now_ms: int = 0) -> int | Duplicate:
        duplicate = self.states.check(header)
        if duplicate is not None:
            return duplicate
        base_offset = self.states.next_offset
        self.states.record(header, base_offset, now_ms)
        return base_offset


@pytest.fixture
def partition() -> Partition:
    return Partition()


def test_batches_without_a_producer_are_never_duplicates(partition: Partition) -> None:
    plain = batch(-1, -1, count=3, epoch=-1)

    assert [partition.append(plain) for _ in range(3)] == [0, 3, 6]
    assert len(partition.states) == 0


def test_the_last_five_batches_are_answered_with_their_offsets(partition: Partition) -> None:
    sent = [batch(7, 10 * n, count=10) for n in range(6)]
    for header in sent:
        partition.append(header)

    assert [partition.append(header) for header in sent[1:]] == [Duplicate(10 * n, 10 * n + 9) for n in range(1, 6)]
    with pytest.raises(DuplicateSequence, match="written sequence 0 already, and 60 is next"):
        partition.append(sent[0])
    assert partition.states.next_offset == 60


def test_a_gap_is_out_of_order(partition: Partition) -> None:
    partition.append(batch(7, 0, count=3))

    with pytest.raises(OutOfOrderSequence, match="sent sequence 4 where 3 must follow"):
        partition.append(batch(7, 4))


def test_a_batch_that_is_half_new_is_out_of_order(partition: Partition) -> None:
    partition.append(batch(7, 0, count=3))

    with pytest.raises(OutOfOrderSequence):
        partition.append(batch(7, 2, count=2))


def test_records_sent_again_in_smaller_batches_count_as_written(partition: Partition) -> None:
    partition.append(batch(7, 0, count=4))

    with pytest.raises(DuplicateSequence):
        partition.append(batch(7, 0, count=2))


def test_a_sequence_before_the_first_known_one_was_not_written(partition: Partition) -> None:
    # As after retention took the first batches and the snapshot was lost: only what was seen is called written.
    partition.states.record(batch(7, 50, count=10), 50, 0)

    assert partition.append(batch(7, 60)) == 60
    for sequence in (49, 40, 0, WRAP - 1):
        with pytest.raises(OutOfOrderSequence):
            partition.append(batch(7, sequence))


def test_an_old_epoch_is_fenced_even_for_a_duplicate(partition: Partition) -> None:
    first = batch(7, 0, epoch=1)
    partition.append(first)
    partition.append(batch(7, 0, epoch=2))

    with pytest.raises(InvalidProducerEpoch, match="has epoch 1, and one with epoch 2"):
        partition.append(first)


def test_a_new_epoch_begins_at_zero(partition: Partition) -> None:
    partition.append(batch(7, 0, count=5))

    with pytest.raises(OutOfOrderSequence, match="begins epoch 1 at sequence 5"):
        partition.append(batch(7, 5, epoch=1))
    assert partition.append(batch(7, 0, epoch=1)) == 5
    with pytest.raises(OutOfOrderSequence):
        partition.append(batch(7, 4, epoch=1))


def test_an_unknown_producer_begins_at_zero(partition: Partition) -> None:
    with pytest.raises(UnknownProducerId, match="producer 7 is not known here, and sequence 3"):
        partition.append(batch(7, 3))
    assert partition.append(batch(7, 0)) == 0


def test_sequences_begin_again_after_two_to_the_31(partition: Partition) -> None:
    partition.states.record(batch(7, WRAP - 10, count=8), 0, 0)

    across = batch(7, WRAP - 2, count=4)
    assert partition.append(across) == 8
    assert partition.append(across) == Duplicate(8, 11)
    assert partition.append(batch(7, 2)) == 12
    with pytest.raises(DuplicateSequence):
        partition.append(batch(7, WRAP - 3, count=2))


@pytest.mark.parametrize(("producer_id", "epoch", "sequence"), [(7, -1, 0), (7, 0, -1), (-2, 0, 0)])
def test_half_a_producer_is_refused(partition: Partition, producer_id: int, epoch: int, sequence: int) -> None:
    with pytest.raises(InvalidRecord):
        partition.append(batch(producer_id, sequence, epoch=epoch))


def test_only_the_silent_are_forgotten(partition: Partition) -> None:
    partition.append(batch(1, 0), now_ms=1000)
    partition.append(batch(2, 0), now_ms=2000)
    partition.append(batch(1, 1), now_ms=3000)

    assert partition.states.expire(before_ms=3000) == 1

    assert partition.append(batch(1, 2)) == 3
    with pytest.raises(UnknownProducerId):
        partition.append(batch(2, 1))


def test_beyond_the_bound_the_longest_silent_is_forgotten() -> None:
    partition = Partition(producers_max=2)
    for producer_id, sequence in ((1, 0), (2, 0), (1, 1), (3, 0)):
        partition.append(batch(producer_id, sequence))

    assert len(partition.states) == 2
    assert isinstance(partition.append(batch(1, 1)), Duplicate)
    with pytest.raises(UnknownProducerId):
        partition.append(batch(2, 1))


# Against a model.


@dataclass
class ModelProducer:
    """Everything that was written in the newest epoch, as (first sequence, count, offset)."""

    epoch: int = -1
    start: int = 0
    written: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def next_sequence(self) -> int:
        return (self.start + sum(count for _, count, _ in self.written)) % WRAP


class KafkaAnswers(RuleBasedStateMachine):
    """Producers that send what is right, what they sent before, and what is wrong; the model keeps all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.states = ProducerStates(producers_max=10)
        self.model: dict[int, ModelProducer] = {}
        self.end = 0

    def send(self, header: BatchHeader) -> Duplicate | None:
        duplicate = self.states.check(header)
        if duplicate is None:
            self.states.record(header, self.end, now_ms=self.end)
            self.end += header.records_count
        return duplicate

    @rule(producer_id=st.integers(3, 5), start=st.integers(WRAP - 20, WRAP - 1), count=st.integers(1, 4))
    def producer_met_late(self, producer_id: int, start: int, count: int) -> None:
        """What it wrote before is no longer in the log. Its sequences are about to begin again."""
        if producer_id not in self.model:
            self.model[producer_id] = ModelProducer(0, start, [(start, count, self.end)])
            self.states.record(batch(producer_id, start, count), self.end, now_ms=self.end)
            self.end += count

    @rule(producer_id=st.integers(0, 5), count=st.integers(1, 4))
    def next_batch(self, producer_id: int, count: int) -> None:
        producer = self.model.setdefault(producer_id, ModelProducer(epoch=0))
        sequence, offset = producer.next_sequence, self.end
        assert self.send(batch(producer_id, sequence, count, producer.epoch)) is None
        producer.written.append((sequence, count, offset))

    @precondition(lambda self: any(producer.written for producer in self.model.values()))
    @rule(data=st.data())
    def same_batch_again(self, data: st.DataObject) -> None:
        producer_id = data.draw(st.sampled_from([n for n, producer in self.model.items() if producer.written]))
        producer = self.model[producer_id]
        age = data.draw(st.integers(1, len(producer.written)))
        sequence, count, offset = producer.written[-age]
        header = batch(producer_id, sequence, count, producer.epoch)
        if age <= 5:
            assert self.send(header) == Duplicate(offset, offset + count - 1)
        else:
            with pytest.raises(DuplicateSequence):
                self.send(header)

    @precondition(lambda self: bool(self.model))
    @rule(data=st.data(), skipped=st.integers(1, 5), count=st.integers(1, 3))
    def batch_after_a_gap(self, data: st.DataObject, skipped: int, count: int) -> None:
        producer_id = data.draw(st.sampled_from(sorted(self.model)))
        producer = self.model[producer_id]
        error = OutOfOrderSequence if producer.written else UnknownProducerId
        with pytest.raises(error):
            self.send(batch(producer_id, (producer.next_sequence + skipped) % WRAP, count, producer.epoch))

    @precondition(lambda self: any(producer.written for producer in self.model.values()))
    @rule(data=st.data(), by=st.integers(1, 3), sequence=st.integers(0, 3))
    def newer_epoch(self, data: st.DataObject, by: int, sequence: int) -> None:
        producer_id = data.draw(st.sampled_from([n for n, producer in self.model.items() if producer.written]))
        epoch = self.model[producer_id].epoch + by
        header = batch(producer_id, sequence, 1, epoch)
        if sequence != 0:
            with pytest.raises(OutOfOrderSequence):
                self.send(header)
        else:
            offset = self.end
            assert self.send(header) is None
            self.model[producer_id] = ModelProducer(epoch, 0, [(0, 1, offset)])

    @precondition(lambda self: any(producer.epoch > 0 for producer in self.model.values()))
    @rule(data=st.data(), sequence=st.integers(0, 10))
    def older_epoch(self, data: st.DataObject, sequence: int) -> None:
        producer_id = data.draw(st.sampled_from([n for n, producer in self.model.items() if producer.epoch > 0]))
        epoch = data.draw(st.integers(0, self.model[producer_id].epoch - 1))
        with pytest.raises(InvalidProducerEpoch):
            self.send(batch(producer_id, sequence, 1, epoch))

    @rule(count=st.integers(1, 3))
    def plain_batch(self, count: int) -> None:
        assert self.send(batch(-1, -1, count, -1)) is None

    @rule()
    def restart(self) -> None:
        data = self.states.pack()
        self.states, end = ProducerStates.unpack(data, 0, next_offset=self.states.next_offset, producers_max=10)
        assert end == len(data)
        assert self.states.pack() == data

    @invariant()
    def the_end_is_known(self) -> None:
        assert self.states.next_offset == self.end


TestKafkaAnswers = KafkaAnswers.TestCase
TestKafkaAnswers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
