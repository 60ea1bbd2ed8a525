"""Where answers go: tables with colours on a terminal, aligned text on a pipe, one JSON object a line with --json.

Answers go to stdout; notes, questions, progress and errors to stderr, so that a pipe carries nothing else.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from unicodedata import category

import click

from logctl.errors import BadUsage, CommandError
from logctl.streams import tell

PROSE_WIDTH_MIN = 20

Row = Mapping[str, Any]  # what --json prints; a table shows the columns asked for


@dataclass(frozen=True, slots=True)
class Column:
    name: str  # in the row
    heading: str
    format: Callable[[Any], str] = str
    right: bool = False
    prose: bool = False  # folded between words, before anything else is folded


def number(name: str, heading: str) -> Column:
    return Column(name, heading, format=lambda value: "-" if value is None else f"{value:,}", right=True)


def count(amount: int, noun: str) -> str:
    """1 record, 2 records, 12,126 records."""
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"


def text(name: str, heading: str, *, prose: bool = False) -> Column:
    return Column(
        name, heading, format=lambda value: "-" if value in (None, "") else printable(str(value)), prose=prose
    )


class Output:
    def __init__(self) -> None:
        self.as_json = False

    def row(self, row: Row) -> None:
        """One answer to a program: a JSON object on a line."""
        sys.stdout.write(json.dumps(row, ensure_ascii=False) + "\n")

    def done(self, row: Row, sentence: str) -> None:
        """What was done: a row for a program, a sentence for people."""
        if self.as_json:
            self.row(row)
        else:
            self.say(sentence)

    def table(self, columns: Sequence[Column], rows: Sequence[Row], *, empty: str = "") -> None:
        """Show rows to people, or print each as JSON. `empty` is said, to people, when there are none."""
        if self.as_json:
            for row in rows:
                self.row(row)
        elif not rows:
            self.note(empty)
        elif sys.stdout.isatty():
            _rich_table(columns, rows)
        else:
            _plain_table(columns, rows)

    def say(self, sentence: str) -> None:
        """Tell people, on stdout."""
        sys.stdout.write(sentence + "\n")

    def note(self, sentence: str) -> None:
        """Tell people something beside the answer, on stderr."""
        if sentence and not self.as_json:
            sys.stdout.flush()  # where both go to one place, they stand in the order in which they were said
            tell(sys.stderr, sentence + "\n")

    def needs_terminal(self, what: str) -> None:
        """Destructive verbs without --yes call this first. Raises BadUsage where there is nobody to ask."""
        if not sys.stdin.isatty():
            raise BadUsage(
                f"{what} needs --yes, because there is no terminal to ask on.", remedy="Add --yes if you mean it."
            )

    def confirm(self, question: str, *, declined: str = "Nothing was deleted.") -> None:
        """Ask before something is destroyed. Raises when the answer is no."""
        if not click.confirm(question, err=True):
            raise CommandError(declined, remedy="", code="DECLINED")


class Progress:
    """A bar on stderr, when that is a terminal and the work takes longer than a moment."""

    SHOWN_AFTER_SECONDS = 1.0
    UPDATE_SECONDS = 0.1

    def __init__(self, description: str, *, total: int | None, shown: bool = True) -> None:
        """`total` is in the unit of `done` below; None when nobody knows it."""
        self._description = description
        self._total = total
        self._shown = shown and sys.stderr.isatty()
        self._started = time.monotonic()
        self._update_at = self._started + self.SHOWN_AFTER_SECONDS
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, records_count: int) -> None:
        """Called as often as one likes."""
        if not self._shown or (now := time.monotonic()) < self._update_at:
            return
        self._update_at = now + self.UPDATE_SECONDS
        if self._bar is None:
            self._start()
        rate = records_count / (now - self._started)
        self._bar.update(self._task, completed=done, records=records_count, rate=rate)

    def _start(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[records]:,} records, {task.fields[rate]:,.0f}/s"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(self._description, total=self._total, records=0, rate=0.0)
        self._bar.start()


def printable(value: str) -> str:
    """The text with control characters escaped: a record must neither break a line nor drive the terminal."""
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() or category(c) == "Zs" else _escaped(c) for c in value)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode()


def _plain_table(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    lines = [[column.heading for column in columns]]
    lines += [[column.format(row[column.name]) for column in columns] for row in rows]
    widths = [max(len(line[n]) for line in lines) for n in range(len(columns))]
    for line in lines:
        cells = [
            cell.rjust(width) if column.right else cell.ljust(width)
            for cell, width, column in zip(line, widths, columns, strict=True)
        ]
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _rich_table(columns: Sequence[Column], rows: Sequence[Row]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    lines = [[column.format(row[column.name]) for column in columns] for row in rows]
    widths = [max(map(len, cells)) for cells in zip([column.heading for column in columns], *lines, strict=True)]
    whole = sum(0 if column.prose else width + 3 for column, width in zip(columns, widths, strict=True))
    fits = whole + PROSE_WIDTH_MIN <= console.width
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(
            column.heading,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=fits and not column.prose,
        )
    for line in lines:
        table.add_row(*map(Text, line))
    console.print(table)
