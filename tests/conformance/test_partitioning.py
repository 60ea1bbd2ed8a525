"""A key lands in the same partition, whoever writes it: murmur2 of the key, as in Kafka's Java client."""

from collections.abc import Callable

import pytest

from tests.conformance.clients import NAMES, Client, Message
from tests.conformance.conftest import new_topic
from tests.conformance.waiting import read

#: murmur2 of each by Java's client, which takes the lower 31 bits modulo the number of partitions.
MURMUR2 = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.fixture
def seven(names: Callable[[str], str], maker: Client) -> str:
    return new_topic(maker, names("topic"), 7)


def test_a_key_lands_where_javas_client_puts_it(client: Client, seven: str) -> None:
    places = client.produce(seven, [Message(b"value", key, partition=None) for key in MURMUR2])
    assert [place.partition for place in places] == [(each & 0x7FFFFFFF) % 7 for each in MURMUR2.values()]


def test_records_of_one_key_stay_in_order_whichever_client_writes(
    clients: Callable[[str], Client], seven: str, maker: Client
) -> None:
    partitions = {
        clients(name).produce(seven, [Message(name.encode(), b"N14228", partition=None)])[0].partition for name in NAMES
    }
    (partition,) = partitions
    with maker.consumer() as consumer:
        consumer.assign(seven, partition, 0)
        assert [record.value for record in read(consumer, len(NAMES))] == [name.encode() for name in NAMES]


def test_records_without_a_key_may_go_anywhere(client: Client, seven: str) -> None:
    places = client.produce(seven, [Message(b"value", partition=None) for _ in range(20)])
    assert {place.partition for place in places} <= set(range(7))
    assert len(set(places)) == 20
