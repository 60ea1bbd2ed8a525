"""The memory that requests are received into.

All connections of a loop receive into one shared buffer, and what is whole in there is handled at once, so an idle
connection holds none. Only a request that comes in several reads gets a buffer of its own. It grows with what really
came, so that who only announces a large request costs nothing, and all of them together have a bound. Their memory is
not cleared beforehand: what nothing was received into takes no page of the machine.

A buffer that has become empty waits for its connection's next request, which is what makes those of 1 MB fast. It is
not counted meanwhile, so that it takes nothing from those that have something to send, but only so much may wait.
"""

from logserver.bytes_in_flight import BytesInFlight
from logserver.errors import Overloaded

SHARED_BYTES = 256 << 10
#: A buffer of its own has so much at least.
OWN_BYTES_MIN = 16 << 10
#: Of buffers that wait, of all connections together.
SPARE_BYTES_MAX = 32 << 20
_NONE = memoryview(b"")


class SpareBuffers:
    """Those that are empty. What has waited longest gives way to others."""

    def __init__(self) -> None:
        self.bytes = 0
        self._buffers: dict[ReceiveBuffer, int] = {}

    def add(self, buffer: "ReceiveBuffer", size: int) -> None:
        self._buffers[buffer] = size
        self.bytes += size
        if size > SPARE_BYTES_MAX:
            buffer.release()
        while self.bytes > SPARE_BYTES_MAX:
            next(iter(self._buffers)).release()

    def remove(self, buffer: "ReceiveBuffer") -> None:
        self.bytes -= self._buffers.pop(buffer)


class ReceiveBuffer:
    """What one connection has received and not handled yet."""

    __slots__ = ("_end", "_is_spare", "_memory", "_spare", "_start", "counter")

    def __init__(self, counter: BytesInFlight, spare: SpareBuffers) -> None:
        """counter: of the bytes of all such buffers. spare: where it waits when it is empty."""
        self.counter = counter
        self._spare = spare
        self._is_spare = False
        self._memory = _NONE
        self._start = 0  # of what is not handled
        self._end = 0

    @property
    def pending(self) -> memoryview:
        return self._memory[self._start : self._end]

    def __len__(self) -> int:
        return self._end - self._start

    def put(self, data: memoryview) -> None:
        """Add what was received elsewhere."""
        self._make_room(len(self) + len(data))
        self._memory[self._end : self._end + len(data)] = data
        self._end += len(data)

    def free(self, request_bytes: int, *, at_once: int) -> memoryview:
        """Where to receive more of a request, of which all so far is here. It gets its whole size, if that is no more
        than at_once and much is free, and else twice what has come: to announce is to take nothing from others."""
        assert len(self) < request_bytes
        is_whole = request_bytes <= at_once and self.counter.is_half_empty
        self._make_room(request_bytes if is_whole else min(request_bytes, 2 * len(self)))
        return self._memory[self._end :]

    def add(self, size: int) -> None:
        """So much was received into `free`."""
        self._end += size

    def take(self, size: int) -> None:
        """So much from the front was handled."""
        self._start += size
        if self._start == self._end and len(self._memory) and not self._is_spare:
            self._start = self._end = 0
            self.counter.remove(len(self._memory))
            self._is_spare = True
            self._spare.add(self, len(self._memory))

    def move_to(self, counter: BytesInFlight) -> None:
        """Count the memory there from now on."""
        if not self._is_spare:
            self.counter.remove(len(self._memory))
            counter.add(len(self._memory))
        self.counter = counter

    def release(self) -> None:
        """Give the memory back, with what is in it."""
        if self._is_spare:
            self._spare.remove(self)
            self._is_spare = False
        else:
            self.counter.remove(len(self._memory))
        self._memory = _NONE
        self._start = self._end = 0

    def _make_room(self, size: int) -> None:
        """For so much, what is pending included. Raises Overloaded, unless it is the only one: a request may be larger
        than the bound."""
        pending = len(self)
        if len(self._memory) - self._start < size:
            if len(self._memory) >= size:
                self._memory[:pending] = self.pending
            else:
                self._grow(max(size, OWN_BYTES_MIN))
            self._start, self._end = 0, pending
        if self._is_spare:
            self._check_room()
            self._spare.remove(self)
            self._is_spare = False
            self.counter.add(len(self._memory))

    def _grow(self, size: int) -> None:
        if self._is_spare:
            self.release()
        self.counter.remove(len(self._memory))
        try:
            self._check_room()
            import numpy as np  # By then it is there (`arrays`). Nothing else gives memory without clearing it.

            grown = np.empty(size, np.uint8).data
            grown[: len(self)] = self.pending
            self._memory = grown
        finally:
            self.counter.add(len(self._memory))

    def _check_room(self) -> None:
        if not self.counter.has_room:
            raise too_much_pending(self.counter)


def too_much_pending(counter: BytesInFlight) -> Overloaded:
    full = counter.full
    return Overloaded(
        f"{full.used_bytes} bytes of requests that have not come to their end are held, where {full.bytes_max} may be",
        remedy="Try again: those that do not come to an end are cut.",
    )
