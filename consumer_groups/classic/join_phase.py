"""Until when a rebalance of a classic group waits for its members to join."""

from dataclasses import dataclass, replace


@dataclass(slots=True)
class JoinPhase:
    """That of an empty group waits for more members for a while, also when all who are there have joined, and again as
    long as more come: else those that are started together would be made to join anew for each that is next."""

    #: When it ends by itself; None: no rebalance waits for joins.
    deadline_ms: int | None = None
    # Of the rebalance of an empty group: how long it may be delayed further by members that come; None: no such.
    _delay_left_ms: int | None = None
    _joined_during_delay: bool = False

    def copy(self) -> "JoinPhase":
        return replace(self)

    def begin(self, now_ms: int, timeout_ms: int) -> None:
        self.deadline_ms = now_ms + timeout_ms

    def begin_empty(self, now_ms: int, timeout_ms: int, delay_ms: int) -> None:
        """Begin that of an empty group, which waits no longer in all than the timeout."""
        self._delay_left_ms = max(0, timeout_ms - delay_ms)
        self._joined_during_delay = False
        self.deadline_ms = now_ms + delay_ms

    @property
    def is_delayed(self) -> bool:
        """It waits for more than those who are there."""
        return self._delay_left_ms is not None

    def joined(self) -> None:
        """A member has come."""
        self._joined_during_delay = self.is_delayed

    def expire(self, now_ms: int, delay_ms: int) -> bool:
        """True when to go on with those who are there. If some came since the last deadline, wait once more."""
        if self.deadline_ms is None or now_ms < self.deadline_ms:
            return False
        left_ms = self._delay_left_ms
        delay_ms = min(delay_ms, left_ms or 0)
        if left_ms is None or not self._joined_during_delay or not delay_ms:
            return True
        self._joined_during_delay = False
        self._delay_left_ms = left_ms - delay_ms
        self.deadline_ms = now_ms + delay_ms
        return False

    def end(self) -> None:
        self.deadline_ms = self._delay_left_ms = None
