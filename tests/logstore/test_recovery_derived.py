"""Recovery of what is derived from a log, and of its snapshot: idempotent producers and leader epochs."""

import pytest

from logstore import files
from logstore.batch import HEADER_SIZE
from logstore.epochs import LeaderEpochs
from logstore.errors import DataLoss
from logstore.producers import ProducerStates
from logstore.snapshot import Snapshot, encode_snapshot
from tests.logstore.disk import SimulatedDisk
from tests.logstore.partition import TOPIC_ID, Partition, batch_of
from tests.logstore.recovered import SMALL, WIDE, active_path, read_around_holes, reopened, simulated, with_batches


@pytest.mark.parametrize("snapshot", ["kept", "missing", "damaged"])
@pytest.mark.parametrize("clean", [True, False])
def test_a_batch_sent_again_after_a_restart_is_known(snapshot: str, clean: bool) -> None:
    partition = Partition(SimulatedDisk(), config=SMALL)
    sent = [batch_of(b"value %d" % number, producer_id=5, sequence=number) for number in range(7)]
    originals = [partition.log.append(batch, partition.clock.wall_ms()) for batch in sent]
    partition.sync_now()
    if clean:
        partition.close()
    path = partition.directory / files.SNAPSHOT
    disk = simulated(partition).kill()
    if snapshot == "missing":
        disk.remove(path)
    elif snapshot == "damaged" and disk.exists(path):
        disk.flip_bit(path, 12)
    after = Partition(disk, config=SMALL)
    again = after.log.append(sent[-1], after.clock.wall_ms())
    assert again == originals[-1]._replace(duplicate=True)
    assert after.append(b"next", producer_id=5, sequence=7).base_offset == 7


def test_a_batch_that_recovery_cut_is_not_taken_for_written() -> None:
    partition = Partition(SimulatedDisk(), config=WIDE)
    partition.append(b"kept", producer_id=5, sequence=0)
    partition.sync_now()
    kept = partition.log.size_bytes
    sent = batch_of(b"cut", producer_id=5, sequence=1)
    partition.log.append(sent, partition.clock.wall_ms())
    disk = simulated(partition).kill()
    disk.flip_bit(active_path(partition), kept + HEADER_SIZE)
    after = Partition(disk, config=WIDE)
    assert after.log.append(sent, after.clock.wall_ms()) == (1, 1, False)


@pytest.mark.parametrize("position", [7, 44, 56, HEADER_SIZE])  # offset, producer, sequence, records
def test_producers_are_not_made_of_a_batch_that_is_damaged(position: int) -> None:
    """What the snapshot does not cover is read again, and may have rotted meanwhile."""
    partition = Partition(SimulatedDisk(), config=SMALL)
    for sequence in range(12):
        partition.append(b"value %d" % sequence, producer_id=5, sequence=sequence)
        partition.sync_now()
    assert partition.log.segments_count > 2
    disk = simulated(partition).kill()
    disk.flip_bit(partition.log._segments[1].path, position, 1)
    after = Partition(disk, config=SMALL)
    assert after.findings.holes
    assert after.findings.holes[0].offset == partition.log._segments[1].base_offset
    with pytest.raises(DataLoss):
        after.append(b"value 12", producer_id=5, sequence=12)


def test_leader_epochs_are_kept_and_end_where_the_next_began() -> None:
    partition = with_batches(2)
    first = partition.log.leader_epoch
    after = reopened(partition)
    assert after.log.leader_epoch > first
    assert after.log.epoch_end_offset(first) == (first, 4)
    after.append(b"of the second epoch")
    after.sync_now()
    second = after.log.leader_epoch
    disk = simulated(after).kill()
    disk.remove(after.directory / files.SNAPSHOT)  # it is derived
    again = Partition(disk, config=WIDE)
    assert again.log.epoch_end_offset(first) == (first, 4)
    assert again.log.epoch_end_offset(second) == (second, 5)
    assert again.log.epoch_end_offset(second + 100) == (second, 5)
    assert again.log.epoch_end_offset(first - 1) == (-1, -1)


@pytest.mark.parametrize("stored", ["kept", "missing", "damaged"])
def test_leader_epochs_survive_a_clean_stop_with_their_file_or_without(stored: str) -> None:
    partition = with_batches(2)
    first = partition.log.leader_epoch
    partition.close()
    second = Partition(simulated(partition).kill(), config=WIDE)
    second.append(b"of the second")
    second.close()
    disk = simulated(second).kill()
    if stored == "missing":
        disk.remove(second.directory / files.SNAPSHOT)
    elif stored == "damaged":
        disk.flip_bit(second.directory / files.SNAPSHOT, 30)
    again = Partition(disk, config=WIDE)
    assert again.log.epoch_end_offset(first) == (first, 4)
    assert again.log.epoch_end_offset(second.log.leader_epoch) == (second.log.leader_epoch, 5)


@pytest.mark.parametrize("clean", [True, False])
def test_a_log_that_ends_before_its_snapshot_has_lost_something(clean: bool) -> None:
    """It was written when all that it covers was synced, so this is no torn tail, though no checkpoint says so yet."""
    partition = with_batches(2)
    disk = simulated(partition).kill()
    partition.append(b"never here", producer_id=5, sequence=0)
    disk.replace_file(partition.directory / files.SNAPSHOT, snapshot_of(partition))
    disk.overwrite(active_path(partition), disk.files()[active_path(partition)][:-1])
    if clean:
        partition.checkpoint.write(clean=True)
    before = disk.files()[active_path(partition)]
    for _ in range(2):
        after = Partition(disk.kill(), config=WIDE)
        assert after.findings.holes
        assert (after.findings.holes[0].offset, after.findings.cuts) == (4, [])
        assert len(read_around_holes(after)) == 4
        assert disk.files()[active_path(partition)] == before, "nothing is cut"
        with pytest.raises(DataLoss, match="from offset 4 to 4"):
            after.append(b"refused")


def test_a_snapshot_of_another_partition_is_not_believed() -> None:
    partition = with_batches(2)
    sent = batch_of(b"once", producer_id=5, sequence=0)
    first = partition.log.append(sent, partition.clock.wall_ms())
    partition.sync_now()
    foreign = encode_snapshot(Snapshot(LeaderEpochs(), ProducerStates(producers_max=9, next_offset=5)), TOPIC_ID, 1)
    disk = simulated(partition).kill()
    disk.replace_file(partition.directory / files.SNAPSHOT, foreign)
    after = Partition(disk, config=WIDE)
    assert not after.findings.holes
    assert any("it belongs to partition 1 of the topic" in note for note in after.findings.notes)
    assert after.log.append(sent, after.clock.wall_ms()) == first._replace(duplicate=True)


def snapshot_of(partition: Partition) -> bytes:
    return encode_snapshot(Snapshot(partition.log._epochs, partition.log._producers), TOPIC_ID, 0)
