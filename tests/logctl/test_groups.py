"""`logctl groups` and `logctl seek` against a real server."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from logctl.groups import format_span
from logctl.output import Output
from tailrace import Admin, CommittedOffset, Consumer
from tests.logctl.conftest import Logctl
from tests.processes import ServerProcess

File = Callable[..., Path]

HOUR_MS = 3_600_000


@pytest.fixture
def group(logctl: Logctl, topic: str, file: File, server: ServerProcess) -> str:
    """A group that has committed six records of each of two partitions, of ten, an hour apart."""
    logctl("topics create --partitions 2", topic)
    # murmur2 sends "a" and "d" to different ones of two partitions.
    rows = [
        f'{{"key": "{key}", "value": "{n}", "timestamp_ms": {1356998400000 + n * HOUR_MS}}}'
        for n in range(10)
        for key in "ad"
    ]
    assert logctl("produce --format jsonl", topic, file("\n".join(rows))).status == 0
    with Admin(server=server.address) as admin:
        admin.commit_offsets(topic, [CommittedOffset(topic, partition, 6) for partition in (0, 1)])
    return topic


def sought(logctl: Logctl, group: str, line: str) -> list[tuple[int, int | None, int]]:
    ran = logctl(f"seek --group {group} --topic {group} --json {line}")
    assert ran.status == 0
    return [(row["partition"], row["old_offset"], row["new_offset"]) for row in ran.rows]


def committed(logctl: Logctl, group: str) -> dict[int, int | None]:
    (row,) = logctl("groups describe --json", group).rows
    return {partition["partition"]: partition["committed_offset"] for partition in row["partitions"]}


@pytest.mark.parametrize(
    ("target", "offset"),
    [
        ("--offset 0", 0),
        ("--offset 10", 10),
        ("--to-beginning", 0),
        ("--to-end", 10),
        ("--to-time 2013-01-01T03:00", 3),
        ("--to-time 2013-01-01T02:30Z", 3),
        ("--to-time ago:1h", 10),
        ("--shift-by -2", 4),
        ("--shift-by 2", 8),
    ],
)
def test_a_group_is_sent_to_its_target(logctl: Logctl, group: str, target: str, offset: int) -> None:
    assert sought(logctl, group, f"{target} --dry-run") == [(0, 6, offset), (1, 6, offset)]
    assert committed(logctl, group) == {0: 6, 1: 6}
    assert sought(logctl, group, target) == [(0, 6, offset), (1, 6, offset)]
    assert committed(logctl, group) == {0: offset, 1: offset}
    read = logctl(f"consume --group {group} --exit-at-end --json", group).rows
    assert [row["offset"] for row in read if row["partition"] == 0] == list(range(offset, 10))


@pytest.mark.parametrize(
    ("target", "remedy"),
    [
        ("--offset 11", "Choose an offset of that range, or --to-beginning or --to-end."),
        ("--shift-by 5", "Shift by -6 to +4, or use --to-beginning or --to-end."),
        ("--shift-by -7 --partition 1", "Shift by -6 to +4, or use --to-beginning or --to-end."),
    ],
)
def test_a_target_outside_of_the_log_is_answered_with_the_way_back(
    logctl: Logctl, group: str, target: str, remedy: str
) -> None:
    ran = logctl(f"seek --group {group} --topic {group} {target} --json")
    assert ran.status == 1
    assert ran.error["code"] == "OFFSET_OUT_OF_RANGE"
    assert ran.error["remedy"] == remedy


def test_one_partition_is_sent_alone(logctl: Logctl, group: str) -> None:
    assert sought(logctl, group, "--partition 1 --offset 2") == [(1, 6, 2)]
    assert committed(logctl, group) == {0: 6, 1: 2}


@pytest.mark.parametrize("as_json", ["", "--json"])
def test_a_seek_that_waits_says_for_whom_and_an_interrupted_one_that_the_server_goes_on(
    logctl: Logctl, group: str, server: ServerProcess, monkeypatch: pytest.MonkeyPatch, as_json: str
) -> None:
    notes: list[str] = []
    main_thread = threading.main_thread().ident or 0

    def note_and_interrupt(output: Output, sentence: str) -> None:
        notes.append(sentence)
        signal.pthread_kill(main_thread, signal.SIGINT)

    monkeypatch.setattr("logctl.groups.WAITING_TOLD_AFTER_SECONDS", 0.2)
    monkeypatch.setattr(Output, "note", note_and_interrupt)
    with Consumer(group, group=group, server=server.address, auto_commit=False) as busy:
        assert next(iter(busy)).offset == 6
        ran = logctl(f"seek --group {group} --topic {group} --offset 2 {as_json}")
        assert ran.status == 130
        (waiting,) = notes
        assert waiting.startswith("Waiting up to a minute for member ")
        assert ran.err.startswith("\n{" if as_json else "\nerror: ")
        assert "interrupted; a seek that the server has begun goes on" in ran.err
        assert f"`logctl groups describe {group}`" in ran.err
        assert committed(logctl, group) == {0: 6, 1: 6}
        while (record := busy.poll()) and record.offset != 2:
            pass  # asking for the next one gives the partitions up: then the seek takes effect
    assert committed(logctl, group) == {0: 2, 1: 2}


def test_people_see_old_and_new(logctl: Logctl, group: str) -> None:
    dry = logctl(f"seek --group {group} --topic {group} --to-time 2013-01-01T03:00 --dry-run")
    assert dry.err == f"Would send group {group} on {group} to 2013-01-01T03:00:00.000Z; nothing was changed:\n"
    assert [line.split() for line in dry.out.splitlines()][1:] == [
        [group, "0", "6", "3", "-3"],
        [group, "1", "6", "3", "-3"],
    ]


def test_an_offset_out_of_range_is_told_in_the_same_words_by_seek_and_consume(logctl: Logctl, group: str) -> None:
    sought = logctl(f"seek --group {group} --topic {group} --partition 0 --offset 11 --json")
    consumed = logctl(f"consume {group} --partition 0 --from 11 --exit-at-end --json")
    assert sought.status == consumed.status
    assert sought.error | {"remedy": ""} == consumed.error | {"remedy": ""}, "each has its own options"
    assert sought.error["message"] == f"offset 11 is not in partition 0 of topic '{group}', which goes from 0 to 10"
    assert "at 10 the next record will be" in consumed.error["remedy"]


@pytest.mark.parametrize(
    ("time", "dry_run", "note"),
    [
        ("2013-01-01T09:00:00.001", "", "No record is that new: there the group waits at the end.\n"),
        ("2013-01-01T09:00:00.001", "--dry-run", "No record is that new: there the group would wait at the end.\n"),
        ("2013-01-01T09:00:00.001 --partition 1", "", "No record is that new: there the group waits at the end.\n"),
        ("2013-01-01T09:00", "", ""),
    ],
)
def test_a_time_past_all_records_is_told(logctl: Logctl, group: str, time: str, dry_run: str, note: str) -> None:
    ran = logctl(f"seek --group {group} --topic {group} --to-time {time} {dry_run}")
    assert ran.status == 0
    head, _, rest = ran.err.partition("\n")
    assert head.startswith(("Sent group", "Would send group"))
    assert rest == note


def test_a_time_past_the_records_of_some_partitions_names_them(logctl: Logctl, group: str, file: File) -> None:
    logctl("topics alter --partitions 4", group)
    newer = file('{"key": "a", "value": "10", "timestamp_ms": 1357100000000}')
    assert logctl("produce --format jsonl", group, newer).status == 0
    (partition,) = {row["partition"] for row in logctl("consume --exit-at-end --from 2013-01-02 --json", group).rows}
    others = ", ".join(str(number) for number in range(4) if number != partition)
    told = logctl(f"seek --group {group} --topic {group} --to-time 2013-01-02").err
    assert told.endswith(f"No record in partitions {others} is that new: there the group waits at the end.\n")


@pytest.mark.parametrize(
    ("line", "code", "words"),
    [
        ("--offset 11", "OFFSET_OUT_OF_RANGE", ["11", "10"]),
        ("--offset 9223372036854775807", "OFFSET_OUT_OF_RANGE", ["10"]),
        ("--partition 2 --to-end", "UNKNOWN_TOPIC_OR_PARTITION", ["2"]),
    ],
)
def test_a_target_that_is_not_there_is_refused(
    logctl: Logctl, group: str, line: str, code: str, words: list[str]
) -> None:
    ran = logctl(f"seek --group {group} --topic {group} --json {line}")
    assert ran.status == 1
    assert ran.error["code"] == code
    for word in words:
        assert word in ran.error["message"]
    assert committed(logctl, group) == {0: 6, 1: 6}


def test_seeking_in_a_topic_that_is_not_there_is_refused(logctl: Logctl) -> None:
    ran = logctl("seek --group g --topic missing --to-end --json")
    assert (ran.status, ran.error["code"]) == (1, "UNKNOWN_TOPIC_OR_PARTITION")
    assert "missing" not in logctl("topics list").out


def test_a_group_is_listed_and_described_with_its_lag(logctl: Logctl, group: str) -> None:
    (listed,) = [row for row in logctl("groups list --json").rows if row["group"] == group]
    assert listed == {"group": group, "state": "Empty", "members_count": 0}
    (row,) = logctl("groups describe --json", group).rows
    assert row["members"] == []
    lags: list[dict[str, Any]] = row["partitions"]
    assert [(lag["partition"], lag["lag_records"]) for lag in lags] == [(0, 4), (1, 4)]
    # By the time of arrival, not by the records' own of 2013.
    assert all(0 <= lag["lag_seconds"] < 3600 for lag in lags)
    logctl(f"seek --group {group} --topic {group} --to-end")
    (row,) = logctl("groups describe --json", group).rows
    assert [(lag["lag_records"], lag["lag_seconds"]) for lag in row["partitions"]] == [(0, 0), (0, 0)]


def test_people_read_the_lag(logctl: Logctl, group: str) -> None:
    described = logctl("groups describe", group).out
    assert described.startswith(f"Group {group}, Empty, 0 members, 8 records behind\n")


def test_a_group_is_deleted_when_that_is_meant(logctl: Logctl, group: str) -> None:
    assert logctl("groups delete", group, feed="y\n").status == 2
    assert logctl("groups delete --yes", group).out == f"Deleted group {group}.\n"
    assert group not in logctl("groups list").out


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.0, "0 s"),
        (0.0123456, "0.0123 s"),
        (1.5, "1.5 s"),
        (59.94, "59.9 s"),
        (59.99, "1 min 0 s"),
        (125.2, "2 min 5 s"),
        (3599.7, "1 h 0 min"),
        (11520.0, "3 h 12 min"),
        (86400 * 4 + 7300, "4 d 2 h"),
    ],
)
def test_a_span_is_shown_in_the_units_that_matter(seconds: float, shown: str) -> None:
    assert format_span(seconds) == shown
