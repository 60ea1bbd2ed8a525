"""A member of a group: what it is given and loses, and what it may commit of it."""

import threading
import time
from collections.abc import Callable

import pytest

from logwire.v1 import groups_pb2
from tailrace import Consumer, TopicPartition, errors
from tailrace.runtime import io_thread
from tests.tailrace.fake_server import HOLD, FakeServer, wire_error
from tests.tailrace.test_consumer import fill

P0, P1 = ("flights", 0), ("flights", 1)


@pytest.fixture
def group(server: FakeServer) -> FakeServer:
    """Partition 0 has a hundred records, 1 fifty. Whoever joins is given both."""
    fill(server, {0: 100, 1: 50}, batch_records=10)
    server.first_assignment = {P0, P1}
    return server


def join(server: FakeServer, **settings: object) -> Consumer:
    settings = {"auto_commit_interval": 3600.0} | settings
    return Consumer("flights", group="g", server=server.address, **settings)  # type: ignore[arg-type]


def owned_by(server: FakeServer, *partitions: tuple[str, int]) -> Callable[[], bool]:
    """True once the one member has told that it owns exactly these."""
    return lambda: [member.owned for member in server.members.values()] == [set(partitions)]


def wait_for(condition: Callable[[], bool]) -> None:
    """Until something is true of the client, which tells nobody."""
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until, "what the test waits for did not happen"
        time.sleep(0.001)


def read_until(consumer: Consumer, condition: Callable[[], bool]) -> list[tuple[int, int]]:
    """Poll until something is true."""
    seen = []
    for _ in range(10_000):
        record = consumer.poll(0.01)
        if record is not None:
            seen.append((record.partition, record.offset))
        if condition():
            return seen
    raise AssertionError("it did not happen")


def test_a_member_joins_with_what_it_wants_and_tells_what_it_was_given(group: FakeServer) -> None:
    with join(group, stop_at_end=True, rebalance_timeout=30, assignor="range") as consumer:
        assert len(list(consumer)) == 150
        group.wait_until(owned_by(group, P0, P1))
        (member,) = group.members.values()
        assert member.subscribed == ["flights"]
        assert consumer.assignment == [TopicPartition(*P0), TopicPartition(*P1)]
    first = group.heartbeats[0]
    assert (first.member_epoch, first.rebalance_timeout_ms, first.assignor) == (0, 30_000, "range")
    assert group.committed == {P0: 100, P1: 50}
    assert group.members == {}, "it has said goodbye"
    assert group.heartbeats[-1].member_epoch == -1


def test_a_static_member_says_that_it_comes_back(group: FakeServer) -> None:
    with join(group, instance_id="i-1") as consumer:
        consumer.poll(10)
    assert group.heartbeats[0].instance_id == "i-1"
    assert group.heartbeats[-1].member_epoch == -2


def test_heartbeats_go_on_while_the_application_is_at_work(group: FakeServer) -> None:
    with join(group) as consumer:
        consumer.poll(10)
        beats = len(group.heartbeats)
        group.wait_until(lambda: len(group.heartbeats) > beats + 3)


def test_a_revoked_partition_stops_at_once_and_is_given_up_when_the_application_comes_back(group: FakeServer) -> None:
    with join(group) as consumer:
        for record in consumer:
            if record.partition == 0:
                break
        assert record.offset == 0
        group.wait_until(owned_by(group, P0, P1))
        group.assign(group.joined[0], {P1})
        group.wait_until(lambda: consumer.assignment == [TopicPartition(*P1)])
        assert owned_by(group, P0, P1)(), "the record in hand is not done yet"
        assert P0 not in group.committed
        seen = read_until(consumer, owned_by(group, P1))
        assert all(partition == 1 for partition, _ in seen)
        assert group.committed[P0] == 1, "committed before it was given up"


def test_a_partition_of_which_nothing_is_in_hand_is_given_up_without_the_application(group: FakeServer) -> None:
    with join(group) as consumer:
        for record in consumer:
            if record.partition == 0:
                break
        group.wait_until(owned_by(group, P0, P1))
        group.assign(group.joined[0], {P0})
        group.wait_until(owned_by(group, P0))


