"""Waiting in line: tasks that cannot go ahead at once go ahead in the order in which they came."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class _Line:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()  # which serves in the order of the calls
        self.count = 0


class Lines:
    """One line for each topic that somebody waits for."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}

    def is_free(self, topic: object) -> bool:
        """Whether nobody waits. (A lock that was just let go of looks free before its next holder has run.)"""
        return not isinstance(topic, str) or topic not in self._lines

    @asynccontextmanager
    async def turn(self, topic: object) -> AsyncIterator[None]:
        """Wait until everybody who came before has gone ahead."""
        if not isinstance(topic, str):
            yield  # It is refused at once.
            return
        line = self._lines.setdefault(topic, _Line())
        line.count += 1
        try:
            async with line.lock:
                yield
        finally:
            line.count -= 1
            if not line.count:
                del self._lines[topic]
