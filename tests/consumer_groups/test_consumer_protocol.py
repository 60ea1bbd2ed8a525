"""What consumers exchange in classic groups, read and stripped: against other people's encoders, and against damage."""

import io
import struct
from contextlib import suppress
from importlib import import_module
from typing import Any

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata
from hypothesis import given
from hypothesis import strategies as st

from consumer_groups.consumer_protocol import (
    ConsumerAssignment,
    Unreadable,
    read_assignment,
    read_owned,
    read_subscription,
    strip,
    write_assignment,
)

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
numbers = st.integers(-(2**31), 2**31 - 1)
topics = st.lists(st.tuples(names, st.lists(numbers, max_size=5).map(tuple)), max_size=5).map(tuple)
assignments = st.builds(ConsumerAssignment, st.integers(0, 3), topics, st.binary(max_size=20))


@given(assignment=assignments)
def test_what_is_written_is_what_is_read(assignment: ConsumerAssignment) -> None:
    assert read_assignment(write_assignment(assignment)) == assignment


@given(topics=topics, user_data=st.binary(max_size=10))
def test_assignments_are_those_of_a_kafka_client(
    topics: tuple[tuple[str, tuple[int, ...]], ...], user_data: bytes
) -> None:
    theirs = ConsumerProtocolMemberAssignment(0, [(name, list(parts)) for name, parts in topics], user_data).encode()
    ours = ConsumerAssignment(0, topics, struct.pack(">i", len(user_data)) + user_data)
    assert read_assignment(theirs) == ours
    assert write_assignment(ours) == theirs


@given(topics=st.lists(names, max_size=5), user_data=st.binary(max_size=10))
def test_subscriptions_are_those_of_a_kafka_client(topics: list[str], user_data: bytes) -> None:
    assert read_subscription(ConsumerProtocolMemberMetadata(0, topics, user_data).encode()) == set(topics)


@pytest.mark.parametrize("version", [0, 1, 2, 3])
def test_all_versions_are_read_as_the_schemas_of_kafka_say(version: int) -> None:
    from kio.serial import entity_writer

    assigned = import_module(f"kio.schema.consumer_protocol_assignment.v{version}.data")
    subscribed = import_module(f"kio.schema.consumer_protocol_subscription.v{version}.data")
    buffer = io.BytesIO()
    part = assigned.TopicPartition(topic="t", partitions=(1, 2))
    entity_writer(assigned.ConsumerProtocolAssignment)(
        buffer, assigned.ConsumerProtocolAssignment(assigned_partitions=(part,), user_data=b"u")
    )
    data = struct.pack(">h", version) + buffer.getvalue()
    assert read_assignment(data) == ConsumerAssignment(version, (("t", (1, 2)),), b"\x00\x00\x00\x01u")
    assert read_assignment(strip(data, lambda topic, number: number == 1)).topics == (("t", (2,)),)

    buffer = io.BytesIO()
    fields: dict[str, Any] = {"topics": ("t", "u"), "user_data": None if version == 3 else b"u"}
    if version >= 1:
        fields["owned_partitions"] = (subscribed.TopicPartition(topic="t", partitions=(1, 2)),)
    entity_writer(subscribed.ConsumerProtocolSubscription)(buffer, subscribed.ConsumerProtocolSubscription(**fields))
    data = struct.pack(">h", version) + buffer.getvalue()
    assert read_subscription(data) == {"t", "u"}
    assert read_owned(data) == (() if version == 0 else (("t", (1, 2)),))


@given(assignment=assignments, sought=st.sets(numbers, max_size=3))
def test_what_is_stripped_lacks_what_is_sought_and_nothing_else(
    assignment: ConsumerAssignment, sought: set[int]
) -> None:
    topics = [(name, tuple(n for n in parts if n not in sought)) for name, parts in assignment.topics]
    data = write_assignment(assignment)
    stripped = strip(data, lambda topic, number: number in sought)
    if topics == list(assignment.topics):
        assert stripped == data, "not a byte changes without need"
    else:
        kept = tuple(topic for topic in topics if topic[1])
        assert read_assignment(stripped) == ConsumerAssignment(assignment.version, kept, assignment.rest)


def test_no_bytes_are_an_empty_assignment() -> None:
    assert read_assignment(b"").topics == ()
    assert strip(b"", lambda topic, number: True) == b""


@pytest.mark.parametrize("data", [b"\x00", b"\x00\x04" + bytes(8), b"\xff\xff" + bytes(8), b"\x00\x00\x7f\xff\xff\xff"])
def test_what_is_no_assignment_is_refused(data: bytes) -> None:
    for read in (read_assignment, read_subscription):
        with pytest.raises(Unreadable):
            read(data)
    with pytest.raises(Unreadable):
        read_owned(b"\x00\x01" + data[2:])


@given(assignment=assignments, data=st.data())
def test_damage_is_refused_or_read_as_another(assignment: ConsumerAssignment, data: st.DataObject) -> None:
    damaged = bytearray(write_assignment(assignment))
    place = data.draw(st.integers(0, len(damaged) - 1))
    damaged[place] ^= data.draw(st.integers(1, 255))
    for some in (bytes(damaged), bytes(damaged[:place])):
        for read in (read_assignment, read_owned, read_subscription):
            with suppress(Unreadable):
                read(some)


def test_a_count_is_not_believed_before_it_is_checked() -> None:
    with pytest.raises(Unreadable, match="2147483647 elements"):
        read_assignment(struct.pack(">hi", 0, 2**31 - 1) + bytes(100))
    with pytest.raises(Unreadable, match="-1 elements"):
        read_assignment(struct.pack(">hi", 0, -1))
