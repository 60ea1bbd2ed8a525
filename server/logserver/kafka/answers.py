"""The memory of answers: of those that clients have not taken yet, and of what fetches under way have read.

An answer waits in memory until its client has taken it, and who never does must not keep others from theirs. So all
answers have a bound together. The more of it is used, the less a fetch reads; when all of it is, fetches wait, and the
clients that have taken nothing for longest are cut, which makes room at once. Who takes slowly is not.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

from logserver.bytes_in_flight import BytesInFlight

#: A fetch reads no more than one of so many parts of what is left.
PARTS = 4
#: Nor less than this, and of one partition a batch at least.
LITTLE_BYTES = 64 << 10
#: Nobody is cut for less.
TAKING_MS_MIN = 500
_LOOK_MS = 50


class Taker(Protocol):
    """A connection."""

    def taking_nothing_ms(self) -> int:
        """For how long it has taken nothing of an answer, as far as it was asked. Asked now and then."""
        ...

    def cut(self, why: str) -> None: ...


class Answers:
    def __init__(self, bytes_max: int) -> None:
        self.counter = BytesInFlight(bytes_max, "answers")
        #: How many bytes were sent to each since it has last taken all.
        self._untaken: dict[Taker, int] = {}

    def wait(self, taker: Taker, size: int) -> None:
        """So much was sent that it did not take at once."""
        self._untaken[taker] = self._untaken.get(taker, 0) + size
        self.counter.add(size)
        taker.taking_nothing_ms()  # counts from now on

    def taken(self, taker: Taker) -> None:
        """It has taken all of it, or never will."""
        self.counter.remove(self._untaken.pop(taker, 0))

    async def room(self, is_given_up: Callable[[], bool] = lambda: False) -> None:
        """Return when there is some, or nobody wants it any more."""
        while not (self.counter.has_room or is_given_up()):
            self._cut_the_slowest()
            try:
                async with asyncio.timeout(_LOOK_MS / 1000):
                    await self.counter.room()
            except TimeoutError:
                continue

    def _cut_the_slowest(self) -> None:
        waited_ms = {taker: taker.taking_nothing_ms() for taker in self._untaken}
        for taker in sorted(waited_ms, key=waited_ms.__getitem__, reverse=True):
            if self.counter.has_room or waited_ms[taker] < TAKING_MS_MIN:
                return
            self.taken(taker)
            taker.cut("others wait for the memory of an answer that it does not take")


class FetchedBytes:
    """What one fetch holds: from when it is read until it is sent."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._bytes = 0

    async def room(self, bytes_max: int) -> int:
        """How much may be read now."""
        self.let_go()
        await self._answers.room()
        counter = self._answers.counter
        return min(bytes_max, max(LITTLE_BYTES, (counter.bytes_max - counter.used_bytes) // PARTS))

    def hold(self, size: int) -> None:
        """So much more is about to be read, or with a negative size was not."""
        self._bytes += size
        if size < 0:
            self._answers.counter.remove(-size)
        else:
            self._answers.counter.add(size)

    def let_go(self) -> None:
        self.hold(-self._bytes)
