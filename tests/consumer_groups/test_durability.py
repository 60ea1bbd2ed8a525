"""What outlives the process: nothing that was answered is lost, and nothing is decided twice."""

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import suppress

import pytest

from consumer_groups.config import GroupConfig
from consumer_groups.errors import (
    FencedMemberEpoch,
    GroupError,
    GroupsUnavailable,
    JournalUnreadable,
    UnknownMemberId,
)
from consumer_groups.journal_records import GroupEpochs, GroupKey, HoldingKey, decode
from consumer_groups.live import LiveGroups
from consumer_groups.requests import GroupState, SeekTarget
from logstore.errors import StorageFull
from tests.consumer_groups.fakes import MemoryJournal, Record
from tests.consumer_groups.harness import Member, World, running, settle, start, turns


async def test_members_go_on_in_their_epochs_after_a_restart() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b", instance_id="one")
        await a.join()
        await b.join()
        await settle(a, b)
        before = await world.coordinator.describe_group("g")
        records = list(world.journal.records)
        await world.restart()
        assert await world.coordinator.describe_group("g") == before
        await a.beat()
        assert await a.commit(0, 5) is None
        assert await b.commit(2, 5) is None
        assert world.journal.records[: len(records)] == records
        assert len(world.journal.records) == len(records) + 2, "a restart by itself writes nothing"


async def test_a_member_on_its_way_goes_on_from_where_it_was() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await a.join()
        await a.acknowledge()
        await b.join()
        await a.beat()
        await world.restart()
        assert await a.commit(2, 5) is None, "it has still not said that it gave it up"
        await b.beat()
        assert b.partitions == []
        await a.acknowledge()
        await b.beat()
        assert b.partitions == [2, 3]


async def test_sessions_start_afresh_with_the_server() -> None:
    async with running() as world:
        a = world.member("a")
        await a.join()
        await world.pass_time(44_000)
        await world.restart()
        await world.pass_time(44_999)
        await a.beat()
        await world.restart()
        await world.pass_time(45_000)
        with pytest.raises(UnknownMemberId):
            await a.beat()


async def test_time_to_give_up_starts_afresh_too_and_still_ends() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await a.join()
        await a.acknowledge()
        held = a.assignment
        await b.join()
        await a.beat()
        await world.restart()
        for _ in range(59):
            await world.pass_time(1_000)
            await a.beat(owned=held)
            await b.beat()
        await world.pass_time(1_000)
        with pytest.raises(UnknownMemberId):
            await a.beat(owned=held)


async def test_what_a_newer_version_wrote_is_refused_at_start() -> None:
    world = World()
    world.journal = MemoryJournal([(json.dumps({"v": 2, "kind": "group", "group": "g"}).encode(), None)])
    with pytest.raises(JournalUnreadable, match="version 2"):
        await world._new().start()


async def test_a_full_disk_refuses_what_it_cannot_write_and_nothing_else() -> None:
    async with running() as world:
        a = world.member("a")
        await a.join()
        await a.acknowledge()
        before = await world.coordinator.describe_group("g")
        world.journal.full_after = world.journal.appends
        with pytest.raises(StorageFull):
            await a.commit(0, 5)
        with pytest.raises(StorageFull):
            await world.member("b").join()
        with pytest.raises(StorageFull):
            await a.leave()
        await a.beat()  # nothing to write
        assert await world.coordinator.describe_group("g") == before
        assert await world.offsets() == {}
        world.journal.full_after = None
        assert await a.commit(0, 5) is None
        await world.member("b").join()


async def test_members_that_a_full_disk_kept_from_being_fenced_are_fenced_later() -> None:
    async with running() as world:
        a = world.member("a")
        await a.join()
        world.journal.full_after = world.journal.appends
        await world.pass_time(45_000)
        assert (await world.coordinator.describe_group("g")).members
        world.journal.full_after = None
        await world.pass_time(1_000)
        assert not (await world.coordinator.describe_group("g")).members


async def test_after_a_journal_failure_everything_is_refused_and_who_waits_is_told() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await a.join()
        await a.acknowledge()
        waiting = start(a.beat(wait_ms=5_000))
        await turns()
        world.journal.crash_after = world.journal.appends
        with pytest.raises(GroupsUnavailable):
            await b.join()
        with pytest.raises(GroupsUnavailable):
            await waiting
        for refused in (a.beat(), a.commit(0, 1), world.offsets(), b.join()):
            with pytest.raises(GroupsUnavailable) as caught:
                await refused
            assert "Restart" in caught.value.remedy


class StuckJournal(MemoryJournal):
    """Never says whether it has written."""

    async def append(self, records: Sequence[Record]) -> None:
        await asyncio.Event().wait()


async def test_a_write_that_is_cancelled_half_way_ends_as_cancelled_and_nothing_is_decided_on_it() -> None:
    world = World()
    groups = LiveGroups(StuckJournal(), world.topics, world.clock, world.config)
    writing = start(groups.append([(GroupKey("g"), GroupEpochs(1, 1))]))
    await turns()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    with pytest.raises(GroupsUnavailable, match="CancelledError"):
        groups.check_journal()


# A crash at every write.


