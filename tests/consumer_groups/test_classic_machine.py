"""Random lives of classic members on a network, a server and a disk that cannot be relied on, against what must hold.

Members are Kafka's eager clients: they join, the leader assigns, all sync, heartbeat, commit, leave, die, and come back
under their instance id. They lose answers and repeat requests; some commit what they had in an older generation, or
what they never had. The server is killed, also in the middle of a write; the disk is full for a while; and the group is
sent elsewhere while it runs. Always:

    a generation has one leader, and its sync gives each member what that leader assigned to it, but for what is sought
    no two members of a generation have one partition
    no ticket is answered twice
    a commit is taken only from the newest generation, and one of what was sought only from a newer one than the seek's
    what is counted of what members bring is what they have brought, and no more than may be; also after a restart
    once faults stop, and there is room, the group gets stable, with everything assigned

A failure names its seed.
"""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest

from consumer_groups.classic.group import ClassicGroup
from consumer_groups.classic.requests import (
    Answer,
    JoinedMember,
    JoinReply,
    JoinRequest,
    Leaver,
    SyncRequest,
)
from consumer_groups.config import GroupConfig
from consumer_groups.errors import (
    FencedInstanceId,
    GroupError,
    MemberIdRequired,
    UnknownMemberId,
)
from consumer_groups.requests import (
    CONSUMER,
    Assignment,
    Committer,
    GroupState,
    OffsetCommit,
    SeekTarget,
    SoughtPartition,
)
from logstore.errors import LogStoreError
from tests.consumer_groups.classic_client import assignment, partitions_of, protocol
from tests.consumer_groups.fakes import Crash
from tests.consumer_groups.harness import World, start, turns
from tests.consumer_groups.model import brought_bytes, taken_bytes

CONFIG = GroupConfig(members_max=6, session_timeout_ms_min=1, seek_timeout_ms=20_000)
#: For three members or so, with what they are assigned.
TIGHT_BYTES = 2_500
PARTITIONS = frozenset(range(4))
SESSION_MS, REBALANCE_MS = 10_000, 30_000
#: A member by its instance id, or else by its member id: a static one that comes back is the same.
Who = str


@dataclass
class Generation:
    """What is known of one generation from what members were told."""

    leader: Who | None = None
    #: Each plan that its leader has sent, of which one was taken.
    plans: list[dict[Who, frozenset[int]]] = field(default_factory=list)
    told: dict[Who, frozenset[int]] = field(default_factory=dict)


class Client:
    def __init__(self, simulation: "Simulation", name: str, instance_id: str) -> None:
        self.simulation = simulation
        self.name = name
        self.instance_id = instance_id
        self.member_id = ""
        self.generation = -1
        self.joined: JoinReply | None = None
        self.owned: frozenset[int] | None = None
        self.topics: tuple[str, ...] = ("t",)
        self.task: asyncio.Task[None] | None = None
        self.gone = False
        self.newer_versions = simulation.random.random() < 0.5
        #: Members and generations that it was.
        self.past: list[tuple[str, int]] = []

    def act(self) -> None:
        """Send the next request, unless one is on its way."""
        if self.task is None and not self.gone:
            self.task = start(self._live())

    def lose_answer(self) -> None:
        if self.task is not None:
            self.task.cancel()

    async def _live(self) -> None:
        try:
            if self.joined is None:
                await self._join()
            elif self.owned is None:
                await self._sync()
            else:
                await self._work()
        except MemberIdRequired as required:
            self.member_id = required.member_id
        except FencedInstanceId:
            self._lose()
            self.gone = True
        except UnknownMemberId:
            self._lose()
            self.member_id = ""
        except (GroupError, LogStoreError, Crash, asyncio.CancelledError):
            self._lose()
        except BaseException as error:
            self.simulation.errors.append(error)
        finally:
            self.task = None

    def _lose(self) -> None:
        if self.joined is not None:
            self.past.append((self.member_id, self.generation))
        self.joined = self.owned = None

    async def _join(self) -> None:
        reply = await self.simulation.world.coordinator.join_group(
            JoinRequest(
                group="g",
                member_id=self.member_id,
                protocol_type=CONSUMER,
                protocols=(protocol("range", *self.topics),),
                session_timeout_ms=SESSION_MS,
                rebalance_timeout_ms=REBALANCE_MS,
                instance_id=self.instance_id,
                client_id=self.name,
                requires_member_id=self.newer_versions,
                can_skip_assignment=self.newer_versions,
            )
        )
        self.member_id, self.generation, self.joined = reply.member_id, reply.generation, reply
        self.simulation.has_joined(self, reply)

    async def _sync(self) -> None:
        assert self.joined is not None
        plan: dict[str, bytes] = {}
        if self.joined.leader == self.member_id and not self.joined.skip_assignment:
            plan = self.simulation.plan(self.generation, self.joined.members)
        reply = await self.simulation.world.coordinator.sync_group(
            SyncRequest("g", self.member_id, self.generation, self.instance_id, CONSUMER, "range", plan)
        )
        self.owned = frozenset(partitions_of(reply.assignment))
        self.simulation.has_synced(self)

    async def _work(self) -> None:
        assert self.owned is not None
        rng, coordinator = self.simulation.random, self.simulation.world.coordinator
        if self.owned and rng.random() < 0.5:
            await self.commit(rng.choice(sorted(self.owned)), self.member_id, self.generation)
        elif rng.random() < 0.05 and not self.simulation.is_calm:
            await coordinator.leave_group("g", [Leaver(self.member_id, self.instance_id)])
            self._lose()
            self.member_id, self.gone = "", rng.random() < 0.5
        elif rng.random() < 0.1 and not self.simulation.is_calm:
            self.topics = rng.choice([("t",), ("t", "u")])
            self._lose()
        else:
            await coordinator.classic_heartbeat("g", self.member_id, self.generation, self.instance_id)

    async def commit(self, number: int, member_id: str, generation: int) -> None:
        world = self.simulation.world
        offset = self.simulation.random.randrange(100)
        least = max(self.simulation.newest, self.simulation.sought_in.get(number, -1) + 1)
        results = await world.coordinator.commit_offsets(
            "g",
            Committer(member_id, generation, instance_id=self.instance_id),
            [OffsetCommit("t", number, offset)],
        )
        if results[0] is None:  # Of generation -1: from outside, while the group is empty.
            assert generation >= least or generation < 0, (
                f"a commit of generation {generation}, when it should be {least}"
            )

    @property
    def who(self) -> Who:
        return self.instance_id or self.member_id


