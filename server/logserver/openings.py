"""Logs that are opened when they are first asked for, in a thread: one that is damaged, or has lost its index, has to
be read for that, and nobody else is to wait for it."""

import asyncio
from concurrent.futures import Executor
from uuid import UUID

from logstore.log import Log
from logstore.topics import Topic, TopicStore


class Openings:
    def __init__(self, store: TopicStore, readers: Executor) -> None:
        """readers runs what may wait for the disk."""
        self._store = store
        self._readers = readers
        self._under_way: dict[tuple[UUID, int], asyncio.Future[None]] = {}

    async def log(self, topic: Topic, partition: int) -> Log:
        """The log of the partition. Raises UnknownTopicOrPartition, UnknownTopicId if it was deleted meanwhile, and as
        `TopicStore.log`."""
        opening = self._store.opening(topic.name, partition)
        if opening is not None:
            key = topic.topic_id, partition
            if key not in self._under_way:
                run = asyncio.get_running_loop().run_in_executor(self._readers, opening.run)
                self._under_way[key] = run
                run.add_done_callback(lambda _: self._under_way.pop(key, None))
            await asyncio.shield(self._under_way[key])
            self._store.topic_by_id(topic.topic_id)
        return self._store.log(topic.name, partition)

    async def end(self, topic: Topic) -> None:
        """Return when nothing of the topic is being opened."""
        while under_way := [run for (topic_id, _), run in self._under_way.items() if topic_id == topic.topic_id]:
            await asyncio.wait(under_way)