class Story:
    """Members come and go, commit and are sought elsewhere, one of them static. Tells what was promised to them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.members: list[Member] = []
        #: What was acknowledged, and what else the last call may have made of it.
        self.committed: dict[int, int] = {}
        self.tried: dict[int, int] = {}

    async def run(self) -> None:
        a = await self.join("a")
        await self.commit(a, 0, 10)
        b = await self.join("b", instance_id="one")
        await self.commit(b, 3, 11)
        c = await self.join("c")
        await self.seek(5, *c.partitions)
        await self.commit(c, c.partitions[0], 12)
        await b.step_away()
        b.member_id = "b2"
        await b.join()
        await settle(*self.members)
        await a.leave()
        self.members.remove(a)
        await settle(*self.members)
        await self.commit(b, b.partitions[0], 13)
        await self.seek(6)

    async def join(self, member_id: str, *, instance_id: str = "") -> Member:
        member = self.world.member(member_id, instance_id=instance_id)
        self.members.append(member)
        await member.join()
        await settle(*self.members)
        return member

    async def commit(self, member: Member, number: int, offset: int) -> None:
        self.tried = {**self.committed, number: offset}
        assert await member.commit(number, offset) is None
        self.committed = self.tried

    async def seek(self, offset: int, *numbers: int) -> None:
        self.tried = {**self.committed, **dict.fromkeys(numbers or range(4), offset)}
        sought = start(self.world.coordinator.seek("g", "t", numbers, SeekTarget(offset=offset), False))
        try:
            await turns()
            await settle(*self.members)
        finally:
            await sought
        self.committed = self.tried


async def go_on(member: Member) -> None:
    """After lost answers: a full heartbeat, and whoever is not known any more joins again."""
    if member.epoch == 0:
        await member.join()
        return
    try:
        await member.beat(subscription=member.topics, owned=member.assignment)
    except (FencedMemberEpoch, UnknownMemberId):
        await member.join()


@pytest.mark.parametrize(
    "records_max",
    [pytest.param(20_000, id="as it is", marks=pytest.mark.slow), pytest.param(8, id="written anew all the time")],
)
async def test_a_crash_at_any_write_loses_nothing_and_the_group_settles(records_max: int) -> None:
    config = GroupConfig(assignment_interval_ms=0, journal_records_max=records_max)
    async with running(config) as world:
        story = Story(world)
        await story.run()
        writes = world.journal.appends
        assert (world.journal.forgotten_count >= 3) == (records_max == 8)
    assert writes > 30
    for crash_after in range(writes):
        for kept in (True, False):
            async with running(config) as world:
                world.journal.crash_after = crash_after
                world.journal.crash_keeps_last = kept
                story = Story(world)
                with suppress(GroupsUnavailable):
                    await story.run()
                    assert records_max == 8, "only what is written anew can fail without anybody hearing of it"
                assert world.journal.appends == crash_after + 1, "nothing is written after a failure"
                await world.restart()
                await check_and_go_on(world, story)


async def check_and_go_on(world: World, story: Story) -> None:
    try:
        assert await world.offsets() in (story.committed, story.tried)
        held = [
            number
            for row in (await world.coordinator.describe_group("g")).members
            for topic in row.assignment
            for number in topic.partitions
        ]
        assert len(held) == len(set(held)), "two owners"
    except GroupError:
        assert not story.committed
    members = story.members
    for member in members:
        await go_on(member)
    await settle(*members)
    # Whoever left without its leaving being written is fenced in time.
    for _ in range(46):
        await world.pass_time(1_000)
        for member in members:
            await member.beat()
    await settle(*members)
    description = await world.coordinator.describe_group("g")
    assert description.state is GroupState.STABLE
    assert sorted(number for member in members for number in member.partitions) == [0, 1, 2, 3]
    loads = [len(member.partitions) for member in members]
    assert max(loads) - min(loads) <= 1


@pytest.mark.parametrize("seed", range(60))
async def test_a_journal_that_lost_records_anywhere_starts_and_gives_each_partition_one_owner(seed: int) -> None:
    rng = random.Random(seed)
    async with running() as world:
        members = [world.member(f"m{number}", instance_id=f"i{number}" if number % 2 else "") for number in range(4)]
        joined: list[Member] = []
        for _ in range(12):
            step = rng.random()
            waiting = [member for member in members if member not in joined]
            if waiting and step < 0.5:
                await waiting[0].join()
                joined.append(waiting[0])
            elif joined and step < 0.7:
                await joined.pop(rng.randrange(len(joined))).leave()
            elif joined:
                await rng.choice(joined).acknowledge()
            for member in joined:
                await member.catch_up()
        first = rng.randrange(len(world.journal.records))
        del world.journal.records[first : first + rng.randint(1, 8)]
        await world.restart()
        for member in members:
            await member.join()
        await settle(*members)
        assert sorted(number for member in members for number in member.partitions) == [0, 1, 2, 3]
        described = await world.coordinator.describe_group("g")
        assert described.state is GroupState.STABLE


async def test_of_two_that_hold_a_partition_after_a_loss_the_one_of_the_older_epoch_is_out() -> None:
    async with running() as world:
        a, b = world.member("a"), world.member("b")
        await a.join()
        await a.acknowledge()
        count = len(world.journal.records)
        await b.join()
        await settle(a, b)
        lost = HoldingKey("g", "a")
        world.journal.records[count:] = [
            record for record in world.journal.records[count:] if decode(*record)[0] != lost
        ]
        await world.restart()
        with pytest.raises(UnknownMemberId):
            await a.beat()
        await a.join()
        await settle(a, b)
        assert sorted(a.partitions + b.partitions) == [0, 1, 2, 3]
        assert await b.commit(b.partitions[0], 5) is None
