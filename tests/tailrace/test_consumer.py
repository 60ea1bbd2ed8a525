import random
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from logstore import batch as wire
from logstore.batch import encode_batch
from tailrace import Consumer, TopicPartition, aio, errors
from tailrace.committer import Committer
from tests.tailrace.fake_server import FakeServer, wire_error


def fill(server: FakeServer, counts: dict[int, int], *, topic: str = "flights", batch_records: int = 3) -> None:
    """Values are "partition:offset", timestamps 1000 times the offset."""
    for partition, count in counts.items():
        for first in range(0, count, batch_records):
            records = [
                wire.Record(0, 1000 * number, None, f"{partition}:{number}".encode())
                for number in range(first, min(first + batch_records, count))
            ]
            server.append(topic, partition, encode_batch(records))


@pytest.fixture
def filled(server: FakeServer) -> FakeServer:
    """Ten records in partition 0 of flights, five in 1, one in 2, none in 3."""
    fill(server, {0: 10, 1: 5, 2: 1})
    return server


def values(consumer: Consumer) -> list[str]:
    return [record.text() for record in consumer]


def all_values(counts: dict[int, int]) -> list[str]:
    return sorted(f"{partition}:{number}" for partition, count in counts.items() for number in range(count))


def test_everything_is_read_once_and_in_order(filled: FakeServer) -> None:
    with Consumer("flights", stop_at_end=True, server=filled.address) as consumer:
        records = list(consumer)
    assert sorted(record.text() for record in records) == all_values({0: 10, 1: 5, 2: 1})
    for partition in range(4):
        offsets = [record.offset for record in records if record.partition == partition]
        assert offsets == sorted(offsets)
        assert [f"{partition}:{offset}" for offset in offsets] == [
            r.text() for r in records if r.partition == partition
        ]


def test_batches_come_whole_with_their_columns(filled: FakeServer) -> None:
    with Consumer("flights", partitions=[0], stop_at_end=True, server=filled.address) as consumer:
        batches = list(consumer.batches())
    assert [list(batch.offsets) for batch in batches] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert batches[1].values == [b"0:3", b"0:4", b"0:5"]
    assert batches[1].timestamps_ms == [3000, 4000, 5000]


def test_poll_gives_one_record_or_none_when_the_time_is_over(filled: FakeServer) -> None:
    with Consumer("flights", partitions=[2], server=filled.address) as consumer:
        record = consumer.poll(timeout=10)
        assert record is not None
        assert record.text() == "2:0"
        assert consumer.poll(timeout=0) is None
        fill(filled, {2: 1})
        record = consumer.poll(timeout=10)
        assert record is not None
        assert record.offset == 1


def test_poll_gives_none_at_the_end(filled: FakeServer) -> None:
    with Consumer("flights", partitions=[2], stop_at_end=True, server=filled.address) as consumer:
        assert consumer.poll() is not None
        assert consumer.poll() is None


def test_ways_of_reading_can_be_mixed(filled: FakeServer) -> None:
    with Consumer("flights", partitions=[0], stop_at_end=True, server=filled.address) as consumer:
        first = consumer.poll(10)
        assert first is not None
        assert first.offset == 0
        assert list(next(consumer.batches()).offsets) == [1, 2], "the rest of the batch that poll began"
        for record in consumer:
            assert record.offset == 3
            break
        assert [record.offset for record in consumer] == [4, 5, 6, 7, 8, 9]


def test_records_written_later_are_read_as_they_come(filled: FakeServer) -> None:
    with Consumer("flights", partitions=[3], server=filled.address) as consumer:
        assert consumer.poll(timeout=0.01) is None
        fill(filled, {3: 2})
        assert [consumer.poll(10), consumer.poll(10)] != [None, None]
        assert consumer.position("flights", 3) == 2


