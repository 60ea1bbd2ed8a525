import inspect
from types import ModuleType

import pytest
from kio.schema.errors import ErrorCode

from consumer_groups import errors as groups
from logserver import errors as server
from logserver.kafka import errors as kafka
from logserver.kafka.errors import TABLE, error_code, refusal
from logstore import errors as store

#: Met before there is a door, and told on stderr.
AT_START = {server.InvalidServerConfig, server.ListenFailed}
BASES = {store.ExplainedError, server.LogServerError, store.LogStoreError, groups.GroupError, kafka.SessionRefused}


@pytest.mark.parametrize("module", [kafka, server, store, groups])
def test_every_error_of_the_door_and_of_the_packages_below_has_its_row(module: ModuleType) -> None:
    classes = {
        found
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, Exception) and found.__module__ == module.__name__
    }
    assert classes - AT_START - BASES <= TABLE.keys()


def test_no_row_says_that_nothing_or_nobody_knows_what_happened() -> None:
    assert not {ErrorCode.none, ErrorCode.unknown_server_error} & set(TABLE.values())


def test_an_error_without_a_row_has_the_code_of_its_nearest_base() -> None:
    class OfALaterDay(store.DataLoss):
        pass

    assert error_code(OfALaterDay("gone", remedy="Go on.")) == ErrorCode.corrupt_message


def test_a_refusal_says_what_happened_and_what_to_do_and_of_a_bug_nothing() -> None:
    assert refusal(store.InvalidConfig("It is too small", remedy="Give more.")) == {
        "error_code": ErrorCode.invalid_config,
        "error_message": "It is too small. Give more.",
    }
    assert refusal(ZeroDivisionError("the password is 1234")) == {
        "error_code": ErrorCode.unknown_server_error,
        "error_message": None,
    }
