"""kafka-python's own integration tests, run against either broker. They come from its source package by pip:

    python -m tests.conformance.kafka_python_own apache
    python -m tests.conformance.kafka_python_own tailrace -k consumer --junit failures.xml

What follows the broker goes to pytest. The last lines are the tests that failed, and the numbers. Of ours those that
stand in EXPECTED must fail, with the reasons that docs/kafka-compatibility.md gives too, and no other may: what fails
otherwise is tried once more, since these tests wait for seconds and not for what they wait for.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from contextlib import AbstractContextManager
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests.conformance.apache import VERSION, home
from tests.conformance.brokers import BROKERS, Broker, tailrace

#: Those of the other modules are for TLS and SASL.
MODULES = [f"test/integration/test_{each}_integration.py" for each in ("admin", "consumer", "producer")]

RUN_SECONDS_MAX = 900

#: Of ours: features that one node does not have, or that come later.
EXPECTED = {
    "test_create_describe_delete_acls": "there are no ACLs",
    "test_create_partitions": "it assigns the new partitions to node 0, and ours is node 1",
    "test_elect_leaders": "one node elects nobody",
    "test_alter_replica_log_dirs": "there is one directory",
    "test_describe_metadata_quorum": "one node has no quorum",
    "test_alter_partition_reassignments": "one node reassigns nothing",
    "test_list_partition_reassignments": "one node reassigns nothing",
    "test_transactional_producer_messages": "there are no transactions",
    "test_transactional_producer_offsets": "there are no transactions",
}
#: They ask for sessions of 3 s.
SHORTER_SESSIONS = ("--group-min-session-timeout-ms", "1000")

#: The source package lacks this module of its tests. Of a broker that runs already it has nothing to do.
SERVICE = """\
class ExternalService:
    def __init__(self, host, port):
        self.host, self.port = host, port

    def start(self): ...
    def stop(self): ...
    def dump_logs(self): ...


class SpawnedService:
    def __init__(self, *arguments):
        raise AssertionError("these tests are given a broker that runs")
"""


def source(directory: Path) -> Path:
    """The source package of the kafka-python that is installed here, downloaded once."""
    wanted = version("kafka-python")
    packed = directory / f"kafka_python-{wanted}.tar.gz"
    if not packed.exists():
        download = ["pip", "download", "-q", "--no-deps", "--no-binary", ":all:", "-d", str(directory)]
        subprocess.run([sys.executable, "-m", *download, f"kafka-python=={wanted}"], check=True)
    return packed


def unpack_tests(packed: Path, directory: Path) -> None:
    """Only the tests: the client that they test is the one that is installed."""
    with tarfile.open(packed) as archive:
        members = [member for member in archive.getmembers() if "/test/" in member.name]
        for member in members:
            member.name = member.name.partition("/")[2]
        archive.extractall(directory, members, filter="data")
    # Without this the name is the standard library's.
    (directory / "test" / "__init__.py").touch()
    (directory / "test" / "service.py").write_text(SERVICE)
    # Neither the settings of this checkout nor its plugins.
    (directory / "pytest.ini").write_text("[pytest]\nmarkers = timeout\nfaulthandler_timeout = 120\n")


class Report(NamedTuple):
    """What pytest has written of one run."""

    #: By the name of the test, the first line of why.
    failed: dict[str, str]
    counts: dict[str, int]

    @property
    def lines(self) -> list[str]:
        counts = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        return [*(f"{name}: {why}" for name, why in self.failed.items()), counts]


def read_report(junit: Path) -> Report:
    suite = next(iter(ElementTree.parse(junit).getroot()))
    failed = {
        case.get("name", ""): (trouble.get("message") or "").partition("\n")[0][:160]
        for case in suite
        for trouble in case
        if trouble.tag in ("failure", "error")
    }
    return Report(failed, {each: int(suite.get(each, 0)) for each in ("tests", "failures", "errors", "skipped")})


class OwnTests:
    """The tests, unpacked, and a broker for them."""

    def __init__(self, directory: Path, broker: Broker) -> None:
        self._directory = directory
        # The root is where a broker of their own would be; it only has to be a directory.
        given = {"KAFKA_URI": f"kafka://{broker.address}", "KAFKA_VERSION": VERSION, "KAFKA_ROOT": str(directory)}
        self._environment = os.environ | given

    def run(self, junit: Path, *arguments: str) -> Report:
        command = [sys.executable, "-m", "pytest", "-q", "--tb=short", f"--junit-xml={junit}"]
        command += ["-p", "no:xdist", "-p", "no:cacheprovider", *MODULES, *arguments]
        subprocess.run(command, cwd=self._directory, env=self._environment, timeout=RUN_SECONDS_MAX)
        return read_report(junit)


def start(name: str, directory: Path) -> AbstractContextManager[Broker]:
    return tailrace(directory, *SHORTER_SESSIONS) if name == "tailrace" else BROKERS[name](directory)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("broker", choices=BROKERS)
    parser.add_argument("--junit", type=Path, help="where pytest's report goes")
    arguments, for_pytest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch) / "kafka-python"
        directory.mkdir()
        unpack_tests(source(home()), directory)
        junit = (arguments.junit or Path(scratch) / "junit.xml").absolute()
        with start(arguments.broker, Path(scratch)) as broker:
            tests = OwnTests(directory, broker)
            report = tests.run(junit, *for_pytest)
            sys.stdout.write("\n".join(report.lines) + "\n")
            if arguments.broker != "tailrace":
                return int(bool(report.failed))
            wrong = sorted(report.failed.keys() - EXPECTED.keys())
            if wrong:
                again = tests.run(Path(scratch) / "again.xml", "-k", " or ".join(wrong))
                wrong = sorted(again.failed.keys() - EXPECTED.keys())
    passed = [] if for_pytest else sorted(EXPECTED.keys() - report.failed.keys())
    for name in wrong:
        sys.stdout.write(f"{name} fails, and is not expected to\n")
    for name in passed:
        sys.stdout.write(f"{name} passes, and is expected to fail: {EXPECTED[name]}\n")
    return int(bool(wrong or passed))


if __name__ == "__main__":
    sys.exit(main())
