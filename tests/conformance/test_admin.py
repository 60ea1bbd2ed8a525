"""What an admin client may rely on, through each client that has the call."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from kio.schema.errors import ErrorCode

from tests.conformance.clients import Client, Committed, Message, Refused
from tests.conformance.waiting import eventually, read


def refusal(call: Callable[[], object]) -> int:
    """The code with which the call is refused."""
    with pytest.raises(Refused) as refused:
        call()
    return refused.value.code


def has_topic(client: Client, topic: str) -> bool:
    with suppress(Refused):
        return client.partitions(topic) != []
    return False


@pytest.fixture
def committed_group(maker: Client, topic: str, group: str) -> str:
    """A group without members that has committed offset 3."""
    maker.produce(topic, [Message(b"%d" % n) for n in range(5)])
    with maker.consumer(group=group) as consumer:
        consumer.assign(topic, 0)
        consumer.commit(topic, 0, 3, "so far")
    return group


def test_a_topic_is_created_with_the_partitions_asked_for(client: Client, names: Callable[[str], str]) -> None:
    topic = names("topic")
    client.create_topic(topic, partitions=4)
    eventually(lambda: has_topic(client, topic))
    assert client.partitions(topic) == [0, 1, 2, 3]


def test_a_topic_that_exists_is_not_created_again(client: Client, topic: str) -> None:
    assert refusal(lambda: client.create_topic(topic)) == ErrorCode.topic_already_exists


@pytest.mark.parametrize("name", ["", ".", "..", "with space", "slash/ed", "ümlaut", "x" * 250])
def test_a_name_that_is_no_topic_name_is_refused(client: Client, name: str) -> None:
    if client.name == "confluent-kafka" and name == "":
        pytest.skip("confluent-kafka refuses an empty name itself")
    assert refusal(lambda: client.create_topic(name)) == ErrorCode.invalid_topic_exception


def test_the_longest_name_is_taken(client: Client, names: Callable[[str], str]) -> None:
    name = names("topic._-").ljust(249, "x")
    client.create_topic(name)
    eventually(lambda: name in client.topics())


def test_names_that_differ_in_dot_and_underscore_only_collide(client: Client, names: Callable[[str], str]) -> None:
    name = names("topic")
    client.create_topic(f"{name}.a")
    assert refusal(lambda: client.create_topic(f"{name}_a")) == ErrorCode.invalid_topic_exception


@pytest.mark.parametrize("partitions", [0, -2])
def test_a_topic_needs_a_partition(client: Client, names: Callable[[str], str], partitions: int) -> None:
    if client.name == "confluent-kafka" and partitions < -1:
        pytest.skip("confluent-kafka refuses the number itself")
    assert refusal(lambda: client.create_topic(names("topic"), partitions=partitions)) == ErrorCode.invalid_partitions


def test_a_topic_without_a_number_has_the_brokers_default(client: Client, names: Callable[[str], str]) -> None:
    topic = names("topic")
    if client.name == "aiokafka":
        pytest.skip("aiokafka wants a number")
    client.create_topic(topic, partitions=-1, replicas=-1)
    eventually(lambda: has_topic(client, topic))
    assert client.partitions(topic) == [0]


@pytest.mark.parametrize("replicas", [3, 0])
def test_more_replicas_than_brokers_are_refused(client: Client, names: Callable[[str], str], replicas: int) -> None:
    code = refusal(lambda: client.create_topic(names("topic"), replicas=replicas))
    assert code == ErrorCode.invalid_replication_factor


@pytest.mark.parametrize("config", [{"retention.ms": "soon"}, {"no.such.setting": "1"}, {"cleanup.policy": "keep"}])
def test_a_topic_with_a_wrong_setting_is_refused(
    client: Client, names: Callable[[str], str], config: dict[str, str]
) -> None:
    topic = names("topic")
    assert refusal(lambda: client.create_topic(topic, config=config)) == ErrorCode.invalid_config
    assert topic not in client.topics()


def test_a_deleted_topic_is_gone_and_its_name_is_free(client: Client, topic: str) -> None:
    client.produce(topic, [Message(b"old"), Message(b"old")])
    client.delete_topic(topic)
    eventually(lambda: topic not in client.topics())
    client.create_topic(topic)
    eventually(lambda: has_topic(client, topic))
    assert [place.offset for place in client.produce(topic, [Message(b"new")])] == [0]
    with client.consumer() as consumer:
        consumer.assign(topic, 0, 0)
        assert [record.value for record in read(consumer, 1)] == [b"new"]


def test_a_topic_that_is_not_there_is_not_deleted(client: Client, names: Callable[[str], str]) -> None:
    assert refusal(lambda: client.delete_topic(names("unknown"))) == ErrorCode.unknown_topic_or_partition


def test_describing_a_topic_that_is_not_there_does_not_create_it(client: Client, names: Callable[[str], str]) -> None:
    if client.name == "aiokafka":
        pytest.skip("aiokafka asks in a version of metadata that creates topics")
    topic = names("unknown")
    assert refusal(lambda: client.partitions(topic)) == ErrorCode.unknown_topic_or_partition
    assert topic not in client.topics()


def test_a_topic_gets_more_partitions(client: Client, topic: str) -> None:
    client.produce(topic, [Message(b"kept")])
    client.create_partitions(topic, 3)
    eventually(lambda: client.partitions(topic) == [0, 1, 2])
    assert client.produce(topic, [Message(b"a", partition=2)])[0].partition == 2
    with client.consumer() as consumer:
        consumer.assign(topic, 0, 0)
        assert [record.value for record in read(consumer, 1)] == [b"kept"]


@pytest.mark.parametrize("total", [2, 1])
def test_partitions_are_never_fewer_nor_as_many(client: Client, two_partitions: str, total: int) -> None:
    assert refusal(lambda: client.create_partitions(two_partitions, total)) == ErrorCode.invalid_partitions


def test_a_topic_that_is_not_there_gets_no_partitions(client: Client, names: Callable[[str], str]) -> None:
    assert refusal(lambda: client.create_partitions(names("unknown"), 2)) == ErrorCode.unknown_topic_or_partition


def test_the_settings_of_a_topic_are_those_given_and_the_defaults(client: Client, names: Callable[[str], str]) -> None:
    topic = names("topic")
    client.create_topic(topic, config={"retention.ms": "3600000"})
    eventually(lambda: has_topic(client, topic))
    config = client.config(topic)
    assert config["retention.ms"] == "3600000"
    assert (config["cleanup.policy"], config["max.message.bytes"]) == ("delete", "1048588")
    assert config["message.timestamp.type"] == "CreateTime"


def test_a_setting_is_changed_and_the_others_are_kept(client: Client, names: Callable[[str], str]) -> None:
    topic = names("topic")
    client.create_topic(topic, config={"retention.ms": "3600000"})
    client.alter_config(topic, {"max.message.bytes": "2000000"})
    eventually(lambda: client.config(topic)["max.message.bytes"] == "2000000")
    assert client.config(topic)["retention.ms"] == "3600000"


def test_a_setting_is_put_back_to_its_default(client: Client, names: Callable[[str], str]) -> None:
    topic = names("topic")
    client.create_topic(topic, config={"retention.ms": "3600000", "retention.bytes": "1000"})
    client.alter_config(topic, {"retention.ms": None})
    eventually(lambda: client.config(topic)["retention.ms"] == "604800000")
    assert client.config(topic)["retention.bytes"] == "1000"


@pytest.mark.parametrize("change", [{"retention.ms": "soon"}, {"no.such.setting": "1"}])
def test_a_wrong_setting_is_refused_and_nothing_is_changed(client: Client, topic: str, change: dict[str, str]) -> None:
    changes = change | {"retention.bytes": "1000"}
    assert refusal(lambda: client.alter_config(topic, dict(changes))) == ErrorCode.invalid_config
    assert client.config(topic)["retention.bytes"] == "-1"


def test_deleting_records_moves_the_log_start(client: Client, topic: str) -> None:
    client.produce(topic, [Message(b"%d" % n) for n in range(6)])
    assert client.delete_records(topic, 0, 4) == 4
    assert client.delete_records(topic, 0, 2) == 4, "it never goes back"
    with client.consumer(reset="earliest") as consumer:
        consumer.assign(topic, 0)
        assert [record.offset for record in read(consumer, 2)] == [4, 5]


def test_deleting_all_records_leaves_the_log_end(client: Client, topic: str) -> None:
    client.produce(topic, [Message(b"a"), Message(b"b")])
    assert client.delete_records(topic, 0, -1) == 2
    assert client.produce(topic, [Message(b"c")])[0].offset == 2


def test_records_that_are_not_written_yet_are_not_deleted(client: Client, topic: str) -> None:
    client.produce(topic, [Message(b"a")])
    if client.name == "aiokafka":
        pytest.skip("aiokafka does not look at the error")
    assert refusal(lambda: client.delete_records(topic, 0, 2)) == ErrorCode.offset_out_of_range


def test_the_ends_of_a_log_and_its_greatest_time_are_listed(client: Client, topic: str, maker: Client) -> None:
    maker.produce(topic, [Message(b"value", timestamp_ms=time_ms) for time_ms in (9000, 9001, 9005, 9002)])
    maker.delete_records(topic, 0, 1)
    offsets = [client.offset(topic, 0, which) for which in ("earliest", "latest", "max-timestamp")]
    assert offsets == [1, 4, 2]


def test_the_cluster_has_one_broker(client: Client) -> None:
    assert len(client.broker_ids()) == 1


def test_a_group_without_members_is_listed_and_described(client: Client, committed_group: str) -> None:
    assert committed_group in client.groups()
    assert client.describe_group(committed_group) == ("Empty", 0)


def test_a_group_with_members_is_described(client: Client, topic: str, group: str) -> None:
    with client.consumer(group=group) as consumer:
        consumer.subscribe(topic)
        eventually(lambda: consumer.poll(0.2) == [] and consumer.assignment() == {0})
        assert client.describe_group(group) == ("Stable", 1)


def test_a_group_that_is_not_there_is_dead_or_unknown(client: Client, names: Callable[[str], str]) -> None:
    try:
        assert client.describe_group(names("unknown")) == ("Dead", 0), "in the older versions of the request"
    except Refused as refused:
        assert refused.code == ErrorCode.group_id_not_found, "in the newer ones"  # noqa: PT017 - both are right


def test_the_offsets_of_a_group_are_listed_with_their_metadata(
    client: Client, topic: str, committed_group: str
) -> None:
    assert client.group_offsets(committed_group) == {(topic, 0): Committed(3, "so far")}


def test_a_group_that_is_not_there_has_no_offsets(client: Client, names: Callable[[str], str]) -> None:
    assert client.group_offsets(names("unknown")) == {}


def test_the_offset_of_a_group_without_members_is_changed(client: Client, topic: str, committed_group: str) -> None:
    client.alter_group_offset(committed_group, topic, 0, 1)
    assert client.group_offsets(committed_group)[topic, 0].offset == 1
    with client.consumer(group=committed_group) as consumer:
        consumer.subscribe(topic)
        assert [record.offset for record in read(consumer, 4)] == [1, 2, 3, 4]


def test_an_offset_may_be_given_to_a_group_that_is_not_there(client: Client, topic: str, group: str) -> None:
    client.alter_group_offset(group, topic, 0, 7)
    assert client.group_offsets(group)[topic, 0].offset == 7


def test_the_offset_of_a_group_with_members_is_not_changed(client: Client, topic: str, group: str) -> None:
    with client.consumer(group=group) as consumer:
        consumer.subscribe(topic)
        eventually(lambda: consumer.poll(0.2) == [] and consumer.assignment() == {0})
        assert refusal(lambda: client.alter_group_offset(group, topic, 0, 1)) == ErrorCode.unknown_member_id


def test_an_offset_of_a_group_is_deleted(client: Client, topic: str, committed_group: str) -> None:
    client.delete_group_offset(committed_group, topic, 0)
    assert client.group_offsets(committed_group) == {}


def test_an_offset_that_members_use_is_not_deleted(client: Client, topic: str, group: str) -> None:
    with client.consumer(group=group) as consumer:
        consumer.subscribe(topic)
        eventually(lambda: consumer.poll(0.2) == [] and consumer.assignment() == {0})
        consumer.commit(topic, 0, 0)
        assert refusal(lambda: client.delete_group_offset(group, topic, 0)) == ErrorCode.group_subscribed_to_topic


def test_a_group_without_members_is_deleted(client: Client, committed_group: str) -> None:
    client.delete_group(committed_group)
    assert committed_group not in client.groups()
    assert client.group_offsets(committed_group) == {}


def test_a_group_with_members_is_not_deleted(client: Client, topic: str, group: str) -> None:
    with client.consumer(group=group) as consumer:
        consumer.subscribe(topic)
        eventually(lambda: consumer.poll(0.2) == [] and consumer.assignment() == {0})
        assert refusal(lambda: client.delete_group(group)) == ErrorCode.non_empty_group


def test_a_group_that_is_not_there_is_not_deleted(client: Client, names: Callable[[str], str]) -> None:
    assert refusal(lambda: client.delete_group(names("unknown"))) == ErrorCode.group_id_not_found


def test_deleting_a_topic_takes_the_groups_offsets_for_it_along(
    client: Client, topic: str, committed_group: str
) -> None:
    client.delete_topic(topic)
    eventually(lambda: topic not in client.topics())
    eventually(lambda: client.group_offsets(committed_group) == {})
