"""`tailrace.testing.template`: what a server that is forked has, how it ends, and when there is a template."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tailrace import Producer, errors
from tailrace.testing import broker, template
from tests.processes import ENVIRONMENT, ended

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.usefixtures("checkout")

READY = "print('logserver ready: grpc=127.0.0.1:1 kafka=127.0.0.1:2 ', flush=True)"


@pytest.fixture
def new_template(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One for the test alone, that it may spoil."""
    monkeypatch.setattr(template, "_template", None)
    yield
    template.close()


@pytest.fixture
def run_instead(new_template: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Run this program instead of the server."""

    def patch(program: str) -> None:
        assert template._TEMPLATE.endswith(template._SERVER)
        monkeypatch.setattr(template, "_TEMPLATE", template._TEMPLATE.removesuffix(template._SERVER) + program)

    return patch


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()[1])


def open_files(pid: int) -> set[str]:
    return {os.readlink(link) for link in Path(f"/proc/{pid}/fd").iterdir()}


# What a server has.


def test_brokers_are_forked_from_one_template_that_keeps_nothing_of_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with broker() as first:
        parts = template.template().pid
        before = open_files(parts)
        monkeypatch.chdir(tmp_path)
        with broker(Path("here")) as second:
            assert parent(first.pid) == parent(second.pid) == parts
            assert open_files(parts) == before
            # Its end is that of the socket, of which nobody else has a copy.
            assert not {name for name in before if name.startswith("socket:")} & open_files(second.pid)
            assert os.readlink(f"/proc/{second.pid}/cwd") == str(tmp_path)
            assert os.getpgid(second.pid) == second.pid
            assert (tmp_path / "here" / "data").is_dir()
            pid = second.pid
        assert ended(pid)


def test_the_template_has_one_thread_and_no_file_but_its_socket_and_standard_files() -> None:
    with broker():
        parts = template.template().pid
        assert len(list(Path(f"/proc/{parts}/task").iterdir())) == 1
        kinds = sorted(name.partition(":")[0] for name in open_files(parts))
        assert kinds == ["/dev/null", "pipe", "socket"]


def test_all_that_a_server_imports_is_in_the_template(run_instead: Callable[[str], None], tmp_path: Path) -> None:
    late = "print(sorted(sys.modules.keys() - before), file=sys.stderr)"
    run_instead(f"import atexit, sys; before = {{*sys.modules}}; atexit.register(lambda: {late}); {template._SERVER}")
    for name in ("begins before all is loaded", "begins after that"):
        with broker(tmp_path / name) as running:
            running.stop()
            loaded = running.log.read_text().splitlines()[-1]
    assert loaded == "[]"


def test_a_server_has_the_environment_and_the_directory_of_its_start(
    run_instead: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_instead("import os; print([os.environ.get(f'TEST_{n}') for n in 'ABC'], os.readlink('/proc/self/cwd'))")
    monkeypatch.setenv("TEST_A", "then")
    template.template()
    monkeypatch.delenv("TEST_A")
    monkeypatch.setenv("TEST_B", "now")
    monkeypatch.setenv("TEST_C", os.fsdecode(b"\xff" * 100_000))
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(errors.BrokerFailed) as failed:
        with broker(tmp_path):
            pass
    expected = f"{[None, 'now', os.environ['TEST_C']]} {gone} (deleted)"
    assert f"and said {expected!r};" in str(failed.value)


def test_a_template_in_which_threads_run_starts_programs_anew(
    new_template: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    thread = "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start(); "
    monkeypatch.setattr(template, "_TEMPLATE", thread + template._TEMPLATE)
    with broker(tmp_path) as running:
        command = Path(f"/proc/{running.pid}/cmdline").read_text().split("\0")
        assert command[3:6] == [template._SERVER, "--data-dir", f"{tmp_path}/data"]
        assert parent(running.pid) == template.template().pid
        with Producer(server=running.grpc_address) as producer:
            assert producer.send("t", "x").result().offset == 0
        running.pause()
        running.stop()


# How it ends.


def test_without_the_server_installed_it_says_how_to_install_it(
    new_template: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(template, "_TEMPLATE", "import sys; sys.modules['kio'] = None; " + template._TEMPLATE)
    with pytest.raises(errors.BrokerFailed, match=r"is not installed here\. Install it: pip install") as failed:
        with broker(tmp_path):
            pass
    assert failed.value.code == "SERVER_NOT_INSTALLED"


def test_of_a_broker_that_failed_the_log_stays(
    run_instead: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    run_instead("print('nonsense')")
    with pytest.raises(errors.BrokerFailed, match="and said 'nonsense'") as failed:
        with broker():
            pass
    [log] = tmp_path.glob("*/*")
    assert failed.value.remedy == f"See {log}."


def test_of_a_broker_whose_failure_is_told_whole_nothing_stays(
    new_template: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(template, "_TEMPLATE", "raise ValueError('this')")
    with pytest.raises(errors.BrokerFailed, match="does not answer"):
        with broker():
            pass
    assert not list(tmp_path.iterdir())


def test_a_server_that_does_not_end_well_is_told(run_instead: Callable[[str], None], tmp_path: Path) -> None:
    run_instead(f"import signal, sys; signal.signal(15, lambda *_: sys.exit('out of order')); {READY}; signal.pause()")
    with broker(tmp_path) as running:
        with pytest.raises(errors.BrokerFailed, match="ended with status 1; the last it said: out of order"):
            running.stop()
        assert not running.is_running
        running.start()
        os.kill(running.pid, signal.SIGKILL)
        with pytest.raises(
            errors.BrokerFailed, match=r"ended (by itself )?with status -9; the last it said: out of order"
        ):
            running.stop()


def test_a_template_that_fails_says_why(new_template: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(template, "_TEMPLATE", "raise ValueError('this')")
        with pytest.raises(errors.BrokerFailed, match="does not answer; the last it said: ValueError: this"):
            with broker(tmp_path):
                pass
    with broker(tmp_path):
        pass


@pytest.mark.parametrize(
    "paused",
    [
        pytest.param("never", marks=pytest.mark.slow),
        pytest.param("before", marks=pytest.mark.slow),
        "after",
    ],
)
def test_without_their_template_brokers_can_be_ended_and_started_again(
    new_template: None, tmp_path: Path, paused: str
) -> None:
    with broker(tmp_path) as running:
        before, parts = running.pid, template.template().pid
        if paused == "before":
            running.pause()
        os.kill(parts, signal.SIGKILL)
        assert ended(parts)
        if paused == "after":
            os.kill(before, signal.SIGSTOP)
        with pytest.raises(errors.BrokerFailed, match="does not answer; the last it said: nothing"):
            running.stop()
        running.kill()
        assert ended(before)
        running.start()
        assert running.is_running


def test_a_template_that_cannot_do_one_thing_goes_on_with_the_next(new_template: None, tmp_path: Path) -> None:
    with broker(tmp_path) as running:
        parts = template.template().pid
        with pytest.raises(errors.BrokerFailed, match="cannot kill: No such process"):
            template.template().ask("kill", running.pid + (1 << 30), signal.SIGKILL)
        assert running.is_running
        assert template.template().pid == parts


def test_a_template_that_cannot_fork_says_why_and_forks_when_it_can(
    new_template: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fails_once = """
import os
fork = os.fork
def fails():
    os.fork = fork
    raise BlockingIOError(11, os.strerror(11))
os.fork = fails
"""
    monkeypatch.setattr(template, "_TEMPLATE", fails_once + template._TEMPLATE)
    with pytest.raises(errors.BrokerFailed, match="cannot fork: Resource temporarily unavailable"):
        with broker(tmp_path):
            pass
    parts = template.template().pid
    before = open_files(parts)
    with broker(tmp_path) as running:
        assert running.is_running
    assert (template.template().pid, open_files(parts)) == (parts, before)


def test_an_answer_that_nobody_waited_for_is_not_taken_for_another(
    new_template: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(origin: object) -> None:
        raise KeyboardInterrupt

    with broker(tmp_path) as running:
        asked = template.template()
        with monkeypatch.context() as patch:
            patch.setattr(template, "_receive", interrupted)
            with pytest.raises(KeyboardInterrupt):
                running.pause()
        assert asked.has_ended
        running.kill()
        running.start()
        assert running.is_running


# When there is a template.


def run(program: str, directory: Path) -> str:
    """What the program prints, if it ends well and says nothing on stderr."""
    ran = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program],
        cwd=directory,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


def test_the_template_ends_with_its_process(tmp_path: Path) -> None:
    pids = run(
        "from tailrace.testing import broker; from tailrace.testing.template import template\n"
        "with broker() as running: print(running.pid, template().pid)",
        tmp_path,
    )
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids.split())


def test_a_fork_of_the_process_has_a_template_of_its_own(tmp_path: Path) -> None:
    forked = """
import os, sys
from tailrace.errors import InvalidRequest
from tailrace.testing import broker
from tailrace.testing.template import template

with broker() as running:
    child = os.fork()
    if child == 0:
        try:
            with broker() as own:
                print(own.pid, template().pid)
            try:
                running.kill()
            except InvalidRequest as error:
                print(error)
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.waitpid(child, 0)
    assert running.is_running
    print(running.pid, template().pid)
"""
    [first, refusal, second] = run(forked, tmp_path).splitlines()
    assert not set(first.split()) & set(second.split())
    assert refusal.startswith("the broker belongs to the process that started it")
    assert all(ended(int(pid)) for pid in first.split())


def test_pytest_begins_with_the_template_when_a_test_wants_a_broker(
    new_template: None, pytester: pytest.Pytester
) -> None:
    pytester.makepyfile(
        """
        import pytest
        from tailrace.testing import template

        @pytest.fixture
        def wants(tailrace_broker_session):
            return tailrace_broker_session

        def test_before(request):
            wanted = any("wants" in item.fixturenames for item in request.session.items)
            assert (template._template is not None) == wanted

        def test_of_a_broker(wants):
            assert wants.is_running
        """
    )
    pytester.runpytest_inprocess("-p", "no:asyncio", "-k", "before").assert_outcomes(passed=1, deselected=1)
    pytester.runpytest_inprocess("-p", "no:asyncio", "--collect-only")
    assert template._template is None
    pytester.runpytest_inprocess("-p", "no:asyncio").assert_outcomes(passed=2)
