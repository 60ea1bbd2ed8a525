"""Recovery where a seal is lost: it is made again from its segment."""

import pytest

from logstore import files
from logstore.batch import HEADER_SIZE
from tests.logstore.partition import Partition
from tests.logstore.recovered import SMALL, sealed_chain, simulated, values_of


@pytest.mark.parametrize("how", ["missing", "damaged", "cut", "empty"])
def test_a_lost_seal_is_made_again_from_its_segment(how: str) -> None:
    partition = sealed_chain()
    segment = partition.log._segments[1]
    path = files.seal_path(partition.directory, segment.base_offset)
    disk = simulated(partition).kill()
    match how:
        case "missing":
            disk.remove(path)
        case "damaged":
            disk.flip_bit(path, 20)
        case "cut":
            disk.overwrite(path, disk.files()[path][:-3])
        case "empty":
            disk.overwrite(path, b"")
    after = Partition(disk, config=SMALL)
    assert not after.findings.holes
    assert values_of(after) == values_of(partition)
    again = after.log._segments[1].seal
    assert again is not None
    assert segment.seal is not None
    assert (again.next_offset, again.end_position) == (segment.seal.next_offset, segment.seal.end_position)


def test_a_lost_seal_does_not_make_damage_a_torn_tail() -> None:
    partition = sealed_chain()
    segment = partition.log._segments[1]
    disk = simulated(partition).kill()
    disk.remove(files.seal_path(partition.directory, segment.base_offset))
    disk.flip_bit(segment.path, HEADER_SIZE + 2)
    after = Partition(disk, config=SMALL)
    assert after.findings.holes
    assert (after.findings.holes[0].offset, after.findings.cuts) == (segment.base_offset, [])
