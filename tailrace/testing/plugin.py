"""The pytest plugin: `tailrace_broker` for a test of its own, `tailrace_broker_session` for all that share one."""

import shutil
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import pytest

from tailrace.errors import BrokerFailed, InvalidRequest
from tailrace.testing.broker_process import BrokerProcess, broker
from tailrace.testing.template import template

_FIXTURES = {"tailrace_broker", "tailrace_broker_session"}

#: Of a test, and of the session: what the server of its fixture says.
_LOG = pytest.StashKey[Path]()
#: So much of it is shown with a test that failed.
_SHOWN_LINES = 20


def pytest_collection_finish(session: pytest.Session) -> None:
    """What servers need is loaded while other tests run, if one of them wants a broker."""
    wants = any(not _FIXTURES.isdisjoint(getattr(item, "fixturenames", ())) for item in session.items)
    if wants and not session.config.option.collectonly:
        template()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed shows where its server's log is, and the end of it."""
    report = yield
    if report.failed:
        uses_session = "tailrace_broker_session" in getattr(item, "fixturenames", ())
        for node in (item, item.session) if uses_session else (item,):
            log = node.stash.get(_LOG, None)
            if log is not None and log.exists():
                lines = log.read_text(errors="replace").splitlines()
                report.sections.append((f"Broker for tests: {log}", "\n".join(lines[-_SHOWN_LINES:])))
    return report


@pytest.fixture(scope="session")
def tailrace_broker_settings() -> Mapping[str, object]:
    """Settings of the servers; override it in a conftest.py, such as {"group_session_timeout_ms": 6000}."""
    return {}


@pytest.fixture
def tailrace_broker(
    request: pytest.FixtureRequest,
    tailrace_broker_settings: Mapping[str, object],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[BrokerProcess]:
    """A broker that this test has for itself."""
    yield from _broker(request.node, tailrace_broker_settings, tmp_path_factory)


@pytest.fixture(scope="session")
def tailrace_broker_session(
    request: pytest.FixtureRequest,
    tailrace_broker_settings: Mapping[str, object],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[BrokerProcess]:
    """A broker for all tests of the session that ask for it, under pytest-xdist one for each worker. Topics, groups and
    moved time stay from test to test."""
    yield from _broker(request.node, tailrace_broker_settings, tmp_path_factory)


def _broker(
    node: pytest.Item | pytest.Session, settings: object, directories: pytest.TempPathFactory
) -> Iterator[BrokerProcess]:
    directory = directories.mktemp("tailrace-broker")
    node.stash[_LOG] = directory / "server.log"
    try:
        if not isinstance(settings, Mapping):
            raise InvalidRequest(
                f"the fixture tailrace_broker_settings returned {settings!r}",
                remedy='Let it return a dict, such as {"group_session_timeout_ms": 6000}.',
            )
        with broker(directory, **settings) as running:
            yield running
    except (BrokerFailed, InvalidRequest) as error:
        pytest.fail(f"{type(error).__name__}: {error}", pytrace=False)  # Nobody looks for it in this file.
    finally:
        # The log stays for a while, as all that pytest makes there does.
        shutil.rmtree(directory / "data", ignore_errors=True)
