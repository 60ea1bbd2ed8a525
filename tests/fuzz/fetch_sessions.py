"""Fetch requests that follow one another on a connection. Only SessionRefused may come out.

version: u8 | request: size: u16, body ... as long as there are
"""

from collections.abc import Iterator
from functools import partial
from struct import Struct

from logserver.kafka.apis import API_VERSIONS, ApiKey
from logserver.kafka.errors import SessionRefused
from logserver.kafka.fetch_sessions import FINAL_EPOCH, INITIAL_EPOCH, NO_SESSION, FetchSession, SessionPlaces
from logserver.kafka.messages import get, read_body, read_header
from logserver.kafka.primitives import Malformed
from tests.server.kafka_door.examples import example_request

_SIZE = Struct(">H")
#: Of a request, with an empty client id and no tagged fields.
_HEAD = Struct(">hhihx")
_VERSIONS = API_VERSIONS[ApiKey.FETCH]


def run(data: bytes) -> bool:
    if not data:
        return False
    version = _VERSIONS[data[0] % len(_VERSIONS)]
    header = read_header(memoryview(_HEAD.pack(ApiKey.FETCH, version, 1, 0)))._replace(body_at=0)
    places = SessionPlaces()
    session = FetchSession(places)
    for number, body in enumerate(_bodies(data)):
        try:
            request = read_body(header, memoryview(body)).body
        except Malformed:
            return False
        epoch = get(request, "session_epoch", FINAL_EPOCH)
        before = session.session_id
        try:
            fetching = session.begin(request, partial(int, number + 1))
        except SessionRefused:
            assert epoch not in (INITIAL_EPOCH, FINAL_EPOCH)
            assert session.session_id == before
            continue
        named = [place for place, _ in fetching.wanted]
        assert len(named) == len(set(named))
        assert len(named) <= len(data)
        assert fetching.is_incremental == (epoch not in (INITIAL_EPOCH, FINAL_EPOCH))
        if epoch == FINAL_EPOCH:
            assert fetching.session_id == NO_SESSION
        else:
            assert fetching.session_id == session.session_id
            assert list(session._wanted) == named
        assert places.count == len(session._wanted)
        session.answered(named[:1])
    return True


def _bodies(data: bytes) -> Iterator[bytes]:
    at = 1
    while at + _SIZE.size <= len(data):
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size
        yield data[at : at + size]
        at += size


def seeds() -> Iterator[bytes]:
    for number, version in enumerate(_VERSIONS):
        parts = [bytes((number,))]
        for session_id, epoch in ((0, 0), (1, 1), (1, 2), (1, 2), (7, 1), (1, 3), (1, -1), (0, 0), (0, -1)):
            given = {"session_id": session_id, "session_epoch": epoch} if version >= 7 else {}
            request = example_request(ApiKey.FETCH, version, **given)
            # Without the header: eight bytes, the client id and in flexible versions a count of tagged fields.
            body = request[15 if version >= 12 else 14 :]
            parts += [_SIZE.pack(len(body)), body]
        yield b"".join(parts)
