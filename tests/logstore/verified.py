"""A whole data directory verified in this process, for tests."""

from pathlib import Path
from typing import NamedTuple

from logstore.disk import Disk
from logstore.findings import Finding, Kind, Severity
from logstore.partition_files import PartitionFiles, read_partition
from logstore.stopped import StoppedDirectory
from logstore.verification import SegmentReport, SegmentVerification
from tests.logstore.store import DATA


class Verified(NamedTuple):
    findings: list[Finding]
    partitions: list[tuple[PartitionFiles, dict[int, SegmentReport]]]

    @property
    def worse_than_notes(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind.severity is not Severity.NOTE]

    @property
    def kinds(self) -> list[Kind]:
        return [finding.kind for finding in self.findings]

    def of(self, kind: Kind) -> list[Finding]:
        return [finding for finding in self.findings if finding.kind is kind]


def verify(disk: Disk, directory: Path = DATA, *, step_bytes: int = 1 << 20) -> Verified:
    with StoppedDirectory.open(directory, disk) as stopped:
        findings = list(stopped.findings)
        partitions = []
        for place in stopped.places():
            files = read_partition(disk, place)
            findings += files.findings
            reports = {}
            for segment in files.segments:
                verification = SegmentVerification(disk, segment)
                while not verification.is_done:
                    findings += verification.step(step_bytes)
                reports[segment.base_offset] = verification.report
            partitions.append((files, reports))
    return Verified(findings, partitions)
