"""The table from errors to Kafka's error codes, and the errors that only this door knows.

Every error that an answer may tell has its row. Codes are said elsewhere where no error is behind them, since nothing
would carry its text: a version that is not spoken or has no word for what it asks, an endpoint of another type, a
client without a proper name, a cursor that points nowhere. And one error has another code in one place: NonEmptyGroup,
for a commit from outside. A request that cannot be read has no answer at all: Malformed ends the connection.

What is refused is answered by its code everywhere. Of a bug there are three policies. Requests of groups catch only
ExplainedError: a bug closes the connection, since nobody knows in what state it leaves the group, and whoever connects
anew asks for that first. Requests of topics, settings and records catch every exception of an item, which is answered
by UNKNOWN_SERVER_ERROR, since what was done for the others of the request stands, and has to be told. Metadata,
DescribeTopicPartitions and DescribeLogDirs, which tell what there is, catch only LogStoreError: a bug closes the
connection, and nothing is lost with it.
"""

from typing import Any

import structlog
from kio.schema.errors import ErrorCode

from consumer_groups import errors as groups
from logserver import errors as server
from logstore import errors as store
from logstore.errors import ExplainedError

logger = structlog.get_logger()


class InvalidRequiredAcks(server.LogServerError):
    """acks is none of 0, 1 and -1."""


class UnsupportedCompression(server.LogServerError):
    """A codec that clients of this version of the request cannot know."""


class InvalidReplicationFactor(server.LogServerError):
    """More replicas were asked for than there are brokers, or none."""


class InvalidReplicaAssignment(server.LogServerError):
    """Partitions were placed by hand, and not all where they can be."""


class TransactionsUnsupported(server.LogServerError):
    """A transactional id was given."""


class InvalidRegularExpression(server.LogServerError):
    """A group's member subscribes by a regular expression, which the server does not look at."""


class FencedLeaderEpoch(server.LogServerError):
    """The client knows an older epoch: what it read may have been cut off since. It asks for the metadata again."""


class UnknownLeaderEpoch(server.LogServerError):
    """The client knows a newer epoch than there is."""


class SessionRefused(server.LogServerError):
    """The client has lost track of its fetch session, and begins another."""


class FetchSessionIdNotFound(SessionRefused):
    """There is no such session on the connection, or no longer."""


class InvalidFetchSessionEpoch(SessionRefused):
    """The request is not the one that follows the session's last."""


def transactions_unsupported(transactional_id: str) -> TransactionsUnsupported:
    return TransactionsUnsupported(
        f"this broker has no transactions, and transactional.id={transactional_id!r} asks for them",
        remedy="Leave transactional.id out: the idempotent producer works.",
    )


