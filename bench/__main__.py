"""`python -m bench [QUESTION ...]`: the questions, each answered by figures of one run."""

import json
import os
import platform
import tempfile
from importlib import import_module
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench.pairs import Comparison, Rate
from tests.conformance.absent import Absent

QUESTIONS = {
    "storage": "What does an append cost beside a bare pwrite of the same bytes?",
    "wire": "What does the gRPC door cost beside a bare handler of the same messages?",
    "client": "How many records a second does one Python process send and read?",
    "footprint": "How soon is the server ready, and what does it weigh?",
    "cold": "What does the replay of a cold log cost those who do not read it?",
    "kafka": "What does one client get from our Kafka door, and what from Apache Kafka?",
}

#: The one writes 10 GiB, the other needs Java and Kafka's jars.
ONLY_BY_NAME = ("cold", "kafka")

TABLE_WIDTH = 170


def answer(question: str, directory: Path, turns: int) -> list[Comparison | Rate]:
    # Imported here so that one question does not need what only another one does.
    return [*import_module(f"bench.{question}").run(directory, turns)]


def verdict(met: bool | None) -> str:
    return {None: "", True: "yes", False: "no"}[met]


def table_of(question: str, rows: list[Comparison | Rate]) -> Table:
    table = Table(title=QUESTIONS[question], title_justify="left")
    for heading in ("what", "unit", "ours", "theirs", "ratio", "min-max", "asked for", "met", "beside it"):
        table.add_column(heading, justify="left" if heading in ("what", "unit", "beside it") else "right")
    for row in rows:
        if isinstance(row, Comparison):
            asked = "" if row.target is None else f"a ratio >= {row.target}"
            asked = asked if row.ratio_at_most is None else f"a ratio <= {row.ratio_at_most}"
            asked = asked if row.at_least is None else f"ours >= {figure(row.at_least)}"
            table.add_row(
                row.name,
                row.unit,
                figure(row.ours_median),
                figure(row.theirs_median),
                f"{row.ratio:.2f}",
                f"{min(row.ratios):.2f}-{max(row.ratios):.2f}",
                asked,
                verdict(row.met),
                "; ".join(
                    [f"against {row.against}", *(f"{name} {figure(value)}" for name, value in row.beside.items())]
                ),
            )
        else:
            asked = f">= {figure(row.at_least)}" if row.at_least is not None else ""
            asked = f"<= {figure(row.at_most)}" if row.at_most is not None else asked
            spread = f"{figure(min(row.values))}-{figure(max(row.values))}"
            table.add_row(row.name, row.unit, figure(row.median), "", "", spread, asked, verdict(row.met), "")
    return table


def figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


@click.command(help=__doc__)
@click.argument("questions", nargs=-1, type=click.Choice(list(QUESTIONS)))
@click.option("--turns", default=9, show_default=True, help="How often each pair runs; the median counts.")
@click.option("--directory", type=click.Path(path_type=Path), help="Where to write; default: a temporary directory.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write every figure of every turn there as well."
)
def main(questions: tuple[str, ...], turns: int, directory: Path | None, json_file: Path | None) -> None:
    # A table into a file is not folded to the width of a terminal that is not there.
    console = Console() if Console().is_terminal else Console(width=TABLE_WIDTH)
    results: dict[str, list[Comparison | Rate]] = {}
    if directory is not None:
        directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-", dir=directory) as scratch:
        for question in questions or [name for name in QUESTIONS if name not in ONLY_BY_NAME]:
            columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
            with Progress(*columns, transient=True, console=Console(stderr=True)) as progress:
                progress.add_task(QUESTIONS[question])
                try:
                    results[question] = answer(question, Path(scratch), turns)
                except Absent as absent:
                    raise click.ClickException(str(absent)) from absent
            console.print(table_of(question, results[question]))
    if json_file is not None:
        machine = {"cores": os.cpu_count(), "kernel": platform.release(), "python": platform.python_version()}
        rows = {question: [row.as_json() for row in answers] for question, answers in results.items()}
        json_file.write_text(json.dumps({"machine": machine, "turns": turns, "results": rows}, indent=1))


if __name__ == "__main__":
    main()