def test_callbacks_are_called_in_the_applications_thread_before_records_and_before_giving_up(
    group: FakeServer,
) -> None:
    told: list[tuple[str, list[TopicPartition], int]] = []

    def on_assigned(partitions: list[TopicPartition]) -> None:
        told.append(("assigned", partitions, threading.get_ident()))
        consumer.seek("flights", 0, offset=90)

    def on_revoked(partitions: list[TopicPartition]) -> None:
        told.append(("revoked", partitions, threading.get_ident()))
        assert owned_by(group, P0, P1)()
        assert consumer.commit()
        assert group.committed[P0] == 91

    group.first_assignment = {P0, P1}
    with join(group, on_assigned=on_assigned, on_revoked=on_revoked, auto_commit=False) as consumer:
        for record in consumer:
            if record.partition == 0:
                assert record.offset == 90
                break
        group.wait_until(owned_by(group, P0, P1))
        group.assign(group.joined[0], {P1})
        group.wait_until(lambda: consumer.assignment == [TopicPartition(*P1)])
        read_until(consumer, owned_by(group, P1))
        consumer._on_revoked = None
    me = threading.get_ident()
    assert told == [
        ("assigned", [TopicPartition(*P0), TopicPartition(*P1)], me),
        ("revoked", [TopicPartition(*P0)], me),
    ]


def test_a_callback_that_failed_is_called_again_before_its_partitions_are_read(group: FakeServer) -> None:
    calls: list[list[TopicPartition]] = []

    def on_assigned(partitions: list[TopicPartition]) -> None:
        calls.append(partitions)
        if len(calls) < 3:
            raise RuntimeError("of the application")
        consumer.seek("flights", 0, offset=90)

    group.first_assignment = {P0}
    with join(group, on_assigned=on_assigned) as consumer:
        for _ in range(2):
            with pytest.raises(RuntimeError):
                consumer.poll(10)
        record = consumer.poll(10)
        assert record is not None
        assert record.offset == 90
    assert calls == [[TopicPartition(*P0)]] * 3


def test_partitions_given_later_are_read_from_where_they_are_committed(group: FakeServer) -> None:
    group.first_assignment = {P1}
    group.committed[P0] = 95
    with join(group) as consumer:
        assert consumer.poll(10) is not None
        group.wait_until(owned_by(group, P1))
        group.assign(group.joined[0], {P0, P1})
        group.wait_until(lambda: len(consumer.assignment) == 2)
        seen = read_until(consumer, lambda: consumer.position("flights", 0) == 100)
        assert [offset for partition, offset in seen if partition == 0] == [95, 96, 97, 98, 99]


def test_after_a_seek_from_outside_old_records_are_not_committed_and_reading_goes_on_at_the_new_place(
    group: FakeServer,
) -> None:
    """As the server does it: take the partition away, write the offset, give it back."""
    group.first_assignment = {P0}
    with join(group, auto_commit=False) as consumer:
        old = [consumer.poll(10) for _ in range(30)][-1]
        assert old is not None
        assert old.offset == 29
        group.wait_until(owned_by(group, P0))
        group.assign(group.joined[0], set())
        read_until(consumer, owned_by(group))
        group.committed[P0] = 10
        group.assign(group.joined[0], {P0})
        assert not consumer.commit(), "what was read before is lost to it"
        assert not consumer.commit(old)
        assert group.committed[P0] == 10
        new = consumer.poll(10)
        assert new is not None
        assert new.offset == 10
        assert not consumer.commit(old)
        assert consumer.commit()
        assert group.committed[P0] == 11


def test_a_seek_from_outside_while_a_loop_runs_is_followed_by_it(group: FakeServer) -> None:
    group.first_assignment = {P0}
    offsets = []
    with join(group) as consumer:
        for record in consumer:
            offsets.append(record.offset)
            if len(offsets) == 5:
                group.wait_until(owned_by(group, P0))
                group.assign(group.joined[0], set())
                group.wait_until(lambda: consumer.assignment == [])
                mover = threading.Thread(target=move_to, args=(group, 50))
                mover.start()
            if record.offset == 55:
                break
        mover.join()
    assert offsets == [0, 1, 2, 3, 4, *range(50, 56)]


