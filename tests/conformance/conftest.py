"""The brokers and clients of the suite. Each is opened once, and closed before the next broker starts."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conformance.absent import skipped_where_absent
from tests.conformance.brokers import BROKERS, Broker
from tests.conformance.clients import NAMES, STRATEGIES, Client, open_client

HERE = Path(__file__).parent

#: kafka-python's way to its own schema files.
READ_TEXT = pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.conformance)
            item.add_marker(pytest.mark.slow)
            item.add_marker(READ_TEXT)


@pytest.fixture(scope="session", params=list(BROKERS))
def broker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with ExitStack() as stack:
        with skipped_where_absent():
            opened = stack.enter_context(BROKERS[request.param](tmp_path_factory.mktemp(request.param)))
        yield opened


@pytest.fixture(scope="session")
def clients(broker: Broker) -> Iterator[Callable[[str], Client]]:
    """Opens the client of a name, or gives the one that is open: connecting takes longer than most tests."""
    opened: dict[str, Client] = {}

    def client(name: str) -> Client:
        if name not in opened:
            with skipped_where_absent():
                opened[name] = open_client(name, broker.address)
        return opened[name]

    yield client
    for each in opened.values():
        each.close()


@pytest.fixture(params=NAMES)
def client(request: pytest.FixtureRequest, clients: Callable[[str], Client]) -> Client:
    return clients(request.param)


@pytest.fixture(params=[(name, strategy) for name, strategies in STRATEGIES.items() for strategy in strategies])
def client_strategy(request: pytest.FixtureRequest, clients: Callable[[str], Client]) -> tuple[Client, str]:
    """Every client with every strategy that it has."""
    name, strategy = request.param
    return clients(name), strategy


@pytest.fixture(scope="session")
def names() -> Callable[[str], str]:
    """Names that no other test has."""
    numbers = itertools.count(1)
    return lambda kind: f"{kind}-{next(numbers)}"


@pytest.fixture
def topic(names: Callable[[str], str], maker: Client) -> str:
    """A new topic with one partition."""
    name = names("topic")
    maker.create_topic(name)
    return name


@pytest.fixture
def group(names: Callable[[str], str]) -> str:
    return names("group")


@pytest.fixture
def maker(clients: Callable[[str], Client]) -> Client:
    """For what a test needs and does not test."""
    return clients("kafka_python")
