from collections.abc import Iterator

import pytest

from tests.processes import ENVIRONMENT
from tests.tailrace.fake_server import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A fake server with a topic of four partitions and one of one."""
    with FakeServer(flights=4, single=1) as server:
        yield server


@pytest.fixture(scope="module")
def checkout() -> Iterator[None]:
    """The brokers of `tailrace.testing` are those of the checkout, wherever the environment's own are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", ENVIRONMENT["PYTHONPATH"])
        yield
