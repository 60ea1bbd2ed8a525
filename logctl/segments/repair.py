"""Repairs a data directory, and tells before what is done to it and what is lost: for `logctl segments repair`."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from logctl.errors import BadUsage, CommandError
from logctl.output import Output, count
from logctl.segments.verify import Findings, verify_partitions
from logctl.times import now_ms

if TYPE_CHECKING:
    from logstore.findings import Finding
    from logstore.partition_files import Place
    from logstore.repair_plan import PartitionPlan
    from logstore.stopped import StoppedDirectory


class Step(NamedTuple):
    """Something that is to be done, for programs and for people."""

    action: str
    facts: dict[str, Any]
    sentence: str


def repair_directory(
    found: "StoppedDirectory", places: "Sequence[Place]", output: Output, *, is_part: bool, yes: bool
) -> bool:
    """Repair these partitions, all there are or a part, and the checkpoint. Returns whether no damage is left."""
    from logstore.repair import repair
    from logstore.repair_plan import plan_partition

    if is_part and found.checkpoint is None:
        raise BadUsage(
            "The checkpoint is lost, and can be made anew for all partitions only.",
            remedy="Leave --topic and --partition away.",
        )
    _finish_earlier(found, places, output)
    findings = list(found.findings)
    with closing(verify_partitions(found, places, findings.extend)) as verified:
        plans = [plan_partition(partition) for partition in verified]
    left = _tell_what_is_left(found, findings, plans, output)
    plans = [plan for plan in plans if not plan.obstacles and (found.checkpoint is None or not plan.is_empty)]
    steps = list(_steps(found, findings, plans))
    if not steps:
        if not left:
            output.done({"action": "none"}, "There is nothing to repair.")
        return not left
    for step in steps:
        if output.as_json:
            output.row({"action": step.action, **step.facts})
        else:
            output.say(step.sentence)
    if not yes:
        _ask(plans, steps, output)
    repair(found, plans, now_ms=now_ms())
    output.done({"action": "done", "is_sound": not left}, "Repaired." if not left else "The rest is repaired.")
    return not left


def _finish_earlier(found: "StoppedDirectory", places: "Sequence[Place]", output: Output) -> None:
    """A repair that was cut short has asked already."""
    from logstore.partition_files import read_partition
    from logstore.repair import finish

    for place in places:
        while finish(found, read_partition(found.disk, place)):
            step = _step(place, "finish", {}, "finished what an earlier repair had begun")
            output.done({"action": step.action, **step.facts}, step.sentence)


def _tell_what_is_left(
    found: "StoppedDirectory", findings: "Sequence[Finding]", plans: "Sequence[PartitionPlan]", output: Output
) -> bool:
    """Tell of damage that nothing here repairs, and return whether there is any."""
    from logstore.findings import Kind

    told = Findings(output, found.path)
    told.write(finding for finding in findings if finding.kind in (Kind.META_WRONG, Kind.EPOCH_WRONG))
    told.write(finding for finding in findings if finding.kind is Kind.CHECKPOINT_WRONG)
    obstacles = [finding for finding in findings if finding.kind is Kind.TOPIC_WRONG]
    obstacles += [finding for plan in plans for finding in plan.obstacles]
    told.write(obstacles)
    told.flush()
    if obstacles and found.checkpoint is None:  # what has no row would count as never synced
        raise CommandError(
            "the checkpoint cannot be made anew before every partition can be judged",
            remedy="Put right what is said above, or restore `checkpoint` from a copy. Nothing was changed.",
        )
    return not told.is_sound


def _steps(
    found: "StoppedDirectory", findings: "Sequence[Finding]", plans: "Sequence[PartitionPlan]"
) -> Iterator[Step]:
    """What will be done, and first what is lost by it."""
    from logstore.findings import Kind

    for plan in plans:
        for hole in plan.holes:
            amount = hole.next_offset - hole.offset
            facts = {"offset": hole.offset, "next_offset": hole.next_offset, "why": hole.why}
            facts |= {"position": hole.position, "end_position": hole.end_position}
            kept = f" ({count(hole.end_position - hole.position, 'byte')} kept aside)" if hole.end_position else ""
            if amount:
                sentence = (
                    f"gives up {count(amount, 'record')}, offsets {hole.offset} to {hole.next_offset - 1}: {hole.why}"
                )
                yield _step(plan.files.place, "accept-loss", facts, sentence + kept)
            else:
                sentence = f"takes out what stands before offset {hole.offset} and is no batch: {hole.why}"
                yield _step(plan.files.place, "take-out", facts, sentence + kept)
    for plan in plans:
        for segment in plan.patched:
            for position, data in plan.reports[segment.base_offset].patches:
                facts = {"file": segment.log_path.name, "position": position, "bytes": data.hex()}
                sentence = f"puts the header of the batch at position {position} of {segment.log_path.name} right"
                yield _step(plan.files.place, "put-header-right", facts, sentence)
        for segment in plan.resealed:
            facts = {"file": segment.log_path.name}
            sentence = (
                f"makes index and seal of the segment at offset {segment.base_offset} anew; append times that only "
                "they had are lost and count as later than they were, so retention keeps it longer"
            )
            yield _step(plan.files.place, "make-index", facts, sentence)
        if any(finding.kind is Kind.SNAPSHOT_WRONG for finding in plan.files.findings):
            sentence = (
                "makes the snapshot of producers and epochs anew; producers whose batches are not in the log any more "
                "are forgotten, and a batch that one of them sends again may be written twice"
            )
            yield _step(plan.files.place, "make-snapshot", {}, sentence)
    if found.checkpoint is None:
        sentence = (
            "Makes the checkpoint anew: what the segments hold now counts as all there was. Where the partitions start "
            "is lost: records deleted by `delete-records` or retention whose segments are still there come back."
        )
        yield Step("make-checkpoint", {}, sentence)
        for finding in findings:
            if finding.kind is Kind.TAIL_UNCERTAIN:
                facts = {"topic": finding.topic, "partition": finding.partition, "offset": finding.offset}
                sentence = f"{finding.topic} {finding.partition}: {finding.what}; the next start cuts them off"
                yield Step("cut-tail", facts, sentence)


def _step(place: "Place", action: str, facts: dict[str, Any], sentence: str) -> Step:
    where = {"topic": place.topic, "partition": place.partition}
    return Step(action, where | facts, f"{place.topic} {place.partition}: {sentence}")


def _ask(plans: "Sequence[PartitionPlan]", steps: Sequence[Step], output: Output) -> None:
    """Nothing is given up unasked. What is only made anew needs no answer."""
    lost = sum(hole.next_offset - hole.offset for plan in plans for hole in plan.lost)
    if not lost and not any(step.action in ("make-checkpoint", "take-out") for step in steps):
        return
    output.needs_terminal("Giving records up" if lost else "Such a repair")
    question = f"Give up {count(lost, 'record')} for good?" if lost else "Go ahead?"
    output.confirm(question, declined="Nothing was changed.")
