"""`logctl topics`: create, list, describe, alter, delete, and delete-records."""

from typing import TYPE_CHECKING, Any

import click

from logctl.completions import complete_topics
from logctl.errors import BadUsage, CommandError
from logctl.options import PARTITION_MAX, Group, Settings, parse_setting, parsed, parsed_all, whole_number
from logctl.output import count, number, text
from logctl.times import AtOffset, AtTime, Beginning, Position, now_ms, parse_position

if TYPE_CHECKING:
    from tailrace import Admin, PartitionDescription, TopicDescription, TopicListing

LISTING = [text("topic", "TOPIC"), number("partitions", "PARTITIONS")]
PARTITIONS = [
    number("partition", "PARTITION"),
    number("log_start_offset", "FIRST OFFSET"),
    number("high_watermark", "NEXT OFFSET"),
    number("records", "RECORDS"),
    number("size_bytes", "BYTES"),
    number("segments_count", "SEGMENTS"),
]
CONFIG = [
    text("name", "SETTING"),
    text("value", "VALUE"),
    text("set_by", "SET BY"),
    text("documentation", "MEANING", prose=True),
]
DELETED = [
    number("partition", "PARTITION"),
    number("log_start_offset", "FIRST OFFSET"),
    number("records", "RECORDS DELETED"),
]


def parse_end_of_deletion(text: str) -> Position:
    """A POSITION that something is before. Raises ValueError."""
    position = parse_position(text, now_ms())
    if isinstance(position, Beginning):
        raise ValueError("nothing is before the beginning")
    return position


@click.group(cls=Group)
def topics() -> None:
    """Create, list, describe, alter and delete topics."""


@topics.command(
    examples=[
        "logctl topics create flights --partitions 4",
        "logctl topics create audit --config retention.ms=-1",
    ]
)
@click.argument("topic")
@click.option(
    "--partitions",
    metavar="N",
    callback=parsed(whole_number(1, PARTITION_MAX)),
    help="How many; else the server's default, 1.",
)
@click.option(
    "--config",
    multiple=True,
    metavar="NAME=VALUE",
    callback=parsed_all(parse_setting),
    help="A setting, under Kafka's name. Repeatable.",
)
@click.pass_obj
def create(settings: Settings, topic: str, partitions: int | None, config: list[tuple[str, str]]) -> None:
    """Create TOPIC."""
    from tailrace import Admin

    with Admin(server=settings.server) as admin:
        made = admin.create_topic(topic, partitions=partitions, config=dict(config))
    settings.output.done(_listing_row(made), f"Created topic {topic} with {count(made.partitions, 'partition')}.")


@topics.command("list", examples=["logctl topics list", "logctl topics list --json | jq -r .topic"])
@click.pass_obj
def list_(settings: Settings) -> None:
    """List the topics."""
    from tailrace import Admin

    with Admin(server=settings.server) as admin:
        listings = admin.list_topics()
    settings.output.table(LISTING, [_listing_row(listing) for listing in listings], empty="There are no topics.")


@topics.command(examples=["logctl topics describe flights", "logctl topics describe flights --json | jq .partitions"])
@click.argument("topic", shell_complete=complete_topics)
@click.pass_obj
def describe(settings: Settings, topic: str) -> None:
    """Show what the partitions of TOPIC hold, and its settings."""
    from tailrace import Admin

    with Admin(server=settings.server) as admin:
        row = _description_row(admin.describe_topic(topic))
    if settings.output.as_json:
        settings.output.row(row)
        return
    settings.output.say(f"Topic {row['topic']}, {count(len(row['partitions']), 'partition')}, id {row['topic_id']}\n")
    settings.output.table(PARTITIONS, row["partitions"])
    settings.output.say("")
    settings.output.table(CONFIG, row["config"])


@topics.command(
    examples=[
        "logctl topics alter flights --partitions 8",
        "logctl topics alter flights --set retention.ms=86400000 --unset segment.bytes",
    ]
)
@click.argument("topic", shell_complete=complete_topics)
@click.option(
    "--partitions",
    metavar="N",
    callback=parsed(whole_number(1, PARTITION_MAX)),
    help="Raise the number of partitions to N.",
)
@click.option(
    "--set",
    "--config",  # as `create` calls it
    "set_config",
    multiple=True,
    metavar="NAME=VALUE",
    callback=parsed_all(parse_setting),
    help="Change a setting. Repeatable.",
)
@click.option("--unset", "unset_config", multiple=True, metavar="NAME", help="Back to the default. Repeatable.")
@click.pass_obj
def alter(
    settings: Settings,
    topic: str,
    partitions: int | None,
    set_config: list[tuple[str, str]],
    unset_config: tuple[str, ...],
) -> None:
    """Add partitions to TOPIC, or change its settings.

    Partitions can only be added. Keys that go to another partition from then on leave their older records where they
    are, so their order holds only from there on.
    """
    from tailrace import Admin

    if partitions is None and not set_config and not unset_config:
        raise BadUsage("Nothing to alter.", remedy="Give --partitions, --set or --unset.")
    with Admin(server=settings.server) as admin:
        admin.alter_topic(topic, partitions=partitions, set_config=dict(set_config), unset_config=unset_config)
        row = _description_row(admin.describe_topic(topic))
    settings.output.done(row, f"Altered topic {topic}.")


