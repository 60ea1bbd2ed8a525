import itertools
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from logstore.batch import decode_batch
from logstore.partitioner import partition_for_key
from tailrace import Producer, errors
from tailrace.delivery import SendFuture
from tailrace.producer_core import Obstacle
from tailrace.runtime import io_thread
from tests.tailrace.fake_server import BREAK, HOLD, FakeServer, wire_error


def test_a_record_arrives_as_it_was_sent(server: FakeServer) -> None:
    with Producer(server=server.address) as producer:
        future = producer.send(
            "single", value=b"body", key=b"N14228", headers={"source": b"faa", "none": None}, timestamp_ms=1357034400000
        )
        assert future.result(10) == ("single", 0, 0, 1357034400000)
        assert future.done()
        assert future.exception() is None
    (record,) = server.read("single", 0)
    assert (record.key, record.value, record.timestamp_ms) == (b"N14228", b"body", 1357034400000)
    assert record.headers == (("source", b"faa"), ("none", None))


def test_text_is_sent_as_utf8_and_nulls_stay_null(server: FakeServer) -> None:
    with Producer(server=server.address) as producer:
        producer.send("single", "Zürich", key="ü")
        producer.send("single")
        producer.send("single", json={"a": [1, None]}, headers=[("h", "ü"), ("h", b"2")])
    first, second, third = server.read("single", 0)
    assert (first.key, first.value) == ("ü".encode(), "Zürich".encode())
    assert (second.key, second.value) == (None, None)
    assert (third.value, third.headers) == (b'{"a":[1,null]}', (("h", "ü".encode()), ("h", b"2")))


def test_a_json_of_none_is_null_and_no_missing_value(server: FakeServer) -> None:
    with Producer(server=server.address) as producer:
        for _ in range(2):  # On the first send to a topic, and on the fast path.
            producer.send("single", json=None)
            producer.send("single")
    assert server.topics["single"].partitions[0].values == [b"null", None, b"null", None]


def test_without_a_time_a_record_has_the_time_of_its_send(server: FakeServer) -> None:
    before = int(time.time() * 1000)
    with Producer(server=server.address) as producer:
        told = producer.send("single", b"x").result(10).timestamp_ms
    assert before <= told <= int(time.time() * 1000)
    assert server.read("single", 0)[0].timestamp_ms == told


def test_keys_go_where_kafkas_clients_send_them_whether_text_or_bytes(server: FakeServer) -> None:
    keys = [f"N{number}" for number in range(300)]
    with Producer(server=server.address) as producer:
        for key in keys:
            assert producer.send("flights", b"", key=key).result(10).partition == partition_for_key(key.encode(), 4)
            assert producer.send("flights", b"", key=key.encode()).result(10).partition == partition_for_key(
                key.encode(), 4
            )


def test_records_without_a_key_fill_one_partition_after_the_other(server: FakeServer) -> None:
    with Producer(server=server.address, batch_bytes=1_000, linger=60) as producer:
        producer.send_many("flights", [bytes(100)] * 100)
        producer.flush()
    counts = [len(partition.values) for partition in server.topics["flights"].partitions]
    assert sum(counts) == 100
    assert min(counts) > 0


def test_a_partition_can_be_named_and_must_exist(server: FakeServer) -> None:
    with Producer(server=server.address) as producer:
        assert producer.send("flights", b"x", key=b"any", partition=3).result(10).partition == 3
        with pytest.raises(errors.UnknownTopicOrPartition, match="0 to 3, and no 4"):
            producer.send("flights", b"x", partition=4)


def test_order_per_key_is_the_order_of_the_sends(server: FakeServer) -> None:
    with Producer(server=server.address, batch_bytes=300, linger=0) as producer:
        for number in range(2_000):
            producer.send("flights", str(number), key=str(number % 10))
    by_key: dict[bytes | None, list[int]] = {}
    for partition in server.topics["flights"].partitions:
        for key, value in partition.records:
            by_key.setdefault(key, []).append(int(value or b"0"))
    assert by_key == {str(key).encode(): list(range(key, 2_000, 10)) for key in range(10)}


