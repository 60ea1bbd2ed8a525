"""Answers are lost, batches refused, streams broken and servers restarted; nothing is lost, repeated or reordered."""

import asyncio
import random
import socket
import threading
from collections.abc import Callable
from itertools import chain
from typing import Any

import pytest

from logstore.batch import BatchHeader
from tailrace import Producer, errors
from tailrace.accumulator import NO_HEADERS
from tailrace.delivery import Batch, SendFuture
from tailrace.metadata import Cluster, TopicInfo
from tailrace.runtime import io_thread
from tailrace.sender import Sender
from tests.tailrace.fake_server import BREAK, HOLD, LOSE_ANSWER, NO_ACKS, TIME_OUT, FakeServer, wire_error


def numbers(server: FakeServer, topic: str = "single", partition: int = 0) -> list[int]:
    return [int(value or b"") for value in server.topics[topic].partitions[partition].values]


def refuse_when(condition: Callable[[BatchHeader], bool], code: str, *, retriable: bool = False) -> Callable[..., Any]:
    return lambda topic, partition, header: wire_error(code, retriable=retriable) if condition(header) else None


def always(header: BatchHeader) -> bool:
    return True


def send_each(producer: Producer, count: int, first: int = 0) -> list[SendFuture]:
    """One batch a record: the next is sent only when the one before is in a request."""
    futures = []
    for number in range(first, first + count):
        futures.append(producer.send("single", str(number)))
        producer._core.accumulator.seal_all()
    return futures


def test_a_lost_answer_is_asked_for_again_and_nothing_is_written_twice(server: FakeServer) -> None:
    server.produce_script.append(LOSE_ANSWER)
    with Producer(server=server.address) as producer:
        assert producer.send("single", b"0").result(10).offset == 0
        assert producer.send("single", b"1").result(10).offset == 1
    assert numbers(server) == [0, 1]
    first, again, _ = (request.partitions[0].batch for request in server.produce_requests)
    assert first == again, "a retry is the same bytes"


def test_a_message_that_the_connection_does_not_take_fails_at_once_and_what_is_sent_with_it_does_not(
    server: FakeServer,
) -> None:
    server.message_bytes_max = 20_000_000  # where its gRPC takes 16 MiB at once
    with Producer(server=server.address, linger=0) as producer:
        before = producer.send("single", b"1")
        large = producer.send("single", b"x" * 17_000_000)
        after = producer.send("single", b"2")
        with pytest.raises(errors.RequestTooLarge, match=r"it was not written: .* larger than max") as refused:
            large.result(10)
        assert "--request-bytes-max" in refused.value.remedy
        before.result(10)
        after.result(10)
    assert numbers(server) == [1, 2]


