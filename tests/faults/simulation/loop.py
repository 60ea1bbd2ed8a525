"""An event loop whose time is a test's clock, and of which a few callbacks at a time are run, when the test says.

Callbacks keep their order, as asyncio promises; what else the server does meanwhile, and when time passes, is the
test's choice. It has what asyncio's tasks, futures, locks and timers need, and no sockets and no threads.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextlib import suppress
from contextvars import Context
from heapq import heappop, heappush
from itertools import count
from typing import Any, Self, TypeVar, TypeVarTuple, Unpack

from logstore.clock import Clock

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class SimulatedLoop(asyncio.AbstractEventLoop):
    @classmethod
    def on(cls, clock: Clock) -> Self:
        """Whatever of a loop is not here is not used."""
        return cls(clock)

    def __init__(self, clock: Clock) -> None:
        self.failures: list[BaseException] = []  # that nobody has caught
        self._clock = clock
        self._ready: deque[asyncio.Handle] = deque()
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._order = count()
        self._tasks: dict[asyncio.Task[Any], None] = {}

    # What a test does with it.

    @property
    def has_ready(self) -> bool:
        if self._timers:
            self._wake_timers()
        return bool(self._ready)

    def run(self, count: int, check: Callable[[], object]) -> None:
        """Run so many callbacks, those whose turn it is, as far as there are any. `check` is called after each."""
        # What asyncio asks for the loop, a lock for one, is answered with this one meanwhile.
        asyncio._set_running_loop(self)
        try:
            while count > 0 and self.has_ready:
                count -= 1
                handle = self._ready.popleft()
                if not handle.cancelled():
                    handle._run()
                    check()
        finally:
            asyncio._set_running_loop(None)

    def abandon(self) -> None:
        """The process died: nothing of it runs any more. What it had begun is closed, so that Python does not mind."""
        self._ready.clear()
        self._timers.clear()
        for task in self._tasks:
            work = task.get_coro()
            assert work is not None
            with suppress(Exception):  # whatever it wanted to say last, nobody hears it
                work.close()

    def next_timer_ms(self) -> int | None:
        """When the next timer is due, None without any."""
        while self._timers and self._timers[0][2].cancelled():
            heappop(self._timers)
        return round(self._timers[0][0] * 1000) if self._timers else None

    def _wake_timers(self) -> None:
        while (due_ms := self.next_timer_ms()) is not None and due_ms <= self._clock.monotonic_ms():
            self._ready.append(heappop(self._timers)[2])

    # What asyncio asks of it.

    def time(self) -> float:
        return self._clock.monotonic_ms() / 1000

    def call_soon(
        self, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[Unpack[Ts]], object], *args: *Ts, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        heappush(self._timers, (when, next(self._order), handle))
        return handle

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> "asyncio.Task[T]":
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        self._tasks[task] = None
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        del self._tasks[task]

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if isinstance(error := context.get("exception"), BaseException):
            self.failures.append(error)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass  # it is dropped when its time comes
