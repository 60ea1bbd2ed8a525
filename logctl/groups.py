"""`logctl groups`: list, describe, delete; and `logctl seek`, which sends a group to any offset or time."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from logctl.completions import complete_groups, complete_topics
from logctl.errors import BadUsage, CommandError
from logctl.options import INT64_MAX, PARTITION_MAX, Command, Group, Settings, parsed, whole_number
from logctl.output import Column, count, number, text
from logctl.times import format_time, now_ms, parse_time

if TYPE_CHECKING:
    from tailrace import Admin, GroupDescription, TopicPartitions

WAITING_TOLD_AFTER_SECONDS = 1.5

LISTING = [text("group", "GROUP"), text("state", "STATE"), number("members_count", "MEMBERS")]
MEMBERS = [
    text("member_id", "MEMBER"),
    text("client_id", "CLIENT"),
    text("client_host", "HOST"),
    text("state", "STATE"),
    text("reads", "READS"),
]
LAG = [
    text("topic", "TOPIC"),
    number("partition", "PARTITION"),
    number("committed_offset", "COMMITTED"),
    number("high_watermark", "NEXT OFFSET"),
    number("lag_records", "LAG"),
    Column("lag_seconds", "LAG IN TIME", format=lambda seconds: format_span(seconds), right=True),
    text("member_id", "MEMBER"),
]
SOUGHT = [
    text("topic", "TOPIC"),
    number("partition", "PARTITION"),
    number("old_offset", "OLD OFFSET"),
    number("new_offset", "NEW OFFSET"),
    Column("records", "RECORDS", format=lambda records: "-" if records is None else f"{records:+,}", right=True),
]


@click.group(cls=Group)
def groups() -> None:
    """List, describe and delete consumer groups."""


@groups.command("list", examples=["logctl groups list"])
@click.pass_obj
def list_(settings: Settings) -> None:
    """List the groups."""
    from tailrace import Admin

    with Admin(server=settings.server) as admin:
        listings = admin.list_groups()
    rows = [{"group": row.group, "state": row.state, "members_count": row.members_count} for row in listings]
    settings.output.table(LISTING, rows, empty="There are no groups.")


@groups.command(
    examples=[
        "logctl groups describe dashboard",
        "logctl groups describe dashboard --json | jq '[.partitions[].lag_records] | add'",
    ]
)
@click.argument("group", shell_complete=complete_groups)
@click.pass_obj
def describe(settings: Settings, group: str) -> None:
    """Show the members of GROUP and how far it is behind.

    The lag is in records and in time. Lag in time is the age of the oldest record that is not committed yet, counted
    from when the server got it.
    """
    from tailrace import Admin

    with Admin(server=settings.server) as admin:
        row = _description_row(admin.describe_group(group))
    if settings.output.as_json:
        settings.output.row(row)
        return
    lag = sum(partition["lag_records"] for partition in row["partitions"])
    members = count(len(row["members"]), "member")
    settings.output.say(f"Group {row['group']}, {row['state']}, {members}, {count(lag, 'record')} behind\n")
    if row["members"]:
        settings.output.table(MEMBERS, row["members"])
        settings.output.say("")
    settings.output.table(LAG, row["partitions"], empty="It has committed nothing yet.")


@groups.command(examples=["logctl groups delete dashboard", "logctl groups delete dashboard --yes"])
@click.argument("group", shell_complete=complete_groups)
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal to ask on.")
@click.pass_obj
def delete(settings: Settings, group: str, yes: bool) -> None:
    """Delete GROUP and its committed offsets. It must have no members; no record is touched."""
    from tailrace import Admin

    if not yes:
        settings.output.needs_terminal("Deleting a group")
    with Admin(server=settings.server) as admin:
        if not yes:
            offsets = len(admin.committed_offsets(group))
            settings.output.confirm(f"Delete group {group} and its {count(offsets, 'committed offset')}?")
        admin.delete_group(group)
    settings.output.done({"group": group, "deleted": True}, f"Deleted group {group}.")


@click.command(
    cls=Command,
    examples=[
        "logctl seek --group dashboard --topic flights --to-time 2013-07-01T12:00 --dry-run",
        "logctl seek --group dashboard --topic flights --to-time ago:1h",
        "logctl seek --group dashboard --topic flights --partition 2 --offset 1500",
        "logctl seek --group dashboard --topic flights --shift-by -100",
    ],
)
@click.option("--group", required=True, shell_complete=complete_groups, help="The group to send.")
@click.option("--topic", required=True, shell_complete=complete_topics, help="The topic it reads.")
@click.option(
    "--partition",
    metavar="P",
    callback=parsed(whole_number(0, PARTITION_MAX)),
    help="This partition alone; else all of them.",
)
@click.option("--offset", metavar="N", callback=parsed(whole_number(0, INT64_MAX)), help="To this offset.")
@click.option(
    "--to-time",
    metavar="TIME",
    callback=parsed(lambda text: parse_time(text, now_ms())),
    help="To the first record at or after a time: ISO 8601 with a date (UTC unless it names a zone), or ago:1h.",
)
@click.option("--to-beginning", is_flag=True, help="To the first record that is still there.")
@click.option("--to-end", is_flag=True, help="Past the last record.")
@click.option(
    "--shift-by",
    metavar="N",
    callback=parsed(whole_number(-INT64_MAX, INT64_MAX)),
    help="By N records, back when negative.",
)
@click.option("--dry-run", is_flag=True, help="Show old and new offsets, and do nothing.")
@click.pass_obj
def seek(
    settings: Settings,
    group: str,
    topic: str,
    partition: int | None,
    offset: int | None,
    to_time: int | None,
    to_beginning: bool,
    to_end: bool,
    shift_by: int | None,
    dry_run: bool,
) -> None:
    """Send a consumer group elsewhere, also while it runs.

    Its members need not be stopped: the partitions are taken from them, the new offsets committed, and the partitions
    given out again. Until then only the old owner can commit, afterwards only the new one, so no seek is overwritten.
    """
    from tailrace import Admin
    from tailrace.errors import OffsetOutOfRange

    targets = [offset is not None, to_time is not None, to_beginning, to_end, shift_by is not None]
    if sum(targets) != 1:
        raise BadUsage(
            "Where to? " + ("Nothing says it." if not any(targets) else "More than one option says it."),
            remedy="Give one of --offset, --to-time, --to-beginning, --to-end and --shift-by.",
        )
    with Admin(server=settings.server) as admin:
        with _waiting_told(lambda: settings.output.note(_waiting_note(admin, group, topic, partition))):
            try:
                sought = admin.seek_group(
                    group,
                    topic,
                    partitions=None if partition is None else [partition],
                    offset=offset,
                    timestamp_ms=to_time,
                    to_beginning=to_beginning,
                    to_end=to_end,
                    shift_by=shift_by,
                    dry_run=dry_run,
                )
            except KeyboardInterrupt as interrupt:
                if dry_run:
                    raise
                raise interrupt from _left_open(group, topic)
            except OffsetOutOfRange as error:
                error.remedy = _way_into_range(admin, group, topic, partition, shift_by)
                raise
        past_all = [] if to_time is None else _partitions_without(admin, topic, [p.partition for p in sought], to_time)
    rows = []
    for place in sorted(sought, key=lambda place: place.partition):
        old = _offset_or_none(place.old_offset)
        moved = None if old is None else place.new_offset - old
        row = {"group": group, "topic": topic, "partition": place.partition, "old_offset": old}
        rows.append(row | {"new_offset": place.new_offset, "records": moved, "dry_run": dry_run})
    if not settings.output.as_json:
        settings.output.note(_seek_note(group, topic, to_time, dry_run))
    settings.output.table(SOUGHT, rows)
    if past_all:
        which = "" if len(past_all) == len(rows) else f" in {_named(past_all)}"
        settings.output.note(
            f"No record{which} is that new: there the group {'would wait' if dry_run else 'waits'} at the end."
        )


def format_span(seconds: float) -> str:
    """An age in the two largest units that matter: 0 s, 1.5 s, 2 min 5 s, 3 h 12 min, 4 d 2 h."""
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for size, name, smaller_size, smaller in ((86400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            return f"{whole // size:,} {name} {whole % size // smaller_size} {smaller}"
    return f"{whole // 60} min {whole % 60} s"


def _seek_note(group: str, topic: str, to_time: int | None, dry_run: bool) -> str:
    target = "" if to_time is None else f" to {format_time(to_time)}"
    if dry_run:
        return f"Would send group {group} on {topic}{target}; nothing was changed:"
    return f"Sent group {group} on {topic}{target}:"


@contextmanager
def _waiting_told(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` in a thread of its own when the block takes long."""
    timer = threading.Timer(WAITING_TOLD_AFTER_SECONDS, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _waiting_note(admin: "Admin", group: str, topic: str, partition: int | None) -> str:
    """Whom a seek waits for; nothing when it is nobody, or cannot be known."""
    from tailrace import TailraceError

    try:
        members = admin.describe_group(group).members
    except TailraceError:
        return ""  # the seek itself is about to say it
    holders = [
        member
        for member in members
        for part in member.assignment
        if part.topic == topic and (partition is None or partition in part.partitions)
    ]
    if not holders:
        return ""
    named = ", ".join(f"{member.member_id} at {member.client_host}" for member in holders)
    whose = "member" if len(holders) == 1 else "members"
    return f"Waiting up to a minute for {whose} {named} to finish a record or batch and give up {topic} ..."


def _way_into_range(admin: "Admin", group: str, topic: str, partition: int | None, shift_by: int | None) -> str:
    """The remedy of a target outside of a log, in the words of the options."""
    if shift_by is None:
        return "Choose an offset of that range, or --to-beginning or --to-end."
    places = [
        place
        for place in admin.describe_group(group).partitions
        if place.topic == topic and partition in (None, place.partition) and place.committed_offset >= 0
    ]
    least = max((place.log_start_offset - place.committed_offset for place in places), default=0)
    most = min((place.high_watermark - place.committed_offset for place in places), default=0)
    if least > most:
        return "No one shift keeps all partitions in range; use --to-beginning or --to-end, or --partition with each."
    return f"Shift by {least:+} to {most:+}, or use --to-beginning or --to-end."


def _left_open(group: str, topic: str) -> CommandError:
    # The server finishes a seek that it has begun, whoever is still there to hear of it: the partitions are taken from
    # their owners by then, and somebody has to give them out again.
    return CommandError(
        "interrupted; a seek that the server has begun goes on, so it may still send "
        f"group {group} elsewhere on {topic}",
        remedy=f"See where the group is with `logctl groups describe {group}`.",
        code="INTERRUPTED",
    )


def _partitions_without(admin: "Admin", topic: str, partitions: Sequence[int], timestamp_ms: int) -> list[int]:
    """Those without a record at or after a time."""
    listed = admin.list_offsets([(topic, partition) for partition in partitions], timestamp_ms)
    return sorted(place.partition for place in listed if place.timestamp_ms is None)


def _named(partitions: Sequence[int]) -> str:
    """partition 0; partitions 0, 2, 3."""
    return f"partition{'s' * (len(partitions) > 1)} {', '.join(map(str, partitions))}"


def _offset_or_none(offset: int | None) -> int | None:
    return None if offset is None or offset < 0 else offset


def _description_row(description: "GroupDescription") -> dict[str, Any]:
    return {
        "group": description.group,
        "state": description.state,
        "group_epoch": description.group_epoch,
        "assignment_epoch": description.assignment_epoch,
        "assignor": description.assignor,
        "members": [
            {
                "member_id": member.member_id,
                "instance_id": member.instance_id or None,
                "client_id": member.client_id,
                "client_host": member.client_host,
                "member_epoch": member.member_epoch,
                "state": member.state,
                "subscribed_topics": list(member.subscribed_topics),
                "assignment": _partitions_by_topic(member.assignment),
                "target": _partitions_by_topic(member.target),
                "reads": "; ".join(
                    f"{topic} {', '.join(map(str, partitions))}"
                    for topic, partitions in _partitions_by_topic(member.assignment).items()
                ),
            }
            for member in description.members
        ],
        "partitions": [
            {
                "topic": lag.topic,
                "partition": lag.partition,
                "committed_offset": _offset_or_none(lag.committed_offset),
                "log_start_offset": lag.log_start_offset,
                "high_watermark": lag.high_watermark,
                "lag_records": lag.lag_records,
                "lag_seconds": lag.lag_seconds,
                "member_id": lag.member_id or None,
            }
            for lag in description.partitions
        ],
    }


def _partitions_by_topic(assignment: "Sequence[TopicPartitions]") -> dict[str, list[int]]:
    return {part.topic: list(part.partitions) for part in assignment}
