"""The pytest plugin: `tailrace_broker` for a test of its own, `tailrace_broker_session` for all that share one."""

import shutil
from collections.abc import Iterator, Mapping

import pytest

from tailrace.testing.broker_process import BrokerProcess, broker
from tailrace.testing.template import template

_FIXTURES = {"tailrace_broker", "tailrace_broker_session"}


def pytest_collection_finish(session: pytest.Session) -> None:
    """What servers need is loaded while other tests run, if one of them wants a broker."""
    wants = any(not _FIXTURES.isdisjoint(getattr(item, "fixturenames", ())) for item in session.items)
    if wants and not session.config.option.collectonly:
        template()


@pytest.fixture(scope="session")
def tailrace_broker_settings() -> Mapping[str, object]:
    """Settings of the servers; override it in a conftest.py, such as {"group_session_timeout_ms": 6000}."""
    return {}


@pytest.fixture
def tailrace_broker(
    tailrace_broker_settings: Mapping[str, object], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrokerProcess]:
    """A broker that this test has for itself."""
    yield from _broker(tailrace_broker_settings, tmp_path_factory)


@pytest.fixture(scope="session")
def tailrace_broker_session(
    tailrace_broker_settings: Mapping[str, object], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BrokerProcess]:
    """A broker for all tests of the session that ask for it, under pytest-xdist one for each worker. Topics, groups and
    moved time stay from test to test."""
    yield from _broker(tailrace_broker_settings, tmp_path_factory)


def _broker(settings: Mapping[str, object], directories: pytest.TempPathFactory) -> Iterator[BrokerProcess]:
    directory = directories.mktemp("tailrace-broker")
    with broker(directory, **settings) as running:
        yield running
    # The log stays for a while, as all that pytest makes there does.
    shutil.rmtree(directory / "data", ignore_errors=True)
