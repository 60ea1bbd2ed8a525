"""Admin: topics, groups and offsets, asked and changed from outside."""

from collections.abc import Coroutine, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from tailrace.admin_core import AdminCore
from tailrace.connection import CONNECT_SECONDS_MAX
from tailrace.descriptions import (
    ClusterDescription,
    CommittedOffset,
    GroupDescription,
    GroupListing,
    ListedOffset,
    SoughtPartition,
    TopicDescription,
    TopicListing,
)
from tailrace.errors import TailraceError
from tailrace.runtime import io_thread

T = TypeVar("T")


class Admin:
    """May be shared by threads. Connects at first use.

    Every method raises ServerUnreachable at first use, ServerUnavailable or RequestTimedOut later, and what the server
    refuses the request with.
    """

    def __init__(self, *, server: str | None = None, connect_timeout: float = CONNECT_SECONDS_MAX) -> None:
        """server: "host:port"; without it TAILRACE_SERVER, else localhost:7070."""
        self._core = AdminCore(server, connect_timeout)
        self._closed = False

    def cluster(self) -> ClusterDescription:
        return self._run(self._core.cluster())

    def create_topic(
        self, topic: str, partitions: int | None = None, config: Mapping[str, object] | None = None
    ) -> TopicListing:
        """partitions: the server's default when left out. config: Kafka's names, such as {"retention.ms": 3600000}.

        Raises TopicAlreadyExists, InvalidTopic, InvalidPartitions, InvalidConfig.
        """
        return self._run(self._core.create_topic(topic, partitions, config))

    def delete_topic(self, topic: str) -> None:
        self._run(self._core.delete_topic(topic))

    def alter_topic(
        self,
        topic: str,
        partitions: int | None = None,
        set_config: Mapping[str, object] | None = None,
        unset_config: Sequence[str] = (),
    ) -> None:
        """partitions: how many there are to be; they can only become more. unset_config: settings that go back to
        their default."""
        self._run(self._core.alter_topic(topic, partitions, set_config, unset_config))

    def delete_records(self, topic: str, before: Mapping[int, int]) -> dict[int, int]:
        """Delete the records of each partition before an offset, or all there are for -1. There is no way back.

        Returns the offset that each partition begins with now: that one, or a later one where it did already. Then no
        reader has the records any more, and no crash of the server brings them back. Where one partition is refused,
        nothing is deleted in any. A consumer that had not come so far goes where its `out_of_range` says.

        Raises PolicyViolation of a topic that is compacted only, OffsetOutOfRange, and StorageFull: then readers do not
        have the records, and a crash would still bring them back.
        """
        return self._run(self._core.delete_records(topic, before))

    def list_topics(self, include_internal: bool = False) -> list[TopicListing]:
        return self._run(self._core.list_topics(include_internal))

    def describe_topic(self, topic: str) -> TopicDescription:
        return self._run(self._core.describe_topic(topic))

    def list_offsets(self, partitions: Iterable[tuple[str, int]], spec: str | int) -> list[ListedOffset]:
        """The offset of each (topic, partition). spec: "earliest", "latest", or a time in milliseconds since 1970,
        which stands for the first record at or after it, else for the end."""
        return self._run(self._core.list_offsets(partitions, spec))

    def list_groups(self) -> list[GroupListing]:
        return self._run(self._core.list_groups())

    def describe_group(self, group: str) -> GroupDescription:
        """Members, and the lag of each partition in records and seconds."""
        return self._run(self._core.describe_group(group))

    def delete_group(self, group: str) -> None:
        """Raises NonEmptyGroup while it has members."""
        self._run(self._core.delete_group(group))

    def committed_offsets(self, group: str) -> list[CommittedOffset]:
        return self._run(self._core.committed_offsets(group))

    def commit_offsets(self, group: str, offsets: Iterable[CommittedOffset]) -> None:
        """Write offsets of a group that has no members. For one that has, there is seek_group.

        Raises what the first that is refused is refused with; the others are written.
        """
        self._run(self._core.commit_offsets(group, offsets))

    def seek_group(
        self,
        group: str,
        topic: str,
        *,
        partitions: Sequence[int] | None = None,
        offset: int | None = None,
        timestamp_ms: int | None = None,
        to_beginning: bool = False,
        to_end: bool = False,
        shift_by: int | None = None,
        dry_run: bool = False,
    ) -> list[SoughtPartition]:
        """Send a group elsewhere, also while it runs, and tell from where to where each partition went.

        partitions: all of the topic when left out; an empty list is refused, so that a program that found nothing to
            seek does not seek everything. Exactly one place is to be given. dry_run: only tell.

        Raises InvalidRequest, GroupIdNotFound, UnknownTopicOrPartition, OffsetOutOfRange, SeekInProgress, SeekTimedOut,
        and AssignmentUnreadable of a group of Kafka's clients that assigns in a form which the server does not know.
        """
        target = {
            "offset": offset,
            "timestamp_ms": timestamp_ms,
            "to_beginning": to_beginning,
            "to_end": to_end,
            "shift_by": shift_by,
        }
        return self._run(self._core.seek_group(group, topic, partitions, target, dry_run))

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._core.check_usable()
            io_thread().run(self._core.close())

    def __enter__(self) -> "Admin":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            self._core.check_usable()
        except TailraceError:
            work.close()
            raise
        return io_thread().run(work)
