"""How much the members of all groups may bring together: their names, what they read or say of themselves, and in
classic groups what their leaders assign. Each group has bounds of its own, and there may be thousands of groups.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from consumer_groups.errors import Overloaded

#: What a text takes beside its own bytes, or less. It is counted as well, or many short ones would not be bounded.
TEXT_BYTES = 64


def texts_size(*texts: str | bytes) -> int:
    return sum(TEXT_BYTES + len(text.encode() if isinstance(text, str) else text) for text in texts)


class Room:
    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._taken_bytes = 0

    @property
    def taken_bytes(self) -> int:
        return self._taken_bytes

    def take(self, size: int) -> None:
        """Without a look at the bound: what the journal has is there, also if the bound was lowered since."""
        self._taken_bytes += size

    def give_back(self, size: int) -> None:
        self._taken_bytes -= size

    @contextmanager
    def change(self, before: int, after: int) -> Iterator[None]:
        """A group comes from one size to the other with what is done in a with statement, unless that raises.

        Until then it may be either, so it counts as the larger. Raises Overloaded if it grows and there is no room.
        """
        grown = max(0, after - before)
        if grown and self._taken_bytes + grown > self._bytes_max:
            raise Overloaded(
                f"the members of all groups take {self._taken_bytes} bytes, and would {grown} more; up to"
                f" {self._bytes_max} are allowed",
                remedy="Run fewer members, with shorter subscriptions, or raise --group-total-bytes-max of the server.",
            )
        self._taken_bytes += grown
        try:
            yield
        except BaseException:
            self._taken_bytes -= grown
            raise
        self._taken_bytes -= max(0, before - after)
