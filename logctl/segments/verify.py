"""Tells what a verification finds, to people and to programs: for `logctl segments verify` and `repair`."""

import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from logctl.output import Output, Progress, Row, count
from logctl.segments.helpers import verify_segments

if TYPE_CHECKING:
    from logstore.findings import Finding
    from logstore.partition_files import Place
    from logstore.repair_plan import VerifiedPartition
    from logstore.stopped import StoppedDirectory

COLOURS = {"damage": "red", "rebuildable": "yellow", "note": "blue"}


class Findings:
    """Writes findings as they come; after all of them where a bar may stand on the terminal."""

    def __init__(self, output: Output, directory: Path) -> None:
        self.counts: Counter[str] = Counter()  # by severity
        self._output = output
        self._directory = directory
        self._waiting: list[Finding] | None = [] if sys.stderr.isatty() else None

    @property
    def is_sound(self) -> bool:
        return not self.counts.keys() - {"note"}

    def write(self, findings: "Iterable[Finding]") -> None:
        for finding in findings:
            self.counts[finding.kind.severity] += 1
            if self._waiting is None:
                self._write(finding)
            else:
                self._waiting.append(finding)

    def flush(self) -> None:
        waiting, self._waiting = self._waiting, None
        for finding in waiting or ():
            self._write(finding)

    def _write(self, finding: "Finding") -> None:
        if self._output.as_json:
            self._output.row(finding_row(finding))
            return
        severity = str(finding.kind.severity)
        label = click.style(severity, fg=COLOURS[severity], bold=True) if sys.stdout.isatty() else severity
        relative = finding.path.relative_to(self._directory)
        records, place = _records(finding), _bytes(finding)
        self._output.say(f"{label}: {records or relative}: {finding.what}")
        if records:
            self._output.say(f"    {place}{relative}")
        self._output.say(f"    {finding.kind.remedy}")


def _records(finding: "Finding") -> str:
    """Of what topic and partition, and which of its records."""
    if finding.topic is None:
        return ""
    partition = finding.topic if finding.partition is None else f"{finding.topic} {finding.partition}"
    if finding.offset is None:
        return partition
    if finding.next_offset is None:
        return f"{partition}, from offset {finding.offset} on"
    if finding.next_offset <= finding.offset + 1:
        return f"{partition}, offset {finding.offset}"
    return f"{partition}, offsets {finding.offset} to {finding.next_offset - 1}"


def _bytes(finding: "Finding") -> str:
    if finding.position is None:
        return ""
    if finding.end_position in (None, finding.position):
        return f"position {finding.position} of "
    return f"bytes {finding.position} to {finding.end_position} of "


def finding_row(finding: "Finding") -> Row:
    return {
        "kind": finding.kind.code,
        "severity": str(finding.kind.severity),
        "topic": finding.topic,
        "partition": finding.partition,
        "offset": finding.offset,
        "next_offset": finding.next_offset,
        "file": str(finding.path),
        "position": finding.position,
        "end_position": finding.end_position,
        "what": finding.what,
        "remedy": finding.kind.remedy,
    }


def verify_directory(found: "StoppedDirectory", places: "Sequence[Place]", output: Output) -> bool:
    """Verify the directory's metadata and these partitions, tell what is found, and return whether all is sound."""
    findings = Findings(output, found.path)
    totals: Counter[str] = Counter()
    try:
        findings.write(found.findings)
        with closing(verify_partitions(found, places, findings.write)) as partitions:
            for partition in partitions:
                totals["partitions"] += 1
                totals["segments"] += len(partition.reports)
                for report in partition.reports.values():
                    totals["batches"] += report.batches_count
                    totals["records"] += report.records_count
                    totals["bytes"] += report.size_bytes
    finally:
        findings.flush()  # also what was found before a Ctrl-C
    _sum_up(totals, findings, output)
    return findings.is_sound


def verify_partitions(
    found: "StoppedDirectory", places: "Sequence[Place]", tell: "Callable[[Iterable[Finding]], None]"
) -> "Generator[VerifiedPartition, None, None]":
    """Verify partition by partition, and tell what is found in each."""
    from logstore.partition_files import read_partition
    from logstore.repair_plan import VerifiedPartition

    partitions = [read_partition(found.disk, place) for place in places]
    segments = [segment for files in partitions for segment in files.segments]
    bytes_total = sum(_size(found, segment.log_path) for segment in segments)
    with (
        Progress("verifying", total=bytes_total) as progress,
        closing(verify_segments(segments, bytes_total, progress.update)) as verified,
    ):
        for files in partitions:
            tell(files.findings)
            reports = {}
            for _ in files.segments:
                segment = next(verified)
                tell(segment.findings)
                reports[segment.segment.base_offset] = segment.report
            yield VerifiedPartition(files, reports)


def _size(found: "StoppedDirectory", path: Path) -> int:
    file = found.disk.open(path)
    try:
        return file.size()
    finally:
        file.close()


def _sum_up(totals: "Counter[str]", findings: Findings, output: Output) -> None:
    counts = findings.counts
    if output.as_json:
        names = ("partitions", "segments", "batches", "records", "bytes")
        output.row(
            {
                "kind": "summary",
                **{name: totals[name] for name in names},
                **{severity: counts[severity] for severity in COLOURS},
                "is_sound": findings.is_sound,
            }
        )
        return
    verified = ", ".join(
        (
            count(totals["partitions"], "partition"),
            count(totals["segments"], "segment"),
            count(totals["records"], "record"),
            count(totals["bytes"], "byte"),
        )
    )
    words = {"damage": "damaged", "rebuildable": "rebuildable", "note": "to note"}
    result = ", ".join(f"{counts[severity]} {word}" for severity, word in words.items() if counts[severity])
    output.say(f"Verified {verified}: {result or 'nothing is wrong'}.")
