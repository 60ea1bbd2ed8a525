"""Who asks, and whether it may: what a door knows of a request beside the request."""

from dataclasses import dataclass
from enum import Enum, auto

from logstore.clock import Clock

ANONYMOUS = "anonymous"

#: Left of a caller's time for the answer to travel.
ANSWER_MS = 50


@dataclass(frozen=True, slots=True)
class RequestContext:
    principal: str
    client_id: str
    #: The door, such as "grpc".
    listener: str
    #: Address of the client as its door names it. The same for all calls of one connection.
    peer: str
    #: On the monotonic clock; None when the caller waits for ever.
    deadline_ms: int | None

    def remaining_ms(self, clock: Clock, most_ms: int) -> int:
        """How long to wait, at most most_ms, so that the answer is with the caller before its deadline."""
        if self.deadline_ms is None:
            return most_ms
        left_ms = max(self.deadline_ms - clock.monotonic_ms(), 0)
        return min(left_ms - min(left_ms // 5, ANSWER_MS), most_ms)


#: For what the server does on its own account.
SERVER_ITSELF = RequestContext(principal="server", client_id="", listener="internal", peer="", deadline_ms=None)


class Operation(Enum):
    READ = auto()
    WRITE = auto()
    CREATE = auto()
    ALTER = auto()
    DELETE = auto()
    DESCRIBE = auto()


class Resource(Enum):
    TOPIC = auto()
    GROUP = auto()
    CLUSTER = auto()


def authorize(context: RequestContext, operation: Operation, resource: Resource, name: str) -> None:
    """The one place that may refuse a principal. It lets everyone do everything: who can connect is trusted, which is
    why the server listens on loopback unless told otherwise."""
