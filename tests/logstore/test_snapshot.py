"""Snapshots: what was put in comes out, and what is not whole, not right or not ours is refused."""

from array import array
from pathlib import Path
from uuid import UUID

import pytest
from crc32c import crc32c
from hypothesis import given
from hypothesis import strategies as st

from logstore.batch import BatchHeader
from logstore.epochs import LeaderEpochs
from logstore.errors import FormatTooNew, MetadataCorrupt
from logstore.index import IndexTail, StoredRows
from logstore.producers import ProducerStates
from logstore.snapshot import Snapshot, decode_snapshot, encode_snapshot
from tests.logstore.partition import TOPIC_ID

PATH = Path("/data/topics/of-one/0/snapshot")


def decoded(data: bytes, topic_id: UUID = TOPIC_ID, partition: int = 3) -> Snapshot:
    return decode_snapshot(PATH, data, topic_id, partition, producers_max=100)


def some_snapshot() -> Snapshot:
    epochs = LeaderEpochs()
    producers = ProducerStates(producers_max=100)
    for n in range(20):
        epochs.assign(n // 7, n)
        producers.record(BatchHeader(n, 100, n // 7, 2, 0, 0, 0, 1000, 1000, n % 3, 4, n // 3, 1), n, now_ms=n)
    return Snapshot(
        epochs, producers, IndexTail(16, array("q", [1, 0, 1000, 17, 4, 300, 2**40, 20]), StoredRows(5, 2**32 - 1))
    )


def encoded() -> bytes:
    return encode_snapshot(some_snapshot(), TOPIC_ID, 3)


def test_a_snapshot_brings_everything_back() -> None:
    again = decoded(encoded())

    assert again.next_offset == 20
    assert again.epochs.entries == ((0, 0), (1, 7), (2, 14))
    assert again.tail == some_snapshot().tail
    assert encode_snapshot(again, TOPIC_ID, 3) == encoded()


def test_one_of_version_1_says_nothing_of_the_array() -> None:
    data = bytearray(encoded()[:-4])
    tail = some_snapshot().tail
    assert tail is not None
    data[6:8] = (1).to_bytes(2, "big")
    stored_at = len(data) - len(tail.cells) * 8 - 12
    del data[stored_at : stored_at + 8]
    again = decoded(bytes(data) + crc32c(data).to_bytes(4, "big"))
    assert again.tail == tail._replace(stored=None)
    assert again.next_offset == 20


def test_one_of_another_log_is_refused() -> None:
    for topic_id, partition in ((TOPIC_ID, 4), (UUID(int=8), 3)):
        with pytest.raises(MetadataCorrupt, match="it belongs to partition 3 of the topic with the id"):
            decoded(encoded(), topic_id, partition)


@given(cut=st.integers(0, 800))
def test_one_that_is_cut_is_refused(cut: int) -> None:
    data = encoded()
    with pytest.raises(MetadataCorrupt):
        decoded(data[: min(cut, len(data) - 1)])


def test_one_with_any_bit_flipped_is_refused() -> None:
    data = encoded()
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(MetadataCorrupt):
            decoded(bytes(damaged))


@given(data=st.binary(max_size=200))
def test_no_bytes_make_one_by_accident(data: bytes) -> None:
    with pytest.raises(MetadataCorrupt):
        decoded(data)


def test_one_of_a_later_version_is_refused_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("logstore.snapshot._VERSION", 3)
    data = encoded()
    monkeypatch.undo()
    with pytest.raises(FormatTooNew, match=f"^{PATH} has format version 3, and this program knows 2"):
        decoded(data)
