"""What members of classic groups ask and are answered: Kafka's JoinGroup, SyncGroup, Heartbeat, LeaveGroup in Python.

Where Kafka has null for "not given", names here are empty.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from consumer_groups.errors import GroupError
from consumer_groups.member import ClassicMember, MemberProtocol
from consumer_groups.requests import GroupState


class JoinRequest(NamedTuple):
    group: str
    #: Empty: to be given one.
    member_id: str
    #: "consumer" for consumers; others, as Connect's workers, have their own.
    protocol_type: str
    #: The one it likes best first.
    protocols: tuple[MemberProtocol, ...]
    session_timeout_ms: int
    #: Version 0 of JoinGroup has none: give the session timeout.
    rebalance_timeout_ms: int
    instance_id: str = ""
    client_id: str = ""
    client_host: str = ""
    #: From version 4 of JoinGroup on: a dynamic member without an id gets MemberIdRequired with one, and joins with it.
    requires_member_id: bool = False
    #: From version 9 on: a static leader that comes back may be told that it need not assign.
    can_skip_assignment: bool = False

    def member(self, rebalance_timeout_ms_max: int) -> ClassicMember:
        """Who joins, as it says."""
        return ClassicMember(
            instance_id=self.instance_id,
            client_id=self.client_id,
            client_host=self.client_host,
            rebalance_timeout_ms=min(self.rebalance_timeout_ms, rebalance_timeout_ms_max),
            session_timeout_ms=self.session_timeout_ms,
            protocols=self.protocols,
        )


class JoinedMember(NamedTuple):
    member_id: str
    instance_id: str
    #: What it said of itself for the protocol that was chosen.
    metadata: bytes


class JoinReply(NamedTuple):
    member_id: str
    generation: int
    protocol_type: str
    protocol: str
    leader: str
    #: All of the group, for the leader alone.
    members: tuple[JoinedMember, ...] = ()
    #: The leader is back in a generation that goes on: it is not to assign.
    skip_assignment: bool = False


@dataclass(frozen=True, slots=True)
class SyncRequest:
    group: str
    member_id: str
    generation: int
    instance_id: str = ""
    #: From version 5 of SyncGroup on; empty before.
    protocol_type: str = ""
    protocol: str = ""
    #: From the leader: who gets what.
    assignments: Mapping[str, bytes] = field(default_factory=dict)


class SyncReply(NamedTuple):
    protocol_type: str
    protocol: str
    assignment: bytes


#: What a request that waited is answered: what it waited for, or why it is in vain.
Answer = JoinReply | SyncReply | GroupError


class Leaver(NamedTuple):
    #: Empty: whoever has the instance id, on an operator's word.
    member_id: str
    instance_id: str = ""


class ClassicMemberDescription(NamedTuple):
    member_id: str
    instance_id: str
    client_id: str
    client_host: str
    #: For the group's protocol; nothing while none is chosen.
    metadata: bytes
    assignment: bytes


class ClassicGroupDescription(NamedTuple):
    group: str
    state: GroupState
    protocol_type: str
    #: Empty unless the group is stable, as in Kafka.
    protocol: str
    members: tuple[ClassicMemberDescription, ...]
