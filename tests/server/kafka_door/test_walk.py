"""A request is looked over before anything is made of it."""

from typing import Any, cast

import pytest
from kio.index import load_request_schema

from logserver.kafka.apis import API_VERSIONS, ApiKey
from logserver.kafka.messages import read_body, read_header
from logserver.kafka.primitives import (
    STRING_BYTES_MAX,
    TAGS_MAX,
    BeyondBounds,
    Malformed,
    Reader,
    unsigned_varint,
)
from logserver.kafka.produce import read_produce
from logserver.kafka.walk import walk
from logstore.topics import TopicStore
from tests.fuzz.fakes import NamedTopics
from tests.server.kafka_door.client import request_header
from tests.server.kafka_door.examples import example_request


def request(api_key: ApiKey, version: int, body: bytes) -> bytes:
    return request_header(api_key, version) + body


def read(frame: bytes, **limits: int) -> Any:
    return read_body(read_header(memoryview(frame)), memoryview(frame), **limits)


@pytest.mark.parametrize(
    ("api_key", "version"),
    [(key, version) for key, versions in API_VERSIONS.items() for version in versions if key != ApiKey.PRODUCE],
)
def test_what_is_right_is_read_to_its_end_and_no_shorter(api_key: ApiKey, version: int) -> None:
    frame = example_request(api_key, version)
    header = read_header(memoryview(frame))
    schema = load_request_schema(api_key, version)
    assert walk(schema, frame, header.body_at, items_max=100).frame is frame
    if len(frame) > header.body_at:
        with pytest.raises(Malformed):
            walk(schema, frame[:-1], header.body_at, items_max=100)


@pytest.mark.parametrize(
    "frame",
    [
        # kio asks for the memory of as many items before it looks for them: 200 GB, which ends the process.
        request(ApiKey.FETCH, 15, bytes(13) + bytes(8) + b"\2" + bytes(16) + b"\xff\xff\xff\xff\x07" + bytes(99)),
        request(ApiKey.FETCH, 15, bytes(13) + bytes(8) + b"\xff\xff\xff\xff\x07" + bytes(99)),
        request(ApiKey.OFFSET_FETCH, 8, b"\xff\xff\xff\xff\x07" + bytes(99)),
        request(ApiKey.CREATE_TOPICS, 4, b"\x7f\xff\xff\xff" + bytes(99)),
    ],
)
def test_a_count_that_cannot_be_is_not_believed(frame: bytes) -> None:
    with pytest.raises(Malformed):
        read(frame, items_max=2**40)


@pytest.mark.parametrize(
    "frame",
    [
        request(ApiKey.FETCH, 4, bytes(17) + b"\xff\xff\xff\xff"),
        request(ApiKey.FETCH, 12, bytes(17) + bytes(8) + b"\0\1\1\0"),
        request(ApiKey.DESCRIBE_GROUPS, 0, b"\xff\xff\xff\xff"),
        request(ApiKey.OFFSET_COMMIT, 2, b"\0\1g" + bytes(6) + bytes(8) + b"\0\0\0\1\0\1t\xff\xff\xff\xff"),
    ],
)
def test_null_is_refused_where_an_array_must_be(frame: bytes) -> None:
    with pytest.raises(Malformed, match="has -1 items"):
        read(frame)


@pytest.mark.parametrize(
    "body",
    [
        b"\1" + bytes(4) + b"\xfe" + b"\2t" + bytes(4) + b"\0\0",  # neither null nor a cursor
        b"\x82\x80\x80\x80\x10t\0" + bytes(4) + b"\xff\0",  # what is left of the count in 32 bits is 2
    ],
)
def test_what_kio_reads_in_another_way_than_kafka_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        read(request(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, body))


def test_null_is_read_where_it_may_be() -> None:
    assert read(request(ApiKey.METADATA, 1, b"\xff\xff\xff\xff")).body.topics is None


def test_a_null_that_is_written_in_two_bytes_is_one_all_the_same() -> None:
    read_short, read_long = (
        read(request(ApiKey.METADATA, 12, b"\2" + bytes(16) + null + b"\0\1\1\0")) for null in (b"\0", b"\x80\0")
    )
    assert read_long == read_short


