"""Every error of the client, as one tree. Each says what happened, with the facts, and carries what to do about it.

    TailraceError
      RetriableError        the same call may succeed later, unchanged
      FinalError            it will not; something has to change first

What the server refuses has Kafka's name wherever Kafka has the error, and the code of the wire contract. Nothing here
knows how a call is made: connection.py turns what the wire says into these.
"""

from typing import ClassVar


class TailraceError(Exception):
    """The root. `message` says what happened; `remedy` is one sentence on what to do; `str()` is both, on one line;
    `code` is for programs."""

    #: True when the same call may succeed later, unchanged.
    retriable: bool = False
    #: What `code` is when nothing else is said.
    default_code: ClassVar[str] = "INTERNAL"

    def __init__(self, message: str, *, remedy: str, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.code = code or self.default_code

    def __str__(self) -> str:
        # What a traceback shows, and a log: whoever reads there has nothing else to go by.
        return f"{self.message.removesuffix('.')}. {self.remedy}" if self.remedy else self.message

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling of exceptions.
        return _rebuild, (type(self), self.message), self.__dict__


class RetriableError(TailraceError):
    """The same call may succeed later, unchanged."""

    retriable = True


class FinalError(TailraceError):
    """The same call will fail again: something has to change first."""


def _rebuild(kind: type[TailraceError], message: str) -> TailraceError:
    error = kind.__new__(kind, message)
    Exception.__init__(error, message)
    return error


# Of the connection.


class ServerUnreachable(RetriableError):
    """No server answered at first use."""

    default_code = "SERVER_UNREACHABLE"


class ServerUnavailable(RetriableError):
    """The server was there, went away, and did not come back in time."""

    default_code = "SERVER_UNAVAILABLE"


class RequestTimedOut(RetriableError):
    """The server did not answer in time. What was asked may have been done or not."""

    default_code = "REQUEST_TIMED_OUT"


class ShuttingDown(RetriableError):
    """The server is stopping."""

    default_code = "SHUTTING_DOWN"


class Overloaded(RetriableError):
    """A bound of the server is reached."""

    default_code = "OVERLOADED"


class IncompatibleServer(FinalError):
    """What answers does not speak this protocol, or not this version of it."""

    default_code = "INCOMPATIBLE_SERVER"


class InternalServerError(FinalError):
    """A bug in the server, which has it in its log."""

    default_code = "INTERNAL"


# Of how the library is used.


class InvalidRequest(FinalError, ValueError):
    """An argument is missing, absurd, of the wrong type, or contradicts another."""

    default_code = "INVALID_REQUEST"


class ClientClosed(FinalError):
    """The client was closed before."""

    default_code = "CLIENT_CLOSED"


class ForkedProcessError(FinalError):
    """This process was forked from one that had connected. gRPC does not survive that."""

    default_code = "FORKED_PROCESS"


class WrongThreadError(FinalError):
    """A consumer is used from another thread than its own, or a callback waits for the thread it is called on."""

    default_code = "WRONG_THREAD"


class RequestTooLarge(FinalError):
    """The request is larger than the server or the connection takes."""

    default_code = "REQUEST_TOO_LARGE"


# Of topics.


class UnknownTopicOrPartition(FinalError):
    """No such topic, or the topic has no such partition."""

    default_code = "UNKNOWN_TOPIC_OR_PARTITION"


class UnknownTopicId(FinalError):
    """The topic was deleted, or deleted and made again, since this client learned of it."""

    default_code = "UNKNOWN_TOPIC_ID"


class TopicAlreadyExists(FinalError):
    """A topic of that name, or of one that cannot be told from it, exists."""

    default_code = "TOPIC_ALREADY_EXISTS"


class InvalidTopic(FinalError):
    """The name of the topic breaks the rules for names, or is the server's own."""

    default_code = "INVALID_TOPIC"


class InvalidPartitions(FinalError):
    """The number of partitions is not one that can be made."""

    default_code = "INVALID_PARTITIONS"


class InvalidConfig(FinalError):
    """An unknown setting, or a value that it cannot have."""

    default_code = "INVALID_CONFIG"


class PolicyViolation(FinalError):
    """The topic's cleanup.policy does not allow it."""

    default_code = "POLICY_VIOLATION"


# Of records.


class OffsetOutOfRange(FinalError):
    """The offset is not in the log: it was deleted, or is not written yet."""

    default_code = "OFFSET_OUT_OF_RANGE"


class CorruptMessage(FinalError):
    """A batch arrived damaged, or was damaged by the producer that wrote it."""

    default_code = "CORRUPT_MESSAGE"


class MessageTooLarge(FinalError):
    """A record, or a batch, is larger than the topic takes."""

    default_code = "MESSAGE_TOO_LARGE"


class InvalidRecord(FinalError):
    """A record cannot be stored as it is."""

    default_code = "INVALID_RECORD"


class InvalidTimestamp(FinalError):
    """The time of a record is too far in the future."""

    default_code = "INVALID_TIMESTAMP"


class RecordDecodeError(FinalError, ValueError):
    """The value of a record is not what it was read as. `record` is the record."""

    default_code = "RECORD_DECODE"

    def __init__(self, message: str, *, remedy: str, record: object, code: str | None = None) -> None:
        super().__init__(message, remedy=remedy, code=code)
        self.record = record


# Of sending.


class BufferFull(RetriableError):
    """There was no room for another record for as long as `max_block`."""

    default_code = "BUFFER_FULL"


class DeliveryTimedOut(RetriableError):
    """A record was not acknowledged within `delivery_timeout`. It may have been written or not."""

    default_code = "DELIVERY_TIMED_OUT"


class ResultTimedOut(RetriableError, TimeoutError):
    """The fate of a send was still open when its caller stopped waiting. The send goes on."""

    default_code = "RESULT_TIMED_OUT"


class SendsFailed(FinalError):
    """Sends failed whose futures nobody read. `errors` holds the first few, `count` says how many records."""

    default_code = "SENDS_FAILED"

    def __init__(
        self, message: str, *, remedy: str, count: int, errors: tuple[TailraceError, ...], code: str | None = None
    ) -> None:
        super().__init__(message, remedy=remedy, code=code)
        self.count = count
        self.errors = errors


class OutOfOrderSequenceNumber(FinalError):
    """The server lacks a batch that it had acknowledged to this producer."""

    default_code = "OUT_OF_ORDER_SEQUENCE_NUMBER"


class DuplicateSequenceNumber(FinalError):
    """The batch was written before, so long ago that its offset is no longer known."""

    default_code = "DUPLICATE_SEQUENCE_NUMBER"


class InvalidProducerEpoch(FinalError):
    """The producer's id is used with a newer epoch."""

    default_code = "INVALID_PRODUCER_EPOCH"


class UnknownProducerId(FinalError):
    """The partition has forgotten the producer while a batch's fate was open. It may have been written or not."""

    default_code = "UNKNOWN_PRODUCER_ID"


# Of the server's storage.


class StorageFull(RetriableError):
    """The server's disk has no room. Nothing was written."""

    default_code = "STORAGE_FULL"


class StorageFailed(RetriableError):
    """A write or sync of the server's disk failed. It stops, and recovers when it is started again."""

    default_code = "STORAGE_ERROR"


class DataLoss(FinalError):
    """Bytes on the server's disk are damaged: the records [offset, next_offset) of a partition of a topic, where those
    are known. All others can be read: seek to `next_offset` to go on."""

    default_code = "DATA_LOSS"

    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    #: None, too, where it is not known how far the damage goes.
    next_offset: int | None = None


# Of groups.


class InvalidGroupId(FinalError):
    """The group's name is empty, too long or not printable."""

    default_code = "INVALID_GROUP_ID"


class GroupIdNotFound(FinalError):
    """There is no such group."""

    default_code = "GROUP_ID_NOT_FOUND"


class NonEmptyGroup(FinalError):
    """The group has members, and what was asked for is done only to groups without."""

    default_code = "NON_EMPTY_GROUP"


class GroupMaxSizeReached(RetriableError):
    """The group has as many members as it may have."""

    default_code = "GROUP_MAX_SIZE_REACHED"


class UnknownMemberId(FinalError):
    """The group has no such member: it left, was fenced, or never joined."""

    default_code = "UNKNOWN_MEMBER_ID"


class FencedMemberEpoch(FinalError):
    """The member's epoch is not the one the server knows, or it claims what is no longer its own."""

    default_code = "FENCED_MEMBER_EPOCH"


class StaleMemberEpoch(RetriableError):
    """A commit with an older or newer epoch than the member's."""

    default_code = "STALE_MEMBER_EPOCH"


class UnreleasedInstanceId(RetriableError):
    """Another live member has the instance id."""

    default_code = "UNRELEASED_INSTANCE_ID"


class FencedInstanceId(FinalError):
    """Another member has taken the instance id over."""

    default_code = "FENCED_INSTANCE_ID"


class UnsupportedAssignor(FinalError):
    """There is no assignor of that name."""

    default_code = "UNSUPPORTED_ASSIGNOR"


class OffsetMetadataTooLarge(FinalError):
    """The text beside a committed offset is larger than the server keeps."""

    default_code = "OFFSET_METADATA_TOO_LARGE"


class PartitionNotOwned(FinalError):
    """A commit of a partition that the member does not hold, or of one that is being sought elsewhere."""

    default_code = "PARTITION_NOT_OWNED"


class SeekInProgress(RetriableError):
    """Another seek of one of the partitions is under way."""

    default_code = "SEEK_IN_PROGRESS"


class SeekTimedOut(RetriableError):
    """A member did not give its partitions up in time; the old offsets stand."""

    default_code = "SEEK_TIMED_OUT"


class InconsistentGroupProtocol(FinalError):
    """The members of the group are Kafka clients that use the classic protocol, so none of tailrace can join."""

    default_code = "INCONSISTENT_GROUP_PROTOCOL"


class AssignmentUnreadable(FinalError):
    """What a classic group assigns to its members is in no form that the server knows, so it cannot seek the group."""

    default_code = "ASSIGNMENT_UNREADABLE"


# Of tests.


class BrokerFailed(FinalError):
    """The broker that `tailrace.testing` runs did not start, or ended, or does not answer."""

    default_code = "BROKER_FAILED"
