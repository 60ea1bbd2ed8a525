"""What is spoken: Kafka's API keys, each with the versions that a broker of Kafka 4 takes (KIP-896) and we answer.

Only what works is in here: this is what ApiVersions tells clients, but for `FIRST_VERSION_TOLD`.
https://kafka.apache.org/protocol#protocol_api_keys
"""

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType


class ApiKey(IntEnum):
    PRODUCE = 0
    FETCH = 1
    LIST_OFFSETS = 2
    METADATA = 3
    OFFSET_COMMIT = 8
    OFFSET_FETCH = 9
    FIND_COORDINATOR = 10
    JOIN_GROUP = 11
    HEARTBEAT = 12
    LEAVE_GROUP = 13
    SYNC_GROUP = 14
    DESCRIBE_GROUPS = 15
    LIST_GROUPS = 16
    API_VERSIONS = 18
    CREATE_TOPICS = 19
    DELETE_TOPICS = 20
    DELETE_RECORDS = 21
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    DESCRIBE_CONFIGS = 32
    ALTER_CONFIGS = 33
    DESCRIBE_LOG_DIRS = 35
    CREATE_PARTITIONS = 37
    DELETE_GROUPS = 42
    INCREMENTAL_ALTER_CONFIGS = 44
    OFFSET_DELETE = 47
    DESCRIBE_CLUSTER = 60
    CONSUMER_GROUP_HEARTBEAT = 68
    CONSUMER_GROUP_DESCRIBE = 69
    LIST_CONFIG_RESOURCES = 74
    DESCRIBE_TOPIC_PARTITIONS = 75


def _versions(first: int, last: int) -> range:
    """From the first to the last, both spoken."""
    return range(first, last + 1)


API_VERSIONS: Mapping[int, range] = MappingProxyType(
    {
        ApiKey.PRODUCE: _versions(3, 13),
        ApiKey.FETCH: _versions(4, 18),
        ApiKey.LIST_OFFSETS: _versions(1, 10),
        ApiKey.METADATA: _versions(0, 13),
        ApiKey.OFFSET_COMMIT: _versions(2, 10),
        ApiKey.OFFSET_FETCH: _versions(1, 10),
        ApiKey.FIND_COORDINATOR: _versions(0, 6),
        ApiKey.JOIN_GROUP: _versions(0, 9),
        ApiKey.HEARTBEAT: _versions(0, 4),
        ApiKey.LEAVE_GROUP: _versions(0, 5),
        ApiKey.SYNC_GROUP: _versions(0, 5),
        ApiKey.DESCRIBE_GROUPS: _versions(0, 6),
        ApiKey.LIST_GROUPS: _versions(0, 5),
        ApiKey.API_VERSIONS: _versions(0, 4),
        ApiKey.CREATE_TOPICS: _versions(2, 7),
        ApiKey.DELETE_TOPICS: _versions(1, 6),
        ApiKey.DELETE_RECORDS: _versions(0, 2),
        ApiKey.INIT_PRODUCER_ID: _versions(0, 5),
        ApiKey.OFFSET_FOR_LEADER_EPOCH: _versions(2, 4),
        ApiKey.DESCRIBE_CONFIGS: _versions(1, 4),
        ApiKey.ALTER_CONFIGS: _versions(0, 2),
        ApiKey.DESCRIBE_LOG_DIRS: _versions(1, 5),
        ApiKey.CREATE_PARTITIONS: _versions(0, 3),
        ApiKey.DELETE_GROUPS: _versions(0, 2),
        ApiKey.INCREMENTAL_ALTER_CONFIGS: _versions(0, 1),
        ApiKey.OFFSET_DELETE: _versions(0, 0),
        ApiKey.DESCRIBE_CLUSTER: _versions(0, 2),
        ApiKey.CONSUMER_GROUP_HEARTBEAT: _versions(0, 1),
        ApiKey.CONSUMER_GROUP_DESCRIBE: _versions(0, 1),
        ApiKey.LIST_CONFIG_RESOURCES: _versions(0, 1),
        ApiKey.DESCRIBE_TOPIC_PARTITIONS: _versions(0, 0),
    }
)

#: What ApiVersions says instead. As Apache Kafka 4 says of Produce, of which it takes none before 3 either: librdkafka
#: before 2.11.1 compresses nothing but zstd, without a word, for a broker that does not know version 0 (KAFKA-18659).
FIRST_VERSION_TOLD: Mapping[int, int] = MappingProxyType({ApiKey.PRODUCE: 0})
