"""`logctl segments`: what stands in a server's data directory, on a machine where that server is stopped."""

from pathlib import Path

import click

from logctl.errors import ExitCode
from logctl.options import INT64_MAX, PARTITION_MAX, Group, Settings, parsed, whole_number
from logctl.segments.opened import opened, select

directory_argument = click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
topic_option = click.option("--topic", metavar="T", help="This topic alone, by its name or id.")
partition_option = click.option(
    "--partition", metavar="P", callback=parsed(whole_number(0, PARTITION_MAX)), help="This partition alone."
)


@click.group(cls=Group)
def segments() -> None:
    """Look into, verify and repair the data of a stopped server."""


@segments.command(
    examples=[
        "logctl segments dump tailrace-data --topic flights --partition 0",
        "logctl segments dump tailrace-data --topic flights --from-offset 4800 --max 10 --records",
        "logctl segments dump tailrace-data --json | jq -c 'select(.kind == \"damage\")'",
        "logctl segments dump tailrace-data --topic flights --records --json | jq -c 'select(has(\"kind\") | not)' "
        "| logctl produce salvaged --format jsonl",
    ]
)
@directory_argument
@topic_option
@partition_option
@click.option(
    "--from-offset",
    metavar="N",
    default="0",
    callback=parsed(whole_number(0, INT64_MAX)),
    help="Begin with the batch that holds this offset, in every partition.",
)
@click.option(
    "--max",
    "count_max",
    metavar="N",
    callback=parsed(whole_number(1, INT64_MAX)),
    help="Stop after N batches; with --records, after N records.",
)
@click.option("--records", "with_records", is_flag=True, help="Show the records of each batch too.")
@click.pass_context
def dump(
    context: click.Context,
    directory: Path,
    topic: str | None,
    partition: int | None,
    from_offset: int,
    count_max: int | None,
    with_records: bool,
) -> None:
    """Show the segments in DIR, batch by batch.

    A batch is its offsets, position, size, codec, producer, epoch and times. Nothing is changed, and no index is asked.
    A damaged place is shown with a ! and the dump goes on behind it, at the next batch that is sound. The exit code is
    1 if anything is damaged that was once on the disk.

    With --json a line is a segment, a batch or a damaged place, as its "kind" says. A record has no "kind": it is a
    line as `consume --json` writes it.
    """
    from logctl.segments.dump import SegmentDump

    output = context.ensure_object(Settings).output
    with opened(directory, output) as found:
        from logstore.partition_files import read_partition

        dumped = SegmentDump(
            output, found.disk, from_offset=from_offset, count_max=count_max, with_records=with_records
        )
        for place in select(found, topic, partition):
            if dumped.is_full:
                break
            dumped.write(read_partition(found.disk, place))
    if dumped.damages_count:
        context.exit(ExitCode.REFUSED)


@segments.command(
    examples=[
        "logctl segments verify tailrace-data",
        "logctl segments verify tailrace-data --topic flights --partition 0",
        "logctl segments verify tailrace-data --json | jq -c 'select(.severity == \"damage\")'",
    ]
)
@directory_argument
@topic_option
@partition_option
@click.pass_context
def verify(context: click.Context, directory: Path, topic: str | None, partition: int | None) -> None:
    """Verify everything in DIR.

    That is every batch, the chain of segments, seals, indexes, the checkpoint and the metadata. Nothing is changed. The
    files are read past the page cache, from the disk itself. Every finding says where it is, how bad it is and what to
    do:

    \b
    damage       what only these bytes said is lost or wrong
    rebuildable  it is damaged, and can be made again from the rest
    note         as a crash may leave it, or of no consequence

    The exit code is 0 if there is nothing worse than notes, else 1.
    """
    from logctl.segments.verify import verify_directory

    output = context.ensure_object(Settings).output
    with opened(directory, output) as found:
        is_sound = verify_directory(found, select(found, topic, partition), output)
    if not is_sound:
        context.exit(ExitCode.REFUSED)


@segments.command(
    examples=[
        "logctl segments repair tailrace-data",
        "logctl segments repair tailrace-data --topic flights --partition 0 --yes",
    ]
)
@directory_argument
@topic_option
@partition_option
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal to ask on.")
@click.pass_context
def repair(context: click.Context, directory: Path, topic: str | None, partition: int | None, yes: bool) -> None:
    """Repair DIR so that a server can use it again.

    It then reads on both sides of what is damaged, and takes appends. DIR is verified first, and you are told what will
    be done: which records are given up, by topic, partition and offset; headers that are put right; indexes, seals and
    snapshots that are made anew; and the checkpoint, if both its slots are lost. No record is given up, nothing is
    taken out of a log, and no checkpoint is made before you agree. Damaged bytes are kept beside their log, in files
    named *.discarded-1 and so on.

    Where none of these is needed, headers are put right, and indexes, seals and snapshots made anew, without asking.
    What only these had is lost: of an index or a seal the times of append, which then count as later than they were, so
    that retention keeps the segment longer; of a snapshot the producers whose batches are not in the log any more, so
    that a batch which one of them sends again may be written twice.

    Without --yes and without a terminal it says what it would give up, and stops. Make a copy of DIR first, if there is
    room for one. The exit code is 1 if something is left that is damaged.
    """
    from logctl.segments.repair import repair_directory

    output = context.ensure_object(Settings).output
    with opened(directory, output, to_repair=True) as found:
        places = select(found, topic, partition)
        is_part = topic is not None or partition is not None
        is_sound = repair_directory(found, places, output, is_part=is_part, yes=yes)
    if not is_sound:
        context.exit(ExitCode.REFUSED)
