"""One member of a group in a process of its own, which a test kills:

    python -m tests.conformance.member CLIENT ADDRESS GROUP TOPIC STRATEGY

It says its partitions, as a line of JSON, whenever they have changed.
"""

import json
import sys

from tests.conformance.clients import open_client


def main(client: str, address: str, group: str, topic: str, strategy: str) -> None:
    with open_client(client, address).consumer(group=group, strategy=strategy) as consumer:
        consumer.subscribe(topic)
        said: set[int] = set()
        while True:
            consumer.poll(0.2)
            if (assignment := consumer.assignment()) != said:
                said = assignment
                sys.stdout.write(json.dumps(sorted(said)) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
