"""Where a seek goes, as the caller said it."""

from datetime import UTC, datetime

from tailrace.errors import InvalidRequest
from tailrace.offsets import Start


def seek_target(offset: int | str | None, timestamp_ms: int | None, time: datetime | None) -> Start:
    """The one that was given. Raises InvalidRequest when it is none or several."""
    given = [target for target in (offset, timestamp_ms, time) if target is not None]
    if len(given) != 1:
        raise InvalidRequest(
            f"a seek goes to one place, and {len(given)} are given", remedy="Give one of offset=, timestamp_ms=, time=."
        )
    if timestamp_ms is not None:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    return given[0]
