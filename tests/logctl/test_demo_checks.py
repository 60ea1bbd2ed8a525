"""The judge of the demonstration finds every way in which it could have gone wrong."""

from collections.abc import Callable

import pytest

from logctl.demo.checks import Check, MemberReads, StoredRecord, check_group, check_log, check_replay
from logctl.demo.flights import read_sample, records_of
from logctl.record_json import NewRecord

SENT = [NewRecord(f"flight {n}".encode(), f"plane {n % 7}".encode(), 1000 + n) for n in range(70)]


def stored(sent: list[NewRecord]) -> list[StoredRecord]:
    """The log that a faultless system makes of it: three partitions, by key."""
    offsets = [0, 0, 0]
    log = []
    for record in sent:
        assert record.key is not None
        assert record.value is not None
        assert record.timestamp_ms is not None
        partition = record.key[-1] % 3
        log.append(
            StoredRecord(partition, offsets[partition], record.timestamp_ms, record.key.decode(), record.value.decode())
        )
        offsets[partition] += 1
    return log


def passed(checks: list[Check]) -> bool:
    return all(check.passed for check in checks)


def members(*, uncommitted: int = 0) -> list[MemberReads]:
    """A reads everything; B had read some of partition 2 and was killed, and the uncommitted came to A again."""
    log = stored(SENT)
    mine = [record for record in log if record.partition == 2]
    taken = mine[:10]
    committed = taken[: len(taken) - uncommitted]
    rest = [record for record in log if record not in committed]
    return [MemberReads("A", False, rest, len(rest)), MemberReads("B", True, taken, len(committed))]


def renumbered(log: list[StoredRecord]) -> list[StoredRecord]:
    offsets = {0: 0, 1: 0, 2: 0}
    again = []
    for record in log:
        again.append(record._replace(offset=offsets[record.partition]))
        offsets[record.partition] += 1
    return again


def swapped(log: list[StoredRecord], one: int, two: int) -> list[StoredRecord]:
    log[one], log[two] = log[two], log[one]
    return log


def test_a_faultless_log_passes() -> None:
    assert passed(check_log(SENT, stored(SENT)))
    assert passed(check_log(SENT, sorted(stored(SENT), key=lambda record: -record.partition)))  # in any order of them


@pytest.mark.parametrize(
    "spoil",
    [
        lambda log: renumbered(log[:-1]),
        lambda log: log[:-1],
        lambda log: log[1:],
        lambda log: renumbered([*log, log[3]]),
        lambda log: renumbered([*log[:5], log[4], *log[5:]]),
        lambda log: [*log, log[3]],
        lambda log: renumbered(swapped(log, 0, 7)),
        lambda log: [log[0]._replace(value="flight 70"), *log[1:]],
        lambda log: [log[0]._replace(timestamp_ms=7), *log[1:]],
        lambda log: [log[0]._replace(key="plane 7"), *log[1:]],
        lambda log: [log[0]._replace(key=None), *log[1:]],
        lambda log: [record._replace(offset=record.offset + 1) for record in log],
        lambda log: list(reversed(log)),
        lambda log: [],
    ],
)
def test_a_log_with_a_fault_fails(spoil: Callable[[list[StoredRecord]], list[StoredRecord]]) -> None:
    assert not passed(check_log(SENT, spoil(stored(SENT))))


@pytest.mark.parametrize(
    ("uncommitted", "sentence"),
    [
        (0, "no flight was read twice"),
        (1, "1 flight was read twice: B had read and not yet committed that much"),
        (10, "10 flights were read twice: B had read and not yet committed that much"),
    ],
)
def test_a_group_that_read_everything_passes_and_tells_what_came_twice(uncommitted: int, sentence: str) -> None:
    checks = check_group(stored(SENT), members(uncommitted=uncommitted))
    assert passed(checks)
    assert sentence in [check.sentence for check in checks]


def test_a_commit_that_came_through_without_its_answer_is_told_as_that() -> None:
    reads = members()
    killed = next(member for member in reads if member.killed)
    killed.committed_count -= 3
    checks = check_group(stored(SENT), reads)
    assert passed(checks)
    told = f"no flight was read twice: the last commit of {killed.name} had reached the server, though not its answer"
    assert told in [check.sentence for check in checks]


def test_a_record_that_nobody_read_fails() -> None:
    reads = members()
    reads[0].reads.pop()
    assert not passed(check_group(stored(SENT), reads))


def test_a_record_read_differently_fails() -> None:
    reads = members()
    reads[0].reads[0] = reads[0].reads[0]._replace(value="other")
    assert not passed(check_group(stored(SENT), reads))


def test_a_record_that_is_not_in_the_log_fails() -> None:
    reads = members()
    reads[0].reads.append(StoredRecord(0, 999, 0, None, "ghost"))
    assert not passed(check_group(stored(SENT), reads))


def test_a_member_that_reads_backwards_fails() -> None:
    reads = members()
    swapped(reads[0].reads, 0, 7)
    assert not passed(check_group(stored(SENT), reads))


def test_a_member_that_reads_twice_fails() -> None:
    reads = members()
    reads[0].reads.append(reads[0].reads[-1])
    assert not passed(check_group(stored(SENT), reads))


def test_a_committed_record_that_comes_again_fails() -> None:
    reads = members(uncommitted=3)
    reads[1].committed_count += 1
    assert not passed(check_group(stored(SENT), reads))


def test_a_repeat_without_a_killed_member_fails() -> None:
    reads = members(uncommitted=3)
    reads[1].killed = False
    assert not passed(check_group(stored(SENT), reads))


def test_a_repeat_that_came_to_two_survivors_fails() -> None:
    reads = members(uncommitted=3)
    again = reads[1].uncommitted
    reads.append(MemberReads("C", False, list(again), len(again)))
    assert not passed(check_group(stored(SENT), reads))


@pytest.mark.parametrize("from_ms", [0, 1000, 1035, 1069, 5000])
def test_a_replay_of_all_from_a_time_passes(from_ms: int) -> None:
    log = stored(SENT)
    assert passed(check_replay(log, [record for record in log if record.timestamp_ms >= from_ms], from_ms))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda replay: replay[1:],
        lambda replay: replay[:-1],
        lambda replay: [*replay, replay[0]],
        lambda replay: swapped(replay, 0, 7),
        lambda replay: [stored(SENT)[0], *replay],
        lambda replay: [],
    ],
)
def test_a_replay_of_anything_else_fails(spoil: Callable[[list[StoredRecord]], list[StoredRecord]]) -> None:
    log = stored(SENT)
    assert not passed(check_replay(log, spoil([record for record in log if record.timestamp_ms >= 1035]), 1035))


def test_the_sample_is_what_its_note_says() -> None:
    flights = records_of(read_sample())
    assert len(flights) == 12_126
    assert len({flight.key for flight in flights}) == 2_621
    assert None not in {flight.key for flight in flights}
    times = [flight.timestamp_ms for flight in flights if flight.timestamp_ms is not None]
    assert times == sorted(times)
    assert len(times) == len(flights)
    assert times[0] == 1_357_035_420_000  # 1 January 2013, 05:17 in New York
