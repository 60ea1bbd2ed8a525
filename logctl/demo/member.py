"""One member of the demonstration's group, as a program: `python -m logctl.demo.member SERVER GROUP TOPIC FILE`.

It writes down every record it reads, then commits, then writes down that it did; so its file tells at any moment what
it had read and what it knows to be committed, also when it is killed in the middle. SIGTERM ends it cleanly.
"""

import json
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

from tailrace import Consumer, RecordBatch, TopicPartition


class Diary:
    """The file of what was read. Each entry is one write: a kill leaves whole entries, or a last one without an end."""

    def __init__(self, path: str) -> None:
        self.read_count = 0
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._partitions: set[int] = set()

    def assigned(self, partitions: Sequence[TopicPartition]) -> None:
        self._partitions |= {partition.partition for partition in partitions}
        self._write(partitions=sorted(self._partitions))

    def revoked(self, partitions: Sequence[TopicPartition]) -> None:
        self._partitions -= {partition.partition for partition in partitions}
        self._write(partitions=sorted(self._partitions))

    def read(self, batch: RecordBatch) -> None:
        for record in batch:
            key = None if record.key is None else record.key.decode()
            self._write(read=[record.partition, record.offset, record.timestamp_ms, key, record.text()])
            self.read_count += 1

    def committed(self) -> None:
        self._write(committed=self.read_count)

    def _write(self, **entry: object) -> None:
        os.write(self._file, json.dumps(entry).encode() + b"\n")


def main() -> None:
    server, group, topic, path = sys.argv[1:]
    diary = Diary(path)
    consumer = Consumer(
        topic,
        group=group,
        server=server,
        auto_commit=False,
        on_assigned=diary.assigned,
        on_revoked=diary.revoked,
    )

    def stop(number: int, frame: FrameType | None) -> None:
        consumer.stop()

    signal.signal(signal.SIGTERM, stop)
    with consumer:
        for batch in consumer.batches():
            diary.read(batch)
            if consumer.commit():
                diary.committed()


if __name__ == "__main__":
    main()
