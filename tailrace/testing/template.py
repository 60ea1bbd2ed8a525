"""The process that the brokers of tests are forked from: it has imported what a server needs, and started nothing.

Imports are most of the time that a server takes to start. A process of tests has one template, which pays for them
once, and ends with it:

    the tests ask                                            the template answers
    ["fork", ARGUMENTS, ENVIRONMENT] and four open files     PID
    ["kill", PID, SIGNAL]                                    null
    ["waitpid", PID, OPTIONS]                                [PID or 0, STATUS]
    ["waitid", P_PID, PID, OPTIONS]                          [PID, ...]

Each is a line of JSON on a socket, one at a time. What fails is answered with {"error": WHY}. Signals go this way too:
only the parent can be sure that a PID is still its child's. What a process has from its parent and is not in the
request, such as its limits and all that Python reads from the environment when it starts, a server has as it was when
the template was started.
"""

import atexit
import gc
import json
import math
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from io import FileIO
from typing import Any
from weakref import WeakSet

from tailrace.errors import BrokerFailed, InvalidRequest

#: The first answer waits for the imports.
ANSWER_SECONDS_MAX = 60.0
END_SECONDS_MAX = 60.0

#: The installed modules, without what the working directory may hold under the name of one of them.
_PYTHON = (sys.executable, "-P", "-c")
_SERVER = "from logserver.main import main; main()"
_TEMPLATE = (
    "from tailrace.testing.template import serve; from logserver.command import load, load_last; "
    f"serve(load, load_last); {_SERVER}"
)


# In the process of the tests.


