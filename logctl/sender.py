"""Sends lines as records, and keeps account of each until the server has answered for it."""

import sys
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from logctl.errors import CommandError, MalformedLine, failure_of
from logctl.lines import Input, Lines, NumberedRecord
from logctl.output import Output, Progress, count
from logctl.times import format_time
from tailrace import Admin, Producer, SendFuture
from tailrace.errors import (
    DeliveryTimedOut,
    InvalidRecord,
    InvalidRequest,
    InvalidTimestamp,
    MessageTooLarge,
    RequestTooLarge,
    TailraceError,
    UnknownTopicOrPartition,
)

PENDING_MAX = 50_000
#: How long a line may wait to be acknowledged.
DELIVERY_SECONDS_MAX = 120.0

AFTER_MAX = "message.timestamp.after.max.ms"
AFTER_MAX_DEFAULT_MS = 3_600_000
CLEANUP_POLICY = "cleanup.policy"

#: What is wrong with one record and says nothing about the next.
OF_ONE_RECORD = (InvalidRecord, InvalidRequest, InvalidTimestamp, MessageTooLarge, RequestTooLarge)


class TopicRules(NamedTuple):
    """What a topic asks of each record. It is checked here because the server refuses whole batches: one wrong record
    would take the lines around it along."""

    timestamp_ms_max: int
    needs_keys: bool = False  # it is compacted


class Sender:
    """What the server refuses of a line is told with its number, and the others go on; what concerns them all, such as
    a server that went away, is raised."""

    def __init__(self, producer: Producer, topic: str, output: Output, rules: TopicRules) -> None:
        self.acknowledged_count = 0
        self.malformed_count = 0
        self._producer = producer
        self._topic = topic
        self._output = output
        self._rules = rules
        self._started = time.monotonic()
        self._pending: deque[tuple[int, SendFuture]] = deque()
        self._remedy_told = ""
        self._place_is_told = False

    def send(self, line: NumberedRecord) -> None:
        """Raises TailraceError when nothing more can be sent."""
        number, record = line
        if record.names_place and not self._place_is_told:
            self._place_is_told = True
            self._output.note(
                f"Line {number} names a partition or an offset. Neither is used, of any line: keys choose the "
                f"partitions of {self._topic}, and the offsets are new."
            )
        if (broken := self._broken_rule(line)) is not None:
            self.refuse(broken)
            return
        try:
            future = self._producer.send(
                self._topic,
                value=record.value,
                key=record.key,
                headers=record.headers or None,
                timestamp_ms=record.timestamp_ms,
            )
        except TailraceError as error:
            self._settle_error(number, error)
            return
        self._pending.append((number, future))
        while self._pending and (len(self._pending) > PENDING_MAX or self._pending[0][1].done()):
            self._settle_first()

    def _broken_rule(self, line: NumberedRecord) -> MalformedLine | None:
        number, record = line
        if record.timestamp_ms is not None and record.timestamp_ms > self._rules.timestamp_ms_max:
            return MalformedLine(
                number,
                f"its time, {format_time(record.timestamp_ms)}, is too far in the future",
                remedy=f"Correct it (a number is milliseconds since 1970), or raise the topic's {AFTER_MAX}.",
            )
        if record.key is None and self._rules.needs_keys:
            return MalformedLine(
                number,
                f"it has no key, and topic {self._topic!r} is compacted: nobody could say which record replaces it",
                remedy="Give it a key, or produce to a topic with cleanup.policy=delete.",
            )
        return None

    def refuse(self, line: MalformedLine) -> None:
        """Tell what is wrong with a line that is not sent."""
        self.malformed_count += 1
        failure = failure_of(line)
        assert failure is not None
        if line.remedy == self._remedy_told and not self._output.as_json:
            failure = replace(failure, remedy="")  # people have just read it
        self._remedy_told = line.remedy
        failure.write(sys.stderr, as_json=self._output.as_json)

    @property
    def has_begun(self) -> bool:
        return bool(self.acknowledged_count or self.malformed_count or self._pending)

    def settle(self) -> None:
        """Wait until everything that was sent is answered for. Raises TailraceError."""
        while self._pending:
            self._settle_first()

    def tell_of_interrupt(self) -> None:
        """What was read is waited for; whoever wants to go now must know how."""
        while self._pending and self._pending[0][1].done():
            self._settle_first()
        if self._pending:
            self._output.note(
                f"Interrupted; what was read is waited for: {count(len(self._pending), 'line')} not acknowledged yet, "
                f"for at most {DELIVERY_SECONDS_MAX:g} s. A second Ctrl-C gives up."
            )

    def give_up(self) -> CommandError | None:
        """Stop waiting. Returns what that leaves open."""
        with suppress(TailraceError):  # of the same lines
            self._producer.close(timeout=0)
        if not self._pending:
            return None
        return CommandError(
            f"interrupted before the server had acknowledged {count(len(self._pending), 'line')}; each of them may be "
            "written or not",
            remedy=f"See whether the server is up, then send again from line {self._pending[0][0]} on; some may then "
            "be there twice.",
            code="INTERRUPTED",
        )

    def sum_up(self) -> None:
        """Tell what became of all lines so far."""
        seconds = time.monotonic() - self._started
        rate = self.acknowledged_count / seconds if seconds > 0 else 0.0
        row = {
            "topic": self._topic,
            "records": self.acknowledged_count,
            "malformed": self.malformed_count,
            "unacknowledged": len(self._pending),
            "seconds": round(seconds, 3),
            "records_per_second": round(rate),
        }
        sentence = (
            f"Sent {count(self.acknowledged_count, 'record')} to {self._topic} in {seconds:.1f} s ({rate:,.0f}/s)"
        )
        if self.malformed_count:
            sentence += f"; {count(self.malformed_count, 'line')} malformed"
        if self._pending:
            sentence += (
                f"; {count(len(self._pending), 'line')} not acknowledged, the first is line {self._pending[0][0]}"
            )
        with suppress(BrokenPipeError):  # when nobody reads it, the exit code still counts
            self._output.done(row, sentence + ".")

    def _settle_first(self) -> None:
        number, future = self._pending[0]
        error = future.exception()
        if error is None:
            self.acknowledged_count += 1
        else:
            self._settle_error(number, error)
        self._pending.popleft()  # last: what is raised leaves it unacknowledged

    def _settle_error(self, number: int, error: TailraceError) -> None:
        if not isinstance(error, OF_ONE_RECORD):
            raise error
        self.refuse(MalformedLine(number, error.message, remedy=error.remedy))


