"""Clients that mean no good, against a real server: it goes on, its memory stays, and others are served meanwhile."""

import json
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from logserver.kafka.apis import ApiKey
from logserver.kafka.connection import FIRST_REQUEST_BYTES_MAX
from logserver.kafka.primitives import unsigned_varint
from logstore.batch import Record, encode_batch
from logstore.compression import Compression
from tests.processes import ENVIRONMENT, ROOT, ServerProcess
from tests.server.kafka_door.client import framed
from tests.server.kafka_door.requests import batch, fetch, produce

pytestmark = pytest.mark.slow

#: On a machine that has nothing else to do: see `served_within_seconds`.
SERVED_WITHIN_SECONDS = 1.0
GROWTH_BYTES_MAX = 100 << 20
#: How long hostile clients are watched once they have done what they do.
WATCHED_SECONDS = 3.0
PATIENCE_SECONDS = 30.0
TOPIC_OPERATIONS_UNASKED = {"include_topic_authorized_operations": False}


class Victim:
    """The server, and connections to it."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server

    def connect(self) -> socket.socket:
        host, _, port = self.server.kafka_address.rpartition(":")
        connected = socket.create_connection((host, int(port)), timeout=PATIENCE_SECONDS)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connected

    def proven(self) -> socket.socket:
        """One that has had an answer."""
        connected = self.connect()
        connected.sendall(b"\0\0\0\x0a\0\x12\0\0\0\0\0\7\xff\xff")
        read_frame(connected)
        return connected

    @property
    def anonymous_bytes(self) -> int:
        """Its own memory, without the pages of files that it shares with others."""
        status = Path(f"/proc/{self.server.pid}/smaps_rollup").read_text()
        return sum(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith(("Anonymous:",)))


def read_frame(connected: socket.socket) -> bytes:
    (size,) = struct.unpack(">i", read_bytes(connected, 4))
    return read_bytes(connected, size)


def read_bytes(connected: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connected.recv(size - len(data))
        assert more, "the server has closed"
        data += more
    return data


def is_closed(connected: socket.socket) -> bool:
    """Wait until the server has closed; False if it answers instead."""
    try:
        return connected.recv(1) == b""
    except ConnectionResetError:
        return True


@contextmanager
def served(victim: Victim) -> Iterator[dict[str, float]]:
    """A good client goes on within; how it was served is known afterwards."""
    command = [sys.executable, "-m", "tests.server.kafka_door.good_client", victim.server.kafka_address]
    how: dict[str, float] = {}
    with subprocess.Popen(
        command, cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield how
            output, _ = process.communicate("", timeout=2 * PATIENCE_SECONDS)
            how |= json.loads(output)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    directory = tmp_path_factory.mktemp("victim") / "data"
    with ServerProcess(directory, "--log-level", "error", kafka=True) as server:
        victim = Victim(server)
        with served(victim):
            pass  # what is allocated once is there
        yield victim
        assert server.is_running


@contextmanager
def borne(victim: Victim) -> Iterator[Callable[[], None]]:
    """What happens within is borne. Yields what is called while the hostile clients hold on."""
    before = victim.anonymous_bytes
    peak = before

    def watch() -> None:
        nonlocal peak
        until = time.monotonic() + WATCHED_SECONDS
        while time.monotonic() < until:
            peak = max(peak, victim.anonymous_bytes)
            time.sleep(0.02)

    with served(victim) as good:
        yield watch
        watch()
    assert victim.server.is_running
    seen = f"{(peak - before) >> 20} MiB more; {good}"
    assert peak - before < GROWTH_BYTES_MAX, seen
    assert good["served"] > 0
    assert good["longest_seconds"] < served_within_seconds(), seen


def served_within_seconds() -> float:
    """Longer where others want more processors than there are."""
    return SERVED_WITHIN_SECONDS * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


@contextmanager
def many(victim: Victim, count: int, proven: bool = False) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(victim.proven() if proven else victim.connect()) for _ in range(count)]


def idle_connections() -> int:
    """Ten thousand, or as many as this process and the server may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return min(10_000, hard // 2 - 200)


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x7f\xff\xff\xff",
        b"\xff\xff\xff\xff",
        b"\0\0\0\x0a\x7f\x00\0\0\0\0\0\1\xff\xff",
        b"\0\0\0\x0a\0\3\0\x63\0\0\0\1\xff\xff",
    ],
    ids=["tls", "http", "length-of-2-31", "length-negative", "no-such-api", "no-such-version"],
)
def test_bytes_of_something_else_close_the_connection(victim: Victim, data: bytes) -> None:
    with victim.connect() as wrong:
        wrong.sendall(data)
        assert is_closed(wrong)
    with victim.proven():
        pass


