"""`logserver` as a program: its ready line, its signals, its exit codes, and what a kill -9 leaves."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from itertools import count
from pathlib import Path

import grpc.aio
import pytest

from logserver.config import parse_address, settings
from logstore.checkpoint import Checkpoint
from logstore.linux_disk import LinuxDisk
from logwire.v1 import records_pb2 as pb
from logwire.v1 import topics_pb2
from tests.processes import ENVIRONMENT, Program
from tests.server.wire import Client, batch, code

RUN = "import sys; sys.argv[0] = 'logserver'; from logserver.main import main; main()"


class Programs:
    """Runs of the program in one directory, each on its own port unless told otherwise."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._started = ExitStack()
        self._number = count()

    def start(self, *arguments: str, environment: dict[str, str] | None = None, first: str = "") -> Program:
        """first is Python that runs before the program does."""
        if not any(argument.startswith("--listen") for argument in arguments):
            arguments = ("--listen", "127.0.0.1:0", *arguments)
        return self._started.enter_context(
            Program(
                [sys.executable, "-c", first + RUN, *arguments],
                log=self.directory / f"run-{next(self._number)}.log",
                directory=self.directory,
                environment=ENVIRONMENT | (environment or {}),
            )
        )

    def close(self) -> None:
        self._started.close()


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    with closing(Programs(tmp_path)) as programs:
        yield programs


async def test_it_starts_serves_and_stops_at_sigterm_with_nothing_lost(programs: Programs) -> None:
    program = programs.start("--data-dir", "./some-data")
    client = Client(program.ready())
    await client.produce("t", batch(b"a"), acks=pb.ACKS_ONE)
    await client.channel.close()
    assert program.end().status == 0
    again = programs.start("--data-dir", "./some-data")
    client = Client(again.ready())
    assert (await client.fetch("t")).next_offset == 1
    await client.channel.close()
    assert again.end(signal.SIGINT).status == 0
    assert (programs.directory / "some-data").stat().st_mode & 0o077 == 0


def test_plain_logserver_just_works_and_says_where(programs: Programs) -> None:
    program = programs.start()
    assert program.ready().startswith("127.0.0.1:")
    assert re.fullmatch(r"logserver ready: grpc=\S+ data=\./tailrace-data\n", program.ready_line)
    assert (programs.directory / "tailrace-data").is_dir()
    assert program.end().status == 0


@pytest.mark.slow
async def test_sigterm_under_load_loses_nothing_that_was_acknowledged(programs: Programs) -> None:
    program = programs.start()
    client = Client(program.ready())
    acknowledged = -1

    async def send() -> None:
        nonlocal acknowledged
        while True:
            [ack] = await client.produce("t", batch(b"x" * 10_000))
            assert code(ack.error) == ""
            acknowledged = max(acknowledged, ack.base_offset)
            if acknowledged > 50 and program.is_running:
                program.send_signal(signal.SIGTERM)

    ended = await asyncio.gather(*[send() for _ in range(8)], return_exceptions=True)
    for error in ended:
        assert isinstance(error, grpc.aio.AioRpcError), error
        assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert program.wait().status == 0
    await client.channel.close()
    client = Client(programs.start().ready())
    assert (await client.fetch("t", acknowledged)).high_watermark > acknowledged >= 50
    await client.channel.close()


async def test_what_was_acknowledged_survives_kill_9(programs: Programs) -> None:
    producer_id = -1
    sent: list[bytes] = []
    for round_ in range(3):
        program = programs.start()
        client = Client(program.ready())
        if producer_id < 0:
            producer_id = (await client.producing.InitProducer(pb.InitProducerRequest())).producer_id
        elif sent:
            # The retry of what was acknowledged before the kill is known to be one.
            [again] = await client.produce("t", sent[-1])
            assert (again.duplicate, again.base_offset) == (True, len(sent) - 1)
        for _ in range(10):
            sent.append(batch(b"%d" % len(sent), producer_id=producer_id, epoch=0, sequence=len(sent)))
            [ack] = await client.produce("t", sent[-1])
            assert ack.base_offset == len(sent) - 1
        read = await client.fetch("t", decode=True)
        assert [record.value for record in read.records] == [b"%d" % number for number in range(10 * (round_ + 1))]
        await client.channel.close()
        assert program.end(signal.SIGKILL).status == -signal.SIGKILL


@pytest.mark.slow
async def test_ids_of_producers_are_never_handed_out_twice(programs: Programs) -> None:
    seen: set[int] = set()
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        program = programs.start()
        client = Client(program.ready())
        for _ in range(3):
            producer_id = (await client.producing.InitProducer(pb.InitProducerRequest())).producer_id
            assert producer_id not in seen
            seen.add(producer_id)
        await client.channel.close()
        program.end(number)


@pytest.mark.slow
async def test_the_leader_epoch_rises_when_a_stop_was_not_clean(programs: Programs) -> None:
    epochs = []
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        program = programs.start()
        client = Client(program.ready())
        await client.produce("t", batch(b"x"))
        metadata = await client.topics.GetMetadata(topics_pb2.GetMetadataRequest(topics=["t"]))
        epochs.append(metadata.topics[0].partitions[0].leader_epoch)
        await client.channel.close()
        program.end(number)
    assert epochs[0] == epochs[1] < epochs[2]


