"""kafka-python's own integration tests, run against either broker. They come from its source package by pip:

    python -m tests.conformance.kafka_python_own apache
    python -m tests.conformance.kafka_python_own tailrace -k consumer --junit failures.xml

What follows the broker goes to pytest. The last lines are the tests that failed, and the numbers; the status is
pytest's. Not part of the suite: it is somebody else's, takes minutes, and some of it needs more than one broker.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

from tests.conformance.apache import VERSION, home
from tests.conformance.brokers import BROKERS

#: Those of the other modules are for TLS and SASL.
MODULES = [f"test/integration/test_{each}_integration.py" for each in ("admin", "consumer", "producer")]

RUN_SECONDS_MAX = 900

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


def summary(junit: Path) -> list[str]:
    """A line for each test that failed, and one of numbers."""
    suite = next(iter(ElementTree.parse(junit).getroot()))
    lines = [
        f"{case.get('classname')}::{case.get('name')}: {(trouble.get('message') or '').partition(chr(10))[0][:160]}"
        for case in suite
        for trouble in case
        if trouble.tag in ("failure", "error")
    ]
    counts = {each: int(suite.get(each, 0)) for each in ("tests", "failures", "errors", "skipped")}
    return [*lines, ", ".join(f"{count} {name}" for name, count in counts.items())]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("broker", choices=BROKERS)
    parser.add_argument("--junit", type=Path, help="where pytest's report goes")
    arguments, for_pytest = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as scratch:
        tests = Path(scratch) / "kafka-python"
        tests.mkdir()
        unpack_tests(source(home()), tests)
        junit = (arguments.junit or Path(scratch) / "junit.xml").absolute()
        with BROKERS[arguments.broker](Path(scratch)) as broker:
            # The root is where a broker of their own would be; it only has to be a directory.
            given = {"KAFKA_URI": f"kafka://{broker.address}", "KAFKA_VERSION": VERSION, "KAFKA_ROOT": str(tests)}
            environment = os.environ | given
            command = [sys.executable, "-m", "pytest", "-q", "--tb=short", f"--junit-xml={junit}"]
            command += ["-p", "no:xdist", "-p", "no:cacheprovider", *MODULES, *for_pytest]
            done = subprocess.run(command, cwd=tests, env=environment, timeout=RUN_SECONDS_MAX)
        if junit.exists():  # or pytest has not come so far, and has said why
            sys.stdout.write("\n".join(summary(junit)) + "\n")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
