"""Produce requests that wait, and that are too long to be read."""

import pytest
from kio.index import load_response_schema
from kio.schema.errors import ErrorCode

from logserver.appends import Acks
from logserver.context import SERVER_ITSELF
from logserver.kafka.apis import ApiKey
from logserver.kafka.messages import ITEMS_MAX, read_header
from logserver.kafka.produce import encode_produce_answer, read_produce
from logserver.server import Server
from tests.server.kafka_door.client import KafkaClient, framed, read_answer
from tests.server.kafka_door.requests import batch, produce

SIZE_BYTES = 4


@pytest.mark.parametrize("is_made_again", [False, True])
async def test_a_topic_that_is_deleted_while_records_wait_is_not_made_by_them(
    door: Server, is_made_again: bool
) -> None:
    topics = door.broker.topics
    topics.create(SERVER_ITSELF, "t", 1, {})
    frame = memoryview(framed(ApiKey.PRODUCE, 9, **produce("t", batch(b"v"))))[SIZE_BYTES:]
    header = read_header(frame)
    request = read_produce(header, frame, door.broker.store)

    await topics.delete(SERVER_ITSELF, "t")
    if is_made_again:
        topics.create(SERVER_ITSELF, "t", 1, {})
    acks = await door.broker.appends.append_and_wait(SERVER_ITSELF, request.appends, Acks.ALL)

    sent = encode_produce_answer(header, request, acks)
    answer = read_answer(sent[SIZE_BYTES:], load_response_schema(ApiKey.PRODUCE, 9))
    (answered,) = answer.responses[0].partition_responses
    assert answered.error_code == ErrorCode.unknown_topic_or_partition
    assert [topic.name for topic in topics.listed(SERVER_ITSELF, include_internal=False)] == ["t"] * is_made_again
    if is_made_again:
        assert topics.log(door.broker.store.topic("t"), 0).log_end_offset == 0


@pytest.mark.parametrize("are_topics", [False, True])
async def test_more_partitions_than_any_client_sends_end_the_connection(kafka: KafkaClient, are_topics: bool) -> None:
    fields = produce("t", None)
    if are_topics:
        fields["topic_data"] = [{"name": "t", "partition_data": []}] * (ITEMS_MAX + 1)
    else:
        fields["topic_data"][0]["partition_data"] *= ITEMS_MAX
    await kafka.call(ApiKey.METADATA, 1, topics=[])
    await kafka.send(ApiKey.PRODUCE, 9, **fields)
    assert await kafka.is_closed()
