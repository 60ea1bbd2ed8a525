"""kcat, which people use by hand: what it prints and what it writes."""

import json
import shutil
import subprocess
from typing import Any

import pytest

from tests.conformance.absent import Absent, skipped_where_absent
from tests.conformance.batches import ATTRIBUTES_AT
from tests.conformance.brokers import Broker
from tests.conformance.clients import CALL_SECONDS_MAX, CODECS, Client, Message
from tests.conformance.waiting import read
from tests.conformance.wire import Connection

#: Of the attributes, whose numbers are in the order of CODECS, from 1 on.
CODEC_MASK = 7


class Kcat:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        command = ["kcat", "-b", self._broker.address, "-q", *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=CALL_SECONDS_MAX)
        assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stderr}"
        return done.stdout


@pytest.fixture
def kcat(broker: Broker) -> Kcat:
    with skipped_where_absent():
        if shutil.which("kcat") is None:
            raise Absent("kcat is not on the PATH (Debian: kcat)")
    return Kcat(broker)


def lines(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


@pytest.fixture
def ten(topic: str, maker: Client) -> str:
    maker.produce(topic, [Message(b"%d" % n, b"k%d" % n, timestamp_ms=1000 + n) for n in range(10)])
    return topic


@pytest.mark.parametrize("codec", CODECS)
def test_what_kcat_writes_others_read(kcat: Kcat, topic: str, client: Client, codec: str) -> None:
    kcat("-P", "-t", topic, "-K", ":", "-z", codec, "-H", "from=kcat", stdin="a:1\nb:2\n")
    with client.consumer() as consumer:
        consumer.assign(topic, 0, 0)
        records = read(consumer, 2)
    assert [(record.key, record.value) for record in records] == [(b"a", b"1"), (b"b", b"2")]
    assert [list(record.headers) for record in records] == [[("from", b"kcat")]] * 2


@pytest.mark.parametrize("codec", CODECS)
def test_what_kcat_compresses_comes_compressed(kcat: Kcat, wire: Connection, topic: str, codec: str) -> None:
    """Old librdkafka leaves that out, without a word, for a broker whose versions it does not like."""
    kcat("-P", "-t", topic, "-z", codec, stdin="a" * 5000)
    partition = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 2**20}
    asked = [{"topic": topic, "partitions": [partition]}]
    answer = wire.ask(
        "fetch", 4, replica_id=-1, max_wait=0, min_bytes=1, max_bytes=2**20, isolation_level=0, topics=asked
    )
    batch = answer.responses[0].partitions[0].records
    assert batch[ATTRIBUTES_AT + 1] & CODEC_MASK == 1 + CODECS.index(codec)


@pytest.mark.parametrize("codec", CODECS)
def test_kcat_reads_what_others_write(kcat: Kcat, topic: str, client: Client, codec: str) -> None:
    client.produce(topic, [Message(b"v", b"k", [("h", b"1")], timestamp_ms=1234), Message(None, b"x")], codec=codec)
    first, second = lines(kcat("-C", "-t", topic, "-e", "-J"))
    assert (first["key"], first["payload"], first["headers"], first["ts"]) == ("k", "v", ["h", "1"], 1234)
    assert (second["key"], second["payload"], second["offset"]) == ("x", None, 1)


@pytest.mark.parametrize(
    ("start", "offsets"),
    [("beginning", list(range(10))), ("7", [7, 8, 9]), ("-2", [8, 9]), ("s@1006", [6, 7, 8, 9]), ("end", [])],
)
def test_kcat_starts_where_it_is_told(kcat: Kcat, ten: str, start: str, offsets: list[int]) -> None:
    assert [each["offset"] for each in lines(kcat("-C", "-t", ten, "-o", start, "-e", "-J"))] == offsets


def test_kcat_asks_for_the_offset_of_a_time(kcat: Kcat, ten: str) -> None:
    assert kcat("-Q", "-t", f"{ten}:0:1004").split()[-1] == "4"


def test_kcat_lists_the_cluster(kcat: Kcat, two_partitions: str) -> None:
    listed = json.loads(kcat("-L", "-J", "-t", two_partitions))
    (topic,) = listed["topics"]
    assert [part["partition"] for part in topic["partitions"]] == [0, 1]
    assert len(listed["brokers"]) == 1


def test_kcat_reads_as_a_member_of_a_group(kcat: Kcat, ten: str, group: str) -> None:
    read_all = kcat("-G", group, "-c", "10", "-J", "-X", "auto.offset.reset=earliest", ten)
    assert [each["offset"] for each in lines(read_all)] == list(range(10))


def test_kcat_writes_with_an_idempotent_producer(kcat: Kcat, topic: str, maker: Client) -> None:
    kcat("-P", "-t", topic, "-X", "enable.idempotence=true", stdin="one\ntwo\n")
    with maker.consumer() as consumer:
        consumer.assign(topic, 0, 0)
        assert [record.value for record in read(consumer, 2)] == [b"one", b"two"]
