"""One partition on a disk of the test's choosing, its sync driven by hand: what a TopicStore does, without topics."""

from collections.abc import Callable, Sequence
from pathlib import Path
from uuid import UUID

from logstore import recovery
from logstore.batch import Record, decode_batch, encode_batch, iter_headers
from logstore.checkpoint import Checkpoint, PartitionCheckpoint
from logstore.clock import WallClockPast
from logstore.config import TopicConfig
from logstore.disk import Disk
from logstore.handles import Handles
from logstore.log import Appended, Log
from logstore.recovery import RecoveryFindings
from logstore.retention import Retention
from logstore.spare import SpareRoom
from logstore.sync import Synchronizer

TOPIC_ID = UUID(int=7)
ROOT = Path("/data")
NOW_MS = 1_700_000_000_000


class ManualClock:
    def __init__(self) -> None:
        self.now_ms = 0
        self.wall_jumped_ms = 0

    def wall_ms(self) -> int:
        return NOW_MS + self.now_ms + self.wall_jumped_ms

    def monotonic_ms(self) -> int:
        return self.now_ms


class JumpingClock(ManualClock):
    """A wall clock that can be set back, beside a monotonic one."""

    wall_ahead_ms = 0

    def wall_ms(self) -> int:
        return NOW_MS + self.now_ms + self.wall_ahead_ms

    def copy(self) -> "JumpingClock":
        clock = JumpingClock()
        clock.now_ms, clock.wall_ahead_ms = self.now_ms, self.wall_ahead_ms
        return clock


def batch_of(*values: bytes, timestamp_ms: int = NOW_MS, producer_id: int = -1, sequence: int = -1) -> bytes:
    records = [Record(0, timestamp_ms, None, value) for value in values]
    epoch = 0 if producer_id >= 0 else -1
    return encode_batch(records, producer_id=producer_id, producer_epoch=epoch, base_sequence=sequence)


class Partition:
    """Opens the log that is on the disk, or makes one. `close` is a clean stop; leaving it open is a crash."""

    def __init__(
        self,
        disk: Disk,
        *,
        root: Path = ROOT,
        config: TopicConfig | None = None,
        clock: ManualClock | None = None,
        open_max: int = 8,
        dirty_bytes_max: int = 1 << 20,
    ) -> None:
        self.disk = disk
        self.clock = clock or ManualClock()
        self.past = WallClockPast(self.clock)
        self.config = config or TopicConfig()
        self.directory = root / "topics" / TOPIC_ID.hex / "0"
        self.failures: list[BaseException] = []
        self.posted: list[Callable[[], None]] = []
        self.handles = Handles(disk, open_max=open_max, maps_max=8)
        disk.make_dir(root)
        path = root / "checkpoint"
        if disk.exists(path):
            self.checkpoint = Checkpoint.load(path, disk)
        else:
            self.checkpoint = Checkpoint.create(path, disk)
            self.checkpoint.reserve(1)
        self.sync = Synchronizer(
            root,
            disk=disk,
            clock=self.clock,
            dirty_bytes_max=dirty_bytes_max,
            post=self.posted.append,
            on_failure=self.failures.append,
            write_checkpoint=self._write_checkpoint,
        )
        self.spare = SpareRoom(root / "spare", disk)
        self.retention = Retention(self.checkpoint, self.sync, self.spare)
        self.log, self.findings = self._open()
        self.checkpoint.update([self.log.checkpoint()])
        self.checkpoint.write(both=True)  # no longer clean, and not lower than what recovery has synced

    def _open(self) -> tuple[Log, RecoveryFindings]:
        return recovery.open_log(
            self.directory,
            topic="t",
            topic_id=TOPIC_ID,
            partition=0,
            config=self.config,
            disk=self.disk,
            clock=self.clock,
            handles=self.handles,
            sync=self.sync,
            checkpoint=self.checkpoint.get(TOPIC_ID, 0),
            clean=self.checkpoint.is_clean,
            is_synced=False,
            leader_epoch=self.checkpoint._generation,
            producers_max=100,
        )

    def _write_checkpoint(self, rows: Sequence[PartitionCheckpoint]) -> None:
        self.checkpoint.update(rows)
        self.checkpoint.write()

    def append(self, *values: bytes, **settings: int) -> Appended:
        return self.log.append(batch_of(*values, **settings), self.clock.wall_ms())

    def run_posted(self) -> None:
        while self.posted:
            self.posted.pop(0)()

    def sync_now(self) -> None:
        """One round, and what it posts."""
        self.log.request_sync()
        self.run_posted()
        self.sync.run_round()
        self.run_posted()

    def retain(self) -> int:
        """Apply retention. Its files are removed with the next round."""
        return self.retention.apply([self.log], self.past)

    def close(self) -> None:
        self.run_posted()
        self.sync.finish()
        self.checkpoint.update([self.log.checkpoint()])
        self.checkpoint.write(clean=True, both=True)
        self.checkpoint.close()
        self.handles.close_idle()

    def read(self, offset: int, bytes_max: int = 1 << 20, *, wait: bool = True) -> tuple[list[Record], int]:
        """The records of one read from offset on, and where to go on."""
        with self.log.open_read(offset, bytes_max) as reader:
            read = reader.read() if wait else reader.read_nowait()
        assert read is not None
        records = [
            record
            for position, header in iter_headers(read.batches)
            for record in decode_batch(memoryview(read.batches)[position : position + header.size])
        ]
        return [record for record in records if record.offset >= offset], read.next_offset

    def read_all(self) -> list[Record]:
        """Every record a reader can have, from the log start on."""
        records: list[Record] = []
        offset = self.log.log_start_offset
        while offset < self.log.high_watermark:
            some, following = self.read(offset)
            assert following > offset
            records += some
            offset = following
        return records