class Server:
    """A process that was forked from the template. Of one thread."""

    def __init__(self, template: "Template", pid: int, stdin: FileIO, stdout: FileIO) -> None:
        self.pid = pid
        self.stdin = stdin
        self.stdout = stdout
        self._template = template
        self._status: int | None = None

    def poll(self) -> int | None:
        """How it ended, if it has: its exit status, or the number of a signal as a negative one."""
        if self._status is None:
            pid, status = self._template.ask("waitpid", self.pid, os.WNOHANG)
            if pid != 0:  # Now it may be that of another process.
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    def send_signal(self, number: int) -> None:
        if self._status is None:
            self._template.ask("kill", self.pid, number)

    def pause(self) -> None:
        """Returns when it has stopped, or ended."""
        self.send_signal(signal.SIGSTOP)
        if self._status is None:
            # A status that is not taken here is there for others.
            self._template.ask("waitid", os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def wait(self, seconds: float = math.inf) -> int:
        """How it ended. Raises TimeoutError."""
        until = time.monotonic() + seconds
        while (status := self.poll()) is None:
            if time.monotonic() > until:
                raise TimeoutError
            # When what it says comes to an end, it nearly has.
            if select.select([self.stdout], [], [], 0.05)[0]:
                self.stdout.read(4096)
        return status

    def kill(self) -> None:
        """End it, in whatever state it is, and let go of it."""
        try:
            self.send_signal(signal.SIGKILL)
            self.wait()
        except BrokerFailed:  # One whose template is gone ends with its standard input.
            with suppress(OSError):
                os.kill(self.pid, signal.SIGCONT)  # It may be paused; and to a stranger that does no harm.
        self.stdin.close()
        while select.select([self.stdout], [], [], END_SECONDS_MAX)[0] and self.stdout.read(4096):
            pass
        self.stdout.close()


class Template:
    """It loads while its maker does something else."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_ours = True
        self._control, theirs = socket.socketpair()
        self._control.settimeout(ANSWER_SECONDS_MAX)
        with theirs:
            self._process = subprocess.Popen(
                [*_PYTHON, _TEMPLATE],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,  # It says nothing before it fails.
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},  # More would be threads.
                process_group=0,  # Ctrl-C is for the tests.
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.poll() is not None

    def fork(self, arguments: Sequence[str], environment: Mapping[str, str], log: FileIO) -> Server:
        """A server that runs in the working directory of now. Raises BrokerFailed."""
        (their_stdin, stdin), (stdout, their_stdout) = _pipe(), _pipe()
        directory = os.open(".", os.O_RDONLY)  # It may have no name any more.
        files = [their_stdin.fileno(), their_stdout.fileno(), log.fileno(), directory]
        try:
            pid = self.ask("fork", arguments, dict(environment), files=files)
        except BaseException:
            stdin.close()
            stdout.close()
            raise
        finally:
            their_stdin.close()
            their_stdout.close()
            os.close(directory)
        return Server(self, pid, stdin, stdout)

    def ask(self, *request: object, files: Sequence[int] = ()) -> Any:
        """Raises BrokerFailed when it cannot do it, and when it does not answer; it is gone then."""
        if not self._is_ours:
            raise InvalidRequest("the broker belongs to the process that started it", remedy="Start another here.")
        with self._lock:
            try:
                _send(self._control, request, files)
                answer = _receive(self._control)[0]
            except (OSError, EOFError):
                raise self._failed() from None
            except BaseException:
                self.close()  # What it answers now would be taken for the answer to the next.
                raise
        if isinstance(answer, dict):
            raise BrokerFailed(
                f"the process that the brokers for tests are forked from cannot {request[0]}: {answer['error']}",
                remedy="See what this machine has too little of: processes or memory.",
            )
        return answer

    def close(self) -> None:
        """It has nothing to put in order."""
        self._control.close()
        with self._process as process:
            process.kill()

    def forget(self) -> None:
        """In a fork of the process that it belongs to: with a copy of its socket it would outlive that."""
        self._is_ours = False
        self._control.close()

    def _failed(self) -> BrokerFailed:
        stderr = self._process.stderr
        assert stderr is not None
        self._process.kill()
        said = b"" if stderr.closed else stderr.read()
        self.close()
        last = said.decode(errors="replace").strip().rpartition("\n")[2] or "nothing"
        return BrokerFailed(
            f"the process that the brokers for tests are forked from does not answer; the last it said: {last}",
            remedy="Start the broker again, which makes another.",
        )


_lock = threading.Lock()
_template: Template | None = None
#: The ends of the pipes of all servers. With a copy of its standard input a server would outlive this process.
_pipes: WeakSet[FileIO] = WeakSet()


def template() -> Template:
    """The one of this process, which begins to load with the first call."""
    global _template
    with _lock:
        if _template is not None and _template.has_ended:
            _template.close()
            _template = None
        if _template is None:
            _template = Template()
        return _template


def close() -> None:
    """End the one of this process. Servers that are left end with their standard input, so with this process."""
    global _template
    with _lock:
        if _template is not None:
            _template.close()
            _template = None


def _after_fork() -> None:
    global _lock, _template
    _lock = threading.Lock()  # A thread that is not here may have had it.
    for file in _pipes:
        file.close()
    if _template is not None:
        _template.forget()
        _template = None


atexit.register(close)
os.register_at_fork(after_in_child=_after_fork)


def _pipe() -> tuple[FileIO, FileIO]:
    reading, writing = os.pipe()  # What is executed does not inherit them; what is forked closes them.
    pipe = FileIO(reading, "rb"), FileIO(writing, "wb")
    _pipes.update(pipe)
    return pipe


# In the template.


def serve(*loads: Callable[[], None]) -> None:
    """Be the template. Returns in each of its forks, which has arguments, environment and files of its own.

    The first of `loads` is called at once, the others when nobody asks for anything.
    """
    gc.disable()
    control = socket.socket(fileno=os.dup(0))
    to_load = deque(loads)
    _load(to_load.popleft())
    while True:
        while to_load and not select.select([control], [], [], 0)[0]:
            _load(to_load.popleft())
        try:
            (name, *arguments), files = _receive(control)
        except (EOFError, OSError):
            os._exit(0)  # The tests are over.
        if name == "fork":
            is_whole = _has_one_thread()
            answer = _try(os.fork)
            if answer == 0:
                control.close()
                _become_server(files, *arguments)
                if not is_whole:
                    os.execv(sys.executable, [*_PYTHON, _SERVER, *sys.argv[1:]])
                return
            for file in files:
                os.close(file)
        else:
            answer = _try(getattr(os, name), *arguments)
        _send(control, answer)


def _load(load: Callable[[], None]) -> None:
    with suppress(Exception):  # Every server meets it again, and says so in its log.
        load()
    gc.freeze()


def _try(call: Callable[..., Any], *arguments: Any) -> Any:
    """The answer, also when it fails: the servers that are there must not lose their parent."""
    try:
        return call(*arguments)
    except OSError as error:
        return {"error": error.strerror}


def _has_one_thread() -> bool:
    """Whether a fork is as good as a start: other threads would be missing in it, and what they hold stay held.

    Some environments start threads in every Python, as debuggers do. Where nobody tells how many there are, on macOS, a
    process that only forks is not promised to work either.
    """
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except FileNotFoundError:
        return False


def _become_server(files: Sequence[int], arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    # Each a group of its own: a paused process whose parent dies is woken then.
    os.setpgid(0, 0)
    *streams, directory = files
    for number, file in enumerate(streams):
        os.dup2(file, number)  # What Python has opened as sys.stdin and so on goes by the number.
    os.fchdir(directory)
    for file in files:
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv[:] = ["logserver", *arguments]


# Between the two.


def _send(to: socket.socket, message: object, files: Sequence[int] = ()) -> None:
    line = json.dumps(message).encode() + b"\n"
    sent = socket.send_fds(to, [line], files)
    to.sendall(line[sent:])


def _receive(origin: socket.socket) -> tuple[Any, Sequence[int]]:
    """The next message, and the files that came with it. Raises EOFError."""
    line, files, _, _ = socket.recv_fds(origin, 1 << 16, 4)
    while not line.endswith(b"\n"):
        more = origin.recv(1 << 16)
        if not more:
            raise EOFError
        line += more
    return json.loads(line), files
