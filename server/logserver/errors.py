"""What the server itself refuses; errors of storage and of groups are those packages' own."""

from logstore.errors import ExplainedError


class LogServerError(ExplainedError):
    """The root of this package's errors."""


# Met at start.


class InvalidServerConfig(LogServerError):
    """A setting is unknown, or has a value that it cannot have."""


class ListenFailed(LogServerError):
    """An address cannot be listened on: its port is taken, or it is not one of this machine."""


# Of requests.


class InvalidRequest(LogServerError):
    """A field is missing, negative, absurd or contradicts another."""


class InvalidPartitionNumber(InvalidRequest):
    """No partition has a negative number. Kafka says of it what it says of one that is not there."""


class NegativeOffset(InvalidRequest):
    """No record has a negative offset. Kafka says of it what it says of one that is not there."""


class RequestTooLarge(LogServerError):
    """The request names more than one call may."""


class InternalTopic(LogServerError):
    """The server keeps its own state in this topic, and alone writes and deletes it."""


class Overloaded(LogServerError):
    """A bound of the server is reached."""

    retriable = True


class RequestTimedOut(LogServerError):
    """The time for an answer is over. What was asked may happen still."""

    retriable = True


class ShuttingDown(LogServerError):
    """The server is being stopped and takes no more work."""

    retriable = True
