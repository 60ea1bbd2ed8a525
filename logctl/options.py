"""What every command line has in common: `--server` and `--json` anywhere on it, examples in every help, its types.

A command is made with `cls=Command`, a group of commands with `cls=Group`; both take `examples=`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click

from logctl.output import Output

INT64_MAX = 2**63 - 1
PARTITION_MAX = 2**31 - 1
_NUMBER = re.compile(r"[+-]?[0-9]{1,30}")

Parsed = TypeVar("Parsed")


@dataclass
class Settings:
    """What the shared options say. The object of every click context."""

    server: str | None = None  # None: TAILRACE_SERVER, else localhost:7070; the client library knows
    output: Output = field(default_factory=Output)


def parsed(parse: Callable[[str], Parsed]) -> Callable[[click.Context, click.Parameter, str | None], Parsed | None]:
    """The callback of an option whose text `parse` reads; its ValueError becomes bad usage that names the option."""

    def callback(ctx: click.Context, param: click.Parameter, value: str | None) -> Parsed | None:
        if value is None:
            return None
        try:
            return parse(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx=ctx, param=param) from error

    return callback


def parsed_all(
    parse: Callable[[str], Parsed],
) -> Callable[[click.Context, click.Parameter, tuple[str, ...]], list[Parsed]]:
    """The same for an option that may be given many times."""

    def callback(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> list[Parsed]:
        try:
            return [parse(value) for value in values]
        except ValueError as error:
            raise click.BadParameter(str(error), ctx=ctx, param=param) from error

    return callback


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """Parses a whole number within bounds, and raises ValueError for anything else."""

    def parse(text: str) -> int:
        if not _NUMBER.fullmatch(text):
            raise ValueError(f"{text!r} is not a whole number")
        number = int(text)
        if number < least:
            raise ValueError(f"{text} is less than {least}")
        if number > most:
            raise ValueError(f"{text} is more than {most}")
        return number

    return parse


def parse_setting(text: str) -> tuple[str, str]:
    """NAME=VALUE. Raises ValueError."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise ValueError(f"{text!r} is not NAME=VALUE, such as retention.ms=86400000")
    return name.strip(), value.strip()


class Command(click.Command):
    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.params.extend(_shared_options())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(self.examples, formatter)
        super().format_epilog(ctx, formatter)


class Group(click.Group):
    command_class = Command

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples
        self.params.extend(_shared_options())

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _write_examples(self.examples, formatter)
        super().format_epilog(ctx, formatter)


def _shared_options() -> list[click.Parameter]:
    return [
        click.Option(
            ["--server"],
            metavar="HOST:PORT",
            expose_value=False,
            callback=_keep_server,
            help="The server to talk to; else TAILRACE_SERVER, else localhost:7070.",
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_keep_json,
            help="One JSON object a line, errors too.",
        ),
    ]


def _keep_server(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value == "":  # as an unset variable of a script leaves it; the default might be another server than was meant
        raise click.BadParameter("it is empty; give HOST:PORT, or leave the option out", ctx=ctx, param=param)
    if value is not None:
        ctx.ensure_object(Settings).server = value


def _keep_json(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        ctx.ensure_object(Settings).output.as_json = True


def _write_examples(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    if examples:
        with formatter.section("Examples"):
            for example in examples:
                formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