def test_the_end_is_where_it_was_when_reading_began(filled: FakeServer) -> None:
    with Consumer("flights", partitions=[2], stop_at_end=True, server=filled.address) as consumer:
        for record in consumer:
            assert record.text() == "2:0"
            fill(filled, {2: 3})


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        ("beginning", 0),
        ("end", 10),
        (4, 4),
        (10, 10),
        (datetime.fromtimestamp(6.5, UTC), 7),
        (datetime.fromtimestamp(7, UTC), 7),
        (datetime.fromtimestamp(3600, UTC), 10),
    ],
)
def test_reading_starts_where_it_is_told(filled: FakeServer, start: str | int | datetime, expected: int) -> None:
    with Consumer("flights", partitions=[0], start=start, stop_at_end=True, server=filled.address) as consumer:
        assert [record.offset for record in consumer] == list(range(expected, 10))


@pytest.mark.parametrize("start", ["middle", -1, 1.5, None, True, timedelta.max, datetime.min, ["beginning"]])
def test_a_start_that_is_no_place_is_refused_at_once(start: object) -> None:
    with pytest.raises(errors.InvalidRequest, match="not a place to start"):
        Consumer("flights", start=start)  # type: ignore[arg-type]


def test_a_start_in_the_future_is_refused() -> None:
    with pytest.raises(errors.InvalidRequest, match="is in the future"):
        Consumer("flights", start=timedelta(hours=-1))


