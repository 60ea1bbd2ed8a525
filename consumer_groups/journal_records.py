"""The journal's records: what of a group must outlive the process.

Key and value are JSON objects with a version `v`. A key names one thing, and the newest value for a key is the truth;
no value (a tombstone) means that the thing is gone. So the state is what remains after reading all records in order.

    {"v":1,"kind":"group","group":"g"}                                     {"v":1,"epoch":7,"assignment_epoch":7}
    {"v":1,"kind":"member","group":"g","member":"m"}                       {"v":1,"instance":"","topics":["t"],...}
    {"v":1,"kind":"target","group":"g","member":"m"}                       {"v":1,"partitions":{"<topic id>":[0,2]}}
    {"v":1,"kind":"holding","group":"g","member":"m"}                      {"v":1,"epoch":7,"state":"stable",...}
    {"v":1,"kind":"offset","group":"g","topic":"<topic id>","partition":0} {"v":1,"offset":42,"metadata":"",...}
    {"v":1,"kind":"classic","group":"g"}                                   {"v":1,"generation":7,"settled":true,...}
    {"v":1,"kind":"classic-member","group":"g","member":"m"}               {"v":1,"instance":"","protocols":[...],...}

A group has either records of the consumer group protocol (group, member, target, holding) or of the classic one, and
offsets with both. Bytes that are the clients' own are in base64.
"""

import binascii
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from uuid import UUID

from consumer_groups.errors import JournalUnreadable
from consumer_groups.member import ClassicMember, Holding, MemberProtocol, MemberState, Profile
from consumer_groups.requests import NO_LEADER_EPOCH, NOTHING, Assignment, Partition

VERSION = 1


@dataclass(frozen=True, slots=True)
class GroupKey:
    group: str


@dataclass(frozen=True, slots=True)
class GroupEpochs:
    epoch: int
    assignment_epoch: int
    #: Wall clock, when the last member went; None: not known, or none was ever there.
    emptied_ms: int | None = None


@dataclass(frozen=True, slots=True)
class MemberKey:
    group: str
    member_id: str


@dataclass(frozen=True, slots=True)
class TargetKey:
    group: str
    member_id: str


@dataclass(frozen=True, slots=True)
class HoldingKey:
    group: str
    member_id: str


@dataclass(frozen=True, slots=True)
class OffsetKey:
    group: str
    partition: Partition


@dataclass(frozen=True, slots=True)
class OffsetValue:
    offset: int
    metadata: str
    #: Wall clock.
    commit_time_ms: int
    leader_epoch: int = NO_LEADER_EPOCH


@dataclass(frozen=True, slots=True)
class ClassicKey:
    group: str


@dataclass(frozen=True, slots=True)
class ClassicGeneration:
    """What is durable of a classic group, but for its members."""

    generation: int
    #: Empty: there was never a member.
    protocol_type: str = ""
    #: Empty: there are no members.
    protocol: str = ""
    leader: str = ""
    #: The assignments are this generation's; else its leader has not assigned yet, and what members have is older.
    settled: bool = False
    #: What the leader assigned and members did not get, because it was being sought.
    stripped: Assignment = NOTHING
    #: Wall clock, when the last member went; None: not known, or none was ever there.
    emptied_ms: int | None = None


@dataclass(frozen=True, slots=True)
class ClassicMemberKey:
    group: str
    member_id: str


Key = GroupKey | MemberKey | TargetKey | HoldingKey | OffsetKey | ClassicKey | ClassicMemberKey
Value = GroupEpochs | Profile | Assignment | Holding | OffsetValue | ClassicGeneration | ClassicMember
#: A key and its new value; None: it is gone.
Change = tuple[Key, Value | None]


def encode(key: Key, value: Value | None) -> tuple[bytes, bytes | None]:
    return _dump(_key_fields(key)), None if value is None else _dump(_value_fields(value))


def decode(key: bytes, value: bytes | None) -> Change:
    """Raise JournalUnreadable for what encode has not written, a newer version above all."""
    fields = _load(key)
    try:
        decoded_key, read_value = _KINDS[fields["kind"]](fields)
        return decoded_key, None if value is None else read_value(_load(value))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise JournalUnreadable(
            f"a record of the groups journal is damaged: key {key[:200]!r}, value {(value or b'')[:200]!r} ({error!r})",
            remedy="Restore the data directory from a backup, or report it if no disk error explains it.",
        ) from error


