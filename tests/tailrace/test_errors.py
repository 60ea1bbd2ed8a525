import pickle
import traceback

import pytest

from logwire.v1 import errors_pb2
from logwire.v1.errors_pb2 import ErrorCode
from tailrace import errors
from tailrace.connection import error_from_wire
from tailrace.errors import FinalError, RetriableError, TailraceError

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, TailraceError)]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_is_either_retriable_or_final(kind: type[TailraceError]) -> None:
    if kind is not TailraceError:
        assert issubclass(kind, RetriableError) != issubclass(kind, FinalError)
        assert kind.retriable == issubclass(kind, RetriableError)
    assert kind.__doc__


@pytest.mark.parametrize("code", [code for code in ErrorCode.values() if code != ErrorCode.ERROR_CODE_UNSPECIFIED])
def test_every_code_of_the_wire_has_a_class_of_its_own_with_that_code(code: int) -> None:
    name = ErrorCode.Name(code).removeprefix("ERROR_CODE_")  # type: ignore[arg-type]
    error = error_from_wire(
        errors_pb2.Error(code=code, message="what happened", remedy="what to do")  # type: ignore[arg-type]
    )
    assert type(error) not in (RetriableError, FinalError)
    assert (error.code, type(error).default_code) == (name, name)
    assert (error.message, error.remedy) == ("what happened", "what to do")


@pytest.mark.parametrize(("retriable", "kind"), [(True, RetriableError), (False, FinalError)])
def test_a_code_of_a_newer_server_is_told_as_far_as_it_goes(retriable: bool, kind: type[TailraceError]) -> None:
    error = error_from_wire(
        errors_pb2.Error(code=9999, message="new", remedy="update", retriable=retriable)  # type: ignore[arg-type]
    )
    assert type(error) is kind
    assert error.code == "CODE_9999"


def test_whether_to_retry_is_what_the_server_says() -> None:
    code = ErrorCode.ERROR_CODE_OVERLOADED
    assert not error_from_wire(errors_pb2.Error(code=code, retriable=False)).retriable
    assert error_from_wire(errors_pb2.Error(code=code, retriable=True)).retriable


def test_errors_survive_pickling_with_all_they_know() -> None:
    error = errors.SendsFailed("3 records", remedy="look", count=3, errors=(errors.BufferFull("full", remedy="wait"),))
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), copy.remedy, copy.code) == (
        errors.SendsFailed,
        "3 records. look",
        "look",
        "SENDS_FAILED",
    )
    assert copy.count == 3
    assert copy.errors[0].message == "full"


def test_str_and_a_traceback_that_nobody_catches_show_what_happened_and_the_remedy_once() -> None:
    error = errors.BufferFull("the buffer is full", remedy="Wait for acknowledgements.")
    assert str(error) == "the buffer is full. Wait for acknowledgements."
    assert "".join(traceback.format_exception(error)).endswith(f"BufferFull: {error}\n")
    assert error.message == "the buffer is full"


def test_data_loss_names_the_records_that_are_lost_as_far_as_they_are_known() -> None:
    wire = errors_pb2.Error(
        code=ErrorCode.ERROR_CODE_DATA_LOSS, message="gone", topic="t", partition=0, offset=4, next_offset=5
    )
    loss = error_from_wire(wire)
    assert isinstance(loss, errors.DataLoss)
    assert (loss.topic, loss.partition, loss.offset, loss.next_offset) == ("t", 0, 4, 5)
    copy = pickle.loads(pickle.dumps(loss))
    assert (copy.topic, copy.partition, copy.offset, copy.next_offset) == ("t", 0, 4, 5)
    unknown = error_from_wire(errors_pb2.Error(code=ErrorCode.ERROR_CODE_DATA_LOSS, message="gone"))
    assert isinstance(unknown, errors.DataLoss)
    assert (unknown.topic, unknown.partition, unknown.offset, unknown.next_offset) == (None, None, None, None)
