"""`logctl topics` against a real server."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.logctl.conftest import Logctl
from tests.processes import ENVIRONMENT, ServerProcess, program

File = Callable[..., Path]


def test_a_topic_is_created_shown_and_listed(logctl: Logctl, topic: str) -> None:
    made = logctl("topics create --partitions 4 --config retention.ms=86400000 --json", topic)
    assert made.status == 0
    assert made.rows[0]["topic"] == topic
    assert made.rows[0]["partitions"] == 4

    (row,) = [row for row in logctl("topics list --json").rows if row["topic"] == topic]
    assert row == made.rows[0]
    (described,) = logctl("topics describe --json", topic).rows
    assert described["topic_id"] == row["topic_id"]
    assert [partition["partition"] for partition in described["partitions"]] == [0, 1, 2, 3]
    assert {partition["records"] for partition in described["partitions"]} == {0}
    settings = {entry["name"]: entry for entry in described["config"]}
    assert settings["retention.ms"]["value"] == "86400000"
    assert settings["retention.ms"]["set_by"] == "topic"
    assert settings["segment.bytes"]["set_by"] == "default"


def test_people_read_the_same(logctl: Logctl, topic: str) -> None:
    made = logctl("topics create --partitions 2", topic)
    assert made.out == f"Created topic {topic} with 2 partitions.\n"
    listed = logctl("topics list").out.splitlines()
    assert listed[0].split() == ["TOPIC", "PARTITIONS"]
    assert [topic, "2"] in [line.split() for line in listed]
    described = logctl("topics describe", topic).out
    assert described.startswith(f"Topic {topic}, 2 partitions, id ")
    assert "retention.ms" in described


def test_a_setting_is_altered_by_the_option_that_creates_it_too(logctl: Logctl, topic: str) -> None:
    logctl("topics create --config flush.ms=500", topic)
    (row,) = logctl("topics alter --config flush.ms=700 --json", topic).rows
    assert [entry["value"] for entry in row["config"] if entry["name"] == "flush.ms"] == ["700"]


def test_a_topic_is_altered(logctl: Logctl, topic: str) -> None:
    logctl("topics create --config retention.ms=1000 --config flush.ms=7", topic)
    altered = logctl("topics alter --partitions 3 --set flush.ms=500 --unset retention.ms --json", topic)
    assert altered.status == 0
    assert altered.rows == logctl("topics describe --json", topic).rows
    (row,) = altered.rows
    assert len(row["partitions"]) == 3
    settings = {entry["name"]: (entry["value"], entry["is_default"]) for entry in row["config"]}
    assert settings["flush.ms"] == ("500", False)
    assert settings["retention.ms"] == ("604800000", True)


def test_a_topic_is_deleted_when_that_is_meant(logctl: Logctl, topic: str) -> None:
    logctl("topics create", topic)
    assert logctl("topics delete", topic, feed="y\n").status == 2  # a pipe cannot mean it
    assert topic in logctl("topics list").out
    assert logctl("topics delete --yes", topic).out == f"Deleted topic {topic}.\n"
    assert topic not in logctl("topics list").out


def test_the_oldest_records_are_deleted(logctl: Logctl, topic: str, file: File) -> None:
    logctl("topics create --partitions 2", topic)
    # murmur2 sends "a" and "d" to different ones of two partitions.
    logctl("produce --key-separator TAB", topic, file("a\tx\nd\tx\n" * 5))
    deleted = logctl("topics delete-records --before 3 --partition 1 --yes --json", topic)
    assert (deleted.status, deleted.err) == (0, "")
    assert deleted.rows == [{"topic": topic, "partition": 1, "log_start_offset": 3, "records": 3}]
    (described,) = logctl("topics describe --json", topic).rows
    assert [part["log_start_offset"] for part in described["partitions"]] == [0, 3]

    again = logctl("topics delete-records --before 2 --partition 1 --partition 0 --yes --json", topic)
    assert [(row["log_start_offset"], row["records"]) for row in again.rows] == [(2, 2), (3, 0)]
    everything = logctl("topics delete-records --before end --yes", topic)
    assert everything.err == f"Deleted 5 records of topic {topic}:\n"
    assert [line.split() for line in everything.out.splitlines()] == [
        ["PARTITION", "FIRST", "OFFSET", "RECORDS", "DELETED"],
        ["0", "5", "3"],
        ["1", "5", "2"],
    ]
    assert logctl("consume --exit-at-end", topic).out == ""


def test_records_before_a_time_are_deleted(logctl: Logctl, topic: str, file: File) -> None:
    logctl("produce --time-field day", topic, file("day\n" + "".join(f"2013-07-0{n}\n" for n in range(1, 6)), "a.csv"))
    deleted = logctl("topics delete-records --before 2013-07-04 --yes --json", topic)
    assert deleted.rows == [{"topic": topic, "partition": 0, "log_start_offset": 3, "records": 3}]
    assert logctl("topics delete-records --before ago:1h --yes --json", topic).rows[0]["records"] == 2


def test_records_are_deleted_only_when_that_is_meant(logctl: Logctl, topic: str, file: File) -> None:
    logctl("produce", topic, file("a\nb\n"))
    refused = logctl("topics delete-records --before end", topic, feed="y\n")
    assert refused.status == 2  # a pipe cannot mean it
    assert "Deleting records needs --yes" in refused.err
    logctl("topics alter --partitions 3", topic)
    refused = logctl("topics delete-records --before 1 --yes", topic)
    assert refused.status == 2
    assert "Offset 1 of which partition?" in refused.err
    (described,) = logctl("topics describe --json", topic).rows
    assert described["partitions"][0]["log_start_offset"] == 0


def test_who_creates_a_topic_twice_is_not_told_to_delete_it(logctl: Logctl, topic: str) -> None:
    logctl("topics create", topic)
    assert logctl("topics create --json", topic).error["remedy"] == "Use that topic, or choose another name."


def test_a_shell_is_offered_the_topics_that_begin_so(logctl: Logctl, server: ServerProcess, topic: str) -> None:
    logctl("topics create", topic)
    line = ["logctl", "topics", "describe", topic[:-1]]
    environment = {"_LOGCTL_COMPLETE": "bash_complete", "COMP_WORDS": " ".join(line), "COMP_CWORD": "3"}
    done = subprocess.run(
        program("logctl.main"),
        capture_output=True,
        text=True,
        check=True,
        env=ENVIRONMENT | environment | {"TAILRACE_SERVER": server.address},
    )
    assert f"plain,{topic}" in done.stdout.splitlines()
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("topics create existing", "TOPIC_ALREADY_EXISTS", ["existing"]),
        ("topics create no/such", "INVALID_TOPIC", ["no/such"]),
        ("topics create ''", "INVALID_TOPIC", []),
        ("topics create x --partitions 2147483647", "INVALID_PARTITIONS", ["2147483647"]),
        ("topics create x --config retention.ms=soon", "INVALID_CONFIG", ["retention.ms", "soon"]),
        ("topics create x --config colour=red", "INVALID_CONFIG", ["colour"]),
        ("topics describe missing", "UNKNOWN_TOPIC_OR_PARTITION", ["missing"]),
        ("topics alter missing --partitions 2", "UNKNOWN_TOPIC_OR_PARTITION", ["missing"]),
        ("topics alter existing --partitions 1", "INVALID_PARTITIONS", ["cannot go from 2 to 1"]),
        ("topics alter existing --set cleanup.policy=compress", "INVALID_CONFIG", ["cleanup.policy"]),
        ("topics alter existing --unset colour", "INVALID_CONFIG", ["colour"]),
        ("topics delete missing --yes", "UNKNOWN_TOPIC_OR_PARTITION", ["missing"]),
        ("topics delete __consumer_offsets --yes", "INVALID_TOPIC", ["__consumer_offsets"]),
        ("topics delete-records missing --before end --yes", "UNKNOWN_TOPIC_OR_PARTITION", ["missing"]),
        ("topics delete-records existing --partition 2 --before end --yes", "UNKNOWN_TOPIC_OR_PARTITION", ["2"]),
        ("topics delete-records existing --partition 1 --before 7 --yes", "OFFSET_OUT_OF_RANGE", ["7", "0 to 0"]),
        ("topics delete-records __consumer_offsets --before end --yes", "INVALID_TOPIC", ["cannot be shortened"]),
        ("topics delete-records compacted --before end --yes", "POLICY_VIOLATION", ["cleanup.policy = compact"]),
        ("groups describe missing", "GROUP_ID_NOT_FOUND", ["missing"]),
        ("groups delete missing --yes", "GROUP_ID_NOT_FOUND", ["missing"]),
    ],
)
def test_what_cannot_be_done_is_told_with_its_facts(logctl: Logctl, line: str, code: str, words: list[str]) -> None:
    logctl("topics create existing --partitions 2")
    logctl("topics create compacted --config cleanup.policy=compact")
    ran = logctl(f"{line} --json")
    assert ran.status == 1
    assert ran.out == ""
    assert ran.error["code"] == code
    for word in words:
        assert word in ran.error["message"]
