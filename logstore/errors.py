"""Every error of the storage engine. Each says what happened, with the facts, and carries what to do about it."""

from collections.abc import Sequence
from typing import ClassVar, Self


class ExplainedError(Exception):
    """The root of every error of the server. `str()` says what happened; `remedy` is one sentence on what to do."""

    #: True when the same call may succeed later, unchanged.
    retriable: ClassVar[bool] = False

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class LogStoreError(ExplainedError):
    """The root of this package's errors."""


# Of the data directory, met at start.


class DataDirectoryLocked(LogStoreError):
    """Another process has the data directory open."""


class DataDirectoryUnusable(LogStoreError):
    """The data directory cannot be read or written, or is not one of ours, or is only half there."""


class FormatTooNew(LogStoreError):
    """The data directory was written by a newer version."""


class MetadataCorrupt(LogStoreError):
    """A metadata file fails its checksum or contradicts another. It is never read as 'empty'."""


# Of topics.


class UnknownTopicOrPartition(LogStoreError):
    """No such topic, or the topic has no such partition."""


class UnknownTopicId(LogStoreError):
    """The topic was deleted, or deleted and made again, since the caller learned its id."""


class TopicAlreadyExists(LogStoreError):
    """A topic of that name, or of one that cannot be told from it, exists."""


class InvalidTopicName(LogStoreError):
    """The name breaks Kafka's rules for topic names, by itself or beside that of another topic."""


class InvalidPartitions(LogStoreError):
    """The number of partitions is not one that can be made."""


class InvalidConfig(LogStoreError):
    """An unknown setting, or a value that it cannot have."""


class PolicyViolation(LogStoreError):
    """The topic's cleanup.policy does not allow it."""


# Of records.


class OffsetOutOfRange(LogStoreError):
    """The offset is not in the log: it was deleted, or is not written yet."""

    @classmethod
    def of(cls, offset: int, topic: str, partition: int, log_start_offset: int, high_watermark: int) -> Self:
        """Who reads and who seeks are told the same."""
        return cls(
            f"offset {offset} is not in partition {partition} of topic {topic!r}, "
            f"which goes from {log_start_offset} to {high_watermark}",
            remedy=f"Choose one of these, or `beginning` or `end`; at {high_watermark} the next record will be.",
        )


class CorruptBatch(LogStoreError):
    """The bytes are not one whole, valid record batch."""


class BatchTooLarge(LogStoreError):
    """The batch is larger than the topic takes."""


class InvalidRecord(LogStoreError):
    """A record cannot be stored as it is, such as one without a key in a compacted topic."""

    def __init__(self, message: str, *, remedy: str, record_indexes: Sequence[int] = ()) -> None:
        """record_indexes: which records of the batch, where it is not about all of it."""
        super().__init__(message, remedy=remedy)
        self.record_indexes = tuple(record_indexes)


class InvalidTimestamp(LogStoreError):
    """The largest timestamp of a batch is too far in the future."""


# Of idempotent producers (KIP-98).


class OutOfOrderSequence(LogStoreError):
    """The batch does not follow the producer's last one in this partition."""


class DuplicateSequence(LogStoreError):
    """The batch was written, so long ago that its offset is no longer remembered."""


class InvalidProducerEpoch(LogStoreError):
    """The producer was replaced by one with a newer epoch."""


class UnknownProducerId(LogStoreError):
    """The partition has forgotten the producer, and the batch is not its first."""


# Of the disk.


class StorageFull(LogStoreError):
    """The filesystem has no room for the append. Nothing was written."""

    retriable = True


class StorageFailed(LogStoreError):
    """A write or sync failed. Final: nothing that was waiting is acknowledged, and the process must end."""


class DataLoss(LogStoreError):
    """Bytes on disk are damaged or missing: the records [offset, next_offset), where that is known."""

    def __init__(self, message: str, *, remedy: str, offset: int | None = None, next_offset: int | None = None) -> None:
        super().__init__(message, remedy=remedy)
        self.offset = offset
        self.next_offset = next_offset
        #: Of the log that was asked, once whoever asked has noted it.
        self.topic: str | None = None
        self.partition: int | None = None
