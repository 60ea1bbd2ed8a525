"""The thread on which all clients of a process do their networking.

One event loop for all, synchronous and asyncio clients alike. So a program that computes, or blocks its own event loop,
still answers heartbeats and takes acknowledgements; and so gRPC, whose completion queue is one per process and wakes
every event loop that uses it, wakes one. It is the only thing here that is shared by a whole process, as that queue is.

A forked child inherits the memory but not the thread, and gRPC does not survive it: there every client refuses to work.
"""

import asyncio
import atexit
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar
from weakref import WeakSet

from tailrace.errors import ForkedProcessError, WrongThreadError

T = TypeVar("T")
logger = logging.getLogger("tailrace")

#: How long a process that ends without closing its clients waits for them.
EXIT_SECONDS_MAX = 5.0


class Client(Protocol):
    """What lives on the thread and wants to be told of the two ends a process can come to."""

    def forked(self) -> None:
        """Called in the child, where only this thread is left and locks may be held for ever."""
        ...

    async def abandon(self) -> None:
        """Called on the event loop when the process ends."""
        ...


class IoThread:
    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(_log_exception)
        self._clients: WeakSet[Client] = WeakSet()
        self._thread = threading.Thread(target=self._run, name="tailrace-io", daemon=True)
        self._thread.start()

    @property
    def is_current(self) -> bool:
        return threading.current_thread() is self._thread

    def add(self, client: Client) -> None:
        self._clients.add(client)

    def submit(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        """Start work and return at once."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work. Raises WrongThreadError on the thread itself, which would wait for ever."""
        try:
            check_may_wait()
        except WrongThreadError:
            work.close()
            raise
        future = self.submit(work)
        try:
            return future.result()
        except BaseException:
            # Ctrl-C above all, which nothing narrower catches: the caller is gone, so nobody wants the work. After an
            # error of the work itself there is nothing to cancel.
            future.cancel()
            raise

    async def run_from_another_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """`run` for a caller on an event loop of its own. Cancelling the caller cancels the work."""
        return await asyncio.wrap_future(self.submit(work))

    def stop(self) -> None:
        async def abandon() -> None:
            await asyncio.gather(*(client.abandon() for client in list(self._clients)), return_exceptions=True)

        try:
            self.submit(abandon()).result(EXIT_SECONDS_MAX)
        except TimeoutError:
            logger.warning("clients were not closed before the process ended, and did not finish in time")
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(EXIT_SECONDS_MAX)

    def forked(self) -> None:
        for client in list(self._clients):
            client.forked()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()


_lock = threading.Lock()
_thread: IoThread | None = None
_thread_pid = 0


def io_thread() -> IoThread:
    """The thread, started at first use. Raises ForkedProcessError."""
    global _thread, _thread_pid
    check_not_forked()
    with _lock:
        if _thread is None:
            _thread = IoThread()
            _thread_pid = os.getpid()
            atexit.register(_stop)
        return _thread


def check_not_forked() -> None:
    """Raise ForkedProcessError in a child of a process that had connected."""
    if _thread_pid not in (0, os.getpid()):
        raise ForkedProcessError(
            f"process {os.getpid()} was forked from process {_thread_pid} after that had connected, and gRPC does not "
            "survive a fork",
            remedy='Start processes with the "spawn" method of multiprocessing, or fork before the first client '
            "connects.",
        )


def check_may_wait() -> None:
    """Raise WrongThreadError on the thread that does what would be waited for."""
    if _thread is not None and _thread.is_current:
        raise WrongThreadError(
            "a callback of a send wants to wait for the client, whose thread it is called on: neither would go on",
            remedy="Let the callback tell another thread, such as by a queue.Queue, and wait there.",
        )


def _stop() -> None:
    if _thread is not None and _thread_pid == os.getpid():
        _thread.stop()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.Lock()
    if _thread is not None:
        _thread.forked()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _log_exception(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    logger.error("%s", context.get("message", "an unexpected error"), exc_info=context.get("exception"))


def call_from_any_thread(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *arguments: object) -> None:
    """`call_soon_threadsafe`, on a loop that may have ended with the process."""
    try:
        loop.call_soon_threadsafe(callback, *arguments)
    except RuntimeError:
        if not loop.is_closed():
            raise