@topics.command(examples=["logctl topics delete flights", "logctl topics delete flights --yes"])
@click.argument("topic", shell_complete=complete_topics)
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal to ask on.")
@click.pass_obj
def delete(settings: Settings, topic: str, yes: bool) -> None:
    """Delete TOPIC with all its records. There is no way back."""
    from tailrace import Admin

    if not yes:
        settings.output.needs_terminal("Deleting a topic")
    with Admin(server=settings.server) as admin:
        if not yes:
            held = sum(
                partition["records"] for partition in _description_row(admin.describe_topic(topic))["partitions"]
            )
            settings.output.confirm(f"Delete topic {topic} with its {count(held, 'record')}?")
        admin.delete_topic(topic)
    settings.output.done({"topic": topic, "deleted": True}, f"Deleted topic {topic}.")


@topics.command(
    examples=[
        "logctl topics delete-records flights --before ago:30d",
        "logctl topics delete-records flights --before 1500 --partition 2",
        "logctl topics delete-records flights --before end --yes",
    ]
)
@click.argument("topic", shell_complete=complete_topics)
@click.option(
    "--before",
    required=True,
    metavar="POSITION",
    callback=parsed(parse_end_of_deletion),
    help="What comes before it goes: an offset, `end`, or the first record at or after a time: ISO 8601 with a date "
    "(UTC unless it names a zone), or ago:1h.",
)
@click.option(
    "--partition",
    "partitions",
    multiple=True,
    metavar="P",
    callback=parsed_all(whole_number(0, PARTITION_MAX)),
    help="This partition alone; else all of them. Repeatable.",
)
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal to ask on.")
@click.pass_obj
def delete_records(settings: Settings, topic: str, before: Position, partitions: list[int], yes: bool) -> None:
    """Delete the oldest records of TOPIC. There is no way back.

    Offsets stay what they are, and no reader has these records from then on, also after a crash of the server. A group
    that had not come so far is told so; `logctl seek --to-beginning` has it go on. What the records take on the disk is
    freed a whole segment at a time. A topic that is compacted only (cleanup.policy=compact) refuses it.
    """
    from tailrace import Admin

    if not yes:
        settings.output.needs_terminal("Deleting records")
    with Admin(server=settings.server) as admin:
        chosen = _chosen(admin.describe_topic(topic), partitions, before)
        offsets = _offsets_before(admin, topic, chosen, before)
        going = [max(0, offsets[part.partition] - part.log_start_offset) for part in chosen]
        if not yes and any(going):
            where = count(sum(map(bool, going)), "partition")
            settings.output.confirm(f"Delete {count(sum(going), 'record')} of topic {topic}, in {where}?")
        starts = admin.delete_records(topic, offsets)
    rows: list[dict[str, Any]] = [
        {
            "topic": topic,
            "partition": part.partition,
            "log_start_offset": starts[part.partition],
            "records": starts[part.partition] - part.log_start_offset,
        }
        for part in chosen
    ]
    settings.output.note(f"Deleted {count(sum(row['records'] for row in rows), 'record')} of topic {topic}:")
    settings.output.table(DELETED, rows)


def _chosen(description: "TopicDescription", partitions: list[int], before: Position) -> "list[PartitionDescription]":
    there = {part.partition: part for part in description.partitions}
    for partition in partitions:
        if partition not in there:
            raise CommandError(
                f"topic {description.topic!r} has no partition {partition}",
                remedy=f"Its partitions are 0 to {len(there) - 1}.",
                code="UNKNOWN_TOPIC_OR_PARTITION",
            )
    if isinstance(before, AtOffset) and not partitions and len(there) > 1:
        raise BadUsage(
            f"Offset {before.offset} of which partition? Topic {description.topic} has {len(there)}.",
            remedy="Name it with --partition, or give a time or `end`, which all partitions have.",
        )
    return [there[partition] for partition in sorted(set(partitions) or there)]


def _offsets_before(
    admin: "Admin", topic: str, partitions: "list[PartitionDescription]", before: Position
) -> dict[int, int]:
    """Before which offset of each partition the records go. What is produced while somebody thinks stays."""
    if isinstance(before, AtTime):
        listed = admin.list_offsets([(topic, part.partition) for part in partitions], before.timestamp_ms)
        return {place.partition: place.offset for place in listed}
    if not isinstance(before, AtOffset):
        return {part.partition: part.high_watermark for part in partitions}
    for part in partitions:
        if before.offset > part.high_watermark:
            raise CommandError(
                f"offset {before.offset} is not in partition {part.partition} of topic {topic!r}, "
                f"which goes from {part.log_start_offset} to {part.high_watermark}",
                remedy="Choose one of these, or `end`.",
                code="OFFSET_OUT_OF_RANGE",
            )
    return {part.partition: before.offset for part in partitions}


def _listing_row(listing: "TopicListing") -> dict[str, Any]:
    return {
        "topic": listing.topic,
        "topic_id": str(listing.topic_id),
        "partitions": listing.partitions,
        "internal": listing.internal,
    }


def _description_row(description: "TopicDescription") -> dict[str, Any]:
    return {
        "topic": description.topic,
        "topic_id": str(description.topic_id),
        "internal": description.internal,
        "partitions": [
            {
                "partition": partition.partition,
                "log_start_offset": partition.log_start_offset,
                "high_watermark": partition.high_watermark,
                "log_end_offset": partition.log_end_offset,
                "records": partition.log_end_offset - partition.log_start_offset,
                "size_bytes": partition.size_bytes,
                "segments_count": partition.segments_count,
                "leader_node_id": partition.leader_node_id,
                "leader_epoch": partition.leader_epoch,
            }
            for partition in description.partitions
        ],
        "config": [
            {
                "name": entry.name,
                "value": entry.value,
                "is_default": entry.is_default,
                "set_by": "default" if entry.is_default else "topic",
                "documentation": entry.documentation,
            }
            for entry in description.config
        ],
    }
