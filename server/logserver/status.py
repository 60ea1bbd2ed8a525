"""The one table from domain errors to what goes over the wire: a gRPC status and an ErrorCode.

Kafka's numbers will stand beside them in the same rows.
"""

import structlog
from google.protobuf.any_pb2 import Any
from google.rpc.status_pb2 import Status
from grpc import StatusCode

from consumer_groups import errors as groups
from logserver import errors as server
from logstore import errors as store
from logstore.errors import ExplainedError
from logwire.v1 import errors_pb2
from logwire.v1.errors_pb2 import ErrorCode

log = structlog.get_logger()

#: Header lists are limited to 8 KiB, so a message that quotes what it got must end somewhere.
MESSAGE_CHARACTERS_MAX = 400

_Row = tuple[StatusCode, "ErrorCode.ValueType"]

#: Every row by the exact class or the nearest base. What is in no row is a bug: INTERNAL.
TABLE: dict[type[ExplainedError], _Row] = {
    server.InvalidRequest: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_INVALID_REQUEST),
    server.InvalidPartitionNumber: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_INVALID_REQUEST),
    server.NegativeOffset: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_INVALID_REQUEST),
    server.RequestTooLarge: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_REQUEST_TOO_LARGE),
    server.InternalTopic: (StatusCode.PERMISSION_DENIED, ErrorCode.ERROR_CODE_INVALID_TOPIC),
    server.Overloaded: (StatusCode.RESOURCE_EXHAUSTED, ErrorCode.ERROR_CODE_OVERLOADED),
    server.RequestTimedOut: (StatusCode.DEADLINE_EXCEEDED, ErrorCode.ERROR_CODE_REQUEST_TIMED_OUT),
    server.ShuttingDown: (StatusCode.UNAVAILABLE, ErrorCode.ERROR_CODE_SHUTTING_DOWN),
    # Topics.
    store.UnknownTopicOrPartition: (StatusCode.NOT_FOUND, ErrorCode.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION),
    store.UnknownTopicId: (StatusCode.NOT_FOUND, ErrorCode.ERROR_CODE_UNKNOWN_TOPIC_ID),
    store.TopicAlreadyExists: (StatusCode.ALREADY_EXISTS, ErrorCode.ERROR_CODE_TOPIC_ALREADY_EXISTS),
    store.InvalidTopicName: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_INVALID_TOPIC),
    store.InvalidPartitions: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_INVALID_PARTITIONS),
    store.InvalidConfig: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_INVALID_CONFIG),
    store.PolicyViolation: (StatusCode.FAILED_PRECONDITION, ErrorCode.ERROR_CODE_POLICY_VIOLATION),
    # Records.
    store.OffsetOutOfRange: (StatusCode.OUT_OF_RANGE, ErrorCode.ERROR_CODE_OFFSET_OUT_OF_RANGE),
    store.CorruptBatch: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_CORRUPT_MESSAGE),
    store.BatchTooLarge: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_MESSAGE_TOO_LARGE),
    store.InvalidRecord: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_INVALID_RECORD),
    store.InvalidTimestamp: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_INVALID_TIMESTAMP),
    store.OutOfOrderSequence: (StatusCode.FAILED_PRECONDITION, ErrorCode.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER),
    store.DuplicateSequence: (StatusCode.ALREADY_EXISTS, ErrorCode.ERROR_CODE_DUPLICATE_SEQUENCE_NUMBER),
    store.InvalidProducerEpoch: (StatusCode.FAILED_PRECONDITION, ErrorCode.ERROR_CODE_INVALID_PRODUCER_EPOCH),
    store.UnknownProducerId: (StatusCode.FAILED_PRECONDITION, ErrorCode.ERROR_CODE_UNKNOWN_PRODUCER_ID),
    # Storage. The first few are met at start, before there is a door; a part opened later may meet them again.
    store.DataDirectoryLocked: (StatusCode.UNAVAILABLE, ErrorCode.ERROR_CODE_STORAGE_ERROR),
    store.DataDirectoryUnusable: (StatusCode.UNAVAILABLE, ErrorCode.ERROR_CODE_STORAGE_ERROR),
    store.FormatTooNew: (StatusCode.UNAVAILABLE, ErrorCode.ERROR_CODE_STORAGE_ERROR),
    store.MetadataCorrupt: (StatusCode.DATA_LOSS, ErrorCode.ERROR_CODE_DATA_LOSS),
    store.StorageFull: (StatusCode.RESOURCE_EXHAUSTED, ErrorCode.ERROR_CODE_STORAGE_FULL),
    store.StorageFailed: (StatusCode.UNAVAILABLE, ErrorCode.ERROR_CODE_STORAGE_ERROR),
    store.DataLoss: (StatusCode.DATA_LOSS, ErrorCode.ERROR_CODE_DATA_LOSS),
    # Groups.
    groups.InvalidRequest: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_INVALID_REQUEST),
    groups.Overloaded: (StatusCode.RESOURCE_EXHAUSTED, ErrorCode.ERROR_CODE_OVERLOADED),
    groups.ShuttingDown: (StatusCode.UNAVAILABLE, ErrorCode.ERROR_CODE_SHUTTING_DOWN),
    groups.GroupsUnavailable: (StatusCode.UNAVAILABLE, ErrorCode.ERROR_CODE_STORAGE_ERROR),
    groups.JournalUnreadable: (StatusCode.DATA_LOSS, ErrorCode.ERROR_CODE_DATA_LOSS),
    groups.InvalidGroupId: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_INVALID_GROUP_ID),
    groups.GroupIdNotFound: (StatusCode.NOT_FOUND, ErrorCode.ERROR_CODE_GROUP_ID_NOT_FOUND),
    groups.NonEmptyGroup: (StatusCode.FAILED_PRECONDITION, ErrorCode.ERROR_CODE_NON_EMPTY_GROUP),
    groups.GroupMaxSizeReached: (StatusCode.RESOURCE_EXHAUSTED, ErrorCode.ERROR_CODE_GROUP_MAX_SIZE_REACHED),
    groups.InconsistentGroupProtocol: (
        StatusCode.FAILED_PRECONDITION,
        ErrorCode.ERROR_CODE_INCONSISTENT_GROUP_PROTOCOL,
    ),
    groups.UnknownMemberId: (StatusCode.NOT_FOUND, ErrorCode.ERROR_CODE_UNKNOWN_MEMBER_ID),
    groups.FencedMemberEpoch: (StatusCode.FAILED_PRECONDITION, ErrorCode.ERROR_CODE_FENCED_MEMBER_EPOCH),
    groups.StaleMemberEpoch: (StatusCode.FAILED_PRECONDITION, ErrorCode.ERROR_CODE_STALE_MEMBER_EPOCH),
    groups.UnreleasedInstanceId: (StatusCode.FAILED_PRECONDITION, ErrorCode.ERROR_CODE_UNRELEASED_INSTANCE_ID),
    groups.FencedInstanceId: (StatusCode.FAILED_PRECONDITION, ErrorCode.ERROR_CODE_FENCED_INSTANCE_ID),
    # Of members of classic groups, who come through Kafka's door: through this one only a commit meets the first two.
    groups.IllegalGeneration: (StatusCode.FAILED_PRECONDITION, ErrorCode.ERROR_CODE_STALE_MEMBER_EPOCH),
    groups.RebalanceInProgress: (StatusCode.FAILED_PRECONDITION, ErrorCode.ERROR_CODE_STALE_MEMBER_EPOCH),
    groups.MemberIdRequired: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_INVALID_REQUEST),
    groups.InvalidSessionTimeout: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_INVALID_REQUEST),
    groups.UnsupportedAssignor: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_UNSUPPORTED_ASSIGNOR),
    groups.OffsetMetadataTooLarge: (StatusCode.INVALID_ARGUMENT, ErrorCode.ERROR_CODE_OFFSET_METADATA_TOO_LARGE),
    groups.PartitionNotOwned: (StatusCode.FAILED_PRECONDITION, ErrorCode.ERROR_CODE_PARTITION_NOT_OWNED),
    groups.AssignmentUnreadable: (StatusCode.FAILED_PRECONDITION, ErrorCode.ERROR_CODE_ASSIGNMENT_UNREADABLE),
    groups.GroupSubscribedToTopic: (StatusCode.FAILED_PRECONDITION, ErrorCode.ERROR_CODE_NON_EMPTY_GROUP),
    groups.SeekInProgress: (StatusCode.ABORTED, ErrorCode.ERROR_CODE_SEEK_IN_PROGRESS),
    groups.SeekTimedOut: (StatusCode.DEADLINE_EXCEEDED, ErrorCode.ERROR_CODE_SEEK_TIMED_OUT),
}

