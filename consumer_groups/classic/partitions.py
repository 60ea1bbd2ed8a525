"""What consumers of a classic group say in bytes of their own, as topics and partitions that the server knows.

What others than consumers say, and what cannot be read (see `consumer_protocol`), counts here as nothing said.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

from consumer_groups.consumer_protocol import Unreadable, read_assignment, read_owned, read_subscription, strip
from consumer_groups.member import ClassicMember
from consumer_groups.requests import CONSUMER, Assignment, Partition
from consumer_groups.surroundings import TopicLookup


def subscription(protocol_type: str, metadata: bytes) -> frozenset[str] | None:
    """The topics that a member subscribes to; None if that cannot be known."""
    if protocol_type == CONSUMER:
        with suppress(Unreadable):
            return read_subscription(metadata)
    return None


def subscribed(protocol_type: str, protocol: str, member: ClassicMember) -> frozenset[str]:
    """The topics that a member subscribes to, as far as they can be read; by its first word before one is chosen."""
    metadata = member.metadata(protocol) or next((known.metadata for known in member.protocols), b"")
    return subscription(protocol_type, metadata) or frozenset()


def assigned(protocol_type: str, members: Mapping[str, ClassicMember], lookup: TopicLookup) -> dict[Partition, str]:
    """All that was assigned last, and to whom."""
    owners: dict[Partition, str] = {}
    if protocol_type == CONSUMER:
        for member_id, member in members.items():
            with suppress(Unreadable):
                owners.update(dict.fromkeys(_known(read_assignment(member.assignment).topics, lookup), member_id))
    return owners


def claimed(protocol: str, members: Iterable[ClassicMember], lookup: TopicLookup) -> Assignment:
    """What members said when they joined that they still have."""
    owned: set[Partition] = set()
    for member in members:
        with suppress(Unreadable):
            owned.update(_known(read_owned(member.metadata(protocol)), lookup))
    return frozenset(owned)


def without(assignment: bytes, partitions: Assignment, lookup: TopicLookup) -> bytes:
    """The assignment, but for the partitions; the same bytes if it has none of them. Raises Unreadable."""

    def is_left_out(topic: str, number: int) -> bool:
        info = lookup(topic)
        return info is not None and Partition(info.topic_id, number) in partitions

    return strip(assignment, is_left_out)


def _known(topics: Iterable[tuple[str, tuple[int, ...]]], lookup: TopicLookup) -> Iterator[Partition]:
    for topic, numbers in topics:
        info = lookup(topic)
        if info is not None:
            yield from (Partition(info.topic_id, number) for number in numbers)
