"""One Produce request. Only Malformed may come out; what comes out else lies in the request, and can be answered."""

from collections.abc import Iterator
from contextlib import suppress
from typing import cast

from logserver.appends import Ack, BatchAppend
from logserver.kafka.apis import API_VERSIONS, ApiKey
from logserver.kafka.messages import read_header
from logserver.kafka.primitives import Malformed
from logserver.kafka.produce import encode_produce_answer, read_produce
from logstore.errors import CorruptBatch
from logstore.header import HEADER_SIZE, check_batch
from logstore.topics import TopicStore
from tests.fuzz.fakes import NamedTopics
from tests.server.kafka_door.examples import example_request


def run(data: bytes) -> bool:
    frame = memoryview(data)
    try:
        header = read_header(frame)
        if header.api_key != ApiKey.PRODUCE or header.version not in API_VERSIONS[ApiKey.PRODUCE]:
            return False
        request = read_produce(header, frame, cast(TopicStore, NamedTopics()))
    except Malformed:
        return False
    acks = []
    for append in request.appends:
        if isinstance(append, BatchAppend):
            assert HEADER_SIZE <= len(append.batch) <= len(data)
            with suppress(CorruptBatch):
                check_batch(append.batch)
            acks.append(Ack(append.topic, append.partition, base_offset=1))
        else:
            acks.append(append)
    answer = encode_produce_answer(header, request, acks)
    assert int.from_bytes(answer[:4], "big") == len(answer) - 4
    assert len(answer) <= 64 + 300 * len(data)
    return True


def seeds() -> Iterator[bytes]:
    for version in API_VERSIONS[ApiKey.PRODUCE]:
        yield example_request(ApiKey.PRODUCE, version)
        for acks in (-1, 0, 1, 7):
            yield example_request(ApiKey.PRODUCE, version, acks=acks, transactional_id=None)
