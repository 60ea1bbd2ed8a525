"""What the bugs of `planted` are in the server and in consumer groups, each as the patches that make it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc.aio

from consumer_groups.coordinator import GroupCoordinator
from consumer_groups.group import Group
from logserver.appends import PendingAcks
from logserver.journal import TopicJournal
from logstore import linux_disk
from logstore.batch import Buffer, Record, encode_batch
from logstore.clock import SystemClock, WallClockPast
from logstore.disk import DiskLock
from logstore.errors import StorageFailed
from logstore.linux_disk import LinuxDisk
from logstore.log import Appended, Log
from logstore.producers import ProducerState, ProducerStates
from logstore.sync import Synchronizer, SyncWork
from tests.faults.bugs.storage_bugs import Patch, do_nothing

# Acknowledging.


def ack_before_sync(patch: Patch) -> None:
    patch(PendingAcks, "wait", do_nothing)


def ack_after_failed_sync(patch: Patch) -> None:
    perform = Synchronizer.perform

    def perform_and_hope(synchronizer: Synchronizer, work: SyncWork) -> None:
        try:
            perform(synchronizer, work)
        except StorageFailed:
            return

    patch(Synchronizer, "perform", perform_and_hope)


def take_full_for_broken(patch: Patch) -> None:
    patch(linux_disk, "_FULL", ())


# Idempotent producers.


def forget_batches(patch: Patch) -> None:
    patch(ProducerState, "find", do_nothing)


def append_duplicates(patch: Patch) -> None:
    patch(ProducerStates, "check", do_nothing)


def forget_producers_at_start(patch: Patch) -> None:
    init = Log.__init__

    def init_without(log: Log, *arguments: Any, **named: Any) -> None:
        init(log, *arguments, **named)
        known = log._producers
        log._producers = ProducerStates(producers_max=known._producers_max, next_offset=known.next_offset)

    patch(Log, "__init__", init_without)
    # And who is not known may begin anywhere.
    patch(ProducerStates, "_check_unknown", do_nothing)


# Clocks.


def keep_sessions_by_wall_clock(patch: Patch) -> None:
    def monotonic_ms(clock: SystemClock) -> int:
        return clock.wall_ms()

    patch(SystemClock, "monotonic_ms", monotonic_ms)


def tell_age_by_wall_clock(patch: Patch) -> None:
    def ago(past: WallClockPast, age_ms: int) -> int:
        return past._clock.wall_ms() - age_ms

    patch(WallClockPast, "ago", ago)


def let_append_times_go_back(patch: Patch) -> None:
    append = Log.append

    def append_at_wall_time(log: Log, batch: Buffer, now_ms: int) -> Appended:
        log._last_append_ms = -1
        return append(log, batch, now_ms)

    patch(Log, "append", append_at_wall_time)


# Groups.


def accept_stale_commits(patch: Patch) -> None:
    def say_yes(*arguments: object) -> bool:
        return True

    patch(Group, "check_committer", do_nothing)
    patch(Group, "may_commit", say_yes)


def reset_offsets_at_start(patch: Patch) -> None:
    start = GroupCoordinator.start

    async def start_from_zero(coordinator: GroupCoordinator) -> None:
        await start(coordinator)
        for live in coordinator._groups.all():
            for partition in list(live.offsets):
                value = live.offsets.get(partition)
                assert value is not None
                live.offsets.put(partition, replace(value, offset=0), live.offsets.ticket())

    patch(GroupCoordinator, "start", start_from_zero)


def answer_before_journal(patch: Patch) -> None:
    async def write(journal: TopicJournal, records: Sequence[tuple[bytes, bytes | None]]) -> None:
        now_ms = journal._clock.wall_ms()
        batch = encode_batch([Record(0, now_ms, key, value) for key, value in records])
        journal._log.append(batch, now_ms)

    patch(TopicJournal, "append", write)


# Starting.


class _NoLock:
    def release(self) -> None:
        pass


def lock_nothing(patch: Patch) -> None:
    def lock(disk: LinuxDisk, path: Path) -> DiskLock:
        return _NoLock()

    patch(LinuxDisk, "lock", lock)


def share_port(patch: Patch) -> None:
    make_server = grpc.aio.server

    def make_server_that_shares(**named: Any) -> grpc.aio.Server:
        options = [option for option in named.pop("options") if option[0] != "grpc.so_reuseport"]
        return make_server(options=[*options, ("grpc.so_reuseport", 1)], **named)

    patch(grpc.aio, "server", make_server_that_shares)