_INTERNAL: _Row = (StatusCode.INTERNAL, ErrorCode.ERROR_CODE_INTERNAL)


def describe(error: Exception) -> errors_pb2.Error:
    """The error as replies carry it in-band. One that is in no row is logged with its traceback."""
    return _describe(error, _row(error))


def refusal(error: Exception) -> tuple[StatusCode, str, bytes]:
    """Status, message, and rich status (a serialized google.rpc.Status with one Error) of a call refused as a whole."""
    row = _row(error)
    described = _describe(error, row)
    status = Status(code=row[0].value[0], message=described.message)
    detail = Any()
    detail.Pack(described)
    status.details.append(detail)
    return row[0], described.message, status.SerializeToString()


def _row(error: Exception) -> _Row:
    for base in type(error).__mro__:
        row = TABLE.get(base)
        if row is not None:
            return row
    return _INTERNAL


def _describe(error: Exception, row: _Row) -> errors_pb2.Error:
    if not isinstance(error, ExplainedError) or row is _INTERNAL:
        log.error("unexpected error", exc_info=error)
        return errors_pb2.Error(
            code=row[1],
            message=f"The server met an unexpected {type(error).__name__}.",
            remedy="Look into the server's log, and report it as a bug.",
            retriable=False,
        )
    described = errors_pb2.Error(
        code=row[1],
        message=_shortened(str(error)),
        remedy=_shortened(error.remedy),
        retriable=error.retriable,
    )
    if isinstance(error, store.DataLoss):
        damaged = errors_pb2.Error(
            topic=error.topic or "", partition=error.partition, offset=error.offset, next_offset=error.next_offset
        )
        described.MergeFrom(damaged)
    return described


def _shortened(text: str) -> str:
    return text if len(text) <= MESSAGE_CHARACTERS_MAX else text[: MESSAGE_CHARACTERS_MAX - 1] + "…"