async def test_a_second_server_on_the_directory_is_refused_and_harms_nobody(programs: Programs) -> None:
    first = programs.start()
    address = first.ready()
    ended = programs.start().wait()
    assert ended.status == 1
    assert re.fullmatch(r"logserver: .*tailrace-data.*\. .+\n", ended.log)
    assert "Traceback" not in ended.log
    client = Client(address)
    assert code((await client.produce("t", batch(b"x")))[0].error) == ""
    await client.channel.close()


def test_a_taken_port_is_refused_with_the_reason(programs: Programs) -> None:
    taken = programs.start().ready()
    ended = programs.start("--listen", taken, "--data-dir", "other").wait()
    assert ended.status == 1
    assert ended.log.splitlines()[-1].startswith(f"logserver: {taken} cannot be listened on: address already in use.")
    assert "--listen" in ended.log
    assert "Traceback" not in ended.log
    assert not re.search(r"^E\d", ended.log, re.MULTILINE)  # gRPC's own line of it.
    assert not (programs.directory / "other").exists()


@pytest.mark.slow
def test_a_taken_port_is_noticed_before_anything_of_the_directory_changes(programs: Programs) -> None:
    killed = programs.start("--data-dir", "other")
    killed.ready()
    killed.end(signal.SIGKILL)  # So that a start would recover it and raise its leader epoch.
    before = contents(programs.directory / "other")
    taken = programs.start().ready()
    assert programs.start("--listen", taken, "--data-dir", "other").wait().status == 1
    assert contents(programs.directory / "other") == before


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_an_address_of_another_machine_is_refused(programs: Programs) -> None:
    ended = programs.start("--listen", "192.0.2.1:7070", "--allow-insecure-listen").wait()
    assert ended.status == 1
    assert "192.0.2.1:7070 cannot be listened on: cannot assign requested address" in ended.log


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (["--lisen", "x"], {}, "Did you mean one of: '--kafka-listen', '--listen'?"),
        (["--port", "7070"], {}, "No such option '--port'. Did you mean '--listen HOST:PORT'?"),
        (["--bind-address=x"], {}, "No such option '--bind-address'. Did you mean '--listen HOST:PORT'?"),
        (["--listen", "nonsense"], {}, "--listen='nonsense' is not what it can be. Set it to HOST:PORT"),
        (["--listen", "192.0.2.1:7070"], {}, "other machines"),
        (["--config", "nowhere.toml"], {}, "nowhere.toml cannot be read"),
        ([], {"LOGSERVER_LOG_LEVEL": "loud"}, "LOGSERVER_LOG_LEVEL='loud' is not what it can be. Set it to one of"),
        ([], {"LOGSERVER_LISEN": "x"}, "LOGSERVER_LISEN is no setting of the server. Did you mean LOGSERVER_LISTEN?"),
    ],
)
def test_bad_usage_is_a_sentence_and_status_2(
    programs: Programs, arguments: list[str], environment: dict[str, str], said: str
) -> None:
    ended = programs.start(*arguments, environment=environment).wait()
    assert ended.status == 2
    assert said in ended.log
    assert "Traceback" not in ended.log


def test_the_file_of_settings_is_read(programs: Programs) -> None:
    (programs.directory / "server.toml").write_text('data_dir = "from-file"\n')
    programs.start("--config", "server.toml").ready()
    assert (programs.directory / "from-file").is_dir()


@pytest.mark.parametrize(("name", "content"), [("somebody's file", b"x"), ("meta", b"not ours"), ("meta", b"")])
def test_a_directory_that_is_not_ours_is_refused_and_left_alone(programs: Programs, name: str, content: bytes) -> None:
    data = programs.directory / "tailrace-data"
    data.mkdir()
    (data / name).write_bytes(content)
    ended = programs.start().wait()
    assert ended.status == 1
    assert "Traceback" not in ended.log
    assert (data / name).read_bytes() == content


def test_help_names_every_setting_with_its_default(programs: Programs) -> None:
    ended = programs.start("--help").wait()
    assert ended.status == 0
    for setting in settings():
        assert "--" + setting.name.replace("_", "-") in ended.output
    assert "127.0.0.1:7070" in ended.output


@pytest.mark.parametrize("named", ["notes.txt", "notes.txt/data"])
def test_a_directory_that_is_a_file_is_refused_as_such_and_the_file_left_alone(programs: Programs, named: str) -> None:
    (programs.directory / "notes.txt").write_text("mine")
    ended = programs.start("--data-dir", named).wait()
    assert ended.status == 1
    assert ended.log == (
        "logserver: notes.txt is a file, and a directory is wanted there. "
        "Name a directory, which is made if it does not exist, or move away what stands there.\n"
    )
    assert (programs.directory / "notes.txt").read_text() == "mine"


