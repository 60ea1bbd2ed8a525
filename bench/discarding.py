"""Our Kafka door with nothing behind it: batches are answered at once and thrown away. What a client gets from it is
what the client is able to send. `python -m bench.discarding` takes the arguments of `logserver`."""

from collections import Counter
from collections.abc import Sequence

from logserver.appends import Ack, Acks, Appends, BatchAppend, PendingAcks
from logserver.context import RequestContext
from logserver.main import main
from logstore.header import read_header


def discard() -> None:
    """In the place of every append of this process."""
    next_offsets: Counter[tuple[str, int]] = Counter()

    def answer(
        appends: Appends, context: RequestContext, batches: Sequence[BatchAppend | Ack], acks: Acks
    ) -> PendingAcks:
        return PendingAcks([append if isinstance(append, Ack) else take(append) for append in batches])

    def take(append: BatchAppend) -> Ack:
        key = (append.topic, append.partition)
        ack = Ack(*key, topic_id=append.topic_id, base_offset=next_offsets[key], log_start_offset=0)
        next_offsets[key] += read_header(append.batch).records_count
        return ack

    setattr(Appends, "append_now", answer)  # noqa: B010


if __name__ == "__main__":
    discard()
    main()
