"""`tailrace.testing`: a real broker that tests have in their hands, and its pytest plugin."""

import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tailrace import Admin, Consumer, Producer, errors
from tailrace.testing import BrokerProcess, broker
from tests.processes import ended
from tests.test_layers import loaded_by

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.usefixtures("checkout")

DAY_SECONDS = 86_400


@pytest.fixture(scope="module")
def shared(checkout: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    """One for the tests that do not mind each other's topics and time."""
    with broker(tmp_path_factory.mktemp("shared"), group_session_timeout_ms=10_000) as running:
        yield running


@pytest.mark.filterwarnings("ignore:.*_text is deprecated:DeprecationWarning")  # kafka-python's
def test_a_record_passes_from_a_client_of_tailrace_to_one_of_kafka(shared: BrokerProcess) -> None:
    from kafka import KafkaConsumer

    shared.create_topic("flights", partitions=2, retention_ms=3_600_000)
    with Producer(server=shared.grpc_address) as producer:
        producer.send("flights", "EWR to IAH", partition=1).result()
    consumer = KafkaConsumer("flights", bootstrap_servers=shared.bootstrap, auto_offset_reset="earliest")
    try:
        [record] = next(iter(consumer.poll(timeout_ms=30_000).values()))
    finally:
        consumer.close()
    assert (record.partition, record.value) == (1, b"EWR to IAH")
    with Admin(server=shared.grpc_address) as admin:
        config = {entry.name: entry.value for entry in admin.describe_topic("flights").config}
    assert config["retention.ms"] == "3600000"


def test_what_the_server_says_of_a_topic_is_raised(shared: BrokerProcess) -> None:
    with pytest.raises(errors.InvalidConfig, match=r"retention\.hours"):
        shared.create_topic("t", retention_hours=1)


def test_what_was_acknowledged_is_there_after_a_kill_on_the_same_addresses_and_at_the_same_time(
    shared: BrokerProcess,
) -> None:
    before = (shared.bootstrap, shared.grpc_address, shared.pid)
    shared.advance(3.5)
    ahead_ms = shared._ahead_ms
    with Producer(server=shared.grpc_address) as producer:
        producer.send("kept", "x").result()
        shared.kill()
        assert ended(before[2])
        assert not shared.is_running
        shared.start()
        assert producer.send("kept", "y").result().offset == 1
    assert (shared.bootstrap, shared.grpc_address) == before[:2]
    assert shared.pid != before[2]
    shared.advance(0.25)
    assert shared._ahead_ms == ahead_ms + 250


def test_it_stops_cleanly_and_starts_again(shared: BrokerProcess) -> None:
    shared.pause()
    shared.stop()
    with pytest.raises(errors.InvalidRequest, match="does not run"):
        shared.advance(1)
    shared.start()
    with pytest.raises(errors.InvalidRequest, match="runs already"):
        shared.start()


def test_retention_has_been_applied_when_time_has_advanced(shared: BrokerProcess) -> None:
    shared.create_topic("old", segment_bytes=1024, retention_ms=DAY_SECONDS * 1000)
    with Producer(server=shared.grpc_address) as producer, Admin(server=shared.grpc_address) as admin:
        for _ in range(3):
            producer.send("old", b"x" * 900).result()
        shared.advance(DAY_SECONDS - 3600)
        assert admin.list_offsets([("old", 0)], "earliest")[0].offset == 0
        shared.advance(2 * 3600)
        assert admin.list_offsets([("old", 0)], "earliest")[0].offset == 2  # a segment that is written to stays


def test_a_member_that_was_silent_for_its_session_is_out_when_time_has_advanced(shared: BrokerProcess) -> None:
    with Producer(server=shared.grpc_address) as producer:
        producer.send("watched", "x").result()
    with (
        Admin(server=shared.grpc_address) as admin,
        Consumer("watched", group="g", server=shared.grpc_address) as member,
    ):
        assert member.poll(30)
        [before] = admin.describe_group("g").members
        shared.advance(11)
        until = time.monotonic() + 30
        while True:  # It has to be told, and to join again.
            after = admin.describe_group("g").members
            if after and (after[0].member_id, after[0].member_epoch) != (before.member_id, before.member_epoch):
                break
            assert time.monotonic() < until
            member.poll(0.05)


def test_while_it_is_paused_nobody_is_answered(shared: BrokerProcess) -> None:
    shared.pause()
    with Admin(server=shared.grpc_address, connect_timeout=0.2) as admin:
        with pytest.raises(errors.ServerUnreachable):
            admin.cluster()
    for call in ("advance", "create_topic"):
        with pytest.raises(errors.InvalidRequest, match=r"the broker is paused, and hears nothing. Call resume\(\)"):
            CALLS[call](shared)
    shared.resume()
    with Admin(server=shared.grpc_address) as admin:
        admin.cluster()


@pytest.mark.parametrize(
    "seconds", [-1, float("nan"), float("inf"), 1e300, pytest.param(10**400, id="huge"), "10", None]
)
def test_time_goes_forward_by_some_amount(shared: BrokerProcess, seconds: Any) -> None:
    before = shared.pid
    with pytest.raises(errors.InvalidRequest, match="time cannot be moved"):
        shared.advance(seconds)
    assert shared.pid == before


def test_time_goes_no_further_than_a_server_can_be_started_at(tmp_path: Path) -> None:
    with broker(tmp_path) as running:
        running.advance(36_499 * DAY_SECONDS)
        with pytest.raises(errors.InvalidRequest, match=r"more than a hundred years ahead\. It is ahead by 3153513600"):
            running.advance(DAY_SECONDS + 1)
        running.advance(DAY_SECONDS)
        running.kill()
        running.start()
        running.create_topic("then")


@pytest.mark.parametrize("name", ["listen", "kafka_listen", "data_dir", "test_clock_ms", "Listen"])
def test_settings_that_the_broker_makes_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(errors.InvalidRequest, match=f"{name} is no setting of a broker for tests"):
        with broker(**{name: "1"}):
            pass
    assert not list(tmp_path.iterdir())


def test_it_stays_in_its_directory_wherever_the_process_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with broker("here") as running:
        running.create_topic("kept")
        running.kill()
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        running.start()
        with Admin(server=running.grpc_address) as admin:
            admin.describe_topic("kept")
        assert running.directory == tmp_path / "here"


def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file", f"{tmp_path}/file/below", f"{tmp_path}/\0", "/proc/new"):
        with pytest.raises(errors.BrokerFailed, match=r"the broker for tests cannot use '.*Give a directory"):
            with broker(directory):
                pass
    with pytest.raises(errors.InvalidRequest, match="3 cannot be the directory of a broker"):
        BrokerProcess(3)  # type: ignore[arg-type]  # as a user without a type checker has it


def test_a_relative_directory_needs_one_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.rmdir()
    with pytest.raises(errors.InvalidRequest, match="'here' cannot be the directory of a broker"):
        BrokerProcess("here")


@pytest.mark.parametrize("directory", [None, "given"])
def test_a_broker_is_not_started_after_its_block(
    directory: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with broker(directory) as saved:
        pass
    with pytest.raises(errors.InvalidRequest, match="the broker went with its block"):
        saved.start()


def crash(running: BrokerProcess) -> None:
    """It ends by itself, as far as the broker knows."""
    os.kill(running.pid, signal.SIGKILL)
    until = time.monotonic() + 60
    while running.is_running:  # Its threads have to end, too.
        assert time.monotonic() < until


CALLS: dict[str, Callable[[BrokerProcess], object]] = {
    "pid": lambda running: running.pid,
    "create_topic": lambda running: running.create_topic("x"),
    "advance": lambda running: running.advance(1),
    "kill": lambda running: running.kill(),
    "stop": lambda running: running.stop(),
    "pause": lambda running: running.pause(),
    "resume": lambda running: running.resume(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_server_that_has_ended_by_itself_is_told_once_and_may_be_started_again(
    shared: BrokerProcess, call: Callable[[BrokerProcess], object]
) -> None:
    crash(shared)
    with pytest.raises(errors.BrokerFailed, match=r"the broker for tests ended by itself with status -9; the last it"):
        call(shared)
    with pytest.raises(errors.InvalidRequest, match="the broker does not run"):
        call(shared)
    shared.start()
    assert shared.is_running


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_of_a_broker_that_was_not_started_nothing_is_asked_and_no_other_server_either(
    shared: BrokerProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[[BrokerProcess], object],
) -> None:
    monkeypatch.setenv("TAILRACE_SERVER", shared.grpc_address)
    with pytest.raises(errors.InvalidRequest, match="the broker does not run"):
        call(BrokerProcess(tmp_path))
    with Admin() as admin:
        assert "x" not in {listing.topic for listing in admin.list_topics()}


def test_a_block_ends_with_an_error_when_the_server_had_ended_by_itself(tmp_path: Path) -> None:
    with pytest.raises(errors.BrokerFailed, match="ended by itself with status -9") as failed:
        with broker(tmp_path) as running:
            crash(running)
    assert failed.value.remedy == f"See {tmp_path}/server.log."


def test_nothing_is_left_after_the_block() -> None:
    with broker() as running:
        directory, pid = running.directory, running.pid
        assert running.log.exists()
    assert not directory.exists()
    assert ended(pid)


def test_a_setting_that_does_not_exist_is_told_as_the_server_says_it(tmp_path: Path) -> None:
    with pytest.raises(errors.BrokerFailed, match="LOGSERVER_RETENTION_HOURS is no setting of the server") as failed:
        with broker(tmp_path / "new" / "directory", retention_hours=1):
            pass
    assert failed.value.remedy == f"See {tmp_path}/new/directory/server.log."


def test_settings_for_other_servers_do_not_reach_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LOGSERVER_DATA_DIR", "/nowhere")
    monkeypatch.setenv("LOGSERVER_PORT", "nonsense")
    environment = BrokerProcess(tmp_path, default_partitions=3)._environment()
    assert {name for name in environment if name.startswith("LOGSERVER_")} == {
        "LOGSERVER_DEFAULT_PARTITIONS",
        "LOGSERVER_RETENTION_INTERVAL_MS",
        "LOGSERVER_COMPACTION_INTERVAL_MS",
    }


# The plugin.


def test_installing_loads_the_plugin(pytestconfig: pytest.Config) -> None:
    assert pytestconfig.pluginmanager.get_plugin("tailrace") is sys.modules["tailrace.testing.plugin"]


def test_runs_that_want_no_broker_do_not_pay_for_the_client() -> None:
    assert not loaded_by("import pytest, tailrace.testing.plugin") & {"grpc", "google", "aiokafka", "logserver"}


EACH_ITS_OWN = """
    import pytest

    seen = []

    @pytest.fixture(scope="session")
    def tailrace_broker_settings():
        return {"default_partitions": 3}

    @pytest.mark.parametrize("number", [1, 2])
    def test_function(tailrace_broker, tailrace_broker_session, number):
        seen.append((tailrace_broker.pid, tailrace_broker_session.pid))
        tailrace_broker.create_topic("t")  # fails where it is there already
        tailrace_broker_session.create_topic(f"t{number}")

    def test_what_was_seen():
        (first, shared), (second, again) = seen
        assert first != second
        assert shared == again
"""


def test_a_broker_for_each_test_or_one_for_the_session(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(EACH_ITS_OWN)
    directory = pytester.path / "base"
    pytester.runpytest_inprocess(f"--basetemp={directory}", "-p", "no:asyncio").assert_outcomes(passed=3)
    left = {path.name for path in directory.glob("tailrace-broker*/*")}
    assert left == {"server.log"}


def test_a_test_that_fails_shows_what_its_server_said(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture
        def own(tailrace_broker):
            return tailrace_broker

        @pytest.fixture
        def shared(tailrace_broker_session):
            return tailrace_broker_session

        def test_with_its_own(own):
            with own.log.open("a") as log:
                print("what it said", file=log)
            assert False

        def test_with_one_that_is_shared(shared):
            with shared.log.open("a") as log:
                print("what the other said", file=log)
            assert False

        def test_that_passes(own, shared):
            pass

        def test_without():
            assert False
        """
    )
    directory = pytester.path / "base"
    ran = pytester.runpytest_inprocess(f"--basetemp={directory}", "-p", "no:asyncio")
    ran.assert_outcomes(failed=3, passed=1)
    shown = re.findall(r"^-+ Broker for tests: (\S+) -+\n(?:.*\n)*?(what .+ said)\n", ran.stdout.str(), re.MULTILINE)
    logs = [f"{directory}/tailrace-broker{number}/server.log" for number in (0, 1)]
    assert shown == [(logs[0], "what it said"), (logs[1], "what the other said")]
    assert ran.stdout.str().count("Broker for tests") == 2


def test_a_test_fails_whose_server_ended_by_itself_unless_it_knows(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os, signal

        import pytest
        from tailrace.errors import BrokerFailed

        def crash(running):
            os.kill(running.pid, signal.SIGKILL)
            while running.is_running:
                pass

        def test_unseen(tailrace_broker):
            crash(tailrace_broker)

        def test_seen(tailrace_broker):
            crash(tailrace_broker)
            with pytest.raises(BrokerFailed):
                tailrace_broker.advance(1)

        def test_asked_for(tailrace_broker):
            tailrace_broker.kill()
        """
    )
    ran = pytester.runpytest_inprocess("-p", "no:asyncio")
    ran.assert_outcomes(passed=3, errors=1)
    ran.stdout.re_match_lines(
        [r".*ERROR at teardown of test_unseen", r"BrokerFailed: .* ended by itself with status -9"]
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("None", "InvalidRequest: the fixture tailrace_broker_settings returned None. Let it return a dict, *"),
        (
            "{'listen': '127.0.0.1:1'}",
            "InvalidRequest: listen is no setting of a broker for tests, which chooses it. *",
        ),
        ("{'nonsense': 1}", "BrokerFailed: * LOGSERVER_NONSENSE is no setting of the server*"),
    ],
    ids=["none", "made by the broker", "unknown to the server"],
)
def test_settings_that_are_wrong_are_told_in_a_line(pytester: pytest.Pytester, settings: str, said: str) -> None:
    pytester.makepyfile(
        f"""
        import pytest

        @pytest.fixture(scope="session")
        def tailrace_broker_settings():
            return {settings}

        def test_it(tailrace_broker):
            pass
        """
    )
    ran = pytester.runpytest_inprocess("-p", "no:asyncio")
    ran.assert_outcomes(errors=1)
    ran.stdout.fnmatch_lines(["*ERROR at setup of test_it*", said])
    assert "plugin.py" not in ran.stdout.str()


@pytest.mark.slow
def test_each_worker_of_xdist_has_its_own(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_session(tailrace_broker_session, worker_id, number):
            with open(f"seen-{worker_id}", "a") as seen:
                print(tailrace_broker_session.pid, tailrace_broker_session.bootstrap, file=seen)
        """
    )
    pytester.runpytest_subprocess("-n2", "--dist=each").assert_outcomes(passed=8)
    seen = [set((pytester.path / f"seen-gw{number}").read_text().splitlines()) for number in (0, 1)]
    assert [len(lines) for lines in seen] == [1, 1]
    assert not seen[0] & seen[1]


@pytest.mark.parametrize("before", ["", "tailrace_broker.pause()"])
def test_a_run_that_is_killed_leaves_no_server_behind(pytester: pytest.Pytester, before: str) -> None:
    pytester.makepyfile(
        f"""
        import os, signal

        from tailrace.testing.template import template

        def test_killed(tailrace_broker):
            with open("pids", "w") as file:
                print(tailrace_broker.pid, template().pid, file=file)
            {before}
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert pytester.runpytest_subprocess().ret == -signal.SIGKILL
    assert all(ended(int(pid)) for pid in (pytester.path / "pids").read_text().split())
    assert re.search("ready|journal", next(pytester.path.glob("**/server.log")).read_text())


@pytest.mark.parametrize(
    "leave_behind",
    [
        "forked = os.fork() or time.sleep(600)",
        "pool = ProcessPoolExecutor(1, get_context('fork')); forked = pool.submit(os.getpid).result()",
        "forked = subprocess.Popen(['sleep', '600'], close_fds=False).pid",
    ],
    ids=["fork", "pool", "subprocess"],
)
def test_what_a_test_has_started_keeps_no_server_of_a_run_that_is_killed(
    pytester: pytest.Pytester, leave_behind: str
) -> None:
    pytester.makepyfile(
        f"""
        import os, signal, subprocess, time
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context

        def test_killed(tailrace_broker):
            {leave_behind}
            with open("pids", "w") as file:
                print(tailrace_broker.pid, forked, file=file)
            os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert pytester.runpytest_subprocess().ret == -signal.SIGKILL
    server, left = map(int, (pytester.path / "pids").read_text().split())
    try:
        assert ended(server)
    finally:
        os.kill(left, signal.SIGKILL)
