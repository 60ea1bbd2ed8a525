"""What stands between the two threads of a consumer: what came, what is handed out, and what is done of it.

The application's thread takes what there is to do (`take`): records, or being told that partitions came or went. The
I/O thread puts in what was read and changes what is held. Whatever must be seen together changes under one lock, held
for moments; what only says a single thing is one assignment, or one end of a deque, and needs none. Nothing here waits
or talks to the server. `attention` makes an application that iterates look up between two records.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto
from typing import NamedTuple

from tailrace.errors import UnknownTopicOrPartition
from tailrace.positions import Cursor, FetchedBatches, Hold, PartitionKey
from tailrace.records import Record, RecordBatch, TopicPartition


class Idle(Enum):
    """What `take` gives when there is nothing to hand out."""

    WAIT = auto()
    END = auto()


class Assigned(NamedTuple):
    """Partitions came; they are read once the application was told."""

    holds: list[Hold]

    @property
    def partitions(self) -> list[TopicPartition]:
        return _partitions(self.holds)


class Revoked(NamedTuple):
    """Partitions go to another member, or, when lost, have gone already."""

    holds: list[Hold]
    lost: bool

    @property
    def partitions(self) -> list[TopicPartition]:
        return _partitions(self.holds)


def _partitions(holds: Iterable[Hold]) -> list[TopicPartition]:
    return sorted(TopicPartition(hold.key.topic, hold.key.partition) for hold in holds)


Step = Cursor | Assigned | Revoked | Idle


class Handout:
    def __init__(
        self,
        *,
        stop_at_end: bool,
        notify: Callable[[], None],
        on_placed: Callable[[Hold, int], None],
        on_read: Callable[[Hold, int], None],
    ) -> None:
        """notify is called, in any thread, when `take` may have something. on_placed is told that a hold is to be read
        from its position on, or no more, and of the position id it has by that; on_read, how many bytes of what came
        are used up."""
        self._stop_at_end = stop_at_end
        self._notify = notify
        self._on_placed = on_placed
        self._on_read = on_read
        self._lock = threading.Lock()
        self.holds: dict[tuple[str, int], Hold] = {}
        #: Revoked, and not given up yet because the application may be at work on their records.
        self.leaving: dict[PartitionKey, Hold] = {}
        self.inbox: deque[FetchedBatches] = deque()
        self._steps: deque[Assigned | Revoked] = deque()
        self._failure: Exception | None = None
        self._cursor: Cursor | None = None
        #: The application is to look up from its records: something was revoked, moved or stopped.
        self.attention = False
        self._is_stopped = False
        #: Records that were handed out and can no longer be committed, since the last commit.
        self._lost_uncommitted = False
        self._position_ids = 0
        #: How many times partitions are on their way in.
        self.starting = 0
        #: A member that was assigned nothing, and that is the plan.
        self._has_nothing = False

    # In the application's thread.

    def take(self) -> Step:
        """What the application has to do next, which it asks for because it is done with what it was handed before.

        Never waits. Raises what went wrong in the place where it went wrong.
        """
        with self._lock:
            self.attention = False
            self._settle()
            if self._steps:
                return self._steps.popleft()
            if self._is_stopped:
                return Idle.END
            if self._cursor is not None:
                return self._cursor
            cursor = self._next_cursor()
            if cursor is not None:
                self._cursor = cursor
                return cursor
            if self._failure is not None:
                raise self._failure.with_traceback(None)
            return Idle.END if self._is_at_end() else Idle.WAIT

    def put_back(self, step: "Assigned | Revoked") -> None:
        """The application has not done what it took: it is to do it before anything else."""
        self._steps.appendleft(step)

    def hand_out(self, cursor: Cursor) -> RecordBatch:
        """The whole batch of a cursor, or what is left of it."""
        with self._lock:
            return cursor.begin_batch()

    def finish(self) -> None:
        """The application leaves without an exception: it is done with what it holds."""
        with self._lock:
            self._settle()

    def interrupt(self) -> None:
        """The application leaves with an exception: it is done with all but what it holds."""
        with self._lock:
            if self._cursor is not None:
                hold = self._cursor.hold
                hold.next_offset = hold.done_offset = self.done_offset(hold)
                self._cursor = None

    def stop(self) -> None:
        """End the iteration. Takes no lock, so that a signal handler may call it."""
        self._is_stopped = True
        self.attention = True
        self._notify()

    def done_offset(self, hold: Hold) -> int:
        """Before it the application is done with everything; the record it holds counts as not done. Any thread."""
        cursor = self._cursor
        if cursor is not None and cursor.hold is hold:
            return max(hold.done_offset, cursor.done_offset)
        return hold.done_offset

    def position(self, hold: Hold) -> int:
        """Offset of the next record to be handed out."""
        cursor = self._cursor
        if cursor is not None and cursor.hold is hold:
            return cursor.handed_offset
        return hold.next_offset

    def held(self, topic: str | None, partition: int | None) -> list[Hold]:
        """The holds of a topic (None: of all) and a partition (None: of all). Raises UnknownTopicOrPartition."""
        with self._lock:
            found = [
                hold
                for hold in self.holds.values()
                if topic in (None, hold.key.topic) and partition in (None, hold.key.partition)
            ]
        if not found and topic is not None:
            named = f"topic {topic!r}" if partition is None else f"topic {topic!r} partition {partition}"
            raise UnknownTopicOrPartition(
                f"this consumer does not hold {named} now",
                remedy="Look at `assignment`; a member of a group is assigned partitions once it iterates or polls.",
            )
        return found

    @property
    def assignment(self) -> list[TopicPartition]:
        with self._lock:
            return _partitions(self.holds.values())

    def commit_offsets_up_to(self, record: Record | None) -> dict[Hold, int] | None:
        """What an explicit commit covers: all that was handed out, the record in hand included, or one partition up to
        a record. None when that record is not one of this hold's."""
        with self._lock:
            holds = (*self.holds.values(), *self.leaving.values())
            if record is not None:
                for hold in holds:
                    ours = (hold.key.topic, hold.key.partition) == (record.topic, record.partition)
                    if ours and hold.first_offset <= record.offset < self.position(hold):
                        cursor = self._cursor
                        offset = record.offset + 1
                        if cursor is not None and cursor.hold is hold:
                            offset = cursor.offset_after(record)
                        hold.done_offset = max(hold.done_offset, offset)
                        return {hold: offset}
                return None
            for hold in holds:
                hold.done_offset = max(hold.done_offset, self.position(hold))
            return {hold: hold.done_offset for hold in holds if hold.done_offset != hold.committed_offset}

    def take_lost(self) -> bool:
        """Whether records were handed out since the last commit that can no longer be committed."""
        lost, self._lost_uncommitted = self._lost_uncommitted, False
        return lost

    def pause(self, holds: Iterable[Hold], paused: bool) -> None:
        with self._lock:
            for hold in holds:
                if hold.paused != paused:
                    hold.paused = paused
                    self._place(hold, self.position(hold))

    def reread(self, cursor: Cursor) -> None:
        """A record cannot be decoded: stay in front of it."""
        with self._lock:
            self._settle()
            if self._cursor is cursor:
                self._cursor = None
                self._place(cursor.hold, cursor.handed_offset)

    def seek(self, offsets: Mapping[Hold, int]) -> None:
        """Go elsewhere. What was handed out before is left as it is: done is what lies before the new place."""
        with self._lock:
            for hold, offset in offsets.items():
                if not hold.valid:
                    continue
                if self._cursor is not None and self._cursor.hold is hold:
                    self._cursor = None
                    self.attention = True
                hold.first_offset = min(hold.first_offset, offset)
                hold.done_offset = offset
                self._place(hold, offset)
        self._notify()  # That may be the end.

    def _place(self, hold: Hold, offset: int) -> None:
        """Hand out what stands at an offset next. Under the lock; what is on its way goes stale."""
        hold.next_offset = offset
        self._position_ids += 1
        hold.position_id = self._position_ids
        if self._cursor is not None and self._cursor.hold is hold:
            self.attention = True
        self._on_placed(hold, hold.position_id)

    def _settle(self) -> None:
        """What was handed out is done. Under the lock."""
        cursor = self._cursor
        if cursor is not None:
            cursor.hold.done_offset = max(cursor.hold.done_offset, cursor.handed_offset)
            if cursor.is_exhausted or not cursor.is_current:
                # What it still holds was never handed out.
                cursor.hold.next_offset = cursor.handed_offset
                self._cursor = None

    def _next_cursor(self) -> Cursor | None:
        while self.inbox:
            fetched = self.inbox[0]
            hold = fetched.hold
            if fetched.is_current and fetched.error is not None:
                # It stays there, and is raised again, until the application goes elsewhere: who goes on regardless
                # would not notice that this partition is not read any more.
                raise fetched.error.with_traceback(None)
            nothing_in_hand = hold.done_offset == hold.next_offset
            batch = None
            if fetched.is_current and not fetched.is_empty and not hold.at_end:
                batch = fetched.take()
            else:
                self.inbox.popleft()
                self._on_read(hold, len(fetched.data))
                if fetched.is_current and fetched.is_empty:  # Behind the last batch there may be a gap.
                    hold.next_offset = max(hold.next_offset, fetched.next_offset)
            if batch is None:
                if nothing_in_hand:
                    hold.done_offset = hold.next_offset
                continue
            hold.next_offset = batch.next_offset
            return Cursor(hold, batch, hold.position_id)
        return None

    def _is_at_end(self) -> bool:
        if not self._stop_at_end or self.starting or not (self.holds or self._has_nothing):
            return False
        return all(hold.at_end for hold in self.holds.values())

    # In the I/O thread.

    def put(self, fetched: FetchedBatches) -> None:
        self.inbox.append(fetched)
        self._notify()

    def fail(self, error: Exception) -> None:
        """The application hears of it when what came before is read."""
        self._failure = error
        self._notify()

    def has_nothing(self) -> None:
        """This member holds nothing, and will not before the group changes."""
        self._has_nothing = True
        self._notify()

    def hold(self, hold: Hold) -> None:
        """Begin with a partition. A hold that it had before is over: nothing more is handed out or committed of it."""
        with self._lock:
            former = self.holds.get((hold.key.topic, hold.key.partition))
            if former is not None:
                self._invalidate(former)
                self._end(former)
            self._position_ids += 1
            hold.position_id = self._position_ids
            self.holds[hold.key.topic, hold.key.partition] = hold
            self._has_nothing = False

    def tell(self, step: "Assigned | Revoked") -> None:
        """Have the application do something before it gets more records."""
        self._steps.append(step)
        self.attention = True
        self._notify()

    def revoke(self, keys: Iterable[PartitionKey]) -> list[Hold]:
        """Hand out nothing more of these; they leave until they are given up. Returns those that were held."""
        revoked = []
        with self._lock:
            for key in keys:
                hold = self.holds.get((key.topic, key.partition))
                if hold is not None and hold.key == key:
                    del self.holds[key.topic, key.partition]
                    self.leaving[key] = hold
                    self._invalidate(hold)
                    revoked.append(hold)
        self._notify()
        return revoked

    def lose(self) -> list[Hold]:
        """Everything is another's by now. Returns what was held and not leaving."""
        with self._lock:
            lost = list(self.holds.values())
            for hold in (*lost, *self.leaving.values()):
                self._invalidate(hold)
                self._end(hold)
            self.holds.clear()
            self.leaving.clear()
            self.attention = True
        self._notify()
        return lost

    def give_up(self, holds: Iterable[Hold]) -> list[Hold]:
        """The application is done with these. Returns those that were leaving; the others were lost meanwhile."""
        with self._lock:
            given_up = [hold for hold in holds if self.leaving.get(hold.key) is hold]
            for hold in given_up:
                del self.leaving[hold.key]
                self._end(hold)
            return given_up

    def is_in_hand(self, hold: Hold) -> bool:
        """Whether the application may be at work on a record of it."""
        return self._cursor is not None and self._cursor.hold is hold

    def done_offsets(self, holds: Iterable[Hold] | None = None) -> dict[Hold, int]:
        """What is done and not committed, of some holds or of all. A start that nothing was read from is no commit."""
        with self._lock:
            if holds is None:
                holds = (*self.holds.values(), *self.leaving.values())
            done = {hold: self.done_offset(hold) for hold in holds}
            return {
                hold: offset
                for hold, offset in done.items()
                if offset != hold.committed_offset and (hold.committed_offset >= 0 or offset != hold.first_offset)
            }

    def _invalidate(self, hold: Hold) -> None:
        hold.valid = False
        if self.is_in_hand(hold):
            self.attention = True
        self._on_placed(hold, hold.position_id)

    def _end(self, hold: Hold) -> None:
        hold.ended = True
        if self.position(hold) != max(hold.committed_offset, hold.first_offset):
            self._lost_uncommitted = True
