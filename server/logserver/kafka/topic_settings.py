"""The settings of a topic as Kafka's clients see them: ours, and those of Kafka's that can have one value here.

The latter are not kept. Programs that were written for clusters give them with every topic that they make (Kafka
Streams message.timestamp.type, many a script min.insync.replicas), and what they ask for may well be what is so here
anyway. Then they are told that it is; any other value is refused, for who asks for two replicas must not believe that
he has them.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple

from logserver.kafka.messages import Fields
from logstore.config import INT64_MAX, TopicConfig
from logstore.errors import InvalidConfig


class ConfigType(IntEnum):
    """https://kafka.apache.org/protocol: of DescribeConfigs."""

    BOOLEAN = 1
    STRING = 2
    INT = 3
    SHORT = 4
    LONG = 5
    DOUBLE = 6
    LIST = 7


class ConfigSource(IntEnum):
    TOPIC = 1
    STATIC_BROKER = 4
    DEFAULT = 5


class _Ours(NamedTuple):
    type: ConfigType
    #: What Kafka calls the setting of the broker that is the topic's default.
    broker_name: str


class _Fixed(NamedTuple):
    name: str
    value: str
    type: ConfigType
    broker_name: str
    doc: str


_OURS: Mapping[str, _Ours] = {
    "segment.bytes": _Ours(ConfigType.INT, "log.segment.bytes"),
    "segment.ms": _Ours(ConfigType.LONG, "log.roll.ms"),
    "index.interval.bytes": _Ours(ConfigType.INT, "log.index.interval.bytes"),
    "retention.ms": _Ours(ConfigType.LONG, "log.retention.ms"),
    "retention.bytes": _Ours(ConfigType.LONG, "log.retention.bytes"),
    "max.message.bytes": _Ours(ConfigType.INT, "message.max.bytes"),
    "flush.ms": _Ours(ConfigType.LONG, "log.flush.interval.ms"),
    "durability": _Ours(ConfigType.STRING, "durability"),
    "message.timestamp.after.max.ms": _Ours(ConfigType.LONG, "log.message.timestamp.after.max.ms"),
    "compression.type": _Ours(ConfigType.STRING, "compression.type"),
    "cleanup.policy": _Ours(ConfigType.LIST, "log.cleanup.policy"),
    "min.cleanable.dirty.ratio": _Ours(ConfigType.DOUBLE, "log.cleaner.min.cleanable.ratio"),
    "min.compaction.lag.ms": _Ours(ConfigType.LONG, "log.cleaner.min.compaction.lag.ms"),
    "max.compaction.lag.ms": _Ours(ConfigType.LONG, "log.cleaner.max.compaction.lag.ms"),
    "delete.retention.ms": _Ours(ConfigType.LONG, "log.cleaner.delete.retention.ms"),
}

_FIXED: Mapping[str, _Fixed] = {
    setting.name: setting
    for setting in (
        _Fixed(
            "min.insync.replicas",
            "1",
            ConfigType.INT,
            "min.insync.replicas",
            "There is one replica, and it is in sync with itself.",
        ),
        _Fixed(
            "unclean.leader.election.enable",
            "false",
            ConfigType.BOOLEAN,
            "unclean.leader.election.enable",
            "No replica that has less than the leader takes its place.",
        ),
        _Fixed(
            "message.timestamp.type",
            "CreateTime",
            ConfigType.STRING,
            "log.message.timestamp.type",
            "The timestamp of a record is the producer's.",
        ),
        _Fixed(
            "message.timestamp.before.max.ms",
            str(INT64_MAX),
            ConfigType.LONG,
            "log.message.timestamp.before.max.ms",
            "No timestamp is too old: retention goes by the time of append.",
        ),
        _Fixed(
            "flush.messages",
            str(INT64_MAX),
            ConfigType.LONG,
            "log.flush.interval.messages",
            "Nothing is synced for the number of records that came since: what is acknowledged with acks=all is synced "
            "before, and the rest after flush.ms.",
        ),
        _Fixed(
            "preallocate",
            "false",
            ConfigType.BOOLEAN,
            "log.preallocate",
            "Segment files grow as they are written.",
        ),
        _Fixed(
            "segment.jitter.ms",
            "0",
            ConfigType.LONG,
            "log.roll.jitter.ms",
            "Segments are closed after segment.ms, without a random part.",
        ),
        _Fixed(
            "remote.storage.enable",
            "false",
            ConfigType.BOOLEAN,
            "remote.storage.enable",
            "All of the log is on the disk of the server.",
        ),
        _Fixed(
            "leader.replication.throttled.replicas",
            "",
            ConfigType.LIST,
            "leader.replication.throttled.replicas",
            "Nothing is replicated, so nothing of it is throttled.",
        ),
        _Fixed(
            "follower.replication.throttled.replicas",
            "",
            ConfigType.LIST,
            "follower.replication.throttled.replicas",
            "Nothing is replicated, so nothing of it is throttled.",
        ),
    )
}