@pytest.mark.parametrize(
    "settings",
    [
        {"partitions": ["0"]},
        {"group": ""},
        {"out_of_range": "latest"},
        {"prefetch_bytes": 0},
        {"prefetch_bytes": "1000"},
        {"prefetch_bytes": 1.5},
        {"prefetch_bytes": 1 << 63},
        {"partitions": []},
        {"partitions": [TopicPartition("other", 0)]},
        {"assignor": 5},
        {"instance_id": None},
        {"instance_id": "x"},
        {"auto_commit": "no"},
        {"stop_at_end": 1},
        {"on_assigned": 5},
        {"on_revoked": "x"},
        {"rebalance_timeout": 1e10},
        {"auto_commit_interval": float("nan")},
        {"auto_commit_interval": float("inf")},
        {"connect_timeout": True},
        {"rebalance_timeout": "60"},
        {"rebalance_timeout": 0},
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(settings: dict[str, object]) -> None:
    for kind in (Consumer, aio.Consumer):
        with pytest.raises(errors.InvalidRequest, match="not what a consumer can have"):
            kind("flights", **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", ["a", True, float("nan"), float("inf")])
def test_a_timeout_that_is_no_time_to_wait_is_refused(filled: FakeServer, timeout: Any) -> None:
    with Consumer("flights", server=filled.address) as consumer:
        with pytest.raises(errors.InvalidRequest, match="is not a time to wait"):
            consumer.poll(timeout)
    with pytest.raises(errors.InvalidRequest):
        Consumer()
    with pytest.raises(errors.InvalidRequest) as refused:
        Consumer(["flights"])  # type: ignore[arg-type]
    assert "separate arguments" in refused.value.remedy


@pytest.mark.parametrize("kind", [Consumer, aio.Consumer])
def test_one_partition_that_is_no_list_is_refused_with_what_is_wanted(kind: Any) -> None:
    with pytest.raises(errors.InvalidRequest, match="partitions=0 is not what a consumer can have") as refused:
        kind("flights", partitions=0)
    assert "a list of numbers" in refused.value.remedy


def test_an_unknown_topic_is_an_error_and_is_not_created(server: FakeServer) -> None:
    with Consumer("nothing", server=server.address) as consumer:
        with pytest.raises(errors.UnknownTopicOrPartition, match="nothing"):
            next(iter(consumer))
    assert "nothing" not in server.topics


def test_an_unknown_partition_is_an_error(server: FakeServer) -> None:
    with Consumer("flights", partitions=[4], server=server.address) as consumer:
        with pytest.raises(errors.UnknownTopicOrPartition, match="0 to 3, and no 4"):
            consumer.poll(10)


def test_partitions_of_several_topics_are_chosen_by_name(filled: FakeServer) -> None:
    fill(filled, {0: 2}, topic="single")
    chosen = [TopicPartition("flights", 2), TopicPartition("single", 0)]
    with Consumer("flights", "single", partitions=chosen, stop_at_end=True, server=filled.address) as consumer:
        found = sorted((record.topic, record.offset) for record in consumer)
        assert found == [("flights", 0), ("single", 0), ("single", 1)]
        assert consumer.assignment == chosen


def test_seek_goes_to_an_offset_a_time_or_an_end(filled: FakeServer) -> None:
    with Consumer("flights", partitions=[0], server=filled.address) as consumer:

        def next_offset() -> int:
            record = consumer.poll(10)
            assert record is not None
            return record.offset

        assert next_offset() == 0
        consumer.seek("flights", 0, offset=7)
        assert [next_offset(), next_offset()] == [7, 8]
        consumer.seek("flights", partition=0, timestamp_ms=3500)
        assert next_offset() == 4
        consumer.seek("flights", time=datetime.fromtimestamp(2, UTC))
        assert next_offset() == 2
        consumer.seek("flights", offset="beginning")
        assert next_offset() == 0
        consumer.seek("flights", offset="end")
        assert consumer.position("flights", 0) == 10
        with pytest.raises(errors.InvalidRequest, match="2 are given"):
            consumer.seek("flights", 0, offset=1, timestamp_ms=1)
        for nowhere in ({"timestamp_ms": 10**18}, {"timestamp_ms": "now"}, {"time": 5}, {"time": datetime.min}):
            with pytest.raises(errors.InvalidRequest, match="not a place"):
                consumer.seek("flights", 0, **nowhere)
        with pytest.raises(errors.UnknownTopicOrPartition, match="does not hold"):
            consumer.seek("flights", 1, offset=1)


def test_a_seek_while_iterating_holds_from_the_next_record_on(filled: FakeServer) -> None:
    with Consumer("flights", partitions=[0], server=filled.address) as consumer:
        offsets = []
        for record in consumer:
            offsets.append(record.offset)
            if offsets == [0]:
                consumer.seek("flights", 0, offset=8)
            if record.offset == 9:
                break
    assert offsets == [0, 8, 9]


def test_a_paused_partition_gives_nothing_until_it_is_resumed(filled: FakeServer) -> None:
    with Consumer("flights", partitions=[0, 1], stop_at_end=True, server=filled.address) as consumer:
        seen = []
        for record in consumer:
            seen.append((record.partition, record.offset))
            if record == (record.topic, 0, 1, *record[3:]):
                consumer.pause("flights", 0)
            if record.partition == 1 and record.offset == 4:
                assert (0, 2) not in seen or seen.index((0, 2)) < seen.index((0, 1))
                consumer.resume()
    assert sorted(seen) == [(0, number) for number in range(10)] + [(1, number) for number in range(5)]
    assert [offset for partition, offset in seen if partition == 0] == list(range(10)), (
        "nothing twice, nothing left out"
    )


def test_stop_ends_the_iteration_from_another_thread(server: FakeServer) -> None:
    with Consumer("flights", server=server.address) as consumer:
        threading.Timer(0.05, consumer.stop).start()
        assert list(consumer) == []
        assert consumer.poll() is None


def test_stop_ends_the_iteration_after_the_record_in_hand(filled: FakeServer) -> None:
    with Consumer("flights", partitions=[0], server=filled.address) as consumer:
        offsets = []
        for record in consumer:
            offsets.append(record.offset)
            consumer.stop()
    assert offsets == [0]


def test_another_thread_is_told_that_the_consumer_is_not_its_own(filled: FakeServer) -> None:
    told: list[BaseException] = []

    def use() -> None:
        for attempt in (lambda: consumer.poll(0), lambda: next(iter(consumer)), lambda: consumer.commit()):
            try:
                attempt()
            except errors.WrongThreadError as error:
                told.append(error)

    with Consumer("flights", server=filled.address) as consumer:
        consumer.poll(10)
        thread = threading.Thread(target=use, name="intruder")
        thread.start()
        thread.join()
    assert len(told) == 3
    assert "intruder" in str(told[0])


def test_a_consumer_made_in_one_thread_may_be_used_in_another(filled: FakeServer) -> None:
    consumer = Consumer("flights", partitions=[0], stop_at_end=True, server=filled.address)
    seen: list[str] = []

    def run() -> None:
        with consumer:
            seen.extend(values(consumer))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(seen) == 10


def test_an_offset_out_of_range_is_an_error_with_the_range(filled: FakeServer) -> None:
    filled.topics["flights"].partitions[0].log_start_offset = 3
    with Consumer("flights", partitions=[0], start=11, server=filled.address) as consumer:
        for _ in range(2):
            with pytest.raises(errors.OffsetOutOfRange, match=r"\[3, 10\]"):
                consumer.poll(10)
        consumer.seek("flights", 0, offset=4)
        record = consumer.poll(10)
        assert record is not None
        assert record.offset == 4


def test_a_start_past_the_end_is_an_error_also_for_one_that_stops_at_the_end(filled: FakeServer) -> None:
    with Consumer("flights", partitions=[0], start=11, stop_at_end=True, server=filled.address) as consumer:
        with pytest.raises(errors.OffsetOutOfRange, match=r"\[0, 10\]"):
            list(consumer)


@pytest.mark.parametrize("start", [1, 11])
@pytest.mark.parametrize(("out_of_range", "expected"), [("beginning", list(range(3, 10))), ("end", [])])
def test_an_offset_out_of_range_goes_where_it_is_told(
    filled: FakeServer, start: int, out_of_range: str, expected: list[int]
) -> None:
    filled.topics["flights"].partitions[0].log_start_offset = 3
    with Consumer(
        "flights", partitions=[0], start=start, stop_at_end=True, out_of_range=out_of_range, server=filled.address
    ) as consumer:
        assert [record.offset for record in consumer] == expected


def test_a_damaged_batch_stops_in_front_of_it_until_it_is_passed_by(filled: FakeServer) -> None:
    batches = filled.topics["flights"].partitions[0].batches
    damaged = bytearray(batches[1])
    damaged[-2] ^= 1
    batches[1] = bytes(damaged)
    with Consumer("flights", partitions=[0], server=filled.address) as consumer:
        assert [consumer.poll(10).offset for _ in range(3)] == [0, 1, 2]  # type: ignore[union-attr]
        for _ in range(2):
            with pytest.raises(errors.CorruptMessage, match="offset 3") as told:
                consumer.poll(10)
        assert "offset 6" in told.value.remedy
        consumer.seek("flights", 0, offset=6)
        record = consumer.poll(10)
        assert record is not None
        assert record.offset == 6


def test_a_topic_made_again_is_an_error(filled: FakeServer) -> None:
    with Consumer("flights", partitions=[0], server=filled.address) as consumer:
        consumer.poll(10)
        filled.call(filled.add_topic, "flights", 4)
        filled.stop()
        filled.start()
        with pytest.raises(errors.UnknownTopicId):
            list(consumer)


def test_a_broken_stream_and_a_restart_repeat_and_lose_nothing(filled: FakeServer) -> None:
    filled.answer_bytes_max = 1  # One batch an answer.
    with Consumer("flights", partitions=[0], stop_at_end=True, server=filled.address) as consumer:
        offsets = []
        for record in consumer:
            offsets.append(record.offset)
            if record.offset in (2, 5):
                filled.stop()
                filled.start()
    assert offsets == list(range(10))


def test_a_stream_that_is_refused_for_good_is_told_and_not_opened_for_ever(filled: FakeServer) -> None:
    filled.refusals["FetchStream"].append(wire_error("REQUEST_TOO_LARGE", "more partitions than a stream may have"))
    with Consumer("flights", server=filled.address) as consumer:
        with pytest.raises(errors.RequestTooLarge, match="more partitions than"):
            consumer.poll(10)


@pytest.mark.parametrize("code", ["OVERLOADED", "INTERNAL"])
def test_a_stream_that_is_refused_in_passing_is_opened_again(filled: FakeServer, code: str) -> None:
    filled.refusals["FetchStream"].append(wire_error(code, retriable=code == "OVERLOADED"))
    with Consumer("flights", partitions=[0], stop_at_end=True, server=filled.address) as consumer:
        assert len(list(consumer)) == 10


def test_no_more_is_read_ahead_than_allowed(server: FakeServer) -> None:
    fill(server, {0: 300})
    size = len(server.topics["flights"].partitions[0].batches[-1])
    server.answer_bytes_max = 1  # One batch an answer.
    with Consumer(
        "flights", partitions=[0], stop_at_end=True, prefetch_bytes=5 * size, server=server.address
    ) as consumer:
        for record in consumer:
            if record.offset % 50 == 0:
                for _ in range(50):
                    server.call(int)  # Time enough for the server to send all that it may.
            # The last answer may exceed the credit by one batch.
            assert len(consumer._handout.inbox) <= 6
    assert record.offset == 299


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_sought_paused_and_broken_the_next_record_is_the_right_one(server: FakeServer, seed: int) -> None:
    counts = {0: 200, 1: 100}
    fill(server, counts, batch_records=4)
    server.answer_bytes_max = 1
    rng = random.Random(seed)
    position = dict.fromkeys(counts, 0)
    paused: set[int] = set()
    with Consumer("flights", partitions=[0, 1], prefetch_bytes=1_000, server=server.address) as consumer:
        first = consumer.poll(10)
        assert first is not None
        position[first.partition] = 1
        for _ in range(300):
            partition = rng.choice([0, 1])
            match rng.randrange(20):
                case 0 | 1:
                    position[partition] = rng.randrange(counts[partition])
                    consumer.seek("flights", partition, offset=position[partition])
                case 2:
                    consumer.pause("flights", partition)
                    paused.add(partition)
                case 3 | 4:
                    consumer.resume("flights", partition)
                    paused.discard(partition)
                case 5:
                    server.fetch_script.append("break")
                case _:
                    record = consumer.poll(0.002)
                    if record is not None:
                        assert record.partition not in paused, f"seed {seed}"
                        assert record.offset == position[record.partition], f"seed {seed}"
                        position[record.partition] += 1
            assert all(consumer.position("flights", number) == position[number] for number in counts)


def test_an_unreachable_server_is_told_at_first_use() -> None:
    with Consumer("flights", server="127.0.0.1:1", connect_timeout=0.2) as consumer:
        with pytest.raises(errors.ServerUnreachable):
            consumer.poll(10)


def test_what_fails_in_the_background_is_told_and_not_lost(filled: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    async def commit(committer: Committer, choose: object) -> bool:
        raise ZeroDivisionError("a bug")

    with Consumer("flights", group="g", partitions=[3], auto_commit_interval=0.01, server=filled.address) as consumer:
        with monkeypatch.context() as patch:
            patch.setattr(Committer, "commit", commit)
            with pytest.raises(ZeroDivisionError, match="a bug"):
                consumer.poll(5)


def test_an_error_that_is_met_again_does_not_grow(filled: FakeServer) -> None:
    with Consumer("flights", partitions=[0], start=11, server=filled.address) as consumer:
        depths = []
        for _ in range(5):
            with pytest.raises(errors.OffsetOutOfRange) as met:
                consumer.poll(10)
            depths.append(len(met.traceback))
    assert len(set(depths)) == 1


def test_a_closed_consumer_says_so(filled: FakeServer) -> None:
    with Consumer("flights", server=filled.address) as consumer:
        consumer.poll(10)
        assert len(consumer.assignment) == 4
    assert consumer.assignment == []
    consumer.close()
    with pytest.raises(errors.ClientClosed):
        consumer.poll(0)
    with pytest.raises(errors.ClientClosed):
        consumer.__enter__()


def test_a_consumer_without_a_group_cannot_commit(filled: FakeServer) -> None:
    with Consumer("flights", server=filled.address) as consumer:
        consumer.poll(10)
        with pytest.raises(errors.InvalidRequest, match="nothing to commit to"):
            consumer.commit()


# What is committed: partitions of a group's topic read without joining it.


@pytest.fixture
def committed(filled: FakeServer) -> dict[tuple[str, int], int]:
    return filled.committed


def read_with_group(server: FakeServer, **settings: object) -> Consumer:
    settings = {"auto_commit_interval": 3600.0} | settings
    return Consumer("flights", group="g", partitions=[0], server=server.address, **settings)  # type: ignore[arg-type]


def test_leaving_the_block_commits_the_record_in_hand(
    filled: FakeServer, committed: dict[tuple[str, int], int]
) -> None:
    with read_with_group(filled) as consumer:
        for record in consumer:
            if record.offset == 4:
                break
    assert committed == {("flights", 0): 5}


def fail_at(consumer: Consumer, offset: int) -> None:
    with consumer:
        for record in consumer:
            if record.offset == offset:
                raise RuntimeError("of the application")


def test_an_exception_commits_all_but_the_record_in_hand(
    filled: FakeServer, committed: dict[tuple[str, int], int]
) -> None:
    with pytest.raises(RuntimeError):
        fail_at(read_with_group(filled), 4)
    assert committed == {("flights", 0): 4}


def test_an_exception_at_the_first_record_commits_nothing(
    filled: FakeServer, committed: dict[tuple[str, int], int]
) -> None:
    with pytest.raises(RuntimeError):
        fail_at(read_with_group(filled), 0)
    assert committed == {}


def test_what_was_only_read_ahead_is_not_committed(filled: FakeServer, committed: dict[tuple[str, int], int]) -> None:
    with read_with_group(filled) as consumer:
        consumer.poll(10)
    assert committed == {("flights", 0): 1}
    with read_with_group(filled) as consumer:
        assert consumer.poll(0) is None or consumer.position("flights", 0) == 2


def test_a_batch_in_hand_is_done_when_the_next_is_asked_for(
    filled: FakeServer, committed: dict[tuple[str, int], int]
) -> None:
    def fail_at_second_batch() -> None:
        with read_with_group(filled) as consumer:
            for number, _ in enumerate(consumer.batches()):
                if number == 1:
                    raise RuntimeError("of the application")

    with pytest.raises(RuntimeError):
        fail_at_second_batch()
    assert committed == {("flights", 0): 3}


def test_without_auto_commit_only_commit_commits(filled: FakeServer, committed: dict[tuple[str, int], int]) -> None:
    with read_with_group(filled, auto_commit=False) as consumer:
        for record in consumer:
            if record.offset == 2:
                assert consumer.commit(), "the record in hand included"
                assert committed == {("flights", 0): 3}
            if record.offset == 5:
                break
    assert committed == {("flights", 0): 3}


def test_a_commit_of_one_record_goes_up_to_it(filled: FakeServer, committed: dict[tuple[str, int], int]) -> None:
    with read_with_group(filled, auto_commit=False) as consumer:
        records = [consumer.poll(10) for _ in range(5)]
        assert consumer.commit(records[2])
        assert committed == {("flights", 0): 3}
        assert not consumer.commit(records[2]._replace(offset=9)), "not handed out yet"  # type: ignore[union-attr]
        assert not consumer.commit(records[2]._replace(partition=3)), "not held"  # type: ignore[union-attr]


def test_done_records_are_committed_now_and_then(filled: FakeServer, committed: dict[tuple[str, int], int]) -> None:
    with read_with_group(filled, auto_commit_interval=0.05) as consumer:
        for record in consumer:
            if record.offset == 6:
                filled.wait_until(lambda: committed == {("flights", 0): 6})
                break


def test_an_opening_that_failed_and_is_tried_again_leaves_nothing_behind(filled: FakeServer) -> None:
    with read_with_group(filled) as consumer:
        for _ in range(3):
            filled.refusals["FetchOffsets"].append(wire_error("INVALID_GROUP_ID"))
            with pytest.raises(errors.InvalidGroupId):
                consumer.poll(10)
        assert consumer.poll(10) is not None
        assert len(consumer._core._tasks) == 1, "one that commits now and then"


def test_a_group_goes_on_where_it_stopped_and_starts_elsewhere_only_where_nothing_is_committed(
    filled: FakeServer,
) -> None:
    filled.committed["flights", 0] = 7
    with Consumer(
        "flights", group="g", partitions=[0, 1], start="end", stop_at_end=True, server=filled.address
    ) as consumer:
        assert sorted(values(consumer)) == ["0:7", "0:8", "0:9"]


def test_after_a_seek_what_lies_before_the_new_place_is_committed(
    filled: FakeServer, committed: dict[tuple[str, int], int]
) -> None:
    with read_with_group(filled) as consumer:
        for _ in range(6):
            consumer.poll(10)
        assert consumer.commit()
        consumer.seek("flights", 0, offset=2)
    assert committed == {("flights", 0): 2}


def test_pausing_and_leaving_commits_the_record_in_hand(
    filled: FakeServer, committed: dict[tuple[str, int], int]
) -> None:
    with read_with_group(filled) as consumer:
        consumer.poll(10)
        consumer.pause()
    assert committed == {("flights", 0): 1}


@pytest.mark.parametrize("code", ["PARTITION_NOT_OWNED", "UNKNOWN_MEMBER_ID", "STALE_MEMBER_EPOCH"])
def test_a_commit_that_is_not_ours_any_more_says_so(filled: FakeServer, code: str) -> None:
    with read_with_group(filled, auto_commit=False) as consumer:
        consumer.poll(10)
        filled.commit_script.append(code)
        assert not consumer.commit()


def test_a_commit_that_fails_otherwise_raises(filled: FakeServer) -> None:
    with read_with_group(filled, auto_commit=False) as consumer:
        consumer.poll(10)
        filled.commit_script.append("OFFSET_METADATA_TOO_LARGE")
        with pytest.raises(errors.OffsetMetadataTooLarge):
            consumer.commit()


def test_a_commit_rides_an_outage_out(filled: FakeServer, committed: dict[tuple[str, int], int]) -> None:
    with read_with_group(filled, auto_commit=False) as consumer:
        consumer.poll(10)
        filled.stop()
        restart = threading.Timer(0.2, filled.start)
        restart.start()
        assert consumer.commit()
        restart.join()
    assert committed == {("flights", 0): 1}


def test_leaving_the_block_does_not_wait_long_for_a_server_that_is_gone(
    filled: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def go_away() -> None:
        with read_with_group(filled) as consumer:
            consumer.poll(10)
            consumer.poll(10)
            filled.stop()
            raise RuntimeError("of the application")

    monkeypatch.setattr("tailrace.connection.FAREWELL_SECONDS_MAX", 0.1)
    started = time.monotonic()
    with pytest.raises(RuntimeError) as raised:
        go_away()
    assert time.monotonic() - started < 5.0
    (note,) = raised.value.__notes__
    assert note.startswith("Closing the consumer raised ServerUnavailable: connection refused: no server listens at ")
