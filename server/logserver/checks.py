"""Bounds that requests of every door keep."""

from logserver.errors import InvalidRequest, RequestTooLarge


def check_count(what: str, count: int, most: int, *, least: int = 1) -> None:
    """Raises RequestTooLarge, InvalidRequest."""
    if count > most:
        raise RequestTooLarge(f"the request has {count} {what}, where {most} can be", remedy="Split it into several.")
    if count < least:
        raise InvalidRequest(f"the request has no {what}", remedy="Name at least one.")
