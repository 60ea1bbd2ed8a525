"""Offsets: where a caller wants to go, and what the server knows: where a log begins and ends, what a time stands for,
what a group has committed."""

import datetime
from collections.abc import Iterable, Mapping, Sequence

from logwire.v1 import groups_pb2, records_pb2
from tailrace.connection import Connection, error_from_wire
from tailrace.errors import InvalidRequest
from tailrace.metadata import Cluster
from tailrace.positions import PartitionKey

#: Where to start: a place, an offset, a time, or so long ago.
Start = str | int | datetime.datetime | datetime.timedelta

QUERIES_PER_REQUEST = 5_000

EARLIEST = records_pb2.OFFSET_SPEC_EARLIEST
LATEST = records_pb2.OFFSET_SPEC_LATEST
TIMESTAMP = records_pb2.OFFSET_SPEC_TIMESTAMP


def checked_start(start: Start) -> Start:
    """Raises InvalidRequest for what is not a place to start."""
    if start in ("beginning", "end") or (type(start) is int and start >= 0):
        return start
    if isinstance(start, datetime.timedelta) and start < datetime.timedelta():
        raise InvalidRequest(
            f"a start of {start!r} ago is in the future",
            remedy='Give a timedelta of 0 or more for so long ago, or "end" for what comes from now on.',
        )
    if isinstance(start, datetime.datetime | datetime.timedelta):
        try:
            to_timestamp_ms(start)
        except (OverflowError, ValueError):
            pass  # A time that no clock shows, such as datetime.min.
        else:
            return start
    raise InvalidRequest(
        f"{start!r} is not a place to start",
        remedy='Use "beginning", "end", an offset of 0 or more, a datetime, or a timedelta for so long ago.',
    )


def seek_target(offset: int | str | None, timestamp_ms: int | None, time: datetime.datetime | None) -> Start:
    """Where a seek goes: the one that was given. Raises InvalidRequest when it is none or several."""
    given = [target for target in (offset, timestamp_ms, time) if target is not None]
    if len(given) != 1:
        raise InvalidRequest(
            f"a seek goes to one place, and {len(given)} are given", remedy="Give one of offset=, timestamp_ms=, time=."
        )
    if timestamp_ms is None:
        if time is not None and not isinstance(time, datetime.datetime):
            raise InvalidRequest(f"time={time!r} is not a place to go to", remedy="Give a datetime.")
        return given[0]
    try:
        return datetime.datetime.fromtimestamp(timestamp_ms / 1000, datetime.UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        raise InvalidRequest(
            f"timestamp_ms={timestamp_ms!r} is not a place to go to", remedy="Give milliseconds since 1970, as an int."
        ) from None


def to_timestamp_ms(time: datetime.datetime | datetime.timedelta) -> int:
    """Milliseconds since 1970 of a time (naive ones are local), or of so long ago. Never negative."""
    if isinstance(time, datetime.timedelta):
        time = datetime.datetime.now(datetime.UTC) - time
    return max(0, round(time.timestamp() * 1000))


async def resolve_start(cluster: Cluster, keys: Sequence[PartitionKey], start: Start) -> dict[PartitionKey, int]:
    """The offset that a place stands for in each partition. Raises what the server says of any of them."""
    if isinstance(start, int):
        return dict.fromkeys(keys, start)
    if isinstance(start, datetime.datetime | datetime.timedelta):
        return await list_offsets(cluster.bootstrap, keys, TIMESTAMP, to_timestamp_ms(start))
    return await list_offsets(cluster.bootstrap, keys, EARLIEST if start == "beginning" else LATEST)


async def list_offsets(
    connection: Connection, keys: Sequence[PartitionKey], spec: records_pb2.OffsetSpec.ValueType, timestamp_ms: int = 0
) -> dict[PartitionKey, int]:
    found: dict[PartitionKey, int] = {}
    for first in range(0, len(keys), QUERIES_PER_REQUEST):
        some = keys[first : first + QUERIES_PER_REQUEST]
        request = records_pb2.ListOffsetsRequest()
        for key in some:
            request.queries.add(topic=key.topic, partition=key.partition, spec=spec, timestamp_ms=timestamp_ms)
        response = await connection.call(connection.fetch.ListOffsets, request)
        for key, result in zip(some, response.results, strict=True):
            if result.HasField("error"):
                raise error_from_wire(result.error)
            found[key] = result.offset
    return found


async def committed_offsets(
    connection: Connection, group: str, keys: Iterable[PartitionKey]
) -> dict[PartitionKey, int]:
    """What a group has committed; partitions without are left out."""
    by_topic: dict[tuple[str, bytes], list[int]] = {}
    for key in keys:
        by_topic.setdefault((key.topic, key.topic_id), []).append(key.partition)
    if not by_topic:
        return {}
    request = groups_pb2.FetchOffsetsRequest(group=group)
    for (topic, topic_id), partitions in by_topic.items():
        request.topic_partitions.add(topic=topic, topic_id=topic_id, partitions=partitions)
    response = await connection.call(connection.groups.FetchOffsets, request)
    found: dict[PartitionKey, int] = {}
    for offset in response.offsets:
        if offset.HasField("error"):
            raise error_from_wire(offset.error)
        if offset.offset >= 0:
            found[PartitionKey(offset.topic, offset.topic_id, offset.partition)] = offset.offset
    return found


def commit_request(
    group: str, member_id: str, member_epoch: int, number: int, offsets: Mapping[PartitionKey, int]
) -> groups_pb2.CommitOffsetsRequest:
    request = groups_pb2.CommitOffsetsRequest(
        group=group, member_id=member_id, member_epoch=member_epoch, number=number
    )
    for key, offset in offsets.items():
        request.offsets.add(topic=key.topic, topic_id=key.topic_id, partition=key.partition, offset=offset)
    return request
