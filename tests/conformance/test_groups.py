"""Groups: who has which partition, and where it goes on, through each client with each strategy that it has."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import pytest
from kio.schema.errors import ErrorCode

from tests.conformance.brokers import Broker
from tests.conformance.clients import STRATEGIES, Client, Consumer, Message, Refused
from tests.conformance.waiting import SECONDS_MAX, poll_until, read
from tests.conformance.wire import Connection
from tests.processes import ENVIRONMENT, ROOT

ALL = {0, 1, 2, 3}


def shared(*members: Consumer) -> Callable[[], bool]:
    """Whether the members have the four partitions between them, as many each."""

    def is_shared() -> bool:
        having = [member.assignment() for member in members]
        return set().union(*having) == ALL and all(len(each) == 4 // len(members) for each in having)

    return is_shared


def write(maker: Client, topic: str, count: int) -> None:
    """So many records to each partition."""
    maker.produce(topic, [Message(b"%d" % n, partition=partition) for partition in range(4) for n in range(count)])


class OtherProcess:
    """A member that can be killed. Who waits for it goes on polling meanwhile, or there is no rebalance."""

    def __init__(self, *arguments: str) -> None:
        command = [sys.executable, "-W", "ignore", "-m", "tests.conformance.member", *arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read)
        self._partitions: set[int] = set()
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._partitions = set(json.loads(line))

    def assignment(self) -> set[int]:
        """What it said last."""
        return self._partitions

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()


def test_a_member_alone_has_all_partitions(
    client_strategy: tuple[Client, str], four_partitions: str, group: str, maker: Client
) -> None:
    client, strategy = client_strategy
    write(maker, four_partitions, 3)
    with client.consumer(group=group, strategy=strategy) as consumer:
        consumer.subscribe(four_partitions)
        records = read(consumer, 12)
        assert consumer.assignment() == ALL
    assert sorted((record.partition, record.offset) for record in records) == [(p, n) for p in ALL for n in range(3)]


def test_a_member_that_joins_gets_its_share_and_leaves_it_when_it_goes(
    client_strategy: tuple[Client, str], four_partitions: str, group: str
) -> None:
    client, strategy = client_strategy
    with client.consumer(group=group, strategy=strategy) as first:
        first.subscribe(four_partitions)
        poll_until(shared(first), [first])
        with client.consumer(group=group, strategy=strategy) as second:
            second.subscribe(four_partitions)
            poll_until(shared(first, second), [first, second])
        poll_until(shared(first), [first])


def test_members_read_every_record_once(
    client_strategy: tuple[Client, str], four_partitions: str, group: str, maker: Client
) -> None:
    client, strategy = client_strategy
    if (client.name, strategy) == ("kafka-python", "cooperative-sticky"):
        pytest.skip("kafka-python 3.0.12 stops reading what it keeps in a rebalance, often for 30 s")
    with ExitStack() as stack:
        members: list[Consumer] = []
        for _ in range(2):
            members.append(stack.enter_context(client.consumer(group=group, strategy=strategy)))
            members[-1].subscribe(four_partitions)
            poll_until(shared(*members), members)
        write(maker, four_partitions, 5)
        places: list[tuple[int, int]] = []

        deadline = time.monotonic() + SECONDS_MAX
        while len(places) < 20:
            assert time.monotonic() < deadline, f"{places} and no more; {[each.assignment() for each in members]}"
            for member in members:
                places += [(record.partition, record.offset) for record in member.poll(0.1)]
    assert sorted(places) == [(partition, n) for partition in range(4) for n in range(5)]


def test_a_new_member_goes_on_where_the_last_one_committed(
    client_strategy: tuple[Client, str], four_partitions: str, group: str, maker: Client
) -> None:
    client, strategy = client_strategy
    write(maker, four_partitions, 5)
    with client.consumer(group=group, strategy=strategy) as consumer:
        consumer.subscribe(four_partitions)
        read(consumer, 20)
        consumer.commit(four_partitions, 2, 3, "three are done")
        assert consumer.committed(four_partitions, 2) == 3
        assert consumer.committed(four_partitions, 1) is None
    ((place, at),) = maker.group_offsets(group).items()
    # confluent-kafka sends metadata with the 0 that ends a string in C.
    assert (place, at.offset, at.metadata.rstrip("\0")) == ((four_partitions, 2), 3, "three are done")
    with client.consumer(group=group, strategy=strategy, reset="latest") as consumer:
        consumer.subscribe(four_partitions)
        records = read(consumer, 2)
    assert [(record.partition, record.offset) for record in records] == [(2, 3), (2, 4)]


@pytest.mark.parametrize(
    ("name", "strategy"),
    [("confluent", "range"), ("confluent", "consumer"), ("kafka_python", "range"), ("aiokafka", "roundrobin")],
)
def test_a_member_that_is_killed_loses_its_partitions_after_its_session(
    clients: Callable[[str], Client], name: str, strategy: str, broker: Broker, four_partitions: str, group: str
) -> None:
    """With one strategy of each protocol: a session takes 6 s, and the strategy has no part in it."""
    client = clients(name)
    with client.consumer(group=group, strategy=strategy) as consumer:
        consumer.subscribe(four_partitions)
        poll_until(shared(consumer), [consumer])
        with OtherProcess(name, broker.address, group, four_partitions, strategy) as other:

            def is_shared() -> bool:
                return len(consumer.assignment()) == 2 and consumer.assignment() | other.assignment() == ALL

            poll_until(is_shared, [consumer])
            other.kill()
            poll_until(shared(consumer), [consumer])


@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "aiokafka"])
def test_a_static_member_comes_back_to_its_partitions(
    clients: Callable[[str], Client], name: str, four_partitions: str, group: str
) -> None:
    client = clients(name)
    with client.consumer(group=group, instance="other") as other:
        other.subscribe(four_partitions)
        with client.consumer(group=group, instance="restarted") as member:
            member.subscribe(four_partitions)
            poll_until(shared(other, member), [other, member])
            before = member.assignment()
        kept = other.assignment()
        with client.consumer(group=group, instance="restarted") as member:
            member.subscribe(four_partitions)
            poll_until(lambda: member.assignment() != set(), [other, member])
            assert (member.assignment(), other.assignment()) == (before, kept)


def test_a_static_member_of_the_same_name_takes_the_place_of_the_first(
    clients: Callable[[str], Client], four_partitions: str, group: str
) -> None:
    client = clients("confluent")
    with client.consumer(group=group, instance="one") as first:
        first.subscribe(four_partitions)
        poll_until(shared(first), [first])
        with client.consumer(group=group, instance="one") as second:
            second.subscribe(four_partitions)
            poll_until(shared(second), [second])
            with pytest.raises(Refused) as refusal:
                poll_until(lambda: False, [first])
    assert refusal.value.code == -150, "librdkafka's own for a fatal error"
    assert "fenced" in str(refusal.value)


def test_what_a_member_no_longer_has_it_cannot_commit(
    client: Client, broker: Broker, four_partitions: str, group: str, maker: Client
) -> None:
    """The member is removed by an admin, and so learns it from the answer to its commit."""
    with client.consumer(group=group) as consumer:
        consumer.subscribe(four_partitions)
        poll_until(shared(consumer), [consumer])
        remove_all_members(broker, group)
        with pytest.raises(Refused) as refusal:
            consumer.commit(four_partitions, 0, 1)
    assert refusal.value.code in (ErrorCode.illegal_generation, ErrorCode.unknown_member_id)
    assert maker.group_offsets(group) == {}


def remove_all_members(broker: Broker, group: str) -> None:
    with Connection(broker.address) as wire:
        (described,) = wire.ask("describe_groups", 5, groups=[group]).groups
        members = [{"member_id": member.member_id} for member in described.members]
        assert wire.ask("leave_group", 4, group_id=group, members=members).error_code == 0


def test_a_topic_that_grows_is_shared_anew(
    client_strategy: tuple[Client, str], two_partitions: str, group: str, maker: Client
) -> None:
    client, strategy = client_strategy
    with client.consumer(group=group, strategy=strategy) as consumer:
        consumer.subscribe(two_partitions)
        poll_until(lambda: consumer.assignment() == {0, 1}, [consumer])
        maker.create_partitions(two_partitions, 4)
        poll_until(shared(consumer), [consumer])


def test_more_members_than_partitions_leave_some_without(
    client_strategy: tuple[Client, str], two_partitions: str, group: str
) -> None:
    client, strategy = client_strategy
    with ExitStack() as stack:
        members = [stack.enter_context(client.consumer(group=group, strategy=strategy)) for _ in range(3)]
        for member in members:
            member.subscribe(two_partitions)
        poll_until(lambda: sorted(len(member.assignment()) for member in members) == [0, 1, 1], members)


def test_clients_of_different_kinds_share_a_group(
    clients: Callable[[str], Client], four_partitions: str, group: str
) -> None:
    with ExitStack() as stack:
        members = [
            stack.enter_context(clients(name).consumer(group=group, strategy="range"))
            for name in ("confluent", "kafka_python")
        ]
        for member in members:
            member.subscribe(four_partitions)
        poll_until(shared(*members), members)
