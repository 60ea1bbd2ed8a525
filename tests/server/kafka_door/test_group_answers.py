"""What is told of groups: to whom, how much at a time, and without keeping others waiting."""

from typing import Any

import pytest
from kio.schema.errors import ErrorCode

from logserver.context import SERVER_ITSELF
from logserver.kafka import messages
from logserver.kafka.apis import ApiKey
from logserver.server import Server
from tests.server.kafka_door.client import KafkaClient

TOPIC = "t"


async def joined(door: Server, kafka: KafkaClient, group: str = "g") -> tuple[str, int]:
    """The id and epoch of a member of the consumer group protocol that reads the topic."""
    if TOPIC not in {topic.name for topic in door.broker.store.topics()}:
        door.broker.topics.create(SERVER_ITSELF, TOPIC, 2, {})
    answer = await kafka.call(
        ApiKey.CONSUMER_GROUP_HEARTBEAT,
        0,
        group_id=group,
        member_id="m",
        member_epoch=0,
        instance_id=None,
        rack_id=None,
        rebalance_timeout=60_000,
        subscribed_topic_names=[TOPIC],
        server_assignor=None,
        topic_partitions=[],
    )
    assert answer.error_code == ErrorCode.none
    return answer.member_id, answer.member_epoch


def fetch_of(group: str, member_id: str | None, member_epoch: int) -> dict[str, Any]:
    topics = [{"name": TOPIC, "partition_indexes": [0]}]
    return {"group_id": group, "member_id": member_id, "member_epoch": member_epoch, "topics": topics}


async def test_only_a_member_in_its_epoch_fetches_offsets_as_one(door: Server, kafka: KafkaClient) -> None:
    member_id, epoch = await joined(door, kafka)
    asked = {
        (None, -1): ErrorCode.none,
        (member_id, epoch): ErrorCode.none,
        (member_id, epoch + 5): ErrorCode.stale_member_epoch,
        ("nobody", epoch): ErrorCode.unknown_member_id,
    }
    answer = await kafka.call(
        ApiKey.OFFSET_FETCH, 9, groups=[fetch_of("g", *who) for who in asked], require_stable=False
    )
    assert [group.error_code for group in answer.groups] == [*asked.values()]


async def test_of_a_group_that_is_not_there_nothing_is_committed_whoever_asks(kafka: KafkaClient) -> None:
    answer = await kafka.call(ApiKey.OFFSET_FETCH, 9, groups=[fetch_of("nothing", "nobody", 3)], require_stable=False)
    [group] = answer.groups
    assert (group.error_code, group.topics[0].partitions[0].committed_offset) == (ErrorCode.none, -1)


async def test_to_describe_members_no_log_is_looked_at(
    door: Server, kafka: KafkaClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    member_id, _ = await joined(door, kafka)

    async def refuse(*_: object) -> None:
        raise AssertionError("a log is looked at")

    monkeypatch.setattr(type(door.broker.groups._topics), "offset_range", refuse)
    answer = await kafka.call(ApiKey.CONSUMER_GROUP_DESCRIBE, 0, group_ids=["g"], include_authorized_operations=False)
    [group] = answer.groups
    assert [member.member_id for member in group.members] == [member_id]


@pytest.fixture
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "ANSWER_BYTES_MAX", 1000)


@pytest.mark.parametrize(
    ("api_key", "version", "fields"),
    [
        (ApiKey.OFFSET_FETCH, 9, {"groups": [fetch_of("g", None, -1)] * 200, "require_stable": False}),
        (ApiKey.DESCRIBE_GROUPS, 5, {"groups": ["g"] * 200, "include_authorized_operations": False}),
        (ApiKey.CONSUMER_GROUP_DESCRIBE, 0, {"group_ids": ["g"] * 200, "include_authorized_operations": False}),
    ],
)
@pytest.mark.usefixtures("short_answers")
async def test_the_same_group_named_many_times_is_no_answer_without_bounds(
    door: Server, kafka: KafkaClient, api_key: ApiKey, version: int, fields: dict[str, Any]
) -> None:
    await joined(door, kafka)
    await kafka.send(api_key, version, **fields)
    assert await kafka.is_closed()


async def test_a_commit_is_not_kept_waiting_by_a_request_for_many_topics(door: Server, kafka: KafkaClient) -> None:
    door.broker.topics.create(SERVER_ITSELF, TOPIC, 400, {})
    other = await KafkaClient.connect(door.kafka_address)
    topics = [
        {"name": f"n{n}" + "x" * 40, "num_partitions": 1, "replication_factor": 1, "assignments": [], "configs": []}
        for n in range(300)
    ]
    making = await other.send(ApiKey.CREATE_TOPICS, 7, topics=topics, timeout=60_000, validate_only=False)
    parts = [
        {"partition_index": n, "committed_offset": 0, "committed_leader_epoch": -1, "committed_metadata": "m" * 20}
        for n in range(400)
    ]
    answer = await kafka.call(
        ApiKey.OFFSET_COMMIT,
        8,
        group_id="g",
        generation_id_or_member_epoch=-1,
        member_id="",
        group_instance_id=None,
        topics=[{"name": TOPIC, "partitions": parts}],
    )
    assert {part.error_code for part in answer.topics[0].partitions} == {ErrorCode.none}
    assert len(list(door.broker.store.topics())) < 300, "all topics were made before the commit was answered"
    await other.answer(making)
    await other.close()
