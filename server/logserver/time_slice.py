"""Slices of the loop's time: a call with ten thousand parts must not keep all others waiting until it has done them."""

import asyncio

from logstore.clock import Clock

#: After this long a call lets others run.
SLICE_MS = 5


class TimeSlice:
    """Made when a call with many parts begins."""

    __slots__ = ("_clock", "_until_ms")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until_ms = clock.monotonic_ms() + SLICE_MS

    async def give_way(self) -> None:
        """Between two parts: let others run if it is time."""
        if self._clock.monotonic_ms() >= self._until_ms:
            await asyncio.sleep(0)
            self._until_ms = self._clock.monotonic_ms() + SLICE_MS
