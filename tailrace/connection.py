"""One channel to one server: deadlines, retries with back-off, and what the wire says turned into our errors."""

import asyncio
import logging
import os
import random
import re
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Protocol, TypeVar

# gRPC's core reads these once, when it is imported. What it writes to stderr, every error below says better. And its
# support for forks starts its threads again in a child, where they crash (in one of four forks, seen with 1.85).
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

import grpc
import grpc.aio
from google.rpc.status_pb2 import Status

from logwire.v1 import errors_pb2
from logwire.v1.errors_pb2 import ErrorCode
from logwire.v1.groups_pb2_grpc import GroupServiceStub
from logwire.v1.records_pb2 import FetchStreamRequest, ListOffsetsRequest, ProduceStreamResponse
from logwire.v1.records_pb2_grpc import FetchServiceStub, ProduceServiceStub
from logwire.v1.topics_pb2_grpc import TopicServiceStub
from tailrace import errors
from tailrace.errors import TailraceError

logger = logging.getLogger("tailrace")

DEFAULT_SERVER = "localhost:7070"
SERVER_VARIABLE = "TAILRACE_SERVER"
#: gRPC would take more, such as "dns:///host:port" and "unix:path", and take a mistyped address for one of these.
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]+(%\w+)?\]|[\w.-]+):(?P<port>[0-9]{1,5})")

#: For the first answer of a server, and short of the 5 s that are promised.
CONNECT_SECONDS_MAX = 4.5
#: For one that refuses connections, or whose name is not known: it is not there, or is just starting. Whoever gives a
#: server more time than the default above is taken to wait for one that is still to be started.
REFUSED_SECONDS_MAX = 1.0
#: For one that went away, while a client closes: what it still has to say must not keep the application for long.
FAREWELL_SECONDS_MAX = 3.0
#: For one call, retries included.
REQUEST_SECONDS_MAX = 30.0

BACKOFF_FIRST_SECONDS = 0.05
BACKOFF_SECONDS_MAX = 1.0

_CHANNEL_OPTIONS = [
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A server that restarts is back within a second; the default waits up to two minutes between attempts.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Clients of one process do not share a socket, nor each other's back-off.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
]

#: What gRPC says of a peer whose first words are not HTTP/2, and of a connection that broke under a write.
_SPEAKS_SOMETHING_ELSE = "Failed parsing HTTP/2"
_BROKE_WHILE_WRITING = "Internal error from Core"

T = TypeVar("T", covariant=True)
Q = TypeVar("Q", contravariant=True)


class Method(Protocol[Q, T]):
    """A unary call of a generated stub."""

    def __call__(
        self, request: Q, /, *, timeout: float | None = ..., wait_for_ready: bool | None = ...
    ) -> Awaitable[T]: ...


def server_address(server: str | None) -> str:
    """The address asked for, else the environment's, else the default. Raises InvalidRequest."""
    address = server or os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER
    match = _ADDRESS.fullmatch(address) if isinstance(address, str) else None
    if match is None or not 0 < int(match["port"]) < 65536:
        named_by = "" if server else f"{SERVER_VARIABLE}="
        raise errors.InvalidRequest(
            f"{named_by}{address!r} is not the address of a server",
            remedy='Give it as "host:port", such as "localhost:7070" or "[::1]:7070".',
        )
    return address


class Backoff:
    """Waits that double, with jitter so that clients of one server do not come back in step."""

    def __init__(self) -> None:
        self._next = BACKOFF_FIRST_SECONDS

    def next(self) -> float:
        seconds = self._next * random.uniform(0.75, 1.25)
        self._next = min(2 * self._next, BACKOFF_SECONDS_MAX)
        return seconds

    def reset(self) -> None:
        self._next = BACKOFF_FIRST_SECONDS


