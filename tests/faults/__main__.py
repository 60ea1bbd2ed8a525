"""`python -m tests.faults NAME [NAME ...] --cycles N --seed S`: run faults and judge what became of the records.

The history of runs is kept, and a run that was stopped goes on where it was.
"""

import logging
import random
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.faults.bugs.planted import BUGS
from tests.faults.catalog import FAULTS
from tests.faults.runs import Entry, Fault, Ledger, run_fault, run_session

PLANTED_SESSION_CYCLES_MAX = 3


@click.command()
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--cycles", type=click.IntRange(min=1), help="How many; without it what CI runs.")
@click.option("--full", is_flag=True, help="As many as a full run has.")
@click.option("--seed", type=int, help="Of the run; drawn, and shown, without it.")
@click.option("--session", type=click.IntRange(min=0), help="Repeat this one session of the run, and only it.")
@click.option(
    "--history",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(".faults"),
    show_default=True,
    help="Where the ledger of runs is, and the directories of sessions that went wrong.",
)
@click.option("--table", is_flag=True, help="Run nothing: show what the ledger has.")
@click.option("--plant", multiple=True, metavar="BUG", help="Plant a bug of `planted` first, and see it caught.")
def main(
    names: tuple[str, ...],
    cycles: int | None,
    full: bool,
    seed: int | None,
    session: int | None,
    history: Path,
    table: bool,
    plant: tuple[str, ...],
) -> None:
    """Inject faults by NAME, or all of them."""
    console = Console()
    faults = _chosen(names)
    for name in plant:
        if name not in BUGS:
            raise click.UsageError(f"there is no bug {name!r} to plant; there are {', '.join(BUGS)}")
        history /= f"with-{name}"  # a ledger of its own: what is seen with a bug says nothing of the code without
    history.mkdir(parents=True, exist_ok=True)
    logging.basicConfig(filename=history / "clients.log")  # which has much to say of what is done to their server
    ledger = Ledger(history / "ledger.jsonl")
    if table:
        console.print(_table(ledger.entries, faults))
        return
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    console.print(f"seed {seed}")
    entries: list[Entry] = []
    for fault in faults:
        reason = fault.missing()
        if reason is not None:
            console.print(f"[yellow]{fault.name} is left out: {reason}")
            continue
        if plant:  # in short sessions, to see soon that it is caught
            fault = replace(fault, session_cycles=min(fault.session_cycles, PLANTED_SESSION_CYCLES_MAX))
        count = cycles or (fault.cycles_full if full else fault.cycles_ci)
        if session is not None:
            size = dict(fault.sessions(count)).get(session, fault.session_cycles)
            entries.append(run_session(fault, seed, session, size, history, plant))
        else:
            entries += _run(fault, seed, count, history, plant, ledger, console)
    console.print(_table(entries, faults))
    bad = [(entry, violation) for entry in entries for violation in entry.violations]
    for entry, violation in bad:
        console.print(f"[red]{entry.fault}, session {entry.session}: {violation}", markup=True, highlight=False)
    sys.exit(1 if bad else 0)


def _chosen(names: tuple[str, ...]) -> list[Fault]:
    if not names or names == ("all",):
        return list(FAULTS.values())
    for name in names:
        if name not in FAULTS:
            raise click.UsageError(f"there is no fault {name!r}; there are {', '.join(FAULTS)}, and all")
    return [FAULTS[name] for name in names]


def _run(
    fault: Fault, seed: int, cycles: int, history: Path, plant: tuple[str, ...], ledger: Ledger, console: Console
) -> list[Entry]:
    columns = (TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        before = list(ledger.of(fault.name, seed).values())
        bar = progress.add_task(fault.name, total=cycles, completed=sum(entry.cycles for entry in before))
        for entry in run_fault(fault, seed, cycles, history, ledger, plant):
            progress.advance(bar, entry.cycles)
            if plant and entry.violations:
                break  # it is caught
    return list(ledger.of(fault.name, seed).values())


def _table(entries: Sequence[Entry], faults: Sequence[Fault]) -> Table:
    table = Table("fault", "cycles", "seconds", "violations", "seen")
    for fault in faults:
        mine = [entry for entry in entries if entry.fault == fault.name]
        if not mine:
            continue
        counts: Counter[str] = Counter()
        peaks: dict[str, int] = {}
        for entry in mine:
            counts.update(entry.counts)
            peaks |= {what: max(value, peaks.get(what, value)) for what, value in entry.peaks.items()}
        violations = counts.pop("violations", 0)
        table.add_row(
            fault.name,
            f"{sum(entry.cycles for entry in mine):,}",
            f"{sum(entry.seconds for entry in mine):,.0f}",
            f"[red]{violations}" if violations else "0",
            ", ".join(
                [f"{number:,} {what}" for what, number in sorted(counts.items())]
                + [f"at most {value:,} {what}" for what, value in sorted(peaks.items())]
            ),
        )
    return table


if __name__ == "__main__":
    main()
