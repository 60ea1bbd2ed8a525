"""A member of a classic group: what it said of itself, and what it was assigned."""

from dataclasses import dataclass
from typing import NamedTuple


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

    def metadata(self, protocol: str) -> bytes:
        """What it said of itself for that protocol; nothing if it does not support it."""
        return next((supported.metadata for supported in self.protocols if supported.name == protocol), b"")
