"""ListOffsets and OffsetForLeaderEpoch: where a partition begins and ends, and what is at a time."""

from typing import Any

from kio.schema.errors import ErrorCode

from logserver.broker import Broker
from logserver.context import Operation, RequestContext
from logserver.errors import InvalidRequest
from logserver.kafka.errors import error_code
from logserver.kafka.leader_epochs import check_leader_epoch
from logserver.kafka.messages import Fields, get
from logserver.kafka.primitives import NO_OFFSET
from logserver.time_slice import TimeSlice
from logstore.log import Log

#: In the place of a timestamp. KIP-79, KIP-734 (the largest timestamp), KIP-405 and KIP-1005 (tiered storage: all of
#: the log is local, and nothing of it remote).
LATEST = -1
EARLIEST = -2
MAX_TIMESTAMP = -3
EARLIEST_LOCAL = -4
LATEST_TIERED = -5

#: From which version of ListOffsets on.
SPECIAL_FROM = {MAX_TIMESTAMP: 7, EARLIEST_LOCAL: 8, LATEST_TIERED: 9}

NO_TIMESTAMP = -1


class OffsetHandlers:
    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    async def list_offsets(self, request: Any, context: RequestContext) -> Fields:
        time_slice = TimeSlice(self._broker.clock)
        topics = []
        for topic in request.topics:
            partitions = []
            for part in topic.partitions:
                await time_slice.give_way()
                answer: dict[str, Any] = {"partition_index": part.partition_index, "error_code": ErrorCode.none}
                try:
                    answer |= await self._find(context, topic.name, part, request.__version__)
                except Exception as refused:
                    answer["error_code"] = error_code(refused)
                partitions.append(answer)
            topics.append({"name": topic.name, "partitions": partitions})
        return {"topics": topics}

    async def _find(self, context: RequestContext, name: str, part: Any, version: int) -> Fields:
        if part.timestamp in SPECIAL_FROM and version < SPECIAL_FROM[part.timestamp]:
            return {"error_code": ErrorCode.unsupported_version}
        log = await self._log(context, name, part.partition_index, get(part, "current_leader_epoch", -1))
        offset, timestamp_ms = await self._at(log, part.timestamp)
        # Kafka says nothing of the epoch where it found no record.
        epoch = log.leader_epoch if offset >= 0 else -1
        return {"offset": offset, "timestamp": timestamp_ms, "leader_epoch": epoch}

    async def _at(self, log: Log, timestamp: int) -> tuple[int, int]:
        if timestamp == LATEST:
            return log.high_watermark, NO_TIMESTAMP
        if timestamp in (EARLIEST, EARLIEST_LOCAL):
            return log.log_start_offset, NO_TIMESTAMP
        if timestamp == LATEST_TIERED:
            return NO_OFFSET, NO_TIMESTAMP
        if timestamp == MAX_TIMESTAMP:
            timestamp = log.max_timestamp_ms
            if timestamp < 0:
                return NO_OFFSET, NO_TIMESTAMP
        if timestamp < 0:
            raise InvalidRequest(f"{timestamp} is no time", remedy="Ask for a time, or for the earliest or latest.")
        offset, found_ms = await self._broker.fetches.offset_for_timestamp(log, timestamp)
        return (NO_OFFSET, NO_TIMESTAMP) if found_ms is None else (offset, found_ms)

    async def offset_for_leader_epoch(self, request: Any, context: RequestContext) -> Fields:
        topics = []
        for topic in request.topics:
            partitions = []
            for part in topic.partitions:
                answer: dict[str, Any] = {"partition": part.partition, "error_code": ErrorCode.none}
                try:
                    log = await self._log(context, topic.topic, part.partition, part.current_leader_epoch)
                    known = part.leader_epoch <= self._broker.store.leader_epoch
                    epoch, end_offset = log.epoch_end_offset(part.leader_epoch) if known else (-1, -1)
                    answer |= {"leader_epoch": epoch, "end_offset": end_offset}
                except Exception as refused:
                    answer["error_code"] = error_code(refused)
                partitions.append(answer)
            topics.append({"topic": topic.topic, "partitions": partitions})
        return {"topics": topics}

    async def _log(self, context: RequestContext, name: str, partition: int, leader_epoch: int) -> Log:
        topic = self._broker.topics.find(context, name, Operation.DESCRIBE)
        log = await self._broker.topics.open_log(topic, partition)
        check_leader_epoch(leader_epoch, self._broker.store.leader_epoch)
        return log