def described(*members: tuple[str, set[tuple[str, int]]], partitions: int) -> groups_pb2.DescribeGroupResponse:
    """A group whose plan is made for what it is, with what each member is meant to have."""
    return groups_pb2.DescribeGroupResponse(
        group="g",
        group_epoch=3,
        assignment_epoch=3,
        members=[
            groups_pb2.MemberDescription(
                member_id=member_id,
                target=groups_pb2.Assignment(
                    topic_partitions=[
                        groups_pb2.TopicPartitions(topic=topic, partitions=[number]) for topic, number in target
                    ]
                ),
            )
            for member_id, target in members
        ],
        partitions=[groups_pb2.PartitionLag(topic="flights", partition=number) for number in range(partitions)],
    )


def test_a_member_that_others_leave_nothing_for_is_at_its_end(group: FakeServer) -> None:
    group.first_assignment = set()
    with join(group, stop_at_end=True) as consumer:
        assert consumer.poll(0) is None
        group.wait_until(lambda: len(group.joined) == 1)
        group.answers["DescribeGroup"] = described((group.joined[0], set()), ("other", {P0, P1}), partitions=2)
        assert list(consumer) == []


def test_a_seek_from_outside_is_not_the_end_of_a_member_that_stops_there(group: FakeServer) -> None:
    """While the group is sent elsewhere, the plan has nothing for this member, nor the partition for any other."""
    group.first_assignment = {P0}
    with join(group, stop_at_end=True) as consumer:
        assert consumer.poll(10) is not None
        group.wait_until(owned_by(group, P0))
        group.answers["DescribeGroup"] = described((group.joined[0], set()), ("other", {P1}), partitions=2)
        group.assign(group.joined[0], set())
        group.wait_until(lambda: consumer.assignment == [])
        seen = read_until(consumer, owned_by(group))
        asked = len(group.asked["DescribeGroup"])
        seen += read_until(consumer, lambda: len(group.asked["DescribeGroup"]) > asked + 1)
        group.committed[P0] = 90
        group.assign(group.joined[0], {P0})
        assert [record.offset for record in consumer] == list(range(90, 100))
    assert seen == []


def test_looking_for_more_is_done_by_one_task_however_often_nothing_is_assigned(group: FakeServer) -> None:
    group.first_assignment = set()
    with join(group, stop_at_end=True, auto_commit=False) as consumer:
        assert consumer.poll(0) is None
        for _ in range(3):
            group.wait_until(owned_by(group))
            beats = len(group.heartbeats)
            group.assign(group.joined[0], set())
            group.wait_until(lambda beats=beats: len(group.heartbeats) > beats + 1)  # type: ignore[misc]
        assert len(consumer._core._tasks) == 1


def move_to(group: FakeServer, offset: int) -> None:
    group.wait_until(owned_by(group))
    assert group.committed[P0] == 5
    group.committed[P0] = offset
    group.assign(group.joined[0], {P0})


def test_a_start_that_was_looked_up_before_a_seek_from_outside_is_dropped(group: FakeServer) -> None:
    """The answer to where the group stands is on its way while the partition goes and comes back, sought elsewhere."""
    group.first_assignment = {P0}
    group.committed[P0] = 5
    group.fetch_offsets_script += [HOLD, None]
    with join(group, auto_commit=False) as consumer:
        assert consumer.poll(0) is None
        group.wait_until(lambda: len(group.fetch_offsets_script) == 1)
        group.wait_until(owned_by(group, P0))
        group.assign(group.joined[0], set())
        group.wait_until(owned_by(group))
        group.committed[P0] = 50
        group.assign(group.joined[0], {P0})
        group.wait_until(lambda: not group.fetch_offsets_script)
        seen = read_until(consumer, lambda: bool(consumer.assignment) and consumer.position("flights", 0) > 50)
        group.release()
        seen += read_until(consumer, lambda: consumer._handout.starting == 0)
        seen += read_until(consumer, lambda: consumer.position("flights", 0) == 100)
    assert seen == [(0, offset) for offset in range(50, 100)]


