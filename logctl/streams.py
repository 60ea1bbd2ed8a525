"""The three standard streams: what becomes of them when they are closed or full, or when nobody reads any more."""

import os
import sys
from typing import TextIO


def open_closed() -> None:
    """Put something in the place of a standard stream that was closed before the program began.

    Python has None there, and a socket would get its number. What stands there now cannot be read, or written, so that
    whoever needs it is told; only what is said on a stderr that somebody closed is lost, as was asked for.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_WRONLY), "r")
    if sys.stdout is None:
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")


def tell(stream: TextIO, text: str) -> None:
    """Write a note or an error, which is lost where nobody can read it: what the command does goes on."""
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        discard(stream)


def discard(stream: TextIO) -> None:
    """Let what is buffered, and all that follows, go nowhere: the interpreter would try again when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def is_coloured(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
