"""What stands beside a log and is derived from it: loaded if it is there and right, else made anew from the batches."""

from collections.abc import Iterator
from pathlib import Path

from logstore import files
from logstore.batch import BatchHeader
from logstore.disk import Disk
from logstore.epochs import FILE_BYTES_MAX as EPOCHS_BYTES_MAX
from logstore.epochs import LeaderEpochs, decode_epochs
from logstore.errors import DataLoss, MetadataCorrupt
from logstore.producers import ProducerStates
from logstore.segment import REBUILD_BYTES, Segment

PRODUCERS_BYTES_MAX = 1024 * 1024 * 1024


def load_epochs(
    directory: Path,
    disk: Disk,
    segments: tuple[Segment, ...],
    seen: list[tuple[int, int]],
    notes: list[str],
) -> LeaderEpochs:
    """The file, and what the scan of the log's end has `seen`: (epoch, base offset) where it changed."""
    log_end_offset = segments[-1].next_offset
    try:
        epochs = decode_epochs(disk.read_file(directory / files.EPOCHS, EPOCHS_BYTES_MAX))
    except (FileNotFoundError, MetadataCorrupt, DataLoss) as error:
        epochs = LeaderEpochs()
        if log_end_offset > segments[0].base_offset:
            notes.append(f"leader epochs are read from the log again: {error}")
            seen = _epochs_of(segments)
    epochs.truncate(log_end_offset)
    for epoch, base_offset in seen:
        epochs.assign(epoch, base_offset)
    return epochs


def _epochs_of(segments: tuple[Segment, ...]) -> list[tuple[int, int]]:
    """Every change of epoch that the log's batches show, as far as they can be read."""
    seen: list[tuple[int, int]] = []
    try:
        for header in _headers(segments, 0):
            if not seen or header.leader_epoch != seen[-1][0]:
                seen.append((header.leader_epoch, header.base_offset))
    except DataLoss:
        pass  # who reads there is told; epochs only say where to look for a cut
    return seen


def load_producers(
    directory: Path,
    disk: Disk,
    segments: tuple[Segment, ...],
    log_start_offset: int,
    now_ms: int,
    producers_max: int,
    notes: list[str],
) -> tuple[ProducerStates, DataLoss | None]:
    """The snapshot and the batches after it; or, without a snapshot that can be right, all batches.

    With the damage that was in the way, if any: then the states end at their next_offset.
    """
    log_end_offset = segments[-1].next_offset
    producers = ProducerStates(producers_max=producers_max)
    try:
        data = disk.read_file(directory / files.PRODUCERS, PRODUCERS_BYTES_MAX)
        loaded = ProducerStates.from_snapshot(data, producers_max=producers_max)
        if loaded.next_offset <= log_end_offset:
            producers = loaded
        else:
            notes.append(f"the producers' snapshot is of offset {loaded.next_offset}, past the end of the log")
    except FileNotFoundError:
        pass
    except (MetadataCorrupt, DataLoss) as error:
        notes.append(str(error))
    try:
        for header in _headers(segments, max(producers.next_offset, log_start_offset)):
            producers.record(header, header.base_offset, now_ms)
    except DataLoss as error:
        return producers, error
    return producers, None


def _headers(segments: tuple[Segment, ...], start_offset: int) -> Iterator[BatchHeader]:
    """The headers of all batches from the one that holds start_offset on."""
    for segment in segments:
        if segment.next_offset <= start_offset or segment.is_empty:
            continue
        handle = segment.acquire(wait=True)
        try:
            start = segment.find(max(start_offset, segment.base_offset), handle.file, wait=True)
            for _, header in segment.walk(handle.file.pread, start, segment.end_position, bytes_each=REBUILD_BYTES):
                yield header
        finally:
            handle.release()
