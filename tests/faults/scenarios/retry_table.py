"""Every case of `retries`, tried on a server over its door (scorecard row 14).

All cases of one setup and event share a topic, each with a producer of its own, and one occurrence of the event. The
seed draws how many records the batches have.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from operator import itemgetter
from struct import Struct

from crc32c import crc32c

from logserver.config import parse_address
from logstore.batch import Compression, Record, encode_batch
from logwire.v1 import records_pb2
from tests.faults.clients.retries import (
    APPENDED,
    CASES,
    EPOCH,
    EXPIRY,
    KILL,
    ORIGINAL,
    RETENTION,
    ROLL,
    SEQUENCES,
    STOP,
    Case,
    Sent,
    Written,
)
from tests.faults.runs import Session, Tally
from tests.processes import ServerProcess
from tests.server.wire import NOW_MS, Client, batch, code

SERVER_OPTIONS = ("--retention-interval-ms", "50")
SETUP_BATCHES = 7
SEGMENT_BYTES = 4096
EXPIRY_MS = 2000
WAIT_SECONDS_MAX = 20.0
#: A small batch can claim to have so many, compressed: nobody opens it.
CLAIMED_RECORDS_MAX = 8_000_000

_LAST_OFFSET_DELTA = (23, Struct(">i"))
_RECORDS_COUNT = (57, Struct(">i"))
_CRC = (17, Struct(">I"))
_CRC_COVERS_FROM = 21


def run(session: Session, tally: Tally) -> None:
    """Try as many cases of the table as the session has cycles, and judge every answer."""
    rng = session.rng("sizes")
    chosen = sorted(session.rng("cases").sample(range(len(CASES)), min(session.cycles, len(CASES))))
    with ServerProcess(session.directory / "data", *SERVER_OPTIONS, patches=session.planted) as server:
        for (is_wrapped, event), cases in groupby((CASES[number] for number in chosen), key=itemgetter(0, 1)):
            table = _Table(server, session, is_wrapped, event, list(cases), rng, tally)
            table.run()


class _Table:
    """All cases of one setup and event."""

    def __init__(
        self,
        server: ServerProcess,
        session: Session,
        is_wrapped: bool,
        event: str,
        cases: Sequence[Case],
        rng: random.Random,
        tally: Tally,
    ) -> None:
        self._server = server
        self._session = session
        self._is_wrapped = is_wrapped
        self._event = event
        self._cases = cases
        self._rng = rng
        self._tally = tally
        self._topic = f"{'wrapped' if is_wrapped else 'plain'}-{event.replace(' ', '-')}"
        self._end_offset = 0

    def run(self) -> None:
        if EXPIRY in self._event:
            self._restart(f"producer-expiry={EXPIRY_MS}")
        written = asyncio.run(self._set_up())
        for part in self._event.split():
            if part == ROLL:
                asyncio.run(self._fill())
            elif part == RETENTION:
                asyncio.run(self._fill_until_deleted())
            elif part == EXPIRY:
                asyncio.run(self._wait_until_forgotten())
            elif part == STOP:
                if self._server.stop() != 0:
                    self._tally.violate("the stop was not clean")
                self._server.start()
            elif part == KILL:
                self._server.kill()
                self._server.start()
        asyncio.run(self._try_all(written))
        if EXPIRY in self._event:
            self._restart()

    def _restart(self, *levers: str) -> None:
        self._server.stop()
        self._server.patches = (*self._session.planted, *levers)
        self._server.start()

    # Before.

    async def _set_up(self) -> list[Written]:
        config = {}
        if RETENTION in self._event or ROLL in self._event:
            config["segment_bytes"] = str(SEGMENT_BYTES)
        if RETENTION in self._event:
            config["retention_bytes"] = "0"
        async with self._client() as client:
            await client.create(self._topic, 1, **config)
            return [await self._set_up_producer(client) for _ in self._cases]

    async def _set_up_producer(self, client: Client) -> Written:
        answer = await client.producing.InitProducer(records_pb2.InitProducerRequest())
        written = Written(answer.producer_id)
        sequence = 0
        if self._is_wrapped:
            sequence = SEQUENCES - self._rng.randint(1, 2 * SETUP_BATCHES)
            await self._claim(client, written, sequence)
        batches = []
        for _ in range(SETUP_BATCHES):
            batches.append(Sent(EPOCH, sequence, self._rng.randint(2, 4)))
            sequence = (sequence + batches[-1].records_count) % SEQUENCES
        acks = await client.produce(self._topic, *(_encode(written.producer_id, sent) for sent in batches))
        for sent, ack in zip(batches, acks, strict=True):
            assert ack.base_offset == self._end_offset, ack
            written.add(sent, ack.base_offset)
            self._end_offset += sent.records_count
        return written

    async def _claim(self, client: Client, written: Written, sequence: int) -> None:
        """Write up to a sequence, with batches that say to have more records than they have."""
        counts = [CLAIMED_RECORDS_MAX] * (sequence // CLAIMED_RECORDS_MAX) + [sequence % CLAIMED_RECORDS_MAX]
        starts = [sum(counts[:number]) for number in range(len(counts))]
        batches = [Sent(EPOCH, start, count) for start, count in zip(starts, counts, strict=True)]
        acks = await client.produce(
            self._topic, *(_encode_claim(written.producer_id, sent) for sent in batches), timeout=60
        )
        for ack in acks:
            assert not ack.HasField("error"), ack
        self._end_offset += sequence

    # What happens.

    async def _fill(self) -> None:
        """Roll the segment, with records of nobody."""
        async with self._client() as client:
            for _ in range(3):
                await self._append_filler(client)

    async def _fill_until_deleted(self) -> None:
        before = self._end_offset
        async with self._client() as client, asyncio.timeout(WAIT_SECONDS_MAX):
            while await self._append_filler(client) < before:
                await asyncio.sleep(0.02)

    async def _append_filler(self, client: Client) -> int:
        [ack] = await client.produce(self._topic, batch(b"x" * SEGMENT_BYTES))
        assert ack.base_offset == self._end_offset, ack
        self._end_offset += 1
        return ack.log_start_offset

    async def _wait_until_forgotten(self) -> None:
        """A producer that wrote after all others is not known any more."""
        async with self._client() as client, asyncio.timeout(WAIT_SECONDS_MAX):
            canary = await self._set_up_producer(client)
            while True:
                answer, _ = await self._send(client, canary, canary.batches[-1])
                if answer != ORIGINAL:
                    return
                await asyncio.sleep(0.05)

    # What is answered then.

    async def _try_all(self, written: Sequence[Written]) -> None:
        async with self._client() as client:
            for case, of_case in zip(self._cases, written, strict=True):
                self._tally.count("cases")
                await self._try(client, case, of_case)

    async def _try(self, client: Client, case: Case, written: Written) -> None:
        is_forgotten = EXPIRY in self._event
        expected = case.row.answer_forgotten if is_forgotten else case.row.answer
        sent = case.row.make(written)
        answer, offset = await self._send(client, written, sent)
        if answer != expected:
            self._tally.violate(f"{self._topic}, {case.row.what} {sent}: {answer} instead of {expected}")
        elif answer == APPENDED:
            again, offset_again = await self._send(client, written, sent)
            if (again, offset_again) != (ORIGINAL, offset):
                self._tally.violate(f"{self._topic}, {case.row.what}, once more: {again} at {offset_again}")
        elif not is_forgotten:
            following = Sent(EPOCH, written.next_sequence, 1)
            after, _ = await self._send(client, written, following)
            if after != APPENDED:
                self._tally.violate(f"{self._topic}, what is next after {case.row.what}: {after}")

    async def _send(self, client: Client, written: Written, sent: Sent) -> tuple[str, int]:
        """What is answered, and where it is."""
        [ack] = await client.produce(self._topic, _encode(written.producer_id, sent))
        self._tally.count("answers")
        if ack.HasField("error"):
            return code(ack.error), ack.base_offset
        if ack.duplicate:
            known = written.offsets.get(sent) == ack.base_offset
            return ORIGINAL if known else f"a duplicate of another batch at {ack.base_offset}", ack.base_offset
        if ack.base_offset != self._end_offset:
            return f"appended at {ack.base_offset} instead of {self._end_offset}", ack.base_offset
        written.add(sent, ack.base_offset)
        self._end_offset += sent.records_count
        return APPENDED, ack.base_offset

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Client]:
        client = Client(parse_address(self._server.address))
        try:
            yield client
        finally:
            await client.channel.close()


def _encode(producer_id: int, sent: Sent) -> bytes:
    values = [b"%d" % number for number in range(sent.records_count)]
    return batch(*values, producer_id=producer_id, epoch=sent.epoch, sequence=sent.sequence)


def _encode_claim(producer_id: int, sent: Sent) -> bytes:
    data = bytearray(
        encode_batch(
            [Record(0, NOW_MS, None, b"", ())],
            compression=Compression.ZSTD,
            producer_id=producer_id,
            producer_epoch=sent.epoch,
            base_sequence=sent.sequence,
        )
    )
    for (position, layout), value in (
        (_LAST_OFFSET_DELTA, sent.records_count - 1),
        (_RECORDS_COUNT, sent.records_count),
    ):
        layout.pack_into(data, position, value)
    position, layout = _CRC
    layout.pack_into(data, position, crc32c(memoryview(data)[_CRC_COVERS_FROM:]))
    return bytes(data)
