"""`logctl produce` and `logctl consume`."""

import os
import shlex
import signal
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import islice
from pathlib import PurePath
from types import FrameType
from typing import TYPE_CHECKING, BinaryIO

import click

from logctl.completions import complete_groups, complete_topics
from logctl.errors import BadUsage, CommandError, ExitCode, Terminated
from logctl.lines import Input, Lines, read_csv, read_jsonl, read_text
from logctl.options import INT64_MAX, PARTITION_MAX, Command, Settings, parsed, whole_number
from logctl.output import Progress
from logctl.times import EPOCH, AtOffset, AtTime, Beginning, End, Position, now_ms, parse_position

if TYPE_CHECKING:
    from tailrace import TailraceError
    from tailrace.errors import DataLoss

FORMATS = ("text", "jsonl", "csv")
FORMAT_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}


@click.command(
    cls=Command,
    examples=[
        "logctl produce flights flights.csv --key-field tail --time-field departed",
        "logctl produce flights events.jsonl --key-field tail",
        "logctl produce flights notes.txt --key-separator TAB",
        "logctl consume flights --exit-at-end --json | logctl produce copy --format jsonl",
    ],
)
@click.argument("topic", shell_complete=complete_topics)
@click.argument("file", type=click.File("rb"), default="-")
@click.option(
    "--format",
    "format_",
    type=click.Choice(FORMATS),
    help="How to read the lines; else by the name of FILE (.jsonl, .csv), else text.",
)
@click.option(
    "--key-separator",
    metavar="SEPARATOR",
    callback=parsed(lambda text: parse_separator(text)),
    help="Text: what stands between key and value, the word TAB or any string.",
)
@click.option("--key-field", metavar="FIELD", help="JSONL, CSV: the field whose content is the key.")
@click.option(
    "--time-field",
    metavar="FIELD",
    help="JSONL, CSV: the field with the time, ISO 8601 or milliseconds since 1970. Seconds are refused.",
)
@click.option(
    "--acks",
    type=click.Choice(["all", "1", "0"]),
    default="all",
    show_default=True,
    help="Wait until it is on the server's disk (all), in its memory (1), or for nothing (0).",
)
@click.pass_context
def produce(
    context: click.Context,
    topic: str,
    file: BinaryIO,
    format_: str | None,
    key_separator: bytes | None,
    key_field: str | None,
    time_field: str | None,
    acks: str,
) -> None:
    """Send the lines of FILE, or of standard input, to TOPIC.

    \b
    text   a line is a value; with --key-separator it is KEY, separator, VALUE
    jsonl  a line is a record as `consume --json` writes it (only "value" is
           needed; "partition" and "offset" are not used); with --key-field
           or --time-field it is itself the value
    csv    the first line names the columns; a row is sent as a JSON object

    A malformed line is reported with its number and the others are sent; the exit code is then 1. Times without a zone
    are UTC. Ctrl-C and SIGTERM stop the reading, and what was read is still sent; the second gives up what is not.
    """
    from logctl.outages import outages_told
    from logctl.sender import DELIVERY_SECONDS_MAX, Sender, rules_of, send_all
    from tailrace import Producer

    settings = context.ensure_object(Settings)
    format_ = format_ or FORMAT_BY_SUFFIX.get(PurePath(str(file.name)).suffix, "text")
    _check_format(format_, key_separator, key_field, time_field)
    lines = Lines(file)
    rules = rules_of(topic, settings.server, now_ms())
    if is_typed := file.isatty():
        settings.output.note("Type lines to send; Ctrl-D ends them.")
    with (
        outages_told(settings.output, settings.server),
        Producer(
            server=settings.server,
            acks=acks if acks == "all" else int(acks),
            delivery_timeout=DELIVERY_SECONDS_MAX,
        ) as producer,
        Progress(topic, total=_size(file), shown=not is_typed) as progress,
    ):
        sender = Sender(producer, topic, settings.output, rules)
        read = _read(lines, format_, key_separator, key_field, time_field)
        stopped = send_all(read, lines, sender, progress)
    if stopped is not None:
        raise stopped
    if sender.malformed_count:
        context.exit(ExitCode.REFUSED)


