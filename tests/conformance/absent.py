"""What is not on this machine: a reason to skip here, and a failure in CI, where a test that never runs is no test."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest


class Absent(Exception):
    """A program or package that a test needs is not there."""


@contextmanager
def skipped_where_absent() -> Iterator[None]:
    try:
        yield
    except Absent as error:
        if os.environ.get("TAILRACE_CI") == "1":
            pytest.fail(f"{error} (and TAILRACE_CI=1 says that all is there)")
        pytest.skip(str(error))
