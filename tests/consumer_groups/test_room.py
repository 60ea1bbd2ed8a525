"""What the members of all groups bring together is counted, and has a bound."""

from dataclasses import replace
from typing import Any

import pytest

from consumer_groups.classic.requests import JoinRequest
from consumer_groups.config import GroupConfig
from consumer_groups.errors import InconsistentGroupProtocol, MemberIdRequired, Overloaded
from consumer_groups.member import MemberProtocol
from consumer_groups.room import Room
from logstore.errors import StorageFull
from tests.consumer_groups.classic_client import Client, running, stable
from tests.consumer_groups.harness import Member, World, start, turns
from tests.consumer_groups.model import brought_bytes, taken_bytes

BYTES_MAX = 6_000
CONFIG = GroupConfig(total_bytes_max=BYTES_MAX)
LARGE = tuple(f"{number:0100}" for number in range(15))
TOO_LARGE = tuple(f"{number:0100}" for number in range(60))


def saying(size: int) -> dict[str, Any]:
    return {"protocols": (MemberProtocol("range", bytes(size)),)}


def check_taken(world: World) -> None:
    assert taken_bytes(world.coordinator) == brought_bytes(world.coordinator)


def test_a_group_that_grows_takes_room_from_the_beginning_and_one_that_shrinks_gives_it_back_in_the_end() -> None:
    room = Room(10)
    room.take(6)
    with room.change(6, 2), room.change(0, 4):
        assert room.taken_bytes == 10
        with pytest.raises(Overloaded, match="take 10 bytes, and would 1 more; up to 10") as refused, room.change(0, 1):
            pass
        assert refused.value.retriable
    assert room.taken_bytes == 6


def test_what_has_failed_has_changed_nothing() -> None:
    room = Room(10)
    for sizes in ((0, 5), (5, 0)):
        with pytest.raises(StorageFull), room.change(*sizes):
            raise StorageFull("the disk is full", remedy="Free some space.")
    assert room.taken_bytes == 0


def test_who_does_not_add_to_it_is_not_refused_where_there_is_no_room() -> None:
    room = Room(10)
    room.take(11)
    with room.change(6, 6), room.change(5, 4):
        pass
    with pytest.raises(Overloaded), room.change(4, 5):
        pass


async def test_a_join_for_which_there_is_no_room_is_refused_and_who_leaves_makes_room() -> None:
    async with running(CONFIG) as world:
        a, b = world.member("a", topics=LARGE), Member(world, "b", topics=LARGE)
        await a.join()
        with pytest.raises(Overloaded, match="all groups"):
            await b.beat(group="other", subscription=TOO_LARGE, owned=())
        assert [row.group for row in world.coordinator.list_groups()] == ["g"]
        await b.beat(group="other", subscription=LARGE, owned=())
        with pytest.raises(Overloaded):
            await Client(world, "c", group="classic", **saying(100)).join()
        check_taken(world)
        await a.leave()
        await stable(Client(world, "c", **saying(100)))
        check_taken(world)


async def test_a_member_may_say_less_or_the_same_and_not_more_than_there_is_room_for() -> None:
    async with running(CONFIG) as world:
        a = world.member("a", topics=LARGE)
        await a.join()
        with pytest.raises(Overloaded):
            await a.beat(subscription=TOO_LARGE, owned=())
        await a.beat(subscription=LARGE, owned=())
        await a.beat(subscription=LARGE[:1], owned=())
        check_taken(world)
        await a.beat()


@pytest.mark.parametrize("protocol", ["consumer", "classic"])
async def test_a_member_that_is_fenced_makes_room(protocol: str) -> None:
    async with running(CONFIG) as world:
        if protocol == "consumer":
            await world.member("a", topics=LARGE).join()
        else:
            await stable(Client(world, "a", **saying(2_000)))
        assert taken_bytes(world.coordinator) > 2_000
        await world.pass_time(world.config.session_timeout_ms)
        assert taken_bytes(world.coordinator) == brought_bytes(world.coordinator) == 0


async def test_what_a_leader_assigns_takes_room_too_and_its_next_word_has_the_place_of_the_last() -> None:
    async with running(CONFIG) as world:
        a = Client(world, "a", protocol_type="connect", **saying(1_000))
        await stable_with(a, 2_000)
        check_taken(world)
        await a.join()
        with pytest.raises(Overloaded):
            await a.sync({a.member_id: bytes(5_000)})
        await a.sync({a.member_id: bytes(3_000)})
        check_taken(world)


async def stable_with(client: Client, size: int) -> None:
    joining = start(client.join())
    await turns()
    await client.world.pass_time(1)
    await joining
    await client.sync({client.member_id: bytes(size)})


async def test_ids_that_were_given_out_take_room_until_nobody_comes_with_them() -> None:
    async with running(CONFIG) as world:
        request = JoinRequest(member_id="", requires_member_id=True, **Client(world, "a" * 200).fields)
        for _ in range(100):
            try:
                await world.coordinator.join_group(request)
            except MemberIdRequired:
                continue
            except Overloaded:
                break
        check_taken(world)
        assert 0 < BYTES_MAX - taken_bytes(world.coordinator) < 400
        await world.pass_time(request.session_timeout_ms)
        assert taken_bytes(world.coordinator) == 0


async def test_a_group_that_is_deleted_or_changes_its_protocol_leaves_nothing_behind() -> None:
    async with running(CONFIG) as world:
        a = world.member("a", topics=LARGE)
        await a.join()
        with pytest.raises(InconsistentGroupProtocol):
            await Client(world, "b").join()
        await a.leave()
        b = Client(world, "b", **saying(2_000))
        await stable(b)
        check_taken(world)
        await b.leave()
        with pytest.raises(MemberIdRequired):
            await world.coordinator.join_group(
                JoinRequest(member_id="", requires_member_id=True, **Client(world, "c").fields)
            )
        await world.coordinator.delete_group("g")
        assert taken_bytes(world.coordinator) == 0


async def test_a_bound_that_was_lowered_refuses_nobody_who_is_there() -> None:
    async with running(CONFIG) as world:
        a, b = Client(world, "a", **saying(1_500)), Member(world, "b", topics=LARGE)
        await stable(a)
        await b.beat(group="other", subscription=LARGE, owned=())
        before = taken_bytes(world.coordinator)
        world.config = replace(world.config, total_bytes_max=1_000)
        await world.restart()
        assert taken_bytes(world.coordinator) == brought_bytes(world.coordinator) == before
        await a.heartbeat()
        await b.beat(group="other")
        with pytest.raises(Overloaded):
            await Member(world, "c").beat(group="third", subscription=("t",), owned=())


async def test_a_full_disk_takes_no_room() -> None:
    async with running(CONFIG) as world:
        world.journal.full_after = world.journal.appends
        for _ in range(3):
            with pytest.raises(StorageFull):
                await world.member("a", topics=LARGE).join()
        assert taken_bytes(world.coordinator) == 0
