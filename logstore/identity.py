"""Who this data directory is: `meta`, a document with what must never be handed out or believed twice.

- format, cluster id and node id: made once.
- the leader epoch rises at every unclean start, synced before the first append, so that offsets which a crash took
  back and gave out again can be told apart.
- producer ids are set aside in blocks, synced before the first of a block is used. An id handed out twice would make
  another producer's records look like duplicates. A restart skips what was left of the block.
"""

import base64
from collections.abc import Callable
from pathlib import Path

from logstore.disk import Disk
from logstore.documents import corrupt, read_document, write_document

META = "meta"
FORMAT_VERSION = 1

_KIND = "meta"


class Identity:
    def __init__(
        self, path: Path, disk: Disk, *, cluster_id: str, node_id: int, leader_epoch: int, next_producer_id: int
    ) -> None:
        self.cluster_id = cluster_id
        self.node_id = node_id
        self.leader_epoch = leader_epoch
        self._path = path
        self._disk = disk
        self._next_producer_id = next_producer_id
        self.producer_ids_end = next_producer_id  # in the file: the first that is not set aside

    @classmethod
    def create(cls, directory: Path, disk: Disk, *, random: Callable[[int], bytes]) -> "Identity":
        """Make a new one. From here on the directory is a data directory."""
        cluster_id = base64.urlsafe_b64encode(random(16)).decode().rstrip("=")
        identity = cls(directory / META, disk, cluster_id=cluster_id, node_id=1, leader_epoch=0, next_producer_id=0)
        identity._write(0, 0)
        return identity

    @classmethod
    def load(cls, directory: Path, disk: Disk) -> "Identity":
        """Raises FileNotFoundError, `MetadataCorrupt` and `FormatTooNew`."""
        path = directory / META
        content = read_document(disk, path, kind=_KIND, version=FORMAT_VERSION)
        try:
            return cls(
                path,
                disk,
                cluster_id=str(content["cluster_id"]),
                node_id=int(content["node_id"]),
                leader_epoch=int(content["leader_epoch"]),
                next_producer_id=int(content["next_producer_id"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise corrupt(path, f"a field is missing or wrong: {error}") from error

    def raise_leader_epoch(self) -> None:
        """Begin a new leader epoch; it is on disk when this returns."""
        self._write(self.leader_epoch + 1, self.producer_ids_end)

    def next_producer_id(self, *, block: int) -> int:
        """An id that no producer had and none will have. Waits for the disk once in `block` calls."""
        if self._next_producer_id == self.producer_ids_end:
            self._write(self.leader_epoch, self.producer_ids_end + block)
        self._next_producer_id += 1
        return self._next_producer_id - 1

    def _write(self, leader_epoch: int, producer_ids_end: int) -> None:
        write_document(
            self._disk,
            self._path,
            kind=_KIND,
            version=FORMAT_VERSION,
            content={
                "cluster_id": self.cluster_id,
                "node_id": self.node_id,
                "leader_epoch": leader_epoch,
                "next_producer_id": producer_ids_end,
            },
        )
        # Only now: what a full disk refused to note must not be used either.
        self.leader_epoch = leader_epoch
        self.producer_ids_end = producer_ids_end
