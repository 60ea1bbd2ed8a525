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


def load_derived(
    directory: Path,
    disk: Disk,
    segments: tuple[Segment, ...],
    log_start_offset: int,
    now_ms: int,
    producers_max: int,
    notes: list[str],
) -> tuple[LeaderEpochs, ProducerStates, DataLoss | None]:
    """Leader epochs and producer states: their files, and the batches that those do not cover yet.

    With the damage that was in the way, if any: then the states end at their next_offset.
    """
    log_end_offset = segments[-1].next_offset
    epochs, epochs_from = _read_epochs(directory, disk, log_end_offset, notes)
    producers = _read_producers(directory, disk, log_end_offset, producers_max, notes)
    producers_from = max(producers.next_offset, log_start_offset)
    try:
        for header in _headers(segments, min(epochs_from, producers_from)):
            epochs.assign(header.leader_epoch, header.base_offset)
            if header.next_offset > producers_from:
                producers.record(header, header.base_offset, now_ms)
    except DataLoss as error:
        return epochs, producers, error
    return epochs, producers, None


def _read_epochs(directory: Path, disk: Disk, log_end_offset: int, notes: list[str]) -> tuple[LeaderEpochs, int]:
    try:
        epochs, next_offset = decode_epochs(disk.read_file(directory / files.EPOCHS, EPOCHS_BYTES_MAX))
        if next_offset <= log_end_offset:
            return epochs, next_offset
        notes.append(f"the leader epochs are of offset {next_offset}, past the end of the log")
    except FileNotFoundError:
        pass
    except (MetadataCorrupt, DataLoss) as error:
        notes.append(str(error))
    return LeaderEpochs(), 0


def _read_producers(
    directory: Path, disk: Disk, log_end_offset: int, producers_max: int, notes: list[str]
) -> ProducerStates:
    try:
        data = disk.read_file(directory / files.PRODUCERS, PRODUCERS_BYTES_MAX)
        producers = ProducerStates.from_snapshot(data, producers_max=producers_max)
        if producers.next_offset <= log_end_offset:
            return producers
        notes.append(f"the producers' snapshot is of offset {producers.next_offset}, past the end of the log")
    except FileNotFoundError:
        pass
    except (MetadataCorrupt, DataLoss) as error:
        notes.append(str(error))
    return ProducerStates(producers_max=producers_max)


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
