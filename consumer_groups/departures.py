"""Who left of late, so that what they sent before that is not taken for news."""

from itertools import islice

from consumer_groups.requests import HeartbeatRequest

#: So many are remembered, the last ones.
LEFT_MAX = 10_000


class Departures:
    """Who left by itself of late, and in which of its heartbeats it said so, in all groups.

    A join that was sent before and arrives after would make it a member again, which nobody runs. It is remembered for
    as long as that member would then hold partitions, and also when it was not known to be one: its join may have been
    overtaken.
    """

    def __init__(self, kept_ms: int) -> None:
        self._kept_ms = kept_ms
        #: (group, member id) -> (number, until when), the oldest first.
        self._left: dict[tuple[str, str], tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._left)

    def note(self, request: HeartbeatRequest, now_ms: int) -> None:
        key = request.group, request.member_id
        number, _ = self._left.pop(key, (0, 0))
        self._left[key] = max(number, request.number), now_ms + self._kept_ms
        for oldest, (_, until_ms) in list(islice(self._left.items(), 2)):  # Two for one that comes: so it shrinks.
            if until_ms <= now_ms or len(self._left) > LEFT_MAX:
                del self._left[oldest]

    def cover(self, request: HeartbeatRequest, now_ms: int) -> bool:
        """True for a heartbeat that its member sent before it left."""
        number, until_ms = self._left.get((request.group, request.member_id), (0, 0))
        return 0 < request.number <= number and now_ms < until_ms