def test_a_count_that_ended_the_process_once_ends_the_connection(victim: Victim) -> None:
    body = (
        struct.pack(">hhi", ApiKey.FETCH, 15, 1) + b"\0\1x\0" + bytes(21) + b"\2" + bytes(16) + b"\xff\xff\xff\xff\x07"
    )
    body += bytes(99)
    with victim.connect() as wrong:
        wrong.sendall(struct.pack(">i", len(body)) + body)
        assert is_closed(wrong)
    with victim.proven():
        pass


def test_clients_that_go_away_in_the_middle_leave_nothing(victim: Victim) -> None:
    whole = framed(ApiKey.PRODUCE, 9, **produce("cut", batch(bytes(100_000))))
    with borne(victim):
        for number in range(300):
            with victim.connect() as cut:
                cut.sendall(whole[: 1 + number * 300])


def test_ten_thousand_idle_connections_cost_little(victim: Victim, record_property: Any) -> None:
    count = idle_connections()
    record_property("connections", count)
    with borne(victim), many(victim, count):
        time.sleep(WATCHED_SECONDS)


@pytest.mark.parametrize("sent", [1, 500 << 10])
def test_a_thousand_strangers_that_announce_half_a_mebibyte_cost_little(victim: Victim, sent: int) -> None:
    with borne(victim) as watch, ExitStack() as stack:
        for _ in range(1000):
            stranger = stack.enter_context(victim.connect())
            stranger.setblocking(False)
            try:
                stranger.send(struct.pack(">i", FIRST_REQUEST_BYTES_MAX) + bytes(sent))
            except OSError:
                continue  # cut already
        watch()


def test_proven_clients_that_announce_a_hundred_mebibytes_cost_what_they_send(victim: Victim) -> None:
    with borne(victim) as watch, many(victim, 200, proven=True) as clients:
        for client in clients:
            client.sendall(struct.pack(">i", 100 << 20) + b"\0\0\0\x09" + bytes(100_000))
        watch()


def test_clients_that_do_not_read_their_answers_are_not_read_from(victim: Victim) -> None:
    make(victim, "large")
    with victim.proven() as producer:
        value = os.urandom(900_000)
        for number in range(32):
            producer.sendall(framed(ApiKey.PRODUCE, 8, number, **produce("large", batch(value))))
        for _ in range(32):
            assert produced_code(read_frame(producer), "large") == ErrorCode.none
    ask = framed(ApiKey.FETCH, 11, **fetch("large", 0, max_bytes=1 << 30, topics=of_all("large")))
    with borne(victim) as watch, many(victim, 100, proven=True) as clients:
        for client in clients:
            client.setblocking(False)
            sent = 0
            while sent < 100:
                try:
                    client.send(ask)
                except BlockingIOError:
                    break
                sent += 1
        watch()


def make(victim: Victim, topic: str, **configs: str) -> None:
    fields = {
        "name": topic,
        "num_partitions": 1,
        "replication_factor": 1,
        "assignments": (),
        "configs": [{"name": name.replace("_", "."), "value": value} for name, value in configs.items()],
    }
    with victim.proven() as client:
        client.sendall(framed(ApiKey.CREATE_TOPICS, 5, topics=[fields], timeout=10_000, validate_only=False))
        read_frame(client)


def produced_code(answer: bytes, topic: str) -> int:
    """The error of version 8, of one batch."""
    # Correlation, one topic of this name, one partition, its number, its error.
    code: int = struct.unpack_from(">h", answer, 4 + 4 + 2 + len(topic) + 4 + 4)[0]
    return code


def of_all(topic: str) -> list[dict[str, Any]]:
    [asked] = fetch(topic, 0)["topics"]
    return [asked | {"partitions": [asked["partitions"][0] | {"partition_max_bytes": 1 << 30}]}]


def test_a_client_may_send_ten_thousand_requests_at_once(victim: Victim) -> None:
    with borne(victim), victim.proven() as client:
        asked = framed(ApiKey.LIST_GROUPS, 0)
        sending = threading.Thread(target=client.sendall, args=(asked * 10_000,), daemon=True)
        sending.start()
        for _ in range(10_000):
            read_frame(client)
        sending.join()


@pytest.mark.parametrize("codec", [Compression.ZSTD, Compression.GZIP])
def test_a_batch_that_inflates_a_thousandfold_is_refused(victim: Victim, codec: Compression) -> None:
    bomb = encode_batch([Record(0, 0, b"k", bytes(200 << 20))], compression=codec)
    assert len(bomb) < FIRST_REQUEST_BYTES_MAX
    name = f"compacted-{codec.name.lower()}"
    make(victim, name, cleanup_policy="compact")
    with borne(victim), many(victim, 4, proven=True) as clients:
        for number in range(20):
            for client in clients:
                client.sendall(framed(ApiKey.PRODUCE, 8, number, **produce(name, bomb)))
            for client in clients:
                assert produced_code(read_frame(client), name) in (ErrorCode.corrupt_message, ErrorCode.invalid_record)


