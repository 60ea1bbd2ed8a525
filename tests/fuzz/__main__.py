"""`python -m tests.fuzz NAME DIRECTORY [-max_total_time=SECONDS ...]`: search with atheris until something is found.

The inputs that reach something new are kept in DIRECTORY, where a later search goes on. What follows it are libFuzzer's
own options. An input that shows a fault is written to the working directory as crash-*, and belongs into corpus/NAME.
"""

import logging
import sys
from pathlib import Path

import atheris
import structlog

with atheris.instrument_imports(
    include=["logserver.kafka", "logserver.bytes_in_flight", "logstore", "consumer_groups"]
):
    from tests.fuzz.targets import TARGETS

#: A larger allocation, an input that takes longer and more memory altogether are findings, too.
LIMITS = ("-timeout=5", "-rss_limit_mb=1024", "-malloc_limit_mb=64")
BYTES_MAX = 8192


def main() -> None:
    # Every input that is refused is logged.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    name, directory, *options = sys.argv[1:]
    target = TARGETS[name]
    found = Path(directory)
    found.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds()):
        (found / f"seed-{number}").write_bytes(seed)
    arguments = [sys.argv[0], f"-max_len={BYTES_MAX}", *LIMITS, *options, directory]
    if target.corpus.exists():
        arguments.append(str(target.corpus))
    atheris.Setup(arguments, target.run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
