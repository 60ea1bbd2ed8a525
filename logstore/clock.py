"""The two clocks, passed in wherever time matters, so that a test can move them."""

import time
from collections import deque
from collections.abc import Collection
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


#: The wall clock may be this far from where it should be by the monotonic one before that counts as a jump.
JUMP_MS = 1000
#: So many jumps are remembered.
RUNS_MAX = 1000


class WallClockPast:
    """What the wall clock showed a while ago, so that stamps of it do not look old because it has jumped since.

    What earlier processes stamped is judged by the clock as it was when this one began. A jump that is taken back
    before anybody asks is not seen. Owner thread.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        wall_ms, self._seen_ms = clock.wall_ms(), clock.monotonic_ms()
        # Where each stretch without a jump was first seen, (wall, monotonic), and the least that it can have shown.
        self._runs = deque([(wall_ms, self._seen_ms, wall_ms)], maxlen=RUNS_MAX)

    def ago(self, age_ms: int) -> int:
        """A time of the wall clock: whatever it stamped with an earlier one is older than `age_ms` for sure."""
        wall_ms, monotonic_ms = self._clock.wall_ms(), self._clock.monotonic_ms()
        begun_wall_ms, begun_ms, _ = self._runs[-1]
        if abs((wall_ms - begun_wall_ms) - (monotonic_ms - begun_ms)) > JUMP_MS:
            # It jumped at any time since somebody has looked.
            self._runs.append((wall_ms, monotonic_ms, wall_ms - (monotonic_ms - self._seen_ms)))
        self._seen_ms = monotonic_ms
        then_ms = monotonic_ms - age_ms
        least_ms = wall_ms
        for begun_wall_ms, begun_ms, least_wall_ms in reversed(self._runs):
            if begun_ms < then_ms:
                return min(least_ms, begun_wall_ms + then_ms - begun_ms)
            least_ms = min(least_ms, least_wall_ms)  # the clock went back to there, and stamped younger things with it
        if len(self._runs) == RUNS_MAX:
            return -1
        begun_wall_ms, begun_ms, _ = self._runs[0]
        return min(least_ms, begun_wall_ms + then_ms - begun_ms)


class AppendAges:
    """For how long the segments of one log were not appended to, or have been, at least: by the monotonic clock.

    Stamps of the wall clock never go back within a log, so one jump forward leaves all that follow in the future, also
    when the clock was set right soon after: by stamps alone nothing would age for as long as the jump was. What an
    earlier process has appended is as old as this log has been open, at least. Owner thread.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._opened_ms = self._newest_ms = clock.monotonic_ms()
        # Of segments that were begun or rolled since then. Compaction that makes one of some leaves the outer offsets.
        self._begun_ms: dict[int, int] = {}  # base_offset: the first append
        self._ended_ms: dict[int, int] = {}  # next_offset: the last append

    def note_append(self, segment_base_offset: int, base_offset: int) -> None:
        self._newest_ms = self._clock.monotonic_ms()
        if base_offset == segment_base_offset:
            self._begun_ms[base_offset] = self._newest_ms

    def note_roll(self, next_offset: int, base_offsets: Collection[int]) -> None:
        """The active segment ends there, and these are all segments there are now."""
        self._ended_ms[next_offset] = self._newest_ms
        bases = set(base_offsets)
        self._begun_ms = {base: ms for base, ms in self._begun_ms.items() if base in bases}
        self._ended_ms = {end: ms for end, ms in self._ended_ms.items() if end in bases}  # where the next one begins

    def since_first_append_ms(self, base_offset: int) -> int:
        return self._clock.monotonic_ms() - self._begun_ms.get(base_offset, self._opened_ms)

    def since_last_append_ms(self, next_offset: int) -> int:
        """Of a segment that is not appended to any more."""
        return self._clock.monotonic_ms() - self._ended_ms.get(next_offset, self._opened_ms)