class Connection:
    """To be made and used on the event loop of the I/O thread."""

    def __init__(self, address: str, *, connect_timeout: float = CONNECT_SECONDS_MAX) -> None:
        self.address = address
        self._connect_timeout = connect_timeout
        self._connecting = asyncio.Lock()
        self._was_connected = False
        self._is_closed = False
        #: When to stop waiting for a server that is not there, by the loop's clock.
        self._gives_up_at: float | None = None
        self._channel = grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS)
        # The generated stubs are typed for either kind of channel; these are asyncio's.
        self.produce: Any = ProduceServiceStub(self._channel)
        #: ProduceStream, whose requests are given as bytes.
        self.produce_stream: Any = self._channel.stream_stream(
            "/logwire.v1.ProduceService/ProduceStream", response_deserializer=ProduceStreamResponse.FromString
        )
        self.fetch: Any = FetchServiceStub(self._channel)
        #: FetchStream, whose answers are taken as bytes.
        self.fetch_stream: Any = self._channel.stream_stream(
            "/logwire.v1.FetchService/FetchStream", request_serializer=FetchStreamRequest.SerializeToString
        )
        self.topics: Any = TopicServiceStub(self._channel)
        self.groups: Any = GroupServiceStub(self._channel)

    async def connect(self) -> None:
        """Return at once if a server has ever answered here. Raises ServerUnreachable, IncompatibleServer,
        ClientClosed."""
        async with self._connecting:
            if self._was_connected:
                return
            loop = asyncio.get_running_loop()
            started = loop.time()
            backoff = Backoff()
            while True:
                remaining = max(started + self._connect_timeout - loop.time(), 0.001)
                try:
                    # A call that waited for the channel to become ready could not say why it does not.
                    with self._until_closed():
                        await self.fetch.ListOffsets(ListOffsetsRequest(), timeout=remaining, wait_for_ready=False)
                    break
                except grpc.aio.AioRpcError as failed:
                    if wire_error(failed) is not None:
                        break
                    if failed.code() not in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                        raise self.error(failed) from None
                    details = failed.details() or ""
                    if _SPEAKS_SOMETHING_ELSE in details:
                        raise _not_ours(self.address) from None
                    # A server that goes away while it answers may be on its way back.
                    patience = patience_with(details, self._connect_timeout)
                    wait = backoff.next()
                    if loop.time() + wait < started + patience:
                        await asyncio.sleep(wait)
                        continue
                    # Of several addresses, as localhost has, gRPC tells of the last alone.
                    if "refused" in details and await _listens(self.address):
                        raise _not_ours(self.address) from None
                    raise _unreachable(self.address, details, patience) from None
            self._was_connected = True

    async def call(
        self, method: Method[Q, T], request: Q, *, timeout: float = REQUEST_SECONDS_MAX, repeat: bool = True
    ) -> T:
        """Call, and ride an outage out until the timeout.

        A call that is not to be repeated is made once; a connection is still waited for. Raises what the server
        refuses it with, ServerUnreachable at first use, ServerUnavailable later, RequestTimedOut, ClientClosed.
        """
        await self.connect()
        loop = asyncio.get_running_loop()
        until = loop.time() + timeout
        backoff = Backoff()
        while True:
            try:
                with self._until_closed():
                    await self._reach()
                    return await method(request, timeout=max(until - loop.time(), 0.001), wait_for_ready=True)
            except grpc.aio.AioRpcError as failed:
                error = self.error(failed)
            wait = backoff.next()
            if not (repeat and isinstance(error, TRANSIENT) and loop.time() + wait < until):
                raise error
            await asyncio.sleep(wait)

    @asynccontextmanager
    async def stream(self, method: Any) -> AsyncIterator[Any]:
        """Open a stream in both directions, which is cancelled however the block ends.

        gRPC's errors come out as ours, and so does an ending that nobody asked for.
        """
        await self.connect()
        call = method(wait_for_ready=True)
        try:
            yield call
        except asyncio.CancelledError:
            # gRPC raises it in whoever uses a call that we cancelled. Only a task that is cancelled may end by it.
            task = asyncio.current_task()
            if not call.cancelled() or (task is not None and task.cancelling()):
                raise
            raise errors.ServerUnavailable(
                f"the stream to {self.address} was given up", remedy="Retry; the client reconnects by itself."
            ) from None
        except grpc.aio.AioRpcError as failed:
            raise self.error(failed) from None
        except asyncio.InvalidStateError as failed:
            raise errors.ServerUnavailable(
                f"the stream to {self.address} has ended", remedy="Retry; the client reconnects by itself."
            ) from failed
        finally:
            call.cancel()

    def hurry(self) -> None:
        """The client closes: from now on, calls wait only a moment for a server that is not there."""
        self._gives_up_at = asyncio.get_running_loop().time() + FAREWELL_SECONDS_MAX

    async def _reach(self) -> None:
        if self._gives_up_at is None:
            return
        try:
            async with asyncio.timeout_at(self._gives_up_at):
                await self._channel.channel_ready()
        except TimeoutError:
            raise await self.absence() or errors.ServerUnavailable(
                f"the server at {self.address} went away and did not come back in time",
                remedy="See whether it is running, then retry.",
            ) from None

    async def absence(self) -> errors.ServerUnavailable | None:
        """Why the server cannot be reached now. None when it can, or when nothing says why.

        A call that waits for a connection does not learn what stands in its way.
        """
        try:
            with self._until_closed():
                await self.fetch.ListOffsets(ListOffsetsRequest(), timeout=REFUSED_SECONDS_MAX, wait_for_ready=False)
        except grpc.aio.AioRpcError as failed:
            if wire_error(failed) is None and "refused" in (failed.details() or ""):
                return errors.ServerUnavailable(_refused(self.address), remedy="Start it again; then retry.")
        return None

    async def close(self) -> None:
        self._is_closed = True
        await self._channel.close()

    @contextmanager
    def _until_closed(self) -> Iterator[None]:
        """What gRPC raises when the channel is closed, by another thread of the application, comes out as ours."""
        try:
            yield
        except (asyncio.CancelledError, grpc.aio.UsageError):
            # Whoever was cancelled, as by Ctrl-C, is not there any more to take an error.
            task = asyncio.current_task()
            if not self._is_closed or (task is not None and task.cancelling()):
                raise
            raise errors.ClientClosed(
                f"the client was closed while it asked {self.address}", remedy="Close it when all threads are done."
            ) from None

    def error(self, failed: grpc.aio.AioRpcError) -> TailraceError:
        """The error that a failed call stands for."""
        described = wire_error(failed)
        if described is not None:
            return error_from_wire(described)
        code, details = failed.code(), failed.details() or "no details"
        match code:
            case grpc.StatusCode.DEADLINE_EXCEEDED:
                return errors.RequestTimedOut(
                    f"{self.address} did not answer in time ({details})",
                    remedy="See whether the server is up and not overloaded; what was asked may have been done.",
                )
            case grpc.StatusCode.INTERNAL if details == _BROKE_WHILE_WRITING:
                return errors.ServerUnavailable(
                    f"the connection to {self.address} broke", remedy="See whether the server is running, then retry."
                )
            case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
                return errors.ServerUnavailable(
                    f"the server at {self.address} went away and did not come back in time ({details})",
                    remedy="See whether it is running, then retry.",
                )
            case grpc.StatusCode.UNIMPLEMENTED:
                return errors.IncompatibleServer(
                    f"what answers at {self.address} does not know this call ({details})",
                    remedy="Look whether this is the gRPC port of a logserver, of this version or newer.",
                )
            case grpc.StatusCode.RESOURCE_EXHAUSTED if "larger than max" not in details:
                return errors.Overloaded(
                    f"{self.address} has as many calls under way as it takes ({details})",
                    remedy="Retry after a pause.",
                )
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                return errors.RequestTooLarge(
                    f"a message between {self.address} and this client is too large ({details})",
                    remedy="Send less at once, or start the server with a larger --request-bytes-max.",
                )
        return errors.InternalServerError(
            f"the call to {self.address} failed with {code.name}: {details}",
            remedy="Look into the server's log, and report it as a bug.",
        )


