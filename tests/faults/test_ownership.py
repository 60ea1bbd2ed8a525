"""The judge of groups sees every way in which a partition can have two owners, and accuses nobody else."""

from tests.faults.clients.ownership import (
    Assigned,
    Commit,
    Event,
    Read,
    Revoked,
    encode_event,
    held,
    judge,
    parse_events,
)

READ_ALL = Read(0, 0, 100)


def commit(next_offset: int, at: float, *, is_committed: bool = True) -> Commit:
    return Commit(0, next_offset, is_committed, at, at + 0.5)


def test_a_partition_that_moves_on_is_fine() -> None:
    first: list[Event] = [
        Assigned(0, (0,)),
        READ_ALL,
        commit(10, 1),
        Revoked(2, (0,)),
        Assigned(6, (0,)),
        commit(30, 7),
    ]
    second: list[Event] = [Assigned(3, (0,)), commit(20, 4), Revoked(5, (0,))]
    assert judge([first, second]) == []


def test_a_commit_that_is_refused_after_the_partition_went_is_fine() -> None:
    first: list[Event] = [Assigned(0, (0,)), READ_ALL, commit(10, 1), commit(15, 5, is_committed=False)]
    second: list[Event] = [Assigned(3, (0,)), commit(20, 4)]
    assert judge([first, second]) == []


def test_a_commit_that_was_under_way_when_the_partition_went_is_fine() -> None:
    first: list[Event] = [
        Assigned(0, (0,)),
        READ_ALL,
        Commit(0, 10, True, 1, 9),
    ]  # accepted at once, and heard of later
    second: list[Event] = [Assigned(3, (0,)), commit(20, 4)]
    assert judge([first, second]) == []


def test_two_owners_are_seen() -> None:
    first: list[Event] = [Assigned(0, (0,)), READ_ALL, commit(10, 1), commit(30, 5)]
    second: list[Event] = [Assigned(3, (0,)), commit(20, 4)]
    [violation] = judge([first, second])
    assert "member 0 committed 30 after member 1 had committed 20" in violation


def test_an_offset_that_goes_back_is_seen() -> None:
    first: list[Event] = [Assigned(0, (0,)), READ_ALL, commit(10, 1)]
    second: list[Event] = [Assigned(3, (0,)), commit(5, 4)]
    [violation] = judge([first, second])
    assert "5 was committed by member 1 after 10" in violation


def test_a_committed_record_that_nobody_read_is_seen() -> None:
    [violation] = judge([[Assigned(0, (0,)), Read(0, 0, 5), Read(0, 8, 10), commit(10, 1)]])
    assert "5 was read by nobody" in violation


def test_events_are_read_as_they_were_written_up_to_the_last_whole_line() -> None:
    events: list[Event] = [Assigned(0.5, (0, 2)), Read(2, 0, 9), Commit(2, 9, True, 1.0, 2.0), Revoked(3.0, (0,))]
    text = "".join(encode_event(event) + "\n" for event in events)
    assert parse_events(text + '["read", 0') == events
    assert held(events) == {2}
