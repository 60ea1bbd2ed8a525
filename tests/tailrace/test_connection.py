"""How a client meets its server, or learns that there is none."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tailrace import Admin, errors
from tailrace.connection import (
    CONNECT_SECONDS_MAX,
    REFUSED_SECONDS_MAX,
    Backoff,
    Connection,
    patience_with,
    server_address,
)
from tests.tailrace.fake_server import FakeServer


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address where nobody listens, nor will."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def test_a_refused_connection_is_told_without_waiting_for_an_answer(nobody: str) -> None:
    started = time.monotonic()
    with Admin(server=nobody) as admin:
        with pytest.raises(
            errors.ServerUnreachable, match=f"connection refused: no server listens at {nobody}"
        ) as told:
            admin.list_topics()
    assert time.monotonic() - started < CONNECT_SECONDS_MAX - 1
    assert told.value.retriable
    assert "Start `logserver`" in told.value.remedy


@pytest.fixture
def web_server() -> Iterator[int]:
    """The port of an HTTP server, on 127.0.0.1 alone."""
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as http:
        serving = threading.Thread(target=http.serve_forever, args=(0.01,))
        serving.start()
        yield http.server_address[1]
        http.shutdown()
        serving.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_what_answers_and_is_no_logserver_is_told_apart_from_nobody(web_server: int, host: str) -> None:
    """gRPC asks both addresses of localhost, and tells of ::1 alone, where nobody listens."""
    with Admin(server=f"{host}:{web_server}") as admin:
        with pytest.raises(errors.IncompatibleServer, match=f"what answers at {host}:{web_server} is not a logserver"):
            admin.list_topics()


def test_a_server_that_is_just_starting_is_waited_for(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.stop()
    waits = iter([0.0])

    def start_meanwhile(_: Backoff) -> float:
        if next(waits, None) is not None:
            server.start()
        return 0.01

    monkeypatch.setattr(Backoff, "next", start_meanwhile)
    with Admin(server=server.address) as admin:
        assert admin.list_offsets([("flights", 0)], "latest")[0].offset == 0
    assert next(waits, None) is None, "it was there from the beginning"


@pytest.mark.parametrize(
    ("details", "connect_timeout", "patience"),
    [
        ("ipv4:127.0.0.1:9: Failed to connect to remote host: Connection refused", 4.5, REFUSED_SECONDS_MAX),
        ("No connection could be made because the target machine actively refused it.", 4.5, REFUSED_SECONDS_MAX),
        ("errors resolving nowhere:7070: Domain name not found", 4.5, REFUSED_SECONDS_MAX),
        ("DNS resolution failed for nowhere:7070", 4.5, REFUSED_SECONDS_MAX),
        ("Connection refused", 0.2, 0.2),
        ("Connection refused", 60.0, 60.0),
        ("connection attempt timed out before receiving SETTINGS frame", 4.5, 4.5),
        ("", 4.5, 4.5),
    ],
)
def test_a_server_that_is_not_there_is_tried_for_less_long(
    details: str, connect_timeout: float, patience: float
) -> None:
    assert patience_with(details, connect_timeout) == patience


@pytest.mark.parametrize(
    "address",
    ["localhost:7070", "127.0.0.1:1", "[::1]:7070", "[fe80::1%eth0]:65535", "my_host.example.org:7070", "bücher:7"],
)
def test_an_address_is_a_host_and_a_port(address: str) -> None:
    assert server_address(address) == address


@pytest.mark.parametrize(
    "address",
    [
        *(
            "localhost",
            "localhost:",
            ":7070",
            "7070",
            "a:0",
            "a:65536",
            "a:x",
            "a:７０７０",
            "a:-1",
            "a:1 ",
            " a:1",
            "a b:1",
        ),
        *("::1:7070", "[::1]", "[localhost]:7070", "http://a:1", "tcp://a:1", "dns:///a:1", "unix:/tmp/a:1", "a:1/"),
        *("user@a:1", "a:1,b:2", "a,b:1"),
    ],
)
def test_what_is_no_address_is_told_before_anything_is_tried(address: str) -> None:
    with pytest.raises(errors.InvalidRequest) as told:
        Admin(server=address)
    assert told.value.message == f"{address!r} is not the address of a server"


def test_it_is_told_when_the_environment_names_what_is_no_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_SERVER", "http://localhost:7070")
    with pytest.raises(errors.InvalidRequest, match=r"^TAILRACE_SERVER='http://localhost:7070' is not"):
        Admin()


async def test_a_call_that_is_cancelled_while_the_client_is_closed_ends_as_cancelled() -> None:
    """As a Ctrl-C does it, and then there is nobody left who could take an error."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        connection = Connection(f"127.0.0.1:{silent.getsockname()[1]}")
        asking = asyncio.create_task(connection.connect())
        accepted, _ = await asyncio.get_running_loop().sock_accept(silent)
        accepted.close()
        asking.cancel()
        await connection.close()
        with pytest.raises(asyncio.CancelledError):
            await asking
