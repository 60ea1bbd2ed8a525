"""Identity: what must not be handed out twice is on disk before it is handed out, whenever the power goes."""

import random
from pathlib import Path

import pytest

from logstore.documents import write_document
from logstore.errors import FormatTooNew, MetadataCorrupt, StorageFull
from logstore.identity import FORMAT_VERSION, META, Identity
from tests.logstore.disk import PowerCut, SimulatedDisk

DATA = Path("/data")


def new_disk() -> SimulatedDisk:
    disk = SimulatedDisk()
    disk.make_dir(DATA)
    return disk


def new_identity(disk: SimulatedDisk, seed: int = 0) -> Identity:
    return Identity.create(DATA, disk, random=random.Random(seed).randbytes)


def test_an_identity_is_the_same_after_a_restart() -> None:
    disk = new_disk()
    made = new_identity(disk)

    found = Identity.load(DATA, disk.kill())

    assert (found.cluster_id, found.node_id, found.leader_epoch) == (made.cluster_id, 1, 0)
    assert len(made.cluster_id) == 22
    assert new_identity(new_disk(), seed=1).cluster_id != made.cluster_id


def test_producer_ids_are_never_handed_out_twice_wherever_the_power_goes() -> None:
    for seed in range(60):
        rng = random.Random(seed)
        disk = new_disk()
        new_identity(disk)
        handed_out: list[int] = []
        for _ in range(4):
            disk = disk.crash(rng) if rng.random() < 0.7 else disk.kill()
            identity = Identity.load(DATA, disk)
            disk.cut_power_after(rng.randrange(40))
            try:
                for _ in range(rng.randrange(30)):
                    handed_out.append(identity.next_producer_id(block=3))
            except PowerCut:
                pass
        assert len(set(handed_out)) == len(handed_out), f"seed {seed}"


def test_a_block_of_producer_ids_costs_one_write() -> None:
    disk = new_disk()
    identity = new_identity(disk)
    syncs_count = len(disk.syncs)

    assert [identity.next_producer_id(block=10) for _ in range(10)] == list(range(10))

    assert disk.syncs[syncs_count:] == ["sync meta.new", "sync_dir data"]


def test_a_full_disk_hands_out_no_producer_id() -> None:
    disk = new_disk()
    identity = new_identity(disk)
    disk.capacity_bytes = 0
    for _ in range(2):
        with pytest.raises(StorageFull):
            identity.next_producer_id(block=10)
    disk.capacity_bytes = None

    assert identity.next_producer_id(block=10) == 0
    assert Identity.load(DATA, disk.kill()).next_producer_id(block=10) == 10


def test_the_leader_epoch_is_on_disk_when_it_is_raised() -> None:
    disk = new_disk()
    identity = new_identity(disk)
    identity.raise_leader_epoch()

    for seed in range(10):
        assert Identity.load(DATA, disk.crash(random.Random(seed))).leader_epoch == 1


def test_an_identity_that_lacks_a_field_is_refused() -> None:
    disk = new_disk()
    write_document(disk, DATA / META, kind="meta", version=FORMAT_VERSION, content={"cluster_id": "x"})
    with pytest.raises(MetadataCorrupt, match="node_id"):
        Identity.load(DATA, disk)


def test_an_identity_of_a_newer_version_is_refused() -> None:
    disk = new_disk()
    write_document(disk, DATA / META, kind="meta", version=FORMAT_VERSION + 1, content={})
    with pytest.raises(FormatTooNew):
        Identity.load(DATA, disk)