#: By the exact class or the nearest base. What is in no row is a bug: UNKNOWN_SERVER_ERROR.
TABLE: dict[type[ExplainedError], ErrorCode] = {
    InvalidRequiredAcks: ErrorCode.invalid_required_acks,
    UnsupportedCompression: ErrorCode.unsupported_compression_type,
    InvalidReplicationFactor: ErrorCode.invalid_replication_factor,
    InvalidReplicaAssignment: ErrorCode.invalid_replica_assignment,
    InvalidRegularExpression: ErrorCode.invalid_regular_expression,
    FencedLeaderEpoch: ErrorCode.fenced_leader_epoch,
    UnknownLeaderEpoch: ErrorCode.unknown_leader_epoch,
    FetchSessionIdNotFound: ErrorCode.fetch_session_id_not_found,
    InvalidFetchSessionEpoch: ErrorCode.invalid_fetch_session_epoch,
    # Of those with which clients give up at once, the one that names the transactional id.
    TransactionsUnsupported: ErrorCode.transactional_id_authorization_failed,
    server.InvalidRequest: ErrorCode.invalid_request,
    server.InvalidPartitionNumber: ErrorCode.unknown_topic_or_partition,
    server.NegativeOffset: ErrorCode.offset_out_of_range,
    server.RequestTooLarge: ErrorCode.invalid_request,
    server.InternalTopic: ErrorCode.invalid_topic_exception,
    # Whoever is told so waits and tries again.
    server.Overloaded: ErrorCode.request_timed_out,
    server.RequestTimedOut: ErrorCode.request_timed_out,
    server.ShuttingDown: ErrorCode.coordinator_not_available,
    # Topics.
    store.UnknownTopicOrPartition: ErrorCode.unknown_topic_or_partition,
    store.UnknownTopicId: ErrorCode.unknown_topic_id,
    store.TopicAlreadyExists: ErrorCode.topic_already_exists,
    store.InvalidTopicName: ErrorCode.invalid_topic_exception,
    store.InvalidPartitions: ErrorCode.invalid_partitions,
    store.InvalidConfig: ErrorCode.invalid_config,
    store.PolicyViolation: ErrorCode.policy_violation,
    # Records.
    store.OffsetOutOfRange: ErrorCode.offset_out_of_range,
    store.CorruptBatch: ErrorCode.corrupt_message,
    store.BatchTooLarge: ErrorCode.message_too_large,
    store.InvalidRecord: ErrorCode.invalid_record,
    store.InvalidTimestamp: ErrorCode.invalid_timestamp,
    store.OutOfOrderSequence: ErrorCode.out_of_order_sequence_number,
    store.DuplicateSequence: ErrorCode.duplicate_sequence_number,
    store.InvalidProducerEpoch: ErrorCode.invalid_producer_epoch,
    store.UnknownProducerId: ErrorCode.unknown_producer_id,
    # Storage.
    store.DataDirectoryLocked: ErrorCode.kafka_storage_error,
    store.DataDirectoryUnusable: ErrorCode.kafka_storage_error,
    store.FormatTooNew: ErrorCode.kafka_storage_error,
    store.MetadataCorrupt: ErrorCode.kafka_storage_error,
    store.StorageFull: ErrorCode.kafka_storage_error,
    store.StorageFailed: ErrorCode.kafka_storage_error,
    # Clients give up on it and say so; a storage error they would try again for ever.
    store.DataLoss: ErrorCode.corrupt_message,
    # Groups.
    groups.InvalidRequest: ErrorCode.invalid_request,
    groups.Overloaded: ErrorCode.coordinator_not_available,
    groups.ShuttingDown: ErrorCode.coordinator_not_available,
    groups.GroupsUnavailable: ErrorCode.coordinator_not_available,
    groups.JournalUnreadable: ErrorCode.coordinator_not_available,
    groups.InvalidGroupId: ErrorCode.invalid_group_id,
    groups.GroupIdNotFound: ErrorCode.group_id_not_found,
    groups.NonEmptyGroup: ErrorCode.non_empty_group,
    groups.GroupMaxSizeReached: ErrorCode.group_max_size_reached,
    groups.UnknownMemberId: ErrorCode.unknown_member_id,
    groups.FencedMemberEpoch: ErrorCode.fenced_member_epoch,
    groups.StaleMemberEpoch: ErrorCode.stale_member_epoch,
    groups.UnreleasedInstanceId: ErrorCode.unreleased_instance_id,
    groups.FencedInstanceId: ErrorCode.fenced_instance_id,
    groups.UnsupportedAssignor: ErrorCode.unsupported_assignor,
    groups.OffsetMetadataTooLarge: ErrorCode.offset_metadata_too_large,
    groups.InconsistentGroupProtocol: ErrorCode.inconsistent_group_protocol,
    groups.MemberIdRequired: ErrorCode.member_id_required,
    groups.IllegalGeneration: ErrorCode.illegal_generation,
    groups.RebalanceInProgress: ErrorCode.rebalance_in_progress,
    groups.InvalidSessionTimeout: ErrorCode.invalid_session_timeout,
    groups.GroupSubscribedToTopic: ErrorCode.group_subscribed_to_topic,
    # Of seeks, which come through the other door only.
    groups.AssignmentUnreadable: ErrorCode.invalid_request,
    groups.SeekInProgress: ErrorCode.rebalance_in_progress,
    groups.SeekTimedOut: ErrorCode.request_timed_out,
    # Kafka has no word for it: it does not look whose the partition is. A member that is told so joins again.
    groups.PartitionNotOwned: ErrorCode.rebalance_in_progress,
}


def error_code(error: Exception) -> ErrorCode:
    """The code; an error that nobody has expected is logged."""
    for base in type(error).__mro__:
        code = TABLE.get(base)
        if code is not None:
            return code
    logger.error("unexpected error", exc_info=error)
    return ErrorCode.unknown_server_error


def named_twice(what: str) -> server.InvalidRequest:
    return server.InvalidRequest(f"the request names {what} more than once", remedy="Name each of them once.")


def refusal(error: Exception) -> dict[str, Any]:
    """The two fields in which many answers say what happened."""
    return {"error_code": error_code(error), "error_message": message(error)}


def message(error: Exception) -> str | None:
    """What happened and what to do, for the answers that have room for it."""
    return f"{error}. {error.remedy}" if isinstance(error, ExplainedError) else None
