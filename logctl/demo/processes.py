"""The cast of the demonstration, all real programs: a private server, the group's members, and logctl itself.

Nothing here waits with a deadline of its own: the story has one for the whole.
"""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from logctl.demo.checks import MemberReads, StoredRecord
from logctl.errors import CommandError

TOPIC = "flights"
GROUP = "dashboard"

END_SECONDS_MAX = 10.0
# How long the group waits for a member that was killed, and a member for a server that is: long enough for a restart on
# a slow machine. The default of the server is 45 s.
SESSION_TIMEOUT_MS = 5000
HEARTBEAT_INTERVAL_MS = 300

_READY = re.compile(r"grpc=(\S+)")


def _environment() -> dict[str, str]:
    """This one's, without the settings that a user may have made for servers and clients of their own."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("LOGSERVER_") and name != "TAILRACE_SERVER"
    }


def _server_program() -> list[str]:
    """The `logserver` that was installed beside this interpreter; else, in a checkout, what it would run."""
    script = Path(sys.executable).parent / "logserver"
    return [str(script)] if script.exists() else [sys.executable, "-c", "from logserver.main import main; main()"]


class Server:
    """`logserver` on a directory of its own, and on the same port after a restart."""

    def __init__(self, directory: Path) -> None:
        self.address = ""
        self._data = directory / "data"
        self._log = directory / "server.log"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> float:
        """Returns the seconds until it was ready. Raises CommandError when it does not get there."""
        started = time.monotonic()
        with self._log.open("a") as log:
            self._process = subprocess.Popen(
                [
                    *_server_program(),
                    *("--data-dir", str(self._data), "--listen", self.address or "127.0.0.1:0"),
                    *("--group-session-timeout-ms", str(SESSION_TIMEOUT_MS)),
                    *("--group-heartbeat-interval-ms", str(HEARTBEAT_INTERVAL_MS)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is ours to handle
            )
        assert self._process.stdout is not None
        ready = _READY.search(self._process.stdout.readline())
        if ready is None:
            self.kill()
            raise self._not_started()
        self.address = ready[1]
        return time.monotonic() - started

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._process is not None:
            _end(self._process, signal.SIGKILL)
            self._process = None

    def _not_started(self) -> CommandError:
        log = self._log.read_text(errors="replace")
        if "ModuleNotFoundError" in log or "tailrace[server]" in log:
            return CommandError(
                "The demo needs the server, which is not installed here.",
                remedy="Install it: pip install 'tailrace[server]'",
                code="SERVER_NOT_INSTALLED",
            )
        last = log.strip().rpartition("\n")[2] or "nothing"
        return CommandError(
            f"The demo's server did not start; the last it said: {last}",
            remedy="Run `logserver` by itself to see what is wrong.",
            code="SERVER_NOT_STARTED",
        )


class Member:
    """A member of the group, as a process, and the file in which it writes down what it reads."""

    def __init__(self, name: str, directory: Path, server: str) -> None:
        self.reads = MemberReads(name)
        self.partitions: list[int] = []  # as the member last said
        self._log = directory / f"member-{name}.log"
        self._path = directory / f"member-{name}.jsonl"
        self._path.touch()
        self._file = self._path.open("rb")
        self._part = b""
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "logctl.demo.member", server, GROUP, TOPIC, str(self._path)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=_environment(),
                start_new_session=True,
            )

    def look(self) -> int:
        """Read on in its file. Returns how many records it has read so far."""
        *lines, self._part = (self._part + self._file.read()).split(b"\n")
        for line in lines:
            entry = json.loads(line)
            if "committed" in entry:
                self.reads.committed_count = entry["committed"]
            elif "partitions" in entry:
                self.partitions = entry["partitions"]
            else:
                self.reads.reads.append(StoredRecord(*entry["read"]))
        return len(self.reads.reads)

    def kill(self) -> None:
        """SIGKILL: it can neither commit nor say good-bye."""
        _end(self._process, signal.SIGKILL)
        self.reads.killed = True

    def stop(self) -> None:
        """SIGTERM: it commits, leaves the group and ends. Raises CommandError when it did not end well."""
        status = _end(self._process, signal.SIGTERM)
        if status != 0:
            raise self.failed(f"ended with status {status}")

    def check_alive(self) -> None:
        if not self.reads.killed and self._process.poll() is not None:
            raise self.failed(f"ended by itself with status {self._process.returncode}")

    def failed(self, what: str) -> CommandError:
        last = self._log.read_text(errors="replace").strip().rpartition("\n")[2] or "nothing"
        return CommandError(
            f"Member {self.reads.name} {what}; the last it said: {last}", remedy="This is a bug; please report it."
        )

    def close(self) -> None:
        """Leave nothing behind, whatever has happened."""
        _end(self._process, signal.SIGKILL)
        self._file.close()


class Producing:
    """`logctl produce flights --format csv`, fed by a thread, line by line as far as the play allows."""

    def __init__(self, sample: bytes, directory: Path, server: str, lines_per_second: float) -> None:
        self.fed_count = 0
        header, *self._lines = sample.splitlines(keepends=True)
        self._lines_per_second = lines_per_second
        self._gate = threading.Condition()
        self._allowed_count = 0
        self._log = (directory / "produce.log").open("w+b")
        self._process = subprocess.Popen(
            [
                *_logctl("produce", TOPIC, "--format", "csv", "--key-field", "tail", "--time-field", "departed"),
                *("--json", "--server", server),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=_environment(),
            start_new_session=True,
        )
        self._thread = threading.Thread(target=self._feed, args=(header,), daemon=True)
        self._thread.start()

    def allow(self, share: float) -> None:
        """Let it go on until this share of the flights."""
        with self._gate:
            self._allowed_count = round(len(self._lines) * share)
            self._gate.notify()

    def check_alive(self) -> None:
        if self._process.poll() not in (None, 0):
            raise self._failed()

    def finish(self) -> dict[str, int | float]:
        """Wait until all is acknowledged. Returns the summary that produce prints."""
        self._thread.join()
        assert self._process.stdout is not None
        summary = self._process.stdout.read()
        if self._process.wait() != 0:
            raise self._failed()
        parsed: dict[str, int | float] = json.loads(summary)
        return parsed

    def close(self) -> None:
        _end(self._process, signal.SIGKILL)
        self.allow(1)  # the thread meets the closed pipe and ends
        self._thread.join()
        self._log.close()

    def _feed(self, header: bytes) -> None:
        assert self._process.stdin is not None
        try:
            with self._process.stdin as pipe:
                pipe.write(header)
                next_at = time.monotonic()
                for line in self._lines:
                    with self._gate:
                        self._gate.wait_for(lambda: self._allowed_count > self.fed_count)
                    pipe.write(line)
                    self.fed_count += 1
                    next_at = max(next_at, time.monotonic() - 0.1) + 1 / self._lines_per_second
                    if (ahead := next_at - time.monotonic()) > 0.005:
                        pipe.flush()
                        time.sleep(ahead)
        except BrokenPipeError:
            return  # the process ended; whoever waits for it says why

    def _failed(self) -> CommandError:
        self._log.seek(0)
        said = self._log.read().decode(errors="replace").strip()
        return CommandError(
            f"`logctl produce` ended with status {self._process.returncode}: {said}",
            remedy="This is a bug; please report it.",
        )


def run_logctl(*arguments: str, server: str) -> bytes:
    """Run one command to its end with --json, and return what it printed. Raises CommandError when it fails."""
    done = subprocess.run(
        [*_logctl(*arguments), "--json", "--server", server],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=_environment(),
        start_new_session=True,
        check=False,
    )
    if done.returncode != 0:
        raise CommandError(
            f"`logctl {' '.join(arguments)}` ended with status {done.returncode}: "
            f"{done.stderr.decode(errors='replace').strip()}",
            remedy="This is a bug; please report it.",
        )
    return done.stdout


def _logctl(*arguments: str) -> Sequence[str]:
    return [sys.executable, "-m", "logctl.main", *arguments]


def _end(process: "subprocess.Popen[str] | subprocess.Popen[bytes]", with_signal: signal.Signals) -> int:
    """End a process, by force when it takes long, and return its status."""
    if process.poll() is None:
        process.send_signal(with_signal)
        try:
            process.wait(END_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
    if process.stdout is not None and not process.stdout.closed:
        process.stdout.close()
    return process.wait()
