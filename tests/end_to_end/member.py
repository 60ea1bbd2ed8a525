"""One member of a consumer group, as a program: writes every record it reads as a JSON line, then commits it.

`python -m tests.end_to_end.member SERVER GROUP TOPIC FILE`; SIGTERM ends it after its commit, SIGKILL where it stands.
"""

import json
import signal
import sys
from typing import Any

from tailrace import Consumer


def main() -> None:
    server, group, topic, path = sys.argv[1:]
    with (
        open(path, "w", buffering=1) as file,
        Consumer(topic, group=group, server=server, connect_timeout=60) as consumer,
    ):

        def stop(number: int, frame: Any) -> None:
            consumer.stop()

        signal.signal(signal.SIGTERM, stop)
        for record in consumer:
            row = [record.partition, record.offset, record.timestamp_ms, (record.key or b"").decode(), record.text()]
            file.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