#: Of the settings that are kept.
NAMES = frozenset(_OURS)

_DEFAULTS = {row.name: row.value for row in TopicConfig().describe()}


def accepted(settings: Mapping[str, str]) -> dict[str, str]:
    """Those that are to be kept. Raises InvalidConfig for one that cannot be so."""
    ours = {}
    for name, value in settings.items():
        fixed = _FIXED.get(name)
        if fixed is None:
            ours[name] = value
        elif (value.lower() if fixed.type is ConfigType.BOOLEAN else value) != fixed.value:
            raise InvalidConfig(
                f"{name} = {value!r} is not supported: {fixed.doc.removesuffix('.')}",
                remedy=f"Leave {name} out, or give it {fixed.value!r}.",
            )
    return ours


def list_value(config: TopicConfig, name: str) -> str | None:
    """The value of a setting that is a list; None of any other."""
    fixed = _FIXED.get(name)
    if fixed is not None:
        return fixed.value if fixed.type is ConfigType.LIST else None
    if name not in _OURS or _OURS[name].type is not ConfigType.LIST:
        return None
    return next(row.value for row in config.describe() if row.name == name)


def described(config: TopicConfig) -> list[Fields]:
    """Every setting, as DescribeConfigs and CreateTopics tell them."""
    answers: list[Fields] = []
    for row in config.describe():
        kind, broker_name = _OURS[row.name]
        default = synonym(broker_name, _DEFAULTS[row.name], ConfigSource.DEFAULT)
        own = () if row.is_default else (synonym(row.name, row.value, ConfigSource.TOPIC),)
        answers.append(described_one(row.name, row.value, kind, row.doc, (*own, default), read_only=False))
    for name, fixed_value, kind, broker_name, doc in _FIXED.values():
        default = synonym(broker_name, fixed_value, ConfigSource.DEFAULT)
        answers.append(described_one(name, fixed_value, kind, doc, (default,), read_only=True))
    return answers


def broker_defaults() -> list[Fields]:
    """What topics have that are not told otherwise, as the settings of the broker that `described` names for it."""
    rows = [
        (*_OURS[row.name], row.value, f"Of topics that have no {row.name} of their own. {row.doc}")
        for row in TopicConfig().describe()
    ]
    rows += [(kind, broker_name, value, doc) for _, value, kind, broker_name, doc in _FIXED.values()]
    return [
        described_one(name, value, kind, doc, (synonym(name, value, ConfigSource.DEFAULT),), read_only=True)
        for kind, name, value, doc in rows
    ]


def described_one(
    name: str, value: str, kind: ConfigType, doc: str, synonyms: tuple[Fields, ...], *, read_only: bool
) -> Fields:
    """synonyms: where the value may come from, the one that holds first."""
    return {
        "name": name,
        "value": value,
        "read_only": read_only,
        "config_source": synonyms[0]["source"],
        "is_sensitive": False,
        "synonyms": synonyms,
        "config_type": kind,
        "documentation": doc,
    }


def synonym(name: str, value: str, source: ConfigSource) -> Fields:
    return {"name": name, "value": value, "source": source}