class Simulation:
    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        delay_ms = self.random.choice([0, 1_000])
        config = GroupConfig(
            members_max=CONFIG.members_max,
            initial_rebalance_delay_ms=delay_ms,
            session_timeout_ms_min=CONFIG.session_timeout_ms_min,
            seek_timeout_ms=CONFIG.seek_timeout_ms,
            journal_records_max=self.random.choice([20, 20_000]),
            total_bytes_max=self.random.choice([TIGHT_BYTES, CONFIG.total_bytes_max]),
        )
        self.world = World(config)
        self.clients: list[Client] = []
        self.generations: dict[int, Generation] = {}
        self.newest = 0
        self.is_calm = False
        self.steps = 0
        self.seek: asyncio.Task[list[SoughtPartition]] | None = None
        #: In which generation the last seek of a partition was done, and the last that was about to be done.
        self.sought_in: dict[int, int] = {}
        self.seek_in = -1
        self.answered: set[int] = set()
        #: What members found wrong.
        self.errors: list[BaseException] = []

    # What members were told.

    def has_joined(self, client: Client, reply: JoinReply) -> None:
        self.newest = max(self.newest, reply.generation)
        generation = self.generations.setdefault(reply.generation, Generation())
        if reply.members:
            assert generation.leader in (None, client.who), "a generation has one leader"
            generation.leader = client.who

    def plan(self, number: int, members: tuple[JoinedMember, ...]) -> dict[str, bytes]:
        """Some way of sharing all that there is; sometimes with one left out."""
        generation = self.generations[number]
        readers = list(members)
        self.random.shuffle(readers)
        if len(readers) > 1 and self.random.random() < 0.2 and not self.is_calm:
            readers.pop()
        shares = {
            member.member_id: frozenset(sorted(PARTITIONS)[i :: len(readers)]) for i, member in enumerate(readers)
        }
        whose = {member.member_id: member.instance_id or member.member_id for member in members}
        generation.plans.append({whose[member_id]: share for member_id, share in shares.items()})
        return {member_id: assignment({"t": sorted(share)}) for member_id, share in shares.items()}

    def has_synced(self, client: Client) -> None:
        assert client.owned is not None
        generation = self.generations[client.generation]
        before = generation.told.setdefault(client.who, client.owned)
        assert before == client.owned, "what a member has in a generation does not change"
        fitting = [
            plan
            for plan in generation.plans
            if all(told <= plan.get(who, frozenset()) for who, told in generation.told.items())
        ]
        assert fitting, f"generation {client.generation} has {generation.told}, of {generation.plans}"
        generation.plans = fitting
        shares = list(generation.told.values())
        assert sum(map(len, shares)) == len(frozenset[int]().union(*shares)), "a partition is one member's"

    def take_answers(self, group: ClassicGroup) -> list[tuple[int, Answer]]:
        answers = group._answers
        group._answers = []
        for ticket, _ in answers:
            assert ticket not in self.answered, "a ticket is answered once"
            self.answered.add(ticket)
        return answers

    # What happens.

    async def run(self, steps: int) -> None:
        await self.world.coordinator.start()
        for _ in range(steps):
            self.steps += 1
            await self.step()
        await self.settle()
        await self.world.coordinator.stop()

    async def step(self) -> None:
        clients = [client for client in self.clients if not client.gone]
        match self.random.choices(
            ["act", "come", "die", "lose", "time", "stray", "seek", "restart", "crash", "full"],
            [60, 6, 2, 4, 12, 6, 3, 2, 1, 1],
        )[0]:
            case "act" if clients:
                for client in self.random.sample(clients, self.random.randint(1, len(clients))):
                    client.act()
            case "come" if len(clients) < CONFIG.members_max:
                self.come()
            case "die" if clients:  # Silently: only its session tells.
                client = self.random.choice(clients)
                client.lose_answer()
                client.gone = True
            case "lose" if clients:
                self.random.choice(clients).lose_answer()
            case "time":
                await self.world.pass_time(self.random.choice([10, 1_000, 1_000, 3_000, 9_999, 30_000]))
            case "stray" if self.clients:
                await self.commit_stray(self.random.choice(self.clients))
            case "seek" if self.seek is None and self.world.coordinator.list_groups():
                self.seek = start(self.seek_group())
            case "restart":
                await self.restart()
            case "crash":
                self.world.journal.crash_after = self.world.journal.appends + self.random.randint(0, 2)
                self.world.journal.crash_keeps_last = self.random.random() < 0.5
                for client in clients:
                    client.act()
                await turns()
                await self.restart()
            case "full":
                self.world.journal.full_after = self.world.journal.appends
                for client in clients:
                    client.act()
                await turns()
                self.world.journal.full_after = None
        await turns()
        for error in self.errors:
            raise error
        self.check_taken()

    def check_taken(self) -> None:
        world = self.world
        assert taken_bytes(world.coordinator) == brought_bytes(world.coordinator) <= world.config.total_bytes_max

    def come(self) -> None:
        taken = {client.instance_id for client in self.clients if not client.gone}
        # Also ids of those who are gone, or who run still: then the older one is fenced.
        instance_id = self.random.choice(["", "", "i", "j"])
        if instance_id in taken and self.random.random() < 0.7:
            instance_id = ""
        self.clients.append(Client(self, f"m{len(self.clients)}", instance_id))

    async def commit_stray(self, client: Client) -> None:
        """A commit that no client with its wits sends: of something else, or of another time."""
        member_id, generation = self.random.choice([*client.past, (client.member_id, client.generation)])
        task = start(client.commit(self.random.choice(sorted(PARTITIONS)), member_id, generation))
        with suppress(GroupError, LogStoreError, Crash):
            await task

    async def seek_group(self) -> list[SoughtPartition]:
        try:
            self.seek_in = -1
            numbers = self.random.sample(sorted(PARTITIONS), self.random.randint(1, 4))
            sought = await self.world.coordinator.seek("g", "t", numbers, SeekTarget(offset=50), False)
            for partition in sought:
                self.sought_in[partition.partition] = self.seek_in
            return sought
        except (GroupError, LogStoreError, Crash):
            return []
        finally:
            self.seek = None

    async def restart(self) -> None:
        await self.world.restart()
        self.check_taken()
        self.answered.clear()
        await turns()

    # What must come to pass.

    async def settle(self) -> None:
        """Nothing goes wrong any more: those who are there get the group stable."""
        self.is_calm = True
        self.world.config = replace(self.world.config, total_bytes_max=CONFIG.total_bytes_max)
        await self.restart()
        if not any(not client.gone for client in self.clients):
            self.come()
        for _ in range(100):
            for client in self.clients:
                client.act()
            await self.world.pass_time(1_000)
            for error in self.errors:
                raise error
            if self.seek is None and self.is_settled():
                break
        living = [client for client in self.clients if not client.gone]
        assert self.is_settled(), [(client.who, client.generation, client.owned) for client in living]

    def is_settled(self) -> bool:
        living = [client for client in self.clients if not client.gone]
        group = next(iter(self.world.coordinator.list_groups()), None)
        shares = [client.owned or frozenset() for client in living]
        return (
            group is not None
            and group.state is GroupState.STABLE
            and group.members_count == len(living)
            and {client.generation for client in living} == {self.newest}
            and frozenset[int]().union(*shares) == PARTITIONS
        )


