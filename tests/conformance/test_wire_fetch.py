"""Fetch requests: what they wait for, what they give, and the sessions that leave out what has not changed."""

import time
import uuid
from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from tests.conformance.batches import batch, offsets
from tests.conformance.brokers import Broker
from tests.conformance.clients import Client, Message
from tests.conformance.wire import Connection

#: A wait that a test sits out; nothing may be decided by its being long.
WAIT_MS = 500


def fetch_request(topic: str, offset: int = 0, **options: Any) -> dict[str, Any]:
    """One partition of version 11, where topics have names."""
    partition = {"partition": options.pop("partition", 0), "fetch_offset": offset}
    partition["partition_max_bytes"] = options.pop("partition_max_bytes", 2**20)
    partition["current_leader_epoch"] = options.pop("current_leader_epoch", -1)
    asked: dict[str, Any] = {"replica_id": -1, "max_wait": 0, "min_bytes": 1, "max_bytes": 2**24}
    return asked | {"topics": [{"topic": topic, "partitions": [partition]}]} | options


def fetch(wire: Connection, topic: str, offset: int = 0, **options: Any) -> Any:
    """The answer for the one partition."""
    answer = wire.ask("fetch", 11, **fetch_request(topic, offset, **options))
    assert answer.error_code == 0
    return answer.responses[0].partitions[0]


@pytest.fixture
def three_batches(topic: str, maker: Client) -> str:
    """Offsets 0 to 2, 3 to 5 and 6 to 8, each in a batch of its own."""
    for _ in range(3):
        maker.produce(topic, [Message(b"x" * 100) for _ in range(3)])
    return topic


@pytest.mark.parametrize("version", range(4, 13))
def test_every_version_gives_the_records_and_where_the_log_ends(
    wire: Connection, three_batches: str, version: int
) -> None:
    request = fetch_request(three_batches)
    if version < 9:
        del request["topics"][0]["partitions"][0]["current_leader_epoch"]
    answer = wire.ask("fetch", version, **request)
    part = answer.responses[0].partitions[0]
    assert (part.error_code, part.high_watermark, part.last_stable_offset) == (0, 9, 9)
    assert offsets(part.records) == list(range(9))
    if version >= 5:
        assert part.log_start_offset == 0


def test_whole_batches_are_given_from_the_one_that_has_the_offset(wire: Connection, three_batches: str) -> None:
    assert offsets(fetch(wire, three_batches, 4).records) == [3, 4, 5, 6, 7, 8]


def test_the_limit_of_a_partition_is_kept_to_a_batch(wire: Connection, three_batches: str) -> None:
    one_batch = len(fetch(wire, three_batches, 6).records)
    given = fetch(wire, three_batches, 0, partition_max_bytes=2 * one_batch).records
    assert offsets(given) == [0, 1, 2, 3, 4, 5]


def test_at_least_one_batch_is_given_however_large_it_is(wire: Connection, three_batches: str) -> None:
    given = fetch(wire, three_batches, 3, partition_max_bytes=1, max_bytes=1).records
    assert offsets(given)[:3] == [3, 4, 5]


def test_a_fetch_waits_for_bytes_that_do_not_come(wire: Connection, topic: str) -> None:
    started = time.monotonic()
    part = fetch(wire, topic, max_wait=WAIT_MS)
    assert time.monotonic() - started >= WAIT_MS / 1000 - 0.01
    assert (part.error_code, part.records or b"") == (0, b"")


def test_a_fetch_that_waits_is_answered_when_bytes_come(broker: Broker, wire: Connection, topic: str) -> None:
    wire.send("fetch", 11, **fetch_request(topic, max_wait=25_000))
    with Connection(broker.address) as other:
        data = [{"name": topic, "partition_data": [{"index": 0, "records": batch([b"a"])}]}]
        started = time.monotonic()
        assert other.ask("produce", 9, acks=-1, timeout=10_000, topic_data=data).responses[0].name == topic
        assert offsets(wire.receive().responses[0].partitions[0].records) == [0]
    assert time.monotonic() - started < 20


def test_a_fetch_waits_for_as_many_bytes_as_it_wants(broker: Broker, wire: Connection, three_batches: str) -> None:
    size = len(fetch(wire, three_batches).records)
    wire.send("fetch", 11, **fetch_request(three_batches, max_wait=25_000, min_bytes=size + 1))
    with Connection(broker.address) as other:
        data = [{"name": three_batches, "partition_data": [{"index": 0, "records": batch([b"a"])}]}]
        other.ask("produce", 9, acks=-1, timeout=10_000, topic_data=data)
    assert offsets(wire.receive().responses[0].partitions[0].records) == list(range(10))


