"""Produce: batches as they came off the socket, read in place and appended without a copy.

Parsed and written by hand: kio would copy every batch, and takes longer than the append itself.
KIP-98 (idempotence), KIP-467 (messages with the errors), KIP-516 (topic ids, from version 13).
"""

from struct import Struct
from typing import NamedTuple
from uuid import UUID

from kio.schema.errors import ErrorCode

from logserver.appends import Ack, Acks, BatchAppend
from logserver.kafka.errors import (
    InvalidRequiredAcks,
    UnsupportedCompression,
    error_code,
    message,
    transactions_unsupported,
)
from logserver.kafka.messages import ITEMS_MAX, RequestHeader, by_topic
from logserver.kafka.primitives import BeyondBounds, Reader, count, nullable_string
from logstore.compression import Compression
from logstore.errors import InvalidRecord, UnknownTopicId, UnknownTopicOrPartition
from logstore.header import COMPRESSION_MASK, HEADER_SIZE, MAGIC, crc_matches
from logstore.header import read_header as read_batch_header
from logstore.topics import TopicStore

TOPIC_IDS_FROM = 13
MESSAGES_FROM = 8
LOG_START_FROM = 5
#: Older ones are from before zstd (KIP-110).
ZSTD_FROM = 7

ACKS = {-1: Acks.ALL, 1: Acks.ONE, 0: Acks.ZERO}

_INT32 = Struct(">i")
_PARTITION = Struct(">ihqq")
#: The time of the append, which is said only by topics with LogAppendTime; there are none here.
_NO_TIME = -1


class ProduceRequest(NamedTuple):
    acks: Acks | None
    """None for a number that is none of the three: every partition is refused."""
    timeout_ms: int
    #: One for each partition, in the order in which they came; what cannot be appended is answered already.
    appends: list[BatchAppend | Ack]
    #: Of the same length: the topic as the answer has to name it.
    topics: list[str | bytes]


def read_produce(header: RequestHeader, frame: memoryview, store: TopicStore) -> ProduceRequest:
    """Raises Malformed."""
    version = header.version
    reader = Reader(frame, header.body_at, flexible=header.flexible)
    transactional_id = reader.nullable_string()
    acks_number = reader.int16()
    acks = ACKS.get(acks_number)
    timeout_ms = reader.int32()
    refused: Exception | None = None
    if acks is None:
        refused = InvalidRequiredAcks(f"acks={acks_number} is no level", remedy="Set acks to 0, 1 or all (-1).")
    elif transactional_id is not None:
        refused = transactions_unsupported(transactional_id)
    appends: list[BatchAppend | Ack] = []
    topics: list[str | bytes] = []
    items_left = ITEMS_MAX
    for _ in reader.array():
        topic_id = b""
        wire_name: str | bytes
        unknown: Exception | None = None
        if version >= TOPIC_IDS_FROM:
            wire_name = topic_id = reader.uuid()
            name, unknown = _name_of(topic_id, store)
        else:
            wire_name = name = reader.string()
            topic_id, unknown = _id_of(name, store)
        items_left = _one_less(items_left)
        for _ in reader.array():
            items_left = _one_less(items_left)
            partition = reader.int32()
            records = reader.nullable_bytes()
            reader.tags()
            error = refused or unknown or _refusal(records, version)
            if error is None:
                assert records is not None
                appends.append(BatchAppend(name, topic_id, partition, records))
            else:
                appends.append(Ack(name, partition, error=error))
            topics.append(wire_name)
        reader.tags()
    reader.tags()
    return ProduceRequest(acks, timeout_ms, appends, topics)


def _one_less(items_left: int) -> int:
    if items_left == 0:
        raise BeyondBounds(f"a request has more than {ITEMS_MAX} topics and partitions", remedy="Send less at a time.")
    return items_left - 1