@pytest.fixture
def simulation(monkeypatch: pytest.MonkeyPatch) -> type[Simulation]:
    """Simulations, of which one at a time sees what the state machine answers."""
    current: list[Simulation] = []

    class Watching(Simulation):
        def __init__(self, seed: int) -> None:
            super().__init__(seed)
            current[:] = [self]

    give_back = ClassicGroup.give_back

    def watched_give_back(group: ClassicGroup, partitions: Assignment, now_ms: int) -> None:
        # A generation that has begun and is not assigned yet is the next already.
        current[0].seek_in = group.generation - (group.state is GroupState.COMPLETING_REBALANCE)
        give_back(group, partitions, now_ms)

    monkeypatch.setattr(ClassicGroup, "take_answers", lambda group: current[0].take_answers(group))
    monkeypatch.setattr(ClassicGroup, "give_back", watched_give_back)
    return Watching


async def lives(simulation: type[Simulation], seeds: range, steps: int) -> None:
    for seed in seeds:
        try:
            async with asyncio.timeout(60):
                await simulation(seed).run(steps)
        except BaseException as error:
            error.add_note(f"seed {seed}, {steps} steps")
            raise


async def test_lives_of_members(simulation: type[Simulation]) -> None:
    await lives(simulation, range(12), 80)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1_000, 1_400, 50))
async def test_many_lives_of_members(simulation: type[Simulation], first: int) -> None:
    await lives(simulation, range(first, first + 50), 200)
