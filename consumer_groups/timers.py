"""Callbacks at a time of the injected monotonic clock, on the running loop.

One loop timer stands for the earliest of them. A test moves its clock and calls `run_due`.
"""

import asyncio
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

from logstore.clock import Clock


class Timer:
    """What `Timers.at` returns: cancel it, or let it run once."""

    __slots__ = ("callback", "due_ms")

    def __init__(self, due_ms: int, callback: Callable[[], None]) -> None:
        self.due_ms = due_ms
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        self.callback = None


class Timers:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queue: list[tuple[int, int, Timer]] = []
        self._order = count()
        self._armed: asyncio.TimerHandle | None = None
        self._armed_ms = 0

    def at(self, due_ms: int, callback: Callable[[], None]) -> Timer:
        timer = Timer(due_ms, callback)
        heappush(self._queue, (due_ms, next(self._order), timer))
        self._arm()
        return timer

    def run_due(self) -> None:
        """Run what is due now, the earliest first."""
        now_ms = self._clock.monotonic_ms()
        while self._queue and (self._queue[0][0] <= now_ms or self._queue[0][2].callback is None):
            _, _, timer = heappop(self._queue)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
        self._arm()

    def stop(self) -> None:
        self._queue.clear()
        if self._armed is not None:
            self._armed.cancel()
            self._armed = None

    def _arm(self) -> None:
        if not self._queue:
            return
        due_ms = self._queue[0][0]
        if self._armed is not None and self._armed_ms <= due_ms:
            return  # It rings early at worst, and then arms again.
        if self._armed is not None:
            self._armed.cancel()
        delay_ms = max(0, due_ms - self._clock.monotonic_ms())
        self._armed_ms = due_ms
        self._armed = asyncio.get_running_loop().call_later(delay_ms / 1000, self._ring)

    def _ring(self) -> None:
        self._armed = None
        self.run_due()
