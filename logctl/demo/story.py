"""The play: flights go in and are read; a member dies, the server dies, all goes on; then history is read again."""

import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from logctl.demo.checks import Check, StoredRecord, check_group, check_log, check_replay
from logctl.demo.flights import read_sample, records_of
from logctl.demo.processes import GROUP, SESSION_TIMEOUT_MS, TOPIC, Member, Producing, Server, run_logctl
from logctl.errors import CommandError
from logctl.streams import is_coloured
from logctl.times import parse_time

PARTITIONS_COUNT = 4
LINES_PER_SECOND = 4000.0
REPLAY_FROM = "2013-01-11T12:00Z"
SECONDS_MAX = 120.0  # it takes about 12; whatever hangs ends here
LOOK_SECONDS = 0.02
INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Story:
    """Tells what happens as it happens, to people or, a JSON object a line, to programs."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._started

    def tell(self, scene: str, sentence: str, **figures: Any) -> None:
        seconds = self.seconds
        if self._as_json:
            line = json.dumps({"at_seconds": round(seconds, 3), "scene": scene, "text": sentence} | figures)
        else:
            line = f"{seconds:5.1f} s  {_styled(f'{scene:<9}', bold=True)} {sentence}"
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    def judge(self, checks: list[Check]) -> bool:
        """Tell every check and the verdict, and return it."""
        for check in checks:
            if self._as_json:
                sys.stdout.write(json.dumps({"passed": check.passed, "check": check.sentence}) + "\n")
            else:
                mark = _styled("ok  ", fg="green") if check.passed else _styled("FAIL", fg="red", bold=True)
                sys.stdout.write(f"    {mark}  {check.sentence}\n")
        passed = all(check.passed for check in checks)
        if self._as_json:
            sys.stdout.write(json.dumps({"verdict": passed, "seconds": round(self.seconds, 3)}) + "\n")
        elif passed:
            sys.stdout.write(f"\nAll as it should be, in {self.seconds:.1f} s.\n")
        else:
            failed = sum(not check.passed for check in checks)
            sys.stdout.write(f"\n{failed} of {len(checks)} checks failed. This is a bug; please report it.\n")
        return passed


def play(*, as_json: bool) -> bool:
    """Play it all in a temporary directory, and return whether every check passed. Raises CommandError when stuck."""
    story = Story(as_json=as_json)
    with ExitStack() as cleanup:
        cleanup.enter_context(_interruptible())
        directory = Path(tempfile.mkdtemp(prefix="tailrace-demo-"))
        # A file that stays in the temporary directory must not hide what the play ended with.
        cleanup.callback(shutil.rmtree, directory, ignore_errors=True)
        try:
            checks = _Play(story, directory, cleanup).run()
        finally:
            # What is left to do takes a moment, and whoever asks again cannot cut it short: processes would be left.
            for number in INTERRUPTS:
                signal.signal(number, signal.SIG_IGN)
        return story.judge(checks)


class _Play:
    def __init__(self, story: Story, directory: Path, cleanup: ExitStack) -> None:
        self._tell = story.tell
        self._directory = directory
        self._cleanup = cleanup
        self._sample = read_sample()
        self._flights = records_of(self._sample)
        self._server = Server(directory)
        self._members: list[Member] = []

    def run(self) -> list[Check]:
        self._open()
        self._gather()
        self._kill_a_member()
        self._kill_the_server()
        self._read_to_the_end()
        log = self._read_log()
        checks = check_log(self._flights, log) + check_group(log, [member.reads for member in self._members])
        return checks + self._replay(log)

    def _open(self) -> None:
        self._cleanup.callback(self._server.kill)
        seconds = self._server.start()
        self._tell("server", f"a private one, ready in {seconds:.1f} s, on {self._server.address}")
        run_logctl("topics", "create", TOPIC, "--partitions", str(PARTITIONS_COUNT), server=self._server.address)
        aircraft = len({flight.key for flight in self._flights})
        self._tell(
            "topic",
            f"{TOPIC}, with {PARTITIONS_COUNT} partitions, for {len(self._flights):,} flights out of New York, "
            f"keyed by {aircraft:,} aircraft",
            flights=len(self._flights),
        )

    def _gather(self) -> None:
        """Two members, and a producer that waits to be let go."""
        first, second = self._add_member("A"), self._add_member("B")
        producing = Producing(self._sample, self._directory, self._server.address, LINES_PER_SECOND)
        self._producing = self._cleanup.enter_context(closing(producing))
        self._wait(lambda: _share_all(first, second))
        self._tell("group", f"{GROUP}: A reads partitions {_named(first)}, B reads {_named(second)}")

    def _kill_a_member(self) -> None:
        """Half-way, while both are reading."""
        survivor, victim = self._members
        self._producing.allow(0.5)
        self._wait(lambda: survivor.look() + victim.look() >= 0.4 * len(self._flights))
        lost = set(victim.partitions)
        victim.kill()
        killed_at = time.monotonic()
        self._producing.allow(0.65)
        victim.look()
        unsure = len(victim.reads.uncommitted)
        self._tell(
            "kill -9",
            f"member B, which had read {len(victim.reads.reads):,} flights; "
            + (f"the last {unsure:,} it did not yet know to be committed" if unsure else "it knew all to be committed"),
            uncommitted=unsure,
        )
        self._wait(lambda: lost <= set(survivor.partitions))
        waited = time.monotonic() - killed_at
        self._tell(
            "takeover",
            f"A has all partitions after {waited:.1f} s "
            f"(a member is given up {SESSION_TIMEOUT_MS / 1000} s after its last heartbeat)",
            seconds=round(waited, 3),
        )

    def _kill_the_server(self) -> None:
        """While flights are being sent and read."""
        self._producing.allow(0.85)
        self._wait(lambda: self._producing.fed_count >= 0.7 * len(self._flights))
        self._server.kill()
        fed = self._producing.fed_count
        self._tell("kill -9", f"the server, with {fed:,} flights handed to the producer; it and A are left alone")
        seconds = self._server.start()
        self._tell(
            "restart",
            f"the server is back after {seconds:.1f} s; "
            f"{self._producing.fed_count - fed:,} more flights were handed over meanwhile",
            seconds=round(seconds, 3),
        )

    def _read_to_the_end(self) -> None:
        """A third member takes the place of the second, the rest is sent, and the group reads all of it."""
        newcomer = self._add_member("C")
        first = self._members[0]
        self._wait(lambda: _share_all(first, newcomer))
        self._tell("group", f"C joins: A reads partitions {_named(first)}, C reads {_named(newcomer)}")
        self._producing.allow(1)
        summary = self._producing.finish()
        self._tell("produced", f"{summary['records']:,} flights, all acknowledged", records=summary["records"])
        self._wait(lambda: self._lag() == 0)
        for member in (first, newcomer):
            member.stop()
            member.look()
        reads = {member.reads.name: len(member.reads.reads) for member in self._members}
        parts = ", ".join(f"{name} {number:,}" for name, number in reads.items())
        self._tell("read", f"everything is read and committed: {parts}", reads=reads)

    def _read_log(self) -> list[StoredRecord]:
        """What is in the log, read without a group."""
        return _parse(run_logctl("consume", TOPIC, "--exit-at-end", server=self._server.address))

    def _replay(self, log: list[StoredRecord]) -> list[Check]:
        seek = ("seek", "--group", GROUP, "--topic", TOPIC, "--to-time", REPLAY_FROM)
        self._tell("seek", f"$ logctl {' '.join(seek)}")
        sought = [json.loads(line) for line in run_logctl(*seek, server=self._server.address).splitlines()]
        back = -sum(place["records"] for place in sought)
        self._tell("", f"the group is sent back by {back:,} flights", records=back)
        consume = ("consume", TOPIC, "--group", GROUP, "--exit-at-end")
        self._tell("replay", f"$ logctl {' '.join(consume)}")
        replay = _parse(run_logctl(*consume, server=self._server.address))
        self._tell("", f"{len(replay):,} flights read again", records=len(replay))
        return check_replay(log, replay, parse_time(REPLAY_FROM, now_ms=0))

    def _add_member(self, name: str) -> Member:
        member = self._cleanup.enter_context(closing(Member(name, self._directory, self._server.address)))
        self._members.append(member)
        return member

    def _wait(self, done: Callable[[], bool]) -> None:
        """Until it is so, while nobody has died who should not."""
        while True:
            for member in self._members:
                member.look()
                member.check_alive()
            self._producing.check_alive()
            if done():
                return
            time.sleep(LOOK_SECONDS)

    def _lag(self) -> int:
        described = json.loads(run_logctl("groups", "describe", GROUP, server=self._server.address))
        return sum(partition["lag_records"] for partition in described["partitions"])


@contextmanager
def _interruptible() -> Iterator[None]:
    """Whatever wants to end us is raised here as an exception, so that nothing is left behind; a deadline too."""

    def interrupt(signal_number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    def give_up(signal_number: int, frame: FrameType | None) -> None:
        raise CommandError(
            f"The demo was not through after {SECONDS_MAX:.0f} s.",
            remedy="Try it on a machine that is less busy; if it hangs again, please report it.",
            code="TIMED_OUT",
        )

    handlers = dict.fromkeys(INTERRUPTS, interrupt) | {signal.SIGALRM: give_up}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    signal.setitimer(signal.ITIMER_REAL, SECONDS_MAX)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)


def _parse(lines: bytes) -> list[StoredRecord]:
    parsed = [json.loads(line) for line in lines.splitlines()]
    return [
        StoredRecord(row["partition"], row["offset"], row["timestamp_ms"], row["key"], row["value"]) for row in parsed
    ]


def _share_all(*members: Member) -> bool:
    """Each holds something, and together they hold every partition once."""
    held = [partition for member in members for partition in member.partitions]
    return all(member.partitions for member in members) and sorted(held) == list(range(PARTITIONS_COUNT))


def _named(member: Member) -> str:
    return ", ".join(map(str, sorted(member.partitions))) or "none"


def _styled(text: str, **style: Any) -> str:
    return click.style(text, **style) if is_coloured(sys.stdout) else text
