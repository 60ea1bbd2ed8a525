"""The program `logserver` as it is started: first its signals, and only then what takes time to import."""

import gc
import os
import signal
import sys
from types import FrameType

EXIT_REFUSED = 1
STOPPING = (signal.SIGTERM, signal.SIGINT)

#: What the extra `server` brings; without it only the client's and the tool's dependencies are there.
_SERVER_MODULES = frozenset({"structlog", "uvloop", "numpy", "mmap_ninja", "grpc_health", "grpc_reflection", "kio"})


def main() -> None:
    gc.disable()  # Until it is ready: what is loaded stays, and to look for garbage takes a quarter of the imports.
    for number in STOPPING:
        signal.signal(number, _end_at_once)
    try:
        from logserver.command import run

        run()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _SERVER_MODULES:
            raise
        missing = f"the server's dependencies are not installed ({error.name} is missing)"
        sys.stderr.write(f"logserver: {missing}. Install them with: pip install 'tailrace[server]'\n")
        sys.exit(EXIT_REFUSED)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    """Until the data directory is opened nothing has to be put in order."""
    os._exit(128 + number)
