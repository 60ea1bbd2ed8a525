"""A client that means well, in a process of its own: `python -m tests.server.kafka_door.good_client HOST:PORT`.

It produces a record and reads it, again and again, says `ready` after the first, and when its standard input ends how
often that was and how many seconds it took at most.
"""

import json
import sys
import threading
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

PATIENCE_SECONDS = 60.0


def main() -> None:
    (address,) = sys.argv[1:]
    stopping = threading.Event()
    producer = KafkaProducer(bootstrap_servers=address, acks="all")
    consumer = KafkaConsumer(bootstrap_servers=address, auto_offset_reset="latest", fetch_max_wait_ms=50)
    consumer.assign([TopicPartition("good", 0)])
    consumer.seek_to_beginning()

    def served_seconds() -> float:
        started = time.monotonic()
        offset = producer.send("good", b"v", partition=0).get(PATIENCE_SECONDS).offset
        read = -1
        while read < offset:
            for records in consumer.poll(timeout_ms=1000).values():
                read = records[-1].offset
            assert time.monotonic() - started < PATIENCE_SECONDS
        return time.monotonic() - started

    def wait_for_end() -> None:
        sys.stdin.read()
        stopping.set()

    served_seconds()  # and opens what is opened once
    threading.Thread(target=wait_for_end, daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    longest_seconds, served = 0.0, 0
    while not stopping.is_set():
        longest_seconds = max(longest_seconds, served_seconds())
        served += 1
    json.dump({"served": served, "longest_seconds": longest_seconds}, sys.stdout)


if __name__ == "__main__":
    main()
