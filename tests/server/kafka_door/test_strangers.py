"""What the log says of clients that cannot be served: what they are, whose, and what to change. And not too often."""

from struct import pack
from typing import Any

import pytest
from structlog.testing import capture_logs

from logserver.kafka.apis import ApiKey
from logserver.kafka.few_lines import LINES_MAX
from logserver.server import Server
from tests.server.kafka_door.client import SOFTWARE, KafkaClient
from tests.server.kafka_door.conftest import Connect

OLD = "the client is too old"
SASL = "it begins with SASL"
NOT_THERE = "it asks for what is not there"


def asking(api_key: int, version: int, client_id: bytes = b"board") -> bytes:
    """A request, as far as its header says what it is."""
    request = pack(">hhih", api_key, version, 1, len(client_id)) + client_id + bytes(8)
    return pack(">i", len(request)) + request


async def said_of(connect: Connect, data: bytes) -> dict[str, Any]:
    client = await connect()
    with capture_logs() as said:
        await client.send_raw(data)
        assert await client.is_closed()
    [line] = said
    assert line["log_level"] == "info"
    assert line["peer"].startswith("127.0.0.1:")
    assert line["why"]
    return dict(line)


@pytest.mark.parametrize(
    ("data", "reason", "what", "remedy"),
    [
        (b"\x16\x03\x01\x02\0\1\0\1\xfc\3", "it begins with TLS", "TLS", "security.protocol=PLAINTEXT"),
        (b"GET / HTTP/1.1\r\n\r\n", "it begins with HTTP", "HTTP", "Kafka client"),
        (b"PRI * HTTP/2.0\r\n\r\n", "it begins with HTTP", "HTTP", "--listen"),
        (asking(17, 1), SASL, "SaslHandshake", "security.protocol=PLAINTEXT"),
        (asking(36, 2), SASL, "SaslAuthenticate", "security.protocol=PLAINTEXT"),
        (
            asking(0, 2),
            OLD,
            "Produce version 2, and of that brokers of Kafka 4 speak none before 3",
            "librdkafka 1.8.2",
        ),
        (asking(1, 3), OLD, "Fetch version 3", "broker.version.fallback"),
        (asking(2, 0), OLD, "ListOffsets version 0", "Apache Kafka's client 2.1"),
        (asking(3, 99), NOT_THERE, "Metadata version 99", "kafka-compatibility.md"),
        (asking(26, 3), NOT_THERE, "EndTxn version 3", "kafka-compatibility.md"),
        (asking(5, 0), "it sends what is no request", "API 5", "Kafka client"),
        (asking(0, -1), "it sends what is no request", "API 0 version -1", "Kafka client"),
    ],
)
async def test_who_cannot_be_served_is_told_by_name_with_what_to_change(
    connect: Connect, data: bytes, reason: str, what: str, remedy: str
) -> None:
    line = await said_of(connect, data)
    assert line["event"] == f"a Kafka connection is closed: {reason}"
    assert what in line["why"]
    assert remedy in line["remedy"]
    assert line.get("client_id") == ("board" if b"board" in data else None)


async def test_a_request_beyond_a_bound_is_told_as_that(connect: Connect) -> None:
    client = await connect()
    await client.call(ApiKey.API_VERSIONS, **SOFTWARE)
    with capture_logs() as said:
        await client.send_raw((17 << 20).to_bytes(4, "big") + b"\0\3")
        assert await client.is_closed()
    assert said[0]["event"] == "a Kafka connection is closed: its request is beyond a bound"
    assert "17825792 bytes" in said[0]["why"]


async def test_what_a_client_calls_itself_writes_no_lines_of_its_own(connect: Connect) -> None:
    line = await said_of(connect, asking(17, 1, b'\n{"event": "all is well"}' + 1000 * b"x"))
    assert "\n" not in line["client_id"]
    assert len(line["client_id"]) < 300


async def test_clients_that_come_again_and_again_do_not_fill_the_log(connect: Connect, door: Server) -> None:
    with capture_logs() as said:
        for _ in range(LINES_MAX + 20):
            client = await connect()
            await client.send_raw(asking(17, 1))
            assert await client.is_closed()
        assert len(said) == LINES_MAX
        assert door.kafka is not None
        door.kafka.lines.tell_left_out(now=True)
    assert (said[-1]["of"], said[-1]["lines"]) == ("a Kafka connection is closed: it begins with SASL", 20)


async def test_connections_beyond_the_bound_do_not_fill_the_log(
    connect: Connect, door: Server, kafka: KafkaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(door.kafka, "_connections_max", 1)
    with capture_logs() as said:
        for _ in range(LINES_MAX + 20):
            client = await connect()
            assert await client.is_closed()
    assert [line["event"] for line in said] == [
        "a Kafka connection is refused: there are as many as may be"
    ] * LINES_MAX
    assert "ulimit -n" in said[0]["remedy"]
