"""Ctrl-C and SIGTERM while the server is gone: how long is waited, what is said, and the exit code."""

import io
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from logctl.errors import CommandError, Terminated
from logctl.lines import Lines, NumberedRecord
from logctl.output import Output, Progress
from logctl.record_json import NewRecord
from logctl.sender import Sender, TopicRules, send_all
from tailrace import Producer
from tailrace.errors import DeliveryTimedOut
from tests.logctl.conftest import Logctl
from tests.processes import ENVIRONMENT, ServerProcess, program


class Notes(Output):
    """Keeps what is said, and is interrupted once more by whoever reads it."""

    def __init__(self, interrupt: KeyboardInterrupt | None) -> None:
        super().__init__()
        self.said: list[str] = []
        self._interrupt = interrupt

    def note(self, sentence: str) -> None:
        self.said.append(sentence)
        if self._interrupt is not None:
            raise self._interrupt


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path / "data") as server:
        yield server


def produce(server: ServerProcess, output: Notes, interrupt: KeyboardInterrupt, *, delivery_timeout: float) -> None:
    """Three lines, of which two are read after the server has died, and then an interrupt."""

    def read() -> Iterator[NumberedRecord]:
        yield NumberedRecord(1, NewRecord(b"a"))
        producer.flush()
        server.kill()
        yield NumberedRecord(2, NewRecord(b"b"))
        yield NumberedRecord(3, NewRecord(b"c"))
        raise interrupt

    with Producer(server=server.address, delivery_timeout=delivery_timeout) as producer:
        sender = Sender(producer, "flights", output, TopicRules(timestamp_ms_max=0))
        send_all(read(), Lines(io.BytesIO()), sender, Progress("flights", total=None))


@pytest.mark.parametrize("second", [KeyboardInterrupt(), Terminated()])
def test_a_second_interrupt_gives_up_what_waits_at_once(
    own_server: ServerProcess, second: KeyboardInterrupt, caplog: pytest.LogCaptureFixture
) -> None:
    output = Notes(second)
    with pytest.raises(type(second)) as raised:
        produce(own_server, output, KeyboardInterrupt(), delivery_timeout=3600.0)
    (said,) = output.said
    assert said == (
        "Interrupted; what was read is waited for: 2 lines not acknowledged yet, for at most 120 s. A second Ctrl-C "
        "gives up."
    )
    cause = raised.value.__cause__
    assert isinstance(cause, CommandError)
    assert str(cause) == ("interrupted before the server had acknowledged 2 lines; each of them may be written or not")
    assert "from line 2 on" in cause.remedy
    assert "close the producer" not in caplog.text


@pytest.mark.parametrize("first", [KeyboardInterrupt(), Terminated()])
def test_a_wait_that_runs_out_after_an_interrupt_ends_as_the_interrupt_does(
    own_server: ServerProcess, first: KeyboardInterrupt
) -> None:
    with pytest.raises(type(first)) as raised:
        produce(own_server, Notes(None), first, delivery_timeout=0.5)
    assert isinstance(raised.value.__cause__, DeliveryTimedOut)


def test_two_ctrl_c_end_a_produce_whose_server_is_gone(own_server: ServerProcess) -> None:
    arguments = ["produce", "flights", "--server", own_server.address]
    with subprocess.Popen(
        [*program("logctl.main"), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
    ) as producing:
        assert producing.stdin is not None
        assert producing.stderr is not None
        producing.stdin.write(b"a\n")
        producing.stdin.flush()
        consume = [*program("logctl.main"), "consume", "flights", "--max", "1", "--server", own_server.address]
        while subprocess.run(consume, env=ENVIRONMENT, capture_output=True).returncode:
            pass  # until there is the topic
        own_server.kill()
        producing.stdin.write(b"b\n")
        producing.stdin.flush()
        assert b"does not answer" in producing.stderr.readline()
        producing.send_signal(signal.SIGINT)
        assert b"1 line not acknowledged yet" in producing.stderr.readline()
        producing.send_signal(signal.SIGINT)
        out, err = producing.communicate(timeout=30)
    assert producing.returncode == 130
    assert b"1 line not acknowledged, the first is line 2" in out
    message, remedy = err.decode().strip().splitlines()
    assert message.startswith("error: interrupted before the server had acknowledged 1 line;")
    assert "from line 2 on" in remedy


@pytest.mark.parametrize("again", [False, True])
def test_ctrl_c_ends_a_consume_whose_server_is_gone(
    own_server: ServerProcess, logctl: Logctl, file: Callable[..., Path], again: bool
) -> None:
    """Its commit cannot be made: that is told, and once more Ctrl-C does not wait until it is known."""
    arguments = ["consume", "flights", "--group", "g", "--server", own_server.address]
    logctl("produce flights --server", own_server.address, file("a\n"))
    with subprocess.Popen(
        [*program("logctl.main"), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT
    ) as consuming:
        assert consuming.stdout is not None
        assert consuming.stderr is not None
        assert consuming.stdout.readline().endswith(b"a\n")
        own_server.kill()
        assert b"does not answer" in consuming.stderr.readline()
        consuming.send_signal(signal.SIGINT)
        if again:
            consuming.send_signal(signal.SIGINT)
        _, err = consuming.communicate(timeout=10)
    assert consuming.returncode == 130
    assert b"before the process ended" not in err
    message, remedy = err.decode().strip().splitlines()
    assert message.startswith("error: the last commit of group g may not be made: ")
    assert "is read again" in remedy
