"""What is spoken: Kafka's API keys, each with the versions that a broker of Kafka 4 takes (KIP-896) and we answer.

Only what works is in here: this is what ApiVersions tells clients.
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
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23
    DELETE_GROUPS = 42
    OFFSET_DELETE = 47
    CONSUMER_GROUP_HEARTBEAT = 68
    CONSUMER_GROUP_DESCRIBE = 69


#: From the first to the last, both spoken.
def _versions(first: int, last: int) -> range:
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
        ApiKey.INIT_PRODUCER_ID: _versions(0, 5),
        ApiKey.OFFSET_FOR_LEADER_EPOCH: _versions(2, 4),
        ApiKey.DELETE_GROUPS: _versions(0, 2),
        ApiKey.OFFSET_DELETE: _versions(0, 0),
        ApiKey.CONSUMER_GROUP_HEARTBEAT: _versions(0, 1),
        ApiKey.CONSUMER_GROUP_DESCRIBE: _versions(0, 1),
    }
)
