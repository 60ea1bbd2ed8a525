"""The brokers and clients of the suite. Each is opened once, and closed before the next broker starts."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
from kio.schema.errors import ErrorCode

from tests.conformance.absent import skipped_where_absent
from tests.conformance.brokers import BROKERS, Broker
from tests.conformance.clients import NAMES, STRATEGIES, Client, Refused, open_client
from tests.conformance.differences import difference_of
from tests.conformance.waiting import eventually
from tests.conformance.wire import Connection

HERE = Path(__file__).parent

#: kafka-python's way to its own schema files.
READ_TEXT = pytest.mark.filterwarnings("ignore:(read|open)_text is deprecated:DeprecationWarning")
#: Its sockets are closed by the garbage collector, in whichever test that comes.
LEFT_OPEN = pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.conformance)
            item.add_marker(pytest.mark.slow)
            item.add_marker(READ_TEXT)
            item.add_marker(LEFT_OPEN)
            assert isinstance(item, pytest.Function)
            difference = difference_of(item.originalname)
            if difference is not None and "tailrace" in item.name:
                item.add_marker(pytest.mark.xfail(reason=difference.title, strict=True))


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


@pytest.fixture(
    params=[(name, strategy) for name, strategies in STRATEGIES.items() for strategy in strategies], ids="-".join
)
def client_strategy(request: pytest.FixtureRequest, clients: Callable[[str], Client]) -> tuple[Client, str]:
    """Every client with every strategy that it has."""
    name, strategy = request.param
    return clients(name), strategy


@pytest.fixture(scope="session")
def names() -> Callable[[str], str]:
    """Names that no other test has."""
    numbers = itertools.count(1)
    return lambda kind: f"{kind}-{next(numbers)}"


def new_topic(maker: Client, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
    """Returns when every partition can be used: Kafka says that a topic is created, and opens its logs afterwards."""

    def is_open(partition: int) -> bool:
        try:
            return maker.offset(name, partition, "latest") == 0
        except Refused:
            return False

    maker.create_topic(name, partitions=partitions, config=config)
    for partition in range(partitions):
        eventually(partial(is_open, partition))
    return name


@pytest.fixture
def topic(names: Callable[[str], str], maker: Client) -> str:
    """A new topic with one partition."""
    return new_topic(maker, names("topic"))


@pytest.fixture
def four_partitions(names: Callable[[str], str], maker: Client) -> str:
    """A new topic with four partitions."""
    return new_topic(maker, names("topic"), 4)


@pytest.fixture
def two_partitions(names: Callable[[str], str], maker: Client) -> str:
    """A new topic with two partitions."""
    return new_topic(maker, names("topic"), 2)


@pytest.fixture
def wire(broker: Broker) -> Iterator[Connection]:
    """A connection of the test's own."""
    with Connection(broker.address) as connection:
        yield connection


@pytest.fixture
def coordinator(wire: Connection) -> None:
    """There is one: Kafka makes it when it is asked for first."""
    deadline = time.monotonic() + 30
    while True:
        wire.ask("find_coordinator", 4, key_type=0, coordinator_keys=["any"])
        answer = wire.ask("heartbeat", 3, group_id="any", generation_id=1, member_id="nobody")
        if answer.error_code == ErrorCode.unknown_member_id:
            return
        # While the coordinator loads, Kafka says that all is well, so that members stay.
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)


@pytest.fixture
def group(names: Callable[[str], str]) -> str:
    return names("group")


@pytest.fixture
def maker(clients: Callable[[str], Client]) -> Client:
    """For what a test needs and does not test."""
    return clients("kafka_python")
