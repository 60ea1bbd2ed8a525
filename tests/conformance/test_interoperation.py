"""What one client writes, each of the others reads, in every codec."""

from collections.abc import Callable

import pytest

from tests.conformance.clients import CODECS, NAMES, Client, Message
from tests.conformance.waiting import read

MESSAGES = [
    Message(
        b"value %d" % n if n % 3 else None, b"key %d" % n, [("n", b"%d" % n), ("\u00fc", b"")], timestamp_ms=1000 + n
    )
    for n in range(50)
]


@pytest.mark.parametrize("codec", [None, *CODECS])
@pytest.mark.parametrize("writer", NAMES)
def test_every_client_reads_what_another_wrote(
    clients: Callable[[str], Client], topic: str, writer: str, codec: str | None
) -> None:
    clients(writer).produce(topic, MESSAGES, codec=codec)
    for reader in NAMES:
        with clients(reader).consumer() as consumer:
            consumer.assign(topic, 0, 0)
            records = read(consumer, len(MESSAGES))
        assert [
            Message(record.value, record.key, list(record.headers), record.partition, record.timestamp_ms)
            for record in records
        ] == MESSAGES, f"as {reader} reads it"


def test_batches_of_all_codecs_lie_in_one_log(clients: Callable[[str], Client], topic: str) -> None:
    written = [(name, codec) for name in NAMES for codec in (None, *CODECS)]
    for name, codec in written:
        clients(name).produce(topic, [Message(b"%s %s" % (name.encode(), (codec or "none").encode()))], codec=codec)
    expected = [f"{name} {codec or 'none'}".encode() for name, codec in written]
    for name in NAMES:
        with clients(name).consumer() as consumer:
            consumer.assign(topic, 0, 0)
            assert [record.value for record in read(consumer, len(expected))] == expected, f"as {name} reads it"


def test_an_offset_that_one_client_committed_is_where_another_goes_on(
    clients: Callable[[str], Client], topic: str, group: str, maker: Client
) -> None:
    maker.produce(topic, [Message(b"%d" % n) for n in range(len(NAMES) + 1)])
    for n, name in enumerate(NAMES):
        with clients(name).consumer(group=group) as consumer:
            consumer.assign(topic, 0)
            assert read(consumer, len(NAMES) + 1 - n)[0].offset == n
            consumer.commit(topic, 0, n + 1)
