"""A whole data directory verified and repaired in this process, for tests: as `logctl segments` does it."""

from pathlib import Path
from typing import NamedTuple

from logstore.disk import Disk
from logstore.findings import Finding, Kind, Severity
from logstore.partition_files import read_partition
from logstore.repair import finish, repair
from logstore.repair_plan import PartitionPlan, VerifiedPartition, plan_partition
from logstore.stopped import StoppedDirectory
from logstore.verification import SegmentVerification
from tests.logstore.store import DATA

REPAIRED_AT_MS = 1_800_000_000_000


class Verified(NamedTuple):
    findings: list[Finding]
    partitions: list[VerifiedPartition]

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
        return _verify(stopped, step_bytes)


def mend(disk: Disk, directory: Path = DATA) -> list[PartitionPlan]:
    """Repair it, and return what was planned for each partition. One with obstacles is left alone."""
    with StoppedDirectory.open(directory, disk, to_repair=True) as stopped:
        while any([finish(stopped, read_partition(disk, place)) for place in stopped.places()]):
            pass
        plans = [plan_partition(partition) for partition in _verify(stopped, 1 << 20).partitions]
        repair(stopped, [plan for plan in plans if not plan.obstacles], now_ms=REPAIRED_AT_MS)
    return plans


def _verify(stopped: StoppedDirectory, step_bytes: int) -> Verified:
    findings = list(stopped.findings)
    partitions = []
    for place in stopped.places():
        files = read_partition(stopped.disk, place)
        findings += files.findings
        reports = {}
        for segment in files.segments:
            verification = SegmentVerification(stopped.disk, segment)
            while not verification.is_done:
                findings += verification.step(step_bytes)
            reports[segment.base_offset] = verification.report
        partitions.append(VerifiedPartition(files, reports))
    return Verified(findings, partitions)
