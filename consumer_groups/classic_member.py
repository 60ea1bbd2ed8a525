"""A member of a classic group: what it said of itself, and what it was assigned."""

from dataclasses import dataclass
from typing import NamedTuple

from consumer_groups.room import texts_size


class MemberProtocol(NamedTuple):
    """A way of assigning that the member can take part in, as "range", with what the leader needs to know for it."""

    name: str
    metadata: bytes


@dataclass(frozen=True, slots=True)
class ClassicMember:
    #: Empty for a dynamic member.
    instance_id: str
    client_id: str
    client_host: str
    #: How long the others wait for it to join again.
    rebalance_timeout_ms: int
    session_timeout_ms: int
    #: The one it likes best first.
    protocols: tuple[MemberProtocol, ...]
    #: What the leader of the last generation gave it, untouched but for what was being sought.
    assignment: bytes = b""

    @property
    def is_static(self) -> bool:
        return bool(self.instance_id)

    @property
    def size_bytes(self) -> int:
        """As it counts in all (see `room`)."""
        own = (self.instance_id, self.client_id, self.client_host, self.assignment)
        return texts_size(*own, *(text for protocol in self.protocols for text in protocol))

    def metadata(self, protocol: str) -> bytes:
        """What it said of itself for that protocol; nothing if it does not support it."""
        return next((supported.metadata for supported in self.protocols if supported.name == protocol), b"")