#: What passes by itself, and is worth another attempt of the same call.
TRANSIENT = (errors.ServerUnavailable, errors.ShuttingDown, errors.Overloaded, errors.StorageFailed)


def wire_error(failed: grpc.aio.AioRpcError) -> errors_pb2.Error | None:
    """The Error in a failed call's details, or None when it was not a logserver that refused it."""
    for key, value in failed.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            for detail in Status.FromString(value if isinstance(value, bytes) else value.encode()).details:
                error = errors_pb2.Error()
                if detail.Unpack(error):
                    return error
    return None


def error_from_wire(described: errors_pb2.Error) -> TailraceError:
    """The class of its code, or the nearest root when the server is newer than this client."""
    kind = _KINDS.get(described.code)
    if kind is None:
        kind = errors.RetriableError if described.retriable else errors.FinalError
    error = kind(described.message, remedy=described.remedy, code=code_name(described.code))
    if error.retriable != described.retriable:
        error.retriable = described.retriable
    if isinstance(error, errors.DataLoss):
        error.topic = described.topic or None
        for name in ("partition", "offset", "next_offset"):
            setattr(error, name, getattr(described, name) if described.HasField(name) else None)
    return error


def code_name(code: int) -> str:
    try:
        return ErrorCode.Name(code).removeprefix("ERROR_CODE_")  # type: ignore[arg-type]
    except ValueError:
        return f"CODE_{code}"


