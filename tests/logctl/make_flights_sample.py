"""Makes the flights that `logctl demo` plays, out of the table of all 336,776 departures from New York in 2013.

    python tests/logctl/make_flights_sample.py flights.csv.zip

The sample is contiguous, the first two weeks of January, because a demonstration of order per key needs every flight of
a plane and not a few of them. See logctl/data/ORIGIN.md for what the columns are.
"""

import csv
import gzip
import io
import sys
import zipfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

SAMPLE = Path(__file__).parents[2] / "logctl" / "data" / "flights-2013-01.csv.gz"
COLUMNS = ("departed", "tail", "carrier", "flight", "origin", "dest", "dep_delay", "arr_delay", "distance")
DAYS = 14
NEW_YORK = ZoneInfo("America/New_York")


def departure(row: dict[str, str]) -> datetime | None:
    """When the flight left, in UTC; None for one that never did.

    `time_hour` is the scheduled hour in UTC (all rows agree with `hour` in New York time). The delay is added to the
    scheduled minute; `dep_time`, the clock at the gate, has no date and only confirms it.
    """
    if row["dep_time"] == "NA":
        return None
    scheduled = datetime.fromisoformat(row["time_hour"]) + timedelta(minutes=int(row["minute"]))
    departed = scheduled + timedelta(minutes=int(row["dep_delay"]))
    gate = departed.astimezone(NEW_YORK)
    assert divmod(int(row["dep_time"]) % 2400, 100) == (gate.hour, gate.minute), row
    return departed.astimezone(UTC)


def sample(rows: list[dict[str, str]]) -> list[tuple[str, ...]]:
    """The flown flights of the first DAYS days, in the order they left."""
    until = datetime(2013, 1, 1 + DAYS, tzinfo=NEW_YORK)
    flown = [(departed, row) for row in rows if (departed := departure(row)) is not None and departed < until]
    flown.sort(key=lambda flight: flight[0])
    return [
        (
            departed.strftime("%Y-%m-%dT%H:%MZ"),
            row["tailnum"],
            row["carrier"],
            row["flight"],
            row["origin"],
            row["dest"],
            row["dep_delay"],
            "" if row["arr_delay"] == "NA" else row["arr_delay"],  # diverted, or its arrival was not recorded
            row["distance"],
        )
        for departed, row in flown
    ]


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as archive, archive.open("flights.csv") as table:
        flights = sample(list(csv.DictReader(io.TextIOWrapper(table, encoding="ascii"))))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(flights)
    SAMPLE.write_bytes(gzip.compress(text.getvalue().encode(), compresslevel=9, mtime=0))  # the same bytes every time
    sys.stdout.write(f"{len(flights):,} flights, {SAMPLE.stat().st_size:,} bytes in {SAMPLE.name}\n")


if __name__ == "__main__":
    main()
