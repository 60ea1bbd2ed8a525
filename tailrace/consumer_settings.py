"""What a consumer is asked to be, and what it cannot be."""

from collections.abc import Iterable
from typing import NamedTuple

from tailrace.connection import server_address
from tailrace.errors import InvalidRequest
from tailrace.offsets import Start, checked_start
from tailrace.records import TopicPartition


class ConsumerSettings(NamedTuple):
    server: str
    topics: tuple[str, ...]
    group: str | None
    partitions: tuple[int | TopicPartition, ...] | None
    start: Start
    stop_at_end: bool
    auto_commit: bool
    auto_commit_interval: float
    out_of_range: str
    prefetch_bytes: int
    assignor: str
    instance_id: str
    rebalance_timeout: float
    connect_timeout: float


_SECONDS = ("auto_commit_interval", "rebalance_timeout", "connect_timeout")
_SECONDS_MAX = 1_000_000  # Days: what is longer is a mistake, and too much for a field of milliseconds.


def checked_settings(settings: ConsumerSettings) -> ConsumerSettings:
    """Raises InvalidRequest with the first setting that cannot be."""
    problem: tuple[str, str] | None = None
    if any(isinstance(topic, list | tuple | set) for topic in settings.topics):
        problem = f"topics={settings.topics!r}", 'Give topics as separate arguments: Consumer("a", "b"), or *topics.'
    elif not settings.topics or not all(isinstance(topic, str) and topic for topic in settings.topics):
        problem = f"topics={settings.topics!r}", "Name at least one topic, as a str."
    elif len(set(settings.topics)) != len(settings.topics):
        problem = f"topics={settings.topics!r}", "Name each topic once."
    elif settings.group is not None and not (isinstance(settings.group, str) and settings.group):
        problem = f"group={settings.group!r}", "Name the group with a str, or leave it out to read without one."
    elif settings.partitions is not None and not all(
        isinstance(chosen, TopicPartition) or type(chosen) is int for chosen in settings.partitions
    ):
        problem = f"partitions={settings.partitions!r}", "Give numbers, or TopicPartition(topic, number)."
    elif settings.partitions is not None and not settings.partitions:
        problem = "partitions=() without any", "Name some, or leave it out to read all."
    elif other := [chosen for chosen in settings.partitions or () if _topic_of(chosen) not in (None, *settings.topics)]:
        problem = f"{other[0]!r} among partitions of {settings.topics!r}", "Name its topic, too."
    elif wrong := [name for name in ("assignor", "instance_id") if not isinstance(getattr(settings, name), str)]:
        problem = ", ".join(f"{name}={getattr(settings, name)!r}" for name in wrong), "Give a str."
    elif settings.instance_id and settings.group is None:
        problem = f"instance_id={settings.instance_id!r} without a group", "Name the group of which it is a member."
    elif wrong := [name for name in ("stop_at_end", "auto_commit") if type(getattr(settings, name)) is not bool]:
        problem = ", ".join(f"{name}={getattr(settings, name)!r}" for name in wrong), "Give True or False."
    elif settings.out_of_range not in ("error", "beginning", "end"):
        problem = f"out_of_range={settings.out_of_range!r}", 'Use "error", "beginning" or "end".'
    elif type(settings.prefetch_bytes) is not int or not 0 < settings.prefetch_bytes < 1 << 62:
        problem = f"prefetch_bytes={settings.prefetch_bytes!r}", "Give a number of bytes, as an int."
    elif wrong := [name for name in _SECONDS if not _is_seconds(getattr(settings, name))]:
        problem = ", ".join(f"{name}={getattr(settings, name)!r}" for name in wrong), "Give seconds above 0."
    if problem is not None:
        raise InvalidRequest(f"{problem[0]} is not what a consumer can have", remedy=problem[1])
    return settings._replace(server=server_address(settings.server), start=checked_start(settings.start))


def chosen_partitions(partitions: Iterable[int | TopicPartition] | None) -> tuple[int | TopicPartition, ...] | None:
    """What a consumer was given, for its settings. Raises InvalidRequest."""
    if isinstance(partitions, Iterable):
        return tuple(partitions)
    if partitions is not None:
        raise InvalidRequest(
            f"partitions={partitions!r} is not what a consumer can have",
            remedy="Give a list of numbers, or of TopicPartition(topic, number), also when there is only one.",
        )
    return None


def check_callbacks(**callbacks: object) -> None:
    """Raises InvalidRequest for what cannot be called."""
    for name, callback in callbacks.items():
        if callback is not None and not callable(callback):
            raise InvalidRequest(
                f"{name}={callback!r} is not what a consumer can have",
                remedy="Give a function that takes a list of TopicPartition, or leave it out.",
            )


def check_timeout(timeout: object) -> None:
    """Raises InvalidRequest for what is no time to wait."""
    if timeout is not None and not (
        isinstance(timeout, int | float) and type(timeout) is not bool and timeout <= _SECONDS_MAX
    ):
        raise InvalidRequest(
            f"timeout={timeout!r} is not a time to wait", remedy="Give seconds, or leave it out to wait for ever."
        )


def _topic_of(chosen: int | TopicPartition) -> str | None:
    return chosen.topic if isinstance(chosen, TopicPartition) else None


def _is_seconds(value: object) -> bool:
    return type(value) in (int, float) and 0 < value <= _SECONDS_MAX  # type: ignore[operator]
