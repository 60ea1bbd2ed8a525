"""Tells, while records are sent or read, that the server does not answer: the client itself rides an outage out."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from logctl.output import Output
from tailrace import Admin, TailraceError
from tailrace.connection import server_address

#: Between two looks. A server that restarts is back before the first.
LOOK_SECONDS = 2.0
ANSWER_SECONDS_MAX = 1.0


@contextmanager
def outages_told(output: Output, server: str | None) -> Iterator[None]:
    """Whenever the client has something to log, look whether the server answers; tell of an outage, and of its end."""
    address = server_address(server)
    ended = threading.Event()
    watcher: threading.Thread | None = None

    def watch() -> None:
        is_told = False
        while not ended.wait(LOOK_SECONDS):
            answers = _answers(address)
            if ended.is_set():
                return
            if answers:
                if is_told:
                    output.note(f"The server at {address} answers again.")
                return
            if not is_told:
                output.note(f"The server at {address} does not answer; trying again ...")
                is_told = True

    def look(record: logging.LogRecord) -> bool:
        nonlocal watcher
        if watcher is None or not watcher.is_alive():
            watcher = threading.Thread(target=watch, name="logctl-outages", daemon=True)
            watcher.start()
        return True

    # A filter, because a handler would take the place of the one that shows warnings.
    logger = logging.getLogger("tailrace")
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addFilter(look)
    try:
        yield
    finally:
        ended.set()
        logger.removeFilter(look)
        logger.setLevel(level)


def _answers(address: str) -> bool:
    try:
        with Admin(server=address, connect_timeout=ANSWER_SECONDS_MAX) as admin:
            admin.cluster()
    except TailraceError:
        return False
    return True
