"""The handout by itself: what is handed out, and what of it may be committed, without threads and server."""

import random
from dataclasses import dataclass

import pytest

from logstore.batch import Record, decode_codec_records, encode_batch, encode_retained, read_header, stamp
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


@dataclass
class CompactedLog:
    """Batches of some offsets each, of which compaction has taken records, and whole batches, out."""

    batches: list[bytes]
    offsets: list[int]
    end_offset: int

    @classmethod
    def drawn(cls, rng: random.Random) -> "CompactedLog":
        log = cls([], [], 0)
        for _ in range(rng.randrange(1, 10)):
            count = rng.randrange(1, 6)
            whole = encode_batch([Record(0, 0, None, b"x")] * count, base_offset=log.end_offset)
            gone_share = rng.choice([0, 0.5, 0.9])
            kept = [record for record in decode_codec_records(whole) if rng.random() >= gone_share]
            if kept:
                log.batches.append(encode_retained(read_header(whole), kept))
            log.offsets += [record.offset for record in kept]
            log.end_offset += count
        return log

    def fetch(self, hold: Hold, offset: int, rng: random.Random) -> FetchedBatches:
        """As the server answers: some of the batches from an offset on, or none up to the end."""
        found = [batch for batch in self.batches if read_header(batch).next_offset > offset][: rng.randrange(1, 4)]
        next_offset = read_header(found[-1]).next_offset if found else self.end_offset
        return FetchedBatches(hold, hold.position_id, b"".join(found), next_offset)


@pytest.mark.parametrize("seed", range(200))
def test_of_a_compacted_log_every_record_is_handed_out_once_and_its_end_is_reached(seed: int) -> None:
    rng = random.Random(seed)
    log = CompactedLog.drawn(rng)
    h = handout(stop_at_end=True)
    start = rng.randrange(log.end_offset + 1)
    hold = hold_at(start, end_offset=log.end_offset)
    h.hold(hold)
    fetched = (hold.position_id, start)  # up to where
    handed: list[int] = []
    done: list[int] = []
    while (step := h.take()) is not Idle.END:
        done = list(handed)
        if step is Idle.WAIT:
            answer = log.fetch(hold, fetched[1] if fetched[0] == hold.position_id else hold.next_offset, rng)
            fetched = (hold.position_id, answer.next_offset)
            h.put(answer)
        elif rng.random() < 0.3:
            assert isinstance(step, Cursor)
            handed += h.hand_out(step).offsets
        else:
            assert isinstance(step, Cursor)
            for record in step.begin_records():
                step.last = record
                handed.append(record.offset)
                done = handed[:-1]
                if rng.random() < 0.3:
                    break
        if rng.random() < 0.1:
            h.pause([hold], True)
            h.pause([hold], False)
        wanted = [offset for offset in log.offsets if offset >= start]
        assert handed == wanted[: len(handed)]
        assert [offset for offset in wanted if offset < h.position(hold)] == handed
        assert [offset for offset in wanted if offset < h.done_offset(hold)] == done
    assert handed == [offset for offset in log.offsets if offset >= start]
    assert h.position(hold) == h.done_offset(hold) == log.end_offset
