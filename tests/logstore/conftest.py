"""What the tests of the storage engine share."""

import pytest

from tests.logstore.disk import SimulatedDisk


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk()
