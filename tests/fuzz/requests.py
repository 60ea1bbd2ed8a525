"""One request of any API but Produce: its header and its body. Only Malformed may come out."""

from collections.abc import Iterator

from logserver.kafka.apis import API_VERSIONS, ApiKey
from logserver.kafka.messages import read_body, read_header
from logserver.kafka.primitives import Malformed
from tests.server.kafka_door.examples import example_request


def run(data: bytes) -> bool:
    frame = memoryview(data)
    try:
        header = read_header(frame)
        if header.api_key == ApiKey.PRODUCE or header.version not in API_VERSIONS.get(header.api_key, ()):
            return False
        assert read_body(header, frame).items <= len(data)
    except Malformed:
        return False
    return True


def seeds() -> Iterator[bytes]:
    """Of every version of every API one that is right."""
    for api_key, versions in API_VERSIONS.items():
        if api_key != ApiKey.PRODUCE:
            for version in versions:
                yield example_request(ApiKey(api_key), version)