def test_tagged_fields_that_a_version_does_not_have_are_stepped_over() -> None:
    unknown = b"\1\x63\3abc"
    plain = read(request(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, b"\3\2t\0\2u\0" + b"\0\0\0\7\xff\0"))
    tagged = request(
        ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, b"\3\2t" + unknown + b"\2u" + unknown + b"\0\0\0\7\xff" + unknown
    )
    assert read(tagged) == plain


def test_tagged_fields_that_a_version_has_are_kept_beside_others() -> None:
    body = bytes(4) * 3 + b"\0" + bytes(8) + b"\1\1\1"
    told = read(request(ApiKey.FETCH, 15, body + b"\2" + b"\0\3\3cl" + b"\x63\1x")).body
    assert told.cluster_id == "cl"


@pytest.mark.parametrize("size", [b"\2", b"\4"])
def test_a_tagged_field_is_as_long_as_it_says(size: bytes) -> None:
    body = bytes(4) * 3 + b"\0" + bytes(8) + b"\1\1\1" + b"\1" + b"\0" + size + b"\3cl" + bytes(2)
    with pytest.raises(Malformed, match="tagged field 0"):
        read(request(ApiKey.FETCH, 15, body))


def test_no_more_items_are_made_than_may_be() -> None:
    count = 1000
    frame = request(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, b"\xe9\x07" + b"\1\0" * count + b"\0\0\0\1\xff\0")
    assert read(frame, items_max=count).items == count
    with pytest.raises(Malformed, match="where 999 may be of each"):
        read(frame, items_max=count - 1)


def test_no_more_tagged_fields_are_stepped_over_than_may_be() -> None:
    count = 1000
    tags = b"\xe8\x07" + b"\x63\0" * count
    frame = request(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, b"\1\0\0\0\1\xff" + tags)
    assert read(frame, items_max=count).items == 0
    with pytest.raises(BeyondBounds, match="1000 tagged fields"):
        read(frame, items_max=count - 1)


def test_a_header_has_no_more_tagged_fields_than_clients_have() -> None:
    def frame(count: int) -> memoryview:
        tags = unsigned_varint(count) + b"\x63\0" * count
        return memoryview(b"\0\x12\0\3" + bytes(4) + b"\0\1x" + tags + b"\2x\2y\0")

    assert read_header(frame(TAGS_MAX)).client_id == "x"
    with pytest.raises(BeyondBounds, match="tagged fields"):
        read_header(frame(TAGS_MAX + 1))


def test_tagged_fields_of_a_produce_request_are_counted_together() -> None:
    topic = unsigned_varint(2) + b"t" + b"\1" + b"\1\x63\0"

    def frame(topics: int) -> memoryview:
        body = b"\0\0\1" + bytes(4) + unsigned_varint(topics + 1) + topic * topics + b"\0"
        return memoryview(b"\0\0\0\x09" + bytes(4) + b"\0\1x\0" + body)

    store = cast(TopicStore, NamedTopics())
    whole = frame(TAGS_MAX)
    assert read_produce(read_header(whole), whole, store).appends == []
    whole = frame(TAGS_MAX + 1)
    with pytest.raises(BeyondBounds, match="tagged fields"):
        read_produce(read_header(whole), whole, store)


@pytest.mark.parametrize("size", [STRING_BYTES_MAX, STRING_BYTES_MAX + 1])
def test_strings_are_as_long_as_kafka_has_them_also_in_compact_versions(size: int) -> None:
    compact = unsigned_varint(size + 1) + size * b"x"
    frame = request(ApiKey.DESCRIBE_TOPIC_PARTITIONS, 0, b"\2" + compact + b"\0\0\0\0\1\xff\0")
    produced = memoryview(b"\0\0\0\x09" + bytes(4) + b"\0\1x\0" + compact)
    if size == STRING_BYTES_MAX:
        assert len(read(frame).body.topics[0].name) == size
        assert Reader(produced, 12, flexible=True).nullable_string() == size * "x"
        return
    with pytest.raises(Malformed, match="length of a string is 32768"):
        read(frame)
    with pytest.raises(Malformed, match="length of a string is 32768"):
        Reader(produced, 12, flexible=True).nullable_string()
