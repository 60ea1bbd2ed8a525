"""What a topic may be called, by Kafka's rule: asked by clients before they ask a server, and by the catalog."""

import re

from logstore.errors import InvalidTopicName

_NAME = re.compile("[a-zA-Z0-9._-]{1,249}")


def check_topic_name(name: str) -> None:
    """Raises `InvalidTopicName`."""
    if name in (".", "..") or not _NAME.fullmatch(name):
        raise InvalidTopicName(
            f"{name[:300]!r} cannot be the name of a topic",
            remedy="A name is 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-', and neither '.' nor '..'.",
        )
