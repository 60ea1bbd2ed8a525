"""The handout by itself: what is handed out, and what of it may be committed, without threads and server."""

from logstore.batch import Record, encode_batch, stamp
from tailrace.handout import Handout, Idle
from tailrace.positions import Cursor, FetchedBatches, Hold, PartitionKey

KEY = PartitionKey("t", bytes(16), 0)


def handout(*, stop_at_end: bool = False) -> Handout:
    return Handout(
        stop_at_end=stop_at_end,
        notify=lambda: None,
        on_placed=lambda hold, number: None,
        on_read=lambda hold, size: None,
    )


def hold_at(offset: int, *, end_offset: int | None = None) -> Hold:
    return Hold(KEY, offset, committed_offset=-1, end_offset=end_offset)


def fetched(hold: Hold, base_offset: int, count: int) -> FetchedBatches:
    batch = bytearray(encode_batch([Record(0, 0, None, b"x") for _ in range(count)]))
    stamp(batch, base_offset, 0)
    return FetchedBatches(hold, hold.position_id, bytes(batch), base_offset + count)


def take_all(handout: Handout) -> list[int]:
    """Offsets of the records that are there, all of them done."""
    offsets = []
    while isinstance(cursor := handout.take(), Cursor):
        for record in cursor.begin_records():
            cursor.last = record
            offsets.append(record.offset)
    return offsets


def test_a_partition_that_begins_again_hands_out_and_commits_nothing_of_its_former_hold() -> None:
    h = handout()
    former = hold_at(5)
    h.hold(former)
    h.put(fetched(former, 5, 3))
    assert take_all(h) == [5, 6, 7]
    on_its_way = fetched(former, 8, 3)
    h.hold(hold_at(50))
    h.put(on_its_way)
    assert take_all(h) == []
    assert h.done_offsets() == {}
    assert h.take_lost(), "what was handed out of it can no longer be committed, and a commit says so"


def test_a_record_in_hand_of_a_former_hold_makes_the_application_look_up() -> None:
    h = handout()
    former = hold_at(5)
    h.hold(former)
    h.put(fetched(former, 5, 3))
    cursor = h.take()
    assert isinstance(cursor, Cursor)
    cursor.last = next(cursor.begin_records())
    h.hold(hold_at(50))
    assert h.attention
    assert h.take() is Idle.WAIT
    assert former not in (h.commit_offsets_up_to(None) or {})


def test_giving_up_a_former_hold_does_not_give_up_the_one_after_it() -> None:
    h = handout()
    former, later = hold_at(5), hold_at(50)
    h.hold(former)
    h.revoke([KEY])
    h.lose()
    h.hold(later)
    h.revoke([KEY])
    assert h.give_up([former]) == []
    assert h.leaving == {KEY: later}
    assert h.give_up([later]) == [later]


def test_whoever_has_held_something_since_is_not_at_the_end_for_having_had_nothing_before() -> None:
    h = handout(stop_at_end=True)
    h.has_nothing()
    assert h.take() is Idle.END
    h.hold(hold_at(0, end_offset=3))
    assert h.take() is Idle.WAIT
    h.revoke([KEY])
    assert h.take() is Idle.WAIT, "what it held may come back, as after a seek of the group"
