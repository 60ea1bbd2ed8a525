"""The journal's records: what is written is what is read, and what cannot be read is refused."""

import json
from contextlib import suppress
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consumer_groups.errors import JournalUnreadable
from consumer_groups.journal_records import (
    ClassicGeneration,
    ClassicKey,
    ClassicMemberKey,
    GroupEpochs,
    GroupKey,
    HoldingKey,
    Key,
    MemberKey,
    OffsetKey,
    OffsetValue,
    TargetKey,
    Value,
    decode,
    encode,
    fold,
)
from consumer_groups.member import ClassicMember, Holding, MemberProtocol, MemberState, Profile
from consumer_groups.requests import Partition

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(0, 2**31 - 1)
partitions = st.builds(Partition, st.uuids(), numbers)
assignments = st.frozensets(partitions, max_size=5)

changes: st.SearchStrategy[tuple[Key, Value]] = st.one_of(
    st.tuples(st.builds(GroupKey, names), st.builds(GroupEpochs, numbers, numbers, st.none() | numbers)),
    st.tuples(
        st.builds(MemberKey, names, names),
        st.builds(Profile, names, names, names, numbers, st.lists(names, max_size=3).map(tuple), names),
    ),
    st.tuples(st.builds(TargetKey, names, names), assignments),
    st.tuples(
        st.builds(HoldingKey, names, names),
        st.builds(Holding, st.integers(-2, 2**31 - 1), numbers, st.sampled_from(MemberState), assignments, assignments),
    ),
    st.tuples(
        st.builds(OffsetKey, names, partitions),
        st.builds(OffsetValue, st.integers(0, 2**63 - 1), names, st.integers(0, 2**53), st.integers(-1, 2**31 - 1)),
    ),
    st.tuples(
        st.builds(ClassicKey, names),
        st.builds(ClassicGeneration, numbers, names, names, names, st.booleans(), assignments, st.none() | numbers),
    ),
    st.tuples(
        st.builds(ClassicMemberKey, names, names),
        st.builds(
            ClassicMember,
            names,
            names,
            names,
            numbers,
            numbers,
            st.lists(st.builds(MemberProtocol, names, st.binary(max_size=20)), max_size=3).map(tuple),
            st.binary(max_size=20),
        ),
    ),
)


@given(change=changes)
def test_what_is_written_is_what_is_read(change: tuple[Key, Value]) -> None:
    key, value = change
    assert decode(*encode(key, value)) == (key, value)
    assert decode(*encode(key, None)) == (key, None)


@given(change=changes)
def test_a_key_has_one_spelling(change: tuple[Key, Value]) -> None:
    key, value = change
    assert encode(key, value)[0] == encode(key, None)[0]


def test_the_newest_value_of_a_key_is_the_truth() -> None:
    group, other = GroupKey("g"), GroupKey("h")
    records = [
        encode(group, GroupEpochs(1, 1)),
        encode(other, GroupEpochs(5, 5)),
        encode(group, GroupEpochs(2, 1)),
        encode(other, None),
    ]
    assert fold(records) == {group: GroupEpochs(2, 1)}


def test_the_layout_on_disk_stays_what_it_is() -> None:
    topic = Partition(UUID(int=1), 7)
    assert encode(OffsetKey("g", topic), OffsetValue(42, "note", 1700)) == (
        b'{"v":1,"kind":"offset","group":"g","topic":"00000000000000000000000000000001","partition":7}',
        b'{"v":1,"offset":42,"metadata":"note","commit_time_ms":1700}',
    )
    assert encode(HoldingKey("g", "m"), Holding(3, 2, MemberState.REVOKING, frozenset(), frozenset({topic}))) == (
        b'{"v":1,"kind":"holding","group":"g","member":"m"}',
        b'{"v":1,"epoch":3,"previous_epoch":2,"state":"revoking","assigned":{},'
        b'"revoking":{"00000000000000000000000000000001":[7]}}',
    )
    assert encode(OffsetKey("g", topic), OffsetValue(42, "", 1700, 3))[1] == (
        b'{"v":1,"offset":42,"metadata":"","commit_time_ms":1700,"leader_epoch":3}'
    )
    assert encode(ClassicKey("g"), ClassicGeneration(3, "consumer", "range", "m", True, frozenset({topic}), 1700)) == (
        b'{"v":1,"kind":"classic","group":"g"}',
        b'{"v":1,"generation":3,"protocol_type":"consumer","protocol":"range","leader":"m","settled":true,'
        b'"stripped":{"00000000000000000000000000000001":[7]},"emptied_ms":1700}',
    )
    member = ClassicMember("i", "c", "/h", 60_000, 10_000, (MemberProtocol("range", b"\x00\xff"),), b"\x01")
    assert encode(ClassicMemberKey("g", "m"), member) == (
        b'{"v":1,"kind":"classic-member","group":"g","member":"m"}',
        b'{"v":1,"instance":"i","client":"c","host":"/h","rebalance_timeout_ms":60000,"session_timeout_ms":10000,'
        b'"protocols":[["range","AP8="]],"assignment":"AQ=="}',
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ({"v": 2, "kind": "group", "group": "g"}, {"v": 1, "epoch": 1, "assignment_epoch": 1}),
        ({"v": 1, "kind": "group", "group": "g"}, {"v": 2, "epoch": 1, "assignment_epoch": 1}),
        ({"v": 1, "kind": "share", "group": "g"}, {"v": 1}),
    ],
)
def test_what_a_newer_version_wrote_is_refused_by_name(key: object, value: object) -> None:
    with pytest.raises(JournalUnreadable, match="this server reads version 1"):
        decode(json.dumps(key).encode(), json.dumps(value).encode())


@given(change=changes, data=st.data())
def test_a_damaged_record_is_refused_or_read_as_another(change: tuple[Key, Value], data: st.DataObject) -> None:
    """Any cut and any changed byte: a value or JournalUnreadable, never another error."""
    key_bytes, value_bytes = encode(*change)
    assert value_bytes is not None
    damaged = bytearray(value_bytes)
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    for value in (bytes(damaged), value_bytes[:place]):
        with suppress(JournalUnreadable):
            decode(key_bytes, value)