def patience_with(details: str, connect_timeout: float) -> float:
    """Seconds in all to try to reach a server, after an attempt that failed with these details of gRPC's."""
    is_absent = "refused" in details or "resolving" in details or "resolution" in details
    if is_absent and connect_timeout <= CONNECT_SECONDS_MAX:
        return min(connect_timeout, REFUSED_SECONDS_MAX)
    return connect_timeout


async def _listens(address: str) -> bool:
    """Whether anything takes a connection there."""
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(REFUSED_SECONDS_MAX):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, TimeoutError):
        return False
    writer.close()
    return True


def _refused(address: str) -> str:
    return f"connection refused: no server listens at {address}"


def _not_ours(address: str) -> errors.IncompatibleServer:
    return errors.IncompatibleServer(
        f"what answers at {address} is not a logserver",
        remedy=f"See which program has that port, and say where the server is with server=, --server or "
        f"{SERVER_VARIABLE}.",
    )


def _unreachable(address: str, details: str, tried_seconds: float) -> errors.ServerUnreachable:
    if "refused" in details:
        message = _refused(address)
    else:
        message = f"no server answered at {address} within {tried_seconds:g} s" + (f" ({details})" if details else "")
    return errors.ServerUnreachable(
        message, remedy=f"Start `logserver`, or say where it is with server=, --server or {SERVER_VARIABLE}."
    )