def test_batches_that_are_too_large_together_are_sent_one_by_one(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.message_bytes_max = 20_000_000  # where its gRPC takes 16 MiB at once
    monkeypatch.setattr("tailrace.sender.REQUEST_BYTES_MAX", 64 << 20)
    with Producer(
        server=server.address, linger=60, batch_bytes=12_000_000, buffer_bytes=128 << 20, delivery_timeout=100
    ) as producer:
        futures = [producer.send("flights", b"x" * 10_000_000, partition=partition) for partition in range(2)]
        producer.flush()
        for future in futures:
            future.result(20)
        (sender,) = producer._core._senders.values()
        assert sender._request_bytes_max < 64 << 20, "they were sent together at first"
    assert [len(request.partitions) for request in server.produce_requests] == [1, 1]


def test_batches_that_were_in_flight_together_are_sent_again_in_their_order(server: FakeServer) -> None:
    server.produce_script.append(HOLD)
    with Producer(server=server.address, linger=0) as producer:
        futures = send_each(producer, 5)
        server.wait_until(lambda: len(server.produce_requests) > 0)
        server.stop()
        server.start()
        assert [future.result(10).offset for future in futures] == list(range(5))
    assert numbers(server) == list(range(5))


def test_no_more_batches_of_a_partition_are_in_flight_than_the_server_remembers(server: FakeServer) -> None:
    server.produce_script.append(HOLD)
    with Producer(server=server.address, linger=0) as producer:
        send_each(producer, 20)
        server.wait_until(lambda: len(server.produce_requests) > 0)
        producer.send("flights", b"another partition is not held up", partition=0)
        queue = producer._core.accumulator.topics["single"].queues[0]
        assert len(queue.in_flight) <= 5
        server.release()
        producer.flush()
        assert max(len(request.partitions) for request in server.produce_requests) <= 5
    assert numbers(server) == list(range(20))


@pytest.mark.parametrize("code", ["OVERLOADED", "STORAGE_FULL", "REQUEST_TIMED_OUT", "SHUTTING_DOWN"])
def test_what_is_refused_for_now_is_sent_again_before_what_came_after_it(server: FakeServer, code: str) -> None:
    server.produce_script.append(refuse_when(lambda header: header.base_sequence == 0, code, retriable=True))
    with Producer(server=server.address, linger=0) as producer:
        futures = send_each(producer, 5)
        assert [future.result(10).offset for future in futures] == list(range(5))
    assert numbers(server) == list(range(5))


def test_after_a_batch_failed_for_good_the_next_ones_are_numbered_anew_and_written(server: FakeServer) -> None:
    server.produce_script.append(HOLD)
    with Producer(server=server.address, linger=0) as producer:
        producer.send("single", b"0")
        server.wait_until(lambda: len(server.produce_requests) == 1)
        server.produce_script.append(refuse_when(lambda header: header.base_sequence == 1, "INVALID_TIMESTAMP"))
        futures = send_each(producer, 4, first=1)
        server.release()
        with pytest.raises(errors.InvalidTimestamp):
            futures[0].result(10)
        assert [future.result(10).offset for future in futures[1:]] == [1, 2, 3]
    assert numbers(server) == [0, 2, 3, 4]
    headers = server.topics["single"].partitions[0].headers
    assert [(header.producer_epoch, header.base_sequence) for header in headers] == [(0, 0), (1, 0), (1, 1), (1, 2)]


def test_a_batch_in_doubt_is_never_numbered_anew(server: FakeServer) -> None:
    """Refused after its answer was lost, it may be in the log all the same: writing it again could write it twice."""
    server.produce_script.append(LOSE_ANSWER)
    server.produce_script.append(refuse_when(always, "UNKNOWN_PRODUCER_ID"))
    with Producer(server=server.address, linger=0) as producer:
        with pytest.raises(errors.UnknownProducerId, match="may have been written then"):
            producer.send("single", b"0").result(10)
        assert producer.send("single", b"1").result(10).offset == 1
    assert numbers(server) == [0, 1]


def test_a_batch_that_may_have_been_written_before_it_was_refused_is_in_doubt_too(server: FakeServer) -> None:
    server.produce_script.append(TIME_OUT)
    server.produce_script.append(refuse_when(always, "UNKNOWN_PRODUCER_ID"))
    with Producer(server=server.address, linger=0) as producer:
        with pytest.raises(errors.UnknownProducerId, match="may have been written then"):
            producer.send("single", b"0").result(10)
    assert numbers(server) == [0]


def send_past_its_deadline(server: FakeServer, producer: Producer) -> SendFuture:
    """A batch whose answer is held until its time is over."""
    server.produce_script.append(HOLD)
    held = producer.send("single", b"0")
    server.wait_until(lambda: len(server.produce_requests) == 1)
    return held


def expire(held: SendFuture) -> None:
    held._batch.deadline = 0
    with pytest.raises(errors.DeliveryTimedOut):
        held.result(10)


def test_what_was_in_flight_behind_a_batch_that_timed_out_keeps_its_number(server: FakeServer) -> None:
    with Producer(server=server.address, linger=0, delivery_timeout=5) as producer:
        held = send_past_its_deadline(server, producer)
        server.produce_script.append(LOSE_ANSWER)
        (behind,) = send_each(producer, 1, first=1)
        expire(held)
        server.release()
        assert behind.result(10).offset == 1
    assert numbers(server) == [0, 1]


def test_what_is_numbered_anew_waits_for_what_is_in_flight(server: FakeServer) -> None:
    with Producer(server=server.address, linger=0, delivery_timeout=5) as producer:
        held = send_past_its_deadline(server, producer)
        server.produce_script.append(refuse_when(always, "OVERLOADED", retriable=True))
        (behind,) = send_each(producer, 1, first=1)
        expire(held)
        (anew,) = send_each(producer, 1, first=2)
        server.release()
        assert (behind.result(10).offset, anew.result(10).offset) == (1, 2)
    assert numbers(server) == [0, 1, 2]


def test_a_producer_that_was_forgotten_begins_anew(server: FakeServer) -> None:
    with Producer(server=server.address) as producer:
        producer.send("single", b"0").result(10)
        server.call(server.forget_producers, "single")
        assert producer.send("single", b"1").result(10).offset == 1
        assert producer.send("single", b"2").result(10).offset == 2
    headers = server.topics["single"].partitions[0].headers
    assert [(header.producer_epoch, header.base_sequence) for header in headers] == [(0, 0), (1, 0), (1, 1)]


def test_a_server_that_lost_what_it_acknowledged_is_found_out(server: FakeServer) -> None:
    with Producer(server=server.address) as producer:
        producer.send("single", b"0").result(10)
        server.produce_script.append(refuse_when(always, "OUT_OF_ORDER_SEQUENCE_NUMBER"))
        with pytest.raises(errors.OutOfOrderSequenceNumber):
            producer.send("single", b"1").result(10)
        assert producer.send("single", b"2").result(10).offset == 1


def test_a_batch_that_was_written_too_long_ago_to_say_where_is_done(server: FakeServer) -> None:
    server.produce_script.append(refuse_when(always, "DUPLICATE_SEQUENCE_NUMBER"))
    with Producer(server=server.address) as producer:
        assert producer.send("single", b"0").result(10).offset == -1


def test_a_topic_made_again_is_an_error_and_then_another_topic(server: FakeServer) -> None:
    with Producer(server=server.address, linger=60) as producer:
        producer.send("single", b"0").result(10)
        server.call(server.add_topic, "single", 1)
        doomed = [producer.send("single", b"1") for _ in range(3)]
        for future in doomed:
            with pytest.raises(errors.UnknownTopicId):
                future.result(10)
        assert producer.send("single", b"2").result(10).offset == 0
    assert numbers(server) == [2]


def test_a_late_refusal_for_a_topic_that_was_made_again_leaves_the_new_one_alone(server: FakeServer) -> None:
    with Producer(server=server.address, linger=60) as producer:
        producer.send("single", b"0").result(10)
        accumulator = producer._core.accumulator
        old = accumulator.topics["single"]
        server.call(server.add_topic, "single", 1)
        assert isinstance(producer.send("single", b"1").exception(10), errors.UnknownTopicId)
        new = producer.send("single", b"2")
        # A thread that looked the topic up before it was forgotten, and appends only now.
        late = accumulator.append(old, old.queues[0], None, None, b"late", NO_HEADERS)
        assert not isinstance(late, int)
        late[0].wait(10)
        assert isinstance(late[0].error, errors.UnknownTopicId)
        assert not new.done()
        assert new.result(10).offset == 0
        assert producer.send("single", b"3").result(10).offset == 1
        with pytest.raises(errors.SendsFailed):
            producer.flush()  # Nobody read the late one.
    assert numbers(server) == [2, 3]


def test_partitions_of_a_topic_that_was_made_again_are_not_taken_for_added_ones(server: FakeServer) -> None:
    with Producer(server=server.address) as producer:
        producer.send("single", b"0").result(10)
        server.call(server.add_topic, "single", 3)
        core = producer._core
        assert core._cluster is not None
        core.accumulator.add_topic(io_thread().run(core._cluster.find("single")))
        with pytest.raises(errors.UnknownTopicOrPartition):
            producer.send("single", b"1", partition=2)
        assert isinstance(producer.send("single", b"2").exception(10), errors.UnknownTopicId)
        assert producer.send("single", b"3", partition=2).result(10).offset == 0


def test_a_topic_that_was_known_is_not_made_again_by_sending_to_it(server: FakeServer) -> None:
    with Producer(server=server.address) as producer:
        producer.send("single", b"0").result(10)
        server.call(server.topics.pop, "single")
        with pytest.raises(errors.UnknownTopicId):
            producer.send("single", b"1").result(10)
        with pytest.raises(errors.UnknownTopicOrPartition):
            producer.send("single", b"2")
    assert "single" not in server.topics


def test_a_send_that_is_not_acknowledged_in_time_fails_and_says_what_is_known(server: FakeServer) -> None:
    with Producer(server=server.address, delivery_timeout=0.5, linger=0) as producer:
        producer.send("single", b"0").result(10)
        server.stop()
        with pytest.raises(
            errors.DeliveryTimedOut, match=r"a batch of 1 record to .* was not acknowledged within"
        ) as told:
            producer.send("single", b"1").result(10)
        assert told.value.retriable
        server.start()
        assert producer.send("single", b"2").result(10).offset in (1, 2)
    assert numbers(server) in ([0, 2], [0, 1, 2])


def test_a_send_to_a_server_that_is_gone_says_that_nobody_listens(server: FakeServer) -> None:
    with Producer(server=server.address, delivery_timeout=1.0, linger=0) as producer:
        producer.send("single", b"0").result(10)
        server.stop()
        with pytest.raises(errors.DeliveryTimedOut) as told:
            producer.send("single", b"1").result(10)
        assert told.value.message.endswith(
            f"the last attempt met this: connection refused: no server listens at {server.address}"
        )
        server.start()


def test_an_answer_that_comes_too_late_is_ignored_and_the_rest_goes_on(server: FakeServer) -> None:
    with Producer(server=server.address, delivery_timeout=0.3, linger=0) as producer:
        producer.send("single", b"0").result(10)
        server.produce_script.append(HOLD)
        with pytest.raises(errors.DeliveryTimedOut, match="may have been written or not"):
            producer.send("single", b"1").result(10)
        server.release()
        assert producer.send("single", b"2").result(10).offset == 2
    assert numbers(server) == [0, 1, 2]


def test_sends_time_out_also_after_something_unexpected(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [RuntimeError("of the test")]

    def expire(sender: Sender, now: float) -> None:
        if failures:
            raise failures.pop()
        real(sender, now)

    real = Sender.expire
    monkeypatch.setattr(Sender, "expire", expire)
    server.produce_script.append(HOLD)
    with Producer(server=server.address, delivery_timeout=0.3, linger=0) as producer:
        with pytest.raises(errors.DeliveryTimedOut):
            producer.send("single", b"0").result(10)
        server.release()
    assert "of the test" in caplog.text


def test_sends_time_out_also_while_nobody_answers_what_has_become_of_their_topic(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()

    async def find(*_: Any, **__: Any) -> TopicInfo:
        asked.set()
        await asyncio.get_running_loop().create_future()
        raise AssertionError

    monkeypatch.setattr("tailrace.producer_core.METADATA_SECONDS_MAX", 0.0)
    with Producer(server=server.address, delivery_timeout=0.5, linger=0) as producer:
        producer.send("single", b"0").result(10)
        monkeypatch.setattr(Cluster, "find", find)
        assert asked.wait(10)
        server.produce_script.append(HOLD)
        with pytest.raises(errors.DeliveryTimedOut):
            producer.send("single", b"1").result(10)
        server.release()


def test_topics_are_looked_at_again_after_something_unexpected(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [RuntimeError("of the test")]
    asked_again = threading.Event()

    async def find(cluster: Cluster, topic: str, **how: bool) -> TopicInfo:
        if failures:
            raise failures.pop()
        asked_again.set()
        return await real(cluster, topic, **how)

    real = Cluster.find
    monkeypatch.setattr("tailrace.producer_core.METADATA_SECONDS_MAX", 0.0)
    with Producer(server=server.address) as producer:
        producer.send("single", b"0").result(10)
        monkeypatch.setattr(Cluster, "find", find)
        assert asked_again.wait(10)
    assert "of the test" in caplog.text


def test_a_restart_of_the_server_is_ridden_out(server: FakeServer) -> None:
    with Producer(server=server.address, batch_bytes=200) as producer:
        for number in range(3_000):
            producer.send("single", str(number))
            if number in (500, 1_500):
                server.stop()
                server.start()
        producer.flush()
    assert numbers(server) == list(range(3_000))


def sender_of(producer: Producer) -> Sender:
    (sender,) = producer._core._senders.values()
    return sender


def on_the_io_thread(condition: Callable[[], bool]) -> None:
    """Wait until something is true of what the I/O thread does."""

    async def wait() -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    io_thread().run(wait())


@pytest.fixture
def answer_seconds(monkeypatch: pytest.MonkeyPatch) -> float:
    """How long an answer may take; far shorter than a delivery, so that what is not recovered fails the test soon."""
    monkeypatch.setattr("tailrace.sender.ANSWER_SECONDS_MAX", 2.0)
    return 2.0


def let_pass(sender: Sender, seconds: float) -> None:
    async def expire() -> None:
        sender.expire(asyncio.get_running_loop().time() + seconds)

    io_thread().run(expire())


def test_a_request_that_is_never_answered_is_sent_again_over_another_stream(
    server: FakeServer, answer_seconds: float
) -> None:
    server.produce_script.append(HOLD)
    with Producer(server=server.address, linger=0, delivery_timeout=8) as producer:
        held = producer.send("single", b"0")
        server.wait_until(lambda: len(server.produce_requests) == 1)
        sender = sender_of(producer)
        on_the_io_thread(lambda: all(request.sent_at < float("inf") for request in sender._requests.values()))
        let_pass(sender, answer_seconds + 1)
        assert held.result(10).offset == 0
        assert producer.send("single", b"1").result(10).offset == 1
    assert numbers(server) == [0, 1]
    first, again, _ = (request.partitions[0].batch for request in server.produce_requests)
    assert first == again


def test_an_outage_longer_than_an_answer_may_take_is_ridden_out(server: FakeServer, answer_seconds: float) -> None:
    with Producer(server=server.address, linger=0, delivery_timeout=8) as producer:
        producer.send("single", b"0").result(10)
        sender = sender_of(producer)
        server.stop()
        on_the_io_thread(lambda: sender._call is None)
        buffered = producer.send("single", b"1")
        on_the_io_thread(lambda: bool(sender._requests))  # It waits for the server to take it.
        let_pass(sender, answer_seconds + 1)
        server.start()
        assert buffered.result(10).offset == 1
    assert numbers(server) == [0, 1]


def test_what_an_answer_that_cannot_be_read_was_for_is_sent_again(server: FakeServer) -> None:
    server.produce_script.append(NO_ACKS)
    with Producer(server=server.address, linger=0, delivery_timeout=8) as producer:
        assert producer.send("single", b"0").result(10).offset == 0
        assert producer.send("single", b"1").result(10).offset == 1
    assert numbers(server) == [0, 1]


def test_a_batch_that_cannot_be_built_takes_no_other_with_it(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [None, MemoryError("of the test")]

    def build(batch: Batch) -> bytearray:
        if batch.data is None and failures and (failure := failures.pop(0)) is not None:
            raise failure
        return real(batch)

    async def send_all() -> None:
        producer._core.accumulator.seal_all()

    real = Batch.build
    monkeypatch.setattr(Batch, "build", build)
    with Producer(server=server.address, linger=7, delivery_timeout=8) as producer:
        futures = [producer.send("flights", b"0", partition=partition) for partition in (0, 1)]
        io_thread().run(send_all())  # Seen by the sender at once, so that they travel together.
        assert [future.exception(10) for future in futures] == [None, None]
        assert not failures
    assert [numbers(server, "flights", partition) for partition in range(4)] == [[0], [0], [], []]
    for partition in (0, 1):
        (header,) = server.topics["flights"].partitions[partition].headers
        assert header.producer_id >= 0, "a batch that was built at the second attempt is numbered, too"


def test_what_is_in_flight_when_another_producer_id_is_needed_is_sent_again(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tailrace.sequences.EPOCH_MAX", 0)
    with Producer(server=server.address, linger=0, delivery_timeout=8) as producer:
        server.produce_script.append(refuse_when(always, "INVALID_TIMESTAMP"))
        assert isinstance(producer.send("flights", b"0", partition=0).exception(10), errors.InvalidTimestamp)
        server.produce_script.append(HOLD)
        held = producer.send("single", b"0")
        server.wait_until(lambda: len(server.produce_requests) == 2)
        assert producer.send("flights", b"1", partition=0).result(10).offset == 0
        assert held.result(10).offset == 0
    assert numbers(server) == [0]
    ids = [server.topics[topic].partitions[0].headers[0].producer_id for topic in ("single", "flights")]
    assert ids[0] != ids[1]


def test_what_is_left_when_the_process_ends_is_told_to_whoever_waits(server: FakeServer) -> None:
    server.produce_script.append(HOLD)
    producer = Producer(server=server.address, linger=0)
    held = producer.send("single", b"0")
    server.wait_until(lambda: len(server.produce_requests) == 1)
    io_thread().run(producer._core.close(abandon_after=0.01))
    with pytest.raises(errors.ClientClosed, match="may have been written or not"):
        held.result(5)


def test_a_thread_that_learns_a_topic_is_told_that_another_has_closed_the_producer(server: FakeServer) -> None:
    met: list[Exception] = []

    def send() -> None:
        try:
            producer.send("flights", b"x")
        except Exception as error:
            met.append(error)

    producer = Producer(server=server.address)
    producer.send("single", b"x").result(10)
    server.stop()
    core = producer._core
    thread = threading.Thread(target=send)
    thread.start()
    on_the_io_thread(lambda: "flights" in core._topic_locks and core._topic_locks["flights"].locked())
    producer.close()
    thread.join(10)
    assert [type(error) for error in met] == [errors.ClientClosed]


def test_a_thread_that_connects_is_told_that_another_has_closed_the_producer() -> None:
    met: list[Exception] = []

    def send() -> None:
        try:
            producer.send("single", b"x")
        except Exception as error:
            met.append(error)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        producer = Producer(server=f"127.0.0.1:{silent.getsockname()[1]}", connect_timeout=8)
        thread = threading.Thread(target=send)
        thread.start()
        connection, _ = silent.accept()
        with connection:  # It is connected, and waits for an answer.
            producer.close()
            thread.join(10)
    assert [type(error) for error in met] == [errors.ClientClosed]


def test_without_numbers_order_is_kept_through_refusals(server: FakeServer) -> None:
    server.produce_script.extend([refuse_when(always, "OVERLOADED", retriable=True)] * 3)
    with Producer(server=server.address, acks=1, linger=0) as producer:
        futures = send_each(producer, 10)
        assert [future.result(10).offset for future in futures] == list(range(10))
    assert numbers(server) == list(range(10))


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_nothing_is_lost_repeated_or_reordered(server: FakeServer, seed: int) -> None:
    rng = random.Random(seed)

    def sometimes(code: str, *, retriable: bool) -> Callable[..., Any]:
        return lambda *_: wire_error(code, retriable=retriable) if rng.random() < 0.3 else None

    happenings: list[Any] = [LOSE_ANSWER, BREAK, None, None]
    passing = [sometimes(code, retriable=True) for code in ("OVERLOADED", "REQUEST_TIMED_OUT")]
    final = sometimes("INVALID_TIMESTAMP", retriable=False)
    futures: list[SendFuture] = []
    with Producer(server=server.address, batch_bytes=rng.choice([100, 400, 5_000]), linger=0.001) as producer:
        for number in range(3_000):
            if rng.random() < 0.01:
                server.produce_script.append(rng.choice([*happenings, *passing, final]))
            futures.append(producer.send("flights", str(number), key=str(number % 50)))
        server.produce_script.clear()
        outcomes = [future.exception(30) for future in futures]
    by_partition = [numbers(server, "flights", partition) for partition in range(4)]
    for written in by_partition:
        assert written == sorted(set(written)), f"seed {seed}: repeated or reordered"
    written_at_all = set(chain.from_iterable(by_partition))
    for number, (future, error) in enumerate(zip(futures, outcomes, strict=True)):
        if error is not None:
            assert number not in written_at_all or "may have been written" in str(error), f"seed {seed}"
        else:
            _, partition, offset, _ = future.result()
            assert by_partition[partition][offset] == number