def encode_all(changes: Iterable[Change]) -> list[tuple[bytes, bytes | None]]:
    return [encode(key, value) for key, value in changes]


def fold(records: Iterable[tuple[bytes, bytes | None]]) -> dict[Key, Value]:
    """Return what remains of a journal read from its beginning.

    A key is always written in the same bytes, so what is superseded need not be decoded, which is most of a journal.
    """
    newest: dict[bytes, bytes | None] = {}
    for key_bytes, value_bytes in records:
        newest[key_bytes] = value_bytes
    image: dict[Key, Value] = {}
    for key_bytes, value_bytes in newest.items():
        key, value = decode(key_bytes, value_bytes)
        if value is not None:
            image[key] = value
    return image


def _dump(fields: Mapping[str, Any]) -> bytes:
    return json.dumps({"v": VERSION, **fields}, separators=(",", ":"), ensure_ascii=False).encode()


#: A start reads many records of few topics, and making an id takes as long as reading the rest of a record.
_topic_id = lru_cache(maxsize=1000)(UUID)


def _load(data: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(data.decode())  # from bytes it would guess the encoding, each time
        version = fields["v"]
    except (ValueError, KeyError, TypeError) as error:
        raise JournalUnreadable(
            f"a record of the groups journal is damaged: {data[:200]!r} ({error!r})",
            remedy="Restore the data directory from a backup, or report it if no disk error explains it.",
        ) from error
    kind = fields.get("kind")
    if version != VERSION or ("kind" in fields and kind not in _KINDS):
        raise JournalUnreadable(
            f"a record of the groups journal has version {version!r}, kind {kind!r}; this server reads version"
            f" {VERSION} of {', '.join(_KINDS)}",
            remedy="Start the version of the server that wrote the data directory, or a newer one.",
        )
    assert isinstance(fields, dict)
    return fields


def _key_fields(key: Key) -> dict[str, Any]:
    match key:
        case GroupKey(group):
            return {"kind": "group", "group": group}
        case MemberKey(group, member_id):
            return {"kind": "member", "group": group, "member": member_id}
        case TargetKey(group, member_id):
            return {"kind": "target", "group": group, "member": member_id}
        case HoldingKey(group, member_id):
            return {"kind": "holding", "group": group, "member": member_id}
        case OffsetKey(group, partition):
            return {
                "kind": "offset",
                "group": group,
                "topic": partition.topic_id.hex,
                "partition": partition.number,
            }
        case ClassicKey(group):
            return {"kind": "classic", "group": group}
        case ClassicMemberKey(group, member_id):
            return {"kind": "classic-member", "group": group, "member": member_id}


def _value_fields(value: Value) -> dict[str, Any]:
    match value:
        case GroupEpochs(epoch, assignment_epoch, emptied_ms):
            return {"epoch": epoch, "assignment_epoch": assignment_epoch, **_emptied(emptied_ms)}
        case Profile():
            return {
                "instance": value.instance_id,
                "client": value.client_id,
                "host": value.client_host,
                "rebalance_timeout_ms": value.rebalance_timeout_ms,
                "topics": value.topics,
                "assignor": value.assignor,
            }
        case Holding():
            return {
                "epoch": value.epoch,
                "previous_epoch": value.previous_epoch,
                "state": value.state.value,
                "assigned": _by_topic(value.assigned),
                "revoking": _by_topic(value.revoking),
            }
        case OffsetValue(offset, metadata, commit_time_ms, leader_epoch):
            known = {} if leader_epoch == NO_LEADER_EPOCH else {"leader_epoch": leader_epoch}
            return {"offset": offset, "metadata": metadata, "commit_time_ms": commit_time_ms, **known}
        case frozenset():
            return {"partitions": _by_topic(value)}
        case ClassicGeneration():
            return {
                "generation": value.generation,
                "protocol_type": value.protocol_type,
                "protocol": value.protocol,
                "leader": value.leader,
                "settled": value.settled,
                "stripped": _by_topic(value.stripped),
                **_emptied(value.emptied_ms),
            }
        case ClassicMember():
            return {
                "instance": value.instance_id,
                "client": value.client_id,
                "host": value.client_host,
                "rebalance_timeout_ms": value.rebalance_timeout_ms,
                "session_timeout_ms": value.session_timeout_ms,
                "protocols": [[protocol.name, _text(protocol.metadata)] for protocol in value.protocols],
                "assignment": _text(value.assignment),
            }


def _emptied(emptied_ms: int | None) -> dict[str, int]:
    return {} if emptied_ms is None else {"emptied_ms": emptied_ms}


def _text(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def _bytes(text: object) -> bytes:
    return binascii.a2b_base64(str(text), strict_mode=True)


def _by_topic(partitions: Assignment) -> dict[str, list[int]]:
    topics: dict[str, list[int]] = {}
    for topic_id, number in sorted(partitions):
        topics.setdefault(topic_id.hex, []).append(number)
    return topics


def _assignment(topics: dict[str, list[int]]) -> Assignment:
    return frozenset(
        Partition(_topic_id(topic), int(number)) for topic, numbers in topics.items() for number in numbers
    )


def _epochs(fields: dict[str, Any]) -> GroupEpochs:
    return GroupEpochs(int(fields["epoch"]), int(fields["assignment_epoch"]), _emptied_ms(fields))


def _emptied_ms(fields: dict[str, Any]) -> int | None:
    emptied_ms = fields.get("emptied_ms")  # Earlier versions did not write it.
    return None if emptied_ms is None else int(emptied_ms)


def _profile(fields: dict[str, Any]) -> Profile:
    return Profile(
        instance_id=str(fields["instance"]),
        client_id=str(fields["client"]),
        client_host=str(fields["host"]),
        rebalance_timeout_ms=int(fields["rebalance_timeout_ms"]),
        topics=tuple(str(topic) for topic in fields["topics"]),
        assignor=str(fields["assignor"]),
    )


def _holding(fields: dict[str, Any]) -> Holding:
    return Holding(
        epoch=int(fields["epoch"]),
        previous_epoch=int(fields["previous_epoch"]),
        state=MemberState(fields["state"]),
        assigned=_assignment(fields["assigned"]),
        revoking=_assignment(fields["revoking"]),
    )


def _offset(fields: dict[str, Any]) -> OffsetValue:
    return OffsetValue(
        int(fields["offset"]),
        str(fields["metadata"]),
        int(fields["commit_time_ms"]),
        int(fields.get("leader_epoch", NO_LEADER_EPOCH)),
    )


def _generation(fields: dict[str, Any]) -> ClassicGeneration:
    return ClassicGeneration(
        generation=int(fields["generation"]),
        protocol_type=str(fields["protocol_type"]),
        protocol=str(fields["protocol"]),
        leader=str(fields["leader"]),
        settled=bool(fields["settled"]),
        stripped=_assignment(fields["stripped"]),
        emptied_ms=_emptied_ms(fields),
    )


def _classic_member(fields: dict[str, Any]) -> ClassicMember:
    return ClassicMember(
        instance_id=str(fields["instance"]),
        client_id=str(fields["client"]),
        client_host=str(fields["host"]),
        rebalance_timeout_ms=int(fields["rebalance_timeout_ms"]),
        session_timeout_ms=int(fields["session_timeout_ms"]),
        protocols=tuple(MemberProtocol(str(name), _bytes(metadata)) for name, metadata in fields["protocols"]),
        assignment=_bytes(fields["assignment"]),
    )


_ValueReader = Callable[[dict[str, Any]], Value]

#: kind -> how to read its key, and with what to read its value.
_KINDS: dict[str, Callable[[dict[str, Any]], tuple[Key, _ValueReader]]] = {
    "group": lambda key: (GroupKey(str(key["group"])), _epochs),
    "member": lambda key: (MemberKey(str(key["group"]), str(key["member"])), _profile),
    "target": lambda key: (
        TargetKey(str(key["group"]), str(key["member"])),
        lambda fields: _assignment(fields["partitions"]),
    ),
    "holding": lambda key: (HoldingKey(str(key["group"]), str(key["member"])), _holding),
    "offset": lambda key: (
        OffsetKey(str(key["group"]), Partition(_topic_id(key["topic"]), int(key["partition"]))),
        _offset,
    ),
    "classic": lambda key: (ClassicKey(str(key["group"])), _generation),
    "classic-member": lambda key: (ClassicMemberKey(str(key["group"]), str(key["member"])), _classic_member),
}
