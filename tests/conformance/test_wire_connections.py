"""What a connection promises, whatever is asked over it."""

import struct
import time
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from tests.conformance.brokers import Broker
from tests.conformance.wire import Connection, build, encode, request_schema

API_VERSIONS = 18

#: The requests of the clients in this suite.
NEEDED = {0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, 32, 37, 42, 44, 47, 60, 68, 69}


def request_bytes(api_key: int, version: int, correlation_id: int, rest: bytes = b"") -> bytes:
    """A request with the header of version 1, or of what reads like it."""
    client_id = b"conformance"
    return struct.pack(">hhih", api_key, version, correlation_id, len(client_id)) + client_id + rest


def test_api_versions_tells_what_can_be_asked(wire: Connection) -> None:
    answer = wire.ask("api_versions", 0)
    versions = {each.api_key: (each.min_version, each.max_version) for each in answer.api_keys}
    assert answer.error_code == 0
    assert NEEDED - versions.keys() == set(), "clients need these requests"
    assert all(least <= greatest for least, greatest in versions.values())


def test_api_versions_in_an_unknown_version_is_answered_in_version_0(wire: Connection) -> None:
    wire.send_bytes(request_bytes(API_VERSIONS, 99, 7, b"\x00" + b"what no broker knows"))
    correlation_id, error_code, count = struct.unpack_from(">ihi", answer := wire.receive_bytes())
    assert (correlation_id, error_code) == (7, ErrorCode.unsupported_version)
    keys = [struct.unpack_from(">hhh", answer, 10 + 6 * n) for n in range(count)]
    (versions,) = [(least, greatest) for key, least, greatest in keys if key == API_VERSIONS]
    assert versions[0] == 0
    assert versions[1] >= 3, "the client is told with which version to ask again"


def test_api_versions_refuses_a_client_without_a_proper_name(wire: Connection) -> None:
    refused = wire.ask("api_versions", 3, client_software_name="", client_software_version="1")
    assert refused.error_code == ErrorCode.invalid_request
    named = wire.ask("api_versions", 3, client_software_name="conformance", client_software_version="1.0")
    assert named.error_code == 0


def test_answers_come_in_the_order_of_the_requests(wire: Connection, topic: str) -> None:
    partition = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 1000}
    fetch: dict[str, Any] = {"topics": [{"topic": topic, "partitions": [partition]}], "max_wait": 700, "min_bytes": 1}
    started = time.monotonic()
    wire.send("fetch", 11, **fetch, max_bytes=1000, replica_id=-1)
    wire.send("api_versions", 0)
    wire.send("metadata", 8, topics=[{"name": topic}])
    waited = wire.receive()
    assert time.monotonic() - started > 0.6, "the fetch waited, and what came after it with it"
    assert waited.responses[0].partitions[0].error_code == 0
    assert wire.receive().error_code == 0
    assert wire.receive().topics[0].name == topic


def test_a_correlation_id_is_any_number(wire: Connection) -> None:
    for correlation_id in (0, -1, 2**31 - 1, -(2**31), 5, 5):
        wire.send_bytes(request_bytes(API_VERSIONS, 0, correlation_id))
        assert struct.unpack_from(">i", wire.receive_bytes()) == (correlation_id,)


def test_a_client_needs_no_name(wire: Connection) -> None:
    wire.send_bytes(struct.pack(">hhih", API_VERSIONS, 0, 3, -1))
    assert struct.unpack_from(">ih", wire.receive_bytes()) == (3, 0)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(request_bytes(3, 999, 1), id="a version that is not there"),
        pytest.param(request_bytes(999, 0, 1), id="a request that is not there"),
        pytest.param(request_bytes(-1, 0, 1), id="a negative request"),
        pytest.param(request_bytes(3, 8, 1, b"\x00\x00"), id="a body that ends too early"),
        pytest.param(b"\x00\x12", id="a header that ends too early"),
    ],
)
def test_what_cannot_be_read_ends_the_connection_and_no_other(broker: Broker, request_: bytes) -> None:
    with Connection(broker.address) as connection, Connection(broker.address) as other:
        connection.send_bytes(request_)
        with pytest.raises(ConnectionError):
            connection.receive_bytes()
        assert other.ask("api_versions", 0).error_code == 0


@pytest.mark.parametrize("length", [-1, 2**31 - 1], ids=["negative", "2 GiB"])
def test_a_request_of_an_impossible_length_ends_the_connection(broker: Broker, length: int) -> None:
    with Connection(broker.address) as connection:
        connection.send_raw(struct.pack(">i", length))
        with pytest.raises(ConnectionError):
            connection.receive_bytes()


def test_bytes_that_come_one_by_one_are_one_request(wire: Connection) -> None:
    request = request_bytes(API_VERSIONS, 0, 11)
    for byte in struct.pack(">i", len(request)) + request:
        wire.send_raw(bytes([byte]))
    assert struct.unpack_from(">ih", wire.receive_bytes()) == (11, 0)


def test_many_requests_may_be_on_their_way(wire: Connection, topic: str) -> None:
    for _ in range(200):
        wire.send("metadata", 9, topics=[{"name": topic}])
    for _ in range(200):
        assert wire.receive().topics[0].error_code == 0


def test_unknown_tagged_fields_are_passed_over(wire: Connection) -> None:
    request = encode(build(request_schema("metadata", 9), {"topics": []}))
    assert request.endswith(b"\x00"), "no tagged fields"
    header = request_bytes(3, 9, 21, b"\x00")
    wire.send_bytes(header + request[:-1] + b"\x01" + b"\x63\x02" + b"hi")
    assert struct.unpack_from(">i", wire.receive_bytes()) == (21,)
