"""The proxy does to a connection what it says, and nothing else."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.clients.proxy import Direction, Proxy

SHORT_SECONDS = 0.1


@contextmanager
def connected() -> Iterator[tuple[Proxy, socket.socket, socket.socket]]:
    """A proxy, and both ends of a connection through it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with Proxy(f"127.0.0.1:{listener.getsockname()[1]}") as proxy:
            host, _, port = proxy.address.rpartition(":")
            with socket.create_connection((host, int(port))) as client:
                server, _ = listener.accept()
                with server:
                    for end in (client, server):
                        end.settimeout(10)
                    client.sendall(b"!")
                    assert server.recv(1) == b"!"  # now the proxy has both ends, too
                    yield proxy, client, server


def receive(end: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (chunk := end.recv(size - len(data))):
        data += chunk
    return data


def is_silent(end: socket.socket) -> bool:
    end.settimeout(SHORT_SECONDS)
    try:
        end.recv(1)
    except TimeoutError:
        return True
    finally:
        end.settimeout(10)
    return False


def test_it_is_a_wire_until_it_is_told_otherwise() -> None:
    with connected() as (_, client, server):
        client.sendall(b"a" * 200_000)
        assert receive(server, 200_000) == b"a" * 200_000
        server.sendall(b"reply")
        assert receive(client, 5) == b"reply"
        client.close()
        assert server.recv(1) == b""


def test_what_is_held_is_late_and_not_lost() -> None:
    with connected() as (proxy, client, server):
        proxy.hold(Direction.DOWN)
        client.sendall(b"request")
        assert receive(server, 7) == b"request"
        server.sendall(b"reply")
        assert is_silent(client)
        proxy.release()
        assert receive(client, 5) == b"reply"


def test_what_is_held_at_a_reset_is_lost() -> None:
    with connected() as (proxy, client, server):
        proxy.hold(Direction.UP)
        client.sendall(b"request")
        assert is_silent(server)
        proxy.reset()
        for end in (client, server):
            with pytest.raises(ConnectionResetError):
                end.recv(1)


def test_a_cut_falls_in_the_middle() -> None:
    with connected() as (proxy, client, server):
        proxy.cut_after(Direction.DOWN, 3)
        server.sendall(b"reply")
        assert client.recv(100) == b"rep"
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_one_direction_ends_and_the_other_goes_on() -> None:
    with connected() as (proxy, client, server):
        proxy.half_close(Direction.UP)
        assert server.recv(1) == b""
        server.sendall(b"reply")
        assert receive(client, 5) == b"reply"


def test_slow_is_a_byte_a_second() -> None:
    with connected() as (proxy, client, server):
        proxy.slow()
        client.sendall(b"ab")
        assert server.recv(10) == b"a"
        assert is_silent(server)


def test_a_delay_passes_on_everything() -> None:
    with connected() as (proxy, client, server):
        proxy.delay(2 * SHORT_SECONDS)
        client.sendall(b"a")
        assert is_silent(server)
        assert server.recv(1) == b"a"


def test_without_a_server_the_client_is_turned_away() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Proxy(f"127.0.0.1:{port}") as proxy:
        host, _, own_port = proxy.address.rpartition(":")
        with socket.create_connection((host, int(own_port)), timeout=10) as client:
            assert client.recv(1) == b""
