"""The version of the installed distribution."""

from functools import cache
from importlib.metadata import PackageNotFoundError, version


@cache
def server_version() -> str:
    """ "unknown" in a checkout that is not installed."""
    try:
        return version("tailrace")
    except PackageNotFoundError:
        return "unknown"
