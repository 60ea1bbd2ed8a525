"""Real programs for tests: a server that can be killed and started again on its port, found beside this interpreter."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
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


def launcher(patches: Sequence[str]) -> list[str]:
    """The command that runs `logserver` with patches of `tests.faults.launch`."""
    return [sys.executable, "-m", "tests.faults.launch", *patches, "--"]


class NotStarted(AssertionError):
    """The server ended before it was ready."""

    def __init__(self, status: int, log: str) -> None:
        super().__init__(f"the server ended with status {status} before it was ready; its log:\n{log[-4000:]}")
        self.status = status
        self.log = log


class ServerProcess:
    """`logserver` on a data directory and a port that stay the same over restarts. Its log is `<directory>.log`."""

    def __init__(self, directory: Path, *options: str, log: Path | None = None, patches: Sequence[str] = ()) -> None:
        """With `patches` it starts through `tests.faults.launch`, which says what they are."""
        self.patches = tuple(patches)
        self.directory = directory
        self.address = ""
        self.log = log or directory.with_suffix(".log")
        self._options = options
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when the server says that it is ready. Raises NotStarted."""
        assert self._process is None, "it runs already"
        with self.log.open("a") as log:
            log_start = log.tell()
            process = subprocess.Popen(
                [
                    *(launcher(self.patches) if self.patches else program("logserver.main")),
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
            if line:
                process.kill()  # without a line it ends by itself, and its status says something
            status = process.wait(timeout=30)
            process.stdout.close()
            raise NotStarted(status, self.log.read_bytes()[log_start:].decode())
        self.address = ready[1]
        self._process = process

    def kill(self) -> None:
        """SIGKILL: what a crash of the process is."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        return self._end(signal.SIGTERM)

    def wait(self) -> int:
        """The exit code of a server that ends by itself."""
        return self._end(None)

    def _end(self, signal_number: int | None) -> int:
        assert self._process is not None, "it does not run"
        process, self._process = self._process, None
        if signal_number is not None:
            process.send_signal(signal_number)
        assert process.stdout is not None
        try:
            return process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"the server (pid {process.pid}) does not end, see {self.log}") from None
        finally:
            process.stdout.close()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

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
