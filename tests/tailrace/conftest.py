from collections.abc import Iterator

import pytest

from tests.tailrace.fake_server import FakeServer


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A fake server with a topic of four partitions and one of one."""
    with FakeServer(flights=4, single=1) as server:
        yield server
