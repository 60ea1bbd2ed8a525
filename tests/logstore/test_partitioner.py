import pytest
from aiokafka.partitioner import murmur2 as outside
from hypothesis import given
from hypothesis import strategies as st

from logstore.partitioner import murmur2, partition_for_key

#: From the unit tests of Kafka's Java client, as signed 32-bit numbers.
VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize("key", VECTORS)
def test_the_hash_is_that_of_kafkas_java_client(key: bytes) -> None:
    assert murmur2(key) == VECTORS[key] & 0xFFFFFFFF


@given(st.binary(max_size=70))
def test_the_hash_is_that_of_aiokafka_for_any_key(key: bytes) -> None:
    assert murmur2(key) == outside(key) & 0xFFFFFFFF


@given(st.binary(max_size=40), st.integers(1, 1000))
def test_the_partition_drops_the_sign_of_the_hash(key: bytes, partitions: int) -> None:
    assert partition_for_key(key, partitions) == (outside(key) & 0x7FFFFFFF) % partitions
