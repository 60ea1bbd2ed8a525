"""The checker finds every anomaly by its name, and none where there is none."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.checker import check
from tests.faults.history import (
    Assign,
    History,
    Operation,
    Outcome,
    Poll,
    Send,
    Value,
    decode_value,
    encode_value,
    read_history,
)

PARTITIONS = 2


def text(process: int, number: int) -> str:
    return encode_value(Value(process, number))


def good_history(rng: random.Random) -> list[Operation]:
    """Sends of three processes, of which some are refused and some end without an answer, read by two and drained."""
    logs: list[list[Value]] = [[] for _ in range(PARTITIONS)]
    operations: list[Operation] = []
    positions = {10: [0] * PARTITIONS, 11: [0] * PARTITIONS}
    for number in range(rng.randint(12, 40)):
        process, partition = rng.randrange(3), rng.randrange(PARTITIONS)
        outcome = rng.choice([Outcome.OK, Outcome.OK, Outcome.OK, Outcome.FAILED, Outcome.UNKNOWN])
        outcome = outcome if number else Outcome.OK
        offset = -1
        if outcome is Outcome.OK or (outcome is Outcome.UNKNOWN and rng.random() < 0.5):
            logs[partition].append(Value(process, number))
            offset = len(logs[partition]) - 1 if outcome is Outcome.OK else -1
        operations.append(Send(process, number, partition, outcome, offset))
        if rng.random() < 0.4:
            reader = rng.choice([10, 11])
            operations.append(poll(logs, reader, positions[reader], rng.randint(0, 5)))
        if rng.random() < 0.1:
            operations.append(Assign(11))
            positions[11] = [rng.randint(0, len(log)) for log in logs]
    operations += [Assign(99), poll(logs, 99, [0] * PARTITIONS, 1_000)]
    return operations


def poll(logs: list[list[Value]], process: int, positions: list[int], records_max: int) -> Poll:
    records = []
    for partition, log in enumerate(logs):
        for offset in range(positions[partition], min(len(log), positions[partition] + records_max)):
            records.append((partition, offset, encode_value(log[offset])))
            positions[partition] = offset + 1
    return Poll(process, tuple(records))


@given(st.randoms(use_true_random=False))
def test_a_history_of_a_sound_log_has_no_anomaly(rng: random.Random) -> None:
    verdict = check(good_history(rng))
    assert verdict.is_good, verdict.shown


SENDS = [Send(0, 0, 0, Outcome.OK, 0), Send(0, 1, 0, Outcome.OK, 1), Send(0, 2, 0, Outcome.OK, 2)]
ALL = ((0, 0, text(0, 0)), (0, 1, text(0, 1)), (0, 2, text(0, 2)))

ANOMALIES: dict[str, list[Operation]] = {
    "lost": [*SENDS, Poll(9, (ALL[0], ALL[2])), Assign(9)],
    "unseen": [*SENDS, Poll(9, ALL[:2])],
    "duplicate": [*SENDS, Poll(9, (*ALL, (0, 3, text(0, 2))))],
    "inconsistent-offsets": [*SENDS, Send(1, 0, 0, Outcome.UNKNOWN, -1), Poll(9, ALL), Poll(8, ((0, 2, text(1, 0)),))],
    "aborted-read": [*SENDS, Send(1, 0, 0, Outcome.FAILED, -1), Poll(9, (*ALL, (0, 3, text(1, 0))))],
    "never-sent": [*SENDS, Poll(9, (*ALL, (0, 3, text(1, 0))))],
    "corrupt": [*SENDS, Poll(9, ALL), Poll(8, ((0, 2, text(0, 2)[:-1]),))],
    "reordered": [
        Send(0, 0, 0, Outcome.UNKNOWN, -1),
        Send(0, 1, 0, Outcome.UNKNOWN, -1),
        Poll(9, ((0, 0, text(0, 1)), (0, 1, text(0, 0)))),
    ],
    "nonmonotonic-send": [
        Send(0, 0, 0, Outcome.OK, 1),
        Send(0, 1, 0, Outcome.OK, 0),
        Poll(9, ((0, 0, text(0, 1)), (0, 1, text(0, 0)))),
    ],
    "poll-skip": [*SENDS, Poll(9, ALL), Poll(8, ALL[:1]), Poll(8, ALL[2:])],
    "nonmonotonic-poll": [*SENDS, Poll(9, ALL), Poll(8, ALL[:2]), Poll(8, ALL[1:])],
}
#: A read in the wrong order is also an acknowledgement in the wrong order; a hole in a poll may come from a loss.
MAY_COME_WITH = {"nonmonotonic-send": {"reordered"}}


@pytest.mark.parametrize("anomaly", ANOMALIES)
def test_each_anomaly_is_found_by_its_name(anomaly: str) -> None:
    verdict = check(ANOMALIES[anomaly])
    assert verdict.counts[anomaly] == 1, verdict.shown
    assert set(verdict.counts) - {anomaly} <= MAY_COME_WITH.get(anomaly, set())


def test_an_acknowledgement_with_another_offset_than_readers_see_is_inconsistent() -> None:
    verdict = check([Send(0, 0, 0, Outcome.OK, 7), Poll(9, ((0, 0, text(0, 0)),))])
    assert set(verdict.counts) == {"inconsistent-offsets"}


def test_a_new_assignment_may_begin_anywhere() -> None:
    verdict = check([*SENDS, Poll(9, ALL), Assign(9), Poll(9, ALL[2:]), Assign(9), Poll(9, ALL)])
    assert verdict.is_good, verdict.shown


def drop_a_read_everywhere(operations: list[Operation], rng: random.Random) -> list[Operation]:
    acknowledged = [send for send in operations if isinstance(send, Send) and send.outcome is Outcome.OK]
    gone = rng.choice(acknowledged)
    return [
        Poll(each.process, tuple(record for record in each.records if record[:2] != (gone.partition, gone.offset)))
        if isinstance(each, Poll)
        else each
        for each in operations
    ]


def move_a_record(operations: list[Operation], rng: random.Random) -> list[Operation]:
    last = operations[-1]
    assert isinstance(last, Poll)
    records = list(last.records)
    acknowledged = {
        (send.partition, send.offset) for send in operations if isinstance(send, Send) and send.outcome is Outcome.OK
    }
    number = rng.choice([n for n, record in enumerate(records) if record[:2] in acknowledged])
    partition, offset, value = records[number]
    records[number] = (partition, offset + 1000, value)
    return [*operations[:-1], Poll(last.process, tuple(records))]


def repeat_a_poll(operations: list[Operation], rng: random.Random) -> list[Operation]:
    return [*operations, operations[-1]]


@pytest.mark.parametrize("damage", [drop_a_read_everywhere, move_a_record, repeat_a_poll])
@given(rng=st.randoms(use_true_random=False))
def test_damage_to_a_sound_history_never_goes_unnoticed(
    damage: Callable[[list[Operation], random.Random], list[Operation]], rng: random.Random
) -> None:
    assert not check(damage(good_history(rng), rng)).is_good


def test_a_history_can_be_read_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    history = History(path)
    for operation in good_history(random.Random(3)):
        history.add(operation)
    history.close()
    assert list(read_history(path)) == history.operations


@given(st.integers(0, 99), st.integers(0, 10**9), st.integers(0, 300), st.data())
def test_a_value_with_one_character_changed_is_known_as_damaged(
    process: int, number: int, size: int, data: st.DataObject
) -> None:
    value = Value(process, number)
    encoded = encode_value(value, size)
    assert decode_value(encoded) == value
    at = data.draw(st.integers(0, len(encoded) - 1))
    changed = encoded[:at] + chr(ord(encoded[at]) ^ 1) + encoded[at + 1 :]
    assert decode_value(changed) is None
