"""Which partition a key goes to: murmur2 as Kafka's Java client hashes, so that all doors agree."""

import struct
from collections.abc import Callable
from functools import lru_cache

_SEED = 0x9747B28C
_MULTIPLIER = 0x5BD1E995
_SHIFT = 24
_U32 = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """The 32 bits of Kafka's `Utils.murmur2`, unsigned."""
    multiplier = _MULTIPLIER
    mask = _U32
    size = len(key)
    state = _SEED ^ size
    for word in _words(size // 4)(key):
        word = word * multiplier & mask
        word = (word ^ word >> _SHIFT) * multiplier & mask
        state = state * multiplier & mask ^ word
    rest = size & 3
    if rest:
        state = (state ^ int.from_bytes(key[size - rest :], "little")) * multiplier & mask
    state = (state ^ state >> 13) * multiplier & mask
    return state ^ state >> 15


def partition_for_key(key: bytes, partitions: int) -> int:
    """The partition of a key in a topic of so many partitions: the hash without its sign bit, modulo them."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions


@lru_cache(maxsize=64)
def _words(count: int) -> Callable[[bytes], tuple[int, ...]]:
    """A reader of the first count little-endian words. Keys of a topic have few lengths, so each is compiled once."""
    return struct.Struct(f"<{count}I").unpack_from