def test_threads_share_a_producer_and_each_keeps_its_order(server: FakeServer) -> None:
    def send(thread: int) -> None:
        for number in range(3_000):
            producer.send("single", f"{thread}:{number}")

    with Producer(server=server.address, batch_bytes=2_000) as producer:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(send, range(4)))
    values = [(value or b"").decode().split(":") for value in server.topics["single"].partitions[0].values]
    for thread in range(4):
        assert [int(number) for owner, number in values if owner == str(thread)] == list(range(3_000))


def test_send_many_says_where_everything_went(server: FakeServer) -> None:
    values = [str(number).encode() for number in range(5_000)]
    keys = [b"" if number % 3 else f"k{number % 7}" for number in range(5_000)]
    with Producer(server=server.address, batch_bytes=5_000) as producer:
        future = producer.send_many("flights", values, keys)
        ranges = future.result(20)
        assert future.done()
    assert sum(part.records_count for part in ranges) == 5_000
    for number, partition in enumerate(server.topics["flights"].partitions):
        assert sum(part.records_count for part in ranges if part.partition == number) == len(partition.values)
        numbers = [int(value or b"") for value in partition.values]
        assert numbers == sorted(numbers)
    assert sorted(value for part in server.topics["flights"].partitions for value in part.values if value) == sorted(
        values
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_header_of_a_batch_tells_of_its_records_however_they_were_sent(server: FakeServer, seed: int) -> None:
    rng = random.Random(seed)
    with Producer(server=server.address, linger=60, batch_bytes=rng.choice([300, 5_000])) as producer:
        for _ in range(60):
            how = rng.choice([0, 1, 2, 3, 3, 3, 3])
            if how == 0:
                producer.send("single", b"now")
            elif how == 1:
                producer.send("single", b"then", timestamp_ms=rng.randrange(2**32, 2**41))
            elif how == 2:
                producer.send("single", b"by the way", headers={"h": b"1"}, timestamp_ms=rng.randrange(2**32, 2**41))
            else:
                producer.send_many("single", [b"many"] * rng.randrange(5))
            if rng.random() < 0.1:
                producer.flush()
    partition = server.topics["single"].partitions[0]
    assert len(partition.batches) > 3
    for batch, header in zip(partition.batches, partition.headers, strict=True):
        times = [record.timestamp_ms for record in decode_batch(batch)]
        assert (header.records_count, header.base_timestamp_ms, header.max_timestamp_ms) == (
            len(times),
            times[0],
            max(times),
        ), f"seed {seed}"


@pytest.mark.parametrize(
    ("values", "keys", "said"), [(5, None, "values=5"), (None, None, "values=None"), ([b"v"], 5, "keys=5")]
)
def test_send_many_names_what_is_no_list(server: FakeServer, values: Any, keys: Any, said: str) -> None:
    with Producer(server=server.address) as producer:
        with pytest.raises(errors.InvalidRequest, match=f"{said} is no list"):
            producer.send_many("single", values, keys)


def test_send_many_takes_text_and_none_among_bytes(server: FakeServer) -> None:
    with Producer(server=server.address) as producer:
        producer.send_many("single", ["ü", b"b", None], [None, "k", b"k"]).result(10)
        with pytest.raises(errors.InvalidRequest, match="2 values come with 1 keys"):
            producer.send_many("single", [b"1", b"2"], [b"k"])
        with pytest.raises(errors.InvalidRequest, match="value is of type int"):
            producer.send_many("single", [b"before", 5, b"behind"])  # type: ignore[list-item]
        with pytest.raises(errors.InvalidRequest, match="half a surrogate pair"):
            producer.send_many("single", ["text", "\ud800", "behind"])
        with pytest.raises(errors.InvalidRequest, match="key is of type float"):
            producer.send_many("single", [b"keyed", b"behind"], ["k", 1.5])  # type: ignore[list-item]
        with pytest.raises(errors.MessageTooLarge):
            producer.send_many("single", [b"small", bytes(2_000_000), b"behind"])
    sent = ["ü".encode(), b"b", None, b"before", b"text", b"keyed", b"small"]
    assert server.topics["single"].partitions[0].values == sent


def test_send_many_of_text_keeps_the_order_of_each_key(server: FakeServer) -> None:
    with Producer(server=server.address, batch_bytes=2_000) as producer:
        values = [str(number) if number % 5 else str(number).encode() for number in range(5_000)]
        keys = [f"ü{number % 10}" if number % 7 else f"ü{number % 10}".encode() for number in range(5_000)]
        ranges = producer.send_many("flights", values, keys).result(20)
    assert sum(part.records_count for part in ranges) == 5_000
    by_key: dict[bytes | None, list[int]] = {}
    for partition in server.topics["flights"].partitions:
        for key, value in partition.records:
            by_key.setdefault(key, []).append(int(value or b"0"))
    assert by_key == {f"ü{key}".encode(): list(range(key, 5_000, 10)) for key in range(10)}


def test_a_full_buffer_blocks_send_many_until_there_is_room(server: FakeServer) -> None:
    values = [str(number).encode() for number in range(20_000)]
    with Producer(server=server.address, buffer_bytes=70_000, batch_bytes=16_384) as producer:
        producer.send_many("flights", values, [value[-1:] for value in values])
    for partition in server.topics["flights"].partitions:
        assert partition.values == sorted(partition.values, key=lambda value: int(value or b"0"))
    assert sum(len(partition.values) for partition in server.topics["flights"].partitions) == 20_000


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_batches_are_compressed(server: FakeServer, compression: str) -> None:
    with Producer(server=server.address, compression=compression) as producer:
        producer.send_many("single", [b"the same again"] * 1_000).result(10)
    partition = server.topics["single"].partitions[0]
    assert sum(map(len, partition.batches)) < 8_000 < 1_000 * len(b"the same again")
    assert {header.compression.name.lower() for header in partition.headers} == {compression}
    assert partition.values == [b"the same again"] * 1_000


def test_waiting_for_a_result_does_not_wait_for_linger(server: FakeServer) -> None:
    with Producer(server=server.address, linger=60) as producer:
        assert producer.send("single", b"x").result(10).offset == 0
        assert producer.send("single", b"y").exception(10) is None
        assert producer.send_many("single", [b"z"]).result(10)[0].base_offset == 2


def test_linger_gathers_what_nobody_waits_for(server: FakeServer) -> None:
    with Producer(server=server.address, linger=60) as producer:
        for _ in range(100):
            producer.send("single", b"x")
        producer.flush()
        assert len(server.topics["single"].partitions[0].batches) == 1


def test_without_linger_a_batch_goes_as_soon_as_it_can(server: FakeServer) -> None:
    with Producer(server=server.address, linger=0) as producer:
        producer.send("single", b"x")
        server.wait_until(lambda: server.topics["single"].partitions[0].next_offset == 1)


def test_a_callback_is_called_with_its_future(server: FakeServer) -> None:
    called = threading.Event()
    seen: list[SendFuture] = []

    def callback(future: SendFuture) -> None:
        seen.append(future)
        called.set()

    with Producer(server=server.address) as producer:
        future = producer.send("single", b"x")
        future.add_done_callback(callback)
        assert called.wait(10)
        assert seen == [future]
        future.add_done_callback(callback)
        assert seen == [future, future]


@pytest.mark.parametrize("error", [RuntimeError, SystemExit])
def test_a_callback_that_fails_is_logged_and_harms_nobody(
    server: FakeServer, caplog: pytest.LogCaptureFixture, error: type[BaseException]
) -> None:
    def callback(future: SendFuture) -> None:
        raise error("of the callback")

    server.produce_script.append(HOLD)
    with Producer(server=server.address) as producer:
        future = producer.send("single", b"x")
        future.add_done_callback(callback)
        server.release()
        assert future.result(10).offset == 0
        assert producer.send("single", b"y").result(10).offset == 1
    assert "a callback of a send failed" in caplog.text


def test_a_callback_may_send_and_is_told_when_it_would_wait_for_its_own_thread(server: FakeServer) -> None:
    met: list[type[BaseException] | None] = []
    done = threading.Event()

    def attempt(work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:
            met.append(type(error))
        else:
            met.append(None)

    def callback(future: SendFuture) -> None:
        attempt(lambda: producer.send("single", b"y"))
        attempt(lambda: producer.send("single", b"z").result())
        attempt(lambda: producer.send("flights", b"a topic to be learned"))
        attempt(producer.flush)
        attempt(producer.close)
        attempt(future.result)
        done.set()

    server.produce_script.append(HOLD)
    producer = Producer(server=server.address)
    producer.send("single", b"x").add_done_callback(callback)
    server.release()
    assert done.wait(10), "the callback waits for the thread it is called on"
    wrong = errors.WrongThreadError
    assert met == [None, wrong, wrong, wrong, wrong, None]
    producer.close()
    assert server.topics["single"].partitions[0].values == [b"x", b"y", b"z"]


def test_an_interrupted_send_leaves_the_producer_usable(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    with Producer(server=server.address) as producer:
        producer.send("single", b"x").result(10)
        monkeypatch.setattr("tailrace.producer_core.call_from_any_thread", interrupt)
        with pytest.raises(KeyboardInterrupt):
            producer.send("single", b"y")
        assert producer.send("single", b"z").result(10).offset == 2


@pytest.mark.parametrize(
    "send",
    [
        lambda producer, value: producer.send("single", value),
        lambda producer, value: producer.send("single", value, headers={}),
        lambda producer, value: producer.send_many("single", [value]),
    ],
    ids=["send", "send with headers", "send_many"],
)
def test_a_send_interrupted_behind_the_codec_spoils_no_batch(
    server: FakeServer, send: Callable[[Producer, bytes], object]
) -> None:
    """Most of the time that a Ctrl-C can come in is the codec's, and it is raised as soon as that returns."""

    def append_and_interrupt(*record: object) -> object:
        append_at(*record)
        raise KeyboardInterrupt

    with Producer(server=server.address, linger=4, delivery_timeout=5) as producer:
        producer.send("single", b"0")
        batch = producer._core.accumulator.topics["single"].queues[0].open
        assert batch is not None
        append_at, batch.append_at = batch.append_at, append_and_interrupt
        with pytest.raises(KeyboardInterrupt):
            send(producer, b"1")
        batch.append_at = append_at
        send(producer, b"2")
        producer.flush()
        assert producer.send("single", b"3").result(10).offset == 3
    assert server.topics["single"].partitions[0].values == [b"0", b"1", b"2", b"3"]


def test_a_wake_that_was_lost_is_made_up_for(server: FakeServer) -> None:
    """Another thread relied on the wake of one that was interrupted before it gave it."""
    with Producer(server=server.address, delivery_timeout=5) as producer:
        producer.send("single", b"x").result(10)
        producer._core._wake_is_due = True
        assert producer.send("single", b"y").result(10).offset == 1


def test_result_gives_up_waiting_while_the_send_goes_on(server: FakeServer) -> None:
    server.produce_script.append(HOLD)
    with Producer(server=server.address) as producer:
        future = producer.send("single", b"x")
        with pytest.raises(errors.ResultTimedOut):
            future.result(0.05)
        with pytest.raises(TimeoutError):
            future.exception(0.01)
        assert not future.done()
        server.release()
        assert future.result(10).offset == 0


def test_a_full_buffer_blocks_and_then_raises(server: FakeServer) -> None:
    server.produce_script.append(HOLD)
    with Producer(server=server.address, buffer_bytes=40_000, batch_bytes=16_384, max_block=0.2, linger=0) as producer:
        with pytest.raises(errors.BufferFull, match=r"of 40000 bytes wait .* within 0\.2 s"):
            producer.send_many("single", [bytes(1_000)] * 100)
        server.release()
        producer.flush()
        assert producer.send("single", b"room again").result(10)


def test_a_full_buffer_goes_on_when_there_is_room(server: FakeServer) -> None:
    with Producer(server=server.address, buffer_bytes=40_000, batch_bytes=16_384) as producer:
        for number in range(2_000):
            producer.send("flights", bytes(1_000), key=str(number))
    assert sum(len(partition.values) for partition in server.topics["flights"].partitions) == 2_000


def test_a_record_larger_than_the_room_waits_as_long_as_it_may(server: FakeServer) -> None:
    server.produce_script.append(HOLD)
    settings = {"buffer_bytes": 40_000, "batch_bytes": 1_000, "linger": 0.0}
    with Producer(server=server.address, max_block=0.2, **settings) as producer:  # type: ignore[arg-type]
        producer.send("single", bytes(15_000))
        server.wait_until(lambda: len(server.produce_requests) == 1)
        tries = itertools.count()
        try_send = producer._core.try_send
        producer._core.try_send = lambda *record: (next(tries), try_send(*record))[1]  # type: ignore[method-assign]
        rescue = threading.Timer(5, server.release)
        rescue.start()
        with pytest.raises(errors.BufferFull, match=r"of 40000 bytes wait .* within 0\.2 s"):
            producer.send("single", bytes(30_000))
        assert next(tries) < 5, "it waits, and does not try again and again"
        producer.send("single", bytes(15_000))
        rescue.cancel()
        server.release()
    assert [len(value or b"") for value in server.topics["single"].partitions[0].values] == [15_000, 15_000]


def test_a_buffer_smaller_than_a_batch_holds_one_batch_at_a_time(server: FakeServer) -> None:
    with Producer(server=server.address, buffer_bytes=1_000, max_block=5) as producer:
        for _ in range(60):
            producer.send("single", bytes(900))
    assert len(server.topics["single"].partitions[0].values) == 60


def test_who_waits_for_room_does_not_wait_for_linger(server: FakeServer) -> None:
    with Producer(server=server.address, buffer_bytes=40_000, linger=60, max_block=5) as producer:
        for partition in range(4):
            producer.send("flights", bytes(100), partition=partition)
    assert [len(partition.values) for partition in server.topics["flights"].partitions] == [1, 1, 1, 1]


def test_whose_time_is_up_is_told_so_though_there_is_room_that_others_will_take(server: FakeServer) -> None:
    with Producer(server=server.address) as producer:
        producer.send("single", b"x").result(10)
        with pytest.raises(errors.BufferFull):
            io_thread().run(producer._core.prepare(Obstacle("single", 1), time.monotonic()))


def test_a_record_that_the_topic_cannot_take_is_refused_at_once(server: FakeServer) -> None:
    server.message_bytes_max = 10_000
    with Producer(server=server.address) as producer:
        producer.send("single", bytes(9_000)).result(10)
        with pytest.raises(errors.MessageTooLarge, match=r"max\.message\.bytes = 10000"):
            producer.send("single", bytes(10_000))
        producer.send_many("single", [bytes(4_000)] * 20).result(10)
    assert max(map(len, server.topics["single"].partitions[0].batches)) <= 10_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"value": 5}, "value is of type int"),
        ({"value": b"x", "key": 5}, "key is of type int"),
        ({"value": b"x", "timestamp_ms": -1}, "timestamp_ms=-1"),
        ({"value": b"x", "timestamp_ms": 1.5}, "timestamp_ms=1.5"),
        ({"value": b"x", "timestamp_ms": "now"}, "timestamp_ms='now'"),
        ({"value": b"x", "timestamp_ms": 2**63}, "is not a time"),
        ({"value": b"x", "timestamp_ms": 1}, "timestamp_ms is in milliseconds"),
        ({"value": b"x", "timestamp_ms": int(time.time())}, "looks like seconds"),
        ({"value": b"x", "json": None}, "both value= and json="),
        ({"value": b"x", "json": 1}, "both value= and json="),
        ({"json": object()}, "cannot be written as JSON"),
        ({"value": b"x", "headers": [("a",)]}, "is not a header"),
        ({"value": b"x", "headers": 5}, "headers=5 are no headers"),
        ({"json": [float("nan")]}, "cannot be written as JSON"),
        ({"value": b"x", "headers": {"a": 5}}, "header 'a' is of type int"),
        ({"value": "\ud800"}, "half a surrogate pair"),
        ({"value": b"x", "key": []}, "key is of type list"),
        ({"value": b"x", "partition": "1"}, "partition='1'"),
    ],
)
def test_what_cannot_be_sent_is_named_and_nothing_is_sent(
    server: FakeServer, arguments: dict[str, object], said: str
) -> None:
    with Producer(server=server.address) as producer:
        for _ in range(2):  # On the first send to a topic, and on the fast path.
            with pytest.raises(errors.InvalidRequest, match=said):
                producer.send("single", **arguments)  # type: ignore[arg-type]
            producer.send("single", b"good")
    assert server.topics["single"].partitions[0].values == [b"good", b"good"]


