"""What members of a classic group say to each other. Only Unreadable may come out; what is read is written alike."""

from collections.abc import Iterator
from contextlib import suppress

from consumer_groups.consumer_protocol import (
    ConsumerAssignment,
    Unreadable,
    read_assignment,
    read_owned,
    read_subscription,
    strip,
    write_assignment,
)


def run(data: bytes) -> bool:
    """An input is tried as an assignment and as a subscription, of which it may be either."""
    reads = 0
    with suppress(Unreadable):
        assignment = read_assignment(data)
        if data:
            assert write_assignment(assignment) == data
        stripped = read_assignment(strip(data, lambda topic, partition: partition % 2 == 0))
        kept = [(topic, [n for n in numbers if n % 2]) for topic, numbers in assignment.topics]
        assert [(topic, list(numbers)) for topic, numbers in stripped.topics if numbers] == [
            (topic, numbers) for topic, numbers in kept if numbers
        ]
        assert stripped.rest == assignment.rest
        reads += 1
    with suppress(Unreadable):
        assert len(read_subscription(data)) <= len(data)
        reads += 1
    with suppress(Unreadable):
        assert sum(len(numbers) for _, numbers in read_owned(data)) <= len(data)
    return reads > 0


def seeds() -> Iterator[bytes]:
    yield b""
    for version in range(5):
        topics = (("t", (0, 1, 2)), ("café", ()), ("u", (7,)))
        yield write_assignment(ConsumerAssignment(version, topics, b"\xff\xff\xff\xff"))
        # A subscription: names, user data, and what the member still has.
        owned = write_assignment(ConsumerAssignment(0, topics, b""))[2:]
        yield version.to_bytes(2, "big") + b"\0\0\0\2\0\1t\0\1u" + b"\0\0\0\3xyz" + owned
