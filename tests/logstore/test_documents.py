"""Metadata files: read as written, or refused; never half, never another's, never a newer one's."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logstore.documents import BYTES_MAX, read_document, write_document
from logstore.errors import FormatTooNew, MetadataCorrupt
from tests.logstore.disk import SimulatedDisk

PATH = Path("/data/topic")

contents = st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5) | st.none(), max_size=4)


def disk_with(content: dict[str, Any], kind: str = "topic", version: int = 1) -> SimulatedDisk:
    disk = SimulatedDisk()
    disk.make_dir(PATH.parent)
    write_document(disk, PATH, kind=kind, version=version, content=content)
    return disk


@given(content=contents)
def test_what_is_written_is_read(content: dict[str, Any]) -> None:
    assert read_document(disk_with(content), PATH, kind="topic", version=1) == content


def test_a_document_with_any_bit_flipped_is_refused() -> None:
    data = disk_with({"name": "flights"}).read_file(PATH, BYTES_MAX)
    for position in range(len(data)):
        for bit in range(8):
            disk = disk_with({"name": "flights"})
            disk.flip_bit(PATH, position, bit)
            with pytest.raises(MetadataCorrupt, match="/data/topic cannot be believed"):
                read_document(disk, PATH, kind="topic", version=1)


def test_a_document_cut_anywhere_is_refused() -> None:
    disk = disk_with({"name": "flights"})
    data = disk.read_file(PATH, BYTES_MAX)
    for size in range(len(data)):
        disk.overwrite(PATH, data[:size])
        with pytest.raises(MetadataCorrupt):
            read_document(disk, PATH, kind="topic", version=1)


def test_a_document_of_another_kind_is_refused() -> None:
    with pytest.raises(MetadataCorrupt, match="of kind 'meta' in the place of one of kind 'topic'"):
        read_document(disk_with({}, kind="meta"), PATH, kind="topic", version=1)


def test_a_newer_document_is_refused_as_such() -> None:
    with pytest.raises(FormatTooNew, match="format version 2, and this program knows 1"):
        read_document(disk_with({}, version=2), PATH, kind="topic", version=1)


def test_a_file_too_large_to_be_one_is_refused() -> None:
    disk = disk_with({})
    disk.overwrite(PATH, bytes(BYTES_MAX + 1))
    with pytest.raises(MetadataCorrupt):
        read_document(disk, PATH, kind="topic", version=1)


def test_a_missing_document_is_not_an_empty_one() -> None:
    with pytest.raises(FileNotFoundError):
        read_document(SimulatedDisk(), PATH, kind="topic", version=1)
