"""The sample: 12,126 flights out of New York in January 2013, in the order they left. See logctl/data/ORIGIN.md."""

import gzip
import io
from importlib.resources import files

from logctl.lines import Lines, NumberedRecord, read_csv
from logctl.record_json import NewRecord

KEY_FIELD = "tail"
TIME_FIELD = "departed"


def read_sample() -> bytes:
    """The sample as CSV."""
    return gzip.decompress(files("logctl").joinpath("data", "flights-2013-01.csv.gz").read_bytes())


def records_of(sample: bytes) -> list[NewRecord]:
    """The records that `logctl produce --format csv` makes of the sample."""
    read = list(read_csv(Lines(io.BytesIO(sample)), KEY_FIELD, TIME_FIELD))
    records = [line.record for line in read if isinstance(line, NumberedRecord)]
    assert len(records) == len(read), "the sample that is shipped has no malformed line"
    return records
