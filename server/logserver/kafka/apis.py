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
    API_VERSIONS = 18
    INIT_PRODUCER_ID = 22
    OFFSET_FOR_LEADER_EPOCH = 23


#: From the first to the last, both spoken.
def _versions(first: int, last: int) -> range:
    return range(first, last + 1)


API_VERSIONS: Mapping[int, range] = MappingProxyType(
    {
        ApiKey.PRODUCE: _versions(3, 13),
        ApiKey.FETCH: _versions(4, 18),
        ApiKey.LIST_OFFSETS: _versions(1, 10),
        ApiKey.METADATA: _versions(0, 13),
        ApiKey.API_VERSIONS: _versions(0, 4),
        ApiKey.INIT_PRODUCER_ID: _versions(0, 5),
        ApiKey.OFFSET_FOR_LEADER_EPOCH: _versions(2, 4),
    }
)
