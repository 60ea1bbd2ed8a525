"""Where offsets are asked for: by time, by the special times, and by leader epoch."""

from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from tests.conformance.batches import batch
from tests.conformance.clients import Client
from tests.conformance.wire import Connection

LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5


def list_offset(wire: Connection, topic: str, timestamp: int, *, version: int = 7, **options: int) -> Any:
    """The answer for the one partition."""
    partition: dict[str, int] = {"partition_index": 0, "timestamp": timestamp} | options
    topics = [{"name": topic, "partitions": [partition]}]
    answer = wire.ask("list_offsets", version, replica_id=-1, topics=topics)
    return answer.topics[0].partitions[0]


def write(wire: Connection, topic: str, timestamp_ms: int, count: int = 1) -> None:
    """One batch; its records are a millisecond apart."""
    records = batch([b"value"] * count, timestamp_ms=timestamp_ms)
    data = [{"name": topic, "partition_data": [{"index": 0, "records": records}]}]
    answer = wire.ask("produce", 9, acks=-1, timeout=10_000, topic_data=data)
    assert answer.responses[0].partition_responses[0].error_code == 0


def leader_epoch(wire: Connection, topic: str) -> int:
    return int(wire.ask("metadata", 9, topics=[{"name": topic}]).topics[0].partitions[0].leader_epoch)


@pytest.mark.parametrize("version", range(1, 11))
def test_every_version_knows_both_ends(wire: Connection, topic: str, version: int) -> None:
    write(wire, topic, 1000, 4)
    earliest = list_offset(wire, topic, EARLIEST, version=version)
    latest = list_offset(wire, topic, LATEST, version=version)
    assert (earliest.error_code, earliest.offset, earliest.timestamp) == (0, 0, -1)
    assert (latest.error_code, latest.offset, latest.timestamp) == (0, 4, -1)


def test_a_time_is_answered_with_the_record_and_its_time(wire: Connection, topic: str) -> None:
    write(wire, topic, 1000, 3)
    write(wire, topic, 2000, 3)
    inside = list_offset(wire, topic, 1002)
    between = list_offset(wire, topic, 1500)
    assert (inside.offset, inside.timestamp) == (2, 1002)
    assert (between.offset, between.timestamp) == (3, 2000)
    assert list_offset(wire, topic, 0).offset == 0


def test_a_time_after_all_is_answered_with_no_offset(wire: Connection, topic: str) -> None:
    write(wire, topic, 1000)
    after = list_offset(wire, topic, 1001)
    assert (after.error_code, after.offset, after.timestamp) == (0, -1, -1)


def test_a_time_finds_the_first_record_even_when_times_go_back(wire: Connection, topic: str) -> None:
    write(wire, topic, 5000)
    write(wire, topic, 1000)
    write(wire, topic, 7000)
    assert list_offset(wire, topic, 3000).offset == 0
    assert list_offset(wire, topic, 5001).offset == 2


def test_the_greatest_time_is_found_with_its_record(wire: Connection, topic: str) -> None:
    write(wire, topic, 5000, 3)
    write(wire, topic, 1000, 3)
    greatest = list_offset(wire, topic, MAX_TIMESTAMP)
    assert (greatest.offset, greatest.timestamp) == (2, 5002)


def test_of_equal_greatest_times_the_first_is_found(wire: Connection, topic: str) -> None:
    write(wire, topic, 5000)
    write(wire, topic, 5000)
    assert list_offset(wire, topic, MAX_TIMESTAMP).offset == 0


def test_an_empty_log_has_ends_and_no_times(wire: Connection, topic: str) -> None:
    assert [list_offset(wire, topic, which).offset for which in (EARLIEST, LATEST)] == [0, 0]
    for which in (MAX_TIMESTAMP, 0):
        found = list_offset(wire, topic, which)
        assert (found.error_code, found.offset, found.timestamp) == (0, -1, -1)


def test_the_earliest_local_offset_is_the_earliest_and_nothing_is_tiered(wire: Connection, topic: str) -> None:
    write(wire, topic, 1000, 2)
    assert list_offset(wire, topic, EARLIEST_LOCAL, version=8).offset == 0
    tiered = list_offset(wire, topic, LATEST_TIERED, version=9)
    assert (tiered.error_code, tiered.offset) == (0, -1)


