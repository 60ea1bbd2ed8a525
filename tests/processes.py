"""Real programs for tests: a server that can be killed and started again on its port, found beside this interpreter."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).parent.parent

#: Programs run the checkout's code, wherever the environment's own copy is.
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in (".", "proto", "server"))}

READY = re.compile(r"grpc=(\S+)")


def program(module: str) -> list[str]:
    """The command that runs the console script of `module`, such as logserver.main."""
    return [sys.executable, "-c", f"import sys; from {module} import main; sys.exit(main())"]


class ServerProcess:
    """`logserver` on a data directory and a port that stay the same over restarts. Its log is `<directory>.log`."""

    def __init__(self, directory: Path, *options: str, log: Path | None = None) -> None:
        self.directory = directory
        self.address = ""
        self.log = log or directory.with_suffix(".log")
        self._options = options
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when the server says that it is ready."""
        assert self._process is None, "it runs already"
        with self.log.open("a") as log:
            process = subprocess.Popen(
                [
                    *program("logserver.main"),
                    "--data-dir",
                    str(self.directory),
                    "--listen",
                    self.address or "127.0.0.1:0",
                    *self._options,
                ],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=ENVIRONMENT,
            )
        assert process.stdout is not None
        line = process.stdout.readline()
        ready = READY.search(line)
        if ready is None:
            process.kill()
            process.wait()
            raise AssertionError(f"the server did not become ready but said {line!r}; its log:\n{self.log.read_text()}")
        self.address = ready[1]
        self._process = process

    def kill(self) -> None:
        """SIGKILL: what a crash of the process is."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, signal_number: int) -> int:
        assert self._process is not None, "it does not run"
        process, self._process = self._process, None
        process.send_signal(signal_number)
        status = process.wait(timeout=30)
        assert process.stdout is not None
        process.stdout.close()
        return status

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()
