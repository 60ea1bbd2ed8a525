"""`logserver` as a program that a test has in its hands."""

import os
import re
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tailrace.errors import BrokerFailed, InvalidRequest
from tailrace.testing.template import Server, template

#: A start is a matter of tenths of a second; on a machine with nothing to spare it may take longer.
START_SECONDS_MAX = 60.0
ADVANCE_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 60.0

#: Looks for what retention and compaction have to do come this often, so that nobody has to wait for their effects.
_LOOK_INTERVAL_MS = 100

#: What the server takes as `--test-clock-ms`, a hundred years.
_AHEAD_MS_MAX = 36_500 * 86_400_000

#: Settings that are made here, and where each is to be read.
_OWN_SETTINGS = {
    "data_dir": "directory",
    "listen": "grpc_address",
    "kafka_listen": "bootstrap",
    "test_clock_ms": "advance()",
}

_READY = re.compile(rb"logserver ready: grpc=(\S+) kafka=(\S+) ")
_ADVANCED = re.compile(rb"logserver advanced: ([0-9]+)")


class BrokerProcess:
    """A broker on loopback, and its faults. Of one thread, as a test is.

    Make it with `broker`, or have it from the fixtures. What needs a server that runs raises InvalidRequest when none
    was started or it was ended here, and BrokerFailed, once, when it has ended by itself.
    """

    def __init__(self, directory: str | os.PathLike[str], **settings: object) -> None:
        """settings: of the server, by the names of its TOML file, such as group_session_timeout_ms=6000.

        Raises InvalidRequest.
        """
        for name in settings:
            if name.lower() in _OWN_SETTINGS:
                raise InvalidRequest(
                    f"{name} is no setting of a broker for tests, which chooses it",
                    remedy=f"Leave it out, and go by {_OWN_SETTINGS[name.lower()]}.",
                )
        #: Holds the data, and `server.log`. It stays the same wherever the process goes.
        self.directory = _absolute(directory)
        #: "127.0.0.1:PORT" for Kafka's clients; it stays the same over restarts.
        self.bootstrap = ""
        #: "127.0.0.1:PORT" for the clients of `tailrace`; it stays the same over restarts.
        self.grpc_address = ""
        self._settings = settings
        self._ahead_ms = 0
        self._paused = False
        self._block_is_over = False
        self._said = b""
        self._process: Server | None = None

    def start(self) -> None:
        """Start it, after `kill` or `stop` on the same data, ports and time.

        Raises BrokerFailed, and InvalidRequest when it runs or its block is over.
        """
        if self._block_is_over:
            raise InvalidRequest("the broker went with its block", remedy="Start it within the block, or another.")
        if self.is_running:
            raise InvalidRequest("the broker runs already", remedy="Kill or stop it before.")
        self.close()  # It may have ended by itself.
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            log = self.log.open("ab", buffering=0)
        except (OSError, ValueError) as error:
            raise BrokerFailed(
                f"the broker for tests cannot use {str(self.directory)!r}: {error}",
                remedy="Give a directory that can be made and written to.",
            ) from None
        arguments = [
            *("--data-dir", str(self.directory / "data")),
            *("--listen", self.grpc_address or "127.0.0.1:0"),
            *("--kafka-listen", self.bootstrap or "127.0.0.1:0"),
            *("--test-clock-ms", str(self._ahead_ms)),
        ]
        with log:
            self._process = template().fork(arguments, self._environment(), log)
        self._said, self._paused = b"", False
        ready = self._answer(_READY, START_SECONDS_MAX, "did not start")
        self.grpc_address, self.bootstrap = ready[1].decode(), ready[2].decode()

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def log(self) -> Path:
        """What the server says, of all its starts, as JSON lines."""
        return self.directory / "server.log"

    def create_topic(self, name: str, partitions: int = 1, **config: object) -> None:
        """config: Kafka's names with underscores, such as retention_ms=3_600_000 or cleanup_policy="compact".

        Raises InvalidRequest, also of a broker that is paused, TopicAlreadyExists, InvalidTopic, InvalidConfig, and
        what else `tailrace.Admin` does.
        """
        from tailrace.admin import Admin

        self._hearing()  # Without an address the client would go to the server of its own default.
        with Admin(server=self.grpc_address) as admin:
            admin.create_topic(name, partitions, {key.replace("_", "."): value for key, value in config.items()})

    def advance(self, seconds: float) -> None:
        """Move the server's time forward: both its clocks and all its timers, at once.

        Whatever was to happen until then is due, in one jump: members of groups that did not send a heartbeat in it are
        out, requests that wait are answered, idle connections of Kafka's clients are closed. When this returns,
        retention has been applied; a group takes a moment more to write down who is out, a compaction to run. The
        clients' own clocks do not move, so theirs are the timestamps of records.

        seconds: not negative, and rounded to milliseconds; all jumps together are a hundred years at most. Raises
        InvalidRequest, also of a broker that is paused, and BrokerFailed when the server does not answer for 60 s; it
        is killed then.
        """
        try:
            is_forward = seconds >= 0
        except TypeError:
            is_forward = False
        if not is_forward:
            raise InvalidRequest(
                f"time cannot be moved by {seconds!r} s", remedy="Give a number of seconds that is not below 0."
            )
        if seconds > (_AHEAD_MS_MAX - self._ahead_ms) / 1000:
            raise InvalidRequest(
                f"time cannot be moved by {seconds!r} s: it would be more than a hundred years ahead",
                remedy=f"It is ahead by {self._ahead_ms / 1000:.3f} s now.",
            )
        process = self._hearing()
        try:
            process.stdin.write(b"advance %d\n" % round(seconds * 1000))
        except OSError:
            raise self._failed("ended by itself") from None
        self._ahead_ms = int(self._answer(_ADVANCED, ADVANCE_SECONDS_MAX, "did not move its time")[1])

    def kill(self) -> None:
        """SIGKILL: what a crash of the server is. What it acknowledged is there after the next start."""
        try:
            self._running()
        except BrokerFailed:
            if self._process is None:
                raise
            # Its template is gone, so nobody knows. It can be ended all the same.
        self.close()

    def stop(self) -> None:
        """SIGTERM: it ends what it has begun, syncs, and goes. Raises BrokerFailed when it does not end well."""
        process = self._running()
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOP_SECONDS_MAX)
        except TimeoutError:
            raise self._failed(f"did not stop in {STOP_SECONDS_MAX:.0f} s") from None
        self.close()
        if status != 0:
            raise self._failed(f"ended with status {status}")

    def pause(self) -> None:
        """SIGSTOP: it hears and says nothing, and its connections stay open; as a machine that hangs."""
        self._running().pause()
        self._paused = True

    def resume(self) -> None:
        """SIGCONT: it goes on. Its time went on meanwhile."""
        self._running().send_signal(signal.SIGCONT)
        self._paused = False

    def close(self) -> None:
        """End it, in whatever state it is. Its directory is left."""
        if self._process is not None:
            self._process.kill()
            self._process = None

    def _environment(self) -> dict[str, str]:
        """This one's, without the settings that a user may have made for servers and clients of their own."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("LOGSERVER_")}
        looks = {"retention_interval_ms": _LOOK_INTERVAL_MS, "compaction_interval_ms": _LOOK_INTERVAL_MS}
        for name, value in {**looks, **self._settings}.items():
            environment[f"LOGSERVER_{name.upper()}"] = str(value)
        return environment

    def _running(self) -> Server:
        if self._process is None:
            raise InvalidRequest("the broker does not run", remedy="Call start() before.")
        status = self._process.poll()
        if status is not None:
            raise self._failed(f"ended by itself with status {status}")
        return self._process

    def _hearing(self) -> Server:
        process = self._running()
        if self._paused:
            raise InvalidRequest("the broker is paused, and hears nothing", remedy="Call resume() before.")
        return process

    def _answer(self, expected: re.Pattern[bytes], seconds: float, failure: str) -> re.Match[bytes]:
        """The next line that the server says. Raises BrokerFailed, and leaves no server then."""
        process = self._process
        assert process is not None
        until = time.monotonic() + seconds
        while b"\n" not in self._said:
            if not select.select([process.stdout], [], [], max(0, until - time.monotonic()))[0]:
                raise self._failed(f"{failure} in {seconds:.0f} s")
            data = os.read(process.stdout.fileno(), 4096)
            if not data:
                raise self._failed(failure)
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        answer = expected.match(line)
        if answer is None:
            raise self._failed(f"{failure}, and said {line.decode(errors='replace')!r}")
        return answer

    def _failed(self, what: str) -> BrokerFailed:
        """The error to raise. There is no server any more."""
        self.close()
        log = self.log.read_text(errors="replace")
        if "tailrace[server]" in log:
            return BrokerFailed(
                "the broker for tests needs the server, which is not installed here",
                remedy="Install it: pip install 'tailrace[server]'",
                code="SERVER_NOT_INSTALLED",
            )
        last = log.strip().rpartition("\n")[2] or "nothing"
        return BrokerFailed(f"the broker for tests {what}; the last it said: {last}", remedy=f"See {self.log}.")


def _absolute(directory: str | os.PathLike[str]) -> Path:
    try:
        return Path(directory).absolute()
    except (TypeError, OSError) as error:  # It may be relative to a directory that is gone.
        raise InvalidRequest(
            f"{directory!r} cannot be the directory of a broker: {error}",
            remedy="Give an absolute path, as a str or a Path.",
        ) from None


@contextmanager
def broker(directory: str | os.PathLike[str] | None = None, **settings: object) -> Iterator[BrokerProcess]:
    """A broker that runs for the length of the block.

    directory: where its data and its log stay. Without it they go with the block, but for a log that an error refers
    to. settings: of the server, by the names of its TOML file, such as group_session_timeout_ms=6000. Raises
    InvalidRequest and BrokerFailed, at the end of the block also when the server has ended by itself and nobody was
    told.
    """
    where = tempfile.mkdtemp(prefix="tailrace-broker-") if directory is None else directory
    is_named = False
    try:
        process = BrokerProcess(where, **settings)
        try:
            process.start()
            yield process
            if process._process is not None:
                process.kill()  # One that ended by itself, and of which nothing was asked since, is told here.
        finally:
            process._block_is_over = True
            process.close()
    except BrokerFailed as error:
        is_named = str(where) in error.remedy
        raise
    finally:
        if directory is None:
            shutil.rmtree(Path(where, "data") if is_named else where, ignore_errors=True)