def test_a_fetch_that_wants_nothing_does_not_wait(wire: Connection, topic: str) -> None:
    started = time.monotonic()
    assert fetch(wire, topic, max_wait=25_000, min_bytes=0).error_code == 0
    assert time.monotonic() - started < 20


def test_an_error_is_answered_without_waiting(wire: Connection, three_batches: str) -> None:
    started = time.monotonic()
    assert fetch(wire, three_batches, 10, max_wait=25_000).error_code == ErrorCode.offset_out_of_range
    assert time.monotonic() - started < 20


def test_offsets_before_and_after_the_log_are_out_of_range(wire: Connection, three_batches: str, maker: Client) -> None:
    maker.delete_records(three_batches, 0, 4)
    before = fetch(wire, three_batches, 3)
    assert before.error_code == ErrorCode.offset_out_of_range
    # So far the client learns nothing of where it could go on.
    assert (before.high_watermark, before.log_start_offset) == (-1, -1)
    assert fetch(wire, three_batches, 4).error_code == 0
    assert fetch(wire, three_batches, 9).error_code == 0, "the log end is where the next record will be"
    assert fetch(wire, three_batches, 10).error_code == ErrorCode.offset_out_of_range
    assert fetch(wire, three_batches, -1).error_code == ErrorCode.offset_out_of_range


def test_an_unknown_topic_or_partition_is_said(wire: Connection, topic: str) -> None:
    assert fetch(wire, "not-there").error_code == ErrorCode.unknown_topic_or_partition
    assert fetch(wire, topic, partition=9).error_code == ErrorCode.unknown_topic_or_partition
    assert fetch(wire, topic, partition=-1).error_code == ErrorCode.unknown_topic_or_partition


def test_an_unknown_topic_id_is_said(wire: Connection) -> None:
    partition = {"partition": 0, "fetch_offset": 0, "partition_max_bytes": 2**20}
    topics = [{"topic_id": uuid.uuid4(), "partitions": [partition]}]
    answer = wire.ask("fetch", 13, max_wait=0, min_bytes=1, max_bytes=2**24, topics=topics, replica_id=-1)
    assert answer.responses[0].partitions[0].error_code == ErrorCode.unknown_topic_id


def test_a_topic_may_be_named_by_its_id(wire: Connection, three_batches: str) -> None:
    topic_id = wire.ask("metadata", 12, topics=[{"name": three_batches}]).topics[0].topic_id
    partition = {"partition": 0, "fetch_offset": 6, "partition_max_bytes": 2**20}
    topics = [{"topic_id": topic_id, "partitions": [partition]}]
    answer = wire.ask("fetch", 15, max_wait=0, min_bytes=1, max_bytes=2**24, topics=topics)
    assert answer.responses[0].topic_id == topic_id
    assert offsets(answer.responses[0].partitions[0].records) == [6, 7, 8]


def test_the_epoch_of_another_leader_is_refused(wire: Connection, three_batches: str) -> None:
    epoch = wire.ask("metadata", 9, topics=[{"name": three_batches}]).topics[0].partitions[0].leader_epoch
    assert fetch(wire, three_batches, current_leader_epoch=epoch).error_code == 0
    assert fetch(wire, three_batches, current_leader_epoch=epoch + 1).error_code == ErrorCode.unknown_leader_epoch


def test_a_batch_is_given_with_its_offset_and_the_leaders_epoch(wire: Connection, topic: str) -> None:
    written = batch([b"a", b"b"])
    data = [{"name": topic, "partition_data": [{"index": 0, "records": written}]}]
    wire.ask("produce", 9, acks=-1, timeout=10_000, topic_data=data)
    wire.ask("produce", 9, acks=-1, timeout=10_000, topic_data=data)
    epoch = wire.ask("metadata", 9, topics=[{"name": topic}]).topics[0].partitions[0].leader_epoch
    given = fetch(wire, topic, 2).records
    prefix = (2).to_bytes(8, "big") + written[8:12] + epoch.to_bytes(4, "big")
    assert given == prefix + written[16:], "but for offset and epoch the bytes are the producer's"