#: The program itself, with a disk whose syncs begin to fail when the first batch comes.
FAILING = """
import errno, sys
import logstore.linux_disk as disk
import logstore.syscalls as syscalls
from logserver.appends import Appends

def fail(descriptor):
    raise OSError(errno.EIO, "Input/output error")

def breaking(self, *arguments, append=Appends.append):
    disk._fdatasync = syscalls.syncfs = fail
    return append(self, *arguments)

Appends.append = breaking
"""


async def test_a_failed_sync_ends_the_process_without_an_ack(programs: Programs) -> None:
    program = programs.start(first=FAILING)
    client = Client(program.ready())
    await client.create("t")
    with pytest.raises(grpc.aio.AioRpcError) as cut:
        await client.produce("t", batch(b"x"))
    assert cut.value.code() is grpc.StatusCode.UNAVAILABLE
    ended = program.wait()
    assert ended.status == 1
    assert "the disk failed" in ended.log
    await client.channel.close()


#: The program itself, to which a signal comes just before it imports a module, or calls a function.
AT_IMPORT = """
import os, sys
class Finder:
    def find_spec(name, path, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Finder)
"""
AT_CALL = """
import os
from {module} import {owner}
def signalled(*arguments, original={owner}.{name}, **named):
    os.kill(os.getpid(), {number})
    return original(*arguments, **named)
{owner}.{name} = signalled
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "name",
    [
        "click",
        pytest.param("structlog", marks=pytest.mark.slow),
        pytest.param("grpc", marks=pytest.mark.slow),
        pytest.param("uvloop", marks=pytest.mark.slow),
        "logserver.server",
    ],
)
def test_a_signal_while_it_loads_ends_it_without_a_word(programs: Programs, name: str, number: int) -> None:
    ended = programs.start(first=AT_IMPORT.format(name=name, number=int(number))).wait()
    assert (ended.status, ended.output, ended.log) == (128 + number, "", "")
    assert not (programs.directory / "tailrace-data").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("module", "owner", "name"),
    [
        ("logstore.topics", "TopicStore", "open"),
        pytest.param("logstore.topics", "TopicStore", "_start", marks=pytest.mark.slow),
        pytest.param("consumer_groups.coordinator", "GroupCoordinator", "start", marks=pytest.mark.slow),
        pytest.param("logserver.grpc.server", "GrpcServer", "__init__", marks=pytest.mark.slow),
        ("logserver.grpc.server", "GrpcServer", "serve"),
    ],
)
def test_a_signal_while_it_starts_is_obeyed_by_a_clean_stop(
    programs: Programs, module: str, owner: str, name: str, number: int
) -> None:
    programs.start().ready()  # A second start, of a killed server, has something to recover and to put in order.
    programs.close()
    first = AT_CALL.format(module=module, owner=owner, name=name, number=int(number))
    ended = programs.start(first=first).wait()
    assert (ended.status, ended.output) == (128 + number, "")
    assert not re.search("Traceback|exception|Abort|ready", ended.log), ended.log
    with closing(Checkpoint.load(programs.directory / "tailrace-data" / "checkpoint", LinuxDisk())) as checkpoint:
        assert checkpoint.is_clean


def test_who_asks_twice_to_stop_a_start_does_not_wait_for_it(programs: Programs) -> None:
    first = AT_CALL.format(module="logstore.topics", owner="TopicStore", name="_start", number=int(signal.SIGINT))
    first += first.replace("original=", "again=").replace("return original", "return again")
    assert programs.start(first=first).wait().status == 130


def test_it_is_ready_soon_and_small(programs: Programs) -> None:
    programs.start().ready()  # Warms the page cache.
    started = time.monotonic()
    program = programs.start("--data-dir", "other")
    program.ready()
    assert time.monotonic() - started < 30  # 1 s on a quiet machine.
    status = Path(f"/proc/{program.pid}/status").read_text()
    match = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert match is not None
    assert int(match[1]) < 100_000


def test_the_port_is_free_for_others_after_a_stop(programs: Programs) -> None:
    program = programs.start()
    address = parse_address(program.ready())
    assert program.end().status == 0
    with socket.create_server(address):
        pass


@pytest.mark.parametrize(
    "missing",
    [
        "numpy",
        "kio",
        pytest.param("structlog", marks=pytest.mark.slow),
        pytest.param("grpc_health", marks=pytest.mark.slow),
        pytest.param("mmap_ninja", marks=pytest.mark.slow),
    ],
)
def test_without_the_dependencies_of_the_server_it_says_how_to_install_them(tmp_path: Path, missing: str) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.modules[{missing!r}] = None; {RUN}"],
        cwd=tmp_path,
        env=ENVIRONMENT | {"LOGSERVER_LISTEN": "127.0.0.1:0", "LOGSERVER_KAFKA_LISTEN": "127.0.0.1:0"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert ran.returncode == 1
    assert "pip install 'tailrace[server]'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_help_shows_the_default_of_a_switch(programs: Programs) -> None:
    assert "[default: on]" in programs.start("--help").wait().output
