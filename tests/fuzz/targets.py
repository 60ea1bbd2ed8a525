"""What is tried, by name."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.fuzz import batches, consumer_protocol, fetch_sessions, frames, produce, requests

CORPUS = Path(__file__).parent / "corpus"


class Target(NamedTuple):
    name: str
    #: Whether what was given was read to its end, and not refused. What must not come out fails.
    run: Callable[[bytes], bool]
    seeds: Callable[[], Iterator[bytes]]

    @property
    def corpus(self) -> Path:
        return CORPUS / self.name


TARGETS = {
    target.name: target
    for target in (
        Target("frames", frames.run, frames.seeds),
        Target("requests", requests.run, requests.seeds),
        Target("produce", produce.run, produce.seeds),
        Target("fetch_sessions", fetch_sessions.run, fetch_sessions.seeds),
        Target("consumer_protocol", consumer_protocol.run, consumer_protocol.seeds),
        Target("batches", batches.run, batches.seeds),
    )
}