def test_what_cannot_be_looked_up_of_a_partition_that_has_gone_is_nobodys_error(group: FakeServer) -> None:
    group.first_assignment = {P0, P1}
    group.fetch_offsets_script.append(HOLD)
    with join(group) as consumer:
        assert consumer.poll(0) is None
        group.wait_until(lambda: not group.fetch_offsets_script)
        group.wait_until(owned_by(group, P0, P1))
        group.assign(group.joined[0], {P1})
        group.wait_until(owned_by(group, P1))
        group.refusals["FetchOffsets"].append(wire_error("UNKNOWN_TOPIC_ID", "that topic was deleted"))
        group.release()
        seen = read_until(consumer, lambda: consumer._handout.starting == 0)
        seen += read_until(consumer, lambda: consumer.position("flights", 1) == 50)
    assert seen == [(1, offset) for offset in range(50)]


@pytest.mark.parametrize("code", ["FENCED_MEMBER_EPOCH", "UNKNOWN_MEMBER_ID"])
def test_a_member_that_lost_everything_joins_again_and_commits_nothing_of_before(group: FakeServer, code: str) -> None:
    revoked: list[list[TopicPartition]] = []
    group.first_assignment = {P0}
    with join(group, on_revoked=revoked.append, auto_commit=False) as consumer:
        old = [consumer.poll(10) for _ in range(20)][-1]
        assert old is not None
        group.committed[P0] = 5
        group.refusals["Heartbeat"].append(wire_error(code))
        group.wait_until(lambda: len(group.joined) == 2)
        assert not consumer.commit()
        assert not consumer.commit(old)
        assert group.committed[P0] == 5
        new = consumer.poll(10)
        assert revoked == [[TopicPartition(*P0)]]
        assert new is not None
        assert new.offset == 5


def test_after_a_loss_a_loop_goes_on_with_what_it_is_given_again(group: FakeServer) -> None:
    group.first_assignment = {P0}
    offsets = []
    with join(group) as consumer:
        for record in consumer:
            offsets.append(record.offset)
            if len(offsets) == 15:
                group.fence(group.joined[0])
                group.wait_until(lambda: len(group.joined) == 2)
            if len(offsets) > 15 and record.offset == 20:
                break
    assert offsets == [*range(15), *range(21)], "nothing was committed, so it begins at the beginning"


def test_a_member_that_cannot_be_heard_of_for_the_session_timeout_takes_everything_for_lost(group: FakeServer) -> None:
    """Others may have got its partitions, and the records that it fetched before are theirs to work on."""
    revoked: list[list[TopicPartition]] = []
    group.session_timeout_ms = 300
    with join(group, on_revoked=revoked.append) as consumer:
        assert consumer.poll(10) is not None
        group.wait_until(owned_by(group, P0, P1))
        group.stop()
        wait_for(lambda: consumer.assignment == [])
        assert consumer.poll(0) is None, "ninety records are there, and not ours any more"
        assert revoked == [[TopicPartition(*P0), TopicPartition(*P1)]]
        group.start()
        assert consumer.poll(10) is not None
        assert len(group.joined) == 2
        assert not group.committed


def test_an_answer_that_comes_when_everything_was_taken_for_lost_is_none(group: FakeServer) -> None:
    group.session_timeout_ms = 300
    with join(group) as consumer:
        assert consumer.poll(10) is not None
        group.wait_until(owned_by(group, P0, P1))
        group.heartbeat_script.append(HOLD)
        group.wait_until(lambda: len(group.joined) == 2)
        group.release()
        assert group.heartbeats[-1].member_epoch in (0, 1)
        group.wait_until(owned_by(group, P0, P1))


