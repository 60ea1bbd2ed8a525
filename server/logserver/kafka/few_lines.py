"""Log lines that clients can cause, as often as they like: of each kind a few, and then how many were left out."""

import logging
from typing import Any

import structlog

from logstore.clock import Clock

logger = structlog.get_logger()

#: Of each kind, so many lines in so long.
LINES_MAX = 10
INTERVAL_MS = 10_000


class _Told:
    """What was told of one kind in the interval that is under way."""

    __slots__ = ("left_out", "level", "lines", "since_ms")

    def __init__(self, level: int, since_ms: int) -> None:
        self.level = level
        self.since_ms = since_ms
        self.lines = 0
        self.left_out = 0


class FewLines:
    """A kind is an event as the code writes it, with nothing in it that a client sends: so few are remembered."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._told: dict[str, _Told] = {}

    def info(self, event: str, **facts: Any) -> None:
        self._tell(logging.INFO, event, facts)

    def warning(self, event: str, **facts: Any) -> None:
        self._tell(logging.WARNING, event, facts)

    def exception(self, event: str, **facts: Any) -> None:
        self._tell(logging.ERROR, event, facts | {"exc_info": True})

    def tell_left_out(self, *, now: bool = False) -> None:
        """Called now and then, since perhaps none of a kind comes any more; now: also of intervals under way."""
        for event in [*self._told]:
            self._end_interval(event, now=now)

    def _tell(self, level: int, event: str, facts: dict[str, Any]) -> None:
        self._end_interval(event)
        told = self._told.setdefault(event, _Told(level, self._clock.monotonic_ms()))
        if told.lines < LINES_MAX:
            told.lines += 1
            logger.log(level, event, **facts)
        else:
            told.left_out += 1

    def _end_interval(self, event: str, *, now: bool = False) -> None:
        told = self._told.get(event)
        if told is None:
            return
        ms = self._clock.monotonic_ms() - told.since_ms
        if ms < INTERVAL_MS and not now:
            return
        del self._told[event]
        if told.left_out:
            logger.log(told.level, "more lines of a kind were left out", of=event, lines=told.left_out, ms=ms)
