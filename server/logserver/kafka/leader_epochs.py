"""Whether a client's metadata is of the leader that it talks to (KIP-320)."""

from logserver.kafka.errors import FencedLeaderEpoch, UnknownLeaderEpoch


def check_leader_epoch(known: int, current: int) -> None:
    """known: -1 for a client that does not say. Raises FencedLeaderEpoch, UnknownLeaderEpoch."""
    if known < 0 or known == current:
        return
    kind = FencedLeaderEpoch if known < current else UnknownLeaderEpoch
    raise kind(
        f"the request is for leader epoch {known}, and the current one is {current}",
        remedy="Ask for the topic's metadata again.",
    )