def send_all(read: Input, lines: Lines, sender: Sender, progress: Progress) -> KeyboardInterrupt | CommandError | None:
    """Send all that is read, and sum up. Returns what put an end to the reading, and raises what did to the sending."""
    stopped: KeyboardInterrupt | CommandError | None = None
    try:
        try:
            for line in read:
                if isinstance(line, NumberedRecord):
                    sender.send(line)
                else:
                    sender.refuse(line)
                progress.update(lines.bytes_count, sender.acknowledged_count)
            sender.settle()
        except (KeyboardInterrupt, CommandError) as error:
            stopped = error  # what was read before is still sent
        if isinstance(stopped, KeyboardInterrupt):
            progress.close()
            sender.tell_of_interrupt()
        sender.settle()
    except BaseException as error:
        # Whatever it is, a second Ctrl-C too: what was acknowledged is on disk, and whoever repeats the rest must know
        # how much.
        progress.close()
        if sender.has_begun:
            sender.sum_up()
        if not isinstance(stopped, KeyboardInterrupt):
            raise
        if isinstance(error, KeyboardInterrupt):
            raise error from sender.give_up()
        if isinstance(error, DeliveryTimedOut):
            sender.give_up()
            raise stopped from error
        raise
    progress.close()
    if sender.has_begun or not isinstance(stopped, CommandError):
        sender.sum_up()
    return stopped


def rules_of(topic: str, server: str | None, now_ms: int) -> TopicRules:
    """What the topic asks of records now. Raises TailraceError when the server cannot be asked."""
    with Admin(server=server) as admin:
        try:
            config = {entry.name: entry.value for entry in admin.describe_topic(topic).config}
        except UnknownTopicOrPartition:
            config = {}  # it is created by the first record, with the defaults
    return TopicRules(
        timestamp_ms_max=now_ms + int(config.get(AFTER_MAX, AFTER_MAX_DEFAULT_MS)),
        needs_keys="compact" in config.get(CLEANUP_POLICY, ""),
    )
