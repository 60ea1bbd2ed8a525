"""Apache Kafka from its Maven artifacts, as one process that is broker and controller. To fetch the jars (120 MB):

python -m tests.conformance.apache          # into $TAILRACE_KAFKA_HOME, or .kafka in the checkout; needs mvn
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.conformance.absent import Absent
from tests.processes import ROOT

VERSION = "4.3.1"
#: The last one writes Kafka's log to stderr; without one there is no log.
ARTIFACTS = (
    ("org.apache.kafka", "kafka_2.13", VERSION),
    ("org.apache.kafka", "kafka-tools", VERSION),
    ("org.slf4j", "slf4j-simple", "1.7.36"),
)

#: Any 16 bytes in base64.
CLUSTER_ID = "dGFpbHJhY2UgdGVzdHMhIQ"

START_SECONDS_MAX = 60

JVM = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",  # starts in half the time, and lives for minutes only
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
)

SETTINGS = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
log.dirs={directory}/data
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Nobody waits for members that do not come.
group.initial.rebalance.delay.ms=0
# What ends in a test by silence is to end soon. The classic protocol's least session stays as users have it: 6 s.
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=4000
group.consumer.min.heartbeat.interval.ms=500
group.consumer.heartbeat.interval.ms=1000
"""


def home() -> Path:
    return Path(os.environ.get("TAILRACE_KAFKA_HOME", ROOT / ".kafka"))


def jars() -> Path:
    """The directory of the jars. Raises Absent."""
    if shutil.which("java") is None:
        raise Absent("Apache Kafka needs java, which is not on the PATH (Debian: default-jre-headless)")
    for directory in (home(), home() / "libs"):
        if (directory / f"kafka_2.13-{VERSION}.jar").exists():
            return directory
    raise Absent(f"{home()} has no Apache Kafka {VERSION}: run python -m tests.conformance.apache")


class ApacheKafka:
    """One run of it with an empty data directory."""

    def __init__(self, directory: Path, jvm: Sequence[str] = JVM) -> None:
        self._directory = directory
        self._jvm = jvm
        self._port, self._controller_port = free_ports(2)
        self._process: subprocess.Popen[bytes] | None = None
        self.address = f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Returns when it takes connections. Raises Absent."""
        settings = self._directory / "server.properties"
        settings.write_text(
            SETTINGS.format(port=self._port, controller_port=self._controller_port, directory=self._directory)
        )
        java = ["java", *self._jvm, "-cp", f"{jars()}/*"]
        format_command = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(settings)]
        subprocess.run(format_command, check=True, capture_output=True, timeout=START_SECONDS_MAX)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen([*java, "kafka.Kafka", str(settings)], stdout=log, stderr=log)
        deadline = time.monotonic() + START_SECONDS_MAX
        while not self._takes_connections():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise AssertionError(f"Apache Kafka did not start; its log:\n{self._log.read_text()[-4000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Kill it: its data is not needed any more, and a clean stop takes seconds."""
        assert self._process is not None, "it does not run"
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid

    @property
    def _log(self) -> Path:
        return self._directory / "kafka.log"

    def _takes_connections(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self._port), timeout=1).close()
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now. Kafka has to be told its ports: clients are sent where the settings say."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def fetch(directory: Path) -> None:
    """Have Maven copy the artifacts, and what they depend on, into the directory."""
    directory.mkdir(parents=True, exist_ok=True)
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
        for group, name, version in ARTIFACTS
    )
    pom = directory / "pom.xml"
    pom.write_text(
        "<project><modelVersion>4.0.0</modelVersion><groupId>tailrace</groupId><artifactId>kafka</artifactId>"
        f"<version>1</version><dependencies>{dependencies}</dependencies></project>\n"
    )
    copy = ["dependency:copy-dependencies", f"-DoutputDirectory={directory.absolute()}"]
    subprocess.run(["mvn", "-q", "-B", "-f", str(pom), *copy], check=True)


if __name__ == "__main__":
    if shutil.which("mvn") is None:
        sys.exit("mvn is not on the PATH (Debian: maven); it fetches Apache Kafka's jars")
    fetch(home())