_KINDS: dict[int, type[TailraceError]] = {
    ErrorCode.ERROR_CODE_INTERNAL: errors.InternalServerError,
    ErrorCode.ERROR_CODE_INVALID_REQUEST: errors.InvalidRequest,
    ErrorCode.ERROR_CODE_SHUTTING_DOWN: errors.ShuttingDown,
    ErrorCode.ERROR_CODE_OVERLOADED: errors.Overloaded,
    ErrorCode.ERROR_CODE_REQUEST_TIMED_OUT: errors.RequestTimedOut,
    ErrorCode.ERROR_CODE_REQUEST_TOO_LARGE: errors.RequestTooLarge,
    ErrorCode.ERROR_CODE_UNKNOWN_TOPIC_OR_PARTITION: errors.UnknownTopicOrPartition,
    ErrorCode.ERROR_CODE_UNKNOWN_TOPIC_ID: errors.UnknownTopicId,
    ErrorCode.ERROR_CODE_TOPIC_ALREADY_EXISTS: errors.TopicAlreadyExists,
    ErrorCode.ERROR_CODE_INVALID_TOPIC: errors.InvalidTopic,
    ErrorCode.ERROR_CODE_INVALID_PARTITIONS: errors.InvalidPartitions,
    ErrorCode.ERROR_CODE_INVALID_CONFIG: errors.InvalidConfig,
    ErrorCode.ERROR_CODE_POLICY_VIOLATION: errors.PolicyViolation,
    ErrorCode.ERROR_CODE_OFFSET_OUT_OF_RANGE: errors.OffsetOutOfRange,
    ErrorCode.ERROR_CODE_CORRUPT_MESSAGE: errors.CorruptMessage,
    ErrorCode.ERROR_CODE_MESSAGE_TOO_LARGE: errors.MessageTooLarge,
    ErrorCode.ERROR_CODE_INVALID_RECORD: errors.InvalidRecord,
    ErrorCode.ERROR_CODE_INVALID_TIMESTAMP: errors.InvalidTimestamp,
    ErrorCode.ERROR_CODE_OUT_OF_ORDER_SEQUENCE_NUMBER: errors.OutOfOrderSequenceNumber,
    ErrorCode.ERROR_CODE_DUPLICATE_SEQUENCE_NUMBER: errors.DuplicateSequenceNumber,
    ErrorCode.ERROR_CODE_INVALID_PRODUCER_EPOCH: errors.InvalidProducerEpoch,
    ErrorCode.ERROR_CODE_UNKNOWN_PRODUCER_ID: errors.UnknownProducerId,
    ErrorCode.ERROR_CODE_STORAGE_FULL: errors.StorageFull,
    ErrorCode.ERROR_CODE_STORAGE_ERROR: errors.StorageFailed,
    ErrorCode.ERROR_CODE_DATA_LOSS: errors.DataLoss,
    ErrorCode.ERROR_CODE_INVALID_GROUP_ID: errors.InvalidGroupId,
    ErrorCode.ERROR_CODE_GROUP_ID_NOT_FOUND: errors.GroupIdNotFound,
    ErrorCode.ERROR_CODE_NON_EMPTY_GROUP: errors.NonEmptyGroup,
    ErrorCode.ERROR_CODE_GROUP_MAX_SIZE_REACHED: errors.GroupMaxSizeReached,
    ErrorCode.ERROR_CODE_UNKNOWN_MEMBER_ID: errors.UnknownMemberId,
    ErrorCode.ERROR_CODE_FENCED_MEMBER_EPOCH: errors.FencedMemberEpoch,
    ErrorCode.ERROR_CODE_STALE_MEMBER_EPOCH: errors.StaleMemberEpoch,
    ErrorCode.ERROR_CODE_UNRELEASED_INSTANCE_ID: errors.UnreleasedInstanceId,
    ErrorCode.ERROR_CODE_FENCED_INSTANCE_ID: errors.FencedInstanceId,
    ErrorCode.ERROR_CODE_UNSUPPORTED_ASSIGNOR: errors.UnsupportedAssignor,
    ErrorCode.ERROR_CODE_OFFSET_METADATA_TOO_LARGE: errors.OffsetMetadataTooLarge,
    ErrorCode.ERROR_CODE_PARTITION_NOT_OWNED: errors.PartitionNotOwned,
    ErrorCode.ERROR_CODE_SEEK_IN_PROGRESS: errors.SeekInProgress,
    ErrorCode.ERROR_CODE_SEEK_TIMED_OUT: errors.SeekTimedOut,
    ErrorCode.ERROR_CODE_INCONSISTENT_GROUP_PROTOCOL: errors.InconsistentGroupProtocol,
    ErrorCode.ERROR_CODE_ASSIGNMENT_UNREADABLE: errors.AssignmentUnreadable,
}