@pytest.mark.parametrize(
    "settings",
    [
        {"acks": "some"},
        {"acks": True},
        {"acks": []},
        {"compression": "rar"},
        {"compression": None},
        {"linger": -1},
        {"batch_bytes": 0},
        {"batch_bytes": 1e6},
        {"linger": float("nan")},
        {"linger": 120},
        {"linger": 5, "delivery_timeout": 5.0},
        {"server": "nowhere"},
        {"server": 5},
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(settings: dict[str, object]) -> None:
    with pytest.raises(errors.InvalidRequest):
        Producer(**settings)  # type: ignore[arg-type]


def test_a_missing_topic_is_created(server: FakeServer) -> None:
    server.auto_create_partitions = 2
    with Producer(server=server.address) as producer:
        producer.send("new", b"x").result(10)
    assert len(server.topics["new"].partitions) == 2


def test_failed_sends_that_nobody_read_are_told_at_the_flush(server: FakeServer) -> None:
    server.produce_script.append(lambda *_: wire_error("INVALID_TIMESTAMP", "from the far future"))
    server.produce_script.append(lambda *_: wire_error("INVALID_TIMESTAMP", "from the far future"))
    with Producer(server=server.address, linger=60) as producer:
        producer.send("single", b"x")
        with pytest.raises(errors.SendsFailed, match=r"^1 record was not sent"):
            producer.flush()
        for _ in range(3):
            producer.send("single", b"x")
        with pytest.raises(errors.SendsFailed, match=r"^3 records were .* from the far future") as told:
            producer.flush()
        assert told.value.count == 3
        assert isinstance(told.value.errors[0], errors.InvalidTimestamp)
        producer.flush()


def test_failed_sends_that_somebody_read_are_not_told_again(server: FakeServer) -> None:
    server.produce_script.append(lambda *_: wire_error("INVALID_TIMESTAMP"))
    with Producer(server=server.address, linger=60) as producer:
        futures = [producer.send("single", b"x") for _ in range(3)]
        for future in futures:
            with pytest.raises(errors.InvalidTimestamp):
                future.result(10)
        producer.flush()


def test_leaving_the_block_tells_of_failed_sends_unless_something_else_is_told(server: FakeServer) -> None:
    server.produce_script.append(lambda *_: wire_error("INVALID_TIMESTAMP"))
    with pytest.raises(errors.SendsFailed):
        with Producer(server=server.address) as producer:
            producer.send("single", b"x")
    server.produce_script.append(lambda *_: wire_error("INVALID_TIMESTAMP"))
    with pytest.raises(RuntimeError, match="of the block") as raised:
        send_and_fail(server)
    assert "SendsFailed" in raised.value.__notes__[0]


def send_and_fail(server: FakeServer) -> None:
    with Producer(server=server.address) as producer:
        producer.send("single", b"x")
        raise RuntimeError("of the block")


def test_leaving_the_block_sends_what_is_in_the_buffer_and_ends(server: FakeServer) -> None:
    with Producer(server=server.address, linger=60) as producer:
        producer.send("single", b"x")
    assert server.topics["single"].partitions[0].values == [b"x"]
    with pytest.raises(errors.ClientClosed):
        producer.send("single", b"y")
    producer.close()


def test_a_closed_producer_is_no_context_any_more() -> None:
    with Producer() as producer:
        pass
    with pytest.raises(errors.ClientClosed):
        producer.__enter__()


def test_a_producer_that_never_sent_ends_without_a_server() -> None:
    with Producer(server="127.0.0.1:1") as producer:
        producer.flush()
    with pytest.raises(errors.ClientClosed):
        producer.send("single", b"x")


def test_an_unreachable_server_is_told_in_less_than_five_seconds() -> None:
    started = time.monotonic()
    with Producer(server="127.0.0.1:1") as producer:
        with pytest.raises(errors.ServerUnreachable, match=r"127\.0\.0\.1:1") as told:
            producer.send("single", b"x")
    assert time.monotonic() - started < 5
    assert "TAILRACE_SERVER" in told.value.remedy


def test_a_server_that_goes_away_during_the_first_call_is_waited_for(server: FakeServer) -> None:
    server.list_offsets_breaks = 3
    with Producer(server=server.address) as producer:
        assert producer.send("single", b"x").result(10).offset == 0
    assert server.list_offsets_breaks == 0


def test_the_server_is_taken_from_the_environment(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAILRACE_SERVER", server.address)
    with Producer() as producer:
        assert producer.send("single", b"x").result(10).offset == 0


def test_added_partitions_are_used_when_they_are_found(server: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tailrace.producer_core.METADATA_SECONDS_MAX", 0.0)
    with Producer(server=server.address, delivery_timeout=1) as producer:
        producer.send("single", b"x").result(10)
        server.call(lambda: server.grow("single", 3))
        while producer._core.accumulator.topics["single"].info.partitions == 1:
            producer.send("single", b"x").result(10)
        assert producer.send("single", b"x", partition=2).result(10).partition == 2


def test_acks_are_asked_for_as_set_and_only_all_is_numbered(server: FakeServer) -> None:
    levels: tuple[str | int, ...] = ("all", 1, 0)
    for number, acks in enumerate(levels):
        with Producer(server=server.address, acks=acks) as producer:
            producer.send("single", b"x").result(10)
        assert server.produce_requests[number].acks == number + 1
    ids = [header.producer_id for header in server.topics["single"].partitions[0].headers]
    assert ids[0] >= 0
    assert ids[1:] == [-1, -1]


def test_a_stream_that_breaks_at_once_is_made_anew(server: FakeServer) -> None:
    server.produce_script.extend([BREAK, BREAK])
    with Producer(server=server.address) as producer:
        assert producer.send("single", b"x").result(10).offset == 0


def test_a_batch_that_falls_due_while_the_sender_looks_is_sent(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a busy machine time passes between two looks at the clock. Here every other look is 10 ms ahead."""
    loop = io_thread().loop
    real, looks = loop.time, itertools.count()
    monkeypatch.setattr(loop, "time", lambda: real() + next(looks) % 2 / 100)
    with Producer(server=server.address, linger=0.005) as producer:
        for _ in range(100):
            sent = threading.Event()
            producer.send("single", b"x").add_done_callback(lambda _, sent=sent: sent.set())  # type: ignore[misc]
            assert sent.wait(5), "the batch was left until something else happened"


@pytest.mark.parametrize(("values", "keys"), [("abc", None), (b"abc", None), (["a", "b"], "ab")])
def test_one_text_is_not_taken_for_a_list_of_its_letters(server: FakeServer, values: Any, keys: Any) -> None:
    with Producer(server=server.address) as producer:
        with pytest.raises(errors.InvalidRequest, match="as a list"):
            producer.send_many("single", values, keys)
    assert server.topics["single"].partitions[0].values == []