def _id_of(name: str, store: TopicStore) -> tuple[bytes, Exception | None]:
    """As in Kafka, a topic is made by asking for its metadata, and not by producing to it. With its id nor is one that
    is deleted while the request waits."""
    try:
        return store.topic(name).topic_id.bytes, None
    except UnknownTopicOrPartition as error:
        return b"", error


def _name_of(topic_id: bytes, store: TopicStore) -> tuple[str, Exception | None]:
    try:
        return store.topic_by_id(UUID(bytes=topic_id)).name, None
    except UnknownTopicId as error:
        return "", error


def _refusal(records: memoryview | None, version: int) -> Exception | None:
    """What a broker looks at before a batch goes to the log. The log checks the rest."""
    if records is None or len(records) < HEADER_SIZE:
        # A message of the old formats has fewer bytes than a header of today.
        return InvalidRecord("a partition has no record batch", remedy="Send exactly one batch a partition.")
    header = read_batch_header(records)
    if header.magic != MAGIC:
        return InvalidRecord(f"the batch is of format {header.magic}", remedy=f"Send record batches of format {MAGIC}.")
    if 0 <= header.size < len(records):
        return InvalidRecord("a partition has more than one batch", remedy="Send exactly one batch a partition.")
    if header.base_offset != 0:
        return InvalidRecord(
            f"the batch says that its offset is {header.base_offset}, which only the broker gives",
            remedy="Send batches that begin at offset 0.",
        )
    count_is_wrong = header.records_count < 1 or header.last_offset_delta != header.records_count - 1
    if count_is_wrong and crc_matches(records, 0, len(records)):
        # The log would call it damaged, which is to be sent again. The client has made it so.
        return InvalidRecord(
            f"the batch has {header.records_count} records, and its last offset is {header.last_offset_delta} after "
            "its first",
            remedy="Send batches with a record for each offset.",
        )
    # Not `header.compression`: what is no codec is for the log to refuse.
    if version < ZSTD_FROM and header.attributes & COMPRESSION_MASK == Compression.ZSTD:
        return UnsupportedCompression(
            f"zstd needs version {ZSTD_FROM} of Produce or later", remedy="Use a newer client, or another codec."
        )
    return None


def encode_produce_answer(header: RequestHeader, request: ProduceRequest, acks: list[Ack]) -> bytes:
    """The whole frame."""
    version = header.version
    flexible = header.flexible
    parts: list[bytes] = [b"", b"\0" if flexible else b""]
    topics = by_topic(zip(request.topics, acks, strict=True))
    parts.append(count(len(topics), flexible=flexible))
    for wire_name, of_topic in topics.items():
        parts.append(wire_name if isinstance(wire_name, bytes) else nullable_string(wire_name, flexible=flexible))
        parts.append(count(len(of_topic), flexible=flexible))
        for ack in of_topic:
            code, text = (0, None) if ack.error is None else (error_code(ack.error), message(ack.error))
            if code == ErrorCode.unknown_topic_id and version < TOPIC_IDS_FROM:
                code = ErrorCode.unknown_topic_or_partition
            parts.append(_PARTITION.pack(ack.partition, code, ack.base_offset, _NO_TIME))
            if version >= LOG_START_FROM:
                parts.append(ack.log_start_offset.to_bytes(8, "big", signed=True))
            if version >= MESSAGES_FROM:
                refused = ack.error.record_indexes if isinstance(ack.error, InvalidRecord) else ()
                parts.append(count(len(refused), flexible=flexible))
                for index in refused:
                    parts.append(_INT32.pack(index) + nullable_string(text, flexible=flexible))
                    if flexible:
                        parts.append(b"\0")
                parts.append(nullable_string(text, flexible=flexible))
            if flexible:
                parts.append(b"\0")
        if flexible:
            parts.append(b"\0")
    parts.append(_INT32.pack(0))  # nobody is throttled
    if flexible:
        parts.append(b"\0")
    body = b"".join(parts)
    return _INT32.pack(len(body) + 4) + _INT32.pack(header.correlation_id) + body
