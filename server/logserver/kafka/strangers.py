"""Who connects and cannot be served: what it is, and what is to be changed where it comes from."""

from kio.schema.index import api_key_map

from logserver.kafka.apis import API_VERSIONS
from logserver.kafka.messages import RequestHeader
from logserver.kafka.primitives import BeyondBounds, Malformed, malformed

_SASL_HANDSHAKE = 17
_SASL_AUTHENTICATE = 36
#: What the first four bytes of other protocols would be as a size: that of a handshake's record of TLS ...
_TLS_HANDSHAKE = 0x1603
#: ... and words of HTTP, of which the last begins HTTP/2.
_HTTP_WORDS = (b"GET ", b"POST", b"HEAD", b"PUT ", b"PATC", b"OPTI", b"DELE", b"CONN", b"TRAC", b"PRI ")


class SpeaksTls(Malformed):
    """It begins with a handshake of TLS."""

    reason = "it begins with TLS"


class SpeaksHttp(Malformed):
    """It begins with a request of HTTP."""

    reason = "it begins with HTTP"


class AsksForSasl(Malformed):
    """It wants to say who it is."""

    reason = "it begins with SASL"


class ClientTooOld(Malformed):
    """It asks for a version of before those that brokers of Kafka 4 speak."""

    reason = "the client is too old"


class ApiNotSpoken(Malformed):
    """It asks for what Kafka has, and ApiVersions does not name."""

    reason = "it asks for what is not there"


def no_size(first: bytes, size: int, most: int, *, is_proven: bool) -> Malformed:
    """What it is that begins with these four bytes, whose size as a request no request can have."""
    if size >> 16 == _TLS_HANDSHAKE:
        return SpeaksTls(
            "the client begins with TLS, and this port has none",
            remedy="Set security.protocol=PLAINTEXT in the client.",
        )
    if first in _HTTP_WORDS:
        return SpeaksHttp(
            "the client begins with HTTP, and this port speaks the Kafka protocol",
            remedy="Connect with a Kafka client; gRPC clients and logctl connect where --listen says.",
        )
    if is_proven and size > 0:
        return BeyondBounds(
            f"a request of {size} bytes is announced, where {most} may be", remedy="Send less at a time."
        )
    return malformed(f"a request of {size} bytes is announced, where 1 to {most} can be")


def not_spoken(header: RequestHeader) -> Malformed:
    """Why an API or a version is not answered."""
    name = _name(header.api_key)
    if header.api_key in (_SASL_HANDSHAKE, _SASL_AUTHENTICATE):
        return AsksForSasl(
            f"the client begins with SASL ({name}), and this port asks nobody for a password",
            remedy="Set security.protocol=PLAINTEXT in the client, and leave its settings of SASL out.",
        )
    versions = API_VERSIONS.get(header.api_key)
    if versions is not None and 0 <= header.version < versions[0]:
        return ClientTooOld(
            f"the client asks for {name} version {header.version}, and of that brokers of Kafka 4 speak none before "
            f"{versions[0]} (KIP-896)",
            remedy="Use Apache Kafka's client 2.1, librdkafka 1.8.2, kafka-python 2.0.2 or later, and leave out what "
            "tells it that the broker is older (api.version.request=false, broker.version.fallback, api_version).",
        )
    if header.api_key in api_key_map and header.version >= 0:
        return ApiNotSpoken(
            f"the client asks for {name} version {header.version}, which ApiVersions does not name",
            remedy="Leave out what needs it; docs/kafka-compatibility.md says what there is.",
        )
    return malformed(f"API {header.api_key} version {header.version} is asked for, which there never was")


def _name(api_key: int) -> str:
    """As Kafka's documentation writes it."""
    name = api_key_map.get(api_key)
    return f"API {api_key}" if name is None else "".join(map(str.capitalize, name.split("_")))
