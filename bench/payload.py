"""What is sent: ready batches of a given size, values of 100 bytes, and the real flights."""

import csv
import functools
import io
import random
import zipfile
from pathlib import Path

from logctl.demo.flights import read_sample, records_of
from logstore.batch import Record, encode_batch

#: One answer of a fetch stream: what the server puts into a message.
FETCH_ANSWER_BYTES = 1 << 20

#: The whole year, where it lies beside the checkout.
FLIGHTS = Path(__file__).parent.parent.parent / "shared" / "data" / "flights.csv.zip"

#: So that a run is as long with the sample as with the whole year.
SAMPLE_REPEATED = 27

_TIMESTAMP_MS = 1_357_000_000_000


def ready_batch(size_bytes: int) -> bytes:
    """One uncompressed batch of exactly that size, of records of about 1,000 random bytes."""
    rng = random.Random(size_bytes)
    count = max(1, size_bytes // 1024)
    records = [Record(i, _TIMESTAMP_MS, None, rng.randbytes(1000), ()) for i in range(count - 1)]
    filler = Record(count - 1, _TIMESTAMP_MS, None, b"", ())
    missing = size_bytes - len(encode_batch([*records, filler]))
    # The length prefixes grow with the value, so the last few bytes are found by trying.
    for length in range(max(0, missing - 8), missing + 1):
        batch = encode_batch([*records, filler._replace(value=rng.randbytes(length))])
        if len(batch) == size_bytes:
            return bytes(batch)
    raise AssertionError(f"no batch of exactly {size_bytes} bytes was found")


@functools.cache
def flights() -> list[tuple[bytes, bytes]]:
    """Flights as (tail number, the row as text), all of 2013 if they are at hand, else those of the demonstration."""
    if not FLIGHTS.exists():
        return [(record.key or b"", record.value or b"") for record in records_of(read_sample())] * SAMPLE_REPEATED
    with zipfile.ZipFile(FLIGHTS) as archive, archive.open("flights.csv") as file:
        rows = csv.reader(io.TextIOWrapper(file, "utf-8"))
        tailnum = next(rows).index("tailnum")
        return [(row[tailnum].encode(), ",".join(row).encode()) for row in rows if row[tailnum] not in ("", "NA")]