class Session:
    """A fetch session over the partitions of one topic."""

    def __init__(self, wire: Connection, topic: str, partitions: int) -> None:
        self._wire = wire
        self._topic = topic
        opened = self.ask(0, 0, dict.fromkeys(range(partitions), 0))
        assert opened.error_code == 0
        self.id = opened.session_id

    def ask(self, session_id: int, epoch: int, partitions: dict[int, int], forget: tuple[int, ...] = ()) -> Any:
        """`partitions` are those that are new or read on from elsewhere, with the offset."""
        asked = [
            {"partition": partition, "fetch_offset": offset, "partition_max_bytes": 2**20, "current_leader_epoch": -1}
            for partition, offset in partitions.items()
        ]
        return self._wire.ask(
            "fetch",
            11,
            replica_id=-1,
            max_wait=0,
            min_bytes=1,
            max_bytes=2**24,
            session_id=session_id,
            session_epoch=epoch,
            topics=[{"topic": self._topic, "partitions": asked}] if asked else [],
            forgotten_topics_data=[{"topic": self._topic, "partitions": list(forget)}] if forget else [],
        )


def partitions_in(answer: Any) -> dict[int, list[int]]:
    """Partition: the offsets that were given."""
    return {part.partition_index: offsets(part.records) for each in answer.responses for part in each.partitions}


def test_a_session_gives_only_what_has_changed(wire: Connection, two_partitions: str, maker: Client) -> None:
    session = Session(wire, two_partitions, 2)
    assert session.id != 0
    assert partitions_in(session.ask(session.id, 1, {})) == {}
    maker.produce(two_partitions, [Message(b"a", partition=1)])
    assert partitions_in(session.ask(session.id, 2, {})) == {1: [0]}
    assert partitions_in(session.ask(session.id, 3, {})) == {1: [0]}, "the client has not said that it went on"
    assert partitions_in(session.ask(session.id, 4, {1: 1})) == {}


def test_a_session_forgets_what_it_is_told_to(wire: Connection, two_partitions: str, maker: Client) -> None:
    session = Session(wire, two_partitions, 2)
    maker.produce(two_partitions, [Message(b"a", partition=0), Message(b"b", partition=1)])
    assert partitions_in(session.ask(session.id, 1, {}, forget=(0,))) == {1: [0]}


def test_a_session_is_known_by_its_id(wire: Connection, two_partitions: str) -> None:
    session = Session(wire, two_partitions, 2)
    unknown = session.ask(session.id ^ 1, 1, {})
    assert (unknown.error_code, unknown.session_id) == (ErrorCode.fetch_session_id_not_found, 0)
    assert session.ask(session.id, 1, {}).error_code == 0


def test_a_session_goes_on_with_its_next_epoch_only(wire: Connection, two_partitions: str) -> None:
    session = Session(wire, two_partitions, 2)
    assert session.ask(session.id, 2, {}).error_code == ErrorCode.invalid_fetch_session_epoch
    assert session.ask(session.id, 1, {}).error_code == 0
    assert session.ask(session.id, 1, {}).error_code == ErrorCode.invalid_fetch_session_epoch


def test_a_session_of_another_connection_is_the_same(broker: Broker, wire: Connection, two_partitions: str) -> None:
    session = Session(wire, two_partitions, 2)
    with Connection(broker.address) as other:
        answer = other.ask("fetch", 11, replica_id=-1, session_id=session.id, session_epoch=1, max_bytes=2**24)
    assert (answer.error_code, answer.session_id) == (0, session.id)


def test_a_full_fetch_closes_the_session_it_names(wire: Connection, two_partitions: str) -> None:
    session = Session(wire, two_partitions, 2)
    closing = session.ask(session.id, -1, {0: 0})
    assert (closing.error_code, closing.session_id) == (0, 0)
    assert session.ask(session.id, 1, {}).error_code == ErrorCode.fetch_session_id_not_found


def test_a_session_id_without_a_session_is_unknown(wire: Connection, topic: str) -> None:
    answer = wire.ask("fetch", 11, **fetch_request(topic, session_id=123_456, session_epoch=1))
    assert answer.error_code == ErrorCode.fetch_session_id_not_found
    assert answer.responses == ()


def test_an_error_in_a_session_is_said_every_time(wire: Connection, two_partitions: str) -> None:
    session = Session(wire, two_partitions, 2)
    for epoch in (1, 2):
        (part,) = session.ask(session.id, epoch, {0: 99} if epoch == 1 else {}).responses[0].partitions
        assert (part.partition_index, part.error_code) == (0, ErrorCode.offset_out_of_range)
