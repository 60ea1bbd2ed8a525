"""Sequence numbers: what makes a retry recognizable, so that it is never written twice (KIP-98).

The server writes a batch of a producer only if it follows the producer's last one in that partition, and answers one
that it has with where it stands. So a batch keeps its numbers through all retries, and batches that were in flight
together are sent again in their order.

When a batch fails for good there is a hole in the numbers, which the server lets nothing pass. What comes after it must
be numbered anew, and from then on nothing numbered the old way may be written, also if it turns up late from some
connection that was thought dead. That is what the epoch is for: numbering anew raises it, and the server refuses the
older one. Here it is raised for the one partition only. Numbers may be given anew only to what was certainly not
written; the sender sees to that.
"""

from typing import NamedTuple

SEQUENCES = 2**31  # after the last comes 0
EPOCH_MAX = 2**15 - 1


class ProducerSequence(NamedTuple):
    """Who sends a batch, and the number of its first record in the sequence of that sender's records."""

    producer_id: int
    producer_epoch: int
    base_sequence: int


class PartitionSequence:
    """The numbers of one partition. Pure: it is told what happened."""

    __slots__ = ("_epoch", "_next", "_producer_id", "broken")

    def __init__(self) -> None:
        self._producer_id = -1
        self._epoch = -1
        self._next = 0
        #: A batch that had a number failed, so nothing else can follow under the old ones.
        self.broken = True

    def renew(self, producer_id: int, producer_epoch: int) -> bool:
        """Begin again at 0: with the producer's id and epoch, or an epoch above the last one used under this id.

        Returns False when epochs under this id have run out; then another id is needed.
        """
        if producer_id != self._producer_id:
            self._producer_id, self._epoch = producer_id, producer_epoch
        elif self._epoch < EPOCH_MAX:
            self._epoch += 1
        else:
            return False
        self._next = 0
        self.broken = False
        return True

    def take(self, records_count: int) -> ProducerSequence:
        """The numbers for the next batch."""
        assert not self.broken
        taken = ProducerSequence(self._producer_id, self._epoch, self._next)
        self._next = (self._next + records_count) % SEQUENCES
        return taken
