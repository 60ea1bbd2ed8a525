"""The two clocks, passed in wherever time matters, so that a test can move them."""

import time
from typing import Protocol


class Clock(Protocol):
    def wall_ms(self) -> int:
        """Milliseconds since 1970. It may jump either way: for timestamps and retention only."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds since some moment. It never goes back: for sessions, leases and timeouts."""
        ...


class SystemClock:
    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000