@pytest.mark.parametrize(
    ("api_key", "version", "body"),
    [
        (ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, b"\xa0\x9c\x01" + b"\1\0" * 19_999 + b"\0\0\0\1\xff\0"),
        (ApiKey.OFFSET_FETCH, 7, b"\2g\xa0\x9c\x01" + b"\1\1\0" * 19_999 + b"\0\0"),
        (ApiKey.FETCH, 15, bytes(21) + b"\xa0\x9c\x01" + (bytes(16) + b"\1\0") * 19_999 + b"\1\1\0"),
        (ApiKey.METADATA, 12, b"\xa0\x9c\x01" + (bytes(16) + b"\0\0") * 19_999 + b"\0\0\0"),
        (ApiKey.LIST_GROUPS, 5, b"\xa0\x9c\x01" + b"\1" * 19_999 + b"\1\0"),
    ],
    ids=["describe-topic-partitions", "offset-fetch", "fetch", "metadata", "list-groups"],
)
def test_as_many_tiny_items_as_may_be_take_nobody_elses_time(
    victim: Victim, api_key: ApiKey, version: int, body: bytes
) -> None:
    request = struct.pack(">hhi", api_key, version, 1) + b"\0\1x\0" + body
    with borne(victim), many(victim, 5, proven=True) as clients:
        for _ in range(3):
            for client in clients:
                client.sendall(struct.pack(">i", len(request)) + request)
            for client in clients:
                read_frame(client)


def test_a_hundred_mebibytes_of_empty_arrays_are_refused_before_they_come(victim: Victim) -> None:
    with borne(victim), many(victim, 20, proven=True) as clients:
        for client in clients:
            client.sendall(struct.pack(">ihhi", 100 << 20, ApiKey.OFFSET_FETCH, 8, 1) + b"\0\1x\0\xff\xff\xff\x30")
        for client in clients:
            assert is_closed(client)


def test_sixteen_mebibytes_of_empty_arrays_are_refused_unread(victim: Victim) -> None:
    body = struct.pack(">hhi", ApiKey.OFFSET_FETCH, 8, 1) + b"\0\1x\0" + b"\x80\x80\x80\x02" + b"\2g\1\0" * (4 << 20)
    body = body[: 16 << 20]
    with borne(victim), many(victim, 3, proven=True) as clients:
        for client in clients:
            client.sendall(struct.pack(">i", len(body)) + body)
            assert is_closed(client)


@pytest.mark.parametrize("part", ["header", "body"])
def test_millions_of_tagged_fields_are_not_stepped_over(victim: Victim, part: str) -> None:
    count = 7 << 20
    many, none = unsigned_varint(count) + b"\5\0" * count, b"\0"
    header, body = (many, none) if part == "header" else (none, many)
    request = struct.pack(">hhi", ApiKey.API_VERSIONS, 3, 1) + b"\0\1x" + header + b"\2x\2y" + body
    with borne(victim), victim.proven() as client:
        client.sendall(struct.pack(">i", len(request)) + request)
        assert is_closed(client)


def test_clients_that_ask_for_all_there_is_and_take_nothing_cost_little(victim: Victim) -> None:
    with victim.proven() as client:
        for number in range(5):
            fields = {"name": f"wide{number}", "num_partitions": 10_000, "replication_factor": 1}
            topics = [fields | {"assignments": (), "configs": ()}]
            client.sendall(framed(ApiKey.CREATE_TOPICS, 5, topics=topics, timeout=10_000, validate_only=False))
            read_frame(client)
    asked = framed(ApiKey.METADATA, 12, topics=None, allow_auto_topic_creation=False, **TOPIC_OPERATIONS_UNASKED)
    with borne(victim) as watch, many(victim, 200, proven=True) as clients:
        for client in clients:
            client.sendall(asked)
        for _ in range(5):
            watch()


def test_clients_that_make_topics_by_asking_for_them_leave_others_their_turns(victim: Victim) -> None:
    offsets: dict[str, Any] = {"group_id": "g", "topics": [{"name": "good", "partition_indexes": tuple(range(2000))}]}
    with borne(victim), many(victim, 8, proven=True) as clients, victim.proven() as good:
        for number, client in enumerate(clients):
            topics = [{"topic_id": None, "name": f"made-{number}-{topic}"} for topic in range(2000)]
            fields: dict[str, Any] = {"topics": topics, "allow_auto_topic_creation": True, **TOPIC_OPERATIONS_UNASKED}
            client.sendall(framed(ApiKey.METADATA, 12, **fields))
        started = time.monotonic()
        good.sendall(framed(ApiKey.OFFSET_FETCH, 7, **offsets, require_stable=False))
        read_frame(good)
        assert time.monotonic() - started < served_within_seconds()
