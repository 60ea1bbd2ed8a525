"""Time that is moved from outside, so that a test of what takes hours takes none: `logserver --test-clock-ms 0`.

    standard input     advance 3600000                  (ms; one a line)
    standard output    logserver advanced: 3600000      (by how much the clocks are ahead now, once it has taken effect)

The clocks and the loop's timers move together, so whatever waits for a time, by either, is due at once: sessions,
deadlines, waits of fetches, retention. Each of them sees one jump. The end of standard input ends the process at once,
as if it were killed: whoever could move the time is gone.
"""

import asyncio
import os
import re
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

from logstore.clock import SystemClock

_ADVANCE = re.compile(rb"advance ([0-9]{1,15})")


class MovedClock:
    """The system's clocks, `ahead_ms` later. Any thread may ask it."""

    def __init__(self, ahead_ms: int) -> None:
        self.ahead_ms = ahead_ms
        self._system = SystemClock()

    def wall_ms(self) -> int:
        return self._system.wall_ms() + self.ahead_ms

    def monotonic_ms(self) -> int:
        return self._system.monotonic_ms() + self.ahead_ms


class MovedLoop(asyncio.SelectorEventLoop):
    """Its timers go by the clock. (uvloop's cannot be told the time.)"""

    def __init__(self, clock: MovedClock) -> None:
        self._clock = clock
        super().__init__()

    def time(self) -> float:
        return super().time() + self._clock.ahead_ms / 1000


async def obey_standard_input(clock: MovedClock, catch_up: Callable[[], Awaitable[None]]) -> None:
    """Move the clock as told, until it is cancelled. A jump is answered when `catch_up` has done what is due then."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    with suppress(OSError):  # It may have gone while it waited for an answer.
        while line := await reader.readline():
            asked = _ADVANCE.fullmatch(line.strip())
            if asked is None:
                answer = "logserver did not understand: write `advance` and a number of milliseconds"
            else:
                clock.ahead_ms += int(asked[1])
                await asyncio.sleep(0)  # Timers that are due now come first.
                await catch_up()
                answer = f"logserver advanced: {clock.ahead_ms}"
            sys.stdout.write(answer + "\n")
            sys.stdout.flush()
    os._exit(0)
