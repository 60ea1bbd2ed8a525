"""The asyncio admin: the same questions as tailrace.Admin, awaited."""

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
    """As tailrace.Admin, whose methods say more."""

    def __init__(self, *, server: str | None = None, connect_timeout: float = CONNECT_SECONDS_MAX) -> None:
        self._core = AdminCore(server, connect_timeout)
        self._closed = False

    async def cluster(self) -> ClusterDescription:
        return await self._run(self._core.cluster())

    async def create_topic(
        self, topic: str, partitions: int | None = None, config: Mapping[str, object] | None = None
    ) -> TopicListing:
        """partitions: the server's default when left out. config: Kafka's names, such as {"retention.ms": 3600000}.

        Raises TopicAlreadyExists, InvalidTopic, InvalidPartitions, InvalidConfig.
        """
        return await self._run(self._core.create_topic(topic, partitions, config))

    async def delete_topic(self, topic: str) -> None:
        await self._run(self._core.delete_topic(topic))

    async def alter_topic(
        self,
        topic: str,
        partitions: int | None = None,
        set_config: Mapping[str, object] | None = None,
        unset_config: Sequence[str] = (),
    ) -> None:
        await self._run(self._core.alter_topic(topic, partitions, set_config, unset_config))

    async def delete_records(self, topic: str, before: Mapping[int, int]) -> dict[int, int]:
        return await self._run(self._core.delete_records(topic, before))

    async def list_topics(self, include_internal: bool = False) -> list[TopicListing]:
        return await self._run(self._core.list_topics(include_internal))

    async def describe_topic(self, topic: str) -> TopicDescription:
        return await self._run(self._core.describe_topic(topic))

    async def list_offsets(self, partitions: Iterable[tuple[str, int]], spec: str | int) -> list[ListedOffset]:
        """The offset of each (topic, partition). spec: "earliest", "latest", or a time in milliseconds since 1970,
        which stands for the first record at or after it, else for the end."""
        return await self._run(self._core.list_offsets(partitions, spec))

    async def list_groups(self) -> list[GroupListing]:
        return await self._run(self._core.list_groups())

    async def describe_group(self, group: str) -> GroupDescription:
        return await self._run(self._core.describe_group(group))

    async def delete_group(self, group: str) -> None:
        await self._run(self._core.delete_group(group))

    async def committed_offsets(self, group: str) -> list[CommittedOffset]:
        return await self._run(self._core.committed_offsets(group))

    async def commit_offsets(self, group: str, offsets: Iterable[CommittedOffset]) -> None:
        await self._run(self._core.commit_offsets(group, offsets))

    async def seek_group(
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
        target = {
            "offset": offset,
            "timestamp_ms": timestamp_ms,
            "to_beginning": to_beginning,
            "to_end": to_end,
            "shift_by": shift_by,
        }
        return await self._run(self._core.seek_group(group, topic, partitions, target, dry_run))

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._core.check_usable()
            await io_thread().run_from_another_loop(self._core.close())

    async def __aenter__(self) -> "Admin":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _run(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            self._core.check_usable()
        except TailraceError:
            work.close()
            raise
        return await io_thread().run_from_another_loop(work)
