"""Who may change a group when: changes one after another, commits side by side between them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """First come, first served.

    A commit only needs the group to be what it was checked against until it is in the journal's order, and many of
    them then share one sync. So it holds the turn while it is checked and handed to the journal, and a change, which
    takes the turn for its whole length, waits until the commits before it are done.
    """

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._commits = 0
        self._no_commits = asyncio.Event()
        self._no_commits.set()

    @property
    def is_idle(self) -> bool:
        """Nobody has the turn, and no commit is under way."""
        return not self._turn.locked() and not self._commits

    @asynccontextmanager
    async def change(self) -> AsyncIterator[None]:
        async with self._turn:
            await self._no_commits.wait()
            yield

    @asynccontextmanager
    async def commit(self) -> AsyncIterator[None]:
        """Held while a commit is checked and handed over; `commit_started` before leaving keeps changes out."""
        async with self._turn:
            yield

    def commit_started(self) -> None:
        self._commits += 1
        self._no_commits.clear()

    def commit_ended(self) -> None:
        self._commits -= 1
        if self._commits == 0:
            self._no_commits.set()
