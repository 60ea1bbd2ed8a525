"""Answers while they are made: their time, and their memory.

A request of a few bytes may ask for all that there is to say of topics and groups, and so may thousands of connections
at the same time. So such answers are made in slices of time, of which all of them together get one in each turn of the
loop, whoever waits longest first. And the large ones have a bound together: beyond it that is given up which was begun
last, so that the others come to their ends.
"""

import asyncio
from contextvars import ContextVar
from types import TracebackType

from logserver.errors import Overloaded
from logserver.kafka.answers import LITTLE_BYTES
from logserver.time_slice import SLICE_MS, TimeSlice
from logstore.clock import Clock

#: While others wait for their next slice, the first one is so short: nearly every answer is made within.
FIRST_SLICE_MS = 1


class Making:
    """Of all connections."""

    def __init__(self, bytes_max: int) -> None:
        #: Of large ones.
        self.used_bytes = 0
        self._gate = asyncio.Lock()
        self._bytes_max = bytes_max
        #: In the order in which they became large.
        self._large: dict[BeingMade, int] = {}

    async def turn(self) -> None:
        """Return when it is the caller's turn: one caller's in each turn of the loop."""
        async with self._gate:
            await asyncio.sleep(0)

    @property
    def has_queue(self) -> bool:
        """Whether others wait for a turn."""
        return self._gate.locked()

    def grow(self, made: "BeingMade") -> None:
        """It is larger than it was."""
        if made.size_bytes <= LITTLE_BYTES:
            return
        self.used_bytes += made.size_bytes - self._large.get(made, 0)
        self._large[made] = made.size_bytes
        while self.used_bytes > self._bytes_max and len(self._large) > 1:  # one alone has a bound of its own
            last = next(reversed(self._large))
            last.is_given_up = True
            self.end(last)

    def end(self, made: "BeingMade") -> None:
        self.used_bytes -= self._large.pop(made, 0)


class BeingMade:
    """One answer, for the length of a with statement: what is made within, by this task, is part of it."""

    def __init__(self, making: Making) -> None:
        self.making = making
        self.size_bytes = 0
        self.is_given_up = False

    def __enter__(self) -> "BeingMade":
        self._token = _current.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        _current.reset(self._token)
        self.making.end(self)

    def grow(self, size: int) -> None:
        """Raises Overloaded."""
        self.size_bytes += size
        if not self.is_given_up:
            self.making.grow(self)
        self.check()

    def check(self) -> None:
        """Raises Overloaded when it was given up."""
        if self.is_given_up:
            raise Overloaded(
                "large answers that are being made take more memory than they may, and this one was begun last",
                remedy="Ask for less at a time, or again later; --kafka-answers-bytes-max allows more.",
            )


_current: ContextVar[BeingMade | None] = ContextVar("being_made", default=None)


def current() -> BeingMade | None:
    """The answer that this task makes, if it is bounded."""
    return _current.get()


class SharedSlice(TimeSlice):
    """One that takes turns with those of all other answers."""

    __slots__ = ("_making",)

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        made = current()
        self._making = None if made is None else made.making
        if self._making is not None and self._making.has_queue:
            self._until_ms = clock.monotonic_ms() + FIRST_SLICE_MS

    async def give_way(self) -> None:
        if self._making is None:
            await super().give_way()
        elif self._clock.monotonic_ms() >= self._until_ms:
            await self._making.turn()
            self._until_ms = self._clock.monotonic_ms() + SLICE_MS