@click.command(
    cls=Command,
    examples=[
        "logctl consume flights",
        "logctl consume flights --from ago:1h --exit-at-end",
        "logctl consume flights --group dashboard --max 100",
        "logctl consume flights --partition 2 --from 1500 --json | jq -r .value",
    ],
)
@click.argument("topic", shell_complete=complete_topics)
@click.option("--group", shell_complete=complete_groups, help="Read as a member of this group, and go on where it is.")
@click.option(
    "--from",
    "position",
    metavar="POSITION",
    callback=parsed(lambda text: parse_position(text, now_ms())),
    help="Where to begin: `beginning` (else this), `end`, an offset, a time in ISO 8601 with a date (UTC unless it "
    "names a zone), or ago:1h. A group that has committed goes on there; `logctl seek` sends it elsewhere.",
)
@click.option("--partition", metavar="P", callback=parsed(whole_number(0, PARTITION_MAX)), help="This one alone.")
@click.option("--max", "records_max", metavar="N", callback=parsed(whole_number(1, INT64_MAX)), help="Stop after N.")
@click.option("--exit-at-end", is_flag=True, help="Stop at what is the end now, instead of waiting for more.")
@click.pass_context
def consume(
    context: click.Context,
    topic: str,
    group: str | None,
    position: Position | None,
    partition: int | None,
    records_max: int | None,
    exit_at_end: bool,
) -> None:
    """Print the records of TOPIC as they come.

    Those of a partition come in its order. For people: partition:offset, time, key and value. With --json nothing is
    lost, and `produce --format jsonl` reads it. Ctrl-C, a broken pipe (`| head`) and --max all end it cleanly; a group
    has then committed what was written out, and no more.
    """
    from logctl.outages import outages_told
    from logctl.record_output import RecordOutput
    from tailrace import Consumer, TailraceError
    from tailrace.errors import DataLoss

    settings = context.ensure_object(Settings)
    output = RecordOutput(as_json=settings.output.as_json)
    has_begun = threading.Event()
    received: list[int] = []
    try:
        with (
            outages_told(settings.output, settings.server),
            Consumer(
                topic,
                group=group,
                partitions=None if partition is None else [partition],
                start=_start(position),
                stop_at_end=exit_at_end,
                server=settings.server,
            ) as consumer,
            _stopped_by_signals(consumer.stop, has_begun, received),
            Progress(topic, total=records_max, shown=not sys.stdout.isatty()) as progress,
        ):
            # A batch counts as read when the next one is asked for: what was not written out is never committed.
            # With a limit, records are asked for one by one, because the last batch may hold more than are wanted.
            batches = (
                consumer.batches() if records_max is None else ([record] for record in islice(consumer, records_max))
            )
            for records in batches:
                has_begun.set()
                output.write(records)
                progress.update(output.records_count, output.records_count)
    except (KeyboardInterrupt, TailraceError) as error:
        if group is not None and isinstance(error, DataLoss):
            _tell_how_to_go_on(error, group, settings.server)
        if not received:
            raise
        raise _interrupt(received[0]) from error if group is None else _uncommitted(group, error)
    if received:
        raise _interrupt(received[0])
    if output.records_count == 0:
        settings.output.note("There was nothing to read.")


def _tell_how_to_go_on(damage: "DataLoss", group: str, server: str | None) -> None:
    """A group stays in front of what is damaged until it is sent behind it."""
    if damage.topic is None or damage.partition is None or damage.next_offset is None:
        return
    words = ["logctl", *(("--server", server) if server else ()), "seek", "--group", group, "--topic", damage.topic]
    words += ["--partition", str(damage.partition), "--offset", str(damage.next_offset)]
    damage.remedy += f" To send the group behind it: `{shlex.join(words)}`."


def _uncommitted(group: str, error: "KeyboardInterrupt | TailraceError") -> CommandError:
    why = "interrupted" if isinstance(error, KeyboardInterrupt) else error.message
    return CommandError(
        f"the last commit of group {group} may not be made: {why}",
        remedy="See where it stands with `logctl groups describe`; what it has not committed is read again.",
        code="INTERRUPTED",
    )


def _interrupt(number: int) -> KeyboardInterrupt:
    return Terminated() if number == signal.SIGTERM else KeyboardInterrupt()


def parse_separator(text: str) -> bytes:
    """The word TAB, or the text itself. Raises ValueError."""
    if not text:
        raise ValueError("an empty separator separates nothing; write TAB or any string")
    return b"\t" if text == "TAB" else os.fsencode(text)


def _check_format(format_: str, key_separator: bytes | None, key_field: str | None, time_field: str | None) -> None:
    if format_ != "text" and key_separator is not None:
        raise BadUsage(
            f"--key-separator is for text, and this is {format_}.", remedy="Name the key's field with --key-field."
        )
    for option, field in (("--key-field", key_field), ("--time-field", time_field)):
        if format_ == "text" and field is not None:
            raise BadUsage(f"{option} needs lines with fields.", remedy="Add --format jsonl or --format csv.")


def _read(
    lines: Lines, format_: str, key_separator: bytes | None, key_field: str | None, time_field: str | None
) -> Input:
    if format_ == "text":
        return read_text(lines, key_separator)
    if format_ == "jsonl":
        return read_jsonl(lines, key_field, time_field)
    return read_csv(lines, key_field, time_field)


def _size(file: BinaryIO) -> int | None:
    """Bytes of a regular file; None for a pipe or a terminal."""
    status = os.fstat(file.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _start(position: Position | None) -> str | int | datetime:
    """A position in the words of the client library."""
    match position:
        case None | Beginning():
            return "beginning"
        case End():
            return "end"
        case AtOffset(offset):
            return offset
        case AtTime(timestamp_ms):
            return EPOCH + timedelta(milliseconds=timestamp_ms)


@contextmanager
def _stopped_by_signals(stop: Callable[[], None], has_begun: threading.Event, received: list[int]) -> Iterator[None]:
    """The first Ctrl-C, or SIGTERM, stops gently and is put into the list; the second interrupts.

    Before it has begun there is nothing to commit, and perhaps no server: then the first Ctrl-C interrupts already.
    """

    def receive(number: int, frame: FrameType | None) -> None:
        if received or (number == signal.SIGINT and not has_begun.is_set()):
            raise KeyboardInterrupt
        received.append(number)
        stop()

    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
