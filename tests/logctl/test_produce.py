"""`logctl produce` against a real server: every format, every kind of bad line, and what the summary says."""

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from logctl.record_json import record_to_json
from logctl.sender import rules_of
from tests.logctl.conftest import Logctl
from tests.processes import ENVIRONMENT, ServerProcess, program

File = Callable[..., Path]


def consumed(logctl: Logctl, topic: str) -> list[dict[str, Any]]:
    ran = logctl("consume --exit-at-end --json", topic)
    assert ran.status == 0
    return ran.rows


def test_text_with_a_separator_becomes_keys_and_values(logctl: Logctl, topic: str, file: File) -> None:
    sent = logctl("produce --key-separator TAB --json", topic, file("N1\tEWR to IAH\nN2\t\nN1\tIAH\tEWR\n"))
    assert sent.status == 0
    assert sent.err == ""
    (summary,) = sent.rows
    assert (summary["records"], summary["malformed"], summary["unacknowledged"]) == (3, 0, 0)
    assert [(row["key"], row["value"]) for row in consumed(logctl, topic)] == [
        ("N1", "EWR to IAH"),
        ("N2", ""),
        ("N1", "IAH\tEWR"),
    ]


def test_the_format_follows_from_the_name_of_the_file(logctl: Logctl, topic: str, file: File) -> None:
    logctl("produce", topic, file("a\n1\n", "a.csv"))
    logctl("produce", topic, file('{"value": "2"}\n', "b.jsonl"))
    logctl("produce", topic, file("3\n", "c.txt"))
    logctl("produce --format text", topic, file("4\n", "d.csv"))
    assert [row["value"] for row in consumed(logctl, topic)] == ['{"a":"1"}', "2", "3", "4"]


def test_a_malformed_line_is_named_and_the_rest_is_sent(logctl: Logctl, topic: str, file: File) -> None:
    table = "tail,departed\nN1,2013-01-01T10:17Z\nN2,yesterday\nN3\nN4,2113-01-01\n,1357035420001\n"
    sent = logctl("produce --key-field tail --time-field departed --json", topic, file(table, "flights.csv"))
    assert sent.status == 1
    told = [json.loads(line)["error"]["message"].partition(":")[0] for line in sent.err.splitlines()]
    assert told == ["line 3", "line 4", "line 5"]
    assert (sent.rows[0]["records"], sent.rows[0]["malformed"]) == (2, 3)
    assert [(row["key"], row["timestamp_ms"]) for row in consumed(logctl, topic)] == [
        ("N1", 1357035420000),
        (None, 1357035420001),
    ]


def test_people_are_told_the_line_the_remedy_and_the_count(logctl: Logctl, topic: str, file: File) -> None:
    sent = logctl("produce", topic, file('{"value": "a"}\n{"value": \n{"value": "c"}\n', "a.jsonl"))
    assert sent.status == 1
    assert sent.err.splitlines()[0].startswith("error: line 2: not JSON: ")
    assert sent.out.startswith(f"Sent 2 records to {topic} in ")
    assert sent.out.endswith("/s); 1 line malformed.\n")


def test_people_are_told_a_remedy_once_and_every_line(logctl: Logctl, topic: str, file: File) -> None:
    lines = file('{"vaule": 1}\n{"velue": 2}\n\xff\n{"vaule": 3}\n'.encode("latin-1"), "a.jsonl")
    told = logctl("produce", topic, lines).err.splitlines()
    assert [line[:14] for line in told] == [
        *("error: line 1:", "       A line "),
        "error: line 2:",
        *("error: line 3:", "       Save th"),
        *("error: line 4:", "       A line "),
    ]
    told = logctl("produce --json", topic, lines).err.splitlines()
    assert all(json.loads(line)["error"]["remedy"] for line in told)
    assert len(told) == 4


def test_a_record_too_large_is_named_and_the_rest_is_sent(logctl: Logctl, topic: str, file: File) -> None:
    logctl("topics create --config max.message.bytes=2000", topic)
    sent = logctl("produce --json", topic, file("a\n" + "x" * 3000 + "\nb\n"))
    assert sent.status == 1
    assert sent.error["message"].startswith("line 2: ")
    assert [row["value"] for row in consumed(logctl, topic)] == ["a", "b"]


def test_a_time_from_the_far_future_does_not_take_its_neighbours_along(
    logctl: Logctl, topic: str, file: File, server: ServerProcess
) -> None:
    assert (
        rules_of(topic, server.address, now_ms=0).timestamp_ms_max == 3_600_000
    )  # the server's default; the topic is not there yet
    logctl("topics create --config message.timestamp.after.max.ms=86400000", topic)
    assert rules_of(topic, server.address, now_ms=7).timestamp_ms_max == 86_400_007
    lines = [f'{{"value": "{n}", "timestamp_ms": {4_000_000_000_000 if n == 5 else 1357034400000}}}' for n in range(10)]
    sent = logctl("produce --format jsonl --json", topic, file("\n".join(lines)))
    assert sent.status == 1
    assert sent.error["message"].startswith("line 6: its time, 2096-10-02")
    assert [row["value"] for row in consumed(logctl, topic)] == ["0", "1", "2", "3", "4", "6", "7", "8", "9"]