def test_a_member_that_does_not_give_up_in_time_takes_everything_for_lost(group: FakeServer) -> None:
    """The server fences it then, and gives others also what it was to keep."""
    with join(group, rebalance_timeout=0.5) as consumer:
        for record in consumer:
            if record.partition == 0:
                break
        group.wait_until(owned_by(group, P0, P1))
        group.assign(group.joined[0], {P1})
        wait_for(lambda: consumer.assignment == [TopicPartition(*P1)])
        wait_for(lambda: consumer.assignment == [])
        group.wait_until(lambda: len(group.joined) == 2)
        assert consumer.poll(10) is not None
        assert P0 not in group.committed


def test_a_member_that_took_all_for_lost_still_says_goodbye(group: FakeServer) -> None:
    group.session_timeout_ms = 300
    with join(group) as consumer:
        assert consumer.poll(10) is not None
        group.wait_until(owned_by(group, P0, P1))
        group.refusals["Heartbeat"].extend(wire_error("OVERLOADED", retriable=True) for _ in range(1000))
        wait_for(lambda: consumer.assignment == [])
        group.refusals["Heartbeat"].clear()
    assert group.heartbeats[-1].member_epoch == -1


def test_a_heartbeat_that_fails_in_passing_is_repeated_in_full(group: FakeServer) -> None:
    with join(group) as consumer:
        consumer.poll(10)
        group.wait_until(owned_by(group, P0, P1))
        group.refusals["Heartbeat"].append(wire_error("OVERLOADED", retriable=True))
        group.wait_until(lambda: not group.refusals["Heartbeat"])
        beats = len(group.heartbeats)
        group.wait_until(lambda: len(group.heartbeats) > beats)
        again = group.heartbeats[beats]
        assert again.HasField("subscription")
        assert {number for part in again.owned.topic_partitions for number in part.partitions} == {0, 1}
        assert again.member_epoch == 1


@pytest.mark.parametrize("callback", [True, False], ids=["with on_revoked", "without"])
def test_a_member_that_was_replaced_hands_out_nothing_more_and_says_so(group: FakeServer, callback: bool) -> None:
    """The server reads on to whoever asks, and the partitions are another's: what is here already is another's, too."""
    revoked: list[list[TopicPartition]] = []
    group.first_assignment = {P0}
    consumer = join(group, instance_id="i", on_revoked=revoked.append if callback else None)
    assert consumer.poll(10) is not None
    group.wait_until(owned_by(group, P0))
    group.refusals["Heartbeat"].append(wire_error("FENCED_INSTANCE_ID", "another has its place"))
    group.wait_until(lambda: not group.refusals["Heartbeat"])
    wait_for(lambda: consumer._handout._failure is not None)
    with pytest.raises(errors.FencedInstanceId, match="another has its place"):
        consumer.poll(10)
    assert revoked == ([[TopicPartition(*P0)]] if callback else [])
    assert not consumer.assignment
    consumer.close()
    assert P0 not in group.committed


def test_a_commit_that_waited_while_everything_was_lost_is_none_of_what_came_back(group: FakeServer) -> None:
    """It waits behind another. Meanwhile the member is fenced, the group sent elsewhere, and the partition assigned to
    the member again: the server would take it."""
    group.first_assignment = {P0}
    with join(group, auto_commit=False) as consumer:
        old = [consumer.poll(10) for _ in range(30)][-1]
        assert old is not None
        group.commit_script.append(HOLD)
        first = io_thread().submit(consumer._core.commit({next(iter(consumer._handout.holds.values())): 7}))
        group.wait_until(lambda: not group.commit_script)
        offsets = consumer._handout.commit_offsets_up_to(None)
        assert offsets is not None
        second = io_thread().submit(consumer._core.commit(offsets))
        group.committed[P0] = 10
        group.fence(group.joined[0])
        group.wait_until(owned_by(group, P0))
        wait_for(lambda: consumer.assignment != [] and consumer._handout.starting == 0)
        group.release()
        first.result(10)
        assert second.result(10) is False
        assert len(group.commits) == 1
        new = consumer.poll(10)
        assert new is not None
        assert new.offset == 10


