"""Fetch sessions (KIP-227): a client that reads many partitions names only what changed since its last request.

A session is its connection's, which has one at most. What they all remember has a bound: as with Kafka, whose cache of
sessions has one, a client that finds no room is answered without a session, and names everything each time.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from logserver.kafka.errors import FetchSessionIdNotFound, InvalidFetchSessionEpoch
from logserver.kafka.messages import ITEMS_MAX, get

#: Epochs of a request with a meaning of their own.
INITIAL_EPOCH = 0
FINAL_EPOCH = -1
NO_SESSION = 0
EPOCH_MAX = 2**31 - 1
SESSION_ID_MAX = 2**31 - 1
_BEGIN_ANEW = "Begin a new session, with epoch 0."
#: Of all sessions together, of some 400 bytes each.
PLACES_MAX = 100_000
#: Of one session: as many as one request may name.
SESSION_PLACES_MAX = ITEMS_MAX


class TopicPartition(NamedTuple):
    """A partition as the client names it: its topic by name, or from version 13 on by id."""

    topic: str | bytes
    partition: int


@dataclass(slots=True)
class Wanted:
    """From where on the client reads a partition, and what it was told last."""

    offset: int
    bytes_max: int
    current_leader_epoch: int
    told_high_watermark: int = -1
    told_log_start_offset: int = -1


class SessionPlaces:
    """How many partitions the sessions of all connections remember."""

    def __init__(self) -> None:
        self.count = 0

    def has_room(self, more: int) -> bool:
        return self.count + more <= PLACES_MAX


class FetchSession:
    """The session of one connection, or none."""

    def __init__(self, places: SessionPlaces) -> None:
        self._places = places
        self.session_id = NO_SESSION
        self._epoch = FINAL_EPOCH
        self._wanted: OrderedDict[TopicPartition, Wanted] = OrderedDict()

    def begin(self, request: Any, draw_id: Callable[[], int]) -> "Fetching":
        """What one request reads. Raises SessionRefused."""
        session_id, epoch = get(request, "session_id", NO_SESSION), get(request, "session_epoch", FINAL_EPOCH)
        named = dict(_named(request))
        if epoch in (INITIAL_EPOCH, FINAL_EPOCH):
            if session_id in (NO_SESSION, self.session_id):
                self.close()
            if epoch == FINAL_EPOCH or not self._places.has_room(len(named) - len(self._wanted)):
                return Fetching(NO_SESSION, list(named.items()), is_incremental=False)
            self.close()
            self.session_id, self._epoch = draw_id(), 1
            self._wanted = OrderedDict(named)
            self._places.count += len(self._wanted)
            return Fetching(self.session_id, list(self._wanted.items()), is_incremental=False)
        if session_id != self.session_id or session_id == NO_SESSION:
            raise FetchSessionIdNotFound(
                f"there is no fetch session {session_id} on this connection", remedy=_BEGIN_ANEW
            )
        if epoch != self._epoch:
            raise InvalidFetchSessionEpoch(
                f"fetch session {session_id} is at epoch {self._epoch}, and the request at {epoch}", remedy=_BEGIN_ANEW
            )
        more = len(named.keys() - self._wanted.keys())
        if len(self._wanted) + more > SESSION_PLACES_MAX or not self._places.has_room(more):
            self.close()
            raise FetchSessionIdNotFound(
                f"fetch session {session_id} is closed: there is no room for more", remedy=_BEGIN_ANEW
            )
        self._epoch = 1 if epoch == EPOCH_MAX else epoch + 1
        before = len(self._wanted)
        for place, wanted in named.items():
            known = self._wanted.get(place)
            if known is not None:
                wanted.told_high_watermark, wanted.told_log_start_offset = (
                    known.told_high_watermark,
                    known.told_log_start_offset,
                )
            self._wanted[place] = wanted
        for place in _forgotten(request):
            self._wanted.pop(place, None)
        self._places.count += len(self._wanted) - before
        return Fetching(session_id, list(self._wanted.items()), is_incremental=True)

    def answered(self, places: Sequence[TopicPartition]) -> None:
        """These had records: they come last in the next answer, so that none starves another."""
        for place in places:
            if place in self._wanted:
                self._wanted.move_to_end(place)

    def close(self) -> None:
        """Forget it, if there is one."""
        self._places.count -= len(self._wanted)
        self.session_id, self._epoch = NO_SESSION, FINAL_EPOCH
        self._wanted.clear()


class Fetching(NamedTuple):
    session_id: int
    wanted: list[tuple[TopicPartition, Wanted]]
    #: The answer leaves out partitions of which there is nothing new.
    is_incremental: bool


def _named(request: Any) -> Iterator[tuple[TopicPartition, Wanted]]:
    for topic in request.topics:
        name = _name(topic)
        for part in topic.partitions:
            yield (
                TopicPartition(name, part.partition),
                Wanted(part.fetch_offset, part.partition_max_bytes, get(part, "current_leader_epoch", -1)),
            )


def _forgotten(request: Any) -> Iterator[TopicPartition]:
    for topic in request.forgotten_topics_data:
        name = _name(topic)
        for number in topic.partitions:
            yield TopicPartition(name, number)


def _name(topic: Any) -> str | bytes:
    topic_id = get(topic, "topic_id", None)
    if topic_id is not None:
        return bytes(topic_id.bytes)
    # kio reads an id of zeros as none, as no topic has it.
    return str(get(topic, "topic", "")) if hasattr(topic, "topic") else bytes(16)