def test_a_line_without_a_key_does_not_take_its_neighbours_along_to_a_compacted_topic(
    logctl: Logctl, topic: str, file: File
) -> None:
    logctl("topics create --config cleanup.policy=compact,delete", topic)
    keys = [None if n == 5 else f"key {n}" for n in range(9)]
    lines = [json.dumps({"key": key, "value": str(n)}) for n, key in enumerate(keys)]
    sent = logctl("produce --format jsonl --json", topic, file("\n".join(lines)))
    assert sent.status == 1
    assert sent.error["code"] == "MALFORMED_LINE"
    assert sent.error["message"].startswith("line 6: it has no key")
    assert (sent.rows[-1]["records"], sent.rows[-1]["malformed"]) == (8, 1)
    assert [row["value"] for row in consumed(logctl, topic)] == ["0", "1", "2", "3", "4", "6", "7", "8"]


def test_a_time_in_seconds_is_refused_with_its_line(logctl: Logctl, topic: str, file: File) -> None:
    lines = file('{"value": "a", "timestamp_ms": 0}\n{"value": "b", "timestamp_ms": 1357034400}\n')
    sent = logctl("produce --format jsonl --json", topic, lines)
    assert sent.status == 1
    assert sent.error["message"].startswith("line 2: timestamp_ms is in milliseconds: 1357034400 is in the first weeks")
    assert [row["value"] for row in consumed(logctl, topic)] == ["a"]


def test_what_consume_writes_produce_reads_with_nothing_lost(logctl: Logctl, topic: str, file: File) -> None:
    class Record:
        topic, partition, offset = "x", 0, 0

        def __init__(self, key: bytes | None, value: bytes | None, *headers: tuple[str, bytes | None]) -> None:
            self.key, self.value, self.headers = key, value, headers
            self.timestamp_ms = 1357035420000 + len(headers)

    records = [
        Record(b"k", b"v"),
        Record(None, None),
        Record(b"", b""),
        Record(b"\xff\x00", bytes(range(256)), ("b", b"\x80"), ("a", None), ("b", "Zürich".encode()), ("", b"")),
        Record("\u2028".encode(), b'"\\\r\n\t'),
    ]
    first, second = topic + ".1", topic + ".2"
    original = file("".join(record_to_json(record) + "\n" for record in records))
    assert logctl("produce --format jsonl", first, original).status == 0
    copied = logctl("consume --exit-at-end --json", first)
    assert logctl("produce --format jsonl", second, file(copied.out, "copy")).status == 0
    again = consumed(logctl, second)
    assert [row | {"topic": first} for row in again] == copied.rows
    assert [record_to_json(record) for record in records] == [
        json.dumps(row | {"topic": "x", "offset": 0}, ensure_ascii=False, separators=(",", ":")) for row in again
    ]


def test_a_partition_or_an_offset_in_a_record_is_told_once_not_to_be_used(
    logctl: Logctl, topic: str, file: File
) -> None:
    lines = ['{"value": "a", "partition": null}', '{"value": "b", "partition": 3}', '{"value": "c", "offset": 7}']
    sent = logctl("produce --format jsonl", topic, file("\n".join(lines)))
    assert sent.status == 0
    assert sent.err.startswith("Line 2 names a partition or an offset. Neither is used")
    assert sent.err.count("\n") == 1
    assert [(row["partition"], row["offset"]) for row in consumed(logctl, topic)] == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize(
    ("content", "message"), [("a,b\n1,2\n", "line 1: there is no column `tail`"), ("tail,tail\n1,2\n", "line 1: ")]
)
def test_a_table_that_cannot_serve_is_refused_before_anything_is_sent(
    logctl: Logctl, topic: str, file: File, content: str, message: str
) -> None:
    sent = logctl("produce --key-field tail --json", topic, file(content, "a.csv"))
    assert sent.status == 1
    assert sent.out == ""
    assert sent.error["message"].startswith(message)
    assert topic not in logctl("topics list").out


@pytest.mark.parametrize("acks", ["all", "1", "0"])
def test_every_level_of_acks_sends(logctl: Logctl, topic: str, file: File, acks: str) -> None:
    logctl("topics create", topic)
    assert logctl("produce --json --acks", acks, topic, file("a\n")).rows[0]["records"] == 1
    # It waits for the record, which without acks=all becomes readable a moment later.
    assert [row["value"] for row in logctl("consume --max 1 --json", topic).rows] == ["a"]


def test_an_empty_file_is_no_error(logctl: Logctl, topic: str, file: File) -> None:
    assert logctl("produce --json", topic, file("")).rows[0]["records"] == 0


def test_a_bad_topic_name_is_one_error_and_not_one_a_line(logctl: Logctl, file: File) -> None:
    sent = logctl("produce no/such --json", file("a\nb\n"))
    assert sent.status == 1
    assert sent.error["code"] == "INVALID_TOPIC"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_the_reading_and_what_was_read_is_sent(
    logctl: Logctl, topic: str, server: ServerProcess, number: signal.Signals, status: int
) -> None:
    logctl("topics create", topic)
    producing = subprocess.Popen(
        [*program("logctl.main"), "produce", topic, "--json", "--server", server.address],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    assert producing.stdin is not None
    producing.stdin.write(b"a\nb\n")
    producing.stdin.flush()
    # This ends when both are there, so both have been read.
    assert len(logctl("consume --max 2 --json", topic).rows) == 2
    producing.send_signal(number)
    out, err = producing.communicate()
    assert producing.returncode == status
    assert json.loads(out)["records"] == 2
    assert b"Traceback" not in err
