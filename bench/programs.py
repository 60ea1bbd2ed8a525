"""The servers that are measured, each a process of its own on a temporary directory."""

import re
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

READY = re.compile(r"grpc=(127\.0\.0\.1:\d+)")


class _Program:
    """Starts a command and waits for the line that says where it listens."""

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._process: subprocess.Popen[str] | None = None
        self.address = ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        ready = READY.search(line)
        if ready is None:
            self._process.kill()
            raise RuntimeError(f"{' '.join(self._command)} did not start: {line!r}")
        self.address = ready[1]

    def stop(self) -> None:
        """A clean stop, waited for."""
        assert self._process is not None
        process, self._process = self._process, None
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


class LogServer(_Program):
    """`logserver` as installed beside this interpreter."""

    def __init__(self, directory: Path, *options: str) -> None:
        script = Path(sys.executable).with_name("logserver")
        super().__init__([str(script), "--data-dir", str(directory), "--listen", "127.0.0.1:0", *options])


class BareServer(_Program):
    def __init__(self) -> None:
        super().__init__([sys.executable, "-m", "bench.bare_server"])
