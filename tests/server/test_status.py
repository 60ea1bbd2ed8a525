import inspect
from types import ModuleType

import grpc
import pytest
from google.rpc.status_pb2 import Status

from consumer_groups import errors as groups
from logserver import errors as server
from logserver.status import MESSAGE_CHARACTERS_MAX, TABLE, describe, refusal
from logstore import errors as store
from logwire.v1 import errors_pb2
from logwire.v1.errors_pb2 import ErrorCode

#: Met before there is a door, and told on stderr.
AT_START = {server.InvalidServerConfig, server.ListenFailed}
ROOTS = {store.ExplainedError, server.LogServerError, store.LogStoreError, groups.GroupError}


@pytest.mark.parametrize("module", [server, store, groups])
def test_every_error_of_the_packages_below_has_its_row(module: ModuleType) -> None:
    classes = {
        found
        for _, found in inspect.getmembers(module, inspect.isclass)
        if issubclass(found, Exception) and found.__module__ == module.__name__
    }
    assert classes - AT_START - ROOTS <= TABLE.keys()


def test_every_code_of_the_contract_is_used_or_a_bug() -> None:
    used = {code for _, code in TABLE.values()} | {
        ErrorCode.ERROR_CODE_UNSPECIFIED,
        ErrorCode.ERROR_CODE_INTERNAL,
    }
    assert [ErrorCode.Name(code) for code in ErrorCode.values() if code not in used] == []


def test_only_what_may_succeed_later_is_called_retriable() -> None:
    for kind in (server.Overloaded, server.ShuttingDown, store.StorageFull):
        assert describe(kind("It happened.", remedy="Wait.")).retriable
    for other in (server.InvalidRequest, store.CorruptBatch, groups.FencedMemberEpoch):
        assert not describe(other("It happened.", remedy="Stop.")).retriable


def test_a_refused_call_carries_message_and_remedy_in_its_rich_status() -> None:
    code, message, details = refusal(store.OffsetOutOfRange("7 is not in [9, 12)", remedy="Read from 9."))
    assert (code, message) == (grpc.StatusCode.OUT_OF_RANGE, "7 is not in [9, 12)")
    status = Status.FromString(details)
    error = errors_pb2.Error()
    assert status.details[0].Unpack(error)
    assert status.code == grpc.StatusCode.OUT_OF_RANGE.value[0]
    assert (error.message, error.remedy) == (message, "Read from 9.")
    assert error.code == ErrorCode.ERROR_CODE_OFFSET_OUT_OF_RANGE


def test_what_is_no_error_of_ours_is_internal_and_tells_no_secrets() -> None:
    error = describe(ZeroDivisionError("the password is 1234"))
    assert error.code == ErrorCode.ERROR_CODE_INTERNAL
    assert "1234" not in error.message
    assert not error.retriable


def test_a_message_that_quotes_too_much_is_cut() -> None:
    error = describe(server.InvalidRequest("x" * 100_000, remedy="y" * 100_000))
    assert len(error.message) == len(error.remedy) == MESSAGE_CHARACTERS_MAX


def test_data_loss_says_in_fields_what_is_lost_as_far_as_it_is_known() -> None:
    loss = store.DataLoss("gone", remedy="Go on.", offset=4, next_offset=5)
    loss.topic, loss.partition = "t", 0
    described = describe(loss)
    assert (described.topic, described.partition, described.offset, described.next_offset) == ("t", 0, 4, 5)
    assert described.HasField("partition")
    unknown = describe(store.DataLoss("gone", remedy="Go on."))
    assert not unknown.topic
    assert not any(unknown.HasField(field) for field in ("partition", "offset", "next_offset"))
