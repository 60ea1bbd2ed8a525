"""What a producer is asked to be, and what it cannot be."""

from typing import NamedTuple

from logstore.batch import Compression
from logwire.v1 import records_pb2 as pb
from tailrace.connection import server_address
from tailrace.errors import InvalidRequest

#: Kafka's names for the levels.
ACKS: dict[str | int, pb.Acks.ValueType] = {"all": pb.ACKS_ALL, 1: pb.ACKS_ONE, 0: pb.ACKS_ZERO}


class ProducerSettings(NamedTuple):
    server: str
    acks: str | int
    linger: float
    batch_bytes: int
    buffer_bytes: int
    compression: str
    max_block: float
    delivery_timeout: float
    connect_timeout: float


def checked_settings(settings: ProducerSettings) -> ProducerSettings:
    """Raises InvalidRequest with the first setting that cannot be."""
    settings = settings._replace(server=server_address(settings.server))
    wrong: tuple[str, str] | None = None
    if type(settings.acks) not in (str, int) or settings.acks not in ACKS:  # True is not 1 here.
        wrong = f"acks={settings.acks!r}", f"Use one of {', '.join(map(repr, ACKS))}."
    elif not isinstance(settings.compression, str) or settings.compression.upper() not in Compression.__members__:
        known = ", ".join(repr(name.lower()) for name in Compression.__members__)
        wrong = f"compression={settings.compression!r}", f"Use one of {known}."
    for name in ("linger", "max_block", "delivery_timeout", "connect_timeout", "batch_bytes", "buffer_bytes"):
        value = getattr(settings, name)
        least = 0 if name in ("linger", "max_block") else 0.001 if name.endswith("timeout") else 1
        kinds, what = (
            ((int,), "whole number of bytes") if name.endswith("bytes") else ((int, float), "number of seconds")
        )
        if type(value) not in kinds or not least <= value < 2**40:
            wrong = wrong or (f"{name}={value!r}", f"Give a {what}.")
    if wrong is None and settings.linger >= settings.delivery_timeout:
        wrong = (
            f"linger={settings.linger!r} with delivery_timeout={settings.delivery_timeout!r}",
            "Give a linger that is less: a batch would run out of time before it is sent.",
        )
    if wrong is not None:
        raise InvalidRequest(f"{wrong[0]} is not a setting that a producer can have", remedy=wrong[1])
    return settings
