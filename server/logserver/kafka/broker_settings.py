"""The settings of the server under the names of Kafka's, for the tools that ask a broker for them. All are read only:
they are given when it starts.

Who asks for what: consoles for delete.topic.enable before they offer it, programs that create topics for num.partitions
and default.replication.factor, producers' operators for the bounds of messages, and monitoring for where logs are.
"""

from collections.abc import Iterator
from typing import NamedTuple

from logserver.config import Address, ServerConfig, settings
from logserver.kafka.messages import Fields
from logserver.kafka.topic_settings import ConfigSource, ConfigType, broker_defaults, described_one, synonym
from logstore.config import TopicConfig

_MINUTE_MS = 60_000
_HOUR_MS = 60 * _MINUTE_MS

_GIVEN_BY_DEFAULT = {setting.name: setting.default for setting in settings()}


class _Row(NamedTuple):
    name: str
    value: object
    type: ConfigType
    doc: str
    #: The setting of ours that it is, if it can be given.
    field: str | None = None


def broker_settings(config: ServerConfig, node_id: int, advertised: Address) -> list[Fields]:
    """The broker's own, and the defaults that topics have from it."""
    answers = []
    for name, value, kind, doc, field in _rows(config, node_id, advertised):
        is_given = field is not None and getattr(config, field) != _GIVEN_BY_DEFAULT[field]
        source = ConfigSource.STATIC_BROKER if is_given else ConfigSource.DEFAULT
        text = str(value).lower() if isinstance(value, bool) else str(value)
        answers.append(described_one(name, text, kind, doc, (synonym(name, text, source),), read_only=True))
    return answers + broker_defaults()


def _rows(config: ServerConfig, node_id: int, advertised: Address) -> Iterator[_Row]:
    directory = config.data_dir.absolute()
    yield _Row("node.id", node_id, ConfigType.INT, "There is one node.")
    yield _Row("broker.id", node_id, ConfigType.INT, "There is one node.")
    yield _Row(
        "advertised.listeners",
        f"PLAINTEXT://{advertised}",
        ConfigType.STRING,
        "What clients are told to connect to: --kafka-advertise.",
        "kafka_listen" if config.kafka_advertise is None else "kafka_advertise",
    )
    yield _Row("log.dir", directory, ConfigType.STRING, "Directory of the logs: --data-dir.", "data_dir")
    yield _Row("log.dirs", directory, ConfigType.STRING, "Directory of the logs: --data-dir.", "data_dir")
    yield _Row(
        "auto.create.topics.enable",
        config.auto_create_topics,
        ConfigType.BOOLEAN,
        "Create a topic when a client first asks for it: --auto-create-topics.",
        "auto_create_topics",
    )
    yield _Row("delete.topic.enable", True, ConfigType.BOOLEAN, "Topics can be deleted.")
    yield _Row(
        "num.partitions",
        config.default_partitions,
        ConfigType.INT,
        "Partitions of a topic created without a number: --default-partitions.",
        "default_partitions",
    )
    yield _Row("default.replication.factor", 1, ConfigType.INT, "There is one replica of everything.")
    yield _Row("offsets.topic.replication.factor", 1, ConfigType.SHORT, "There is one replica of everything.")
    yield _Row(
        "socket.request.max.bytes",
        config.kafka_request_bytes_max,
        ConfigType.INT,
        "Largest request of a client: --kafka-request-bytes-max.",
        "kafka_request_bytes_max",
    )
    yield _Row(
        "offsets.retention.minutes",
        config.group_offsets_retention_ms // _MINUTE_MS,
        ConfigType.INT,
        "Offsets of a group without members are kept for so long: --group-offsets-retention-ms.",
        "group_offsets_retention_ms",
    )
    yield _Row(
        "log.retention.check.interval.ms",
        config.retention_interval_ms,
        ConfigType.LONG,
        "Between two looks for segments to delete: --retention-interval-ms.",
        "retention_interval_ms",
    )
    hours = TopicConfig().retention_ms // _HOUR_MS
    yield _Row("log.retention.hours", hours, ConfigType.INT, "The same as log.retention.ms.")
