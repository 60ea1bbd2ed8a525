from hypothesis import given
from hypothesis import strategies as st

from tailrace.sequences import EPOCH_MAX, SEQUENCES, PartitionSequence


def test_numbers_follow_each_other_by_the_records_of_each_batch() -> None:
    sequence = PartitionSequence()
    assert sequence.renew(7, 0)
    assert [sequence.take(count) for count in (3, 1, 5)] == [(7, 0, 0), (7, 0, 3), (7, 0, 4)]


def test_numbering_anew_begins_at_zero_under_a_higher_epoch() -> None:
    sequence = PartitionSequence()
    sequence.renew(7, 0)
    sequence.take(3)
    sequence.broken = True
    assert sequence.renew(7, 0)
    assert sequence.take(1) == (7, 1, 0)


def test_another_producer_id_begins_with_the_epoch_it_came_with() -> None:
    sequence = PartitionSequence()
    sequence.renew(7, 0)
    sequence.renew(7, 0)
    assert sequence.renew(8, 0)
    assert sequence.take(1) == (8, 0, 0)


def test_when_epochs_take_for_lost_another_id_is_asked_for() -> None:
    sequence = PartitionSequence()
    assert sequence.renew(7, EPOCH_MAX)
    assert not sequence.renew(7, EPOCH_MAX)
    assert sequence.renew(8, 0)


@given(st.lists(st.integers(1, 2**20), min_size=1))
def test_numbers_stay_in_range_and_begin_again_at_zero(counts: list[int]) -> None:
    sequence = PartitionSequence()
    sequence.renew(7, 0)
    position = 0
    sequence.take(SEQUENCES - 5)
    position = SEQUENCES - 5
    for count in counts:
        assert sequence.take(count).base_sequence == position % SEQUENCES
        position += count
