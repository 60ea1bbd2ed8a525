"""Exit codes, the command line's own errors, and the one way any error is told."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import IntEnum
from typing import TextIO

import click

from logctl.streams import is_coloured, tell


class ExitCode(IntEnum):
    DONE = 0
    REFUSED = 1  # refused, or failed in part
    BAD_USAGE = 2
    CANNOT_CONNECT = 3
    TIMED_OUT = 4
    INTERRUPTED = 130


class Terminated(KeyboardInterrupt):
    """SIGTERM: ends a command as Ctrl-C does, so that what was read of the input is still sent."""


class CommandError(Exception):
    """A command cannot be carried out. `str()` says what happened; `remedy` is one sentence on what to do."""

    def __init__(self, message: str, *, remedy: str, code: str = "REFUSED") -> None:
        super().__init__(message)
        self.remedy = remedy
        self.code = code


class MalformedLine(CommandError):
    """A line of input is not a record. The lines around it are."""

    def __init__(self, line_number: int, message: str, *, remedy: str) -> None:
        super().__init__(f"line {line_number}: {message}", remedy=remedy, code="MALFORMED_LINE")
        self.line_number = line_number


class BadUsage(click.UsageError):
    """The command line contradicts itself in a way that its grammar does not show."""

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is told to people and to programs."""

    message: str
    remedy: str
    code: str
    retriable: bool
    exit_code: ExitCode
    facts: Mapping[str, object] = field(default_factory=dict)  # of the message, for programs

    def write(self, stream: TextIO, *, as_json: bool) -> None:
        if as_json:
            body = {
                "code": self.code,
                "message": self.message,
                "remedy": self.remedy,
                "retriable": self.retriable,
                **self.facts,
            }
            tell(stream, json.dumps({"error": body}, ensure_ascii=False) + "\n")
        else:
            label = click.style("error:", fg="red", bold=True) if is_coloured(stream) else "error:"
            tell(stream, f"{label} {self.message}\n" + (f"       {self.remedy}\n" if self.remedy else ""))


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """A question to append to a sentence about a wrong name; nothing when no known one is near."""
    return "".join(f" (did you mean `{name}`?)" for name in get_close_matches(wrong, known, n=1))


def failure_of(error: Exception) -> Failure | None:
    """What to tell about an error; None when it is a bug of ours, whose traceback is worth more than a sentence."""
    if isinstance(error, CommandError):
        return Failure(str(error), error.remedy, error.code, False, ExitCode.REFUSED)
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        return Failure("Missing command.", _usage_remedy(error), "BAD_USAGE", False, ExitCode.BAD_USAGE)
    if isinstance(error, click.UsageError):
        message = " ".join(error.format_message().split())  # click breaks some into lines
        return Failure(message, _usage_remedy(error), "BAD_USAGE", False, ExitCode.BAD_USAGE)
    if isinstance(error, click.ClickException):
        return Failure(error.format_message(), "", "REFUSED", False, ExitCode.REFUSED)

    # Here and not above: the client library costs a quarter of a second, which `--help` need not pay.
    from tailrace import errors as client

    if isinstance(error, client.TailraceError):
        exit_code = ExitCode.REFUSED
        if isinstance(error, client.InvalidRequest):
            exit_code = ExitCode.BAD_USAGE
        elif isinstance(error, client.ServerUnreachable | client.ServerUnavailable | client.IncompatibleServer):
            exit_code = ExitCode.CANNOT_CONNECT
        elif isinstance(
            error, client.RequestTimedOut | client.DeliveryTimedOut | client.BufferFull | client.SeekTimedOut
        ):
            exit_code = ExitCode.TIMED_OUT
        facts: dict[str, object] = {}
        if isinstance(error, client.DataLoss):
            facts = {
                "topic": error.topic,
                "partition": error.partition,
                "offset": error.offset,
                "next_offset": error.next_offset,
            }
        return Failure(error.message, error.remedy, error.code, error.retriable, exit_code, facts)
    if isinstance(error, OSError):
        # Of a file that has no name, which is stdout: what is wrong with stdin was told where it is read.
        what = "write to standard output" if error.filename is None else f"use {error.filename}"
        remedy = "See to that, and look before you repeat the command: what it was to do may be done."
        return Failure(f"cannot {what}: {error.strerror}", remedy, "SYSTEM_ERROR", False, ExitCode.REFUSED)
    return None


def _usage_remedy(error: click.UsageError) -> str:
    if isinstance(error, BadUsage):
        return error.remedy
    if error.ctx is None:
        return "See `logctl --help`."
    return f"See `{error.ctx.command_path} --help`."
