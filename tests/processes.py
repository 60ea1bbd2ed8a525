"""Real programs for tests: a server that can be killed and started again where it was, found beside this Python."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

ROOT = Path(__file__).parent.parent

#: Programs run the checkout's code, wherever the environment's own copy is.
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(str(ROOT / part) for part in (".", "proto", "server"))}
# What is installed is compiled already. To compile at every start takes as long as the start.
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)

#: Options for a server whose groups notice soon that a member has died.
SHORT_SESSIONS = ("--group-session-timeout-ms", "4000", "--group-heartbeat-interval-ms", "1000")

READY = re.compile(r"grpc=(\S+)(?: kafka=(\S+))?")


def program(module: str) -> list[str]:
    """The command that runs the console script of `module`, such as logserver.main."""
    return [sys.executable, "-c", f"import sys; from {module} import main; sys.exit(main())"]


def launcher(patches: Sequence[str]) -> list[str]:
    """The command that runs `logserver` with patches of `tests.faults.launch`."""
    return [sys.executable, "-m", "tests.faults.launch", *patches, "--"]


def ended(pid: int) -> bool:
    """Whether the process goes within a minute. It may have nobody who asks for its status."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


class NotStarted(AssertionError):
    """The program ended before it was ready."""

    def __init__(self, status: int, log: str) -> None:
        super().__init__(f"the program ended with status {status} before it was ready; its log:\n{log[-4000:]}")
        self.status = status
        self.log = log


class Ended(NamedTuple):
    status: int
    #: What it wrote to stdout, after its ready line, and to stderr.
    output: str
    log: str


class Program:
    """One run of a command that says in its first line where it listens. Its stderr is appended to a log."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        log: Path,
        directory: Path | None = None,
        environment: Mapping[str, str] = ENVIRONMENT,
    ) -> None:
        self.ready_line = ""
        #: Where Kafka clients connect, once it is ready; "" without a Kafka door.
        self.kafka_address = ""
        self._log = log
        with log.open("a") as file:
            self._log_start = file.tell()
            self._process = subprocess.Popen(
                command, cwd=directory, env=environment, stdout=subprocess.PIPE, stderr=file, text=True
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def ready(self) -> str:
        """Wait for the line that says so, and return the address of gRPC in it. Raises NotStarted."""
        assert self._process.stdout is not None
        self.ready_line = self._process.stdout.readline()
        ready = READY.search(self.ready_line)
        if ready is None:
            # Without a line it ends by itself, and its status says something.
            ended = self.end(signal.SIGKILL) if self.ready_line else self.wait()
            raise NotStarted(ended.status, self.ready_line + ended.log)
        self.kafka_address = ready[2] or ""
        return ready[1]

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self, number: int = signal.SIGTERM) -> Ended:
        """Send the signal and wait for the end it brings."""
        self.send_signal(number)
        return self.wait()

    def wait(self) -> Ended:
        try:
            output, _ = self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
            raise AssertionError(f"{self._process.args!r} (pid {self.pid}) does not end, see {self._log}") from None
        return Ended(self._process.returncode, output, self._log.read_bytes()[self._log_start :].decode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.is_running:
            self.end(signal.SIGKILL)


class ServerProcess:
    """`logserver` on a data directory and ports that stay the same over restarts. Its log is `<directory>.log`."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        kafka: bool = False,
        log: Path | None = None,
        patches: Sequence[str] = (),
        command: Sequence[str] = (),
    ) -> None:
        """With `kafka` it has a Kafka door. With `patches` it starts through `tests.faults.launch`, which says what
        they are. `command` is another program that takes its arguments and says so when it is ready."""
        assert not (patches and command)
        self.patches = tuple(patches)
        self.directory = directory
        self.address = ""
        self.log = log or directory.with_suffix(".log")
        self._kafka = kafka
        self._kafka_address = ""
        self._command = tuple(command)
        self._options = options
        self._run: Program | None = None

    def start(self) -> None:
        """Returns when the server says that it is ready. Raises NotStarted."""
        assert self._run is None, "it runs already"
        command = launcher(self.patches) if self.patches else self._command or program("logserver.main")
        where = ["--data-dir", str(self.directory), "--listen", self.address or "127.0.0.1:0"]
        if self._kafka:
            where += ["--kafka-listen", self._kafka_address or "127.0.0.1:0"]
        run = Program([*command, *where, *self._options], log=self.log)
        self.address = run.ready()
        self._kafka_address = run.kafka_address
        self._run = run

    @property
    def kafka_address(self) -> str:
        assert self._kafka_address, f"it has no Kafka door, or was not started yet; its log is {self.log}"
        return self._kafka_address

    def kill(self) -> None:
        """SIGKILL: what a crash of the process is."""
        self._taken().end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        return self._taken().end(signal.SIGTERM).status

    def wait(self) -> int:
        """The exit code of a server that ends by itself."""
        return self._taken().wait().status

    def _taken(self) -> Program:
        assert self._run is not None, "it does not run"
        run, self._run = self._run, None
        return run

    @property
    def is_running(self) -> bool:
        return self._run is not None and self._run.is_running

    @property
    def pid(self) -> int:
        assert self._run is not None, "it does not run"
        return self._run.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._run is not None:
            self.kill()
