"""The verdict on readers of a compacted topic: every way in which compaction can be wrong has a word."""

from typing import NamedTuple

import pytest

from tests.faults.history import Value
from tests.faults.keyed import HEADER, KeyedReader, Sends, header_of


class Read(NamedTuple):
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def send(sends: Sends, number: int, key: bytes, value: bytes | None) -> Read:
    """One that is acknowledged at the offset of its number."""
    sends.begin(Value(1, number), key, value)
    sends.end(Value(1, number), 0, number)
    return Read(number, key, value, ((HEADER, header_of(Value(1, number)).encode()),))


def verdict(sends: Sends, *records: Read) -> list[str]:
    reader = KeyedReader(sends)
    reader.take(0, records)
    reader.finish(sends.newest())
    return [violation.partition(":")[0] for violation in reader.violations]


def test_whatever_a_newer_record_of_its_key_has_replaced_need_not_be_read() -> None:
    sends = Sends()
    _, b, c = send(sends, 0, b"k", b"0"), send(sends, 1, b"j", b"1"), send(sends, 2, b"k", b"2")
    assert verdict(sends, b, c) == []


def test_a_key_that_is_not_read_is_lost() -> None:
    sends = Sends()
    a, _ = send(sends, 0, b"k", b"0"), send(sends, 1, b"j", b"1")
    assert verdict(sends, a) == ["lost"]


@pytest.mark.parametrize(("keeps_tombstones", "expected"), [(True, ["lost"]), (False, [])])
def test_a_deleted_key_is_lost_while_its_tombstone_has_to_stay(keeps_tombstones: bool, expected: list[str]) -> None:
    sends = Sends(keeps_tombstones=keeps_tombstones)
    send(sends, 0, b"k", b"0")
    send(sends, 1, b"k", None)
    assert verdict(sends) == expected


def test_a_deleted_key_that_comes_back_is_stale() -> None:
    sends = Sends(keeps_tombstones=False)
    a, _ = send(sends, 0, b"k", b"0"), send(sends, 1, b"k", None)
    assert verdict(sends, a) == ["stale"]


def test_an_older_value_in_the_end_or_after_a_newer_one_is_stale() -> None:
    sends = Sends()
    a, b = send(sends, 0, b"k", b"0"), send(sends, 1, b"k", b"1")
    assert verdict(sends, a) == ["stale"]
    assert verdict(sends, b, a._replace(offset=2)) == ["wrong", "stale", "stale"]


def test_offsets_that_go_back_or_are_not_those_of_the_acknowledgement_are_seen() -> None:
    sends = Sends()
    a, b = send(sends, 0, b"k", b"0"), send(sends, 1, b"j", b"1")
    assert verdict(sends, b, a) == ["nonmonotonic"]
    assert verdict(sends, a, b._replace(offset=2)) == ["wrong"]


def test_another_key_or_value_than_was_sent_is_seen() -> None:
    sends = Sends()
    a = send(sends, 0, b"k", b"0")
    assert verdict(sends, a._replace(value=b"1")) == ["wrong"]
    assert verdict(sends, a._replace(key=b"j")) == ["wrong", "lost"]
    assert verdict(sends, a._replace(headers=())) == ["corrupt", "lost"]


def test_the_newest_is_what_was_sent_last_also_when_an_older_one_is_acknowledged_after_it() -> None:
    sends = Sends(keeps_tombstones=False)
    sends.begin(Value(1, 0), b"k", b"0")
    sends.begin(Value(1, 1), b"k", None)
    sends.end(Value(1, 1), 0, 1)
    sends.end(Value(1, 0), 0, 0)
    assert verdict(sends) == []
