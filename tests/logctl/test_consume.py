"""`logctl consume` against a real server: where it begins, how it ends, and what it commits."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.logctl.conftest import Logctl
from tests.processes import ENVIRONMENT, ServerProcess, program

File = Callable[..., Path]

HOUR_MS = 3_600_000


@pytest.fixture
def ten(logctl: Logctl, topic: str, file: File) -> str:
    """A topic of one partition with records 0 to 9, an hour apart from 2013-01-01 on."""
    rows = [f'{{"value": "{n}", "timestamp_ms": {1356998400000 + n * HOUR_MS}}}' for n in range(10)]
    logctl("topics create", topic)
    assert logctl("produce --format jsonl", topic, file("\n".join(rows), "ten")).status == 0
    return topic


def values(logctl: Logctl, line: str, topic: str) -> list[str]:
    ran = logctl(f"consume --json {line}", topic)
    assert (ran.status, ran.err) == (0, "")
    return [row["value"] for row in ran.rows]


def committed(logctl: Logctl, group: str) -> int:
    """What the group has committed of its one partition; 0 when nothing."""
    (row,) = logctl("groups describe --json", group).rows
    return sum(partition["committed_offset"] or 0 for partition in row["partitions"])


@pytest.mark.parametrize(
    ("position", "first"),
    [
        ("beginning", 0),
        ("0", 0),
        ("7", 7),
        ("10", 10),
        ("end", 10),
        ("1970-01-01", 0),
        ("2013-01-01", 0),
        ("2013-01-01T03:00", 3),
        ("2013-01-01T03:00:00.001", 4),
        ("2013-01-01T03:00+01:00", 2),
        ("2013-02-01", 10),
        ("ago:1h", 10),
        ("ago:5000w", 0),
    ],
)
def test_a_position_is_where_it_begins(logctl: Logctl, ten: str, position: str, first: int) -> None:
    assert values(logctl, f"--from {position} --exit-at-end", ten) == [str(n) for n in range(first, 10)]


def test_without_a_position_it_begins_at_the_beginning(logctl: Logctl, ten: str) -> None:
    assert values(logctl, "--exit-at-end", ten) == [str(n) for n in range(10)]


def test_max_is_how_many(logctl: Logctl, ten: str) -> None:
    assert values(logctl, "--max 3", ten) == ["0", "1", "2"]
    assert values(logctl, "--max 10", ten) == [str(n) for n in range(10)]
    assert values(logctl, "--max 50 --exit-at-end", ten) == [str(n) for n in range(10)]


def test_people_are_told_when_there_was_nothing_to_read(logctl: Logctl, ten: str) -> None:
    for line in ("--from end", "--from 2099-01-01", f"--group {ten} --from end"):
        ran = logctl(f"consume {line} --exit-at-end", ten)
        assert (ran.status, ran.out, ran.err) == (0, "", "There was nothing to read.\n")
    assert logctl("consume --from 9 --exit-at-end", ten).err == ""


@pytest.mark.parametrize("offset", [11, 2**63 - 1])
def test_an_offset_that_is_not_there_is_refused_with_the_range(logctl: Logctl, ten: str, offset: int) -> None:
    ran = logctl(f"consume --from {offset} --exit-at-end --json", ten)
    assert ran.status == 1
    assert ran.error["code"] == "OFFSET_OUT_OF_RANGE"
    assert str(offset) in ran.error["message"]
    assert "goes from 0 to 10" in ran.error["message"]


def test_a_partition_alone(logctl: Logctl, topic: str, file: File) -> None:
    logctl("topics create --partitions 3", topic)
    logctl("produce --key-separator =", topic, file("".join(f"key{n}={n}\n" for n in range(30))))
    parts = [logctl(f"consume --partition {n} --exit-at-end --json", topic).rows for n in range(3)]
    assert [{row["partition"] for row in part} for part in parts] == [{0}, {1}, {2}]
    assert sorted(int(row["value"]) for part in parts for row in part) == list(range(30))


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("consume missing --exit-at-end", "UNKNOWN_TOPIC_OR_PARTITION"),
        ("consume missing", "UNKNOWN_TOPIC_OR_PARTITION"),
        ("consume missing --group g", "UNKNOWN_TOPIC_OR_PARTITION"),
        ("consume no/such --exit-at-end", "INVALID_TOPIC"),
    ],
)
def test_a_topic_that_is_not_there_is_refused(logctl: Logctl, line: str, code: str) -> None:
    ran = logctl(f"{line} --json")
    assert ran.status == 1
    assert ran.error["code"] == code
    assert "missing" not in logctl("topics list").out


def test_a_partition_that_is_not_there_is_refused(logctl: Logctl, ten: str) -> None:
    ran = logctl("consume --partition 7 --exit-at-end --json", ten)
    assert ran.status == 1
    assert ran.error["code"] == "UNKNOWN_TOPIC_OR_PARTITION"
    assert "7" in ran.error["message"]


# Groups


def test_a_group_resumes_where_it_stopped(logctl: Logctl, ten: str) -> None:
    group = f"--group {ten}"
    assert values(logctl, f"{group} --max 3", ten) == ["0", "1", "2"]
    assert committed(logctl, ten) == 3
    assert values(logctl, f"{group} --max 1", ten) == ["3"]
    assert values(logctl, f"{group} --exit-at-end", ten) == ["4", "5", "6", "7", "8", "9"]
    assert values(logctl, f"{group} --exit-at-end", ten) == []
    assert committed(logctl, ten) == 10


def test_a_position_is_for_a_group_that_has_none(logctl: Logctl, ten: str) -> None:
    assert values(logctl, f"--group {ten} --from 7 --max 1", ten) == ["7"]
    assert values(logctl, f"--group {ten} --from beginning --exit-at-end", ten) == ["8", "9"]


def test_a_group_reads_one_partition_alone(logctl: Logctl, ten: str) -> None:
    assert values(logctl, f"--group {ten} --partition 0 --max 2", ten) == ["0", "1"]
    assert values(logctl, f"--group {ten} --partition 0 --max 2", ten) == ["2", "3"]
    assert committed(logctl, ten) == 4


def start(
    server: ServerProcess, *words: str, stdout: int = subprocess.PIPE, unbuffered: str = ""
) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*program("logctl.main"), "consume", *words, "--server", server.address],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered},
    )


@pytest.fixture
def many(logctl: Logctl, topic: str, file: File) -> Iterator[str]:
    """A topic with more than any pipe holds: 20,000 records of some 100 bytes."""
    logctl("topics create", topic)
    assert logctl("produce", topic, file("".join(f"{n:0100}\n" for n in range(20_000)))).status == 0
    yield topic
    logctl("topics delete --yes", topic)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_commits_what_was_written_out(
    logctl: Logctl, ten: str, server: ServerProcess, signal_number: signal.Signals
) -> None:
    consuming = start(server, ten, "--group", ten)
    assert consuming.stdout is not None
    read = [consuming.stdout.readline() for _ in range(10)]
    consuming.send_signal(signal_number)
    out, err = consuming.communicate()
    assert consuming.returncode == (130 if signal_number == signal.SIGINT else 143)
    assert read[-1].endswith(b"  9\n")
    assert (out, err) == (b"", b"\n" if signal_number == signal.SIGINT else b"")
    assert committed(logctl, ten) == 10
    (group,) = logctl("groups describe --json", ten).rows
    assert group["members"] == []  # it said good-bye


def test_a_seek_sends_a_running_consumer_back(logctl: Logctl, ten: str, server: ServerProcess) -> None:
    with start(server, ten, "--group", ten, "--json") as consuming:
        assert consuming.stdout is not None
        first = [consuming.stdout.readline() for _ in range(10)]
        ran = logctl(f"seek --group {ten} --topic {ten} --offset 4 --json")
        assert (ran.status, ran.rows[0]["new_offset"]) == (0, 4)
        again = [consuming.stdout.readline() for _ in range(6)]
        consuming.send_signal(signal.SIGINT)
        assert consuming.communicate()[0] == b""
    assert again == first[4:]
    assert consuming.returncode == 130
    assert committed(logctl, ten) == 10


@pytest.mark.parametrize("group", [(), ("--group", "orphans")])
def test_a_topic_that_is_deleted_meanwhile_is_told(
    logctl: Logctl, ten: str, server: ServerProcess, group: tuple[str, ...]
) -> None:
    with start(server, ten, *group) as consuming:
        assert consuming.stdout is not None
        for _ in range(10):
            consuming.stdout.readline()
        logctl("topics delete --yes", ten)
        _, err = consuming.communicate(timeout=30)
    message, remedy = err.decode().splitlines()
    assert message.startswith(f"error: topic '{ten}' with id ")
    assert message.endswith(" is not here: it was deleted")
    assert "begin afresh" in remedy
    assert consuming.returncode == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_broken_pipe_ends_quietly_and_commits_no_more_than_was_written(
    logctl: Logctl, many: str, server: ServerProcess, unbuffered: str
) -> None:
    """As `| head`: the reader takes a little and closes. At most what fits a pipe was written beside it."""
    with start(server, many, "--group", many, unbuffered=unbuffered) as consuming:
        assert consuming.stdout is not None
        first = consuming.stdout.readline()
        consuming.stdout.close()
        assert consuming.stderr is not None
        assert consuming.stderr.read() == b""
    assert consuming.returncode == 0
    assert first.endswith(b"0" * 100 + b"\n")
    taken = committed(logctl, many)
    assert taken < 2_000
    # The next one goes on exactly there.
    following = values(logctl, f"--group {many} --max 1", many)
    assert [int(value) for value in following] == [taken]


def test_a_reader_that_stalls_holds_back_the_commit(logctl: Logctl, many: str, server: ServerProcess) -> None:
    """With nobody reading, the pipe fills; what has not passed into it is not committed when the consumer is killed."""
    read_end, write_end = os.pipe()
    with (
        start(server, many, "--group", many, "--json", stdout=write_end) as consuming,
        os.fdopen(read_end, "rb") as pipe,
    ):
        os.close(write_end)
        pipe.readline()
        consuming.kill()
        consuming.wait()
        written = 1 + pipe.read().count(b"\n")
    taken = committed(logctl, many)
    assert taken <= written < 20_000


def test_ctrl_c_before_a_server_has_answered_ends_it_without_a_word() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        arguments = ["--server", f"127.0.0.1:{silent.getsockname()[1]}", "consume", "flights"]
        command = [*program("logctl.main"), *arguments]
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=ENVIRONMENT) as consuming:
            silent.accept()[0].close()  # it is there, and waits
            consuming.send_signal(signal.SIGINT)
            _, err = consuming.communicate()
    # Had it gone on until it gave the server up, it would say so.
    assert (consuming.returncode, err) == (130, b"\n")


@pytest.fixture
def damaged(server: ServerProcess, logctl: Logctl, topic: str, file: File) -> str:
    """A topic with three records, of which the second cannot be read."""
    logctl("topics create", topic)
    for value in ("before", "damaged", "behind"):
        assert logctl("produce", topic, file(value)).status == 0
    (described,) = logctl("topics describe --json", topic).rows
    (log,) = (server.directory / "topics" / described["topic_id"].replace("-", "") / "0").glob("*.log")
    with log.open("r+b") as content:
        content.seek(log.read_bytes().index(b"damaged"))
        content.write(b"D")
    return topic


def test_damage_is_told_to_a_program_with_its_place(logctl: Logctl, damaged: str) -> None:
    topic = damaged
    ran = logctl("consume --exit-at-end --json", topic)

    assert ran.status == 1
    assert [row["value"] for row in ran.rows] == ["before"]
    error = ran.error
    assert error["code"] == "DATA_LOSS"
    assert (error["topic"], error["partition"], error["offset"], error["next_offset"]) == (topic, 0, 1, 2)
    assert not error["retriable"]
    assert logctl("consume --exit-at-end --json --from 2", topic).rows[0]["value"] == "behind"


def test_a_group_that_meets_damage_is_told_the_command_that_sends_it_on(logctl: Logctl, damaged: str) -> None:
    ran = logctl("consume --exit-at-end --json --group", "the board", damaged)
    assert ran.error["code"] == "DATA_LOSS"
    [command] = re.findall(r"To send the group behind it: `logctl (.*?)`", ran.error["remedy"])
    assert command.endswith(f"seek --group 'the board' --topic {damaged} --partition 0 --offset 2")

    assert logctl(command).status == 0

    (behind,) = logctl("consume --exit-at-end --json --group", "the board", damaged).rows
    assert behind["value"] == "behind"
