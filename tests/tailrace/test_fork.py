"""A child of a process that had connected: every client says at once that it cannot be used there."""

import subprocess
import sys

import pytest

from tests.processes import ENVIRONMENT, ROOT
from tests.tailrace.fake_server import FakeServer

PROGRAM = """
import asyncio, os, sys, time, warnings
from tailrace import Admin, Consumer, Producer, aio
from tailrace.errors import ForkedProcessError

warnings.simplefilter("ignore", DeprecationWarning)  # Newer versions of Python warn of what is done here.
server = sys.argv[1]
producer = Producer(server=server)
producer.send("single", b"x").result(10)
consumer = Consumer("single", server=server)
assert consumer.poll(10) is not None
admin = Admin(server=server)
aio_admin = aio.Admin(server=server)
admin.cluster()
asyncio.run(aio_admin.cluster())

def raises(work):
    started = time.monotonic()
    try:
        work()
    except ForkedProcessError as error:
        assert "spawn" in error.remedy
        assert time.monotonic() - started < 5  # at once, and not after a timeout
    else:
        raise AssertionError(f"{work} did not raise")

child = os.fork()
if child == 0:
    try:
        raises(lambda: producer.send("single", b"y"))
        raises(lambda: producer.send_many("single", [b"y"]))
        raises(producer.flush)
        raises(producer.close)
        raises(lambda: consumer.poll(1))
        raises(lambda: next(iter(consumer)))
        raises(consumer.commit)
        raises(consumer.close)
        for ask in (
            lambda admin: admin.cluster(),
            lambda admin: admin.create_topic("t"),
            lambda admin: admin.delete_topic("t"),
            lambda admin: admin.alter_topic("t", 2),
            lambda admin: admin.list_topics(),
            lambda admin: admin.describe_topic("t"),
            lambda admin: admin.list_offsets([("t", 0)], "latest"),
            lambda admin: admin.list_groups(),
            lambda admin: admin.describe_group("g"),
            lambda admin: admin.delete_group("g"),
            lambda admin: admin.committed_offsets("g"),
            lambda admin: admin.commit_offsets("g", []),
            lambda admin: admin.seek_group("g", "t", to_end=True),
            lambda admin: admin.close(),
        ):
            raises(lambda: ask(admin))
            raises(lambda: asyncio.run(ask(aio_admin)))
        raises(lambda: Producer(server=server).send("single", b"y"))
        raises(lambda: Consumer("single", server=server).poll(1))
        raises(lambda: Admin(server=server).list_topics())
    except BaseException as error:
        sys.stdout.write(f"child: {error!r}")
        sys.stdout.flush()
        os._exit(1)
    os._exit(0)
_, status = os.waitpid(child, 0)
producer.send("single", b"z").result(10)
producer.close()
consumer.close()
admin.close()
asyncio.run(aio_admin.close())
sys.exit(os.waitstatus_to_exitcode(status))
"""

BEFORE = """
import os, sys, warnings
from tailrace import Producer

warnings.simplefilter("ignore", DeprecationWarning)
producer = Producer(server=sys.argv[1])
child = os.fork()
producer.send("single", str(child == 0)).result(10)
producer.close()
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("program", [PROGRAM, BEFORE], ids=["after connecting", "before connecting"])
def test_a_fork_is_refused_after_connecting_and_harmless_before(server: FakeServer, program: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", program, server.address],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
        timeout=60,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")
    expected = [b"x", b"z"] if program is PROGRAM else [b"False", b"True"]
    assert sorted(server.topics["single"].partitions[0].values) == expected  # type: ignore[type-var]