@pytest.mark.parametrize(("timestamp", "version"), [(MAX_TIMESTAMP, 6), (EARLIEST_LOCAL, 7), (LATEST_TIERED, 8)])
def test_a_special_time_is_refused_in_a_version_older_than_it(
    wire: Connection, topic: str, timestamp: int, version: int
) -> None:
    assert list_offset(wire, topic, timestamp, version=version).error_code == ErrorCode.unsupported_version


def test_an_offset_comes_with_the_epoch_it_was_written_in(wire: Connection, topic: str) -> None:
    write(wire, topic, 1000)
    epoch = leader_epoch(wire, topic)
    assert [list_offset(wire, topic, which).leader_epoch for which in (EARLIEST, LATEST, 0)] == [epoch] * 3


def test_an_epoch_that_the_leader_does_not_know_is_refused(wire: Connection, topic: str) -> None:
    epoch = leader_epoch(wire, topic)
    assert list_offset(wire, topic, LATEST, current_leader_epoch=epoch).error_code == 0
    newer = list_offset(wire, topic, LATEST, current_leader_epoch=epoch + 1)
    assert (newer.error_code, newer.offset) == (ErrorCode.unknown_leader_epoch, -1)


def test_an_unknown_topic_or_partition_is_said(wire: Connection, topic: str) -> None:
    assert list_offset(wire, "not-there", LATEST).error_code == ErrorCode.unknown_topic_or_partition
    assert list_offset(wire, topic, LATEST, partition_index=5).error_code == ErrorCode.unknown_topic_or_partition
    assert list_offset(wire, topic, LATEST, partition_index=-1).error_code == ErrorCode.unknown_topic_or_partition


def test_of_an_unknown_topic_or_partition_no_records_are_deleted(wire: Connection, topic: str) -> None:
    parts = [{"partition_index": partition, "offset": 0} for partition in (-1, 5)]
    topics = [{"name": topic, "partitions": parts}, {"name": "not-there", "partitions": parts}]
    answer = wire.ask("delete_records", 2, topics=topics, timeout=10_000)
    told = [part for each in answer.topics for part in each.partitions]
    assert [(part.error_code, part.low_watermark) for part in told] == [(ErrorCode.unknown_topic_or_partition, -1)] * 4


def test_after_deleting_records_the_earliest_is_the_first_that_is_left(
    wire: Connection, topic: str, maker: Client
) -> None:
    write(wire, topic, 1000, 5)
    assert maker.delete_records(topic, 0, 3) == 3
    assert list_offset(wire, topic, EARLIEST).offset == 3
    assert list_offset(wire, topic, 0).offset == 3, "and a time does not lead before it"


def epoch_end(wire: Connection, topic: str, epoch: int, *, current: int = -1, version: int = 4) -> Any:
    partition = {"partition": 0, "current_leader_epoch": current, "leader_epoch": epoch}
    topics = [{"topic": topic, "partitions": [partition]}]
    return wire.ask("offset_for_leader_epoch", version, replica_id=-1, topics=topics).topics[0].partitions[0]


def test_the_present_epoch_ends_where_the_log_does(wire: Connection, topic: str) -> None:
    write(wire, topic, 1000, 3)
    epoch = leader_epoch(wire, topic)
    for version in (3, 4):
        end = epoch_end(wire, topic, epoch, version=version)
        assert (end.error_code, end.leader_epoch, end.end_offset) == (0, epoch, 3)


def test_an_epoch_of_the_future_has_no_end(wire: Connection, topic: str) -> None:
    write(wire, topic, 1000)
    end = epoch_end(wire, topic, leader_epoch(wire, topic) + 1)
    assert (end.error_code, end.leader_epoch, end.end_offset) == (0, -1, -1)


def test_who_knows_a_newer_leader_is_refused(wire: Connection, topic: str) -> None:
    epoch = leader_epoch(wire, topic)
    assert epoch_end(wire, topic, epoch, current=epoch).error_code == 0
    assert epoch_end(wire, topic, epoch, current=epoch + 1).error_code == ErrorCode.unknown_leader_epoch


def test_the_epochs_of_an_unknown_partition_are_not_known(wire: Connection) -> None:
    assert epoch_end(wire, "not-there", 0).error_code == ErrorCode.unknown_topic_or_partition