def test_a_commit_in_an_epoch_that_ended_is_not_repeated_for_what_was_lost_with_it(group: FakeServer) -> None:
    group.first_assignment = {P0}
    with join(group, auto_commit=False) as consumer:
        for _ in range(30):
            consumer.poll(10)
        group.wait_until(owned_by(group, P0))
        group.commit_script.append("STALE_MEMBER_EPOCH")
        group.refusals["Heartbeat"].append(wire_error("FENCED_MEMBER_EPOCH"))
        assert not consumer.commit()
        assert len(group.joined) == 2
        assert len(group.commits) == 1
        assert P0 not in group.committed


def test_a_member_whose_join_was_not_answered_yet_leaves_too(group: FakeServer) -> None:
    group.heartbeat_script.append(HOLD)
    with join(group) as consumer:
        assert consumer.poll(0) is None
        group.wait_until(lambda: len(group.joined) == 1)
    assert group.heartbeats[-1].member_epoch == -1
    assert group.members == {}
    group.release()


def test_every_heartbeat_has_a_higher_number_also_one_that_repeats_another(group: FakeServer) -> None:
    with join(group) as consumer:
        consumer.poll(10)
        group.wait_until(owned_by(group, P0, P1))
        for code in ("OVERLOADED", "FENCED_MEMBER_EPOCH"):
            group.refusals["Heartbeat"].append(wire_error(code, retriable=code == "OVERLOADED"))
            group.wait_until(lambda: not group.refusals["Heartbeat"])
        group.wait_until(lambda: len(group.joined) == 2)
        group.stop()
        group.start()
        beats = len(group.heartbeats)
        group.wait_until(lambda: len(group.heartbeats) > beats)
    numbers = [heartbeat.number for heartbeat in group.heartbeats]
    assert numbers == sorted(set(numbers))
    assert numbers[0] > 0
    assert group.heartbeats[-1].member_epoch == -1


@pytest.mark.parametrize("code", ["INVALID_GROUP_ID", "UNSUPPORTED_ASSIGNOR", "FENCED_INSTANCE_ID"])
def test_a_group_that_refuses_a_member_for_good_is_told_to_the_application(group: FakeServer, code: str) -> None:
    group.refusals["Heartbeat"].append(wire_error(code, "the reason"))
    consumer = join(group)
    with pytest.raises(errors.FinalError, match="the reason"):
        consumer.poll(10)
    consumer.close()


def test_a_commit_with_an_epoch_that_just_changed_is_repeated_with_the_new_one(group: FakeServer) -> None:
    with join(group, auto_commit=False) as consumer:
        consumer.poll(10)
        group.wait_until(owned_by(group, P0, P1))
        group.commit_script.append("STALE_MEMBER_EPOCH")
        assert consumer.commit()
        assert [request.member_epoch for request in group.commits] == [1, 1]


def test_every_commit_of_a_member_has_a_higher_number(group: FakeServer) -> None:
    with join(group, auto_commit=False) as consumer:
        for code in ("", "STALE_MEMBER_EPOCH", ""):
            consumer.poll(10)
            group.commit_script.append(code)
            assert consumer.commit()
    numbers = [request.number for request in group.commits]
    assert numbers == sorted(set(numbers))
    assert len(numbers) == 4
    assert numbers[0] > 0


def test_a_restart_of_the_server_is_ridden_out_by_a_member(group: FakeServer) -> None:
    group.answer_bytes_max = 1
    with join(group, stop_at_end=True) as consumer:
        seen = []
        for record in consumer:
            seen.append((record.partition, record.offset))
            if len(seen) in (20, 100):
                group.stop()
                group.start()
    assert sorted(seen) == [(0, number) for number in range(100)] + [(1, number) for number in range(50)]
    assert group.committed == {P0: 100, P1: 50}


def test_commits_of_a_member_carry_its_id_and_the_topics(group: FakeServer) -> None:
    with join(group, auto_commit=False) as consumer:
        consumer.poll(10)
        consumer.commit()
    (request,) = group.commits
    assert (request.group, request.member_id, request.member_epoch) == ("g", group.joined[0], 1)
    assert request.offsets[0].topic_id == group.topics["flights"].topic_id
