"""One member of a consumer group, as a program that can be stopped and continued: it says what it read and committed.

`python -m tests.faults.clients.member SERVER GROUP TOPIC FILE` writes the events of `ownership`. SIGTERM ends it.

Its client knows when it is not the owner any more and commits nothing then. A client that does not know would commit
all the same, so this one then does too, by hand, under the epoch in which it read: the server has to refuse that. Nor
does it keep the times after which it may be fenced, as ours do: it learns of it when the server says so.
"""

import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType

import grpc

from logwire.v1 import groups_pb2, groups_pb2_grpc
from tailrace import Consumer, TopicPartition
from tailrace.membership import Membership
from tests.faults.clients.ownership import Assigned, Commit, Event, Read, Revoked, encode_event

#: A batch is in hand for so long, so that whoever is stopped is likely to have one.
WORK_SECONDS = 0.01


class StubbornClient:
    """Commits under an epoch that was true once."""

    def __init__(self, server: str, group: str, topic: str) -> None:
        self._channel = grpc.insecure_channel(server)
        self._groups = groups_pb2_grpc.GroupServiceStub(self._channel)
        self._group = group
        self._topic = topic

    def commit(self, identity: tuple[str, int], partition: int, next_offset: int) -> bool:
        member_id, member_epoch = identity
        request = groups_pb2.CommitOffsetsRequest(
            group=self._group,
            member_id=member_id,
            member_epoch=member_epoch,
            offsets=[groups_pb2.CommittedOffset(topic=self._topic, partition=partition, offset=next_offset)],
        )
        try:
            [answer] = self._groups.CommitOffsets(request, timeout=10).offsets
        except grpc.RpcError:
            return False
        return not answer.HasField("error")


def keep_no_time(membership: Membership, fenced_at: float | None, must_release_at: object) -> None:
    """In the place of `Membership._watch`."""


def main() -> None:
    server, group, topic, path = sys.argv[1:]
    vars(Membership)["_watch"]  # KeyError when the code has moved
    # By name, since a type checker forbids to assign a method.
    setattr(Membership, "_watch", keep_no_time)  # noqa: B010
    stubborn = StubbornClient(server, group, topic)
    with open(path, "w", buffering=1) as file:

        def write(event: Event) -> None:
            file.write(encode_event(event) + "\n")

        def assigned(partitions: Sequence[TopicPartition]) -> None:
            write(Assigned(time.monotonic(), tuple(partition.partition for partition in partitions)))

        def revoked(partitions: Sequence[TopicPartition]) -> None:
            write(Revoked(time.monotonic(), tuple(partition.partition for partition in partitions)))

        with Consumer(
            topic, group=group, server=server, auto_commit=False, on_assigned=assigned, on_revoked=revoked
        ) as consumer:

            def stop(number: int, frame: FrameType | None) -> None:
                consumer.stop()

            signal.signal(signal.SIGTERM, stop)
            for batch in consumer.batches():
                membership = consumer._core._membership
                assert membership is not None
                identity = (membership.member_id, membership.epoch)
                offsets = [record.offset for record in batch]
                write(Read(batch.partition, offsets[0], offsets[-1] + 1))
                time.sleep(WORK_SECONDS)
                begun_at = time.monotonic()
                is_committed = consumer.commit()
                write(Commit(batch.partition, offsets[-1] + 1, is_committed, begun_at, time.monotonic()))
                if not is_committed:
                    begun_at = time.monotonic()
                    is_committed = stubborn.commit(identity, batch.partition, offsets[-1] + 1)
                    write(Commit(batch.partition, offsets[-1] + 1, is_committed, begun_at, time.monotonic()))


if __name__ == "__main__":
    main()
